"""Tool input as the API streams it: held back until a parameter is whole, unless the tool asks for
it at once (`eager_input_streaming`). What is cut off in the middle of a parameter is then missing;
at once it has been sent, and is no JSON.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from lab.local.engine import Closed, Grew, Opened, Piece
from lab.local.messages_api import Body


async def by_parameter(pieces: AsyncIterator[Piece], body: Body) -> AsyncIterator[Piece]:
    """The pieces, those of a tool's input joined so that each brings whole parameters."""
    at_once = {tool.name for tool in body.tools if tool.eager_input_streaming}
    held: Held | None = None
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Opened):
                waits = piece.block["type"] == "tool_use" and piece.block["name"] not in at_once
                held = Held() if waits else None
            elif isinstance(piece, Closed):
                held = None
            elif held is not None and isinstance(piece, Grew):
                if text := held.let_go(piece.delta["partial_json"]):
                    yield Grew({**piece.delta, "partial_json": text})
                continue
            yield piece


class Held:
    """The input so far, and how much of it may go: up to the end of its last whole parameter."""

    def __init__(self) -> None:
        self.text, self.place, self.gone = "", 0, 0
        self.depth, self.in_string, self.is_escaped = 0, False, False

    def let_go(self, text: str) -> str:
        """What is whole now and has not gone yet."""
        self.text += text
        whole = self.gone
        while self.place < len(self.text):
            character = self.text[self.place]
            if self._ends_parameter(character):
                whole = self.place
            self.place += 1
            if not self.depth and character == "}":
                whole = self.place
        gone, self.gone = self.gone, whole
        return self.text[gone:whole]

    def _ends_parameter(self, character: str) -> bool:
        """A comma, or the last brace, at the top level of the input's object."""
        if self.in_string:
            self.in_string = self.is_escaped or character != '"'
            self.is_escaped = character == "\\" and not self.is_escaped
            return False
        self.in_string = character == '"'
        ends = self.depth == 1 and character in ",}"
        self.depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(character, 0)
        return ends
