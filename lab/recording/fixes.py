"""What would mend a miss: changes of recorded requests, each a pure function of a call and of the
one before it, since what changes is seen only between two. Bodies are never changed in place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from lab.model import LabError
from lab.recording import changing_piece
from lab.recording.facts import Miss
from lab.recording.request_parts import mark, marks, parts, ttl, unmark

Body = Mapping[str, Any]
MOST_MARKS = 4
"""Breakpoints that a request may have (the API's documentation of prompt caching)."""
KEYED = ("thinking", "tool_choice", "speed", "output_config", "output_format")
"""Settings that belong to the key of a cached prefix."""


class Fixed(NamedTuple):
    before: Body | None
    """The call before; None where there is none."""
    call: Body
    words: str
    """What was done, without a word of the prompt."""


@dataclass(frozen=True)
class Fix:
    title: str
    description: str
    change: Callable[[Any, dict[str, Any]], str]
    """(before, call), changed in place, -> the words; LabError where it does not apply."""
    needs_before: bool = True
    answers: bool = False
    """Whether it is about the answer, and not about what is read before it."""
    expires: bool = False
    """Whether nothing is left to read as recorded, since the pause was too long for it: the call
    before is then sent with the fix alone."""

    def apply(self, before: Body | None, call: Body) -> Fixed:
        """The two with the fix; LabError, a sentence, where it does not apply to them."""
        if self.needs_before and before is None:
            raise LabError(f"“{self.title}” needs the call before, which this recording lacks.")
        earlier, later = copy.deepcopy(before), copy.deepcopy(dict(call))
        words = self.change(earlier, later)
        return Fixed(earlier, later, words)


def _stable(before: dict[str, Any], call: dict[str, Any]) -> int:
    """The last block of the beginning that both share; it has to take a breakpoint."""
    place, end = -1, 0
    for end, (first, second) in enumerate(zip(parts(before), parts(call), strict=False)):
        if not first.same(second):
            break
        place = end if second.takes_mark else place
    if place < 0:
        raise LabError("The two calls begin with no block in common, so none can be marked.")
    return place


def _add(before: dict[str, Any], call: dict[str, Any]) -> str:
    place = _stable(before, call)
    if place in marks(before) and place in marks(call):
        raise LabError("There is a breakpoint at the end of what the two calls share already.")
    for body in (before, call):
        if len({*marks(body), place}) > MOST_MARKS:
            raise LabError(f"All {MOST_MARKS} breakpoints are in use: move one of them.")
        mark(body, place)
    return f"A breakpoint behind {parts(call)[place].words}, the last that both calls share."


def _move(before: dict[str, Any], call: dict[str, Any]) -> str:
    place = _stable(before, call)
    if not marks(call):
        raise LabError("The call has no breakpoint to move: add one.")
    if place in marks(before) and place in marks(call) and len(marks(call)) <= MOST_MARKS:
        raise LabError("There is a breakpoint at the end of what the two calls share already.")
    for body in (before, call):
        places = marks(body)
        if places and place not in places:
            # The next one behind it reads nothing; where none is behind, the last one is too early.
            unmark(body, next((at for at in places if at > place), places[-1]))
        mark(body, place)
        extra = [at for at in marks(body) if at != place]
        for at in extra[: max(0, len(extra) + 1 - MOST_MARKS)]:
            unmark(body, at)
    return f"The breakpoint moved to behind {parts(call)[place].words}, the last that both share."


def _sort_tools(before: dict[str, Any] | None, call: dict[str, Any]) -> str:
    bodies = [body for body in (before, call) if body is not None]
    if len(call.get("tools") or ()) < 2:
        raise LabError("There are no tools to sort.")
    for body in bodies:
        tools = body.get("tools") or []
        kept = [tool.pop("cache_control") for tool in tools if tool.get("cache_control")]
        tools.sort(key=lambda tool: str(tool.get("name") or tool.get("type") or ""))
        if kept and tools:  # behind all of them, as it mostly was: a mark belongs to a place
            tools[-1]["cache_control"] = kept[-1]
    return f"{len(call['tools'])} tools in the order of their names."


def _same_tools(before: dict[str, Any], call: dict[str, Any]) -> str:
    if before.get("tools") == call.get("tools"):
        raise LabError("The call offers the same tools as the one before.")
    if not call.get("tools"):
        raise LabError("The call offers no tools, so the one before cannot offer the same.")
    before["tools"] = copy.deepcopy(call["tools"])
    return f"The call before offers the same {len(call['tools'])} tools."


def _same_settings(before: dict[str, Any], call: dict[str, Any]) -> str:
    names = [name for name in KEYED if before.get(name) != call.get(name)]
    if not names:
        raise LabError("No setting that counts for the cache differs from the call before.")
    for name in names:
        before.pop(name, None)
        if name in call:
            before[name] = copy.deepcopy(call[name])
    return f"The call before asks with the same {' and '.join(names)}."


def _for_an_hour(before: dict[str, Any] | None, call: dict[str, Any]) -> str:
    if not marks(call):
        raise LabError("The call has no breakpoint to keep for an hour: add one.")
    if all(ttl(call, place) == "1h" for place in marks(call)):
        raise LabError("All breakpoints are kept for an hour already.")
    for body in filter(None, (before, call)):
        holders = [part.block for part in parts(body)] + [body]
        for holder in holders:
            if holder.get("cache_control"):
                holder["cache_control"] = {**holder["cache_control"], "ttl": "1h"}
    return "Every breakpoint is kept for an hour."


def _stream(before: dict[str, Any] | None, call: dict[str, Any]) -> str:
    if call.get("stream") is True:
        raise LabError("This answer streams already.")
    call["stream"] = True
    return "The answer streams."


FIXES = {
    "add_breakpoint": Fix(
        "Add a breakpoint",
        "Mark the end of what both calls begin with, so that the second reads it from the cache",
        _add,
    ),
    "move_breakpoint": Fix(
        "Move the breakpoint",
        "Put it behind the last block that both calls share",
        _move,
    ),
    "move_changing": Fix(
        "Move the changing piece",
        "Take it out of the cached beginning and put it at the end of the last user turn",
        changing_piece.move,
    ),
    "sort_tools": Fix("Sort the tools", "Send them in the order of their names", _sort_tools),
    "same_tools": Fix(
        "Keep the tools the same",
        "Offer this call's tools from the one before on",
        _same_tools,
    ),
    "ttl_1h": Fix(
        "Keep it for an hour",
        "Write to the cache for 1 hour, not 5 minutes",
        _for_an_hour,
        expires=True,
    ),
    "stream": Fix("Stream the answer", "Show it as it is written", _stream, False, answers=True),
    "drop_setting": Fix(
        "Drop the change of setting",
        "Ask the call before with the settings of this call, so that no change breaks the cache",
        _same_settings,
    ),
}
"""By their names; `apply` makes each."""

PROPOSED = "proposed"
"""In place of a fix: the one that is proposed for the calls."""

OF_CAUSES = {
    "system_differs": "move_changing",
    "message_differs": "move_changing",
    "tool_differs": "same_tools",
    "tool_order": "sort_tools",
    "effort": "drop_setting",
    "thinking": "drop_setting",
    "tool_choice": "drop_setting",
    "output_format": "drop_setting",
    "speed": "drop_setting",
    "no_breakpoint": "add_breakpoint",
    "breakpoint_moved": "move_breakpoint",
    "breakpoint_beyond": "move_breakpoint",
    "expired": "ttl_1h",
}
"""What is proposed for a miss, by its cause; the others are mended in the application itself."""


def for_miss(miss: Miss) -> str | None:
    return OF_CAUSES.get(miss.cause)
