"""The object that `--json` prints; docs/result-format.md says what each field means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import units
from lab.harness.reporters import write
from lab.scrub import UNSEEN
from lab.view_parts import Choice, Note, Numbers, Slider, Table

if TYPE_CHECKING:
    from lab.results import RunResult
    from lab.stats import Comparison

VERSION = 1
"""It grows when a field changes its meaning or goes, not when one is added."""
VERDICT_WORDS = 2
"""It grows when the list of a verdict's words does."""

OF_A_RUN = (
    "run_id",
    "technique",
    "endpoint",
    "endpoint_kind",
    "status",
    "models",
    "seed",
    "settings",
)
OF_A_VERDICT = ("headline", "doubts", "seen", "detail", "title", "tone")
OUTCOMES = ("n", "failed", "cancelled", "mismatched", "lost")
OF_A_COMPARISON = (
    "metric",
    "technique",
    "arm",
    "baseline",
    "quantile",
    "tail_ms",
    "baseline_tail_ms",
    "estimate_ms",
    "low_ms",
    "high_ms",
    "ratio",
    "ratio_low",
    "ratio_high",
    "n",
    "verdict",
    "needed_blocks",
    "doubts",
    "reasons",
)
"""Fields of a Comparison; `_ms` is version 1's, though the value is in the metric's own unit."""


class JSONReporter:
    """RUN.json, one object in strict JSON"""

    name = "json"

    def __init__(self, folder: Path | None = None) -> None:
        """Prints to stdout where no folder is given."""
        self.folder = folder

    def report(self, result: RunResult) -> Path | None:
        text = as_text(as_object(result))
        if self.folder is None:
            print(text)
            return None
        return write(self.folder / f"{result.run_id}.json", text + "\n")


def as_object(result: RunResult) -> dict[str, Any]:
    """A run as version 1 tells it."""
    run, verdict = result.run, None
    if result.verdicts:
        verdict = {name: getattr(result.verdicts[0], name) for name in OF_A_VERDICT}
    return {
        "version": VERSION,
        "verdict_words": VERDICT_WORDS,
        **{name: run[name] for name in OF_A_RUN},
        "started_utc": units.iso(run["started_utc"]),
        "imported_from": run.get("imported_from"),
        "verdict": verdict,
        "each_arm": [
            {
                **{name: getattr(comparison, name) for name in ("technique", "arm", "metric")},
                **{name: getattr(told, name) for name in OF_A_VERDICT},
            }
            for lines in result.each_arm().values()
            for comparison, told in lines
        ],
        "arms": [_arm(result, *arm) for arm in result.arms()],
        "why": list(result.why),
        "notes": list(result.notes),
        "comparisons": [_comparison(result, comparison) for comparison in result.comparisons],
    }


def _comparison(result: RunResult, comparison: Comparison) -> dict[str, Any]:
    losses = comparison.losses
    return {
        **{
            name: units.plain(getattr(comparison, name.removesuffix("_ms")))
            for name in OF_A_COMPARISON
        },
        "lost": losses.arm + losses.both,
        "baseline_lost": losses.baseline + losses.both,
        "title": result.told(comparison).title,
    }


def _arm(result: RunResult, technique: str, arm: str) -> dict[str, Any]:
    counted = result.counted(technique, arm)
    return {
        "technique": technique,
        "arm": arm,
        **{name: int(counted.get(name) or 0) for name in OUTCOMES},
        "failures": result.failures(technique, arm),
        "mismatches": json.loads(counted.get("mismatches") or "{}"),
        "quality": counted.get("quality"),
        "cost_usd": counted.get("cost_usd"),
        "metrics": result.metrics(technique, arm),
    }


def parts_as_object(parts: Iterable[Any]) -> dict[str, Any]:
    """A technique's own view without its figures: `numbers` as text by their words, `notes`, and
    the rows of each of its `tables`; what a reader could set stands where it begins."""
    numbers: dict[str, str] = {}
    notes: list[str] = []
    tables: list[list[dict[str, Any]]] = []
    for part in parts:
        match part:
            case Slider() | Choice():
                further = parts_as_object(part.draw(part.value))
                numbers |= further["numbers"]
                notes += further["notes"]
                tables += further["tables"]
            case Numbers(several):
                numbers |= {number.words: number.text for number in several}
            case Note(text):
                notes.append(text)
            case Table(rows):
                tables.append(rows.to_dict("records"))
    return {"numbers": numbers, "notes": notes, "tables": tables}


def as_text(fields: Mapping[str, Any]) -> str:
    """One line of strict JSON: null for NaN and the infinities, and an escape for what a terminal
    would obey."""
    text = json.dumps(_finite(fields), ensure_ascii=False, allow_nan=False, default=str)
    return UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return units.plain(value)
