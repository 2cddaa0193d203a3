"""The difference of two quantiles over the same blocks, by a bootstrap that keeps blocks, and tasks
where there are many, in one piece."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from lab.metrics import supported
from lab.stats.intervals import Interval
from lab.stats.worst_ranks import Losses, Ranked

DRAWS = 1000
ENOUGH_TASKS = 20
"""Fewer tasks are taken as given: the interval then speaks of these tasks, since so few clusters
cannot tell of others."""


class TailShift(NamedTuple):
    """Quantile q of an arm against the baseline's, over the same blocks."""

    difference: Interval
    ratio: Interval
    """Of the two; without ends where a value is not positive."""
    value: float
    baseline_value: float


def quantile_difference(rows: pd.DataFrame, q: float, level: float = 0.95) -> Interval:
    """Quantile q of an arm minus the baseline's (rows of pair_differences of one arm and metric);
    ends are None below needed(q)."""
    return paired_quantile(rows["baseline_value"], rows["value"], q, level, rows.get("task_id"))


def paired_quantile(
    base, new, q: float, level: float = 0.95, tasks=None, seed: int = 0
) -> Interval:
    return tail_shift(base, new, q, level, tasks, seed).difference


def tail_shift(base, new, q: float, level: float = 0.95, tasks=None, seed: int = 0) -> TailShift:
    """Bayesian bootstrap (Rubin 1981): a block, or a task with all its blocks, has one random
    weight in both arms.

    Weights are continuous, so tasks of unequal size need no ragged resampling, and the step
    quantile reaches the largest values, where interpolation would stop short of them. The order of
    the blocks makes no difference. Coverage: docs/validity.md.
    """
    base, new = np.asarray(base, float), np.asarray(new, float)
    n, nan = base.size, float("nan")
    if not n:
        nothing = Interval(nan, None, None, 0)
        return TailShift(nothing, nothing, nan, nan)
    order = np.lexsort((new, base))
    base, new = base[order], new[order]
    value, before = float(np.quantile(new, q)), float(np.quantile(base, q))
    ratio = value / before if before > 0 else nan
    if not supported(n, q, level):
        ends = (None, None, n)
        return TailShift(Interval(value - before, *ends), Interval(ratio, *ends), value, before)
    groups = np.arange(n)
    if tasks is not None:
        codes, names = pd.factorize(pd.Series(tasks).reset_index(drop=True)[order])
        groups = codes if len(names) >= ENOUGH_TASKS and codes.min() >= 0 else groups
    weights = np.random.default_rng(seed).exponential(size=(DRAWS, int(groups.max()) + 1))[
        :, groups
    ]
    after, earlier = _weighted(new, weights, q), _weighted(base, weights, q)
    p = _two_sided(after - earlier)
    shares = after / earlier if base.min() > 0 else None
    return TailShift(
        Interval(value - before, *_ends(after - earlier, level), n, p),
        Interval(ratio, *((None, None) if shares is None else _ends(shares, level)), n, p),
        value,
        before,
    )


def _ends(drawn: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _two_sided(drawn: np.ndarray) -> float:
    """Of "no difference": twice the smaller share of draws that do not lie on the estimate's side
    of zero, so that it is below 1 − level where the interval lies beside zero."""
    beyond = min(np.count_nonzero(drawn >= 0), np.count_nonzero(drawn <= 0))
    return min(1.0, 2 * beyond / drawn.size)


def tail_ranked(shift: TailShift, base, new, q: float, losses: Losses, sign: int, tasks) -> Ranked:
    """What the tails say with each lost trial beyond every time that was seen, as worst ranks do
    for the median (lab.stats.worst_ranks). The other trial of such a block, whose time is not
    among the pairs, counts as a usual one. Without losses it is the interval's own word."""
    lost = losses.arm + losses.baseline + losses.both
    if lost and len(base):
        beyond = 1 + 4 * max(np.abs(base).max(), np.abs(new).max())
        worst = sign * beyond
        usual = np.median(new), np.median(base)
        arm = [worst] * losses.arm + [usual[0]] * losses.baseline + [worst] * losses.both
        other = [usual[1]] * losses.arm + [worst] * (losses.baseline + losses.both)
        # Each a task of its own, where tasks stay in one piece at all.
        is_of_tasks = tasks is not None and pd.Series(tasks).nunique() >= ENOUGH_TASKS
        ids = [*tasks, *(f"lost {place}" for place in range(lost))] if is_of_tasks else None
        shift = tail_shift([*base, *other], [*new, *arm], q, tasks=ids)
    found = shift.difference
    return Ranked("faster" if sign * found.estimate < 0 else "slower", found.p, found.n)


def _weighted(values: np.ndarray, weights: np.ndarray, q: float) -> np.ndarray:
    """The smallest value with at least a share q of each row's weight at or below it."""
    order = np.argsort(values)
    below = np.cumsum(weights[:, order], axis=1)
    place = (below < q * below[:, -1:]).sum(axis=1)
    return values[order][np.minimum(place, values.size - 1)]
