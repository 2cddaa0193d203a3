"""Two runs that share no blocks: their quantiles against each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lab.metrics import supported
from lab.stats.intervals import Interval, quantile, shift


class Change(NamedTuple):
    difference: Interval
    ratio: Interval
    """new / base; 1.3 is 30 % more."""


def unpaired(base, new, q: float = 0.5, level: float = 0.95) -> Change:
    """Difference and ratio of their quantile q, each with an interval; the ends are None where
    either side is below needed(q).

    The median's is the Hodges–Lehmann shift, narrower than two medians set apart; another
    quantile's joins two intervals from order statistics by the square-and-add rule (Zou & Donner
    2008, MOVER).
    """
    base, new = (np.asarray(side, float) for side in (base, new))
    base, new = base[np.isfinite(base)], new[np.isfinite(new)]
    n = min(base.size, new.size)
    if not n:
        nothing = Interval(float("nan"), None, None, 0)
        return Change(nothing, nothing)
    difference = _apart(base, new, q, level)
    if base.min() <= 0 or new.min() <= 0:
        return Change(difference, Interval(float("nan"), None, None, n))
    logs = _apart(np.log(base), np.log(new), q, level)
    bounds = (None if end is None else float(np.exp(end)) for end in (logs.low, logs.high))
    return Change(difference, Interval(float(np.exp(logs.estimate)), *bounds, n))


def _apart(base: np.ndarray, new: np.ndarray, q: float, level: float) -> Interval:
    if q != 0.5:
        return square_and_add(quantile(base, q, level), quantile(new, q, level))
    medians = shift(base, new, level)
    return medians if supported(medians.n, q, level) else medians._replace(low=None, high=None)


def square_and_add(base: Interval, new: Interval) -> Interval:
    """The interval of new − base from theirs: each end squares and adds the two distances that
    reach for it (Zou & Donner 2008, eq. 4)."""
    estimate, n = new.estimate - base.estimate, min(base.n, new.n)
    if base.low is None or new.low is None:
        return Interval(estimate, None, None, n)
    below = _joined(new.estimate - new.low, base.high - base.estimate)
    above = _joined(new.high - new.estimate, base.estimate - base.low)
    return Interval(estimate, estimate - below, estimate + above, n)


def _joined(one: float, other: float) -> float:
    return float(np.hypot(one, other))
