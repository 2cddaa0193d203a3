"""What time does to a run: the control arm's drift, and what failures do to its tail."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from lab.stats.intervals import shift, supported

FEWEST = 8
"""Values below which two halves say nothing."""


class Drift(NamedTuple):
    """The same arm, late against early, in its own unit."""

    change: float
    """Second half against the first: the Hodges–Lehmann shift."""
    low: float | None
    high: float | None
    trend_p: float
    """Mann–Kendall: Kendall's τ of the values against time (Mann 1945; Kendall 1975)."""
    per_hour: float
    """Theil–Sen slope (Sen 1968)."""
    n: int

    @property
    def shown(self) -> bool:
        apart = self.low is not None and (self.low > 0 or self.high < 0)
        return apart or self.trend_p < 0.05

    def rivals(self, effect: float) -> bool:
        """A drift that is there and no smaller than half the effect could pass for it in a run that is not interleaved."""
        return self.shown and abs(self.change) >= abs(effect) / 2


def drift(values, started_utc) -> Drift | None:
    """None below 8 values. `started_utc`: timestamps, or numbers of seconds."""
    frame = (
        pd.DataFrame({"value": np.asarray(values, float), "at": pd.Series(started_utc).to_numpy()})
        .dropna()
        .sort_values("at")
    )
    n = len(frame)
    if n < FEWEST:
        return None
    at = frame["at"]
    seconds = (
        at.to_numpy(float)
        if pd.api.types.is_numeric_dtype(at)
        else (
            pd.to_datetime(at, utc=True) - pd.to_datetime(at.iloc[0], utc=True)
        ).dt.total_seconds()
    )
    found = shift(frame["value"].iloc[: n // 2], frame["value"].iloc[n - n // 2 :])
    seconds = np.asarray(seconds, float)
    p = float(stats.kendalltau(seconds, frame["value"]).pvalue)
    # The slope is of all pairs of values: some 500, evenly spaced, say as much as thousands and take a moment.
    some = slice(None, None, max(1, n // 500))
    slope = (
        float(stats.theilslopes(frame["value"].iloc[some], seconds[some]).slope) * 3600
        if np.ptp(seconds) > 0
        else 0.0
    )
    return Drift(found.estimate, found.low, found.high, p if p == p else 1.0, slope, n)


def failures(trials: pd.DataFrame) -> pd.DataFrame:
    """Measured trials that did not end well, counted by technique, arm and kind of error; a mismatch is a kind of its own."""
    rows = trials[(trials["phase"] == "measured") & (trials["outcome"] != "ok")].copy()
    rows["error_kind"] = rows["error_kind"].fillna(rows["outcome"])
    return (
        rows.groupby(["technique", "arm", "error_kind"], sort=False)
        .size()
        .rename("n")
        .reset_index()
    )


class Tail(NamedTuple):
    successes: float
    """The percentile of the trials that went well."""
    censored: float
    """The same with failures counted as at least the deadline; inf where it falls among them and no deadline is known."""
    n: int
    failed: int
    client_caused: int
    """Slow because of this machine (loop lag, reconnect); they stay in."""
    supported: bool


def tail(trials: pd.DataFrame, metric: str, q: float, deadline_ms: float | None = None) -> Tail:
    """One arm's percentile, named both ways; trials that were cancelled or in the wrong cache state are in neither."""
    rows = trials[trials["phase"] == "measured"]
    good = rows.loc[rows["outcome"] == "ok", metric].dropna().astype(float).to_numpy()
    failed = int((rows["outcome"] == "failed").sum())
    at = inf if deadline_ms is None else float(deadline_ms)
    both = np.concatenate([good, np.full(failed, at)])
    # Nearest rank from above: interpolating towards an infinite neighbour has no answer.
    censored = float(np.quantile(both, q, method="higher")) if both.size else float("nan")
    caused = (
        int(rows.loc[rows["outcome"] == "ok", "client_caused"].fillna(False).sum())
        if "client_caused" in rows
        else 0
    )
    found = float(np.quantile(good, q)) if good.size else float("nan")
    return Tail(found, censored, int(good.size), failed, caused, supported(int(good.size), q))
