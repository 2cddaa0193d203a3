"""One level led from beginning to end: what ends in the loader is read, counted, told and stored,
and the level is cut where it has nothing more to say.

On one core or two most calls are read once their level has ended (lab.load.loading). Until then
they are counted; what is told of times and tokens is of those that were read, and a search cuts a
level later than it could. Where there is a budget, each call is read at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lab import units
from lab.clock import now_ns, sleep_s
from lab.harness.budget import Budget
from lab.harness.writing import to_the_end
from lab.load.call_frame import CallFrame
from lab.load.loading import LevelEnd, Loader
from lab.load.profile import CallFact, Level, LevelOutcome
from lab.load.so_far import CANCELLED, SoFar
from lab.load.steering import Steering
from lab.load_keeping import Keeping
from lab.model import LabError

TOLD_S, STORED_NS = 0.25, 1_000_000_000
ALL_FAILED = 20
"""So many first requests of a run, none of which was answered, end it: more would fail alike."""
SPENT = "the budget is spent"
NEARLY = "The calls under way might pass the budget."


class LoaderGone(LabError):
    """The loading process has ended by itself."""


class Leading:
    """`await lead(level)`, one level after another. `most` is how many requests may be under way at
    once in an open loop; after `seconds` a closed one makes no more. `is_counted` where the user
    named the requests too, and wants no more of them."""

    def __init__(
        self,
        loader: Loader,
        keeping: Keeping,
        tell: Callable[[dict[str, Any]], None],
        budget: Budget,
        steering: Steering,
        most: int,
        seconds: float | None,
        is_counted: bool = False,
    ) -> None:
        self.loader, self.keeping, self.tell, self.budget = loader, keeping, tell, budget
        self.steering, self.most, self.seconds = steering, most, seconds
        self.is_counted = is_counted
        self.answered = self.failed = 0
        self.dearest_usd = 0.0
        """Of all calls so far."""
        self.ended_by = ""
        """Why no level follows; empty where one may."""
        self.facts: list[CallFact] = []
        self.so_far: SoFar | None = None
        """Of the level under way; None between two."""
        self.is_cut = self.is_row_begun = False

    async def lead(self, level: Level) -> LevelOutcome:
        """LoaderGone where the loading process died. What it had handed on is stored by then, and
        so it is where this is cancelled."""
        self.facts, self.is_cut, self.is_row_begun = [], False, False
        self.loader.started_ns = None
        self.so_far = SoFar(level, now_ns(), self._seconds_of(level))
        self._tell("level", mode=level.mode, target=level.target, planned=self.so_far.planned)
        watching = asyncio.create_task(self._watch(level))
        end, reason = None, "stopped"
        try:
            end = await self._played(level)
        except LabError as error:
            reason = str(error)
            raise
        finally:
            watching.cancel()
            told = end or self._cut_short(level, reason)
            outcome = await to_the_end(self._ended(level, told, watching))
        if not watching.cancelled():
            watching.result()  # it ends by itself only where something is wrong with it
        return outcome

    async def _played(self, level: Level) -> LevelEnd:
        items = self.loader.level(level, self.most if level.mode == "open" else None)
        while True:
            try:
                item = await anext(items)
            except LabError as error:
                raise LoaderGone(str(error)) from None
            if isinstance(item, LevelEnd):
                return item
            self._count(item)

    def _count(self, frame: CallFrame) -> None:
        fact = self.keeping.read(frame, self.so_far.level.label)
        self.facts.append(fact)
        self.so_far.add(fact)
        self.budget.spent_usd += fact.cost_usd or 0.0
        self.dearest_usd = max(self.dearest_usd, fact.cost_usd or 0.0)
        if not self.is_cut and self._might_pass_budget():
            # At once: a stream whose call has ended is asking again already.
            self.is_cut = True
            self.cutting = asyncio.create_task(self._cut(SPENT, let_end=True))
        if fact.error_kind is None:
            self.answered += 1
        elif fact.error_kind != CANCELLED:
            self.failed += 1

    def _cut_short(self, level: Level, reason: str) -> LevelEnd:
        """What is known of a level whose end nobody told."""
        started_ns, unread = self.loader.started_ns or self.so_far.started_ns, self.loader.unread
        left = max(0, level.requests - len(self.facts) - unread)
        if unread:
            reason += f"; {units.counted(unread, 'call')} that had ended were not read any more"
        return LevelEnd(level.number, started_ns, now_ns(), left, reason)

    async def _ended(self, level: Level, end: LevelEnd, watching: asyncio.Task) -> LevelOutcome:
        await asyncio.wait({watching})
        seconds = self._seconds_of(level)
        left = end.not_begun
        if seconds is not None and not (end.reason or self.is_cut or self.is_counted):
            made = units.counted(level.requests, "request")
            over = f"all of its {made} were made before its {units.duration(seconds)} were over"
            end = replace(end, reason=over)
        if self.planned_for_seconds(level, end.reason):
            level, end = shortened(level, len(self.facts)), replace(end, not_begun=0)
        await self.keeping.write_calls()
        if level.number:
            await self.keeping.level(level, end)
        self._tell("level_ended", **self._figures(end.ended_ns), reason=end.reason)
        self.so_far = None
        return LevelOutcome(
            level, end.started_ns, end.ended_ns, self.facts, end.client, end.reason, left
        )

    def planned_for_seconds(self, level: Level, reason: str) -> bool:
        """Whether what was planned was only enough for a level's seconds, and says nothing: it is
        told as what was made. A user who named the requests too hears what of them was cut."""
        return self._seconds_of(level) is not None and not (self.is_counted and reason)

    # While it goes on

    async def _watch(self, level: Level) -> None:
        """Tell, store and cut, whether calls end or not."""
        stored_ns = now_ns()
        while True:
            await sleep_s(min(TOLD_S, max(self._left_s(level), 0.0)))
            await self._cut_if_decided(level)
            self._tell("load", **self._figures(now_ns()))
            if now_ns() - stored_ns >= STORED_NS:
                stored_ns = now_ns()
                if not await self._is_stored(level):
                    return

    async def _is_stored(self, level: Level) -> bool:
        """Else the level is cut: nothing takes its rows."""
        try:
            if level.number and not self.is_row_begun and self.loader.started_ns is not None:
                # So that the calls of a run that is killed have a level to belong to.
                self.is_row_begun = True
                await self.keeping.level(level, self.loader.started_ns)
            await self.keeping.calls()
        except LabError as error:
            self.ended_by = str(error)
            await self._cut(self.ended_by)
            return False
        return True

    def _might_pass_budget(self) -> bool:
        """Whether what is under way may cost as much as is left; then no further call begins."""
        if self.budget.usd is None:
            return False
        level = self.so_far.level
        at_once = level.target if level.mode == "closed" else self.most
        left_usd = self.budget.usd - self.budget.spent_usd
        if left_usd > at_once * self.dearest_usd:
            return False
        is_reached = self.budget.is_reached
        self.ended_by = self.budget.text if is_reached else f"{NEARLY} {self.budget.left}"
        return True

    async def _cut_if_decided(self, level: Level) -> None:
        if self.is_cut:
            return
        if not self.answered and self.failed >= ALL_FAILED and not self.loader.unread:
            first = units.counted(self.failed, "request")
            self.ended_by = f"None of the first {first} was answered: {self.so_far.kinds}."
            await self._cut(f"none of the first {first} was answered")
        elif self._left_s(level) <= 0:
            await self._cut("", let_end=True)
        elif level.number and (reason := self.steering.cut(level, self.facts)):
            await self._cut(reason)

    async def _cut(self, reason: str, let_end: bool = False) -> None:
        self.is_cut = True
        with contextlib.suppress(LabError):  # it has ended: whoever reads it hears so too
            await self.loader.cut(reason, let_end)

    def _seconds_of(self, level: Level) -> float | None:
        """How long it makes requests, where that is what ends it."""
        return self.seconds if level.mode == "closed" and level.number else None

    def _left_s(self, level: Level) -> float:
        seconds = self._seconds_of(level)
        if seconds is None or self.is_cut:
            return TOLD_S
        return seconds - (now_ns() - self.so_far.started_ns) / 1e9

    # What to say

    def _figures(self, at_ns: int) -> dict[str, Any]:
        spent = None if self.budget.usd is None else round(self.budget.spent_usd, 6)
        return {**self.so_far.figures(at_ns, self.loader.unread), "spent_usd": spent}

    def _tell(self, kind: str, **words: Any) -> None:
        level = self.so_far.level
        if level.number:  # a warm-up is no level of the run
            of = self.steering.levels
            about = {"level": level.number, "of": of, "label": level.label}
            self.tell({"kind": kind, **about, **words})


def shortened(level: Level, requests: int) -> Level:
    """With so many plays as make up the requests."""
    kept, count = 0, 0
    for play in level.plays:
        if count >= requests:
            break
        kept, count = kept + 1, count + len(play)
    return replace(level, plays=level.plays[:kept])
