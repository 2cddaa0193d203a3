"""What each call read from the cache, wrote to it and paid in full, and what it could have read."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lab import units
from lab.recording.asked import Call
from lab.recording.entries import Cache
from lab.recording.prefixes import values


def of(calls: pd.DataFrame, asked: Sequence[Call]) -> pd.DataFrame:
    """See lab.recordings.Recording.cache_use; indexed by call_id, in the order of the calls.

    could_read is the longest prefix that was still in the cache: of the same blocks and settings,
    from any call before it, or of the call before it in its lane, had nothing in it been changed.
    It counts no other model's, none that had expired or was still being written, and never more
    than the prompt; never less than what was read. Where no usage told how long that prefix is
    its characters do, and is_counted is false. Null where the prompt or the usage is not known, and
    where the server caches without being asked.
    """
    usage, cache = _usage(calls), Cache()
    seen: list[tuple[Call, int | None, int]] = []
    latest: dict[str, Call | None] = {}
    for call in asked:
        before = call.before and latest[call.before.call_id]
        is_known = bool(call.path) and call.counts
        latest[call.call_id] = call if is_known else before
        if is_known:
            seen.append((call, cache.longest(call), _left_by(before, call, cache)))
        cache.add(call)
    could = {}
    for call, place, left in seen:
        if place is None and call.read and not call.marks:
            continue
        # Asked once all calls are known: a later one may have told how long a prefix is.
        same, is_counted = (0, True) if place is None else cache.tokens(call, place)
        least = max(left, call.read)
        could[call.call_id] = (min(max(same, least), call.tokens), is_counted or same <= least)
    told = pd.DataFrame.from_dict(could, "index", columns=["could_read", "is_counted"])
    told = told.astype({"could_read": "float64", "is_counted": "boolean"})
    return usage.join(told.reindex(usage.index))


def _left_by(before: Call | None, call: Call, cache: Cache) -> int:
    """What the call before it in its lane had in the cache, where this one goes on from it with no
    fewer blocks."""
    if before is None or before.last_mark is None or before.model != call.model:
        return 0
    place = before.last_mark.place
    entry = cache.entries.get(before.keys[place])
    is_there = entry is not None and entry.is_readable(call.started_ms)
    return before.through if is_there and place < len(call.path) else 0


def hit_share(use: pd.DataFrame) -> float | None:
    """Tokens read of those that could have been read, 0 to 1; None where none could."""
    told = use[use["could_read"] > 0]
    return float(told["read"].sum() / told["could_read"].sum()) if len(told) else None


def is_counted(use: pd.DataFrame) -> bool:
    """Whether usages told all that could have been read; else its share is one by characters,
    too."""
    return bool(use["is_counted"].fillna(True).all())


def doubt(use: pd.DataFrame) -> str:
    """What the hit share stands on beside usages: what is told by characters, and what by nothing,
    and so is left out of it."""
    missing = int((use["uncached"].notna() & use["could_read"].isna()).sum())
    parts = (
        (int((~use["is_counted"].fillna(True)).sum()), "told by characters"),
        (missing, "not known and left out"),
    )
    told = (
        f"what {units.counted(n, 'call')} could have read is {words}" for n, words in parts if n
    )
    return "; ".join(told)


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
    return frame.fillna(0.0).where(frame["uncached"].notna())
