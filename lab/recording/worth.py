"""What each technique would be worth in a recording, with its assumption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lab import pricing, units
from lab.recording import costs, worth_of_reads
from lab.recording.facts import Estimate, Worth
from lab.stats import robust

if TYPE_CHECKING:
    from lab.recordings import Recording

A_WORD = 3
"""Output tokens of a call that asked for no more than a word."""
FEWEST = 10
"""Answers from which on a writing rate is told."""
CHEAPER = 2
"""A model is large where another one in the price list costs at most one in so many."""


def of(recording: Recording, shown: Mapping[str, str] | None = None) -> list[Worth]:
    """The most seconds first, then what saves dollars alone. `shown` has the slug of the technique
    whose page shows a subject, one of lab.model.Technique.shows."""
    finders = (_streaming, _tools, _connections, _words, *worth_of_reads.FINDERS)
    gains = [
        replace(gain, technique=(shown or {}).get(subject))
        for find in finders
        for subject, gain in find(recording)
    ]
    return sorted(gains, key=lambda gain: (-_value(gain.seconds), -(gain.usd or 0.0)))


def _value(seconds: Estimate | None) -> float:
    return seconds.value if seconds else -np.inf


def _streaming(recording: Recording) -> Iterator[tuple[str, Worth]]:
    """Answers that end a turn and came whole: all of their time but the first token's could have
    been read in."""
    calls, lanes = recording.calls, recording.conversations["lane"]

    def is_waited_for(call: Any) -> bool:
        prompt, reply = (each.get(call.call_id) for each in (recording.prompts, recording.replies))
        settings = prompt.settings if prompt else {}
        return (
            settings.get("stream") is False
            and settings.get("whole", True)
            and not settings.get("output_format")
            and reply is not None
            and not any(block.kind == "tool_use" for block in reply)
            and lanes.get(call.call_id) == 0
            and call.total_ms > 0
            and call.output_tokens > A_WORD
        )

    ended = calls["error_kind"].isna() & calls[["total_ms", "output_tokens"]].notna().all(axis=1)
    waited = [call for call, has in zip(recording.rows, ended, strict=True) if has]
    waited = [call.call_id for call in waited if is_waited_for(call)]
    if not waited:
        return
    rows = calls[calls["call_id"].isin(waited)]
    seconds, assumption = _unseen_writing(recording, rows)
    title = f"Stream {units.counted(len(waited), 'answer')} that somebody waits for"
    yield (
        "streams",
        Worth(title, list(rows["call_id"]), seconds, 0.0, assumption, False, fix="stream"),
    )


def _unseen_writing(recording: Recording, rows: pd.DataFrame) -> tuple[Estimate | None, str]:
    """Seconds from what would have been the first token to the end: by the recording's own first
    tokens, else by how its answers' time grows with their length."""
    reading, relation = "Assumes that a person reads along, and that ", recording.relation
    total_s = float(rows["total_ms"].sum()) / 1000
    models = rows["served_model"].fillna(rows["model"])
    relations = {model: relation and relation.of_model(model) for model in models.unique()}
    if all(relations.values()):
        uncached = rows["prompt_tokens"] - rows["cache_read_tokens"].fillna(0)
        firsts = [
            relations[model].first_tokens(uncached[own.index], own["prompt_tokens"])
            for model, own in rows.groupby(models, sort=False)
        ]
        value, low, high = (
            sum(getattr(first, name) for first in firsts) for name in ("value", "low", "high")
        )
        ends = (total_s - value, total_s - high, total_s - low)
        seconds = Estimate(*(min(max(end, 0.0), total_s) for end in ends))
        return seconds, f"{reading}first tokens come as in the calls that stream here."
    lengths, times = rows["output_tokens"].to_numpy(float), rows["total_ms"].to_numpy(float)
    if len(rows) < FEWEST or len(np.unique(lengths)) < 3:
        return None, (
            f"{reading}the first token comes well before the last; too few calls to say how long."
        )
    line = robust.fit(np.column_stack([np.ones(len(rows)), lengths]), times)
    tokens = float((lengths - 1).sum()) / 1000
    seconds = Estimate(*(min(max(end * tokens, 0.0), total_s) for end in line.interval((0, 1))))
    return seconds, f"{reading}each token takes as long to write as the lengths here say."


def _tools(recording: Recording) -> Iterator[tuple[str, Worth]]:
    """Tool calls of one message that ran one after the other: known where the source timed each,
    else at most what equal ones would save."""
    saved: dict[str, float] = {}
    timed = set()
    for call_id, spans in recording.tools.dropna(subset="ended_ms").groupby("call_id", sort=False):
        timed.add(call_id)
        longest = (spans["ended_ms"] - spans["started_ms"]).max()
        rest_ms = spans["ended_ms"].max() - spans["started_ms"].min() - longest
        if len(spans) > 1 and rest_ms > 0:
            saved[call_id] = rest_ms / 1000
    if saved:
        total_s = sum(saved.values())
        yield (
            "tools_together",
            Worth(
                f"Run the tool calls of {units.counted(len(saved), 'message')} at the same time",
                list(saved),
                Estimate(total_s, total_s, total_s),
                0.0,
                "Assumes that none needs another's result, and that each takes as long as here.",
                False,
            ),
        )
    bounds = _untimed_tools(recording, timed)
    if bounds:
        yield (
            "tools_together",
            Worth(
                f"Run the tool calls of {units.counted(len(bounds), 'message')} at the same time",
                list(bounds),
                Estimate(sum(bounds.values()), 0.0, sum(bounds.values())),
                0.0,
                "At most: as if they ran one after the other, each as long. This recording does "
                "not know when each tool ran.",
                True,
            ),
        )


def _untimed_tools(recording: Recording, timed: set[str]) -> dict[str, float]:
    """By call_id the seconds that n equal tools, one after the other, would save together."""
    calls = recording.calls.set_index("call_id")
    started, ended = calls["started_ms"], calls["started_ms"] + calls["total_ms"]
    bounds = {}
    continued = recording.conversations.dropna(subset="parent")
    continued = continued[~continued["parent"].duplicated()]
    for call_id, parent in continued["parent"].items():
        if parent in timed or parent not in started.index:
            continue
        uses = {b.use_id for b in recording.replies.get(parent, ()) if b.kind == "tool_use"}
        prompt = recording.prompts.get(call_id)
        results = {b.use_id for b in prompt.blocks if b.kind == "tool_result"} if prompt else set()
        gap_ms = started[call_id] - ended[parent]
        if len(uses) > 1 and uses <= results and gap_ms > 0:
            bounds[parent] = float(gap_ms) / 1000 * (1 - 1 / len(uses))
    return bounds


def _connections(recording: Recording) -> Iterator[tuple[str, Worth]]:
    """Calls that opened a connection while an earlier one stood idle."""
    calls = recording.calls
    connecting = calls[["dns_ms", "connect_ms", "tls_ms"]].sum(axis=1, min_count=1)
    ends = np.sort((calls["started_ms"] + calls["total_ms"]).dropna().to_numpy(float))
    opened, saved = 0, {}
    is_fresh = calls["connection_reused"].eq(False).fillna(False)
    known = zip(recording.rows, connecting.tolist(), is_fresh.tolist(), strict=True)
    for place, (call, took_ms, is_new) in enumerate(known):
        if not is_new:
            continue
        under_way = place - int(np.searchsorted(ends, call.started_ms, side="right"))
        if under_way >= opened:
            opened += 1  # all that are open are busy: a further one is needed
        elif took_ms > 0:
            saved[call.call_id] = took_ms / 1000
    if saved:
        total_s = float(sum(saved.values()))
        yield (
            "",
            Worth(
                f"Keep connections open: {units.counted(len(saved), 'call')} opened a new one",
                list(saved),
                Estimate(total_s, total_s, total_s),
                0.0,
                "At most: as if the server had kept every connection open until its next call. "
                "Use one client for all calls.",
                True,
            ),
        )


def _words(recording: Recording) -> Iterator[tuple[str, Worth]]:
    """A large model that wrote a word or two: a small one, if it is right as often."""
    calls = recording.calls
    limits = [
        (recording.prompts[call_id].settings if call_id in recording.prompts else {}).get(
            "max_tokens"
        )
        for call_id in calls["call_id"]
    ]
    asked = pd.Series(pd.to_numeric(pd.Series(limits), errors="coerce").to_numpy(), calls.index)
    is_short = calls["output_tokens"].between(1, A_WORD) | asked.between(1, A_WORD)
    is_short &= calls["error_kind"].isna() & calls["stop_reason"].ne("tool_use")
    by_model: dict[str, list[Any]] = {}
    cheaper = lru_cache(_cheaper)
    for call, asks_little in zip(recording.rows, is_short.tolist(), strict=True):
        if asks_little is not True or pd.isna(call.cost_usd) or not call.total_ms > 0:
            continue
        if cheap := cheaper(costs.priced_model(call), call.started_utc.date()):
            by_model.setdefault(cheap, []).append(call)
    for cheap, own in by_model.items():
        changes = [costs.change_usd(call, model=cheap) for call in own]
        total_s = float(sum(call.total_ms for call in own)) / 1000
        yield (
            "small_models",
            Worth(
                f"Ask a small model in {units.counted(len(own), 'call')} that write a word",
                [call.call_id for call in own],
                Estimate(total_s, 0.0, total_s),
                None if None in changes else -sum(changes),
                f"At most: as if a small model took no time and answered as well. Dollars with "
                f"{cheap}.",
                True,
            ),
        )


def _cheaper(model: str, day: date) -> str | None:
    """The cheapest model that the price list knew on the day, where this one costs more than
    CHEAPER times as much; None where its price is not known."""
    own = pricing.price(model, day)
    if own is None:
        return None
    listed = {row.model: pricing.price(row.model, day) for row in pricing.prices()}
    known = [row for row in listed.values() if row]
    least = min(known, key=lambda row: row.input + row.output)
    dear = own.input + own.output > CHEAPER * (least.input + least.output)
    return least.model if dear else None
