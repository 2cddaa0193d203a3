"""What a run will take, before it starts: each arm's own trial is played once against a bench that only counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from lab import pricing
from lab.clock import today
from lab.endpoints import registry
from lab.endpoints.consent import ConsentNeeded
from lab.endpoints.registry import Endpoint
from lab.harness import plan as planning
from lab.harness.budget import at_most_usd, counted_usd, unbounded
from lab.harness.plan import BenchmarkConfig, Experiment, Variant
from lab.model import LabError, Reply, Request, Role, Technique, Tier
from lab.scenarios import definitions
from lab.scenarios.definitions import CHARACTERS_PER_TOKEN, Task

MOST_CALLS = 500
SPEEDS: dict[tuple[str, Tier], tuple[float, float, float]] = {
    ("local", "small"): (0.02, 260, 110),
    ("local", "large"): (0.02, 260, 35),
    ("simulated", "small"): (0.01, 10_000, 220),
    ("simulated", "large"): (0.01, 3_300, 75),
    ("live", "small"): (0.5, 20_000, 150),
    ("live", "large"): (0.8, 10_000, 70),
}
"""Seconds before work begins, prompt tokens a second, answer tokens a second: rough, and only for the sentence before a run."""


@dataclass(frozen=True)
class Estimate:
    """`usd` is the most that it can cost, None where nothing is to pay; answers count at their longest, prompts as if all were written
    to the cache, a model without a price at the dearest listed one. What is refused would likely pass the budget.

    Any refusal forbids the run. `asks` are addresses to which the user must agree first; they are refusals too.
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


class Asked(NamedTuple):
    """A call that a trial would make: its prompt as it likely counts, and what it likely costs; on a live endpoint also at most."""

    model: str
    tier: Tier
    prompt: int
    most: int
    usd: float = 0.0
    at_most_usd: float = 0.0
    unbounded: tuple[str, ...] = ()


class Mood(NamedTuple):
    """How the answers are that decide the way through a trial."""

    insists: bool
    """Asks for tools as long as it may."""
    choice: int
    """Which of several allowed values it takes: the first, or the last."""
    stop_reason: str


MOODS = (Mood(False, 0, "end_turn"), Mood(True, -1, "end_turn"), Mood(True, -1, "max_tokens"))
"""The first is the likely one; in the others loops are at their longest, routers choose the large model, cascades escalate."""


class Uncountable(Exception):
    """The trial is code of the user's own, which must not be run to be counted."""


class Counting:
    """A Bench without an endpoint: it notes what would be asked, and answers in the shape that was asked for."""

    dry = True
    nonce = "[trial 0000000000000000] "

    def __init__(
        self, endpoint: Endpoint, others: dict[str, Endpoint | LabError], mood: Mood
    ) -> None:
        self.endpoint, self.others, self.mood = endpoint, others, mood
        self.asked: list[Asked] = []

    @property
    def models(self) -> Mapping[Tier, str]:
        return self.endpoint.models

    @property
    def capabilities(self) -> frozenset[str]:
        return self.endpoint.capabilities

    @property
    def client(self) -> Any:
        raise Uncountable

    def route(self, name: str) -> None: ...

    def mismatch(self, reason: str) -> None: ...

    @asynccontextmanager
    async def span(self, kind: str, name: str) -> AsyncIterator[None]:
        yield

    async def tool(self, name: str, input: dict[str, Any]) -> str:
        return f"{name}: a result of some twenty words, which is about as long as what the tools of the lab answer with."

    async def call(
        self,
        request: Request,
        role: Role = "answer",
        name: str | None = None,
        begun: asyncio.Event | None = None,
    ) -> Reply:
        if len(self.asked) >= MOST_CALLS:
            raise LabError(f"A trial would make more than {MOST_CALLS} calls.")
        endpoint = self._other(request.endpoint) if request.endpoint else self.endpoint
        model, body = request.model or endpoint.model_for(request.tier), request.body
        prompt = json.dumps(
            {key: body.get(key) for key in ("tools", "system", "messages")}, ensure_ascii=False
        )
        tokens, most = (
            round(len(prompt) / CHARACTERS_PER_TOKEN) + 12,
            int(body.get("max_tokens") or 0),
        )
        asked = Asked(model, request.tier or endpoint.generates, tokens, most)
        if endpoint.kind == "live":
            usd = counted_usd("live", model, {"input_tokens": tokens, "output_tokens": most})
            asked = asked._replace(
                usd=usd,
                at_most_usd=at_most_usd("live", model, body),
                unbounded=tuple(unbounded(body)),
            )
        self.asked.append(asked)
        if begun:
            begun.set()
        return Reply(
            "", *_answer(body, most, self.mood), usage={"input_tokens": 0, "output_tokens": most}
        )

    def _other(self, name: str) -> Endpoint:
        """A request's own endpoint; where it is refused that is noted, and the run's stands in, so that every refusal is told at once."""
        if name not in self.others:
            try:
                self.others[name] = registry.beside(name, self.endpoint)
            except LabError as error:
                self.others[name] = error
        other = self.others[name]
        return self.endpoint if isinstance(other, LabError) else other


def _answer(
    body: Mapping[str, Any], most: int, mood: Mood
) -> tuple[tuple[dict[str, Any], ...], str]:
    last = body["messages"][-1].get("content") if body.get("messages") else ""
    answered = isinstance(last, list) and any(
        isinstance(b, dict) and b.get("type") == "tool_result" for b in last
    )
    if (
        body.get("tools")
        and (mood.insists or not answered)
        and (body.get("tool_choice") or {}).get("type") != "none"
    ):
        offered = (
            body["tools"][:1]
            if (body.get("tool_choice") or {}).get("disable_parallel_tool_use")
            else body["tools"]
        )
        uses = [
            {
                "type": "tool_use",
                "id": f"toolu_{n}",
                "name": t["name"],
                "input": example(t.get("input_schema", {}), mood.choice),
            }
            for n, t in enumerate(offered)
        ]
        return tuple(uses), "tool_use"
    wanted = ((body.get("output_config") or {}).get("format") or {}).get("schema")
    text = json.dumps(example(wanted, mood.choice)) if wanted else "word " * max(1, most)
    return ({"type": "text", "text": text},), mood.stop_reason


def example(schema: Mapping[str, Any], choice: int = 0) -> Any:
    """The plainest value that a JSON schema allows; of several the one at `choice`."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][choice]
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return {name: example(part, choice) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema.get("items", {}), choice)]
    return {"integer": 1, "number": 1.0, "boolean": False, "null": None}.get(kind, "text")


def estimate(
    config: BenchmarkConfig,
    endpoint: Endpoint | None = None,
    technique: Technique | None = None,
    done: Collection[int] = (),
) -> Estimate:
    """Calls, tokens, dollars and seconds of a run, warm-up included and without the blocks that are `done`; why it must not start, if so.

    Sends nothing.
    """
    others: dict[str, Endpoint | LabError] = {}
    try:
        endpoint = endpoint or registry.find(config.endpoint, config.models)
        plan = planning.experiment(config, endpoint.kind, technique)
        if lacking := sorted(plan.needs - endpoint.capabilities):
            raise LabError(
                f"{endpoint.name} cannot do {', '.join(lacking)}, which {plan.title} is about."
            )
        if len(plan.tiers) > 1 and endpoint.model_for("small") == endpoint.model_for("large"):
            raise LabError(
                f"{plan.title} compares a small and a large model; name both: --model small=NAME --model large=NAME."
            )
        tasks = _finished(Counted(plan, endpoint, others).blocks(config, done))
    except LabError as error:
        return _refused(error)
    except Exception:  # the user's own code may fail in any way where no model answers it
        tasks = None
    if refused := {str(error): error for error in others.values() if isinstance(error, LabError)}:
        return _refused(*refused.values())
    if tasks is None:
        return Estimate(
            0,
            0,
            0,
            None,
            0.0,
            f"What these trials ask of {endpoint.name} cannot be known before they run",
        )
    likely = [call for task in tasks for call in task.likely]
    n, tokens_in, seconds = (
        len(likely),
        sum(call.prompt for call in likely),
        sum(_seconds(endpoint.kind, call) for call in likely),
    )
    tokens_out = sum(task.tokens_out for task in tasks)
    usd = sum(task.usd for task in tasks) if endpoint.kind == "live" else None
    price = "nothing to pay" if usd is None else f"at most ${usd:.4f}"
    if usd is not None and (
        beyond := dict.fromkeys(word for task in tasks for word in task.unbounded)
    ):
        price += f" plus what {', '.join(beyond)} may add"
    text = f"{n} calls, about {tokens_in:,} tokens in and at most {tokens_out:,} out, {price}, "
    text += f"about {_duration(seconds)} on {' and '.join(dict.fromkeys([endpoint.name, *others]))}"
    if usd is None:
        return Estimate(n, tokens_in, tokens_out, None, seconds, text)
    budget, refusals = config.max_usd if config.max_usd is not None else planning.LIVE_MAX_USD, ()
    if (expected := sum(call.usd for call in likely)) > budget:
        refusals = (
            f"The run may cost ${expected:.2f}, more than the budget of ${budget:.2f}; "
            "fewer blocks or a higher --max-usd would let it start.",
        )
    elif usd > budget:
        text += f". The budget of ${budget:.2f} may end it before its last block"
    if remark := pricing.remark([call.model for call in likely], today()):
        text += f". {remark}"
    return Estimate(n, tokens_in, tokens_out, usd, seconds, text, refusals, likely_usd=expected)


def _refused(*errors: LabError) -> Estimate:
    asks = tuple(error.url for error in errors if isinstance(error, ConsentNeeded))
    return Estimate(0, 0, 0, None, 0.0, "", tuple(map(str, errors)), asks)


class Played(NamedTuple):
    """One block's trials on one task: the calls as they will likely be, and what they add up to at most."""

    likely: list[Asked]
    tokens_out: int
    usd: float
    unbounded: list[str]


class Counted:
    """What each task's trials ask for, each found out once."""

    def __init__(
        self, plan: Experiment, endpoint: Endpoint, others: dict[str, Endpoint | LabError]
    ) -> None:
        self.plan, self.endpoint, self.others = plan, endpoint, others
        self.played: dict[int, Played] = {}

    async def blocks(self, config: BenchmarkConfig, done: Collection[int]) -> list[Played]:
        """Of the warm-up and of each measured block that is left."""
        plan, left = (
            self.plan,
            config.blocks - len(set(range(1, config.blocks + 1)).intersection(done)),
        )
        if not left:
            return []
        warmups = [await self.of(block.task) for block in plan.warmups(0, config.warmup)]
        if self.endpoint.kind != "live":  # nothing to pay: three tasks tell of all
            few = [await self.of(task) for task in plan.tasks[:3]]
            return [*warmups, *(few[number % len(few)] for number in range(left))]
        if config.seed is not None:
            blocks = plan.blocks(config.seed, 1, config.blocks)
            return [
                *warmups,
                *[await self.of(block.task) for block in blocks if block.number not in done],
            ]
        # Without a seed it is open which tasks a last turn would have: the dearest.
        tasks = sorted(
            [await self.of(task) for task in plan.tasks], key=lambda task: task.usd, reverse=True
        )
        turns, rest = divmod(left, len(tasks))
        return [*warmups, *tasks * turns, *tasks[:rest]]

    async def of(self, task: Task) -> Played:
        if id(task) not in self.played:
            self.played[id(task)] = await self._block(task)
        return self.played[id(task)]

    async def _block(self, task: Task) -> Played:
        likely, tokens_out, usd, unbounded = [], 0, 0.0, []
        for variant in self.plan.variants:
            # Which way through a trial is the dearest depends on the answers: so each way is gone, where there is something to pay.
            ways = [
                await self._trial(variant, task, mood)
                for mood in (MOODS if self.endpoint.kind == "live" else MOODS[:1])
            ]
            likely += ways[0]
            tokens_out += max(sum(call.most for call in way) for way in ways)
            usd += max(sum(call.at_most_usd for call in way) for way in ways)
            unbounded += [word for way in ways for call in way for word in call.unbounded]
        return Played(likely, tokens_out, usd, list(dict.fromkeys(unbounded)))

    async def _trial(self, variant: Variant, task: Task, mood: Mood) -> list[Asked]:
        bench, technique = Counting(self.endpoint, self.others, mood), variant.technique
        if technique.prepare:
            await technique.prepare(bench, variant.arm.name, variant.knobs, task)
        answer = await technique.trial(bench, variant.arm.name, variant.knobs, task)
        if answer is not None and (body := definitions.judge_body(task, answer)):
            await bench.call(Request(body, tier="large", stream=False), role="check")
        return bench.asked


def _finished(work: Coroutine[Any, Any, list[Played]]) -> list[Played]:
    """What it comes to; inside a running loop (the runner, a notebook) a second one needs a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _seconds(kind: str, call: Asked) -> float:
    start, reads, writes = SPEEDS[kind, call.tier]
    return start + call.prompt / reads + call.most / writes


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
