"""What a search that has ended says: the rungs from today to its winner, what every other level
would do to it, and which levers do not simply add. It explains, and is not quoted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lab.ladder.design import Configuration
from lab.ladder.search import Search, with_level
from lab.stats.compare import holm

Step = tuple[int, int, Configuration, Configuration]
"""A lever, its level, and the stacks before and after."""


class Rung(NamedTuple):
    """What a lever changes of the objective, as a share: −0.4 is 40 % less."""

    lever: int
    level: int
    before: Configuration
    after: Configuration
    change: float
    low: float | None
    high: float | None
    p: float


class Together(NamedTuple):
    """What two levers, each at its first other level, make of today's objective, as shares."""

    levers: tuple[int, int]
    alone: tuple[float, float]
    both: float
    change: float
    """`both` beyond what two levers do that do not touch each other: they add (−40 and −20 % give
    −60 %) or multiply (−52 %). 0 between the two; above, they do less than that."""
    low: float | None
    high: float | None
    """Beyond either of the two."""
    p: float


class Claims(NamedTuple):
    """The largest rung first. All of them share one error of 5 % (Holm 1979)."""

    rungs: list[Rung]
    others: list[Rung]
    together: list[Together]


def claims(search: Search) -> Claims:
    model, steps = search.model(), _steps(search)
    others = [
        (j, level, search.winner, with_level(search.winner, j, level))
        for j, count in enumerate(search.levels)
        for level in range(1, count)
        if (j, level) in model.mains and search.winner[j] != level
    ]
    ends = {step: step[2:] for step in [*steps, *others]}
    p = {step: model.contrast(*pair).p for step, pair in ends.items()}
    at = holm(p | {pair: _together(search, pair).p for pair in model.pairs})
    rungs = {step: _rung(search, step, at[step]) for step in ends}
    return Claims(
        [rungs[step] for step in steps],
        [rungs[step] for step in others],
        [_together(search, pair, at[pair]) for pair in model.pairs],
    )


def _steps(search: Search) -> list[Step]:
    """From today on, each time the lever that then saves most."""
    model, stack, steps = search.model(), search.today, []
    left = {j: level for j, level in enumerate(search.winner) if level}
    while left:
        after = {j: with_level(stack, j, level) for j, level in left.items()}
        j = min(after, key=lambda j: model.contrast(stack, after[j]).estimate)
        steps.append((j, left.pop(j), stack, after[j]))
        stack = after[j]
    return steps


def _rung(search: Search, step: Step, level: float) -> Rung:
    one = search.model().contrast(step[2], step[3], level)
    return Rung(*step, *map(search.share, one[:3]), p=one.p)


def _together(search: Search, pair: tuple[int, int], level: float = 0.95) -> Together:
    """By the shares themselves, whatever the model's own unit is: "save" is about those. Their
    noise is the model's, carried over by the derivatives (delta method)."""
    model, today = search.model(), search.today
    first, second = (with_level(today, j, 1) for j in pair)
    slopes = np.array([model.terms(c) for c in (first, second, with_level(first, pair[1], 1))])
    shares = np.array([1 + search.share(value) for value in slopes @ model.effects])
    if not search.is_tail:
        slopes = slopes * shares[:, None]
    a, b, both = map(float, shares)
    added = model.interval(np.array([-1, -1, 1]) @ slopes, level, both - (a + b - 1))
    times = model.interval(np.array([-b, -a, 1]) @ slopes, level, both - a * b)
    is_between = added.estimate * times.estimate <= 0
    return Together(
        pair,
        (a - 1, b - 1),
        both - 1,
        0.0 if is_between else min(added.estimate, times.estimate, key=abs),
        None if added.low is None else min(added.low, times.low),
        None if added.high is None else max(added.high, times.high),
        1.0 if is_between else max(added.p, times.p),
    )
