"""What a run will take, before it starts: each arm's own trial is played once against a bench that only counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from lab import pricing
from lab.clock import today
from lab.endpoints import registry
from lab.endpoints.consent import ConsentNeeded
from lab.endpoints.registry import Endpoint
from lab.harness import plan as planning
from lab.harness.plan import BenchmarkConfig, Experiment, Variant
from lab.model import LabError, Reply, Request, Role, Technique, Tier
from lab.scenarios.definitions import CHARACTERS_PER_TOKEN, Task

MOST_CALLS = 100
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
    """`usd` is None on no live endpoint; answers count at their longest, a model without a price at the dearest listed one.

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


class Uncountable(Exception):
    """The trial is code of the user's own, which must not be run to be counted."""


class Counting:
    """A Bench without an endpoint: it notes what would be asked, and answers in the shape that was asked for."""

    dry = True
    nonce = "[trial 0000000000000000] "

    def __init__(self, endpoint: Endpoint, others: dict[str, Endpoint | LabError]) -> None:
        self.endpoint, self.others = endpoint, others
        self.asked: list[tuple[str, Tier, int, int]] = []

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

    async def call(self, request: Request, role: Role = "answer", name: str | None = None, begun: asyncio.Event | None = None) -> Reply:
        if len(self.asked) >= MOST_CALLS:
            raise LabError(f"A trial would make more than {MOST_CALLS} calls.")
        endpoint = self._other(request.endpoint) if request.endpoint else self.endpoint
        tier = request.tier or endpoint.generates
        prompt = json.dumps({key: request.body.get(key) for key in ("tools", "system", "messages")}, ensure_ascii=False)
        most = int(request.body.get("max_tokens") or 0)
        self.asked.append((request.model or endpoint.model_for(request.tier), tier, round(len(prompt) / CHARACTERS_PER_TOKEN) + 12, most))
        if begun:
            begun.set()
        return Reply("", *_answer(request.body, most), usage={"input_tokens": 0, "output_tokens": most})

    def _other(self, name: str) -> Endpoint:
        """A request's own endpoint; where it is refused that is noted, and the run's stands in, so that every refusal is told at once."""
        if name not in self.others:
            try:
                self.others[name] = registry.beside(name, self.endpoint)
            except LabError as error:
                self.others[name] = error
        other = self.others[name]
        return self.endpoint if isinstance(other, LabError) else other


def _answer(body: Mapping[str, Any], most: int) -> tuple[tuple[dict[str, Any], ...], str]:
    last = body["messages"][-1].get("content") if body.get("messages") else ""
    answered = isinstance(last, list) and any(isinstance(b, dict) and b.get("type") == "tool_result" for b in last)
    if body.get("tools") and not answered and (body.get("tool_choice") or {}).get("type") != "none":
        offered = body["tools"][:1] if (body.get("tool_choice") or {}).get("disable_parallel_tool_use") else body["tools"]
        uses = [
            {"type": "tool_use", "id": f"toolu_{n}", "name": t["name"], "input": example(t.get("input_schema", {}))}
            for n, t in enumerate(offered)
        ]
        return tuple(uses), "tool_use"
    wanted = ((body.get("output_config") or {}).get("format") or {}).get("schema")
    text = json.dumps(example(wanted)) if wanted else "word " * max(1, most)
    return ({"type": "text", "text": text},), "end_turn"


def example(schema: Mapping[str, Any]) -> Any:
    """The plainest value that a JSON schema allows."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return {name: example(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema.get("items", {}))]
    return {"integer": 1, "number": 1.0, "boolean": False, "null": None}.get(kind, "text")


def estimate(
    config: BenchmarkConfig, endpoint: Endpoint | None = None, technique: Technique | None = None, done: Collection[int] = ()
) -> Estimate:
    """Calls, tokens, dollars and seconds of a run, warm-up included and without the blocks that are `done`; why it must not start, if so.

    Sends nothing.
    """
    others: dict[str, Endpoint | LabError] = {}
    try:
        endpoint = endpoint or registry.find(config.endpoint, config.models)
        plan = planning.experiment(config, endpoint.kind, technique)
        if lacking := sorted(plan.needs - endpoint.capabilities):
            raise LabError(f"{endpoint.name} cannot do {', '.join(lacking)}, which {plan.title} is about.")
        if len(plan.tiers) > 1 and endpoint.model_for("small") == endpoint.model_for("large"):
            raise LabError(f"{plan.title} compares a small and a large model; name both: --model small=NAME --model large=NAME.")
        counted = _trials(plan, endpoint, others)
    except LabError as error:
        return _refused(error)
    except Exception:  # the user's own code may fail in any way where no model answers it
        counted = []
    if refused := {str(error): error for error in others.values() if isinstance(error, LabError)}:
        return _refused(*refused.values())
    if not counted:
        return Estimate(0, 0, 0, None, 0.0, f"What these trials ask of {endpoint.name} cannot be known before they run")
    left = len(set(range(1, config.blocks + 1)).difference(done))
    times = (left + config.warmup if left else 0) / len(counted)
    asked = [call for task in counted for calls in task for call in calls]
    seconds = 0.0
    for calls in (calls for task in counted for calls in task):
        for _, tier, prompt, most in calls:
            start, reads, writes = SPEEDS[endpoint.kind, tier]
            seconds += start + prompt / reads + most / writes
    usd = _usd(asked) * times if endpoint.kind == "live" else None
    n = round(len(asked) * times)
    tokens_in, tokens_out = round(sum(c[2] for c in asked) * times), round(sum(c[3] for c in asked) * times)
    price = "nothing to pay" if usd is None else f"at most ${usd:.4f}"
    text = f"{n} calls, about {tokens_in:,} tokens in and at most {tokens_out:,} out, {price}, "
    text += f"about {_duration(seconds * times)} on {' and '.join(dict.fromkeys([endpoint.name, *others]))}"
    budget = config.max_usd if config.max_usd is not None else planning.LIVE_MAX_USD
    refusals = ()
    if usd is not None and (remark := pricing.remark([call[0] for call in asked], today())):
        text += f". {remark}"
    if usd is not None and usd > budget:
        refusals = (
            f"The run may cost ${usd:.2f}, more than the budget of ${budget:.2f}; fewer blocks or a higher --max-usd would let it start.",
        )
    return Estimate(n, tokens_in, tokens_out, usd, seconds * times, text, refusals)


def _refused(*errors: LabError) -> Estimate:
    asks = tuple(error.url for error in errors if isinstance(error, ConsentNeeded))
    return Estimate(0, 0, 0, None, 0.0, "", tuple(map(str, errors)), asks)


def _trials(plan: Experiment, endpoint: Endpoint, others: dict[str, Endpoint | LabError]) -> list[list[list[tuple[str, Tier, int, int]]]]:
    """For up to three tasks and each arm: the calls that one trial makes."""

    async def play(variant: Variant, task: Task) -> list[tuple[str, Tier, int, int]]:
        bench = Counting(endpoint, others)
        if variant.technique.prepare:
            await variant.technique.prepare(bench, variant.arm.name, variant.knobs, task)
        await variant.technique.trial(bench, variant.arm.name, variant.knobs, task)
        return bench.asked

    async def all_of() -> list[list[list[tuple[str, Tier, int, int]]]]:
        return [[await play(variant, task) for variant in plan.variants] for task in plan.tasks[:3]]

    loop = asyncio.new_event_loop()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        try:
            return loop.run_until_complete(all_of())
        finally:
            loop.close()
    loop.close()
    # Inside a running loop (the runner, a notebook) a second one needs a thread of its own.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, all_of()).result()


def _usd(asked: list[tuple[str, Tier, int, int]]) -> float:
    day, total = today(), 0.0
    for model, _, prompt, most in asked:
        usage = {"input_tokens": prompt, "output_tokens": most}
        cost = pricing.cost_usd(model, usage, day)
        total += pricing.ceiling_usd(usage, day) if cost is None else cost
    return total


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
