"""When a level moved, in two series that are looked at again after every new point.

Each look fits, to the newest points of a stretch, a daily wave and one step at each of some dozen
places, and asks whether any step is larger than noise would make it in a month of such looks. It
needs no look-up tables and no permutations: a permutation test at every look would take 10⁵ draws
to say one in 10⁵, and would take the hours of a day for changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import numpy as np
import scipy
from scipy.special import stdtr, stdtrit

ALARMS_A_MONTH = 0.1
"""False alarms that are put up with, in 30 days of looks: one in ten months."""
FEWEST, FEWEST_BEFORE, FEWEST_AFTER = 12, 8, 4
"""Points of a stretch before it is looked at, and on either side of a step."""
MOST = 1_500
"""Points that a look goes back; older ones say nothing of today."""
LOOKS_A_WINDOW = 20.0
"""While w points go by, a mean of w of them passes z standard errors as often as z² separate ones
would (Pickands 1969), near z = 4.5; and never more often than it is looked at."""
WAVES = ((24.0, 0.15), (12.0, 0.07))
"""Hours of a wave, and how high it usually is, in logarithms (0.15: some 15 %). Where two days are
there, the wave is what they show; before, no step is told that such a wave could make."""
CLIP = 4.0
"""An outlier counts as so many robust standard deviations."""
MOST_LAGS = 12
TAKEN, SWALLOWED = 6, 3
"""What the fit takes of the degrees of freedom, and of the slowest cosines."""
CLEAR, CLEARER = 4.0, 9.0
"""By how much the second best account of a step must fit worse, in χ²: e² as likely. More between
"both alike" and "yours stood": as many ms are few in yours, and what is seen early is seen by a
chance that helped it."""
UNEQUAL = 6.63
"""χ² from which on no simple account of a step holds: one in a hundred by chance."""
PATIENT = 96
"""Points after a step of the control that is too few ms to be seen in yours: a day, every 15
minutes. Then yours is held to stand."""
TO_SD = 1.4826


class Moved(NamedTuple):
    """A step of a series in logarithms, with its 95 % interval, and its size in standard errors."""

    value: float
    low: float
    high: float
    z: float

    @property
    def is_none(self) -> bool:
        return self.low <= 0 <= self.high


class Shift(NamedTuple):
    at: int
    """The first point of the new level."""
    whose: str
    """service (both moved alike: by as many per cent, by as many ms, or by something between),
    yours, control (the other stood), or both (each its own way)."""
    control: Moved
    yours: Moved
    apart: Moved
    """Yours less the control's: what is left of a step that both made is nothing."""
    p: float
    """Of the step that was found, at this one look."""
    added_ms: float | None
    """What both took longer, where they moved by as many ms and not by as many per cent: the
    interval of their difference in ms reaches no further than half of it."""


def look(
    control: Sequence[float],
    yours: Sequence[float],
    hours: Sequence[float],
    looks_a_month: float,
    alarms: float = ALARMS_A_MONTH,
) -> Shift | None:
    """The step that the last point makes certain, None where there is none yet. `control` and
    `yours` are logarithms of times, one each a point, none missing; `hours` when they were taken.

    Every width of window has the same share of the month's `alarms`, and of that each of three
    series: the mean of both, their difference, and yours. A test is Student's at the level that
    this leaves (Bonferroni), so the bound is the sum of what the tests may say wrongly.
    """
    n = len(control)
    if n < FEWEST:
        return None
    stretch = _Stretch(control, yours, hours)
    widths = _widths(stretch.n)
    places = stretch.n - widths
    looks = looks_a_month * np.minimum(LOOKS_A_WINDOW / widths, 1.0)
    allowed = np.minimum(alarms / (3 * len(_widths(MOST)) * looks), 0.05)
    best, where = inf, None
    for series in (stretch.mean, stretch.apart, stretch.yours):
        if not stretch.could_hold(series, places, allowed):
            continue
        steps = stretch.steps(series, places)
        p = 2 * stdtr(steps.freedom, -np.abs(steps.z))
        rarest = int(np.argmin(p / allowed))
        if p[rarest] / allowed[rarest] < min(best, 1.0):
            best = float(p[rarest] / allowed[rarest])
            where = series, int(places[rarest]), float(p[rarest])
    if where is None:
        return None
    series, place, p = where
    at = stretch.placed(series, int(place))
    shift = stretch.account(at, p)
    return shift and shift._replace(at=shift.at + n - stretch.n)


def moved(
    control: Sequence[float], yours: Sequence[float], hours: Sequence[float], at: int
) -> Shift | None:
    """A step at a known place, by all points there are by now; None where a side has too few."""
    stretch = _Stretch(control, yours, hours)
    at -= len(control) - stretch.n
    if not 2 <= at <= stretch.n - 2 or stretch.n < FEWEST:
        return None
    return stretch.account(at, 0.0, is_sure=True)


def _widths(n: int) -> np.ndarray:
    """Four an octave: a step is never far from the end of one of them."""
    most = max(n - FEWEST_BEFORE, FEWEST_AFTER)
    count = int(4 * np.log2(most / FEWEST_AFTER)) + 1
    return np.unique(np.round(FEWEST_AFTER * 2 ** (np.arange(count) / 4)).astype(int))


class _Steps(NamedTuple):
    value: np.ndarray
    error: np.ndarray
    z: np.ndarray
    freedom: float


class _Stretch:
    """The newest points of one level, with what a day does to them."""

    def __init__(self, control, yours, hours) -> None:
        control, yours, hours = (np.asarray(x, float)[-MOST:] for x in (control, yours, hours))
        self.n = len(hours)
        self.control, self.yours = control, yours
        self.mean, self.apart = (control + yours) / 2, yours - control
        turns = [2 * np.pi * hours / period for period, _ in WAVES]
        waves = [wave for turn in turns for wave in (np.sin(turn), np.cos(turn))]
        self.columns = np.column_stack([np.ones(self.n), *waves])
        usual = [0.0, *np.repeat([1 / height**2 for _, height in WAVES], 2)]
        self.usual = np.diag(usual)
        self.gram = self.columns.T @ self.columns
        self.sums = np.vstack([np.zeros(5), np.cumsum(self.columns, axis=0)])
        self.known: dict[tuple[int, int | None], tuple[np.ndarray, float, float]] = {}

    def could_hold(self, series: np.ndarray, places: np.ndarray, allowed: np.ndarray) -> bool:
        """Whether the noise between neighbours, of which a step has no part and a swing little,
        leaves room for one: most looks end here, at a tenth of the work."""
        apart = np.abs(np.diff(series))
        variance = max((TO_SD * float(np.median(apart))) ** 2 / 2, 1e-12) / 2
        steps = self._steps(self._clipped(series), variance, places, inf)
        return bool((2 * stdtr(self.n, -np.abs(steps.z)) < allowed).any())

    def steps(self, series: np.ndarray, places: np.ndarray, at: int | None = None) -> _Steps:
        """Of a step at each place: what follows it is so much higher, less the wave.

        Least squares in which the waves have their usual height as a prior (a ridge), and each
        point the long-run variance of the noise: what a mean of many neighbours still varies.
        Where it is known that a step is `at` a place, outliers are those of either side.
        """
        values, variance, freedom = self._noise(series, at)
        return self._steps(values, variance, places, freedom)

    def _steps(
        self, values: np.ndarray, variance: float, places: np.ndarray, freedom: float
    ) -> _Steps:
        inverse = np.linalg.inv(self.gram / variance + self.usual)
        of_step = (self.sums[-1] - self.sums[places]) / variance
        totals = np.concatenate([[0.0], np.cumsum(values)])
        of_values = self.columns.T @ values / variance
        own = (self.n - places) / variance - np.einsum("ij,jk,ik->i", of_step, inverse, of_step)
        shared = (totals[-1] - totals[places]) / variance - of_step @ inverse @ of_values
        own = np.maximum(own, 1e-12)
        value, error = shared / own, 1 / np.sqrt(own)
        return _Steps(value, error, value / error, freedom)

    def _clipped(self, series: np.ndarray, at: int | None = None) -> np.ndarray:
        """About its median; with `at` about those of either side, else the few points of a new
        level would be outliers themselves, and their step no larger than CLIP."""
        middle = np.full(self.n, np.median(series))
        if at is not None:
            middle[:at], middle[at:] = np.median(series[:at]), np.median(series[at:])
        spread = max(TO_SD * float(np.median(np.abs(series - middle))), 1e-6)
        return np.clip(series, middle - CLIP * spread, middle + CLIP * spread)

    def _noise(self, series: np.ndarray, at: int | None) -> tuple[np.ndarray, float, float]:
        """The series without outliers, the long-run variance of its noise and the degrees of
        freedom, from what a step leaves over: the one `at`, else the best."""
        key = id(series), at
        if key not in self.known:
            values = self._clipped(series, at)
            variance = max(float(values.var()), 1e-12)
            place = at
            if place is None:
                every = np.arange(FEWEST_AFTER, self.n - FEWEST_AFTER + 1)
                steps = self._steps(values, variance, every, inf)
                place = int(every[int(np.argmax(np.abs(steps.z)))])
            variance, lags = long_run(self._rest(values, variance, place))
            self.known[key] = values, variance, max(self.n - TAKEN - lags, 3)
        return self.known[key]

    def _rest(self, values: np.ndarray, variance: float, place: int) -> np.ndarray:
        step = (np.arange(self.n) >= place).astype(float)
        x = np.column_stack([self.columns, step])
        usual = np.zeros((6, 6))
        usual[:5, :5] = self.usual
        return values - x @ np.linalg.solve(x.T @ x / variance + usual, x.T @ values / variance)

    def placed(self, series: np.ndarray, near: int) -> int:
        """Where exactly: the most certain of all places that are not far from the one found."""
        reach = max((self.n - near) // 2, 3)
        every = np.arange(max(near - reach, FEWEST_AFTER), min(near + reach, self.n - 2) + 1)
        return int(every[int(np.argmax(np.abs(self.steps(series, every, near).z)))])

    def account(self, at: int, p: float, is_sure: bool = False) -> Shift | None:
        """Whose step it is: of "both alike", "the control stood" and "yours stood" the one that the
        points contradict least. None while two of them fit about as well.

        What serves both may add a share of each, as many ms to each (a network, a queue), or some
        of either: then yours moves by more ms and by a smaller share than a shorter control.
        """
        place = np.array([at])
        # Shares of a common level, since the waves have their height in shares.
        scale = float(np.exp(max(np.median(self.control), np.median(self.yours))))
        control_ms, yours_ms = np.exp(self.control) / scale, np.exp(self.yours) / scale
        levels = (self.control, self.yours, self.apart, control_ms, yours_ms, yours_ms - control_ms)
        steps = [self.steps(series, place, at) for series in levels]
        control, yours, apart, *in_ms, apart_ms = (self._moved(step) for step in steps)
        is_between = apart.value * apart_ms.value <= 0
        alike = 0.0 if is_between else min(apart.z**2, apart_ms.z**2)
        against = {"service": alike, "yours": control.z**2, "control": yours.z**2}
        first, second, third = sorted(against, key=against.get)
        whose = first if against[first] < UNEQUAL else "both"
        clear = CLEARER if third == "yours" else CLEAR
        if whose != "both" and against[second] - against[first] < clear:
            is_hidden = third == "yours" and yours.is_none
            if not is_sure and not (is_hidden and self.n - at >= PATIENT):
                return None
            whose = "control" if is_hidden else first
        added = min(in_ms, key=lambda moved: moved.high - moved.low).value
        # A difference that was not proven is no proof of none.
        is_alike = max(abs(apart_ms.low), abs(apart_ms.high)) <= abs(added) / 2
        is_in_ms = whose == "service" and apart_ms.is_none and is_alike and not apart.is_none
        return Shift(at, whose, control, yours, apart, p, scale * added if is_in_ms else None)

    def _moved(self, steps: _Steps) -> Moved:
        value, error = float(steps.value[0]), float(steps.error[0])
        reach = error * float(stdtrit(steps.freedom, 0.975))
        return Moved(value, value - reach, value + reach, float(steps.z[0]))


def long_run(rest: np.ndarray) -> tuple[float, int]:
    """The variance of √n·mean(rest), and the lags that an autoregression took: the larger of two
    estimates, and never below the variance of one point.

    One is an autoregression whose order Akaike's criterion chooses (Den Haan & Levin 1997), the
    other the mean of the slowest cosines (EWC of Lazarus, Lewis, Stock & Watson 2018): a slow swing
    under much plain noise is seen by the second alone.
    """
    n = len(rest)
    rest = rest - rest.mean()
    plain, left, total, order = _autoregression(rest)
    if plain <= 0:
        return 1e-12, 0
    # A short series shows less of what its neighbours have in common than there is (Kendall 1954).
    total = min(total + (1 + 3 * max(total, 0.0)) / n * bool(order), 0.97)
    scale = n / max(n - TAKEN - order, 1)
    cosines = int(0.4 * n ** (2 / 3))
    slow = scipy.fft.dct(rest, norm="ortho")[1 : cosines + 1]
    swing = float(slow @ slow) / max(cosines - SWALLOWED, 1)
    return max(left * scale / (1 - total) ** 2, plain * scale, swing), order


def _autoregression(rest: np.ndarray) -> tuple[float, float, float, int]:
    """(variance, innovations' variance, sum of weights, order), by the recursion of Levinson and
    Durbin: each order comes from the one before."""
    n = len(rest)
    most = min(MOST_LAGS, n // 8)
    products = [float(rest @ rest) / n]
    products += [float(rest[lag:] @ rest[:-lag]) / n for lag in range(1, most + 1)]
    if products[0] <= 0:
        return 0.0, 0.0, 0.0, 0
    products, weights, left = np.array(products), np.zeros(0), products[0]
    best = n * np.log(left), left, 0.0, 0
    for order in range(1, most + 1):
        pull = (products[order] - weights @ products[order - 1 : 0 : -1]) / left
        weights = np.append(weights - pull * weights[::-1], pull)
        left *= max(1 - pull**2, 1e-6)
        best = min(best, (n * np.log(left) + 2 * order, left, float(weights.sum()), order))
    return float(products[0]), *best[1:]
