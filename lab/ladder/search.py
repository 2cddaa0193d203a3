"""The search for the fastest stack that keeps the quality bar: a screening plan, then a race of
what it could not tell apart. It knows no clock and no endpoint: asked for a block, it says which
stacks; told what became of them, it goes on.

What a search finds is chosen for its luck too. So nothing of it is quoted: its winner is measured
against today once more, in fresh blocks (lab/ladder_run.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import log
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np

from lab.ladder import design
from lab.ladder.design import Configuration
from lab.ladder.effects import Model, Seen
from lab.ladder.elimination import leaving
from lab.stats.intervals import Interval

Stage = Literal["screening", "elimination"]
NO_HELP = 0.995
"""The level at which a lever is known not to help: its other level is not tried any more."""
ERROR = 0.05
"""What is spent on levers that seem to help and do not: shared by all of them and, of those that
the screening settles, by all looks (1/t² at look t, as in the race)."""
SHOWN = 0.90
"""Two-sided, of answers that are worse: one-sided 95 %."""
FEWEST_BLOCKS = 2
FINALISTS = 6
LOST_OF = 4
"""Lost trials of a lever, and none that ended well, from which on it is given up."""


class Outcome(NamedTuple):
    """What became of one trial. `value` is the objective in ms, None where the trial was lost."""

    value: float | None
    quality: float | None = None
    reason: str = ""


class Ask(NamedTuple):
    stage: Stage
    stacks: tuple[Configuration, ...]


class Decision(NamedTuple):
    """Something that the search settled, after how many blocks of the stage."""

    stage: Stage
    blocks: int
    reason: str
    stack: Configuration | None = None
    lever: int | None = None
    interval: Interval | None = None


@dataclass
class Search:
    """`levels` is how many levels each lever has. `tolerance` is the share within which two stacks
    are alike; `is_tail` asks for the slow answers (p95): values are then compared as shares of
    today's mean, not as logarithms, so that a slow answer weighs as much as it lasts."""

    levels: Sequence[int]
    bar: float = 0.10
    tolerance: float = 0.03
    is_tail: bool = False
    most_screened: int = 640
    most_rounds: int = 60
    """`most_screened` counts trials, `most_rounds` blocks of the race."""
    stage: Stage | None = "screening"
    blocks: list[tuple[Stage, dict[Configuration, Outcome]]] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)
    """By lever, why it was given up."""
    settled: dict[int, int] = field(default_factory=dict)
    """By lever, the only level of it that the screening still tries."""
    decisions: list[Decision] = field(default_factory=list)
    alive: list[Configuration] = field(default_factory=list)
    beaten: set[tuple[Configuration, Configuration]] = field(default_factory=set)
    """Who lost the race to whom."""
    winner: Configuration | None = None
    lost_today: str = ""
    """Why none of today's own trials ended well, while others' did: there is nothing to compare a
    stack with, so the search ends without one."""

    @property
    def today(self) -> Configuration:
        return (0,) * len(self.levels)

    def next(self) -> Ask | None:
        """What the next block is to try; None once the winner is known."""
        if self.stage == "screening":
            return Ask("screening", self._plan())
        return Ask("elimination", tuple(self.alive)) if self.stage else None

    def add(self, outcomes: Mapping[Configuration, Outcome]) -> None:
        """What became of the block that was asked for."""
        if self.stage is None:
            raise ValueError("the search has ended")
        self.blocks.append((self.stage, dict(outcomes)))
        count = self._count()
        if self._has_lost_today():
            self._end()
        elif self.stage == "screening":
            self._give_up_lost(count)
            if count >= FEWEST_BLOCKS:
                if self._has_values:
                    self._settle(count)
                screened = sum(len(block) for _, block in self.blocks)
                if screened >= self.most_screened or len(self.settled) == len(self.levels):
                    self._race()
        else:
            self._eliminate(count)
            if len(self.alive) == 1 or count >= self.most_rounds:
                self._end()

    def cut(self, reason: str) -> None:
        """The stage's share of the budget is spent: the search goes on to what comes next."""
        if self.stage is None:
            return
        self.decisions.append(Decision(self.stage, self._count(), reason))
        if self.stage == "screening" and self._count() >= FEWEST_BLOCKS:
            self._race()
        else:
            self._end()

    # Screening

    def _plan(self) -> tuple[Configuration, ...]:
        live = [j for j in self._indices if j not in self.settled]
        return tuple(
            tuple({**self.settled, **dict(zip(live, row, strict=True))}[j] for j in self._indices)
            for row in design.two_level(len(live))
        )

    def _give_up_lost(self, count: int) -> None:
        """A lever none of whose trials ended well, while others' do, is nothing to search with."""
        tried = [(c, out) for _, block in self.blocks for c, out in block.items()]
        for j in range(len(self.levels)):
            own = [out for c, out in tried if c[j]]
            others = any(out.value is not None for c, out in tried if not c[j])
            lost = [out for out in own if out.value is None]
            if j not in self.dropped and len(own) == len(lost) >= LOST_OF and others:
                self.dropped[j], self.settled[j] = lost[-1].reason, 0
                self.decisions.append(Decision("screening", count, lost[-1].reason, lever=j))

    def _has_lost_today(self) -> bool:
        own = [block[self.today] for _, block in self.blocks if self.today in block]
        is_lost = len(own) >= LOST_OF and all(out.value is None for out in own)
        if is_lost and self._has_values:
            self.lost_today = own[-1].reason
        return bool(self.lost_today)

    def _settle(self, count: int) -> None:
        """The levers of which is known, at the best stack so far, that they help, or that they do
        not by more than two alike stacks differ. What was settled before is asked again: another
        lever's may have changed what is best."""
        model, best, before = self.model(), self._predicted()[0], self.settled
        self.settled = dict.fromkeys(self.dropped, 0)
        for j in self._indices:
            if j in self.dropped or model.freedom < 1:
                continue
            pair = with_level(best, j, 0), with_level(best, j, 1)
            look = count - FEWEST_BLOCKS + 1
            share = ERROR / len(self.levels) / (look * (look + 1))
            helps = model.contrast(*pair, 1 - share).high < 0
            one = model.contrast(*pair, NO_HELP)
            if helps or one.low > -self.tolerance:
                self.settled[j] = int(helps)
                if before.get(j) != self.settled[j]:
                    reason = "helps" if helps else "does not help"
                    self.decisions.append(Decision("screening", count, reason, None, j, one))

    # From one stage to the next

    def _race(self) -> None:
        """Of all stacks, tried or not, those that the model cannot tell from the best."""
        if not self._has_values:
            return self._end()
        ranked, model = self._predicted(), self.model()
        best = ranked[0]
        close = [c for c in ranked[1:] if (model.contrast(best, c).low or 0.0) <= 0]
        finalists = [best, self._reduced(best), *close[: FINALISTS - 1]]
        for j, count in enumerate(self.levels):
            finalists += [with_level(best, j, level) for level in range(2, count)]
        self.alive, self.stage = list(dict.fromkeys(finalists)), "elimination"
        if len(self.alive) == 1:
            self._end()

    def _eliminate(self, count: int) -> None:
        raced = [self._values(block) for stage, block in self.blocks if stage == "elimination"]
        self._leave_lost(count)
        for one in leaving(raced, self.alive, self.tolerance):
            words = "makes no difference" if one.is_tie else "is slower"
            interval = Interval(one.estimate, one.low, one.high, count)
            self._gone(Decision("elimination", count, words, one.configuration, None, interval))
            if not one.is_tie:
                self.beaten.add((one.configuration, one.leader))
        for stack in self._worse():
            if len(self.alive) > 1 and stack in self.alive:
                self._gone(Decision("elimination", count, "answers worse", stack))

    def _leave_lost(self, count: int) -> None:
        for stack in list(self.alive):
            own = [block[stack] for _, block in self.blocks if stack in block]
            is_lost = len(own) >= LOST_OF and all(out.value is None for out in own)
            if is_lost and len(self.alive) > 1:
                self._gone(Decision("elimination", count, own[-1].reason, stack))

    def _gone(self, decision: Decision) -> None:
        self.alive.remove(decision.stack)
        self.decisions.append(decision)

    def _worse(self) -> list[Configuration]:
        """Stacks of the race whose answers are worse than today's, beyond the bar and beyond
        chance."""
        model = self._quality_model()
        if model is None:
            return []
        changes = {stack: model.contrast(self.today, stack, SHOWN) for stack in self.alive}
        return [stack for stack, one in changes.items() if self._is_worse(one)]

    def _is_worse(self, change: Interval) -> bool:
        return change.estimate < -self.bar and change.high is not None and change.high < 0

    def _end(self) -> None:
        self.stage = None
        has_begun = self._count_of("screening") >= FEWEST_BLOCKS and self._has_values
        if not has_begun or self.lost_today:
            return
        model = self.model()
        alive = self.alive or [self._predicted()[0]]
        self.winner = self._reduced(
            min(alive, key=lambda c: (model.contrast(self.today, c).estimate, sum(map(bool, c))))
        )

    def _reduced(self, stack: Configuration) -> Configuration:
        """Without the levers that are not shown to help it: what is pulled for nothing is one more
        thing that can break."""
        model = self.model()
        while any(stack):
            gains = {}
            for j, level in enumerate(stack):
                without = with_level(stack, j, 0)
                if level and (without, stack) not in self.beaten:
                    gain = model.contrast(without, stack, 1 - 2 * ERROR / len(stack))
                    if gain.high is None or gain.high >= 0:
                        gains[j] = gain.estimate
            if not gains:
                break
            stack = with_level(stack, max(gains, key=gains.get), 0)
        return stack

    # The models

    def _predicted(self) -> list[Configuration]:
        """Every stack of first and second levels whose answers are not worse, the fastest first."""
        model, quality = self.model(), self._quality_model()
        seen = {j for j, level in model.mains if level == 1}
        choices = [(0, 1) if j in seen and j not in self.dropped else (0,) for j in self._indices]
        stacks = list(product(*choices))
        if quality is not None:
            kept = [c for c in stacks if not self._is_worse(quality.contrast(self.today, c, SHOWN))]
            stacks = kept or [self.today]
        weights = np.array([model.terms(stack) for stack in stacks]) @ model.effects
        return [stacks[place] for place in np.argsort(weights, kind="stable")]

    @property
    def _indices(self) -> Iterable[int]:
        return range(len(self.levels))

    @property
    def _has_values(self) -> bool:
        """Without any there is nothing to fit."""
        return any(out.value is not None for _, block in self.blocks for out in block.values())

    def model(self) -> Model:
        """Of the objective, on all trials so far."""
        return self._fitted("times", lambda out: out.value, True)

    def share(self, value: float | None) -> float | None:
        """A difference in the model's unit as a share: −0.4 is 40 % less."""
        return value if value is None or self.is_tail else float(np.expm1(value))

    def _quality_model(self) -> Model | None:
        rated = [
            out.quality for _, block in self.blocks for out in block.values()
            if out.quality is not None and out.value is not None
        ]  # fmt: skip
        if len(set(rated)) < 2:
            return None
        return self._fitted("quality", lambda out: out.quality, False)

    def _fitted(
        self, name: str, read: Callable[[Outcome], float | None], with_pairs: bool
    ) -> Model:
        """Fitted once for the blocks so far."""
        key = name, len(self.blocks)
        kept = self.__dict__.setdefault("_models", {})
        if key not in kept:
            made = self._unit() if name == "times" else float
            seen = [
                Seen(number, stack, made(value))
                for number, (_, block) in enumerate(self.blocks)
                for stack, out in block.items()
                if out.value is not None and (value := read(out)) is not None
            ]
            self.__dict__["_models"] = {**kept, key: Model(seen, with_pairs)}
        return self.__dict__["_models"][key]

    def _unit(self) -> Callable[[float], float]:
        if not self.is_tail:
            return log
        tried = [(c, out.value) for _, block in self.blocks for c, out in block.items()]
        own = [value for stack, value in tried if value is not None and not any(stack)]
        whole = fmean(own or [value for _, value in tried if value is not None])
        return lambda value: value / whole

    def _values(self, block: Mapping[Configuration, Outcome]) -> dict[Configuration, float]:
        unit = self._unit()
        return {c: unit(out.value) for c, out in block.items() if out.value is not None}

    def _count(self) -> int:
        return self._count_of(self.stage)

    def _count_of(self, stage: Stage | None) -> int:
        return sum(of == stage for of, _ in self.blocks)


def with_level(stack: Configuration, lever: int, level: int) -> Configuration:
    return (*stack[:lever], level, *stack[lever + 1 :])
