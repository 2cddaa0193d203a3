"""The tools that trials run: real functions with a set service time, over data in
data/scenarios/harbour.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Any

from lab import paths
from lab.model import Reply

Sleep = Callable[[float], Awaitable[None]]
EVERY_TOOL = {"x-lab-tools": "all"}
"""The header by which the lab's own servers use each tool offered at once; they would use one a
reply. Other servers do not know it."""


def names() -> tuple[str, ...]:
    """Every tool there is, in the order in which they are offered."""
    return tuple(_harbour()["tools"])


def specs(wanted: Iterable[str]) -> list[dict[str, Any]]:
    """Tool definitions as the Messages API takes them."""
    return [
        {
            "name": name,
            "description": _harbour()["tools"][name]["description"],
            "input_schema": object_of(place={"type": "string", "enum": list(_harbour()["places"])}),
        }
        for name in wanted
    ]


def object_of(**properties: Any) -> dict[str, Any]:
    """The JSON schema of an object that has exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def answer_of(**properties: Any) -> dict[str, Any]:
    """An `output_config` that asks for such an object as the answer."""
    return {"format": {"type": "json_schema", "schema": object_of(**properties)}}


def turns_after(reply: Reply, results: Iterable[str]) -> list[dict[str, Any]]:
    """The turns that follow a reply which uses tools: itself, and what they answered, in order. A
    use that could not run is answered too: the API wants a result for each."""
    told = dict(zip((use.id for use in reply.tool_uses), results, strict=True))
    blocks = [
        {
            "type": "tool_result",
            "tool_use_id": block["id"],
            "content": told.get(block["id"], "Not run: its input was not whole."),
        }
        for block in reply.content
        if block.get("type") == "tool_use"
    ]
    return [
        {"role": "assistant", "content": list(reply.content)},
        {"role": "user", "content": blocks},
    ]


def records(wanted: Iterable[str], text: str) -> str:
    """What these tools know about the places that a text names, a line each."""
    places = [place for place in _harbour()["places"] if place in text]
    return "\n".join(
        f"{name}: {place}: {_harbour()['tools'][name]['answers'][place]}"
        for place in places
        for name in wanted
    )


async def run(name: str, input: dict[str, Any], sleep: Sleep) -> str:
    """The tool's answer as text, after its service time; `service_ms` in the input sets another
    time. A wrong input is an answer too.

    `sleep` takes seconds: only lab.clock sleeps.
    """
    tool = _harbour()["tools"].get(name)
    if tool is None:
        return f"There is no tool named {name}."
    await sleep(float(input.get("service_ms", tool["service_ms"])) / 1000)
    place = str(input.get("place", "")).strip()
    known = {name.casefold(): name for name in _harbour()["places"]}.get(place.casefold())
    if known is None:
        return (
            f"No record for {place or 'an empty place'}; known places are"
            f" {', '.join(_harbour()['places'])}."
        )
    return f"{known}: {tool['answers'][known]}"


@cache
def _harbour() -> dict[str, Any]:
    return tomllib.loads(paths.shipped("data/scenarios/harbour.toml").read_text(encoding="utf-8"))
