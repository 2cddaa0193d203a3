"""Quantiles of two arms or two runs against each other, when the whole distribution matters and not the middle of the differences."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from lab.stats.intervals import Interval, quantile


class Change(NamedTuple):
    difference: Interval
    ratio: Interval
    """new / base; 1.3 is 30 % more."""


def unpaired(base, new, q: float = 0.5, level: float = 0.95) -> Change:
    """Two runs that share no blocks: difference and ratio of their quantile q, each with an interval from order statistics.

    Ends are None where either side is below needed(q). The square-and-add rule joins the two intervals (Zou & Donner 2008, MOVER).
    """
    base, new = (np.asarray(side, float) for side in (base, new))
    base, new = base[np.isfinite(base)], new[np.isfinite(new)]
    n = min(base.size, new.size)
    if not n:
        nothing = Interval(float("nan"), None, None, 0)
        return Change(nothing, nothing)
    difference = square_and_add(quantile(base, q, level), quantile(new, q, level))
    if base.min() <= 0 or new.min() <= 0:
        return Change(difference, Interval(float("nan"), None, None, n))
    logs = square_and_add(quantile(np.log(base), q, level), quantile(np.log(new), q, level))
    bounds = (None if end is None else float(np.exp(end)) for end in (logs.low, logs.high))
    return Change(difference, Interval(float(np.quantile(new, q) / np.quantile(base, q)), *bounds, n))


def square_and_add(base: Interval, new: Interval, correlation: float = 0.0) -> Interval:
    """The interval of new − base from theirs: each end squares and adds the two distances that reach for it (Zou & Donner 2008, eq. 4)."""
    estimate, n = new.estimate - base.estimate, min(base.n, new.n)
    if base.low is None or new.low is None:
        return Interval(estimate, None, None, n)
    below = _joined(new.estimate - new.low, base.high - base.estimate, correlation)
    above = _joined(new.high - new.estimate, base.estimate - base.low, correlation)
    return Interval(estimate, estimate - below, estimate + above, n)


def _joined(one: float, other: float, correlation: float) -> float:
    return float(np.sqrt(max(one**2 + other**2 - 2 * correlation * one * other, 0.0)))


def quantile_difference(rows: pd.DataFrame, q: float, level: float = 0.95) -> Interval:
    """Quantile q of an arm minus the baseline's over the same blocks (rows of pair_differences of one arm and metric)."""
    from lab.stats.quantiles import paired_quantile

    return paired_quantile(rows["baseline_value"], rows["value"], q, level, tasks=rows.get("task_id"))
