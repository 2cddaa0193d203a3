"""A ladder from beginning to end: a search, then its winner against today in fresh blocks.

What the search tries is of the phase `screened`, an arm called by its stack's words; what confirms
its winner is `measured`, the arms `today` and `winner`. What was settled stands in the run's
settings under `ladder` (lab/ladder_record.py), renewed after every stage.

Entries of its progress are a run's (lab/harness/runner.py), and beside them, before every block:

    stage        stage (screening, elimination, confirmation), block (1… within the stage), blocks
                 (None: not known before), stacks (of this block), left_s, left_usd (None: no
                 budget)
    decision     stage, block, stack or lever (in words, one of them), reason
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from lab import ladder_order, ladder_record, processes, run_loop
from lab.clock import now_ns
from lab.harness.estimate import Costs, Estimate
from lab.harness.plan import Block, Variant
from lab.harness.rehearsal import finished
from lab.harness.runner import BenchmarkRunner, Interrupted, Sink
from lab.ladder import stack
from lab.ladder.ladder_settings import CONFIRMING, LadderConfig
from lab.ladder.search import FEWEST_BLOCKS, LOST_OF, Ask, Decision, Outcome, Search
from lab.ladder.stack import TODAY, WINNER
from lab.ladder_order import LadderOrder
from lab.metrics import clocks
from lab.model import LADDER, LabError, Status, new_id
from lab.rows import FinishedTrial, RunRow, TrialRow
from lab.run_loop import Measured, Telling
from lab.scenarios.definitions import Task
from lab.store.store import Store

LATE_S = 1.0
"""Before the minutes are up, what is under way is told to end: it may take as long to let go."""
LOST_IN_A_ROW = 8
"""Trials of the search from which on the endpoint is at fault, or the tasks, and not a stack.
Stacks of a few levers that it refuses may by chance come in a row too, but today's is not among
them, and they are no whole block."""
LEFT_OUT = "left out: "


class LadderRunner(BenchmarkRunner):
    """BenchmarkRunner whose blocks are decided as it goes."""

    def __init__(
        self,
        order: LadderOrder,
        sink: Sink,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        stop: Callable[[], bool] | None = None,
        run_id: str | None = None,
    ) -> None:
        self.order, config = order, order.config
        super().__init__(
            order.run,
            sink,
            on_progress,
            stop,
            endpoint=order.endpoint,
            run_id=run_id,
            technique=order.technique,
        )
        self.search = Search(
            [len(factor.levels) for factor in order.factors],
            bar=config.bar_share,
            is_tail=config.quantile == "p95",
        )
        self.began_ns: int | None = None
        self.trial_s: dict[str, list[float]] = {}
        """By stack, in words, the seconds that its trials took, between them included."""
        self.costs: dict[str, Costs] = {}
        """By stack, in words."""
        self.stages: list[dict[str, Any]] = []
        self.lost: dict[str, list[str]] = {}
        """The arms of trials lost in a row: under "" of the search, and of the confirmation under
        each of its arms, since what today answers says nothing of the winner."""
        self.number, self.told = 0, 0
        self.has_begun, self.is_late, self.ended_with = False, False, ""

    async def run(self) -> str:
        asked, self.began_ns = self.stop, now_ns()
        self.stop = lambda: asked() or self._is_late()
        return await super().run()

    def _estimate(self) -> Estimate:
        """What is refused has been refused as the order was made."""
        return Estimate()

    # The clock and the money

    @property
    def spent_s(self) -> float:
        return 0.0 if self.began_ns is None else (now_ns() - self.began_ns) / 1e9

    def _is_late(self) -> bool:
        self.is_late = self.is_late or self.spent_s > self.order.purse.seconds - LATE_S
        return self.is_late

    def _likely_s(self, variants: Sequence[Variant]) -> float:
        """What a block of these takes, by what each took so far; what was not tried yet as all."""
        every = [fmean(taken) for taken in self.trial_s.values()]
        usual = fmean(every) if every else self.order.trial.seconds
        names = [self._words(variant) for variant in variants]
        return sum(fmean(self.trial_s[name]) if name in self.trial_s else usual for name in names)

    def _words(self, variant: Variant) -> str:
        return stack.words(variant.knobs.levels, self.order.today)

    def _worst_usd(self, variants: Sequence[Variant], task: Task) -> float:
        if self.budget.usd is None:
            return 0.0
        names = {self._words(variant): variant for variant in variants}
        for name in names.keys() - self.costs.keys():
            self.costs[name] = self.order.costs(names[name])
        return sum(finished(self.costs[name].of(task)).most_usd for name in names)

    # What to do

    def _blocks(self) -> list[Block]:
        """The warm-up, of today's requests; the others are made when they are known."""
        self.began_ns = self.began_ns or now_ns()
        self.has_begun, self.total = True, 0
        today = self.order.variant(self.search.today, TODAY)
        warmups = self.plan.warmups(self.seed, self.config.warmup)
        return [replace(block, order=(today,)) for block in warmups]

    async def _measure(self, blocks: list[Block]) -> None:
        for block in blocks:
            worst_usd = self._worst_usd(block.order, block.task)
            if not self.order.purse.lacks("screening", self.budget.spent_usd, worst_usd, 0.0, 0.0):
                await self._play_block(block)
        self.trial_s.clear()  # a first trial may take longer than any that follows
        while self.status == "running" and (ask := self.search.next()):
            await self._search_on(ask)
        if reason := self.search.lost_today:
            self._give_up(
                f"none of today's own trials ended well ({reason.removeprefix(LEFT_OUT)})"
            )
        await self._keep_record()
        if self.status == "running" and self.search.winner and any(self.search.winner):
            await self._confirm()

    async def _search_on(self, ask: Ask) -> None:
        variants = {tried: self.order.variant(tried) for tried in ask.stacks}
        task = self._task(self.number + 1)
        lacking = self.order.purse.lacks(
            ask.stage,
            self.budget.spent_usd,
            self._worst_usd(list(variants.values()), task),
            self.spent_s,
            # The fewest blocks are not given up for what they are expected to take.
            self._likely_s(list(variants.values())) if self.number >= FEWEST_BLOCKS else 0.0,
        )
        if lacking:
            self.search.cut(lacking)
        else:
            block = self._block("screened", task, list(variants.values()))
            self._say_stage(ask.stage, len(variants), None)
            ended = {f.trial.arm: f for f in await self._play_block(block)}
            if self.status != "running":
                return
            self.search.add({
                tried: self._outcome(ended[variant.arm.name])
                for tried, variant in variants.items()
            })  # fmt: skip
        self._say_decisions()
        if self.search.stage not in (ask.stage, None):
            await self._keep_record()

    def _outcome(self, finished: FinishedTrial) -> Outcome:
        trial, value = finished.trial, clocks(finished)[self.order.config.metric]
        if trial.outcome != "ok" or not value:
            return Outcome(None, None, LEFT_OUT + _why_lost(trial))
        return Outcome(value, trial.quality)

    async def _confirm(self) -> None:
        winner = self.search.winner
        pair = [self.order.variant(self.search.today, TODAY), self.order.variant(winner, WINNER)]
        self.plan = replace(self.plan, variants=tuple(pair), headline=pair[1])
        fewest, most = CONFIRMING[self.order.config.quantile]
        worst = max(self._worst_usd(pair, task) for task in self.plan.tasks)
        count = self.order.purse.pairs(
            self.budget.spent_usd, worst, self.spent_s, self._likely_s(pair), most
        )
        if count < fewest:
            self.ended_with = (
                f"what was left of the budget carries {count} blocks of winner and today, and"
                f" {fewest} are the fewest"
            )
            return
        self.config = self.config.model_copy(update={"runs": count})
        await self._keep_record()
        self.total = self.done + 2 * count
        for place in range(1, count + 1):
            self._say_stage("confirmation", 2, count, place)
            await self._play_block(self._block("measured", self._task(self.number + 1), pair))
            if self.status != "running":
                return

    def _task(self, number: int) -> Task:
        return next(iter(self.plan.blocks(self.seed, number, number))).task

    def _block(self, phase: str, task: Task, variants: Sequence[Variant]) -> Block:
        self.number += 1
        order = random.Random(f"{self.seed}:{self.number}").sample(variants, k=len(variants))
        return Block(self.number, phase, task, tuple(order))

    async def _play_block(self, block: Block) -> list[FinishedTrial]:
        """Its trials, kept and written; where one of them ends the run, those so far."""
        await self.session.renew()
        ended: list[FinishedTrial] = []
        self.total = max(self.total, self.done + len(block.order))
        try:
            for place, variant in enumerate(block.order):
                began_ns = now_ns()
                left_s = self.order.purse.seconds - self.spent_s
                ended.append(await self._trial(block, place, variant, left_s))
                taken = self.trial_s.setdefault(self._words(variant), [])
                taken.append((now_ns() - began_ns) / 1e9)
                if (end := self._end_after(ended[-1].trial)) is not None:
                    self._end(*end)
                else:
                    self._count_lost(ended[-1], len(block.order))
                if self.status != "running":
                    break
        except Interrupted as cut:
            ended.append(cut.finished)
            raise cut.reason from None
        finally:
            if ended:
                await self._store(self.sink.write_trials, ended)
        return ended

    # How it ends

    def _end_after(self, row: TrialRow) -> tuple[Status, str] | None:
        """A stack that fails leaves the search; what ends it and the confirmation is counted by
        arm (_count_lost)."""
        return super()._end_after(row) if row.error_kind == "budget" else None

    def _count_lost(self, finished: FinishedTrial, stacks: int) -> None:
        """`stacks` is how many the block has."""
        row = finished.trial
        whose = f" of {row.arm}" if row.phase == "measured" else ""
        lost = self.lost.setdefault(whose, [])
        lost.append(row.arm)
        if self._outcome(finished).value is not None:
            lost.clear()
        is_over = len(lost) >= (LOST_OF if whose else LOST_IN_A_ROW)
        if is_over and (TODAY in lost or whose or len(lost) >= stacks):
            self._give_up(f"{len(lost)} trials{whose} in a row were lost ({_why_lost(row)})")

    def _give_up(self, reason: str) -> None:
        self.ended_with = reason
        self._end("failed", f"{reason[:1].upper()}{reason[1:]}.")

    def _end(self, status: Status, text: str) -> None:
        if self.is_late and status == "interrupted":
            minutes = self.order.config.minutes
            text = f"The {minutes:g} minutes are up."
            self.ended_with = f"the {minutes:g} minutes were up"
        super()._end(status, text)

    async def _close(self) -> None:
        await self._keep_record()
        await super()._close()

    # What to say and keep

    def _say_stage(self, stage: str, stacks: int, blocks: int | None, place: int = 0) -> None:
        if not self.stages or self.stages[-1]["stage"] != stage:
            self.stages.append({"stage": stage, "blocks": 0, "trials": 0})
        own = self.stages[-1]
        own["blocks"] += 1
        own["trials"] += stacks
        left_usd = None
        if self.budget.usd is not None:
            left_usd = round(self.budget.usd - self.budget.spent_usd, 6)
        self.tell({
            "kind": "stage",
            "stage": stage,
            "block": place or own["blocks"],
            "blocks": blocks,
            "stacks": stacks,
            "left_s": round(self.order.purse.seconds - self.spent_s, 1),
            "left_usd": left_usd,
        })  # fmt: skip

    def _say_decisions(self) -> None:
        for decision in self.search.decisions[self.told :]:
            self.tell({"kind": "decision", **self._decided(decision)})
        self.told = len(self.search.decisions)

    def _decided(self, decision: Decision) -> dict[str, Any]:
        lever, tried, factors = decision.lever, decision.stack, self.order.factors
        return {
            "stage": decision.stage,
            "block": decision.blocks,
            "lever": None if lever is None else factors[lever].lever.title,
            "stack": None if tried is None else self.order.words(tried),
            "reason": decision.reason,
        }

    def _run_row(self, keep: bool) -> RunRow:
        row = super()._run_row(keep)
        row.settings["ladder"] = ladder_record.record(
            self.order, self.search, self.stages, self.ended_with
        )
        return row

    async def _keep_record(self) -> None:
        if self.has_begun:
            await self._store(self.sink.write_run, self._run_row(self.session.keep_text))


def _why_lost(trial: TrialRow) -> str:
    return trial.error_text or trial.error_kind or "it has no such time"


def measure(
    config: LadderConfig,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    run_id: str | None = None,
    order: LadderOrder | None = None,
) -> Measured:
    """Climb a ladder here and now; LabError at once while another run is measured.

    Ctrl-C and SIGTERM interrupt it cleanly, and keep its rows. `order` is the config's, where that
    has been resolved already.
    """
    begun_elsewhere = run_id is not None
    run_id = run_id or new_id()
    with processes.measuring(run_id, LADDER):
        if not begun_elsewhere:
            processes.start_afresh(run_id)
        telling = Telling(run_id, on_progress)
        store = Store(config.db, run_loop.PATIENCE_S)
        try:
            store.close_orphans(run_id)
            resolved = order or ladder_order.resolve(config, store)
            runner = LadderRunner(resolved, store, telling, telling.stop, run_id)
            run_loop.to_its_end(runner.run, telling.ending)
            return Measured(run_id, runner.status, runner.text)
        except LabError as error:
            if "ended" not in telling.kinds:
                telling({"kind": "ended", "status": "failed", "text": str(error)})
            raise
        finally:
            store.close()
