"""The tools that trials run: real functions with a set service time, over data in
data/scenarios/harbour.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Any

from lab import paths

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
            "input_schema": {
                "type": "object",
                "properties": {"place": {"type": "string", "enum": list(_harbour()["places"])}},
                "required": ["place"],
                "additionalProperties": False,
            },
        }
        for name in wanted
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
