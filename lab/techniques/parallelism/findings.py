"""What running at once gained, and what it cost each request: pure functions of frames."""

from __future__ import annotations

import pandas as pd


def fan_out(spans: pd.DataFrame) -> dict[str, float] | None:
    """Of one trial's tools, or its calls where it has none: n, their sum, the slowest, and from the
    first start to the last end, in ms.

    `sum_ms / took_ms` is the speed-up they had, `sum_ms / slowest_ms` the most they could have.
    """
    done = spans.dropna(subset=["ended_ns"])
    pieces = done[done["kind"] == "tool"]
    if pieces.empty:
        trial = done[done["kind"] == "trial"]
        # No prime, and no judge.
        within = done["started_ns"].between(trial["started_ns"].min(), trial["ended_ns"].max())
        pieces = done[within & (done["kind"] == "call")]
    if pieces.empty:
        return None
    # As floats, which hold every difference of instants.
    started, ended = pieces["started_ns"].astype(float), pieces["ended_ns"].astype(float)
    each_ms = (ended - started) / 1e6
    return {
        "n": len(each_ms),
        "sum_ms": float(each_ms.sum()),
        "slowest_ms": float(each_ms.max()),
        "took_ms": float(ended.max() - started.min()) / 1e6,
    }


def per_request(calls: pd.DataFrame) -> pd.DataFrame:
    """What concurrency costs each single request: by arm the median and longest total_ms of its
    answer calls, and their n."""
    answers = calls[(calls["role"] == "answer") & calls["error_kind"].isna()]
    times = answers.groupby("arm", sort=False)["total_ms"]
    return times.agg(n="count", median_ms="median", longest_ms="max").reset_index()
