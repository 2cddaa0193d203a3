"""What each call read from the cache, wrote to it and paid in full, and what it could have read.

How long a prefix is in tokens is known only from the usage of a call whose last breakpoint stands
at its end, or that read all of it: nothing is estimated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from lab.recording import cache_rules, prefixes
from lab.recording.cache_rules import MOST_BREAKPOINTS, TTL_MS
from lab.recording.prefixes import Path, values
from lab.recording.shape import Prompt

Prefix = tuple[int, str]
"""Where in the tree of blocks it ends, and its model: each model has a cache of its own."""


@dataclass(slots=True)
class Entry:
    """What one call left in the cache."""

    began_ms: float
    """When the answer began: from then on it can be read."""
    until_ms: float
    ttl_ms: float


@dataclass(slots=True)
class Use:
    """What is known of one call."""

    call_id: str
    started_ms: float
    begins_ms: float
    model: str
    path: Path
    marks: list[tuple[int, str]]
    """Place and time to live of its breakpoints, in their order."""
    read: float
    written: float
    uncached: float
    written_for_an_hour: float

    @property
    def cached(self) -> float:
        return self.read + self.written

    def prefix(self, place: int) -> Prefix:
        return self.path[place], self.model


def of(
    calls: pd.DataFrame, conversations: pd.DataFrame, prompts: Mapping[str, Prompt]
) -> pd.DataFrame:
    """See lab.recordings.Recording.cache_use; indexed by call_id, in the order of the calls.

    could_read is the longest prefix that was still in the cache: of the same blocks, from any call
    before it, or of the call before it in its conversation, had nothing in it been changed. It
    counts no other model's, none that had expired or was still being written, and never more than
    the prompt; never less than what was read. Null where the prompt or the prefix's tokens are not
    known, and where the server caches without being asked.
    """
    usage = _usage(calls)
    known = _known(calls, prompts, usage)
    tokens, readable = _walk(known)
    before = _before(known, conversations)
    could = {}
    for use in known:
        longest = _longest(use, readable[use.call_id], tokens)
        if longest is not None:
            left = _left_by(before.get(use.call_id), use)
            could[use.call_id] = min(max(longest, left, use.read), use.cached + use.uncached)
    usage["could_read"] = pd.Series(could, dtype="float64").reindex(usage.index)
    return usage


def hit_share(use: pd.DataFrame) -> float | None:
    """Tokens read of those that could have been read, 0 to 1; None where none could."""
    told = use[use["could_read"] > 0]
    return float(told["read"].sum() / told["could_read"].sum()) if len(told) else None


def read_share(use: pd.DataFrame) -> float | None:
    """Tokens read of all tokens of the prompts, 0 to 1: what can be told of any source. None
    without usage."""
    total = use[["read", "written", "uncached"]].sum().sum()
    return float(use["read"].sum() / total) if total else None


def _usage(calls: pd.DataFrame) -> pd.DataFrame:
    """Null where a call reported no usage; else what it does not mention is none."""
    index = pd.Index(calls["call_id"], name="call_id", dtype=object)
    names = {"cache_read_tokens": "read", "cache_write_tokens": "written"}
    frame = pd.DataFrame(
        {
            column: pd.Series(values(calls, name), index, dtype="float64")
            for name, column in (names | {"input_tokens": "uncached"}).items()
        }
    )
    frame = frame.fillna(0.0).where(frame["uncached"].notna())
    return frame


def _known(calls: pd.DataFrame, prompts: Mapping[str, Prompt], usage: pd.DataFrame) -> list[Use]:
    """The calls of which both the whole prompt and the usage are known, in the order of their
    starts."""
    paths = prefixes.paths(calls, prompts)
    columns = ("call_id", "started_ms", "total_ms", "message_start_at_ms", "ttft_ms", "model")
    columns += ("served_model", "cache_write_1h_tokens")
    known = []
    for row, counts in zip(
        zip(*(values(calls, name) for name in columns), strict=True),
        usage.itertuples(index=False),
        strict=True,
    ):
        call_id, started, total, opened, first, model, served, long = row
        prompt = prompts.get(call_id)
        if prompt is None or not prompt.settings.get("whole", True) or not paths[call_id]:
            continue
        if counts.uncached != counts.uncached:
            continue
        # An answer that does not stream has begun when it is there, at the latest.
        begins = next((ms for ms in (opened, first, total) if ms is not None), 0.0)
        known.append(
            Use(
                call_id,
                started or 0.0,
                (started or 0.0) + begins,
                cache_rules.family(str(served or model)),
                paths[call_id],
                _marks(prompt),
                counts.read,
                counts.written,
                counts.uncached,
                long or 0.0,
            )
        )
    return sorted(known, key=lambda use: use.started_ms)


def _marks(prompt: Prompt) -> list[tuple[int, str]]:
    """The automatic one stands behind the last block."""
    marks = {mark.place: mark.ttl for mark in prompt.marks}
    if automatic := prompt.settings.get("automatic"):
        marks.setdefault(len(prompt.blocks) - 1, automatic)
    size = len(prompt.blocks)
    marks = {place: ttl for place, ttl in marks.items() if 0 <= place < size and ttl in TTL_MS}
    return sorted(marks.items())[:MOST_BREAKPOINTS]


def _walk(known: list[Use]) -> tuple[dict[Prefix, float], dict[str, list[Prefix]]]:
    """How long prefixes are, and by call which could be read when it began, the longest first."""
    entries: dict[Prefix, Entry] = {}
    tokens: dict[Prefix, float] = {}
    readable: dict[str, list[Prefix]] = {}
    read_of: dict[Prefix, list[float]] = defaultdict(list)
    for use in known:
        alive = list(_alive(use, entries))
        readable[use.call_id] = alive
        if alive and use.read:
            read_of[alive[0]].append(use.read)
        if use.marks and use.cached:
            tokens[use.prefix(use.marks[-1][0])] = use.cached
            hours = [place for place, ttl in use.marks if ttl == "1h"]
            if hours and use.written_for_an_hour:
                # Longer times to live come first: what was written for an hour ends with them.
                tokens[use.prefix(hours[-1])] = use.read + use.written_for_an_hour
        _leave(use, entries, alive if use.read else [])
    lengths = set(tokens.values())
    for prefix, reads in read_of.items():
        # What was read of a longest prefix is all of it, unless it is a shorter one's length.
        if prefix not in tokens and max(reads) not in lengths:
            tokens[prefix] = max(reads)
    return tokens, readable


def _alive(use: Use, entries: Mapping[Prefix, Entry]) -> Iterator[Prefix]:
    if not entries:
        return
    for node in reversed(use.path):
        entry = entries.get((node, use.model))
        if entry and entry.began_ms <= use.started_ms < entry.until_ms:
            yield node, use.model


def _leave(use: Use, entries: dict[Prefix, Entry], refreshed: list[Prefix]) -> None:
    """Entries at its breakpoints, and a new life for those that it read: it is counted from the
    start of the request."""
    for prefix in refreshed:
        entry = entries[prefix]
        entry.until_ms = max(entry.until_ms, use.started_ms + entry.ttl_ms)
    if not use.cached:
        return  # below the minimum, or a server without a cache
    for place, ttl in use.marks:
        prefix, life = use.prefix(place), TTL_MS[ttl]
        if (entry := entries.get(prefix)) and entry.until_ms > use.started_ms:
            entry.began_ms = min(entry.began_ms, use.begins_ms)
            entry.until_ms = max(entry.until_ms, use.started_ms + life)
        else:
            entries[prefix] = Entry(use.begins_ms, use.started_ms + life, life)


def _longest(use: Use, readable: list[Prefix], tokens: Mapping[Prefix, float]) -> float | None:
    """Of the same blocks; None where its tokens are not known."""
    if readable:
        return tokens.get(readable[0])
    return None if use.read and not use.marks else 0.0


def _before(known: list[Use], conversations: pd.DataFrame) -> dict[str, Use]:
    """By call_id the last known call that it goes on from, in its own lane."""
    by_id = {use.call_id: use for use in known}
    lanes, parents = conversations["lane"].to_dict(), conversations["parent"].to_dict()
    before: dict[str, Use] = {}
    # A parent stands before its children.
    for call_id, parent in parents.items():
        if parent is None or lanes[parent] != lanes[call_id]:
            continue
        if (earlier := by_id.get(parent) or before.get(parent)) is not None:
            before[call_id] = earlier
    return before


def _left_by(before: Use | None, use: Use) -> float:
    """What the call before it in its conversation had in the cache, where this one goes on from it
    with no fewer blocks."""
    if before is None or not before.marks or before.model != use.model:
        return 0.0
    place, ttl = before.marks[-1]
    alive = before.begins_ms <= use.started_ms < before.started_ms + TTL_MS[ttl]
    return before.cached if alive and place < len(use.path) else 0.0
