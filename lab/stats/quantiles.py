"""The difference of two quantiles over the same blocks, by a bootstrap that keeps blocks, and tasks
where there are many, in one piece."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lab.metrics import supported
from lab.stats.intervals import Interval

DRAWS = 1000
ENOUGH_TASKS = 20
"""Fewer tasks are taken as given: the interval then speaks of these tasks, since so few clusters
cannot tell of others."""


def quantile_difference(rows: pd.DataFrame, q: float, level: float = 0.95) -> Interval:
    """Quantile q of an arm minus the baseline's (rows of pair_differences of one arm and metric);
    ends are None below needed(q)."""
    return paired_quantile(rows["baseline_value"], rows["value"], q, level, rows.get("task_id"))


def paired_quantile(
    base, new, q: float, level: float = 0.95, tasks=None, seed: int = 0
) -> Interval:
    """Bayesian bootstrap (Rubin 1981): a block, or a task with all its blocks, has one random
    weight in both arms.

    Weights are continuous, so tasks of unequal size need no ragged resampling, and the step
    quantile reaches the largest values, where interpolation would stop short of them. Coverage:
    docs/validity.md.
    """
    base, new = np.asarray(base, float), np.asarray(new, float)
    n = base.size
    if not n:
        return Interval(float("nan"), None, None, 0)
    estimate = float(np.quantile(new, q) - np.quantile(base, q))
    if not supported(n, q, level):
        return Interval(estimate, None, None, n)
    groups = np.arange(n)
    if tasks is not None:
        codes, names = pd.factorize(pd.Series(tasks).reset_index(drop=True))
        groups = codes if len(names) >= ENOUGH_TASKS and codes.min() >= 0 else groups
    weights = np.random.default_rng(seed).exponential(size=(DRAWS, int(groups.max()) + 1))[
        :, groups
    ]
    drawn = _weighted(new, weights, q) - _weighted(base, weights, q)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), n)


def _weighted(values: np.ndarray, weights: np.ndarray, q: float) -> np.ndarray:
    """The smallest value with at least a share q of each row's weight at or below it."""
    order = np.argsort(values)
    below = np.cumsum(weights[:, order], axis=1)
    place = (below < q * below[:, -1:]).sum(axis=1)
    return values[order][np.minimum(place, values.size - 1)]
