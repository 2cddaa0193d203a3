"""A run's arms beside each other, each described by itself: what a table of arms shows."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import NamedTuple

import numpy as np
import pandas as pd

from lab.metrics import CLOCKS, supported
from lab.stats.intervals import Interval, quantile
from lab.stats.verdict import lost as lost_words
from lab.stats.worst_ranks import is_otherwise

Z = 1.959964
"""Of a two-sided 95 %."""


class LostTrials(NamedTuple):
    """What an arm lost of a run's trials: they failed, or did not get what it is about."""

    n: int
    trials: int
    """With those that answered."""
    missed: int
    """Of the n, those that answered and missed the cache, …"""
    otherwise: int = 0
    """… and those that were served otherwise than asked."""

    @property
    def share(self) -> float:
        return self.n / self.trials if self.trials else 0.0

    @property
    def words(self) -> str:
        """ "3 of 15 failed"; empty where none was lost."""
        parts = (self.n, self.trials, self.missed, self.otherwise)
        return lost_words(*parts) if self.n else ""


def lost_trials(trials: pd.DataFrame) -> LostTrials:
    """Of an arm's rows of trial_metrics."""
    lost = trials[trials["lost"]]
    answered, otherwise = lost["outcome"] == "mismatch", is_otherwise(lost)
    missed = int((answered & ~otherwise).sum())
    n = int(trials["counts"].sum()) + len(lost)
    return LostTrials(len(lost), n, missed, int(otherwise.sum()))


class ArmRow(NamedTuple):
    """One arm; intervals at 95 %, of its own trials alone, so that two rows are no comparison."""

    technique: str
    arm: str
    n: int
    lost: LostTrials
    medians: Mapping[str, Interval]
    """Of each of CLOCKS, in ms; no number where the arm has no such clock."""
    p95: Interval
    """Of the metric asked for; without ends where n cannot carry one."""
    cost_usd: float | None
    """The mean of a trial; None where no trial has a price."""
    quality: Interval | None
    """The mean share of checks passed; None where nothing was checked."""
    hits: int | None
    """Trials that read from the cache; None where no trial reported what it read."""
    cached_share: float | None
    """The mean share of the prompt that came from the cache."""

    @property
    def carries_p95(self) -> bool:
        return supported(self.p95.n, 0.95)


def arm_row(technique: str, arm: str, trials: pd.DataFrame, metric: str) -> ArmRow:
    """Of an arm's rows of trial_metrics; all but what it lost is of those that count."""
    lost, trials = lost_trials(trials), trials[trials["counts"]]
    cost, quality, share = (
        trials[name].dropna().to_numpy(float) for name in ("cost_usd", "quality", "cached_share")
    )
    return ArmRow(
        technique=technique,
        arm=arm,
        n=len(trials),
        lost=lost,
        medians={name: quantile(trials[name].astype(float), 0.5) for name in CLOCKS},
        p95=quantile(trials[metric].astype(float), 0.95),
        cost_usd=float(cost.mean()) if cost.size else None,
        quality=wilson(float(quality.mean()), quality.size) if quality.size else None,
        hits=int(np.count_nonzero(share > 0)) if share.size else None,
        cached_share=float(share.mean()) if share.size else None,
    )


def wilson(share: float, n: int) -> Interval:
    """The score interval of a share of n (Wilson 1927): never outside 0 … 1, and still wide where
    all n passed. A check that passes in part makes it too wide, not too narrow."""
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half), n)
