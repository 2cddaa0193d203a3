"""The blocks of a request body in the order in which the API reads them, where they stand, and the
breakpoints on them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

UNMARKED = ("thinking", "redacted_thinking")
"""Kinds of blocks that take no breakpoint of their own."""


class Part(NamedTuple):
    """A block of a prompt where it stands in its body; to change it changes the body."""

    section: str
    turn: int
    role: str
    block: dict[str, Any]
    number: int
    """Within its section, from 1."""

    @property
    def words(self) -> str:
        if self.section == "tools":
            return f"tool {self.number}"
        if self.section == "system":
            return f"system block {self.number}"
        return f"message {self.turn + 1}"

    def same(self, other: Part) -> bool:
        return self[:3] == other[:3] and bare(self.block) == bare(other.block)

    @property
    def takes_mark(self) -> bool:
        block = self.block
        return (
            block.get("type") not in UNMARKED
            and not block.get("defer_loading")
            and (block.get("type") != "text" or bool(block.get("text")))
        )


def bare(block: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name != "cache_control"}


def parts(body: dict[str, Any]) -> list[Part]:
    """The blocks in the order in which the API reads them; a plain text becomes a block first,
    which means the same."""
    if isinstance(system := body.get("system"), str) and system:
        body["system"] = [{"type": "text", "text": system}]
    for message in body.get("messages") or ():
        if isinstance(text := message.get("content"), str) and text:
            message["content"] = [{"type": "text", "text": text}]
    rows = [("tools", 0, "", block) for block in body.get("tools") or ()]
    rows += [("system", 0, "", block) for block in body.get("system") or ()]
    rows += [
        ("messages", turn, message.get("role", ""), block)
        for turn, message in enumerate(body.get("messages") or ())
        for block in message.get("content") or ()
    ]
    counted: dict[str, int] = {}
    listed = []
    for section, turn, role, block in rows:
        counted[section] = counted.get(section, 0) + 1
        listed.append(Part(section, turn, role, block, counted[section]))
    return listed


def marks(body: dict[str, Any]) -> list[int]:
    """The places of its breakpoints; the automatic one is behind the last block."""
    listed = parts(body)
    places = [place for place, part in enumerate(listed) if part.block.get("cache_control")]
    if body.get("cache_control") and listed and len(listed) - 1 not in places:
        places.append(len(listed) - 1)
    return places


def ttl(body: dict[str, Any], place: int) -> str:
    listed = parts(body)
    control = listed[place].block.get("cache_control") or body.get("cache_control") or {}
    return control.get("ttl") or "5m"


def mark(body: dict[str, Any], place: int) -> None:
    """A breakpoint there; one for an hour must not stand behind one for five minutes."""
    long = any(ttl(body, at) == "1h" for at in marks(body) if at > place)
    control = {"type": "ephemeral", "ttl": "1h"} if long else {"type": "ephemeral"}
    parts(body)[place].block.setdefault("cache_control", control)


def without_marks(body: dict[str, Any] | None) -> dict[str, Any] | None:
    """A copy that has no breakpoint, within blocks neither; None of None."""
    body = copy.deepcopy(body)
    if body is not None:
        _clear([body, *(part.block for part in parts(body))])
    return body


def _clear(value: Any) -> None:
    """Of a tool_result and of a document's source the blocks too; an input and a schema are data to
    the API."""
    for block in value if isinstance(value, list) else [value]:
        if isinstance(block, dict):
            block.pop("cache_control", None)
            _clear(block.get("content"))
            _clear(block.get("source"))


def unmark(body: dict[str, Any], place: int) -> None:
    listed = parts(body)
    if listed[place].block.pop("cache_control", None) is None or place == len(listed) - 1:
        body.pop("cache_control", None)
