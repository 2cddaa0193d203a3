"""A seeded latency model behind the Messages API: plain knobs, scripted plays, and faults. It
imitates no model that exists.

One token is four characters of a prompt, and one streamed piece of a reply. Equal requests draw
equal latencies in the same order; the reply's text depends on the request without its nonce, so
both arms of a trial get the same words.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from itertools import chain, repeat
from typing import Any, Literal

from pydantic import Field, ValidationError

from lab import clock, endpoint_kinds, json_schema
from lab.local import fallback
from lab.local.engine import (
    Abilities,
    Begun,
    Closed,
    Counted,
    Cut,
    Ended,
    Grew,
    Job,
    Opened,
    Piece,
    Started,
    text_block,
    timings,
    tool_block,
)
from lab.local.grammars import Grammars
from lab.local.ledger import Ledger
from lab.local.messages_api import ApiError, Body, Prompt, Strict, canonical
from lab.local.prompt import first_stop, result_text

WORDS = """
the a small quiet answer begins with one clear reason and then adds two more that follow from it
while each step stays short enough to check by hand before another is taken so nothing important
left behind
""".split()  # noqa: SIM905
FOREVER_MS = 3_600_000.0
Step = tuple[float, Piece | Exception]
"""Milliseconds after the request was received, or its turn had come, and what is due then."""
Timed = tuple[int, Piece | Exception]
"""The same by lab.clock.now_ns()."""
EFFORT = {"low": 0.5, "medium": 0.75, "high": 1.0, "xhigh": 1.5, "max": 2.0}
"""How much is thought and written; `high` is the default."""
FAST = 2.5
"""`speed: "fast"`: so many times the output tokens per second, and the same time to the first."""

TOKEN_COUNT = "thinking-token-count-2026-05-13"
QUANTUM, CADENCE_MS = 10, 20.0
"""Of its estimates: tokens, and how long one follows another at the earliest."""


class Fault(Strict):
    """`http` answers with an error; the others break a stream after so many pieces."""

    kind: Literal["http", "error", "cut", "stall", "no_stop"]
    status: int = 529
    retry_after: float | None = None
    after: int = 0
    ms: float = FOREVER_MS
    type: str = "overloaded_error"
    message: str = "Overloaded"


class ToolPlay(Strict):
    name: str
    input: dict[str, Any] = Field(default_factory=dict)
    at: float | None = None


class Play(Strict):
    """A scripted reply; instants in milliseconds after the request was received. `text`: when each
    piece comes; `texts`: what it says."""

    headers: float = 0
    thinking: list[float] = Field(default_factory=list)
    text: list[float] = Field(default_factory=list)
    texts: list[str] | None = None
    tools: list[ToolPlay] = Field(default_factory=list)
    done: float | None = None
    usage: dict[str, Any] = Field(default_factory=dict)
    stop_reason: str | None = None
    fault: Fault | None = None


class SimKnobs(Strict):
    """Times are medians in milliseconds; `jitter` is the sigma of their lognormal spread."""

    network_ms: float = Field(1.0, ge=0)
    queue_ms: float = Field(2.0, ge=0)
    prefill_ms_per_token: float = Field(0.2, ge=0)
    read_ms_per_token: float = Field(
        0.01, ge=0, description="the same for a token read from the cache"
    )
    gap_ms: float = Field(4.0, ge=0)
    jitter: float = Field(0.15, ge=0, le=2)
    tail: float = Field(
        0.02, ge=0, le=1, description="share of gaps that are drawn from the heavy tail"
    )
    tail_factor: float = Field(
        5.0, ge=1, description="a tail gap is this many gaps long, times a Pareto draw"
    )
    slow_share: float = Field(
        0.0, ge=0, le=1, description="share of requests that are late from the start"
    )
    slow_ms: float = Field(800.0, ge=0, description="by how much, beside the usual queue")
    twin_correlation: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of requests that bring their luck along: of equal ones both are late, "
        "or neither (0: each draws by itself, 1: asking twice gains nothing)",
    )
    slower: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="all times are so many times as long: set while it runs, a step",
    )
    slower_from_tokens: int = Field(
        0, ge=0, description="the step is felt by prompts of so many tokens or more (0: by all)"
    )
    answer_tokens: int = Field(60, ge=1)
    thinking_tokens: int = Field(30, ge=0, description="spent where a request turns thinking on")
    slots: int | None = Field(
        None,
        ge=1,
        description="requests answered at once; the others wait in order of arrival (none: no "
        "limit). A server with fixed times answers slots / service time a second",
    )
    schema_compile_ms: float = Field(
        40.0,
        ge=0,
        description="per kilobyte of a schema, at its first use; it is kept for a day",
    )
    thread_loss: float = Field(
        0.0, ge=0, le=1, description="share of turns after which a message thread is gone"
    )
    serve_speed: Literal["standard", "fast"] | None = Field(
        None, description="speed at which a request that asks for one is served, unasked"
    )
    serve_model: str | None = Field(
        None, min_length=1, description="model that answers in the place of the one asked"
    )
    serve_tier: Literal["standard", "priority"] | None = Field(
        None, description="service tier that the usage tells"
    )
    serve_rate: float = Field(
        1.0, ge=0, le=1, description="share of requests that are served otherwise by these three"
    )
    text: Literal["generated", "echo"] = "generated"
    seed: int = 0
    fault: Fault | None = None
    fault_rate: float = Field(1.0, ge=0, le=1, description="share of requests that meet the fault")


DEFAULTS = {
    "simulated-small": {"prefill_ms_per_token": 0.1},
    "simulated-large": {"gap_ms": 12.0, "prefill_ms_per_token": 0.3},
}


class Slots:
    """Who is answered now, and who waits, in order of arrival.

    A place is taken over at the instant at which it was to be free, not at that at which the event
    loop got round to it: a queue of a thousand requests is no later than its last one.
    """

    def __init__(self) -> None:
        self.taken = 0
        self.free_ns: deque[int] = deque()
        """Of places that were taken before, since when they are free."""
        self.waiting: deque[asyncio.Future[int]] = deque()

    async def take(self, slots: int, received_ns: int) -> int:
        """The instant from which on the request is answered."""
        if self.taken < slots and not self.waiting:
            self.taken += 1
            return max(received_ns, self.free_ns.popleft() if self.free_ns else 0)
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            return max(received_ns, await turn)
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn had come just then
                self.give_back(slots, turn.result())
            raise

    def give_back(self, slots: int, at_ns: int) -> None:
        self.taken -= 1
        self.free_ns.append(at_ns)
        while len(self.free_ns) > max(slots - self.taken, 0):  # there were more places before
            self.free_ns.popleft()
        while self.waiting and self.taken < slots:
            turn = self.waiting.popleft()
            if not turn.done():  # whoever waited may have gone
                self.taken += 1
                turn.set_result(self.free_ns.popleft() if self.free_ns else at_ns)


class Simulated:
    """Plays first, in the order they were given; then the latency model."""

    kind = endpoint_kinds.SIMULATED
    tiers: dict[str, str] = {"small": "simulated-small", "large": "simulated-large"}  # noqa: RUF012
    abilities = Abilities(1_000_000, 128_000, thinking=True, effort=True, fast=True, batches=True)

    def __init__(self, spin: bool, minimum_tokens: int = 256):
        self.spin = spin
        self.ledger = Ledger(minimum_tokens)
        self.grammars = Grammars()
        self.plays: deque[Play] = deque()
        self.overall: dict[str, Any] = {}
        self.by_model: dict[str, dict[str, Any]] = {}
        self.seen: Counter[bytes] = Counter()
        self.slots: dict[str, Slots] = defaultdict(Slots)

    def names(self) -> list[str]:
        return list(self.tiers.values())

    async def warm(self, model: str) -> None:
        """Nothing to load."""

    def close(self) -> None:
        self.ledger.clear()

    def check(self, prompt: Prompt) -> None:
        prompt.check_schemas(json_schema.sample)

    def knobs(self, model: str) -> SimKnobs:
        """What holds for a model: its own knobs, else the overall ones, else its defaults."""
        return SimKnobs.model_validate(
            {**DEFAULTS.get(model, {}), **self.overall, **self.by_model.get(model, {})}
        )

    def turn(self, knobs: dict[str, Any]) -> None:
        """Set knobs; `models` holds those of single models. Where one is wrong, pydantic's
        ValidationError, and nothing is changed."""
        before = self.overall, self.by_model
        self.overall, self.by_model = {**self.overall, **knobs}, dict(self.by_model)
        for name, own in self.overall.pop("models", {}).items():
            self.by_model[name] = {**self.by_model.get(name, {}), **own}
        try:
            for name in {*self.names(), *self.by_model}:
                self.knobs(name)
        except ValidationError:
            self.overall, self.by_model = before
            raise

    def reset(self) -> None:
        """Default knobs, no plays, nothing cached, every latency draw from the start."""
        self.plays.clear()
        self.seen.clear()
        self.grammars.clear()
        self.ledger.clear()
        self.overall, self.by_model = {}, {}

    def loses(self, model: str) -> bool:
        """Whether the thread of the turn that ends now is lost; the same turns for a seed."""
        knobs = self.knobs(model)
        self.seen[b"thread"] += 1
        draw = random.Random(f"{knobs.seed}:thread:{self.seen[b'thread']}").random()
        return draw < knobs.thread_loss

    def instead(self, body: Body) -> tuple[Body, dict[str, Any]]:
        """What is served in a request's place, and what the usage says of it; the same requests
        for a seed, by their order."""
        knobs = self.knobs(body.model)
        self.seen[b"fallback"] += 1
        draw = random.Random(f"{knobs.seed}:fallback:{self.seen[b'fallback']}").random()
        return fallback.instead(body, knobs, draw)

    async def count(self, prompt: Prompt) -> Counted:
        ends, total = [], 0
        for block in prompt.blocks():
            value = block.value
            if value.get("type") == "tool_result":
                text = result_text(value)
            else:
                text = value.get("text") or value.get("thinking") or canonical(value)
            total += -(-len(text) // 4)
            ends.append(total)
        return Counted(ends, total, [])

    async def answer(self, job: Job) -> AsyncIterator[Piece]:
        slots = None if self.plays else self.knobs(job.body.model).slots
        if slots:
            pieces = self.in_turn(job, slots)
        elif self.plays:
            pieces = self.played(self.scripted(job, self.plays.popleft()))
        else:
            pieces = self.played(self.modelled(job, job.received_ns))
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def played(self, script: list[Timed]) -> AsyncIterator[Piece]:
        for at_ns, piece in script:
            await self.sleep(at_ns)
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def in_turn(self, job: Job, slots: int) -> AsyncIterator[Piece]:
        queue = self.slots[job.body.model]
        began_ns = await queue.take(slots, job.received_ns)
        free_ns = None
        try:
            script = self.modelled(job, began_ns)
            async for piece in self.played(script):
                yield piece
            free_ns = script[-1][0]
        finally:
            # Who goes in the middle leaves his place at once.
            queue.give_back(slots, clock.now_ns() if free_ns is None else free_ns)

    async def sleep(self, at_ns: int) -> None:
        await clock.sleep_until(at_ns - clock.SPIN_NS if self.spin else at_ns)
        # A timer of uvloop may fire a fraction of a millisecond early. Each turn of the spin lets
        # the loop flush the other streams' writes, which a blocking spin would hold back.
        while clock.now_ns() < at_ns:
            await clock.sleep_s(0)

    def scripted(self, job: Job, play: Play) -> list[Timed]:
        if play.fault and play.fault.kind == "http":
            return timed(job.received_ns, [(play.headers, http_error(play.fault))])
        texts = play.texts if play.texts is not None else ["word "] * len(play.text)
        times = play.text or [play.headers] * len(texts)
        times = [*times, *[times[-1]] * (len(texts) - len(times))] if times else []
        steps: list[Step] = [
            (play.headers, Begun([(None, 1)] * 4, play.usage)),
            (play.headers, Started()),
        ]
        last = play.headers
        if play.thinking:
            steps += thinking(play.thinking, job)
            last = play.thinking[-1]
        if times:
            steps += block(text_block(), texts, times)
            last = times[-1]
        for tool in play.tools:
            last = max(last, tool.at or 0)
            steps += block(tool_block(tool.name), [json.dumps(tool.input)], [last])
        done = max(last, play.done or 0)
        output = len(times) + len(play.thinking) + len(play.tools)
        stop = play.stop_reason or ("tool_use" if play.tools else "end_turn")
        lab = timings(0.0, play.headers, done - play.headers, job.plan.read_tokens)
        steps.append((done, Ended(stop, output, lab, thinking_tokens=len(play.thinking))))
        return timed(job.received_ns, broken(steps, play.fault))

    def modelled(self, job: Job, began_ns: int) -> list[Timed]:
        """`began_ns` is when its turn came; before, it was queued."""
        body, cached = job.body, job.plan.read_tokens
        knobs = self.knobs(body.model)
        digest = hashlib.sha256(job.raw + body.model.encode()).digest()
        self.seen[digest] += 1
        rng = random.Random(f"{knobs.seed}:{digest.hex()}:{self.seen[digest]}")
        words = random.Random(f"{knobs.seed}:{body.seed()}")

        step = knobs.slower if job.counted.total >= knobs.slower_from_tokens else 1.0

        def spread(median: float) -> float:
            return step * median * rng.lognormvariate(0, knobs.jitter)

        effort, fast = EFFORT[body.effort or "high"], FAST if body.speed == "fast" else 1.0

        rates = chain([1.0], repeat(fast))  # fast mode is no sooner at the first token

        def gap() -> float:
            tail = rng.random() < knobs.tail
            factor = knobs.tail_factor * min(rng.paretovariate(2.5), 20) if tail else 1.0
            return spread(knobs.gap_ms) * factor / next(rates)

        if knobs.fault and knobs.fault.kind == "http" and rng.random() < knobs.fault_rate:
            return timed(began_ns, [(spread(knobs.network_ms), http_error(knobs.fault))])
        queue = spread(knobs.network_ms) + spread(knobs.queue_ms)
        queue += self.grammars.wait_ms(body, step * knobs.schema_compile_ms, began_ns)
        queue += self.late_ms(knobs, digest.hex())
        prefill = spread(1) * (job.counted.total - cached) * knobs.prefill_ms_per_token
        prefill += cached * knobs.read_ms_per_token
        at = queue + prefill
        steps: list[Step] = [(at, Begun([(None, 1)] * 4)), (at, Started())]
        left, thought, stop, stop_sequence = body.max_tokens, 0, "end_turn", None
        if body.thinking and body.thinking.on and left:
            budget = body.thinking.budget_tokens or left
            thought = min(round(knobs.thinking_tokens * effort), budget, left)
            left -= thought
            instants = [at := at + gap() for _ in range(thought)]
            steps += thinking(instants, job) if instants else []
        due = body.tools_due(job.every_tool)
        if due:
            stop = "tool_use"
            for tool in due:
                value = json_schema.sample(tool.input_schema, bool(tool.strict), words)
                pieces = quarters(canonical(value))
                if len(pieces) > left:
                    pieces, stop = pieces[:left], "max_tokens"
                left -= len(pieces)
                if pieces:
                    instants = [at := at + gap() for _ in pieces]
                    steps += block(tool_block(tool.name), pieces, instants)
        elif left:
            tokens = max(round(knobs.answer_tokens * effort), 1)
            pieces, stop_sequence = self.text(body, knobs, words, tokens)
            stop = "stop_sequence" if stop_sequence is not None else "end_turn"
            if len(pieces) > left:
                pieces, stop, stop_sequence = pieces[:left], "max_tokens", None
            left -= len(pieces)
            instants = [at := at + gap() for _ in pieces]
            steps += block(text_block(), pieces, instants or [at])
        else:
            stop = "max_tokens"
        waited = (began_ns - job.received_ns) / 1e6
        lab = timings(waited + queue, prefill, at - queue - prefill, cached)
        steps.append((at, Ended(stop, body.max_tokens - left, lab, stop_sequence, thought)))
        meets = knobs.fault is not None and rng.random() < knobs.fault_rate
        return timed(began_ns, broken(steps, knobs.fault if meets else None))

    def late_ms(self, knobs: SimKnobs, digest: str) -> float:
        """By generators of its own: whether some are late changes no other draw."""
        if not knobs.slow_share:
            return 0.0
        shared = random.Random(f"{knobs.seed}:late:{digest}")
        own = random.Random(f"{knobs.seed}:late:{digest}:{self.seen[bytes.fromhex(digest)]}")
        rng = shared if shared.random() < knobs.twin_correlation else own
        is_late = rng.random() < knobs.slow_share
        return knobs.slow_ms * rng.lognormvariate(0, knobs.jitter) if is_late else 0.0

    def text(
        self, body: Body, knobs: SimKnobs, words: random.Random, tokens: int
    ) -> tuple[list[str], str | None]:
        """The reply's pieces, and the stop sequence that ended it."""
        if body.json_schema is not None:
            pieces = quarters(canonical(json_schema.sample(body.json_schema, True, words)))
        elif knobs.text == "echo":
            text = "".join(block.text for block in body.last_turn.content if block.type == "text")
            pieces = [word + " " for word in text.split()]
        else:
            pieces = []
            while len(pieces) < tokens:
                sentence = words.choices(WORDS, k=words.randint(6, 12))
                pieces += [sentence[0].capitalize(), *[f" {word}" for word in sentence[1:]], ". "]
            pieces = pieces[:tokens]
        stop, end = first_stop("".join(pieces), body.stop_sequences)
        if stop is None:
            return pieces, None
        shown, length = [], 0
        for piece in pieces:
            if length >= end:
                break
            shown.append(piece[: end - length])
            length += len(piece)
        return shown, stop


def quarters(text: str) -> list[str]:
    """Text in pieces of four characters: one token each."""
    return [text[i : i + 4] for i in range(0, len(text), 4)]


def block(opened: Opened, texts: Iterable[str], instants: list[float]) -> list[Step]:
    grown = [(at, opened.grown(text)) for at, text in zip(instants, texts, strict=False)]
    return [(instants[0], opened), *grown, (instants[-1], Closed())]


def thinking(instants: list[float], job: Job) -> list[Step]:
    """A thinking block. With `display` omitted (the API's default) only its signature is seen, at
    its end, and under the beta TOKEN_COUNT what has been thought so far."""
    asked = job.body.thinking
    shown = asked is None or asked.display == "summarized"
    opened = Opened({"type": "thinking", "thinking": "", "signature": ""})
    steps = block(opened, ["so "] * len(instants) if shown else [], instants)
    estimates = [] if shown or TOKEN_COUNT not in job.betas else estimated(instants)
    signature = Grew({"type": "signature_delta", "signature": "c2ltdWxhdGVk"})
    return [*steps[:-1], *estimates, (instants[-1], signature), steps[-1]]


def estimated(instants: list[float]) -> list[Step]:
    """The increments of a running estimate of hidden thinking: multiples of QUANTUM, and no two
    within CADENCE_MS (anthropic.types.beta.BetaThinkingDelta)."""
    steps, told, due = [], 0, 0.0
    for thought, at in enumerate(instants, 1):
        more = (thought - told) // QUANTUM * QUANTUM
        if more and at >= due:
            told, due = told + more, at + CADENCE_MS
            delta = {"type": "thinking_delta", "thinking": "", "estimated_tokens": more}
            steps.append((at, Grew(delta)))
    return steps


def http_error(fault: Fault) -> ApiError:
    kind = fault.type if "type" in fault.model_fields_set else None
    headers = {"retry-after": f"{fault.retry_after:g}"} if fault.retry_after is not None else {}
    return ApiError(fault.status, fault.message, kind, headers)


def broken(steps: list[Step], fault: Fault | None) -> list[Step]:
    """The steps with the fault, after its count of text, thinking or input pieces."""
    if fault is None or fault.kind == "http":
        return steps
    if fault.kind == "no_stop":
        return [
            (at, piece._replace(message_stop=False) if isinstance(piece, Ended) else piece)
            for at, piece in steps
        ]
    grown = [i for i, (_, piece) in enumerate(steps, 1) if isinstance(piece, Grew)]
    if fault.after <= 0:
        cut = 2  # right after message_start
    else:
        cut = grown[fault.after - 1] if fault.after <= len(grown) else len(steps) - 1
    if fault.kind == "stall":
        return steps[:cut] + [(at + fault.ms, piece) for at, piece in steps[cut:]]
    failure = Cut() if fault.kind == "cut" else ApiError(529, fault.message, fault.type)
    return [*steps[:cut], (steps[cut - 1][0], failure)]


def timed(began_ns: int, steps: list[Step]) -> list[Timed]:
    return [(began_ns + round(at * 1e6), piece) for at, piece in steps]
