"""What each lever does to the objective, and what two do together: a linear model of all trials so
far, with the blocks' own levels taken out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from lab.ladder.design import Configuration
from lab.stats.intervals import Interval


class Seen(NamedTuple):
    """A trial's value in the model's own unit: its logarithm, or its share of today's."""

    block: int
    configuration: Configuration
    value: float


class Model:
    """value = block + a term for each lever's level + one for each pair of levers at their first
    other level, fitted by least squares.

    Stacks differ in how much they scatter, so the covariance is the one that allows for it (HC3:
    MacKinnon & White 1985; Long & Ervin 2000, who advise it below 250 trials).
    """

    def __init__(self, trials: Sequence[Seen], with_pairs: bool = True) -> None:
        seen = {trial.configuration for trial in trials}
        width = len(next(iter(seen)))
        self.mains = sorted({(j, c[j]) for c in seen for j in range(width) if c[j]})
        self.pairs = [
            (j, k)
            for j, k in combinations(range(width), 2)
            if with_pairs and len({(min(c[j], 2), min(c[k], 2)) for c in seen} & FOUR) == len(FOUR)
        ]
        of_stack = {stack: self.terms(stack) for stack in seen}
        rows = np.array([of_stack[trial.configuration] for trial in trials], float)
        values = np.array([trial.value for trial in trials], float)
        _, of = np.unique([trial.block for trial in trials], return_inverse=True)
        sizes = np.bincount(of)
        # Less their block's own mean: the same as a term for each block (Frisch & Waugh 1933).
        rows = rows - (_sums(rows, of, len(sizes)) / sizes[:, None])[of]
        values = values - (np.bincount(of, values) / sizes)[of]
        inverse = np.linalg.pinv(rows.T @ rows, hermitian=True)
        self.effects = inverse @ rows.T @ values
        left = values - rows @ self.effects
        own = ((rows @ inverse) * rows).sum(axis=1) + 1 / sizes[of]
        weighted = rows * (left / np.clip(1 - own, 1e-6, None))[:, None]
        self.covariance = inverse @ (weighted.T @ weighted) @ inverse
        rank = int(np.linalg.matrix_rank(inverse, hermitian=True)) if rows.size else 0
        self.n, self.freedom = len(trials), len(trials) - len(sizes) - rank

    def terms(self, configuration: Configuration) -> np.ndarray:
        return np.array(
            [
                *(configuration[j] == level for j, level in self.mains),
                *(configuration[j] == configuration[k] == 1 for j, k in self.pairs),
            ],
            float,
        )

    def contrast(
        self, before: Configuration, after: Configuration, level: float = 0.95
    ) -> Interval:
        """`after` less `before`; no ends where no trial is left to tell the noise by."""
        return self.interval(self.terms(after) - self.terms(before), level)

    def interval(
        self, weights: np.ndarray, level: float = 0.95, estimate: float | None = None
    ) -> Interval:
        """Of a weighted sum of the effects; or of an estimate whose derivatives by the effects the
        weights are (delta method)."""
        estimate = float(weights @ self.effects) if estimate is None else estimate
        if self.freedom < 1:
            return Interval(estimate, None, None, self.n)
        error = float(np.sqrt(max(weights @ self.covariance @ weights, 0.0)))
        half = error * float(stdtrit(self.freedom, (1 + level) / 2))
        p = 2 * float(stdtr(self.freedom, -abs(estimate) / error)) if error else 1.0
        return Interval(estimate, estimate - half, estimate + half, self.n, p)


def _sums(rows: np.ndarray, of: np.ndarray, count: int) -> np.ndarray:
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, of, rows)
    return sums


FOUR = {(0, 0), (0, 1), (1, 0), (1, 1)}
"""The corners of a pair that must have been tried before its interaction can be told."""
