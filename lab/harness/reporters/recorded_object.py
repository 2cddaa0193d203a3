"""The object that `show RECORDING --json` prints; docs/result-format.md says what it means."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lab import units
from lab.harness.reporters.json_object import VERSION
from lab.recording import cache_use, sums
from lab.recording.facts import Estimate, origin_of

if TYPE_CHECKING:
    from lab.recordings import Recording

OF_A_RUN = ("run_id", "technique", "name", "endpoint", "endpoint_kind", "status", "keep_text")
OF_THE_WAIT = (
    "total_ms",
    "first_token_ms",
    "writing_ms",
    "whole_ms",
    "tools_ms",
    "idle_ms",
    "failed_ms",
)
OF_THE_CACHE = ("read", "written", "uncached", "could_read")
OF_A_CALL = (
    "call_id",
    "conversation",
    "lane",
    "turn",
    "parent",
    "model",
    "started_ms",
    "ttft_ms",
    "total_ms",
    *OF_THE_CACHE,
    "output_tokens",
    "cost_usd",
    "stop_reason",
    "error_kind",
)


def as_object(recording: Recording, with_calls: bool = False) -> dict[str, Any]:
    """A recording as version 1 tells it. An estimate is value, low and high, in seconds."""
    run, calls, use = recording.run, recording.calls, recording.cache_use
    waiting, relation = recording.waiting, recording.relation
    fields: dict[str, Any] = {
        "version": VERSION,
        **{name: run.get(name) for name in OF_A_RUN},
        "source": origin_of(run).get("source"),
        "imported_from": run.get("imported_from"),
        "started_utc": units.iso(run["started_utc"]),
        "sentence": waiting.sentence,
        "waiting": {name: getattr(waiting, name) for name in OF_THE_WAIT},
        "calls": len(calls),
        "failed": int(calls["error_kind"].notna().sum()),
        "prompt_tokens": calls["prompt_tokens"].sum(min_count=1),
        "output_tokens": calls["output_tokens"].sum(min_count=1),
        "cost_usd": sums.cost(calls),
        "cache": {
            "hit_share": cache_use.hit_share(use),
            "read_share": cache_use.read_share(use),
            **{f"{name}_tokens": use[name].sum(min_count=1) for name in OF_THE_CACHE},
            "doubt": cache_use.doubt(use) or None,
        },
        "ms_per_1000_uncached": asdict(relation.ms_per_1000_uncached) if relation else None,
        "conversations": sums.conversations(recording).to_dict("records"),
        "misses": [_fields(miss) for miss in recording.misses],
        "worth": [_fields(row) for row in recording.worth],
        "cannot_tell": sums.untold(recording),
    }
    if with_calls:
        placed = calls.drop(columns="conversation").join(recording.conversations, on="call_id")
        rows = placed.join(use, on="call_id")[list(OF_A_CALL)]
        fields["each_call"] = rows.to_dict("records")
    return _plain(fields)


def _fields(finding: Any) -> dict[str, Any]:
    return {
        name: asdict(value) if isinstance(value, Estimate) else value
        for name, value in vars(finding).items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return units.plain(value)
