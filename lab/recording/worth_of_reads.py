"""What reading more from the cache would be worth: beginnings that nobody marked, pauses that an
hour would bridge, misses by their cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from lab import units
from lab.recording import cache_rules, costs, fixes
from lab.recording.facts import CAUSES, NO_FAULT, Estimate, Miss, Worth

if TYPE_CHECKING:
    from lab.recordings import Recording

SHORT_MS, LONG_MS = cache_rules.TTL_MS["5m"], cache_rules.TTL_MS["1h"]
NOT_TOGETHER = (NO_FAULT, "not_known", "below_minimum", "expired")
"""Causes that are nobody's to mend, or that have a row of their own."""


def repeats(recording: Recording) -> Iterator[tuple[str, Worth]]:
    """Calls without any mark whose prompt begins like an earlier one's of the last five minutes."""
    known: dict[str, Any] = {}
    read: dict[str, float] = {}
    written: dict[str, float] = {}
    kind = recording.run.get("endpoint_kind")
    for call in recording.rows:
        known[call.call_id] = call
        before = known.get(call.follows) if isinstance(call.follows, str) else None
        if before is None or not (_is_unmarked(recording, call) and _is_alike(before, call)):
            continue
        shared = int(call.shared_blocks or 0)
        tokens = _tokens(recording, call, shared)
        least = cache_rules.minimum(costs.priced_model(call), kind)
        if tokens is None or tokens < (least or cache_rules.LONGEST_MINIMUM):
            continue
        read[call.call_id] = tokens
        if _is_unmarked(recording, before):
            new = (_tokens(recording, before, shared) or 0.0) - read.get(before.call_id, 0.0)
            written[before.call_id] = max(written.get(before.call_id, 0.0), new)
    if not read:
        return
    changes = [
        costs.change_usd(
            known[call_id],
            input_tokens=-read.get(call_id, 0.0) - written.get(call_id, 0.0),
            cache_read_tokens=read.get(call_id, 0.0),
            cache_write_5m_tokens=written.get(call_id, 0.0),
        )
        for call_id in {**read, **written}
    ]
    has_reads = recording.relation is not None and recording.relation.knows_reads
    yield (
        "reads",
        Worth(
            f"Mark the beginning that {units.counted(len(read), 'call')} share with the one before",
            list(read),
            seconds(recording, read),
            None if None in changes else -sum(changes),
            "Assumes that what is shared is written once and read within 5 minutes; its tokens are "
            "estimated from its characters."
            + ("" if has_reads else " At most: as if reading it from the cache took no time."),
            not has_reads,
            fix="add_breakpoint",
        ),
    )


def _is_unmarked(recording: Recording, call: Any) -> bool:
    """Nothing was marked, and nothing came from a cache that works by itself."""
    prompt = recording.prompts.get(call.call_id)
    if prompt is None or prompt.marks or not prompt.settings.get("whole", True):
        return False
    touched = (call.cache_read_tokens, call.cache_write_tokens)
    is_plain = "automatic" not in prompt.settings and call.prompt_tokens > 0
    return is_plain and not any(count > cache_rules.SLACK for count in touched)


def _is_alike(before: Any, call: Any) -> bool:
    """Of one model, and the earlier had begun to answer not too long ago."""
    begun_ms = before.headers_at_ms if before.headers_at_ms > 0 else before.total_ms
    apart_ms = call.started_ms - before.started_ms
    return before.model == call.model and begun_ms <= apart_ms <= SHORT_MS


def _tokens(recording: Recording, call: Any, blocks: int) -> float | None:
    """About how many tokens its first so many blocks have: their share of the characters."""
    prompt = recording.prompts.get(call.call_id)
    sizes = [block.characters for block in prompt.blocks] if prompt else []
    if not sum(sizes) or not call.prompt_tokens > 0:
        return None
    return float(call.prompt_tokens) * sum(sizes[:blocks]) / sum(sizes)


def pauses(recording: Recording) -> Iterator[tuple[str, Worth]]:
    """Misses after a pause that an entry of an hour would have outlived."""
    calls = {call.call_id: call for call in recording.rows}

    def pause_ms(miss: Miss) -> float:
        before = calls.get(miss.before)
        return calls[miss.call_id].started_ms - before.started_ms if before else 0.0

    expired = [
        miss
        for miss in recording.misses
        if miss.cause == "expired" and SHORT_MS < pause_ms(miss) <= LONG_MS
    ]
    if not expired:
        return
    missed = {miss.call_id: miss.missed_tokens for miss in expired}
    lanes = recording.conversations["conversation"]
    concerned = {lanes.get(call_id) for call_id in missed}
    changes = []
    for call in calls.values():
        count = call.cache_write_5m_tokens if call.cache_write_5m_tokens > 0 else 0
        if lanes.get(call.call_id) not in concerned or not (count or call.call_id in missed):
            continue
        saved = min(missed.get(call.call_id, 0), count)
        changes.append(
            costs.change_usd(
                call,
                cache_read_tokens=saved,
                cache_write_5m_tokens=-count,
                cache_write_1h_tokens=count - saved,
            )
        )
    yield (
        "reads",
        Worth(
            f"Keep the cache for an hour: {units.counted(len(expired), 'pause')} of 5 min to 1 h",
            list(missed),
            seconds(recording, missed),
            None if None in changes else -sum(changes),
            "Assumes that all writes of these conversations are for an hour, which costs more, and "
            "that the pauses stay as long.",
            False,
            fix="ttl_1h",
        ),
    )


def by_cause(recording: Recording) -> Iterator[tuple[str, Worth]]:
    """The other misses that somebody can mend, together by what causes them."""
    groups: dict[str, list[Miss]] = {}
    unmarked = {call.call_id for call in recording.rows if _is_unmarked(recording, call)}
    for miss in recording.misses:
        in_repeats = miss.cause == "no_breakpoint" and miss.call_id in unmarked
        if miss.cause not in NOT_TOGETHER and miss.missed_tokens > 0 and not in_repeats:
            groups.setdefault(miss.cause, []).append(miss)
    for cause, misses in groups.items():
        known_usd = [miss.usd for miss in misses]
        is_bound = cause == "no_breakpoint"
        yield (
            "reads",
            Worth(
                f"Mend {units.counted(len(misses), 'cache miss')}: {CAUSES[cause]}",
                [miss.call_id for miss in misses],
                seconds(recording, {miss.call_id: miss.missed_tokens for miss in misses}),
                None if None in known_usd else sum(known_usd),
                "Assumes that what was missed is then read from the cache each time."
                + (" At most: to write it there once costs more." if is_bound else ""),
                is_bound,
                fix=fixes.for_miss(misses[0]),
            ),
        )


def seconds(recording: Recording, missed: dict[str, float]) -> Estimate | None:
    """What so many tokens by call_id would take less if they were read from the cache, together;
    None where a model's relation is not known."""
    models = dict(zip(recording.calls["call_id"], _models(recording.calls), strict=True))
    counts: dict[str, list[float]] = {}
    for call_id, tokens in missed.items():
        counts.setdefault(models[call_id], []).append(tokens)
    relation = recording.relation
    parts = [
        own.seconds_together(tokens) if (own := relation and relation.of_model(model)) else None
        for model, tokens in counts.items()
    ]
    return None if not parts or None in parts else together(parts)


def together(parts: Sequence[Estimate]) -> Estimate:
    """The sum of independent estimates: their distances square and add (Zou & Donner 2008)."""
    value = sum(part.value for part in parts)
    down = sum((part.value - part.low) ** 2 for part in parts) ** 0.5
    up = sum((part.high - part.value) ** 2 for part in parts) ** 0.5
    return Estimate(value, value - down, value + up)


def _models(calls: pd.DataFrame) -> list[str]:
    return list(calls["served_model"].fillna(calls["model"]))


FINDERS = (repeats, pauses, by_cause)
