"""Trials in virtual time: a lab.model.Bench whose calls are answered by the simulated server's own
latency model, and whose clock jumps to the next instant at which something is due. A ladder of
hours takes seconds. For benches alone: no row of the product comes from here.

    world = World({"queue_ms": 50})
    outcome = run(world.trial(technique, arm, knobs, task))
"""

from __future__ import annotations

import asyncio
import json
import selectors
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from lab import pricing
from lab.clock import today
from lab.endpoints.registry import CAPABILITIES, Endpoint
from lab.harness.bodies import completed, with_nonce
from lab.local import messages_api
from lab.local.engine import Begun, Closed, Grew, Job, Opened
from lab.local.simulated import Simulated
from lab.model import Reply, Request
from lab.rows import CallRow, FinishedTrial, TrialRow
from lab.scenarios import definitions, tools

PRICED = {"simulated-small": "claude-haiku-5-5", "simulated-large": "claude-sonnet-5-5"}
"""What a virtual call costs: as much as the live model of its tier."""
NO_TIME: Any = None


class Jumping(selectors.SelectSelector):
    """Waits for nobody: the time at which the next timer is due is the time that it is."""

    now_s = 0.0

    def select(self, timeout=None):
        self.now_s += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now_s


class World:
    """A simulated endpoint, its cache, its clock and what was spent on it."""

    def __init__(self, knobs: dict[str, Any], can: frozenset[str] = frozenset()) -> None:
        self.engine = Simulated(spin=False, minimum_tokens=256)
        self.engine.turn(knobs)
        self.loop = VirtualLoop()
        self.endpoint = Endpoint(
            "virtual", "simulated", "http://virtual", "", dict(Simulated.tiers),
            capabilities=CAPABILITIES | can,
        )  # fmt: skip
        self.spent_usd, self.numbers = 0.0, count(1)

    def now_ns(self) -> int:
        return round(self.loop.time() * 1e9)

    def run(self, work) -> Any:
        return self.loop.run_until_complete(work)

    async def trial(self, technique, arm, knobs, task, phase="measured", block=0, place=0):
        """One trial as FinishedTrial: its rows, as far as metrics.clocks and a ladder need them."""
        number = str(next(self.numbers))
        row = TrialRow(
            trial_id=number, run_id="", session_id="", technique=technique.slug, arm=arm,
            block=block, position=place, attempt=1, phase=phase, task_id=task.task_id,
            started_utc=NO_TIME, started_ns=self.now_ns(),
        )  # fmt: skip
        bench = VirtualBench(self, number)
        if technique.prepare:
            await technique.prepare(bench, arm, knobs, task)
        row.started_ns = self.now_ns()
        answer = await technique.trial(bench, arm, knobs, task)
        row.ended_ns = self.now_ns()
        row.outcome = "mismatch" if bench.mismatches else "failed" if answer is None else "ok"
        row.error_text = "; ".join(bench.mismatches) or None
        row.quality = definitions.score(task, answer)
        row.cost_usd = sum(call.cost_usd or 0.0 for call in bench.calls)
        self.engine.ledger.clear()  # no other trial could read it: each has a nonce of its own
        return FinishedTrial(row, bench.calls, [], [])


class VirtualBench:
    """lab.model.Bench of one trial."""

    client = None

    def __init__(self, world: World, nonce: str) -> None:
        self.world, self.nonce = world, f"[trial {int(nonce):016d}] "
        self.models, self.capabilities = world.endpoint.models, world.endpoint.capabilities
        self.calls: list[CallRow] = []
        self.mismatches: list[str] = []

    def route(self, name: str) -> None: ...

    def mismatch(self, reason: str) -> None:
        self.mismatches.append(reason)

    @asynccontextmanager
    async def span(self, kind, name):
        yield

    async def tool(self, name: str, input: dict[str, Any]) -> str:
        return await tools.run(name, input, asyncio.sleep)

    async def call(self, request: Request, role="answer", name=None, begun=None) -> Reply:
        world, engine = self.world, self.world.engine
        started_ns = world.now_ns()
        body = with_nonce(completed(request, world.endpoint, False), self.nonce)
        raw = json.dumps(body).encode()
        parsed = messages_api.parse(messages_api.Body, raw)
        counted = await engine.count(parsed)
        plan = engine.ledger.plan(parsed, counted.ends, started_ns)
        usage = plan.usage(counted.total)
        every = bool(request.headers.get("x-lab-tools"))
        job = Job(parsed, counted, plan, started_ns, raw, every)
        steps = engine.modelled(job, started_ns)
        content, first_ns, text_ns, ended = [], None, None, None
        for at_ns, piece in steps:
            if isinstance(piece, Begun):
                await self._until(at_ns)
                engine.ledger.commit(plan, piece.snapshots)
                if begun:
                    begun.set()
            elif isinstance(piece, Opened):
                content.append({**piece.block, "pieces": []})
            elif isinstance(piece, Grew):
                content[-1]["pieces"] += piece.delta.values()
                first_ns = first_ns or at_ns
                if content[-1]["type"] == "text":
                    text_ns = text_ns or at_ns
            elif not isinstance(piece, Closed):
                ended = piece
        read = plan.read_tokens
        engine.ledger.release(plan)
        await self._until(steps[-1][0])
        usage["output_tokens"] = getattr(ended, "output_tokens", 0)
        self._check(request, read, usage)
        cost = pricing.cost_usd(PRICED[parsed.model], usage, today())
        world.spent_usd += cost or 0.0
        self.calls.append(
            CallRow(
                call_id=str(len(self.calls)), trial_id="", run_id="", session_id="", span_id="",
                role=role, attempt=1, endpoint="virtual", model=parsed.model,
                started_ns=started_ns, ended_ns=world.now_ns(), cost_usd=cost,
                first_text_ns=text_ns if request.stream else None,
                first_token_ns=first_ns if request.stream else None,
            )
        )  # fmt: skip
        return Reply(str(len(self.calls)), tuple(map(_block, content)), "end_turn", usage)

    def _check(self, request: Request, read: int, usage: dict[str, Any]) -> None:
        wrote = usage["cache_creation_input_tokens"]
        seen = "read" if read > 16 else "write" if wrote else "none"
        if request.intended_cache not in (seen, "any"):
            self.mismatch(f"cache state {seen} where {request.intended_cache} was meant")

    async def _until(self, at_ns: int) -> None:
        await asyncio.sleep(max(0.0, at_ns / 1e9 - self.world.loop.time()))


def _block(built: dict[str, Any]) -> dict[str, Any]:
    pieces = "".join(built.pop("pieces"))
    if built["type"] == "tool_use":
        return {**built, "input": json.loads(pieces or "{}")}
    return {**built, built["type"]: pieces} if built["type"] in ("text", "thinking") else built
