"""What a run will take, before it starts: each arm's trial is rehearsed, its requests counted."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lab import endpoint_kinds, pricing
from lab.clock import today
from lab.endpoints import registry
from lab.endpoints.consent import ConsentNeeded
from lab.endpoints.registry import Endpoint
from lab.harness import plan as planning
from lab.harness.budget import at_most_usd, counted_usd, unbounded
from lab.harness.plan import Experiment
from lab.harness.rehearsal import MOODS, Asked, Unforeseen, finished, rehearse
from lab.model import LabError, Technique
from lab.scenarios.checks import Judge
from lab.scenarios.definitions import CHARACTERS_PER_TOKEN, Task
from lab.settings import BenchmarkConfig

MOST_REHEARSED = 60
"""Tasks whose trials are rehearsed; the page asks at each change, and hundreds take seconds."""
ANSWER_WEIGHT = 5
"""What a token of an answer costs, in tokens of a prompt; used to order tasks by size alone."""


@dataclass(frozen=True)
class Estimate:
    """`usd` is the most that it can cost, None where nothing is to pay; answers count at their
    longest, prompts as if all were written to the cache, a model without a price at the dearest
    listed one. What is refused would likely pass the budget.

    Any refusal forbids the run. `asks` are addresses to which the user must agree first; they are
    refusals too. `others` are the endpoints that requests name beside the run's own.
    """

    calls: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    seconds: float
    text: str
    refusals: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    likely_usd: float | None = None
    others: Mapping[str, Endpoint] = field(default_factory=dict)


class Cost(NamedTuple):
    """One block's trials on one task: what they will likely take, and what is the most."""

    calls: int
    input_tokens: int
    most_output_tokens: int
    seconds: float
    usd: float
    most_usd: float
    models: frozenset[str]
    unbounded: tuple[str, ...]


def estimate(
    config: BenchmarkConfig,
    endpoint: Endpoint | None = None,
    technique: Technique | None = None,
    done: Collection[int] = (),
) -> Estimate:
    """Calls, tokens, dollars and seconds of a run, warm-up included and without the blocks that are
    `done`; why it must not start, if so.

    Sends nothing. `technique` is one that lab.techniques does not list.
    """
    others: dict[str, Endpoint] = {}
    refused: dict[str, LabError] = {}
    try:
        endpoint = endpoint or registry.find(config.endpoint, config.models)
        plan = planning.experiment(config, endpoint.kind, technique)
        if lacking := sorted(plan.needs - endpoint.capabilities):
            raise LabError(
                f"{endpoint.name} cannot do {', '.join(lacking)}, which {plan.title} is about."
            )
        if len(plan.tiers) > 1 and endpoint.model_for("small") == endpoint.model_for("large"):
            raise LabError(
                f"{plan.title} compares a small and a large model; name both: "
                "--model small=NAME --model large=NAME."
            )

        def other(name: str) -> Endpoint:
            """A request's own endpoint. Where it is refused that is noted, and the run's stands in,
            so that every refusal is told at once."""
            if name not in others and name not in refused:
                try:
                    others[name] = registry.beside(name, endpoint)
                except LabError as error:
                    refused[name] = error
            return others.get(name, endpoint)

        blocks = finished(Costs(plan, endpoint, other).of_blocks(config, done))
    except LabError as error:
        return _refused(error)
    except Unforeseen:
        text = f"What these trials ask of {endpoint.name} cannot be known before they run"
        return Estimate(0, 0, 0, None, 0.0, text)
    if refused:
        return _refused(*{str(error): error for error in refused.values()}.values())
    return _estimate(config, endpoint, others, blocks)


def _estimate(
    config: BenchmarkConfig,
    endpoint: Endpoint,
    others: Mapping[str, Endpoint],
    blocks: Sequence[Cost],
) -> Estimate:
    calls = sum(block.calls for block in blocks)
    tokens_in = sum(block.input_tokens for block in blocks)
    tokens_out = sum(block.most_output_tokens for block in blocks)
    seconds = sum(block.seconds for block in blocks)
    priced = endpoint_kinds.kind(endpoint.kind).priced
    likely_usd = sum(block.usd for block in blocks) if priced else None
    usd = sum(block.most_usd for block in blocks) if priced else None
    price = "nothing to pay" if usd is None else f"at most ${usd:.4f}"
    beyond = dict.fromkeys(word for block in blocks for word in block.unbounded)
    if priced and beyond:
        price += f" plus what {', '.join(beyond)} may add"
    where = " and ".join(dict.fromkeys([endpoint.name, *others]))
    text = (
        f"{calls} calls, about {tokens_in:,} tokens in and at most {tokens_out:,} out, {price}, "
        f"about {_duration(seconds)} on {where}"
    )
    refusals: tuple[str, ...] = ()
    if priced:
        budget = config.budget_usd(endpoint.kind)
        if likely_usd > budget:
            refusals = (
                f"The run may cost ${likely_usd:.2f}, more than the budget of ${budget:.2f}; "
                "fewer blocks or a higher --max-usd would let it start.",
            )
        elif usd > budget:
            text += f". The budget of ${budget:.2f} may end it before its last block"
        models = sorted(model for block in blocks for model in block.models)
        if remark := pricing.remark(models, today()):
            text += f". {remark}"
    return Estimate(
        calls=calls,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        usd=usd,
        seconds=seconds,
        text=text,
        refusals=refusals,
        likely_usd=likely_usd,
        others=others,
    )


def _refused(*errors: LabError) -> Estimate:
    asks = tuple(error.url for error in errors if isinstance(error, ConsentNeeded))
    return Estimate(0, 0, 0, None, 0.0, "", tuple(map(str, errors)), asks)


class Costs:
    """What a block on each task takes, each found out once. `other` finds an endpoint by name."""

    def __init__(
        self, plan: Experiment, endpoint: Endpoint, other: Callable[[str], Endpoint]
    ) -> None:
        self.plan, self.endpoint, self.other = plan, endpoint, other
        self.rehearsed = rehearsed_for(plan.tasks)
        self.costs: dict[int, Cost] = {}

    async def of_blocks(self, config: BenchmarkConfig, done: Collection[int]) -> list[Cost]:
        """Of the warm-up and of each measured block that is left."""
        plan = self.plan
        left = [number for number in range(1, config.blocks + 1) if number not in done]
        if not left:
            return []
        warmups = [await self.of(block.task) for block in plan.warmups(0, config.warmup)]
        if config.seed is not None:
            blocks = plan.blocks(config.seed, 1, config.blocks)
            return warmups + [await self.of(b.task) for b in blocks if b.number not in done]
        # Without a seed it is open which tasks a last turn would have: the dearest.
        costs = [await self.of(task) for task in plan.tasks]
        costs.sort(key=lambda cost: (cost.most_usd, cost.most_output_tokens), reverse=True)
        turns, rest = divmod(len(left), len(costs))
        return warmups + costs * turns + costs[:rest]

    async def of(self, task: Task) -> Cost:
        task = self.rehearsed.get(id(task), task)
        if id(task) not in self.costs:
            self.costs[id(task)] = await self._of_block(task)
        return self.costs[id(task)]

    async def _of_block(self, task: Task) -> Cost:
        trials = []
        for variant in self.plan.variants:
            # Which way through a trial is the dearest depends on the answers: so each way is gone.
            ways = [
                await rehearse(
                    variant.technique,
                    variant.arm.name,
                    variant.knobs,
                    task,
                    self.endpoint,
                    mood=mood,
                    other=self.other,
                    judged=True,
                )
                for mood in MOODS
            ]
            trials.append([_cost(requests) for requests in ways])
        likely = [ways[0] for ways in trials]
        return Cost(
            calls=sum(cost.calls for cost in likely),
            input_tokens=sum(cost.input_tokens for cost in likely),
            most_output_tokens=sum(max(way.most_output_tokens for way in ways) for ways in trials),
            seconds=sum(cost.seconds for cost in likely),
            usd=sum(cost.usd for cost in likely),
            most_usd=sum(max(way.most_usd for way in ways) for ways in trials),
            models=frozenset().union(*(cost.models for cost in likely)),
            unbounded=tuple(
                dict.fromkeys(word for ways in trials for way in ways for word in way.unbounded)
            ),
        )


def _cost(requests: Sequence[Asked]) -> Cost:
    """Of one trial, gone in one way."""
    tokens_in = tokens_out = 0
    seconds = usd = most_usd = 0.0
    words: dict[str, None] = {}
    for request in requests:
        kind, body = request.endpoint.kind, request.body
        prompt = json.dumps(
            {name: body.get(name) for name in ("tools", "system", "messages")}, ensure_ascii=False
        )
        tokens = round(len(prompt) / CHARACTERS_PER_TOKEN) + 12
        most = int(body.get("max_tokens") or 0)
        speed = endpoint_kinds.kind(kind).speed(request.tier)
        tokens_in += tokens
        tokens_out += most
        seconds += speed.begins_s
        seconds += tokens / speed.prompt_tokens_per_s + most / speed.answer_tokens_per_s
        if endpoint_kinds.kind(kind).priced:
            likely = {"input_tokens": tokens, "output_tokens": most}
            usd += counted_usd(kind, request.model, likely)
            most_usd += at_most_usd(kind, request.model, body)
            words |= dict.fromkeys(unbounded(body))
    return Cost(
        calls=len(requests),
        input_tokens=tokens_in,
        most_output_tokens=tokens_out,
        seconds=seconds,
        usd=usd,
        most_usd=most_usd,
        models=frozenset(request.model for request in requests),
        unbounded=tuple(words),
    )


def rehearsed_for(tasks: Sequence[Task]) -> dict[int, Task]:
    """By the id() of each task the one that is rehearsed in its place: itself where there are few;
    of many each stands for some of the same shape that are no larger, and so cost no more."""
    each = -(-len(tasks) // MOST_REHEARSED)
    shapes: dict[tuple, list[Task]] = defaultdict(list)
    for task in tasks:
        judged = isinstance(task.check, Judge)
        workers = task.topology and len(task.topology.workers)
        shape = (judged, task.difficulty, task.tools, workers, frozenset(task.body or ()))
        shapes[shape].append(task)
    return {
        id(task): group[place - place % each]
        for group in (sorted(tasks, key=_size, reverse=True) for tasks in shapes.values())
        for place, task in enumerate(group)
    }


def _size(task: Task) -> int:
    most = (task.body or {}).get("max_tokens")
    answer = ANSWER_WEIGHT * most if isinstance(most, int) else 0
    return len(task.model_dump_json().encode()) // 2 + answer


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
