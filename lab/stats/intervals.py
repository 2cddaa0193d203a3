"""Intervals that assume no bell curve: signed ranks for paired blocks, order statistics for
quantiles."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import special

from lab.stats.ranked_sums import ranked_sums

EXACT_UP_TO = 120
"""Blocks for which signed-rank probabilities are exact; beyond, the normal approximation is off by
less than 1e-4."""


class Interval(NamedTuple):
    """`low` and `high` are None where n cannot reach the level at all."""

    estimate: float
    low: float | None
    high: float | None
    n: int
    p: float = 1.0
    """Two-sided p-value of "no difference", from the same distribution as the interval, so the two
    cannot disagree."""

    @property
    def half_width(self) -> float | None:
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@lru_cache(maxsize=512)
def signed_rank_cdf(n: int) -> np.ndarray:
    """P(T+ ≤ t) for t = 0 … n(n+1)/2 under symmetry about zero, by counting subsets of ranks
    (Hollander & Wolfe 1999, §3.1, comment 5)."""
    ways = np.zeros(n * (n + 1) // 2 + 1)
    ways[0] = 1.0
    for rank in range(1, n + 1):
        ways[rank:] = (ways[rank:] + ways[: ways.size - rank]) / 2
        ways[:rank] /= 2
    return np.cumsum(ways)


def signed_rank_p(t: float, n: int) -> float:
    """Two-sided p-value of a smaller rank sum t of n blocks."""
    if n <= EXACT_UP_TO:
        return float(min(1.0, 2 * signed_rank_cdf(n)[int(t)])) if t >= 0 else 0.0
    mean, sd = n * (n + 1) / 4, np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    return float(min(1.0, 2 * special.ndtr((t + 0.5 - mean) / sd)))


@lru_cache(maxsize=512)
def signed_rank_cut(n: int, level: float) -> int:
    """The largest t with 2·P(T+ ≤ t) ≤ 1 − level; −1 where n is too small (5 blocks reach 93.75 %
    at most)."""
    if n <= EXACT_UP_TO:
        return (
            int(np.searchsorted(signed_rank_cdf(n), (1 - level) / 2 * (1 + 1e-12), side="right"))
            - 1
        )
    mean, sd = n * (n + 1) / 4, np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    return int(np.floor(mean - 0.5 + sd * special.ndtri((1 - level) / 2)))


def nonpositive(values: np.ndarray) -> int:
    """How many Walsh averages are zero or less."""
    ordered = np.sort(values)
    upto = np.searchsorted(ordered, -ordered, side="right")
    return int(np.maximum(upto - np.arange(ordered.size), 0).sum())


def hodges_lehmann(differences, level: float = 0.95) -> Interval:
    """The median of Walsh averages and its signed-rank interval (Hodges & Lehmann 1963; Hollander &
    Wolfe 1999, §3.2–3.3).

    Zero differences and ties count against a difference, so the interval is never too short for
    them.
    """
    values = np.asarray(differences, float)
    values = values[np.isfinite(values)]
    n = values.size
    if n == 0:
        return Interval(float("nan"), None, None, 0)
    cut = signed_rank_cut(n, level)
    median, low, high = (value / 2 for value in ranked_sums(values, values, cut, halves=True))
    p = signed_rank_p(min(nonpositive(values), nonpositive(-values)), n)
    bounds = (low, high) if cut >= 0 else (None, None)
    return Interval(median, *bounds, n, p)


def ratio(values, baseline, level: float = 0.95) -> Interval:
    """Hodges–Lehmann on log ratios, exponentiated: 0.8 means 20 % less, and noise that multiplies
    does not skew it."""
    values, baseline = np.asarray(values, float), np.asarray(baseline, float)
    good = (values > 0) & (baseline > 0)
    logs = hodges_lehmann(np.log(values[good] / baseline[good]), level)
    low, high = (None if end is None else float(np.exp(end)) for end in (logs.low, logs.high))
    return Interval(float(np.exp(logs.estimate)), low, high, logs.n, logs.p)


def shift(base, new, level: float = 0.95) -> Interval:
    """The unpaired Hodges–Lehmann shift new − base with its rank-sum interval (Hollander & Wolfe
    1999, §4.2–4.3), normal approximation."""
    base, new = np.asarray(base, float), np.asarray(new, float)
    m, n = base.size, new.size
    if not m or not n:
        return Interval(float("nan"), None, None, 0)
    spread = np.sqrt(m * n * (m + n + 1) / 12)
    cut = int(np.floor(m * n / 2 - 0.5 + special.ndtri((1 - level) / 2) * spread))
    median, low, high = ranked_sums(new, -base, cut)
    if cut < 0 or min(m, n) < 4:
        return Interval(median, None, None, min(m, n))
    return Interval(median, low, high, min(m, n))


@lru_cache(maxsize=2048)
def quantile_ranks(n: float, q: float, level: float) -> tuple[float, float] | None:
    """Fractional ranks whose order statistics miss the quantile with probability (1 − level)/2
    each, by Beta(r, n+1−r) (Hutson 1999)."""
    tail = (1 - level) / 2

    def beyond(r: float) -> float:
        return float(special.betainc(r, n + 1 - r, q))

    if beyond(1.0) < 1 - tail or beyond(n) > tail + 1e-9:
        return None

    def falls_to(share: float) -> float:
        low, high = 1.0, float(n)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if beyond(middle) > share else (low, middle)
        return high

    return falls_to(1 - tail), falls_to(tail)


def at_rank(ordered: np.ndarray, r: float) -> np.ndarray:
    """The value at a fractional rank (1 … n) of sorted values, linear between neighbours."""
    below = int(min(max(np.floor(r), 1), ordered.shape[-1]))
    above = min(below + 1, ordered.shape[-1])
    return ordered[..., below - 1] + (r - below) * (
        ordered[..., above - 1] - ordered[..., below - 1]
    )


def quantile(values, q: float, level: float = 0.95) -> Interval:
    """A sample quantile with its distribution-free interval; the ends are None below needed(q)."""
    ordered = np.sort(np.asarray(values, float)[np.isfinite(np.asarray(values, float))])
    n = ordered.size
    if n == 0:
        return Interval(float("nan"), None, None, 0)
    ranks = quantile_ranks(n, q, level)
    ends = (
        (None, None)
        if ranks is None
        else (float(at_rank(ordered, ranks[0])), float(at_rank(ordered, ranks[1])))
    )
    return Interval(float(np.quantile(ordered, q)), *ends, n)
