"""A recorded call as the cache sees it: its prefixes by key, its breakpoints, what it read and
wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import pandas as pd

from lab.recording import cache_rules, costs, prefixes
from lab.recording.cache_rules import LOOKBACK, MOST_BREAKPOINTS, TTL_MS
from lab.recording.prefixes import Path
from lab.recording.shape import SECTIONS, Block, Mark, Prompt

Key = int
"""Of a prefix: its last block's number in the tree of all prompts, and in NUMBER_BITS that of what
else counts for it."""
NUMBER_BITS = 32
BEGUN = ("message_start_at_ms", "headers_at_ms", "first_byte_at_ms")
COLUMNS = dict.fromkeys(
    (
        *("call_id", "follows", "shared_blocks", "started_ms", "sent_at_ms", *BEGUN),
        *("ttft_ms", "ended_at_ms", "endpoint_kind", "http_status", "cache_miss_reason"),
        *("cache_write_tokens", *costs.COLUMNS),
    )
)


@dataclass(frozen=True, eq=False)
class Call:
    """One call as the cache sees it. Times in ms on the recording's clock, tokens by its usage."""

    call_id: str
    row: Mapping[str, Any]
    """COLUMNS; None where nothing is known."""
    started_ms: float
    sent_ms: float
    begun_ms: float | None
    """When its answer began: from then on others can read what it wrote. None where only its end is
    known of one that may have streamed."""
    prompt: Prompt | None
    path: Path
    """Of a prompt that is known as a whole; else empty."""
    keys: list[Key]
    """Of the prefix that ends with each block of the path: model; speed from the system on; the
    other settings from the messages on."""
    beside: tuple[int, ...]
    """What of a key is no block, as a number for tools, system and messages each."""
    model: str
    read: int | None
    """None where the usage says nothing of a cache, and so are the next two."""
    written: int | None
    tokens: int | None
    """Of the whole prompt."""
    settings: Mapping[str, Any]
    """Those that count from the messages on."""
    speed: str
    lane: object
    """Its conversation and which lane of it."""
    before: Call | None = field(repr=False)
    """The one before it in its lane."""

    @property
    def counts(self) -> bool:
        return self.read is not None

    @property
    def through(self) -> int:
        """Tokens up to its last breakpoint: all that it read or wrote."""
        return (self.read or 0) + (self.written or 0)

    @cached_property
    def characters(self) -> list[int]:
        """Up to the end of each block."""
        return list(accumulate(block.characters for block in self.prompt.blocks))

    @cached_property
    def marks(self) -> list[Mark]:
        """In their order, with the one that top-level cache_control puts behind the last block."""
        if self.prompt is None:
            return []
        size, automatic = len(self.prompt.blocks), self.prompt.settings.get("automatic")
        marks = {mark.place: mark for mark in self.prompt.marks}
        if automatic:
            marks.setdefault(size - 1, Mark(size - 1, automatic))
        places = (place for place in sorted(marks) if 0 <= place < size)
        return [marks[place] for place in places if marks[place].ttl in TTL_MS]

    @cached_property
    def last_mark(self) -> Mark | None:
        """The one that its usage counts up to. Beyond the fourth, whichever lies nearest to it."""
        marks = self.marks
        if len(marks) <= MOST_BREAKPOINTS or not self.tokens:
            return marks[-1] if marks else None
        share = self.through / self.tokens * self.characters[-1]
        return min(marks, key=lambda mark: abs(self.characters[mark.place] - share))

    def blocks(self, section: str) -> Sequence[Block]:
        return self.prompt.blocks[self.prompt.parts[section]]

    def begins_like(self, other: Call, place: int) -> bool:
        """Whether both prompts have the same blocks up to this one, whatever their settings."""
        return (
            place < min(len(self.path), len(other.path)) and self.path[place] == other.path[place]
        )

    @cached_property
    def minimum(self) -> int | None:
        """Tokens of the shortest prefix that is cached; None where it is not known."""
        return cache_rules.minimum(self.model, self.row["endpoint_kind"])

    @property
    def sure_minimum(self) -> int:
        """So many tokens are cached in any case."""
        return self.minimum or cache_rules.LONGEST_MINIMUM

    @property
    def answering_ms(self) -> float:
        """By when its answer had begun: where nobody saw it begin its first token, else its end,
        and where nobody saw that its start, which accuses nobody."""
        if self.begun_ms is not None:
            return self.begun_ms
        known = (self.row["ttft_ms"], self.row["ended_at_ms"])
        return self.started_ms + next((ms for ms in known if ms is not None), 0.0)

    @property
    def unanswered_ms(self) -> float:
        """Until when its answer had not begun, for sure."""
        return self.started_ms if self.begun_ms is None else self.begun_ms

    @cached_property
    def reachable(self) -> list[int]:
        """Blocks at which a breakpoint, of the first four, may find an entry; the last one
        first."""
        return sorted(looked_at(self.marks[:MOST_BREAKPOINTS]), reverse=True)


def looked_at(marks: Iterable[Mark]) -> set[int]:
    """The blocks that breakpoints look back at."""
    places: set[int] = set()
    for mark in marks:
        places.update(range(mark.place, max(mark.place - LOOKBACK, -1), -1))
    return places


def calls_of(
    calls: pd.DataFrame, conversations: pd.DataFrame, prompts: Mapping[str, Prompt]
) -> list[Call]:
    """In the order of their starts; what is given is in the order of lab.recordings.Recording."""
    reader = _Reader(prompts, prefixes.paths(calls, prompts))
    columns = [prefixes.values(calls, name) for name in COLUMNS]
    places = [conversations[name].tolist() for name in ("conversation", "lane", "parent")]
    for row, place in zip(zip(*columns, strict=True), zip(*places, strict=True), strict=True):
        reader.add(dict(zip(COLUMNS, row, strict=True)), place[:2], place[2])
    return sorted(reader.calls.values(), key=lambda call: call.started_ms)


class _Reader:
    """Reads calls one after the other: one shares its beginning with an earlier one."""

    def __init__(self, prompts: Mapping[str, Prompt], paths: Mapping[str, Path]) -> None:
        self.prompts, self.paths = prompts, paths
        self.calls: dict[str, Call] = {}
        self.numbers: dict[tuple, int] = {}

    def add(self, row: Mapping[str, Any], lane: object, parent: str | None) -> None:
        call_id, start = row["call_id"], row["started_ms"] or 0.0
        prompt, before = self.prompts.get(call_id), self.calls.get(parent)
        settings = prompt.settings if prompt else {}
        model = str(row["served_model"] or settings.get("model") or row["model"] or "")
        of_messages = cache_rules.settings_of_messages(settings, model)
        speed, model = cache_rules.speed(settings), cache_rules.family(model)
        is_whole = prompt is not None and settings.get("whole", True)
        path = self.paths[call_id] if is_whole else []
        beside = self._beside((model, speed, *map(str, of_messages.values())))
        names = BEGUN if settings.get("stream") is not False else (*BEGUN, "ended_at_ms")
        begun = next((row[name] for name in names if row[name] is not None), None)
        count, read, written = (
            row[name] for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens")
        )
        counts = count is not None and read is not None
        self.calls[call_id] = Call(
            call_id=call_id,
            row=row,
            started_ms=start,
            sent_ms=start + (row["sent_at_ms"] or 0.0),
            begun_ms=None if begun is None else start + begun,
            prompt=prompt,
            path=path,
            keys=self._keys(prompt, path, beside, row) if path else [],
            beside=beside,
            model=model,
            read=int(read) if counts else None,
            written=int(written or 0) if counts else None,
            tokens=int(count) + int(read) + int(written or 0) if counts else None,
            settings=of_messages,
            speed=speed,
            lane=lane,
            before=before if before and before.lane == lane else None,
        )

    def _beside(self, messages: tuple) -> tuple[int, ...]:
        parts = (messages[:1], messages[:2], messages)
        return tuple(self.numbers.setdefault(part, len(self.numbers)) for part in parts)

    def _keys(
        self, prompt: Prompt, path: Path, beside: tuple[int, ...], row: Mapping[str, Any]
    ) -> list[Key]:
        # What it shares with an earlier one is not made again: long conversations stay quick.
        earlier = self.calls.get(row["follows"])
        is_alike = earlier is not None and earlier.beside == beside
        keys = earlier.keys[: int(row["shared_blocks"] or 0)] if is_alike else []
        for number, section in zip(beside, SECTIONS, strict=True):
            own = path[len(keys) : prompt.parts[section].stop]
            keys += [node << NUMBER_BITS | number for node in own]
        return keys
