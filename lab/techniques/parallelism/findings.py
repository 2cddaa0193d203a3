"""What running at once gained, and what it cost each request: pure functions of frames."""

from __future__ import annotations

import pandas as pd


def speed_up(trials: pd.DataFrame, baseline: str, arm: str) -> float | None:
    """Median of total_ms of the baseline over that of the arm, of the trials that ended well."""
    medians = trials[trials["outcome"] == "ok"].groupby("arm")["total_ms"].median()
    return (
        float(medians[baseline] / medians[arm])
        if baseline in medians and arm in medians and medians[arm] > 0
        else None
    )


def fan_out(spans: pd.DataFrame) -> dict[str, float] | None:
    """Of one trial's tools, or its calls where it has none: n, their sum, the slowest, and from the
    first start to the last end, in ms.

    `sum_ms / took_ms` is the speed-up they had, `sum_ms / slowest_ms` the most they could have.
    """
    done = spans.dropna(subset=["ended_ns"])
    pieces = done[done["kind"] == "tool"]
    if pieces.empty:
        trial = done[done["kind"] == "trial"]
        within = done["started_ns"].between(
            trial["started_ns"].min(), trial["ended_ns"].max()
        )  # no prime, and no judge
        pieces = done[within & (done["kind"] == "call")]
    if pieces.empty:
        return None
    each = (
        pieces["ended_ns"].astype(float) - pieces["started_ns"].astype(float)
    ) / 1e6  # no difference of instants is beyond a float
    took = (float(pieces["ended_ns"].max()) - float(pieces["started_ns"].min())) / 1e6
    return {
        "n": len(each),
        "sum_ms": float(each.sum()),
        "slowest_ms": float(each.max()),
        "took_ms": float(took),
    }


def per_request(calls: pd.DataFrame) -> pd.DataFrame:
    """What concurrency costs each single request: by arm the median and longest total_ms of its
    answer calls, and their n."""
    answers = calls[(calls["role"] == "answer") & calls["error_kind"].isna()]
    return (
        answers.groupby("arm", sort=False)["total_ms"]
        .agg(n="count", median_ms="median", longest_ms="max")
        .reset_index()
    )
