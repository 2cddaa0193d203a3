"""What working as a team takes: a pure function of the views' frames."""

from __future__ import annotations

import pandas as pd


def coordination(trials: pd.DataFrame, calls: pd.DataFrame) -> pd.DataFrame:
    """By arm of a topology: mean calls, tokens, cost and quality, and median total_ms: what working
    as a team takes."""
    good = trials[trials["counts"].astype(bool)]
    tokens = (
        calls[~calls["role"].isin(["prime", "check"])]
        .groupby("trial_id")[["prompt_tokens", "output_tokens"]]
        .sum()
    )
    merged = good[["trial_id", "arm", "total_ms", "calls", "cost_usd", "quality"]].merge(
        tokens, left_on="trial_id", right_index=True, how="left"
    )
    return (
        merged.groupby("arm", sort=False)
        .agg(
            n=("trial_id", "count"),
            total_ms=("total_ms", "median"),
            calls=("calls", "mean"),
            prompt_tokens=("prompt_tokens", "mean"),
            output_tokens=("output_tokens", "mean"),
            cost_usd=("cost_usd", "mean"),
            quality=("quality", "mean"),
        )
        .reset_index()
    )
