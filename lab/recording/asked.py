"""A recorded call as the cache sees it: its prefixes by key, its breakpoints, what it read and
wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import pandas as pd

from lab.recording import cache_rules, prefixes
from lab.recording.cache_rules import LOOKBACK, MOST_BREAKPOINTS
from lab.recording.prefixes import Path
from lab.recording.shape import Block, Mark, Prompt


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
    """When its answer began: from then on others can read what it wrote. None where only its end is
    known of one that may have streamed."""
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

    def blocks(self, section: str) -> list[Block]:
        return [block for block in self.prompt.blocks if block.section == section]

    @property
    def minimum(self) -> int | None:
        """Tokens of the shortest prefix that is cached; None where it is not known."""
        return cache_rules.minimum(self.model, self.row.get("endpoint_kind"))

    @property
    def sure_minimum(self) -> int:
        """So many tokens are cached in any case."""
        return self.minimum or cache_rules.LONGEST_MINIMUM

    @property
    def answering_ms(self) -> float:
        """By when its answer had begun: where nobody saw it begin its end, and where nobody saw
        that its start, which accuses nobody."""
        if self.begun_ms is not None:
            return self.begun_ms
        return self.started_ms + (self.row.get("ended_at_ms") or 0.0)

    @property
    def unanswered_ms(self) -> float:
        """Until when its answer had not begun, for sure."""
        return self.started_ms if self.begun_ms is None else self.begun_ms

    @cached_property
    def reachable(self) -> set[int]:
        """Blocks at which a breakpoint, of the first four, may find an entry."""
        return looked_at(self.marks[:MOST_BREAKPOINTS])


def looked_at(marks: Iterable[Mark]) -> set[int]:
    """The blocks that breakpoints look back at."""
    return {
        place for mark in marks for place in range(mark.place, max(mark.place - LOOKBACK, -1), -1)
    }


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
    names = ["message_start_at_ms", "headers_at_ms", "first_byte_at_ms"]
    names += ["ended_at_ms"] if settings.get("stream") is False else []
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
