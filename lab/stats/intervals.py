"""Intervals that assume no bell curve: signed ranks for paired blocks, order statistics for quantiles, and how far n carries one."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, log
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

EXACT_UP_TO = 120
LISTED_UP_TO = (
    300  # blocks whose pairs are listed and ranked; beyond it they are counted, which costs n·log n
)
"""Signed-rank probabilities are exact to this many blocks; beyond, the normal approximation is off by less than 1e-4."""


class Interval(NamedTuple):
    """`low` and `high` are None where n cannot reach the level at all."""

    estimate: float
    low: float | None
    high: float | None
    n: int
    p: float = 1.0
    """Two-sided p-value of "no difference", from the same distribution as the interval, so the two cannot disagree."""

    @property
    def half_width(self) -> float | None:
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def needed(q: float, level: float = 0.95) -> int:
    """The fewest values whose order statistics bound the quantile on both sides: 6 for the median, 36, 72, 368 for p90, p95, p99."""
    return ceil(log((1 - level) / 2) / log(max(q, 1 - q)) - 1e-9)


def supported(n: int, q: float, level: float = 0.95) -> bool:
    """Whether n values can carry a two-sided bound of quantile q; below, show it greyed."""
    return n >= needed(q, level)


@lru_cache(maxsize=512)
def signed_rank_cdf(n: int) -> np.ndarray:
    """P(T+ ≤ t) for t = 0 … n(n+1)/2 under symmetry about zero, by counting subsets of ranks (Hollander & Wolfe 1999, §3.1, comment 5)."""
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
    return float(min(1.0, 2 * stats.norm.cdf((t + 0.5 - mean) / sd)))


@lru_cache(maxsize=512)
def signed_rank_cut(n: int, level: float) -> int:
    """The largest t with 2·P(T+ ≤ t) ≤ 1 − level; −1 where n is too small (5 blocks reach 93.75 % at most)."""
    if n <= EXACT_UP_TO:
        return (
            int(np.searchsorted(signed_rank_cdf(n), (1 - level) / 2 * (1 + 1e-12), side="right"))
            - 1
        )
    mean, sd = n * (n + 1) / 4, np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    return int(np.floor(mean - 0.5 + sd * stats.norm.ppf((1 - level) / 2)))


@lru_cache(maxsize=4)
def pairs_of(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Both indices of the n(n+1)/2 pairs: every metric of a run asks for the same, and for 1,000 blocks they are half the work."""
    return np.triu_indices(n)


def walsh(differences: np.ndarray) -> np.ndarray:
    """The n(n+1)/2 averages of pairs, each value with itself too, in no order (Walsh 1949)."""
    i, j = pairs_of(differences.shape[-1])
    return (differences[..., i] + differences[..., j]) / 2


def nonpositive(values: np.ndarray) -> int:
    """How many Walsh averages are zero or less."""
    ordered = np.sort(values)
    return (
        int(np.searchsorted(ordered, -ordered, side="right").sum() + np.count_nonzero(ordered <= 0))
        // 2
    )


def ranked(values: np.ndarray, cut: int) -> tuple[float, float, float]:
    """The median, and the values with `cut` others below and above; without the full sort that would be most of a run's time."""
    cut, last = max(cut, 0), values.size - 1
    places = [last // 2, values.size // 2, cut, last - cut]
    ordered = np.partition(values, sorted(set(places)))
    return (
        (float(ordered[places[0]]) + float(ordered[places[1]])) / 2,
        float(ordered[cut]),
        float(ordered[last - cut]),
    )


def ranked_sums(
    new: np.ndarray, old: np.ndarray, cut: int, halves: bool
) -> tuple[float, float, float]:
    """ranked() of all sums new + old without making them: by halving an interval and counting (the problem is Johnson & Mizoguchi 1978).

    `halves`: new and old are the same values and each pair counts once, as the Walsh averages want it (times two).
    """
    new, old = np.sort(new), np.sort(old)
    total = new.size * (new.size + 1) // 2 if halves else new.size * old.size
    cut = max(cut, 0)

    def at(place: int) -> float:
        low, high = new[0] + old[0], new[-1] + old[-1]
        for _ in range(64):
            middle = (low + high) / 2
            below = int(np.searchsorted(old, middle - new, side="right").sum())
            if halves:
                below = (below + int(np.searchsorted(new, middle / 2, side="right"))) // 2
            low, high = (low, middle) if below > place else (middle, high)
            if high - low <= abs(high) * 1e-14:
                break
        return float(high)

    places = {place: at(place) for place in {(total - 1) // 2, total // 2, cut, total - 1 - cut}}
    return (places[(total - 1) // 2] + places[total // 2]) / 2, places[cut], places[total - 1 - cut]


def hodges_lehmann(differences, level: float = 0.95) -> Interval:
    """The median of Walsh averages and its signed-rank interval (Hodges & Lehmann 1963; Hollander & Wolfe 1999, §3.2–3.3).

    Zero differences and ties count against a difference, so the interval is never too short for them.
    """
    values = np.asarray(differences, float)
    values = values[np.isfinite(values)]
    n = values.size
    if n == 0:
        return Interval(float("nan"), None, None, 0)
    cut = signed_rank_cut(n, level)
    if n <= LISTED_UP_TO:
        averages = walsh(values)
        below, above = np.count_nonzero(averages <= 0), np.count_nonzero(averages >= 0)
        median, low, high = ranked(averages, cut)
    else:
        below, above = nonpositive(values), nonpositive(-values)
        median, low, high = (value / 2 for value in ranked_sums(values, values, cut, halves=True))
    p = signed_rank_p(min(below, above), n)
    bounds = (low, high) if cut >= 0 else (None, None)
    return Interval(median, *bounds, n, p)


def ratio(values, baseline, level: float = 0.95) -> Interval:
    """Hodges–Lehmann on log ratios, exponentiated: 0.8 means 20 % less, and noise that multiplies does not skew it."""
    values, baseline = np.asarray(values, float), np.asarray(baseline, float)
    good = (values > 0) & (baseline > 0)
    found = hodges_lehmann(np.log(values[good] / baseline[good]), level)
    low, high = (
        None if bound is None else float(np.exp(bound)) for bound in (found.low, found.high)
    )
    return Interval(float(np.exp(found.estimate)), low, high, found.n, found.p)


def shift(base, new, level: float = 0.95) -> Interval:
    """The unpaired Hodges–Lehmann shift new − base with its rank-sum interval (Hollander & Wolfe 1999, §4.2–4.3), normal approximation."""
    base, new = np.asarray(base, float), np.asarray(new, float)
    m, n = base.size, new.size
    if not m or not n:
        return Interval(float("nan"), None, None, 0)
    p = float(stats.mannwhitneyu(new, base).pvalue)
    spread = np.sqrt(m * n * (m + n + 1) / 12)
    cut = int(np.floor(m * n / 2 - 0.5 + stats.norm.ppf((1 - level) / 2) * spread))
    small = m * n <= LISTED_UP_TO**2
    median, low, high = (
        ranked((new[:, None] - base[None, :]).ravel(), cut)
        if small
        else ranked_sums(new, -base, cut, halves=False)
    )
    if cut < 0 or min(m, n) < 4:
        return Interval(median, None, None, min(m, n), p)
    return Interval(median, low, high, min(m, n), p)


@lru_cache(maxsize=2048)
def quantile_ranks(n: float, q: float, level: float) -> tuple[float, float] | None:
    """Fractional ranks whose order statistics miss the quantile with probability (1 − level)/2 each, by Beta(r, n+1−r) (Hutson 1999)."""
    tail = (1 - level) / 2

    def beyond(r: float) -> float:
        return float(special.betainc(r, n + 1 - r, q))

    if beyond(1.0) < 1 - tail or beyond(n) > tail + 1e-9:
        return None
    low = optimize.brentq(lambda r: beyond(r) - (1 - tail), 1.0, n)
    return low, n if beyond(n) > tail else optimize.brentq(lambda r: beyond(r) - tail, 1.0, n)


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
