"""Which level comes next: each of a list, or by a search for the largest load that keeps its
objectives; and what came of it, in one sentence.

A search doubles the load until it is too much, halves the distance until two loads lie next to each
other, and measures the one that was kept once more: of a dozen levels that lie near the limit one
may well have been lucky. A level is ended as soon as so many requests have missed an objective that
the others cannot make up for it. One that keeps it is measured to its end, since its percentiles
are the answer; and calls that end early are the fast ones, from which nothing is concluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from statistics import median
from typing import Literal, NamedTuple, Protocol

from lab import metrics, units
from lab.load import client_limit, schedule, slo
from lab.load.profile import CallFact, Level, LevelOutcome, Mode
from lab.load.schedule import Plan
from lab.load.slo import Held, Objective

STEP = 0.05
"""Loads that differ by less are one and the same for a search, but for whole streams."""
MOST_LEVELS = 30
LEAST_OF_FIRST = 64
"""A search of rates that begins too high goes down to this part of where it began."""
Verdict = Literal["kept", "missed", "not_enough_data", "client"]


class Steering(Protocol):
    levels: int | None
    """How many there will be; None where that is not known beforehand."""

    def next(self, outcomes: Sequence[LevelOutcome]) -> Level | None:
        """The level after those that have ended; None where it is done."""

    def cut(self, level: Level, facts: Sequence[CallFact]) -> str | None:
        """Why a level ends now, in a sentence without its end stop; `facts` are all that its calls
        have come to so far, and only grow."""


class Sweep:
    """Levels one after the other, each to its end: their figures are compared with each other."""

    def __init__(self, levels: Sequence[Level]) -> None:
        self._known, self.levels = tuple(levels), len(levels)

    def next(self, outcomes: Sequence[LevelOutcome]) -> Level | None:
        return self._known[len(outcomes)] if len(outcomes) < len(self._known) else None

    def cut(self, level: Level, facts: Sequence[CallFact]) -> str | None:
        return None


class Tried(NamedTuple):
    """A level held against its objectives."""

    number: int
    mode: Mode
    load: float
    held: tuple[Held, ...]
    client: str = ""
    """Why the client was the limit there, and not the server; else empty."""

    @property
    def is_kept(self) -> bool | None:
        """None is not enough data."""
        kept = {held.is_kept for held in self.held}
        return False if False in kept else None if None in kept or not kept else True

    @property
    def verdict(self) -> Verdict:
        if self.is_kept is None:
            return "not_enough_data"
        if self.is_kept:
            return "kept"  # by a slow client too: it only adds to what it measures
        return "client" if self.client else "missed"


def tried(outcome: LevelOutcome, objectives: Sequence[Objective]) -> Tried:
    level = outcome.level
    held = (slo.held_by(each, outcome.facts, level.mode, level.requests) for each in objectives)
    return Tried(
        level.number, level.mode, level.target, tuple(held), client_limit.of(outcome) or ""
    )


class Bracket(NamedTuple):
    low: float | None
    """The largest load that was kept whenever it was tried, below `high`."""
    high: float | None
    """The smallest one that was not."""


def bracket(known: Sequence[Tried]) -> Bracket:
    high = min((one.load for one in known if one.verdict != "kept"), default=None)
    kept = (one.load for one in known if high is None or one.load < high)
    return Bracket(max(kept, default=None), high)


@dataclass
class Search:
    """The largest load that keeps every objective, up to `most`."""

    plan: Plan
    objectives: Sequence[Objective]
    most: float
    first: float = 1.0
    """Where it begins: streams, or plays a second."""
    most_levels: int = MOST_LEVELS
    levels: int | None = None
    _tried: dict[int, Tried] = field(default_factory=dict)
    _counts: dict[int, _Count] = field(default_factory=dict)

    def next(self, outcomes: Sequence[LevelOutcome]) -> Level | None:
        known = self.tried(outcomes)
        if len(known) >= self.most_levels:
            return None
        load = self._load(known)
        is_again = any(one.load == load for one in known)
        return None if load is None else self.plan.level(len(known) + 1, load, is_again)

    def warmed_up(self, outcome: LevelOutcome) -> None:
        """Rates begin at what one stream does alone: at a lower one, a level would take minutes to
        show that it is kept."""
        took = [fact.ended_ns - fact.started_ns for fact in outcome.facts if not fact.error_kind]
        if self.plan.mode == "open" and took:
            self.first = _rounded(1e9 / max(median(took), 1))

    def tried(self, outcomes: Sequence[LevelOutcome]) -> list[Tried]:
        for outcome in outcomes:
            if outcome.level.number not in self._tried:
                self._tried[outcome.level.number] = tried(outcome, self.objectives)
        return [self._tried[outcome.level.number] for outcome in outcomes]

    def found(self, outcomes: Sequence[LevelOutcome]) -> Found:
        return found(self.tried(outcomes), self.most)

    def cut(self, level: Level, facts: Sequence[CallFact]) -> str | None:
        """Once an objective is missed whatever becomes of the calls that are left."""
        count = self._counts.setdefault(level.number, _Count([0] * len(self.objectives)))
        for place, asked in enumerate(self.objectives):
            count.misses[place] += sum(
                value is not None and not asked.meets(value)
                for value in (asked.value_of(fact, level.mode) for fact in facts[count.seen :])
            )
        count.seen = len(facts)
        for asked, misses in zip(self.objectives, count.misses, strict=True):
            may = asked.allowed(level.requests)
            if level.requests >= asked.needed and misses > may:
                return (
                    f"{misses:,} of the first {units.counted(count.seen, 'call')} missed"
                    f" {asked.words(level.mode)}, and of {level.requests:,} only {may:,} may"
                )
        return None

    def _load(self, known: Sequence[Tried]) -> float | None:
        if not known:
            return min(self.first, self.most)
        if known[-1].verdict == "not_enough_data":
            return None  # as many requests again would tell no more
        low, high = bracket(known)
        if low is None:
            return self._lower(high)
        if high is None and low < self.most:
            return min(_rounded(2 * low), self.most)
        middle = None if high is None else self._between(low, high)
        if middle is not None:
            return middle
        return low if sum(one.load == low for one in known) < 2 else None

    def _lower(self, high: float) -> float | None:
        if self.plan.mode == "closed":
            return high // 2 if high > 1 else None
        return _rounded(high / 2) if high / 2 >= self.first / LEAST_OF_FIRST else None

    def _between(self, low: float, high: float) -> float | None:
        if self.plan.mode == "closed":
            return None if high - low <= max(1, STEP * low) else (low + high) // 2
        # Of what rounding makes of a distance of exactly one step is none either.
        if high <= low * (1 + STEP) * (1 + 1e-9):
            return None
        middle = _rounded(sqrt(low * high))
        return middle if low < middle < high else None


@dataclass
class _Count:
    misses: list[int]
    seen: int = 0


def _rounded(rate: float) -> float:
    """Three figures: a rate that can be asked for again, and whole streams as they are."""
    return rate if rate == int(rate) else float(f"{rate:.3g}")


class Found(NamedTuple):
    """What a load keeps; each sentence once, for page, console, JSON and report."""

    verdict: Verdict
    """`kept` where some load was kept and the next one is known not to be, or nothing more was to
    be tried."""
    low: float | None
    high: float | None
    sentence: str
    doubt: str = ""
    """What keeps `low` from being sure, without its end stop."""


def found(known: Sequence[Tried], most: float | None = None) -> Found:
    """`known` in any order, at least one; `most` is the ceiling of a search."""
    low, high = bracket(known)
    kept = [one for one in known if one.load == low]
    over = [one for one in known if one.load == high]
    asked = " and ".join(held.objective.words(known[0].mode) for held in known[0].held)
    doubt = _doubt(kept) if kept else ""
    upto = f"Keeps {asked} {_up_to(kept)}" if kept else ""
    if not over:
        is_ceiling = most is not None and low >= most
        end = "its ceiling: more was not tried" if is_ceiling else "the most that was tried"
        return Found("kept", low, high, f"{upto}, {end}.", doubt)
    last = next((one for one in over if one.verdict == "missed"), over[-1])
    if last.verdict == "missed":
        text = f"{upto}; {_beyond(over, last, low)}" if kept else _not_at_all(known, last, asked)
        return Found("kept" if kept else "missed", low, high, f"{text}.", doubt)
    where = schedule.words(last.mode, last.load)
    if last.verdict == "client":
        text = f"this machine's client was the limit ({last.client}), so that what the server does"
        text += " there is not known"
        text = f"{upto}; at {where} {text}" if kept else f"At {where} {text}"
        return Found("client", low, high, f"{text}.", doubt)
    needed = max(held.objective.needed for held in last.held)
    calls = units.counted(max(held.n for held in last.held), "call")
    told = f"cannot be told: {_told(last)} in {calls}, and it takes {needed:,}"
    text = f"{upto}; whether at {where} too" if kept else f"Whether {asked} is kept at {where}"
    return Found("not_enough_data", low, high, f"{text} {told}.", doubt)


def _not_at_all(known: Sequence[Tried], last: Tried, asked: str) -> str:
    is_least = len(known) > 1 or (last.mode == "closed" and last.load == 1)
    even = "even " if is_least else ""
    return f"Does not keep {asked} {even}at {schedule.words(last.mode, last.load)}: {_told(last)}"


def _beyond(over: Sequence[Tried], last: Tried, low: float) -> str:
    """ "at 28 streams it is 950 ms; between them nothing was tried"."""
    # A load that was kept once and missed once is not kept.
    once = any(one.verdict == "kept" for one in over)
    text = f"at {schedule.words(last.mode, last.load)} "
    text += ("it was kept once, and missed once: " if once else "") + _told(last)
    is_next = last.mode == "closed" and last.load - low <= 1
    return text if is_next else f"{text}; between them nothing was tried"


def _up_to(kept: Sequence[Tried]) -> str:
    """ "up to 24 streams, where it is 640 ms, and 655 ms measured again"."""
    text = f"up to {schedule.words(kept[0].mode, kept[0].load)}"
    if len(kept[0].held) > 1:
        return text + (" (measured twice)" if len(kept) > 1 else "")
    values = [one.held[0].objective.written(one.held[0].value) for one in kept]
    text += f", where it is {values[0]}"
    return text + "".join(f", and {value} measured again" for value in values[1:])


def _told(one: Tried) -> str:
    """Of the objective that decides, the first that was missed, or cannot be told: "it is
    950 ms"."""
    held = min(one.held, key=lambda held: (False, None, True).index(held.is_kept))
    if not held.n:
        return "nothing was measured"
    asked, is_alone = held.objective, len(one.held) == 1
    if held.is_lost and held.n < held.planned:
        what = "it" if is_alone else asked.words(one.mode)
        return f"{held.misses:,} of the first {units.counted(held.n, 'call')} missed {what}"
    subject = "it" if is_alone else f"{asked.percentile} {metrics.words(asked.judged(one.mode))}"
    return f"{subject} is {asked.written(held.value)}"


def _doubt(kept: Sequence[Tried]) -> str:
    """The calls of all measurements of a load together: do they surely keep it?"""
    from lab.stats.shares import proportion

    for place, first in enumerate(kept[0].held):
        asked = first.objective
        n = sum(one.held[place].n for one in kept)
        misses = sum(one.held[place].misses for one in kept)
        low = proportion(n - misses, n).low
        if low is not None and low < asked.share:
            return (
                f"{misses:,} of {units.counted(n, 'call')} at"
                f" {schedule.words(kept[0].mode, kept[0].load)} missed {asked.words(kept[0].mode)}:"
                f" so few calls leave open whether {units.percent(asked.share)} always keep it, and"
                " more requests a level would tell"
            )
    return ""
