"""Random plans, usages, interruptions and joins against a server that keeps its own bill: `python
-m bench.budgets [--plans 1000]`.

A plan is a technique with knobs, tasks, models and a cap; the server answers with whatever usage it
likes (iterations, an advisor, a fallback, models without a price, speed, geo, no usage at all,
streams cut short, refusals), and bills each request by prices that are written here once more. A
plan is stopped at some request, gone on with, extended. Its bill may pass the cap by no more than
the calls that were in flight. Ends with 1 where one did.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.raw_server import Connection, RawServer, message, sse
from lab import json_schema
from lab.endpoints.registry import Endpoint
from lab.harness import runner as running
from lab.harness.budget import stored_usd
from lab.harness.estimate import estimate
from lab.harness.runner import BenchmarkRunner, Joined
from lab.model import LabError
from lab.rows import FinishedTrial
from lab.scenarios.definitions import Task
from lab.settings import config_of

USD = {"cheap": (100e-6, 400e-6), "dear": (1000e-6, 4000e-6)}
"""Dollars for a token in and out; a model that is not here counts as the dearest."""
PRICES = "".join(
    f'[[prices]]\nmodel = "{name}"\nfrom = 2026-01-01\ninput = {put * 1e6}\noutput = {out * 1e6}\n'
    f"write_5m = {put * 1e6}\nwrite_1h = {put * 1e6}\nread = {put * 1e6}\n\n"
    for name, (put, out) in USD.items()
)
MODELS = ("cheap", "dear", "nobody-knows")
SHAPES = ("plain",) * 16 + (
    "compaction",
    "advisor",
    "fallback",
    "us",
    "fast",
    "none",
    "cut",
    "refused",
    "again",
)
DEAR = ("plain", "compaction", "advisor", "fallback", "fast", "none")
"""Of one of them a plan's server has many."""
TECHNIQUES: dict[str, dict[str, Any]] = {
    "aa": {},
    "streaming": {},
    "caching": {"prefix_tokens": 512},
    "routing": {"check": "self"},
    "parallelism": {"suite": "requests", "n": 4, "service_ms": 0},
    "topology": {"steps": 3, "service_ms": 0},
}


@dataclass
class Billed:
    usd: float
    beyond_usd: float
    """Of it what no request shows: other iterations. A call that is stopped in flight cannot have
    told of them."""


class Server:
    """Answers, and keeps the bill; a request is billed in full as soon as it has come, whoever
    hangs up."""

    def __init__(self, seed: int) -> None:
        self.seed, self.bill, self.open, self.most_open = seed, [], 0, 0
        self.shapes = SHAPES + (random.Random(seed).choice(DEAR),) * 12
        self.turn = threading.Lock()

    def answer(self, connection: Connection) -> None:
        body = json.loads(connection.asked.body)
        with self.turn:
            rng = random.Random(f"{self.seed}:{len(self.bill)}")
            shape = rng.choice(self.shapes)
            usage, billed = planted(rng, shape, body)
            self.bill.append(billed)
            name = f"msg_{len(self.bill)}"
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        try:
            time.sleep(rng.choice((0, 0, 0, 0.004)))
            self._send(connection, body, shape, usage, name)
        finally:
            with self.turn:
                self.open -= 1

    def _send(
        self,
        c: Connection,
        body: dict[str, Any],
        shape: str,
        usage: dict[str, Any] | None,
        name: str,
    ) -> None:
        if shape == "again":
            return c.json(
                {"type": "error", "error": {"type": "rate_limit_error", "message": "Later."}},
                429,
                retry_after=0,
            )
        if shape == "refused":
            return c.json({"type": "error", "error": {"type": "api_error", "message": "No."}}, 500)
        content, reason = said(body)
        whole = message(id=name, content=content, stop_reason=reason, model=body["model"])
        if usage is None:
            del whole["usage"]
        else:
            whole["usage"] = usage
        if not body.get("stream"):
            return (
                c.json(whole)
                if shape != "cut"
                else c.send(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
            )
        begun = {**whole, "content": [], "stop_reason": None}
        if usage is not None:
            begun["usage"] = {"input_tokens": usage["input_tokens"], "output_tokens": 1}
        events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
        for index, block in enumerate(content):
            empty = {"text": ""} if block["type"] == "text" else {"input": {}}
            kind, key = (
                ("text_delta", "text")
                if block["type"] == "text"
                else ("input_json_delta", "partial_json")
            )
            value = block["text"] if block["type"] == "text" else json.dumps(block["input"])
            events += [
                {
                    "type": "content_block_start",
                    "index": index,
                    "content_block": {**block, **empty},
                },
                {
                    "type": "content_block_delta",
                    "index": index,
                    "delta": {"type": kind, key: value},
                },
                {"type": "content_block_stop", "index": index},
            ]
        c.head(200, "text/event-stream", transfer_encoding="chunked")
        c.chunk(sse(events))
        if shape == "cut":
            return None
        time.sleep(0.002)
        ended = {"type": "message_delta", "delta": {"stop_reason": reason}} | (
            {"usage": usage} if usage is not None else {}
        )
        c.chunk(sse([ended, {"type": "message_stop"}]))
        c.send(b"0\r\n\r\n")
        c.kept = True
        return None


def planted(
    rng: random.Random, shape: str, body: dict[str, Any]
) -> tuple[dict[str, Any] | None, Billed]:
    """A usage, and what it costs by hand."""
    size = len(json.dumps(body))
    put, out = rng.randrange(size // 16, size // 4), rng.randrange(0, int(body["max_tokens"]) + 1)
    dearest = USD["dear"]

    def usd(model: str, tokens_in: int, tokens_out: int) -> float:
        rate = USD.get(model, dearest)
        return tokens_in * rate[0] + tokens_out * rate[1]

    own = usd(body["model"], put, out)
    usage: dict[str, Any] = {"input_tokens": put, "output_tokens": out}
    message_part = {"type": "message", **usage}
    if shape in ("again", "refused"):
        return None, Billed(0.0, 0.0)
    if shape == "none":
        return None, Billed(own, 0.0)
    if shape == "us":
        return {**usage, "inference_geo": "us"}, Billed(1.1 * own, 0.1 * own)
    if shape == "fast":  # no list has its price: the dearest
        rate = usd("nobody-knows", put, out)
        return {**usage, "speed": "fast"}, Billed(rate, rate - own)
    if shape == "compaction":
        extra = usd(body["model"], 10 * put, out)
        parts = [
            {"type": "compaction", "input_tokens": 10 * put, "output_tokens": out},
            message_part,
        ]
        return {**usage, "iterations": parts}, Billed(own + extra, extra)
    if shape == "advisor":
        model = rng.choice(MODELS)
        parts = [
            message_part,
            {
                "type": "advisor_message",
                "model": model,
                "input_tokens": 5 * put,
                "output_tokens": out,
            },
        ]
        return {**usage, "iterations": parts}, Billed(
            own + usd(model, 5 * put, out), usd(model, 5 * put, out)
        )
    if shape == "fallback":
        model = rng.choice([name for name in MODELS if name != body["model"]])
        parts = [
            {**message_part, "model": body["model"]},
            {**message_part, "type": "fallback_message", "model": model},
        ]
        return {**usage, "iterations": parts}, Billed(
            usd(model, put, out), max(0.0, usd(model, put, out) - own)
        )
    return usage, Billed(own, 0.0)


def said(body: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    tools = body.get("tools") or []
    if tools and (body.get("tool_choice") or {}).get("type") != "none":
        uses = [
            {
                "type": "tool_use",
                "id": f"toolu_{place}",
                "name": tool["name"],
                "input": json_schema.sample(tool["input_schema"]),
            }
            for place, tool in enumerate(tools)
        ]
        return uses, "tool_use"
    schema = ((body.get("output_config") or {}).get("format") or {}).get("schema")
    return [
        {
            "type": "text",
            "text": json.dumps(json_schema.sample(schema, rng=json_schema.Plain(-1)))
            if schema
            else "A tide.",
        }
    ], "end_turn"


@dataclass
class Plan:
    technique: str
    models: dict[str, str]
    runs: int
    warmup: int
    seed: int
    judged: bool
    share: float
    """The cap as a share of what the run will likely cost; below 1 it would not start."""
    stops: tuple[int, ...]
    """After so many requests each session is stopped; the last one runs to its end."""

    @classmethod
    def drawn(cls, rng: random.Random) -> Plan:
        models = rng.sample(MODELS, 2)
        return cls(
            rng.choice(list(TECHNIQUES)),
            {"small": models[0], "large": models[1]},
            rng.randint(1, 4),
            rng.randint(0, 1),
            rng.randrange(2**31),
            rng.random() < 0.4,
            rng.choice((1.0, 1.0, 1.2, 2.0)),
            tuple(rng.randint(1, 12) for _ in range(rng.randint(0, 3))),
        )


@dataclass
class Kept:
    """A sink in memory: what a plan did is gone on with from its rows."""

    run: Any = None
    trials: list[FinishedTrial] = field(default_factory=list)
    sessions: int = 0

    def write_run(self, row: Any) -> None:
        self.run = row

    def write_session(self, row: Any) -> None:
        self.sessions += 1

    def keep(self, trial: FinishedTrial) -> None:
        self.trials.append(trial)

    def write_trials(self, trials: Any) -> None: ...

    def finish_run(self, run_id: str, status: str) -> None: ...

    def joined(self) -> Joined:
        arms = len(self.run.settings["arms"])
        whole = Counter(
            (f.trial.session_id, f.trial.block)
            for f in self.trials
            if f.trial.outcome != "cancelled" and f.trial.phase == "measured"
        )
        spent = stored_usd("live", [asdict(call) for f in self.trials for call in f.calls])
        begun = Counter(f.trial.block for f in self.trials)
        return Joined(
            self.run,
            frozenset(b for (_, b), n in whole.items() if n == arms),
            dict(begun),
            spent,
            self.sessions,
        )


@dataclass
class Spent:
    """What a plan came to: `most_usd` is the cap and the calls in flight."""

    cap_usd: float
    usd: float
    most_usd: float
    calls: int
    ended: list[str]

    @property
    def passed(self) -> bool:
        return self.usd > self.most_usd * (1 + 1e-9)


def tried(plan: Plan) -> Spent:
    """The plan carried out, with all its sessions."""
    server = Server(plan.seed)
    with RawServer(server.answer) as raw:
        endpoint = Endpoint("live", "live", raw.url, "k", plan.models, "small")
        check = {"kind": "judge", "criteria": "short"} if plan.judged else None
        task = Task(
            task_id="t",
            prompt="What is a tide?",
            check=check,
            tools=("tide", "weather"),
            category="tools",
        )
        config = {
            "technique": plan.technique,
            "runs": plan.runs,
            "warmup": plan.warmup,
            "seed": plan.seed,
            "tasks": [task],
            "knobs": {**TECHNIQUES[plan.technique], "answer_tokens": 16},
            "deadline_s": 20,
        }
        cap = plan.share * estimate(config_of(**config, max_usd=1e9), endpoint).likely_usd
        sink, ended = Kept(), []
        for stop_at in (*plan.stops, 0):
            asked = len(server.bill)
            stop = (
                (lambda before=asked, most=stop_at: len(server.bill) - before >= most)
                if stop_at
                else None
            )
            joined = sink.joined() if sink.run else None
            made = BenchmarkRunner(
                config_of(**config, max_usd=cap), sink, stop=stop, endpoint=endpoint, joined=joined
            )
            asyncio.run(made.run())
            ended.append(made.status)
    costs = sorted((billed.usd for billed in server.bill), reverse=True)
    told = {
        call.message_id
        for kept in sink.trials
        for call in kept.calls
        if call.stop_reason is not None
    }
    cut_off = sum(
        billed.beyond_usd
        for number, billed in enumerate(server.bill, 1)
        if f"msg_{number}" not in told
    )
    in_flight = sum(costs[: server.most_open]) + cut_off
    return Spent(cap, sum(costs), cap + in_flight, len(costs), ended)


@contextlib.contextmanager
def ground() -> Iterator[None]:
    """Prices of the bench's own, and no time lost: what it tries has nothing to do with clocks."""
    before, idle, poll = os.environ.get("LAB_PRICES"), running.IDLE_S, running.STOP_POLL_S
    with tempfile.TemporaryDirectory(prefix="lab-budgets-") as folder:
        file = Path(folder) / "prices.toml"
        file.write_text(PRICES)
        os.environ["LAB_PRICES"], running.IDLE_S, running.STOP_POLL_S = str(file), 0.0, 0.003
        try:
            yield
        finally:
            running.IDLE_S, running.STOP_POLL_S = idle, poll
            os.environ.pop("LAB_PRICES")
            if before is not None:
                os.environ["LAB_PRICES"] = before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--plans", type=int, default=1000, help="how many (default 1000, some ten minutes)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first plan; the next has the next"
    )
    arguments = parser.parse_args()
    began, passed, calls, ends, reached = time.monotonic(), [], 0, Counter(), 0
    with ground():
        for seed in range(arguments.seed, arguments.seed + arguments.plans):
            try:
                spent = tried(Plan.drawn(random.Random(seed)))
            except LabError as error:
                print(f"seed {seed}: {error}")
                return 1
            calls += spent.calls
            ends.update(spent.ended)
            reached += spent.usd >= spent.cap_usd
            if (done := seed - arguments.seed + 1) % 100 == 0:
                print(f"{done} plans, {time.monotonic() - began:.0f} s", flush=True)
            if spent.passed:
                passed.append(seed)
                print(
                    f"seed {seed}: ${spent.usd:.4f} of ${spent.cap_usd:.4f}, with the calls in"
                    f" flight ${spent.most_usd:.4f}"
                )
    print(
        f"{arguments.plans} plans, {calls} calls, sessions ended {dict(ends)},"
        f" {time.monotonic() - began:.0f} s"
    )
    print(
        f"cap reached by {reached} plans, passed by more than the calls in flight by {len(passed)}"
    )
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())
