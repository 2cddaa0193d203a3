"""The shape of the API's tool search: before a reply uses a tool whose loading was deferred, the
server searches for it, in the same reply.

What is found is the tool that this server's own rule has the reply use (messages_api.tools_due); no
index is asked, and the search takes no time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from lab.local.engine import Closed, Grew, Opened, Piece
from lab.local.messages_api import Body, canonical, new_id


async def searched(pieces: AsyncIterator[Piece], body: Body) -> AsyncIterator[Piece]:
    """The pieces, with a search before each use of a tool that the prompt does not hold yet."""
    search = next((tool.name for tool in body.tools if tool.is_search), None)
    unknown = {tool.name for tool in body.tools if tool.defer_loading} - body.referred()
    async with aclosing(pieces):
        async for piece in pieces:
            is_use = isinstance(piece, Opened) and piece.block["type"] == "tool_use"
            if is_use and search and (name := piece.block["name"]) in unknown:
                unknown.remove(name)
                for step in _search(search, name):
                    yield step
            yield piece


def _search(search: str, name: str) -> list[Piece]:
    use_id = new_id("srvtoolu")
    use = {"type": "server_tool_use", "id": use_id, "name": search, "input": {}}
    references = [{"type": "tool_reference", "tool_name": name}]
    result = {
        "type": "tool_search_tool_result",
        "tool_use_id": use_id,
        "content": {"type": "tool_search_tool_search_result", "tool_references": references},
    }
    asked = {"type": "input_json_delta", "partial_json": canonical({"query": name})}
    return [Opened(use), Grew(asked), Closed(), Opened(result), Closed()]
