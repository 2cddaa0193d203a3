"""Where a series of independent points changed, looked at once: E-divisive (Matteson & James, JASA
109, 2014). For a series that is looked at after every point see level_shifts.py."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

LEAST = 5
"""Points on either side of a change."""
DRAWS = 299
LEVEL = 0.01
"""Of a series without any change so many are told to have one."""


def change_points(
    values: Sequence[float], level: float = LEVEL, least: int = LEAST, seed: int = 0
) -> list[int]:
    """The places at which another distribution begins, in order; positive values are compared as
    logarithms. Each split is the one with the largest energy distance, and stays where fewer than
    `level` of DRAWS shuffles of its piece find one as large."""
    return list(_change_points(tuple(map(float, values)), level, least, seed))


@lru_cache(maxsize=256)  # a page asks for the same ones at every turn
def _change_points(
    series: tuple[float, ...], level: float, least: int, seed: int
) -> tuple[int, ...]:
    values = np.array(series)
    if len(values) and values.min() > 0:
        values = np.log(values)
    rng, found = np.random.default_rng(seed), []
    pieces = [(0, len(values))]
    while pieces:
        first, end = pieces.pop()
        if end - first < 2 * least:
            continue
        piece = values[first:end]
        distances = np.abs(piece[:, None] - piece[None, :])
        size, place = _split(distances, least)
        if _p(distances, size, least, rng) <= level:
            found.append(first + place)
            pieces += [(first, first + place), (first + place, end)]
    return tuple(sorted(found))


def _split(distances: np.ndarray, least: int) -> tuple[float, int]:
    """(the largest divergence, its place): mn/(m+n) · (2·mean between − mean within each side), of
    m points before and n after (eqs. 5 and 6, with exponent 1)."""
    total = len(distances)
    m = np.arange(least, total - least + 1)
    n = total - m
    # Sums over the square before, and after, each place, by growing one row and column at a time.
    sums = np.cumsum(np.cumsum(distances, axis=0), axis=1)
    before = sums[m - 1, m - 1]
    across = sums[m - 1, total - 1] - before
    after = sums[-1, -1] - before - 2 * across
    within = before / (m * np.maximum(m - 1, 1)) + after / (n * np.maximum(n - 1, 1))
    divergence = m * n / (m + n) * (2 * across / (m * n) - within)
    best = int(np.argmax(divergence))
    return float(divergence[best]), int(m[best])


def _p(distances: np.ndarray, size: float, least: int, rng: np.random.Generator) -> float:
    """Of shuffles that find a divergence as large, this order among them; no more are drawn than
    it takes to tell (Besag & Clifford 1991)."""
    larger = 0
    for drawn in range(1, DRAWS + 1):
        order = rng.permutation(len(distances))
        larger += _split(distances[np.ix_(order, order)], least)[0] >= size
        if larger >= 20:
            return larger / drawn
    return (larger + 1) / (DRAWS + 1)
