"""What the comparisons read: an arm's trials, each beside the baseline's of its block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from lab.metrics import METRICS

OF_A_PAIR = ["session_id", "block", "trial_id", "baseline_trial_id"]


class ArmPairs(NamedTuple):
    """Of one arm. Every frame has the same index, a number for each pair."""

    metrics: Mapping[str, pd.DataFrame]
    """Of each metric that a pair has in both trials: value, baseline_value, difference and, where
    they are known, started_utc and task_id."""
    trials: pd.DataFrame
    """trial_id, baseline_trial_id."""


def by_arm(pairs: pd.DataFrame) -> dict[tuple[str, str], ArmPairs]:
    """By technique and arm; `pairs` are rows of pair_differences, one for each metric, or of
    paired_trials, which are far fewer."""
    of_rows = _of_metric_rows if "metric" in pairs else _of_trial_rows
    return {arm: of_rows(rows) for arm, rows in pairs.groupby(["technique", "arm"], sort=False)}


def arm_pairs(rows: pd.DataFrame | ArmPairs) -> ArmPairs:
    """One arm's rows of pair_differences as ArmPairs."""
    return _of_metric_rows(rows) if isinstance(rows, pd.DataFrame) else rows


def _of_metric_rows(rows: pd.DataFrame) -> ArmPairs:
    pair = rows.groupby(OF_A_PAIR, sort=False, dropna=False).ngroup()
    rows = rows.set_index(pair)
    trials = rows[["trial_id", "baseline_trial_id"]]
    parts = {
        metric: part.dropna(subset=["value", "baseline_value"])
        for metric, part in rows.groupby("metric", sort=False)
    }
    known = {metric: part for metric, part in parts.items() if len(part)}
    return ArmPairs(known, trials[~trials.index.duplicated()])


def _of_trial_rows(rows: pd.DataFrame) -> ArmPairs:
    rows = rows.reset_index(drop=True)
    return ArmPairs(_OfTrials(rows), rows[["trial_id", "baseline_trial_id"]])


class _OfTrials(Mapping[str, pd.DataFrame]):
    """ArmPairs.metrics, each made when it is first asked for. They are in the order in which they
    first appear, block by block: as in rows of pair_differences."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows, self._made = rows, {}
        names = sorted(METRICS)
        mine, base = rows[names], rows[[f"baseline_{name}" for name in names]]
        both = dict(zip(names, (mine.notna().to_numpy() & base.notna().to_numpy()).T, strict=True))
        some = [metric for metric, known in both.items() if known.any()]
        self._both = {
            metric: both[metric] for metric in sorted(some, key=lambda m: both[m].argmax())
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._both)

    def __len__(self) -> int:
        return len(self._both)

    def __getitem__(self, metric: str) -> pd.DataFrame:
        both = self._both[metric]
        if metric not in self._made:
            rows = self._rows if both.all() else self._rows[both]
            value, base = rows[metric].astype(float), rows[f"baseline_{metric}"].astype(float)
            columns = {"value": value, "baseline_value": base, "difference": value - base}
            known = {name: rows[name] for name in ("started_utc", "task_id") if name in rows}
            self._made[metric] = pd.DataFrame(columns | known)
        return self._made[metric]


def of_metric(rows: pd.DataFrame | ArmPairs | None, metric: str) -> pd.DataFrame | None:
    """The pairs that both have this metric; None where there are none."""
    if isinstance(rows, ArmPairs):
        return rows.metrics.get(metric)
    if rows is None:
        return None
    part = rows[rows["metric"] == metric].dropna(subset=["value", "baseline_value"])
    return None if part.empty else part
