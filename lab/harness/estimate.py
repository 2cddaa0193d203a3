"""What a run will take, before it starts: each arm's trial is rehearsed, its requests counted."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lab import pricing, units
from lab.clock import today
from lab.endpoints import model_facts, registry
from lab.endpoints.consent import ConsentNeeded
from lab.endpoints.registry import Endpoint
from lab.harness import plan as planning
from lab.harness.budget import at_most_usd, counted_usd, modes, most_tokens, unbounded
from lab.harness.plan import Experiment
from lab.harness.rehearsal import MOODS, Asked, Unforeseen, finished, rehearse
from lab.model import LabError, Technique
from lab.scenarios.checks import Judge
from lab.scenarios.definitions import CHARACTERS_PER_TOKEN, Task
from lab.settings import BenchmarkConfig

MOST_REHEARSED = 40
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

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None
    seconds: float = 0.0
    text: str = ""
    refusals: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    likely_usd: float | None = None
    others: Mapping[str, Endpoint] = field(default_factory=dict)


class Cost(NamedTuple):
    """What trials will likely take, and what is the most."""

    calls: int
    input_tokens: int
    most_output_tokens: int
    seconds: float
    usd: float
    most_usd: float

    @classmethod
    def sum(cls, costs: Iterable[Cost]) -> Cost:
        return cls(*map(sum, zip(cls(0, 0, 0, 0.0, 0.0, 0.0), *costs, strict=True)))


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
        able = planning.abilities(endpoint)
        plan = planning.experiment(config, endpoint.kind, technique, able)
        if words := planning.lacking(plan.title, plan.needs, endpoint):
            raise LabError(words)
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

        costs = Costs(plan, endpoint, other)
        cost = Cost.sum(finished(costs.of_blocks(config, done)))
    except LabError as error:
        return _refused(error)
    except Unforeseen:
        text = f"What these trials ask of {endpoint.name} cannot be known before they run"
        return Estimate(text=text)
    if refused:
        return _refused(*{str(error): error for error in refused.values()}.values())
    priced = endpoint.traits.priced
    price = f"at most ${cost.most_usd:.4f}" if priced else "nothing to pay"
    if priced and costs.unbounded:
        price += f" plus what {', '.join(costs.unbounded)} may add"
    where = " and ".join(dict.fromkeys([endpoint.name, *others]))
    text = (
        f"{cost.calls} calls, about {cost.input_tokens:,} tokens in and at most "
        f"{cost.most_output_tokens:,} out, {price}, about {units.duration(cost.seconds)} on {where}"
    )
    for arm in plan.unable:
        text += f". {arm.name} is left out: {endpoint.name} is not known to have"
        text += f" {', '.join(arm.needs)}"
    cards = [card for model in costs.asked if (card := endpoint.said_of(model))]
    if remark := model_facts.remarks(cards, today()):
        text += f". {remark}"
    refusals: tuple[str, ...] = ()
    if priced:
        budget = config.budget_usd(endpoint.kind)
        if cost.usd > budget:
            refusals = (
                f"The run may cost ${cost.usd:.2f}, more than the budget of ${budget:.2f}; "
                "fewer blocks or a higher --max-usd would let it start.",
            )
        elif cost.most_usd > budget:
            text += f". The budget of ${budget:.2f} may end it before its last block"
        if remark := pricing.remark(costs.models, today()):
            text += f". {remark}"
    return Estimate(
        calls=cost.calls,
        input_tokens=cost.input_tokens,
        output_tokens=cost.most_output_tokens,
        usd=cost.most_usd if priced else None,
        seconds=cost.seconds,
        text=text,
        refusals=refusals,
        likely_usd=cost.usd if priced else None,
        others=others,
    )


def _refused(*errors: LabError) -> Estimate:
    asks = tuple(error.url for error in errors if isinstance(error, ConsentNeeded))
    return Estimate(refusals=tuple(map(str, errors)), asks=asks)


class Costs:
    """What a block on each task takes, each found out once. `other` finds an endpoint by name."""

    def __init__(
        self, plan: Experiment, endpoint: Endpoint, other: Callable[[str], Endpoint]
    ) -> None:
        self.plan, self.endpoint, self.other = plan, endpoint, other
        self.rehearsed = rehearsed_for(plan.tasks)
        self.costs: dict[int, Cost] = {}
        self.models: dict[str, None] = {}
        self.asked: dict[str, None] = {}
        """The models of the run's own endpoint, priced or not."""
        self.unbounded: dict[str, None] = {}
        """What servers may add to the bill, in words."""

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
            ways = []
            for mood in MOODS:
                requests = await rehearse(
                    variant.technique,
                    variant.arm.name,
                    variant.knobs,
                    task,
                    self.endpoint,
                    mood=mood,
                    other=self.other,
                    judged=True,
                )
                ways.append(Cost.sum(map(self._of_request, requests)))
            dearest = {
                name: max(getattr(way, name) for way in ways)
                for name in ("most_output_tokens", "most_usd")
            }
            trials.append(ways[0]._replace(**dearest))
        return Cost.sum(trials)

    def _of_request(self, request: Asked) -> Cost:
        endpoint, body, model = request.endpoint, request.body, request.model
        prompt = json.dumps(
            {name: body.get(name) for name in ("tools", "system", "messages")}, ensure_ascii=False
        )
        tokens = round(len(prompt) / CHARACTERS_PER_TOKEN) + 12
        most = most_tokens(body)
        begins_s, prompt_rate, answer_rate = endpoint.traits.speed(request.tier)
        seconds = request.paused_s + begins_s + tokens / prompt_rate + most / answer_rate
        usd = most_usd = 0.0
        if endpoint is self.endpoint:
            self.asked[model] = None
        if endpoint.traits.priced:
            usage = modes(body) | {"input_tokens": tokens, "output_tokens": most}
            usd = counted_usd(endpoint.kind, model, usage)
            most_usd = at_most_usd(endpoint.kind, model, body)
            self.models[model] = None
            self.unbounded |= dict.fromkeys(unbounded(body))
        return Cost(1, tokens, most, seconds, usd, most_usd)


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
    answer = ANSWER_WEIGHT * most_tokens(task.body or {})
    return len(task.model_dump_json().encode()) // 2 + answer
