"""What time does to a run: the control arm's drift, and what failures do to its tail."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy

from lab.metrics import supported
from lab.stats.intervals import shift

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
    n: int

    @property
    def shown(self) -> bool:
        apart = self.low is not None and (self.low > 0 or self.high < 0)
        return apart or self.trend_p < 0.05

    def rivals(self, effect: float) -> bool:
        """A drift that is there and no smaller than half the effect could pass for it in a run that
        is not interleaved."""
        return self.shown and abs(self.change) >= abs(effect) / 2


def drift(values, started_utc) -> Drift | None:
    """None below 8 values. `started_utc`: timestamps, or numbers of seconds."""
    at, values = pd.Series(started_utc), np.asarray(values, float)
    known = at.notna().to_numpy() & ~np.isnan(values)
    n = int(known.sum())
    if n < FEWEST:
        return None
    ranks, _ = pd.factorize(at[known], sort=True)  # of instants as numbers, none an object
    by_time = ranks.argsort(kind="stable")
    ranks, values = ranks[by_time], values[known][by_time]
    late = shift(values[: n // 2], values[n - n // 2 :])
    p = float(scipy.stats.kendalltau(ranks, values).pvalue)
    return Drift(late.estimate, late.low, late.high, p if p == p else 1.0, n)


def failures(trials: pd.DataFrame) -> pd.DataFrame:
    """Of trial_metrics those that did not end well, superseded ones left out, counted by technique,
    arm and kind of error (n); a mismatch is a kind of its own."""
    rows = trials[_stands(trials) & (trials["outcome"] != "ok")].copy()
    rows["error_kind"] = rows["error_kind"].fillna(rows["outcome"])
    kinds = rows.groupby(["technique", "arm", "error_kind"], sort=False)
    return kinds.size().rename("n").reset_index()


def _stands(trials: pd.DataFrame) -> pd.Series:
    return (trials["phase"] == "measured") & ~trials["superseded"].astype(bool)


class Tail(NamedTuple):
    successes: float
    """The percentile of the trials that went well."""
    censored: float
    """The same with failures counted as at least the deadline; inf where it falls among them and no
    deadline is known."""
    n: int
    failed: int
    client_caused: int
    """Slow because of this machine (loop lag, reconnect); they stay in."""
    supported: bool


def tail(trials: pd.DataFrame, metric: str, q: float, deadline_ms: float | None = None) -> Tail:
    """One arm's percentile, named both ways, of its rows of trial_metrics; trials that were
    cancelled or in the wrong cache state are in neither."""
    counted = trials[trials["counts"].astype(bool)]
    good = counted[metric].dropna().astype(float).to_numpy()
    failed = int((_stands(trials) & (trials["outcome"] == "failed")).sum())
    deadline = inf if deadline_ms is None else float(deadline_ms)
    both = np.concatenate([good, np.full(failed, deadline)])
    return Tail(
        successes=float(np.quantile(good, q)) if good.size else float("nan"),
        # Nearest rank from above: interpolating towards an infinite neighbour has no answer.
        censored=float(np.quantile(both, q, method="higher")) if both.size else float("nan"),
        n=int(good.size),
        failed=failed,
        client_caused=int(counted["client_caused"].astype(bool).sum()),
        supported=supported(int(good.size), q),
    )
