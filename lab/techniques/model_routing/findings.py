"""Who answered, and what deciding took: pure functions of the views' frames."""

from __future__ import annotations

import pandas as pd


def routing_overhead_ms(calls: pd.DataFrame) -> float | None:
    """The median time of the router's own calls (role classify); None where nothing was
    classified."""
    times = calls.loc[
        (calls["role"] == "classify") & calls["error_kind"].isna(), "total_ms"
    ].dropna()
    return float(times.median()) if len(times) else None


def routes(spans: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """One row per routed trial: trial_id, arm, task_id, and the tier chosen (the name of its route
    span)."""
    chosen = spans.loc[spans["kind"] == "route", ["trial_id", "name"]].rename(
        columns={"name": "chosen"}
    )
    return trials[["trial_id", "arm", "task_id"]].merge(chosen, on="trial_id")


def routing_shares(routed: pd.DataFrame) -> pd.DataFrame:
    """By arm: how many trials went to each tier and which share that is."""
    counted = routed.groupby(["arm", "chosen"], sort=False).size().rename("n").reset_index()
    counted["share"] = counted["n"] / counted.groupby("arm")["n"].transform("sum")
    return counted


def confusion(routed: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """By arm: trials counted by the task's label (easy, hard) and the tier chosen; `agrees` where
    easy met small or hard met large."""
    known = routed.assign(label=routed["task_id"].map(labels)).dropna(subset=["label"])
    counted = known.groupby(["arm", "label", "chosen"], sort=False).size().rename("n").reset_index()
    counted["agrees"] = counted["chosen"].eq(
        counted["label"].map({"easy": "small", "hard": "large"})
    )
    return counted
