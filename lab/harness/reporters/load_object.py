"""The object that `show LOAD --json` prints; docs/result-format.md says what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab import load_answer, metrics, units
from lab.harness.reporters.json_object import VERSION

if TYPE_CHECKING:
    from lab.load_levels import LevelResult
    from lab.load_results import LoadResult

OF_A_RUN = (
    "run_id",
    "technique",
    "name",
    "endpoint",
    "endpoint_kind",
    "status",
    "models",
    "seed",
)
OF_A_LEVEL = (
    "number",
    "label",
    "mode",
    "target",
    "planned",
    "not_begun",
    "given_up",
    "n",
    "failed",
    "errors",
    "seconds",
    "requests_per_s",
    "tokens_per_s",
    "goodput_per_s",
    "client",
    "is_knee",
)
OF_A_SESSION = ("session_id", "worker", "host")


def as_object(result: LoadResult) -> dict[str, Any]:
    """A load as version 1 tells it."""
    run, told = result.run, load_answer.answer(result)
    return {
        "version": VERSION,
        **{name: run.get(name) for name in OF_A_RUN},
        "started_utc": units.iso(run["started_utc"]),
        "imported_from": run.get("imported_from"),
        "settings": {"config": dict(result.config)},
        "load": {
            **told._asdict(),
            "mode": result.mode,
            "metric": result.metric,
            "objectives": [asked.text for asked in result.objectives],
            "found": _found(result),
            "levels": [_level(level) for level in result.levels],
            "calls": len(result.calls),
            "output_tokens": result.sum_tokens,
            "cost_usd": result.cost_usd,
            "instrument": dict(result.bias) or None,
            "sessions": [
                {name: session[name] for name in OF_A_SESSION} for session in run["sessions"]
            ],
        },
    }


def _found(result: LoadResult) -> dict[str, Any] | None:
    if result.found is None:
        return None
    return {name: getattr(result.found, name) for name in ("verdict", "low", "high")}


def _level(level: LevelResult) -> dict[str, Any]:
    return {
        **{name: getattr(level, name) for name in OF_A_LEVEL},
        "reason": level.reason or None,
        "client_limit": level.client_limit or None,
        "metrics": {
            name: {
                **values,
                "supported": {
                    quantile: metrics.supported(int(values["n"] or 0), q)
                    for quantile, q in metrics.QUANTILES_OF_LOAD.items()
                },
            }
            for name, values in level.times.items()
        },
        "objectives": [
            {
                "objective": held.objective.text,
                "kept": held.is_kept,
                "value": held.value,
                "misses": held.misses,
                "n": held.n,
            }
            for held in level.held
        ],
    }
