"""Why a call did not read from the cache: only causes that the recording proves.

A call is held against the last one of its lane that had something in the cache; the first of a lane
against the calls that begin alike, or with the same tools and system prompt but for one change.
Where the two differ, the first difference in the order in which the API reads is the cause: it
alone breaks the prefix. Where they do not, the breakpoints, the clocks and the model's minimum are
asked; where none of them proves anything the cause is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

from lab.recording import causes, costs, unread
from lab.recording.asked import Call
from lab.recording.cache_rules import SLACK
from lab.recording.facts import Estimate, Miss
from lab.recording.relation import Relation
from lab.recording.shape import Piece
from lab.recording.wanted import History, Wanted


def of(
    asked: Sequence[Call],
    pieces: Callable[[str], list[Piece]],
    relation: Relation | None,
) -> list[Miss]:
    """See lab.recordings.Recording.misses."""
    history = History(asked, pieces)
    misses = []
    # Of one place many calls miss as many tokens, which take as long.
    seconds = cache(relation.seconds) if relation else lambda tokens, model: None
    for call in asked:
        if miss := _miss(call, history):
            misses.append(_priced(miss, call, seconds))
        history.add(call)
    return misses


def _miss(call: Call, history: History) -> Miss | None:
    if not call.counts:
        return unread.refused(call)
    if not call.path:
        return unread.of_a_part(call, history)
    if lost := unread.lost(call, history):
        return lost
    wanted = history.wanted(call)
    if wanted and (call.marks or wanted.is_same(call)):
        return _explained(call, wanted, history)
    if call.marks and call.through <= SLACK and (short := unread.nothing_cached(call, history)):
        return short
    return unread.unmarked(call, history) or _first_use(call, history)


def _explained(call: Call, wanted: Wanted, history: History) -> Miss:
    before, words = wanted.before, history.name(call, wanted.before)
    changes = causes.changes(before, wanted.place, call, history.pieces, words)
    if not changes and (reach := unread.out_of_reach(call, wanted, words)):
        changes.append(reach)
    if time := unread.out_of_time(call, wanted, history):
        changes.append(time)
    if not changes:
        entry = history.cache.entries.get(before.keys[wanted.place])
        return unread.not_known(call, wanted, entry, history)
    first, *others = changes
    also = f" Also: {', '.join(change.short for change in others)}." if others else ""
    difference = first.difference
    return Miss(
        call.call_id,
        first.cause,
        f"{first.evidence}.{also}",
        wanted.tokens - call.read,
        before=before.call_id,
        is_counted=wanted.is_counted,
        section=first.section,
        place=wanted.place if first.place is None else first.place,
        offset=difference.offset if difference else None,
        length=difference.length if difference else None,
        look=difference.look if difference else "",
    )


def _first_use(call: Call, history: History) -> Miss | None:
    if not call.written or call.read > SLACK or history.cached_before(call):
        return None
    evidence = f"The first call with this prefix: it wrote {call.written:,} tokens."
    return Miss(call.call_id, "first_use", evidence, 0)


def _priced(
    miss: Miss, call: Call, seconds: Callable[[float, str | None], Estimate | None]
) -> Miss:
    """With the API's own word, and with what it cost where there was anything to read; `seconds` is
    a relation's."""
    usd = took = None
    if miss.missed_tokens and call.counts:
        usd = _extra_usd(call, miss.missed_tokens)
        took = seconds(miss.missed_tokens, call.row["model"])
    reason = call.row["cache_miss_reason"]
    return replace(miss, usd=usd, seconds=took, api_reason=reason)


def _extra_usd(call: Call, tokens: int) -> float | None:
    """What tokens behind those that were read were billed at above the price of a read: first come
    those written for an hour, then those for five minutes, then the rest."""
    more, left = {"cache_read_tokens": tokens}, tokens
    for name in ("cache_write_1h_tokens", "cache_write_5m_tokens", "input_tokens"):
        part = min(left, int(call.row[name] or 0))
        more[name], left = -part, left - part
    saved = costs.change_usd(SimpleNamespace(**call.row), **more)
    return None if saved is None else -saved
