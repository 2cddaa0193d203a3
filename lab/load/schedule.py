"""What a load asks and when: how many streams, which plays, and at which instants they are due.

Everything is drawn before the load begins, from its seed: a slow client cannot change a schedule,
and the same seed gives the same one. Open loop, a level begins with an arrival, and the gaps after
it are drawn. They are not stretched to fit a level's length as vLLM's are, so that Poisson
arrivals are Poisson.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice, repeat
from math import ceil, sqrt
from typing import Literal

from lab.load.profile import Level, Mode, Play
from lab.model import LabError

Arrivals = Literal["constant", "poisson", "gamma"]
ROUNDS, FEWEST_REQUESTS = 6, 96
"""Of a level: each stream has six turns at least, and a p95 its 72 requests."""
SPREAD_S, SPREAD_S_PER_STREAM = 0.2, 0.002
"""Streams that all begin at once would measure how they collide, and not a steady load."""
MOST_REQUESTS = 1_000_000
MOST_A_STREAM_S, FEWEST_BY_SECONDS, MOST_BY_SECONDS = 20, 10_000, 250_000
"""Requests that one stream of a closed loop is taken to have answered a second, and of a whole
level the fewest and the most: one that goes by its seconds gets so many plays, and leaves those
over that nobody began. The loader holds them all."""


def words(mode: Mode, target: float) -> str:
    """ "16 streams", "1 stream", "2.5 a second"."""
    if mode == "open":
        return f"{target:g} a second"
    return f"{target:g} stream{'' if target == 1 else 's'}"


def gaps(arrivals: Arrivals, shape: float, seed: int | str) -> Iterator[float]:
    """Endless gaps between arrivals at a rate of 1 a second: their mean is 1 s, their variance 0
    (constant), 1 (Poisson) or 1/shape (gamma).

    The shape is what vLLM calls burstiness (`vllm bench serve --burstiness`: gaps are
    Gamma(shape, 1 / (rate × shape))) and AIPerf arrival smoothness: at 1 the arrivals are Poisson,
    below they come in bursts, above they are steadier.
    """
    rng = random.Random(seed)
    if arrivals == "constant":
        return repeat(1.0)
    if arrivals == "poisson":
        return (rng.expovariate(1.0) for _ in repeat(None))
    return (rng.gammavariate(shape, 1 / shape) for _ in repeat(None))


def instants(
    count: int, rate: float, arrivals: Arrivals = "constant", shape: float = 1.0, seed: int = 0
) -> tuple[float, ...]:
    """So many arrivals at `rate` a second, in seconds from the first of them."""
    drawn = islice(gaps(arrivals, shape, seed), max(count - 1, 0))
    return tuple(at / rate for at in accumulate(drawn, initial=0.0))[:count]


def rising(
    low: float,
    high: float,
    seconds: float,
    arrivals: Arrivals = "constant",
    shape: float = 1.0,
    seed: int = 0,
) -> tuple[float, ...]:
    """Arrivals whose rate goes evenly from `low` to `high` a second within `seconds`.

    Arrivals of rate 1 are moved to where the integrated rate low·t + (high − low)·t²/(2·seconds)
    reaches them (Çinlar 1975, §4.7); that is solved exactly, not in steps.
    """
    whole = (low + high) / 2 * seconds
    times = []
    for unit in accumulate(gaps(arrivals, shape, seed), initial=0.0):
        # What rounding leaves of a last arrival that is due at the very end is not one more.
        if unit >= whole * (1 - 1e-12) or len(times) == MOST_REQUESTS:
            break
        root = sqrt(max(low * low + 2 * (high - low) * unit / seconds, 0.0))
        times.append(2 * unit / (low + root) if unit else 0.0)
    return tuple(times)


def dealt(known: Sequence[Play], seed: int = 0) -> Iterator[Play]:
    """Plays without end: each known one once, in an order drawn from the seed, then each once more
    in another. LabError where there is nothing to ask."""
    if not any(known):
        raise LabError("There is nothing to ask: the scenario has no request.")
    if len(known) == 1:
        return repeat(known[0])
    rng = random.Random(f"plays:{seed}")
    return chain.from_iterable(rng.sample(known, k=len(known)) for _ in repeat(None))


def plays(known: Sequence[Play], requests: int, seed: int = 0) -> tuple[Play, ...]:
    """Whole plays until there are so many requests; conversations may give a few more."""
    chosen: list[Play] = []
    for play in dealt(known, seed):
        chosen.append(play)
        requests -= len(play)
        if requests <= 0:
            return tuple(chosen)


@dataclass(frozen=True)
class Plan:
    """What the levels of a run have in common; each is made from its load alone."""

    mode: Mode
    known: tuple[Play, ...]
    """What users do: a conversation of a recording, or a single request."""
    requests: int | None = None
    """Of each level; None is as many as its streams, its objectives or its seconds ask for."""
    seconds: float | None = None
    """Open loop: how long the schedule of a level is. Closed loop: nothing here is made of it but
    enough plays; whoever leads the level begins none later."""
    least: int = FEWEST_REQUESTS
    """Requests of a level whose number nobody named."""
    arrivals: Arrivals = "constant"
    shape: float = 1.0
    at_s: tuple[float, ...] | None = None
    """Open loop: instants of the user's own, which a level stretches to its rate."""
    is_recorded: bool = False
    """Each of those is when the play in its place began; else plays are dealt from the seed."""
    seed: int = 0

    def level(self, number: int, target: float, again: bool = False) -> Level:
        """LabError where the load asks for more requests than a level may have."""
        label = words(self.mode, target) + (", again" if again else "")
        # Each level draws anew: the same gaps in all of them would share their luck.
        seed = self.seed + 1_000_003 * (number - 1)
        if self.mode == "closed":
            over_s = 0.0 if target <= 1 else max(SPREAD_S, SPREAD_S_PER_STREAM * target)
            chosen = plays(self.known, self._closed_requests(target), seed)
            return Level(number, "closed", target, chosen, None, over_s, label)
        if self.at_s is not None:
            return self._own(number, target, seed)
        count = self._open_plays(target)
        at_s = instants(count, target, self.arrivals, self.shape, seed)
        return self._open(number, target, at_s, seed, label)

    def ramp(self, number: int, low: float, high: float, seconds: float) -> Level:
        """One level in which the load goes evenly from `low` to `high`. Closed loop it only rises:
        `low` streams begin at once, the others one by one."""
        label = f"{low:g} to {words(self.mode, high)}"
        if self.mode == "open":
            at_s = rising(low, high, seconds, self.arrivals, self.shape, self.seed)
            return self._open(number, max(low, high), at_s, self.seed, label)
        if low > high:
            raise LabError("A ramp of streams rises: write the smaller number first.")
        first, last = round(low), round(high)
        steps = max(last - first, 1)
        at_s = (*[0.0] * first, *(seconds * step / steps for step in range(1, last - first + 1)))
        chosen = plays(self.known, self.requests or _by_seconds(seconds, high), self.seed)
        return Level(number, "closed", high, chosen, at_s, label=label)

    def _open(
        self, number: int, target: float, at_s: tuple[float, ...], seed: int, label: str
    ) -> Level:
        chosen = tuple(islice(dealt(self.known, seed), _within(len(at_s))))
        return Level(number, "open", target, chosen, at_s, label=label)

    def _closed_requests(self, streams: float) -> int:
        if self.requests:
            return self.requests
        if self.seconds:
            return _by_seconds(self.seconds, streams)
        return max(self.least, ceil(ROUNDS * streams))

    def _open_plays(self, rate: float) -> int:
        """A play is one arrival, however many requests it has."""
        mean = sum(map(len, self.known)) / max(len(self.known), 1)
        named = ceil((self.requests or self.least) / max(mean, 1))
        if not self.seconds:
            return _within(named)
        whole = _within(max(1, round(self.seconds * rate)))
        return min(whole, named) if self.requests else whole

    def _own(self, number: int, target: float, seed: int) -> Level:
        at_s = self._stretched(target)
        rate = words("open", float(f"{target:.3g}"))
        if not self.is_recorded:
            return self._open(number, target, at_s, seed, rate)
        is_as_it_was = abs(target / mean_rate(self.at_s) - 1) < 1e-9
        label = "as they began" if is_as_it_was else f"as they began, at {rate}"
        chosen = self.known[: _within(len(at_s))]
        return Level(number, "open", target, chosen, at_s, label=label)

    def _stretched(self, rate: float) -> tuple[float, ...]:
        last = self.at_s[-1]
        by = (len(self.at_s) - 1) / (last * rate) if last else 1.0
        times = tuple(at * by for at in self.at_s)
        if self.seconds:
            times = tuple(at for at in times if at < self.seconds)
        return times[: self.requests] if self.requests else times


def _by_seconds(seconds: float, streams: float) -> int:
    wanted = max(ceil(seconds * streams * MOST_A_STREAM_S), FEWEST_BY_SECONDS)
    return min(wanted, MOST_BY_SECONDS)


def _within(requests: int) -> int:
    if requests > MOST_REQUESTS:
        raise LabError(
            f"A level of {requests:,} requests is more than a run keeps apart; ask for at most"
            f" {MOST_REQUESTS:,}, by fewer seconds or a lower load."
        )
    return requests


def mean_rate(at_s: Sequence[float]) -> float:
    """Arrivals a second of a schedule, between its first and its last; of one instant alone, 1."""
    return (len(at_s) - 1) / at_s[-1] if at_s[-1] else float(len(at_s))
