"""Does the ladder name the true best stack, keep to its budget and quote an interval that holds?
`python -m bench.ladder_truth [RUNS [planted|nothing] [p50|p95]]`: ladders in virtual time
(bench.accelerated) against the simulated server's own latency model, with the product's own search
and stages. A p95 takes six times the budget, as it takes six times the blocks.

Planted, on the total time of tasks with 450 tokens of documents: the large model reads a prompt
token in 0.5 ms and writes one of 40 in 8 ms; the small one reads in 0.1 ms and writes in 10 ms. So
of six levers a cached prefix, low effort (half the tokens) and fast mode (2.5 times the speed)
help; streaming changes nothing; and two interact so that each alone helps and together they do
not: with a cached prefix the small model only writes slower. A short answer helps too, and not
once the effort is low. With nothing planted all of these levers change nothing at all.

The best stack is that of the same model without its noise. Strictly, no other counts; tolerantly
also those within 3 % of it, less than the 5 % that the lab calls the smallest effect that matters.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from math import exp, log
from statistics import fmean

import numpy as np
import pandas as pd

from bench.accelerated import PRICED, World
from lab import endpoint_kinds, ladder_order, ladder_record, ladder_run, stats
from lab.endpoints.registry import Endpoint
from lab.harness.rehearsal import finished
from lab.ladder.design import Configuration
from lab.ladder.ladder_settings import ladder_config_of
from lab.ladder.purse import Purse
from lab.ladder_order import LadderOrder
from lab.ladder_results import LadderResult
from lab.ladder_run import LadderRunner
from lab.metrics import clocks
from lab.scenarios.definitions import Task, library

RUNS, TOLERANCE, PAIRS, TAIL, SAID_EACH = 200, 0.03, 1500, 20_000, 20
LEVERS = ["streamed", "cache", "model", "effort", "speed", "answer"]
CAN = frozenset({"effort", "fast", "thinking"})
BUDGETS = ((3.5, 3.0), (4, 2.0), (6, 1.6))
"""Minutes and dollars, in turn. A block of all 32 stacks may cost $0.51 at worst, fast mode having
no price of its own here."""
PLANTED = {
    "network_ms": 1, "queue_ms": 10, "answer_tokens": 40, "read_ms_per_token": 0.01,
    "models": {
        "simulated-large": {"gap_ms": 8.0, "prefill_ms_per_token": 0.5},
        "simulated-small": {"gap_ms": 10.0, "prefill_ms_per_token": 0.1},
    },
}  # fmt: skip
NOTHING = {
    "network_ms": 100, "queue_ms": 300, "answer_tokens": 1, "read_ms_per_token": 0.0,
    "models": {
        name: {"gap_ms": 0.0, "prefill_ms_per_token": 0.0} for name in PRICED
    },
}  # fmt: skip
STILL = {"jitter": 0.0, "tail": 0.0}


def tasks() -> list[Task]:
    text = " ".join(library())
    return [
        Task(task_id=f"t{n}", prompt=f"What is asked here, number {n}?",
             documents=(text[300 * n : 300 * n + 1500 + 150 * n],))
        for n in range(4)
    ]  # fmt: skip


@cache
def order(minutes: float, usd: float, quantile: str = "p50") -> LadderOrder:
    times = 6 if quantile == "p95" else 1
    minutes, usd = times * minutes, times * usd
    config = ladder_config_of(
        endpoint="simulated", levers=LEVERS, tasks=tasks(), objective=f"total_ms:{quantile}",
        minutes=minutes, max_usd=usd, warmup=0,
    )  # fmt: skip
    made = ladder_order.resolve(config)
    models = {tier: PRICED[model] for tier, model in made.endpoint.models.items()}
    live = Endpoint(
        "virtual", endpoint_kinds.LIVE, "https://virtual.invalid", "", models,
        capabilities=made.endpoint.capabilities,
    )  # fmt: skip
    return replace(made, endpoint=live, purse=Purse(usd, 60 * minutes))


@cache
def most_usd(stack: Configuration, task_id: str) -> float:
    own = order(*BUDGETS[0])
    task = next(task for task in own.plan.tasks if task.task_id == task_id)
    return finished(own.costs(own.variant(stack)).of(task)).most_usd


class Nowhere:
    """A sink that keeps nothing, and a session that has nothing to renew."""

    keep_text = False

    async def renew(self) -> None: ...

    def write_trials(self, trials) -> None: ...


class VirtualRunner(LadderRunner):
    """LadderRunner whose trials take no time; its search, stages and budget are the product's."""

    def __init__(self, own: LadderOrder, world: World, seed: int) -> None:
        super().__init__(own, Nowhere())
        self.world, self.seed, self.session, self.rows = world, seed, Nowhere(), []
        self.numbers = {tuple(own.levels(c).items()): c for c in product(
            *(range(len(factor.levels)) for factor in own.factors))}  # fmt: skip

    def _worst_usd(self, variants, task) -> float:
        stacks = [self.numbers[tuple(v.knobs.levels.items())] for v in variants]
        return sum(most_usd(stack, task.task_id) for stack in stacks)

    async def _trial(self, block, place, variant, left_s):
        ended = await self.world.trial(
            variant.technique, variant.arm.name, variant.knobs, block.task, block.phase,
            block.number, place,
        )  # fmt: skip
        self.budget.spent_usd = self.world.spent_usd
        self.rows.append(ended)
        self.done += 1
        return ended

    async def _store(self, write, *values) -> None: ...

    async def _keep_record(self) -> None: ...

    async def climb(self) -> LadderResult:
        self._blocks()
        await self._measure([])
        record = ladder_record.record(self.order, self.search, self.stages, self.ended_with)
        run = {"run_id": "virtual", "status": "finished", "settings": {}}
        return LadderResult(run, record, frame(self.rows))


def frame(rows) -> pd.DataFrame:
    return pd.DataFrame([
        {
            "block": f.trial.block, "arm": f.trial.arm, "phase": f.trial.phase,
            "outcome": f.trial.outcome, "task_id": f.trial.task_id,
            "value": clocks(f)["total_ms"], "quality": f.trial.quality,
            "served_usd": sum(c.cost_usd or 0.0 for c in f.calls if c.role != "prime"),
            "why": f.trial.error_text,
        }
        for f in rows
    ])  # fmt: skip


def climb(knobs, seed: int, quantile: str) -> tuple[LadderResult, VirtualRunner]:
    world = World({**knobs, "seed": seed}, CAN)
    ladder_run.now_ns = world.now_ns
    runner = VirtualRunner(order(*BUDGETS[seed % len(BUDGETS)], quantile), world, seed)
    return world.run(runner.climb()), runner


def times(knobs, stack: Configuration, count: int, seed: int = 1) -> np.ndarray:
    """Totals in ms of `count` trials of a stack, the tasks in turn."""
    own, world = order(*BUDGETS[0]), World({**knobs, "seed": seed}, CAN)
    variant, asked = own.variant(stack), own.plan.tasks
    trials = [
        world.run(world.trial(variant.technique, "x", variant.knobs, asked[n % len(asked)]))
        for n in range(count)
    ]
    return np.array([clocks(trial)["total_ms"] for trial in trials])


def truth() -> dict[Configuration, float]:
    """By stack, how much slower than the best one, as a share; without noise."""
    own = order(*BUDGETS[0])
    stacks = list(product(*(range(len(factor.levels)) for factor in own.factors)))
    logs = {c: fmean(map(log, times(PLANTED | STILL, c, len(own.plan.tasks)))) for c in stacks}
    best = min(logs.values())
    return {stack: exp(value - best) - 1 for stack, value in logs.items()}


@cache
def true_change(stack: Configuration, quantile: str) -> float:
    """What the quoted interval is about: the pseudo-median of the paired ratios; of p95, the ratio
    of both."""
    count = PAIRS if quantile == "p50" else TAIL
    today, own = times(PLANTED, (0,) * len(stack), count, 2), times(PLANTED, stack, count, 3)
    if quantile == "p95":
        return float(np.quantile(own, 0.95) / np.quantile(today, 0.95)) - 1
    return stats.ratio(own, today).estimate - 1


def planted(runs: int, quantile: str) -> None:
    slower = truth()
    least = min(
        (stack for stack, share in slower.items() if share < 1e-6), key=lambda c: sum(map(bool, c))
    )
    own = order(*BUDGETS[0])
    greedy = {own.words(c): f"+{100 * slower[c]:.0f} %" for c in neighbours(least, own)}
    print(f"best: {own.words(least)}; one lever more or less is slower by {greedy}")
    strict = tolerant = quoted = covered = refused = passed = 0
    named, trials, pairs = Counter(), [], []
    for seed in range(runs):
        result, runner = climb(PLANTED, seed, quantile)
        winner = runner.search.winner
        named[own.words(winner)] += 1
        strict += winner == least
        tolerant += slower[winner] <= TOLERANCE
        refused += bool(result.refusal)
        passed += has_passed(runner)
        trials.append(len(runner.rows))
        if result.quoted is not None and any(winner):
            quoted += 1
            pairs.append(result.quoted.n)
            covered += result.quoted.low <= true_change(winner, quantile) <= result.quoted.high
        if (seed + 1) % SAID_EACH == 0 or seed + 1 == runs:
            print(
                f"six planted, {seed + 1} runs: best stack named in {strict} strictly, {tolerant} "
                f"within 3 %; quoted interval covers the truth in {covered} of {quoted}; refused "
                f"{refused}; budget passed {passed}; {fmean(trials):.0f} trials, "
                f"{fmean(pairs or [0]):.0f} pairs",
                flush=True,
            )
    print(f"  named: {dict(named.most_common(6))}")


def has_passed(runner: VirtualRunner) -> bool:
    """Whether it spent more than it announced, in dollars or in minutes."""
    is_dearer = runner.budget.spent_usd > runner.budget.usd
    return is_dearer or runner.spent_s > runner.order.purse.seconds


def neighbours(stack: Configuration, own: LadderOrder) -> list[Configuration]:
    return [
        (*stack[:j], level, *stack[j + 1 :])
        for j, factor in enumerate(own.factors)
        for level in range(len(factor.levels))
        if level != stack[j]
    ]


def nothing(runs: int, quantile: str) -> None:
    refused = passed = 0
    named, trials = Counter(), []
    for seed in range(runs):
        result, runner = climb(NOTHING, seed, quantile)
        refused += bool(result.refusal)
        named[result.record["winner_words"]] += 1
        passed += has_passed(runner)
        trials.append(len(runner.rows))
        if (seed + 1) % SAID_EACH == 0 or seed + 1 == runs:
            print(
                f"nothing planted, {seed + 1} runs: refused {refused}; budget passed {passed}; the "
                f"search ended with today's in {named['today']}; {fmean(trials):.0f} trials",
                flush=True,
            )


def main(runs: int, words: Sequence[str]) -> None:
    quantile = "p95" if "p95" in words else "p50"
    for part in [PARTS[name] for name in words if name in PARTS] or PARTS.values():
        began = time.perf_counter()
        part(runs, quantile)
        print(f"  {time.perf_counter() - began:.0f} s", flush=True)


PARTS = {"planted": planted, "nothing": nothing}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS, sys.argv[2:])
