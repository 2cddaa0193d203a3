"""What would mend a miss: changes of recorded requests, each a pure function of a call and of the
one before it, since what changes is seen only between two. Bodies are never changed in place."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from lab.model import LabError
from lab.recording.facts import Miss

Body = Mapping[str, Any]
MOST_MARKS = 4
"""Breakpoints that a request may have (the API's documentation of prompt caching)."""
UNMARKED = ("thinking", "redacted_thinking")
"""Kinds of blocks that take no breakpoint of their own."""
KEYED = ("thinking", "tool_choice", "speed", "output_config", "output_format")
"""Settings that belong to the key of a cached prefix."""
MOST_MOVED = 20_000
"""Characters; where more differs, it is no piece of a prompt but another prompt."""
SENTENCES = re.compile(r".+?(?:[.!?]+\s+|\n+|$)", re.DOTALL)


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


def _marks(body: dict[str, Any]) -> list[int]:
    """The places of its breakpoints; the automatic one is behind the last block."""
    listed = parts(body)
    places = [place for place, part in enumerate(listed) if part.block.get("cache_control")]
    if body.get("cache_control") and listed and len(listed) - 1 not in places:
        places.append(len(listed) - 1)
    return places


def _ttl(body: dict[str, Any], place: int) -> str:
    listed = parts(body)
    control = listed[place].block.get("cache_control") or body.get("cache_control") or {}
    return control.get("ttl") or "5m"


def _mark(body: dict[str, Any], place: int) -> None:
    """A breakpoint there; one for an hour must not stand behind one for five minutes."""
    long = any(_ttl(body, mark) == "1h" for mark in _marks(body) if mark > place)
    control = {"type": "ephemeral", "ttl": "1h"} if long else {"type": "ephemeral"}
    parts(body)[place].block.setdefault("cache_control", control)


def _unmark(body: dict[str, Any], place: int) -> None:
    listed = parts(body)
    if listed[place].block.pop("cache_control", None) is None or place == len(listed) - 1:
        body.pop("cache_control", None)


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
    if place in _marks(before) and place in _marks(call):
        raise LabError("There is a breakpoint at the end of what the two calls share already.")
    for body in (before, call):
        if len({*_marks(body), place}) > MOST_MARKS:
            raise LabError(f"All {MOST_MARKS} breakpoints are in use: move one of them.")
        _mark(body, place)
    return f"A breakpoint behind {parts(call)[place].words}, the last that both calls share."


def _move(before: dict[str, Any], call: dict[str, Any]) -> str:
    place = _stable(before, call)
    if not _marks(call):
        raise LabError("The call has no breakpoint to move: add one.")
    if place in _marks(before) and place in _marks(call) and len(_marks(call)) <= MOST_MARKS:
        raise LabError("There is a breakpoint at the end of what the two calls share already.")
    for body in (before, call):
        marks = _marks(body)
        if marks and place not in marks:
            # The next one behind it reads nothing; where none is behind, the last one is too early.
            _unmark(body, next((mark for mark in marks if mark > place), marks[-1]))
        _mark(body, place)
        extra = [mark for mark in _marks(body) if mark != place]
        for mark in extra[: max(0, len(extra) + 1 - MOST_MARKS)]:
            _unmark(body, mark)
    return f"The breakpoint moved to behind {parts(call)[place].words}, the last that both share."


def _units(block: Mapping[str, Any]) -> list[str]:
    return SENTENCES.findall(block.get("text") or "")


def _changing(first: list[str], second: list[str]) -> tuple[set[int], set[int]]:
    """Which of each are not in the other, in their order."""
    kept = difflib.SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
    same_first = {at for one, _, size in kept for at in range(one, one + size)}
    same_second = {at for _, other, size in kept for at in range(other, other + size)}
    return set(range(len(first))) - same_first, set(range(len(second))) - same_second


def _is_text(block: Mapping[str, Any]) -> bool:
    return block.get("type", "text") == "text" and isinstance(block.get("text"), str)


def _moved(blocks: list[dict[str, Any]], place: int, units: set[int], taken: list[str]) -> None:
    """Take these sentences out of a block, or all of it; its breakpoint goes to the one before."""
    block, texts = blocks[place], _units(blocks[place])
    taken.append("".join(texts[at] for at in sorted(units)).strip())
    rest = "".join(text for at, text in enumerate(texts) if at not in units)
    if rest.strip():
        block["text"] = rest
        return
    blocks[place] = {}
    control = block.get("cache_control")
    earlier = next((other for other in reversed(blocks[:place]) if other), None)
    if control and earlier is not None:
        earlier.setdefault("cache_control", control)


def _part_ways(
    first: list[dict[str, Any]], second: list[dict[str, Any]], taken: tuple[list[str], list[str]]
) -> bool:
    """Take out of two lists of blocks what they do not share; False where that is no text."""
    bares = [[str(bare(block)) for block in blocks] for blocks in (first, second)]
    matcher = difflib.SequenceMatcher(None, *bares, autojunk=False)
    for kind, start, end, other, other_end in matcher.get_opcodes():
        if kind == "equal":
            continue
        pair = (first[start:end], second[other:other_end])
        if not all(_is_text(block) for blocks in pair for block in blocks):
            return False
        alike = len(pair[0]) == len(pair[1])
        for step in range(max(map(len, pair))):
            texts = [_units(blocks[step]) if step < len(blocks) else [] for blocks in pair]
            gone = _changing(*texts) if alike else tuple(set(range(len(t))) for t in texts)
            for blocks, at, units, words in zip(
                (first, second), (start, other), gone, taken, strict=True
            ):
                if units:
                    _moved(blocks, at + step, units, words)
    for blocks in (first, second):
        blocks[:] = [block for block in blocks if block]
    return True


def _move_changing(before: dict[str, Any], call: dict[str, Any]) -> str:
    """Out of the system prompt, or of the messages that both have, to the end of the last user
    turn: behind whatever is marked."""
    marked = [bool(_marks(body)) for body in (before, call)]
    taken: tuple[list[str], list[str]] = ([], [])
    where = "the system prompt"
    sound = _part_ways(*(body.setdefault("system", []) for body in (before, call)), taken)
    if sound and not any(taken):
        where = "the earlier messages"
        sound = _part_messages(before, call, taken)
    if not sound:
        raise LabError("What differs between the two calls is no text, so it cannot be moved.")
    if not any(taken):
        raise LabError("Nothing in the system prompt or the messages differs from the call before.")
    count = max(sum(map(len, words)) for words in taken)
    if count > MOST_MOVED:
        raise LabError(f"{count:,} characters differ from the call before: too much to move.")
    for body, words, had_mark in zip((before, call), taken, marked, strict=True):
        _put_last(body, "\n".join(filter(None, words)))
        if had_mark and not _marks(body):
            if not body.get("tools"):
                raise LabError("There is nothing but the changing piece before the breakpoint.")
            body["tools"][-1]["cache_control"] = {"type": "ephemeral"}
    return f"{count:,} changing characters moved out of {where} to the end of the last user turn."


def _part_messages(
    before: dict[str, Any], call: dict[str, Any], taken: tuple[list[str], list[str]]
) -> bool:
    for first, second in zip(before["messages"], call["messages"], strict=False):
        bares = [[bare(block) for block in message["content"]] for message in (first, second)]
        if first["role"] != second["role"] or (first["role"] != "user" and bares[0] != bares[1]):
            return False
        if not _part_ways(first["content"], second["content"], taken):
            return False
    return True


def _put_last(body: dict[str, Any], text: str) -> None:
    if not body["system"]:
        del body["system"]
    turns = [message for message in body["messages"] if message["role"] == "user"]
    if not turns or not all(message["content"] for message in body["messages"]):
        raise LabError("One of the messages has nothing in it but the changing piece.")
    content = turns[-1]["content"]
    # The automatic breakpoint would be behind the piece, which is another one the next time.
    if text and (control := body.pop("cache_control", None)):
        content[-1].setdefault("cache_control", control)
    if text:
        content.append({"type": "text", "text": text})


def _sort_tools(before: dict[str, Any] | None, call: dict[str, Any]) -> str:
    bodies = [body for body in (before, call) if body is not None]
    if len(call.get("tools") or ()) < 2:
        raise LabError("There are no tools to sort.")
    for body in bodies:
        tools = body.get("tools") or []
        marks = [tool.pop("cache_control") for tool in tools if tool.get("cache_control")]
        tools.sort(key=lambda tool: str(tool.get("name") or tool.get("type") or ""))
        if marks and tools:  # behind all of them, as it mostly was: a mark belongs to a place
            tools[-1]["cache_control"] = marks[-1]
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
    if not _marks(call):
        raise LabError("The call has no breakpoint to keep for an hour: add one.")
    if all(_ttl(call, place) == "1h" for place in _marks(call)):
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
        _move_changing,
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
