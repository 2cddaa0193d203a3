"""What stood in the cache, as far as a recording proves it: an entry is known by the usage of the
calls that wrote or read it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import pandas as pd

from lab.recording import cache_rules, prefixes
from lab.recording.cache_rules import LOOKBACK, MOST_BREAKPOINTS, SLACK, TTL_MS
from lab.recording.prefixes import Path
from lab.recording.shape import Mark, Prompt


class Key(NamedTuple):
    """Of a prefix: its blocks by their number in the tree of all prompts, and what else counts."""

    node: int
    settings: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Call:
    """One call as the cache sees it. Times in ms on the recording's clock, tokens by its usage."""

    call_id: str
    row: Mapping[str, Any]
    started_ms: float
    sent_ms: float
    begun_ms: float | None
    """When its answer began: from then on others can read what it wrote."""
    prompt: Prompt | None
    path: Path
    """Of a prompt that is known as a whole; else empty."""
    model: str
    read: int | None
    """None where the usage says nothing of a cache, and so are the next two."""
    written: int | None
    tokens: int | None
    """Of the whole prompt."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those that count from the messages on."""
    speed: str = ""
    characters: tuple[int, ...] = ()
    """Up to the end of each block."""

    @property
    def counts(self) -> bool:
        return self.read is not None

    @property
    def through(self) -> int:
        """Tokens up to its last breakpoint: all that it read or wrote."""
        return (self.read or 0) + (self.written or 0)

    @cached_property
    def marks(self) -> list[Mark]:
        """In their order, with the one that top-level cache_control puts behind the last block."""
        if self.prompt is None:
            return []
        marks = {mark.place: mark for mark in self.prompt.marks}
        if (ttl := self.prompt.settings.get("automatic")) and self.prompt.blocks:
            last = len(self.prompt.blocks) - 1
            marks.setdefault(last, Mark(last, ttl))
        return [marks[place] for place in sorted(marks)]

    @property
    def asks(self) -> bool:
        return bool(self.marks)

    @cached_property
    def last_mark(self) -> Mark | None:
        """The one that its usage counts up to. Beyond the fourth, whichever lies nearest to it."""
        marks = self.marks
        if len(marks) <= MOST_BREAKPOINTS or not self.tokens:
            return marks[-1] if marks else None
        share = self.through / self.tokens * self.characters[-1]
        return min(marks, key=lambda mark: abs(self.characters[mark.place] - share))

    @cached_property
    def keys(self) -> list[Key]:
        """Of the prefix that ends with each block: model; speed from the system on; the other
        settings from the messages on."""
        system = (self.model, self.speed)
        messages = (*system, *(str(value) for value in self.settings.values()))
        parts = {"tools": (self.model,), "system": system, "messages": messages}
        return [
            Key(node, parts[block.section])
            for node, block in zip(self.path, self.prompt.blocks if self.path else (), strict=True)
        ]

    @cached_property
    def reachable(self) -> set[int]:
        """Blocks at which a breakpoint, of the first four, may find an entry."""
        return looked_at(self.marks[:MOST_BREAKPOINTS])


def looked_at(marks: Iterable[Mark]) -> set[int]:
    """The blocks that breakpoints look back at."""
    return {
        place for mark in marks for place in range(mark.place, max(mark.place - LOOKBACK, -1), -1)
    }


@dataclass(eq=False)
class Entry:
    """A prefix that was written: by `writer` lastly, used lastly at `used_ms`."""

    place: int
    ttl_ms: float
    writer: Call
    used_ms: float
    readable_ms: float
    is_sure: bool
    """Whether the usage alone proves it; a breakpoint in the middle may be below the minimum."""

    def is_alive(self, at_ms: float) -> bool:
        return at_ms - self.used_ms < self.ttl_ms


class Cache:
    """Entries by key, as calls are added in the order of their starts; and token counts of
    prefixes, learned from their usage."""

    def __init__(self) -> None:
        self.entries: dict[Key, Entry] = {}
        self.counted: dict[tuple[str, int], int] = {}
        self.maybe_used: dict[Key, float] = {}
        """By calls that failed and told no usage."""
        self.seen: dict[Key, Call] = {}
        """The latest call whose prompt begins so."""

    def tokens(self, call: Call, place: int) -> tuple[int, bool]:
        """Up to the end of a block: (tokens, whether counted; else by characters between what is
        counted)."""
        if (known := self.counted.get((call.model, call.path[place]))) is not None:
            return known, True
        ends, total = call.characters, call.tokens or 0
        anchors = {0: 0, ends[-1]: total}
        for at, node in enumerate(call.path):
            if (known := self.counted.get((call.model, node))) is not None:
                anchors[ends[at]] = known
        if (last := call.last_mark) and call.through:
            anchors[ends[last.place]] = call.through
        points = sorted(anchors)
        right = min(max(1, bisect_left(points, ends[place])), len(points) - 1)
        low, high = points[right - 1], points[right]
        share = (ends[place] - low) / max(1, high - low)
        count = round(anchors[low] + share * (anchors[high] - anchors[low]))
        return count, ends[place] == ends[-1]

    def read_place(self, call: Call) -> int | None:
        """Which entry a call read, by its count; None where it read none that is known."""
        if not call.path or (call.read or 0) <= SLACK:
            return None
        fits = sorted(p for p in call.reachable if call.keys[p] in self.entries)
        counts = {p: self.tokens(call, p) for p in fits}
        sure = [p for p in fits if counts[p][1] and abs(counts[p][0] - call.read) <= SLACK]
        if sure:
            return sure[-1]
        unsure = [p for p in fits if not counts[p][1]]
        return min(unsure, key=lambda p: abs(counts[p][0] - call.read), default=None)

    def add(self, call: Call) -> None:
        if not call.counts:
            if not 400 <= (call.row.get("http_status") or 0) < 500:
                self.maybe_used.update(dict.fromkeys(call.keys, call.started_ms))
            return
        if (place := self.read_place(call)) is not None:
            self.counted.setdefault((call.model, call.path[place]), call.read)
            for key in call.keys[: place + 1]:
                if entry := self.entries.get(key):
                    entry.used_ms = max(entry.used_ms, call.started_ms)
        if call.path and (last := call.last_mark) and call.through > SLACK:
            self.counted[(call.model, call.path[last.place])] = call.through
            longer = [mark.place for mark in call.marks if mark.ttl == "1h"]
            if longer and (hour := call.row.get("cache_write_1h_tokens")):
                # Longer times to live come first: what was written for an hour ends with them.
                self.counted[(call.model, call.path[longer[-1]])] = call.read + int(hour)
            for mark in call.marks:
                if mark.place <= last.place:
                    self._write(call, mark, is_sure=mark is last)
        self.seen.update(dict.fromkeys(call.keys, call))

    def _write(self, call: Call, mark: Mark, is_sure: bool) -> None:
        key, readable = call.keys[mark.place], call.begun_ms
        readable = call.started_ms if readable is None else readable
        ttl, entry = TTL_MS[mark.ttl], self.entries.get(key)
        if entry and entry.is_alive(call.started_ms):
            entry.used_ms = max(entry.used_ms, call.started_ms)
            entry.readable_ms = min(entry.readable_ms, readable)
            # Which of two times to live holds is the server's to say: the longer one proves more.
            entry.ttl_ms, entry.is_sure = max(entry.ttl_ms, ttl), entry.is_sure or is_sure
            if is_sure and call.written:
                entry.writer = call
        else:
            self.entries[key] = Entry(mark.place, ttl, call, call.started_ms, readable, is_sure)

    def last_use_ms(self, call: Call, place: int, entry: Entry) -> float:
        """The latest that its use can have been before this call."""
        maybe = self.maybe_used.get(call.keys[place], entry.used_ms)
        return max(entry.used_ms, maybe)


def calls_of(calls: pd.DataFrame, prompts: Mapping[str, Prompt]) -> list[Call]:
    """In the order of their starts."""
    paths = prefixes.paths(calls, prompts)
    rows = [
        {name: _plain(value) for name, value in row.items()} for row in calls.to_dict("records")
    ]
    traced = [_call(row, prompts.get(row["call_id"]), paths) for row in rows]
    return sorted(traced, key=lambda call: call.started_ms)


def _call(row: Mapping[str, Any], prompt: Prompt | None, paths: Mapping[str, Path]) -> Call:
    start = row.get("started_ms") or 0.0
    settings = prompt.settings if prompt else {}
    model = str(row.get("served_model") or settings.get("model") or row.get("model") or "")
    is_whole = prompt is not None and settings.get("whole", True) and bool(prompt.blocks)
    names = ("message_start_at_ms", "headers_at_ms", "first_byte_at_ms", "ended_at_ms")
    begun = next((row[name] for name in names if row.get(name) is not None), None)
    count, read, written = (
        row.get(name) for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens")
    )
    counts = count is not None and read is not None
    return Call(
        call_id=row["call_id"],
        row=row,
        started_ms=start,
        sent_ms=start + (row.get("sent_at_ms") or 0.0),
        begun_ms=None if begun is None else start + begun,
        prompt=prompt,
        path=paths.get(row["call_id"], []) if is_whole else [],
        model=cache_rules.family(model),
        read=int(read) if counts else None,
        written=int(written or 0) if counts else None,
        tokens=int(count) + int(read) + int(written or 0) if counts else None,
        settings=cache_rules.settings_of_messages(settings, model),
        speed=cache_rules.speed(settings),
        characters=tuple(accumulate(block.characters for block in prompt.blocks))
        if is_whole
        else (),
    )


def _plain(value: Any) -> Any:
    """Pandas' own nothing as None."""
    return None if value is pd.NA or (isinstance(value, float) and value != value) else value
