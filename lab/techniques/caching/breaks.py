"""What breaks a cache, one cause at a time: the request that is timed is the same in every arm, and
only what was asked shortly before it differs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

from lab.endpoint_kinds import of_tier
from lab.model import Arm
from lab.recording.facts import CAUSES
from lab.recording.fixes import FIXES, OF_CAUSES
from lab.recording.request_parts import mark, marks, parts, unmark

Body = dict[str, Any]
UNBROKEN = Arm("unbroken", "the request before had the same beginning: this one reads it")
NOW, BEFORE = "It is 26 November 2026, 09:00:01. ", "It is 26 November 2026, 09:00:00. "


class Break(NamedTuple):
    """`before` is how the earlier request differs; `marks` how the timed one does, of which only
    cache_control may change. Both change a body of their own in place."""

    arm: Arm
    cause: str
    """As lab.recording.facts.CAUSES names it."""
    before: Callable[[Body], None] = lambda body: None
    marks: Callable[[Body], None] = lambda body: None
    other_model: bool = False
    remedy: str = ""
    """What mends it where lab.recording.fixes proposes nothing."""

    @property
    def words(self) -> str:
        return CAUSES[self.cause]

    @property
    def mends(self) -> str:
        fix = FIXES.get(OF_CAUSES.get(self.cause, ""))
        return self.remedy or (fix.title if fix else "")


def _time(body: Body) -> None:
    first = body["system"][0]
    first["text"] = first["text"].replace(NOW, BEFORE, 1)


def _turned(body: Body) -> None:
    body["tools"].reverse()


def _one_less(body: Body) -> None:
    body["tools"].pop()


def _edited(body: Body) -> None:
    """The first text of the conversation, which all that follows stands behind."""
    part = next(part for part in parts(body) if part.section == "messages" and "text" in part.block)
    part.block["text"] = f"(draft) {part.block['text']}"


def _effort(body: Body) -> None:
    config = body.get("output_config") or {}
    body["output_config"] = {**config, "effort": "high" if config.get("effort") == "low" else "low"}


def _thinking(body: Body) -> None:
    if body.pop("thinking", None) is None:
        body["thinking"] = {"type": "adaptive"}


def _choice(body: Body) -> None:
    body["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}


def _format(body: Body) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    config = body.get("output_config") or {}
    body["output_config"] = {**config, "format": {"type": "json_schema", "schema": schema}}


def _speed(body: Body) -> None:
    body["speed"] = "standard" if body.get("speed") == "fast" else "fast"


def unmarked(body: Body) -> None:
    for place in marks(body):
        unmark(body, place)


def _early(body: Body) -> None:
    """The mark on the first tool, which is one of the lab's own: a few dozen tokens end there."""
    unmarked(body)
    mark(body, 0)


def _small(need: str) -> str:
    """All but one of the requests go to the small model."""
    return of_tier(need, "small")


BREAKS = (
    Break(
        Arm("time in the system prompt", "the system prompt began with a time one second earlier"),
        "system_differs",
        _time,
    ),
    Break(Arm("tools turned", "the tools stood in another order"), "tool_order", _turned),
    Break(Arm("a tool added", "one tool fewer was offered before"), "tool_differs", _one_less),
    Break(
        Arm("an earlier part edited", "the shared part began with another word"),
        "message_differs",
        _edited,
    ),
    Break(
        Arm("another model", "the request before went to the other model", ("two models",)),
        "model",
        other_model=True,
        remedy="Keep to one model in a conversation",
    ),
    Break(
        Arm("another effort", "the request before asked for low effort", (_small("effort"),)),
        "effort",
        _effort,
    ),
    Break(
        Arm(
            "thinking switched",
            "the request before had thinking on; off, where yours has it",
            (_small("thinking"),),
        ),
        "thinking",
        _thinking,
    ),
    Break(Arm("another tool choice", "the request before might use tools"), "tool_choice", _choice),
    Break(
        Arm("another answer format", "the request before had a schema", (_small("structured"),)),
        "output_format",
        _format,
    ),
    Break(
        Arm("another speed", "the request before was a fast one", (_small("fast"),)),
        "speed",
        _speed,
    ),
    Break(
        Arm("no breakpoint", "this request has no cache_control"), "no_breakpoint", marks=unmarked
    ),
    Break(
        Arm("below the minimum", "the breakpoint stands after a few dozen tokens"),
        "below_minimum",
        before=_early,
        marks=_early,
        remedy="Put the breakpoint behind a longer beginning",
    ),
)
ARMS = (UNBROKEN, *(each.arm for each in BREAKS))
BY_ARM = {each.arm.name: each for each in BREAKS}


def earlier(whole: Body, arm: str) -> Body:
    """What was asked before: the same beginning, broken as the arm says."""
    body = copy.deepcopy(whole)
    if arm in BY_ARM:
        BY_ARM[arm].before(body)
    return body


def timed(whole: Body, arm: str) -> Body:
    body = copy.deepcopy(whole)
    if arm in BY_ARM:
        BY_ARM[arm].marks(body)
    return body
