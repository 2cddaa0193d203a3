"""The coordination tax: a pure function of the views' frames."""

from __future__ import annotations

import pandas as pd


def coordination(trials: pd.DataFrame, calls: pd.DataFrame) -> pd.DataFrame:
    """By arm of a topology: mean calls, tokens, cost and quality, and median total_ms: what working
    as a team takes. `trials` are those that count, `calls` those that they waited for."""
    tokens = calls.groupby("trial_id")[["prompt_tokens", "output_tokens"]].sum(min_count=1)
    merged = trials[["trial_id", "arm", "total_ms", "calls", "cost_usd", "quality"]].merge(
        tokens, left_on="trial_id", right_index=True, how="left"
    )
    means = ("calls", "prompt_tokens", "output_tokens", "cost_usd", "quality")
    columns = {"n": ("trial_id", "count"), "total_ms": ("total_ms", "median")}
    columns |= {name: (name, "mean") for name in means}
    return merged.groupby("arm", sort=False).agg(**columns).reset_index()
