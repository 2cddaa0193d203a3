"""A share made of sums, such as tokens read of those that could have been: its interval by a
bootstrap over the units that the sums are of."""

from __future__ import annotations

import numpy as np
from scipy.special import betaincinv

from lab.metrics import FEWEST_BLOCKS
from lab.stats.intervals import Interval

DRAWS, MOST_UNITS = 2_000, 1_000


def draws(parts: np.ndarray, wholes: np.ndarray, seed: int = 0) -> np.ndarray:
    """Σ part / Σ whole under random weights of the units (Bayesian bootstrap, Rubin 1981)."""
    if len(parts) > MOST_UNITS:  # neighbours together, which keeps what they have in common
        cuts = np.linspace(0, len(parts), MOST_UNITS, endpoint=False).astype(int)
        parts, wholes = np.add.reduceat(parts, cuts), np.add.reduceat(wholes, cuts)
    weights = np.random.default_rng(seed).exponential(size=(DRAWS, len(parts)))
    return (weights @ parts) / (weights @ wholes)


def share(parts, wholes, level: float = 0.95) -> Interval:
    """Σ part / Σ whole with its interval; the ends are None for fewer than FEWEST_BLOCKS units.

    Where all units have nothing, or all have the whole, resampling sees no spread: there an end is
    as far away as one unit in n that nobody saw yet may be (Clopper & Pearson 1934).
    """
    parts, wholes = np.asarray(parts, float), np.asarray(wholes, float)
    parts, wholes = parts[wholes > 0], wholes[wholes > 0]
    n = len(wholes)
    if not n:
        return Interval(float("nan"), None, None, 0)
    estimate = float(parts.sum() / wholes.sum())
    if n < FEWEST_BLOCKS:
        return Interval(estimate, None, None, n)
    tail = (1 - level) / 2
    low, high = (float(end) for end in np.quantile(draws(parts, wholes), [tail, 1 - tail]))
    unseen = tail ** (1 / n)
    if (parts >= wholes).all():
        low = min(low, unseen)
    if (parts <= 0).all():
        high = max(high, 1 - unseen)
    return Interval(estimate, low, high, n)


def mean(values, level: float = 0.95) -> Interval:
    """Of units that may be very unequal, such as dollars a turn; ends as in share()."""
    values = np.asarray(values, float)
    n = len(values)
    if n < FEWEST_BLOCKS:
        return Interval(float(values.mean()) if n else float("nan"), None, None, n)
    drawn = draws(values, np.ones(n))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high), n)


def proportion(hits: int, n: int, level: float = 0.95) -> Interval:
    """How many of n, exactly (Clopper & Pearson 1934)."""
    if not n:
        return Interval(float("nan"), None, None, 0)
    tail = (1 - level) / 2
    low = betaincinv(hits, n - hits + 1, tail) if hits else 0.0
    high = betaincinv(hits + 1, n - hits, 1 - tail) if hits < n else 1.0
    return Interval(hits / n, float(low), float(high), n)
