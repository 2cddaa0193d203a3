"""What the comparisons read: an arm's trials, each beside the baseline's of its block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from lab.metrics import METRICS

OF_A_PAIR = ["session_id", "block", "trial_id", "baseline_trial_id"]


class ArmPairs(NamedTuple):
    """Of one arm. Every frame has the same index, a number for each pair."""

    metrics: Mapping[str, pd.DataFrame]
    """Of each metric that a pair has in both trials: value, baseline_value, difference and, where
    it is known, started_utc."""
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
    """The metrics in the order in which they first appear, block by block: as in rows of
    pair_differences."""
    rows = rows.reset_index(drop=True)
    parts = {}
    for metric in sorted(METRICS):
        value, base = rows[metric].astype(float), rows[f"baseline_{metric}"].astype(float)
        both = value.notna() & base.notna()
        if both.any():
            columns = {"value": value, "baseline_value": base, "difference": value - base}
            part = pd.DataFrame(columns | {"started_utc": rows["started_utc"]})
            parts[metric] = part if both.all() else part[both]
    first = sorted(parts, key=lambda metric: (parts[metric].index[0], metric))
    known = {metric: parts[metric] for metric in first}
    return ArmPairs(known, rows[["trial_id", "baseline_trial_id"]])


def of_metric(rows: pd.DataFrame | ArmPairs | None, metric: str) -> pd.DataFrame | None:
    """The pairs that both have this metric; None where there are none."""
    if isinstance(rows, ArmPairs):
        return rows.metrics.get(metric)
    if rows is None:
        return None
    part = rows[rows["metric"] == metric].dropna(subset=["value", "baseline_value"])
    return None if part.empty else part
