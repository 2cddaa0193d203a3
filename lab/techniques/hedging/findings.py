"""What asking twice is planned from and what it cost: the waits of single requests, the luck that
equal ones share, and the calls that were cancelled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from lab.techniques.hedging import planner

OF_A_CALL = (
    *("run_id", "trial_id", "session_id", "block", "technique", "arm", "phase", "outcome", "role"),
    *("call_id", "error_kind", "ttft_ms", "prompt_tokens", "cost_usd"),
)
TIED = "tied"
SINGLE = ("observed", "load")
"""Phases in which each call is a request of its own."""


class Correlation(NamedTuple):
    """Of two equal requests in being late."""

    draws: np.ndarray
    pairs: int
    how: str
    """Of what it was measured, in words."""


def waits(calls: pd.DataFrame, arm: str | None) -> np.ndarray:
    """Times to first token, ms, of requests that were asked once: those of a recording or a load,
    or the answers of a measured run's `arm`."""
    rows = _answers(calls)
    is_single = rows["phase"].isin(SINGLE)
    return rows.loc[is_single | (rows["arm"] == arm), "ttft_ms"].to_numpy(float)


def correlation(
    calls: pd.DataFrame, arms: list[str], twins: bool, delay_ms: float
) -> Correlation | None:
    """From tied trials, else from a run whose arms are the same (`twins`): its pairs were asked one
    after the other. None where nothing tells it."""
    rows = _answers(calls)
    once = waits(calls, arms[0] if arms else None)
    # Both may have ended before one could be cancelled: the first to begin is the trial's.
    tied = rows[rows["arm"] == TIED].groupby("trial_id")["ttft_ms"].min().to_numpy(float)
    if not twins and tied.size and once.size:
        draws = planner.correlation_of_tied(once, tied, delay_ms)
        how = "requests sent at once (tied)"
        return None if draws is None else Correlation(draws, tied.size, how)
    if not twins or len(arms) < 2:
        return None
    wide = rows.pivot_table(index=["session_id", "block"], columns="arm", values="ttft_ms")
    wide = wide.reindex(columns=arms[:2]).dropna()
    draws = planner.correlation_of_pairs(wide[arms[0]], wide[arms[1]], delay_ms)
    how = "equal requests, asked one after the other"
    return None if draws is None else Correlation(draws, len(wide), how)


def price(calls: pd.DataFrame) -> pd.DataFrame:
    """arm, trials, requests (a trial), cancelled, untold (of these, those that told no count of
    tokens), cost_usd (a trial, the least that it was); a judge's call is none of the arm's."""
    is_arms = (calls["phase"] == "measured") & (calls["outcome"] == "ok")
    rows = calls[is_arms & (calls["role"] != "check")]
    rows = rows.assign(
        cancelled=rows["error_kind"] == "cancelled",
        untold=(rows["error_kind"] == "cancelled") & rows["prompt_tokens"].isna(),
    )
    by_arm = rows.groupby("arm", sort=False)
    trials = by_arm["trial_id"].nunique()
    return pd.DataFrame(
        {
            "trials": trials,
            "requests": by_arm.size() / trials,
            "cancelled": by_arm["cancelled"].sum(),
            "untold": by_arm["untold"].sum(),
            "cost_usd": by_arm["cost_usd"].sum(min_count=1) / trials,
        }
    ).reset_index()


def _answers(calls: pd.DataFrame) -> pd.DataFrame:
    is_answer = (calls["role"] == "answer") & calls["error_kind"].isna() & calls["ttft_ms"].notna()
    return calls[is_answer & calls["phase"].isin([*SINGLE, "measured"])]
