"""After which delay to ask again, and how long the slowest waits will then be: from waits that were
recorded. Pure numbers; times in ms.

Of a wait T with the share S(t) = P(T > t) still waiting at t, asked again after d ms:

    both asked at t ≥ d still wait   S(t) · S(t − d)    where equal requests draw by themselves
                                     S(t)               where they share their luck

A share c of requests is taken to share its luck, the correlation of two equal ones: c = 0 is what
hedging is sold by (Dean & Barroso 2013), at c = 1 it buys nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lab import units
from lab.metrics import needed, supported
from lab.model import LabError
from lab.stats import Interval

QUANTILE, LEVEL, DRAWS, SEED = 0.95, 0.95, 1000, 0
MOST_TWICE = 0.10
"""The share of requests that may be asked twice. With 1 − q or less the q-quantile itself cannot
move: no twin is sent before it."""


class Plan(NamedTuple):
    delay_ms: float
    n: int
    """Recorded waits it is made of."""
    twice: Interval
    """The share of requests that will be asked twice."""
    before: Interval
    """The quantile as recorded."""
    after: Interval
    """The same once late requests are asked again: predicted, with the interval of what holds."""
    in_a_run: tuple[float, float]
    """Where a run of so many blocks will measure it: the interval, and the run's own luck."""
    correlation: float


def plan(
    waits: np.ndarray,
    correlation: float | np.ndarray = 0.0,
    most_twice: float = MOST_TWICE,
    delay_ms: float | None = None,
    q: float = QUANTILE,
    blocks: int | None = None,
) -> Plan:
    """The shortest delay that asks no more than `most_twice` of the recorded requests again (or the
    one given), and what it will do to quantile q.

    The Bayesian bootstrap of lab.stats.quantiles: each recorded wait has a random weight. A
    `correlation` that was itself measured comes as its DRAWS draws. `blocks` are those of the run
    that will measure it, as many as recorded waits by default. LabError where these cannot carry
    the quantile.
    """
    waits = np.sort(np.asarray(waits, float))
    enough(waits.size, q)
    delay = float(np.quantile(waits, 1 - most_twice, method="inverted_cdf"))
    delay = delay if delay_ms is None else float(delay_ms)
    weights = _weights(waits.size)
    shared = np.broadcast_to(np.clip(correlation, 0, 1), DRAWS)[:, None]
    once, hedged = Waits(waits, weights), Waits(waits, weights, delay, shared)
    even = np.full((1, waits.size), 1 / waits.size)
    middle = np.array([[float(np.mean(shared))]])
    luck = _luck(q, blocks or waits.size)
    return Plan(
        delay_ms=delay,
        n=waits.size,
        twice=_interval(float(np.mean(waits > delay)), once.beyond(delay), waits.size),
        before=_interval(float(np.quantile(waits, q)), once.quantile(q), waits.size),
        after=_interval(
            float(Waits(waits, even, delay, middle).quantile(q)[0]),
            hedged.quantile(q),
            waits.size,
        ),
        in_a_run=_ends(hedged.quantile(luck)),
        correlation=float(middle[0, 0]),
    )


def enough(n: int, q: float = QUANTILE) -> None:
    """LabError where so many waits cannot carry the quantile."""
    if not supported(n, q, LEVEL):
        name = units.quantile(q)
        raise LabError(
            f"A plan for {name} needs {needed(q, LEVEL)} recorded times to first token, and there"
            f" {'is' if n == 1 else 'are'} {n}: with fewer, {name} itself is not known. Record"
            " more of them, or choose another run."
        )


class Waits:
    """The distribution of waits for each draw of weights (draws, n); asked again after `delay_ms`
    where one is given."""

    def __init__(self, waits, weights, delay_ms=None, correlation=0.0) -> None:
        self.below = np.concatenate(
            [np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1
        )
        self.waits, self.at = waits, waits
        if delay_ms is not None:
            self.at = np.sort(np.concatenate([waits, waits + delay_ms]))
        alone = 1 - self._share(self.at)
        if delay_ms is not None:
            both = alone * (1 - self._share(self.at - delay_ms))
            alone = correlation * alone + (1 - correlation) * both
        self.shares = 1 - alone
        """(draws, places): by when so much has its first token."""

    def _share(self, at: np.ndarray) -> np.ndarray:
        return self.below[:, np.searchsorted(self.waits, at, side="right")]

    def beyond(self, at: float) -> np.ndarray:
        """The share that waits longer, of each draw."""
        return 1 - self._share(np.array([at]))[:, 0]

    def quantile(self, q: float | np.ndarray) -> np.ndarray:
        """Of each draw; q may be another for each."""
        wanted = np.broadcast_to(q, len(self.shares))[:, None]
        place = (self.shares < wanted - 1e-12).sum(axis=1)
        return self.at[np.minimum(place, self.at.size - 1)]


def correlation_of_pairs(first, second, delay_ms: float) -> np.ndarray | None:
    """DRAWS draws of the correlation of being late, from pairs of equal requests: (P(both late) −
    p²) / (p − p²). None where no request, or each, was late."""
    first, second = np.asarray(first, float) > delay_ms, np.asarray(second, float) > delay_ms
    late = _shares(first), _shares(second)  # the same weights, since the same pairs
    return _correlation((late[0] + late[1]) / 2, _shares(first & second))


def correlation_of_tied(once, tied, delay_ms: float) -> np.ndarray | None:
    """The same from requests sent at once, of which the later is never seen: that both are late is
    that the first to begin is. `once` are waits of single ones."""
    once, tied = np.asarray(once, float), np.asarray(tied, float)
    return _correlation(_shares(once > delay_ms), _shares(tied > delay_ms, SEED + 1))


def summary(correlation: np.ndarray, n: int) -> Interval:
    return _interval(float(np.median(correlation)), correlation, n)


def _correlation(late: np.ndarray, both: np.ndarray) -> np.ndarray | None:
    if not 0 < late.mean() < 1:
        return None
    return np.clip((both - late**2) / (late - late**2), 0, 1)


def _shares(is_late: np.ndarray, seed: int = SEED) -> np.ndarray:
    return _weights(is_late.size, seed) @ is_late.astype(float) if is_late.size else np.zeros(DRAWS)


def _weights(n: int, seed: int = SEED) -> np.ndarray:
    drawn = np.random.default_rng(seed).exponential(size=(DRAWS, n))
    return drawn / drawn.sum(axis=1, keepdims=True)


def _luck(q: float, n: int) -> np.ndarray:
    """At which share of the true distribution the q-quantile of n waits lies: between its order
    statistics, Beta(h, n + 1 − h) with h = q (n − 1) + 1 (David & Nagaraja 2003, §2.1)."""
    place = q * (n - 1) + 1
    return np.random.default_rng(SEED + 2).beta(place, n + 1 - place, DRAWS)


def _ends(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _interval(estimate: float, drawn: np.ndarray, n: int) -> Interval:
    return Interval(estimate, *_ends(drawn), n)
