"""The sums of each value of one set with each of another, by rank, without listing them: 25,000
blocks have 312 million Walsh averages."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LISTED_UP_TO = 20_000
"""Sums that are listed and ranked; of more, an interval is narrowed until so few lie in it."""
MOST_MISSES = 3
SKETCHED = 128
"""Values of either set whose sums show about where each rank lies."""
NEAR = 0.003
"""Of all sums, how far from its rank the sketch puts one."""


class _Bound(NamedTuple):
    """A value, how many sums are no larger, and where those end in each row."""

    value: float
    count: int
    upto: np.ndarray


def ranked_sums(
    new: np.ndarray, old: np.ndarray, cut: int, halves: bool = False
) -> tuple[float, float, float]:
    """The median of all sums new + old, and the sums with `cut` others below and above.

    To count the sums up to a value costs n·log n, where to list all would cost n² (the problem is
    Johnson & Mizoguchi 1978; counting instead of listing, Monahan 1984). `halves`: new and old are
    the same values and each pair counts once, as the Walsh averages want it (times two).
    """
    sums = _Sums(np.sort(new), np.sort(old), halves)
    last, cut = sums.count - 1, max(cut, 0)
    lower, upper = sums.at(last // 2), sums.at((last + 1) // 2)
    return (lower + upper) / 2, sums.at(cut), sums.at(last - cut)


class _Sums:
    """Row i has the sums of new[i] with old[first[i]:], in their order."""

    def __init__(self, new: np.ndarray, old: np.ndarray, halves: bool):
        self.new, self.old = new, old
        self.first = np.arange(new.size) if halves else np.zeros(new.size, int)
        self.count = int((old.size - self.first).sum())
        whole = np.full(new.size, old.size)
        self.bounds = [
            _Bound(new[0] + old[0], 0, self.first),
            _Bound(new[-1] + old[-1], self.count, whole),
        ]
        """What was counted so far, in order: the next rank begins between the nearest two."""
        some = (np.arange(SKETCHED) + 0.5) / SKETCHED
        columns = [values[(some * values.size).astype(int)] for values in (new, old)]
        self.sketch = np.sort(np.add.outer(*columns), axis=None)

    def at(self, place: int) -> float:
        """The sum with so many others below it."""
        for aside in (-NEAR, NEAR):
            low, high = self._around(place)
            share = min(max(place / self.count + aside, 0.0), 1.0)
            value = self.sketch[int(share * (self.sketch.size - 1))]
            if high.count - low.count > NEAR * self.count and low.value < value < high.value:
                self._upto(value)
        low, high = self._around(place)
        misses = toward = 0
        while (before := high.count - low.count) > LISTED_UP_TO:
            # Where many sums are the same, or lie in a few heaps, a guess leads nowhere.
            is_guess = misses < MOST_MISSES
            between = self._guess(low, high, place, toward) if is_guess else 0.5
            value = low.value + between * (high.value - low.value)
            if not low.value < value < high.value:
                break
            counted = self._upto(value)
            if counted.count > place:
                high, toward = counted, -1
            else:
                low, toward = counted, 1
            misses += is_guess and high.count - low.count > before / 2
        return self._listed(low, high, place)

    def _around(self, place: int) -> tuple[_Bound, _Bound]:
        after = next(i for i, bound in enumerate(self.bounds) if bound.count > place)
        return self.bounds[after - 1], self.bounds[after]

    def _guess(self, low: _Bound, high: _Bound, place: int, toward: int) -> float:
        """Where the sum lies between two bounds, were the sums spread evenly; aimed a little beyond
        it as seen from the bound that moved last, so that the other one moves too."""
        nearest = min(place - low.count, high.count - place)
        beyond = toward * (nearest + LISTED_UP_TO / 4)
        share = (place + 0.5 + beyond - low.count) / (high.count - low.count)
        return min(max(share, 0.001), 0.999)

    def _upto(self, value: float) -> _Bound:
        upto = np.maximum(np.searchsorted(self.old, value - self.new, side="right"), self.first)
        bound = _Bound(value, int((upto - self.first).sum()), upto)
        self.bounds.append(bound)
        self.bounds.sort(key=lambda bound: (bound.value, bound.count))
        return bound

    def _listed(self, low: _Bound, high: _Bound, place: int) -> float:
        widths = high.upto - low.upto
        if widths.sum() > LISTED_UP_TO:  # ties: what is left is one and the same sum
            row = int(np.argmax(widths > 0))
            return float(self.new[row] + self.old[low.upto[row]])
        rows = np.repeat(np.arange(self.new.size), widths)
        columns = np.arange(rows.size) + np.repeat(low.upto - np.cumsum(widths) + widths, widths)
        place -= low.count
        return float(np.partition(self.new[rows] + self.old[columns], place)[place])
