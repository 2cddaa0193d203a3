"""What a trial calls through while it is measured: it adds model, nonce and stream, makes the lab's
own retries, and turns every exchange into a row.

Calls that the user's own code makes through `bench.client` inside a trial become rows too: the
transport sees them.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2

from lab import limits, pricing
from lab.clock import now_ns, sleep_s, today
from lab.harness import served
from lab.harness.bodies import completed, headers_sent, marks_cache, with_nonce
from lab.harness.budget import BudgetReached, billable, counted_usd
from lab.instrumentation import parsing
from lab.instrumentation.parsing import CLOCKS, Reading
from lab.instrumentation.stamps import Exchange
from lab.instrumentation.usage_columns import usage_columns
from lab.instrumentation.whole_tools import Heard
from lab.model import (
    NOT_TIMED,
    SERVED_OTHERWISE,
    Reply,
    Request,
    Reuse,
    Role,
    SpanKind,
    Tier,
    ToolUse,
    new_id,
)
from lab.rows import CallRow, FinishedTrial, SpanRow, TrialRow
from lab.scenarios import tools

if TYPE_CHECKING:
    from lab.harness.session import Session

RETRIES = 2
LONGEST_WAIT_S = 30.0
BACK_OFF_S = 0.5
RUNS_TOOLS = ("tool_turn", "worker")
"""Roles of calls whose tools their trial runs; others may be cut where they like."""
SLACK_TOKENS = 16
"""A chat template's first tokens are alike in every prompt: so few are no hit. metrics.sql has the
same number (slack_tokens)."""

SPAN: ContextVar[str | None] = ContextVar("span", default=None)


@dataclass
class Intent:
    """What bench.call knows and the bytes do not say."""

    role: Role
    name: str
    request: Request
    model: str
    endpoint: str
    started_ns: int
    attempt: int = 1
    begun: asyncio.Event | None = None
    heard: Callable[[bytes], None] | None = None
    token: asyncio.Event | None = None
    body: Mapping[str, Any] | None = None
    """As it was sent, completed by the lab."""
    own: bool = False
    """Made by the user's own code: nothing was meant about its cache."""
    call: Call | None = None


INTENT: ContextVar[Intent | None] = ContextVar("intent", default=None)


class Call:
    """One attempt: its span, its exchange, and once read its meaning."""

    def __init__(self, intent: Intent, exchange: Exchange | None, span: SpanRow) -> None:
        self.id, self.intent, self.exchange, self.span = new_id(), intent, exchange, span
        self.ended_ns: int | None = None
        self.failure: BaseException | None = None
        self.repeated = False
        """Refused or not answered, and so made again."""
        self.counted_usd: float | None = None
        self._reading: Reading | None = None

    @property
    def priced_as(self) -> str:
        return pricing.priced_as(self.intent.model, self.reading.model, today())

    @property
    def reading(self) -> Reading:
        """Read once, when somebody asks; `read` reads a long one in a thread before."""
        if self._reading is None:
            self._reading = (
                parsing.read(self.exchange) if self.exchange else parsing.unanswered(self.failure)
            )
        return self._reading

    async def read(self, turn: asyncio.Lock) -> Reading:
        """The reading, in steps between which the loop stamps what has come, and on a thread where
        it takes long; who stops waiting leaves a call that was cancelled.

        `turn`: one long answer after the other, since reading needs several times its memory.
        """
        exchange = self.exchange
        if self._reading is None and exchange and exchange.received > limits.READ_AT_ONCE:
            await self._read_on_a_thread(exchange, turn)
        elif self._reading is None and exchange:
            steps = parsing.in_steps(exchange)
            while self._reading is None:
                try:
                    next(steps)
                except StopIteration as end:
                    self._reading = end.value
                else:
                    await sleep_s(0)
        return self.reading

    async def _read_on_a_thread(self, exchange: Exchange, turn: asyncio.Lock) -> None:
        gone = threading.Event()
        try:
            async with turn:
                self._reading = await asyncio.to_thread(parsing.read, exchange, gone.is_set)
        except asyncio.CancelledError as e:
            gone.set()
            exchange.failure = e
            exchange.cut()
            raise
        # The stamp of the first byte; what all of them said is read.
        exchange.chunks = exchange.chunks[:1]


class TrialBench:
    """The lab.model.Bench of one trial that is measured; what its methods do is said there."""

    def __init__(
        self, session: Session, trial: TrialRow, nonce: str, brief: bool = False, betas: str = ""
    ) -> None:
        self.session, self.trial, self.nonce, self.brief = session, trial, nonce, brief
        self.betas = betas
        """The header that the task's body needs."""
        self.calls: list[Call] = []
        self.spans: list[SpanRow] = []
        self.out_of_budget = False
        self.limit = asyncio.Timeout(None)
        """Until when what is under way may take; the runner's."""
        self.give_up: Callable[[], Any] = lambda: None
        """Ends the trial, whatever its code makes of a call that is not made."""
        self.failures: dict[str, tuple[str, str]] = {}
        """Of the calls that failed the trial, by id, kind and text."""
        self.mismatches: list[str] = []
        self.mismatch_kind: str | None = None
        """Of the mismatches, where one is that of a factor that was served otherwise."""
        self._threads = served.Threads()
        self.allowance = limits.Allowance()
        self._turn = asyncio.Lock()
        self._read_ns: tuple[int, int] | None = None

    @property
    def models(self) -> Mapping[Tier, str]:
        return self.session.endpoint.models

    @property
    def capabilities(self) -> frozenset[str]:
        return self.session.endpoint.capabilities

    @property
    def client(self) -> anthropic.AsyncAnthropic:
        return self.session.client_of(self.session.endpoint)

    @property
    def failed(self) -> tuple[str, str] | None:
        return next(iter(self.failures.values()), None)

    def fail(self, kind: str, text: str) -> None:
        """Whatever its calls say; what failed first is what the trial's row says."""
        self.failures.setdefault("", (kind, text))

    def replaced(self, reply: Reply) -> None:
        self.failures.pop(reply.call_id, None)

    async def within(self, event: asyncio.Event, ms: float) -> bool:
        try:
            async with asyncio.timeout(ms / 1e3):
                await event.wait()
        except TimeoutError:
            pass
        return event.is_set()

    def mismatch(self, reason: str) -> None:
        self.mismatches.append(reason)

    def route(self, name: str) -> None:
        span = self._open_span("route", name)
        span.ended_ns = span.started_ns

    @asynccontextmanager
    async def span(self, kind: SpanKind, name: str) -> AsyncIterator[SpanRow]:
        span = self._open_span(kind, name)
        token = SPAN.set(span.span_id)
        try:
            yield span
        finally:
            span.ended_ns = now_ns() if kind == "tool" else self._now_unread()
            SPAN.reset(token)
            if kind == "tool":
                self._read_ns = None

    async def tool(self, name: str, input: dict[str, Any]) -> str:
        async with self.span("tool", name):
            return await tools.run(name, input, sleep_s)

    async def connect(self, endpoint: str | None = None) -> None:
        session = self.session
        target = await session.other(endpoint) if endpoint else session.endpoint
        await session.client_of(target).open_ahead()

    async def pause(self, seconds: float) -> None:
        if (ends_s := self.limit.when()) is not None:
            self.limit.reschedule(ends_s + seconds)  # what is meant to take long is not late
        await sleep_s(seconds)

    async def call(
        self,
        request: Request,
        role: Role = "answer",
        name: str | None = None,
        begun: asyncio.Event | None = None,
        token: asyncio.Event | None = None,
        on_tool: Callable[[ToolUse], Any] | None = None,
    ) -> Reply:
        """At most RETRIES further attempts."""
        session, heard = self.session, Heard(on_tool) if on_tool else None
        endpoint = await session.other(request.endpoint) if request.endpoint else session.endpoint
        client = session.client_of(endpoint)
        body = with_nonce(completed(request, endpoint, self.brief), self.nonce)
        if request.stream:
            body["stream"] = True
        for attempt in range(1, RETRIES + 2):
            self._afford()
            intent = Intent(
                role=role,
                name=name or role,
                request=request,
                model=body["model"],
                endpoint=endpoint.name,
                attempt=attempt,
                started_ns=now_ns(),
                begun=begun,
                token=token,
                heard=heard and heard.hear,
                body=body,
            )
            call = await self._attempt(client, body, intent)
            wait_s = retry_after_s(call) if attempt <= RETRIES else None
            if wait_s is None:
                break
            call.repeated = True
            await sleep_s(wait_s)
        try:
            reading = await call.read(self._turn)
        finally:
            self._count_if_limited(call)
            if heard:
                heard.is_over = True  # what still waits to be read must start nothing any more
        self._read_ns = (call.span.ended_ns, now_ns())
        for event in filter(None, (begun, token)):
            event.set()  # who waits for the first byte of a call that failed must not wait forever
        if heard and not reading.error_kind:
            heard.finish(reading)
        if reading.broken_tools and reading.stop_reason == "tool_use":
            self.mismatch("the input of a tool was no JSON object")
        elif (
            role in RUNS_TOOLS
            and reading.stop_reason not in (None, "tool_use")
            and any(block.get("type") == "tool_use" for block in reading.content)
        ):
            self.mismatch(f"a turn that asked for tools ended by {reading.stop_reason}")
        if reading.error_kind and role not in NOT_TIMED:
            self.failures[call.id] = (reading.error_kind, reading.error_text or "")
        return Reply(
            call_id=call.id,
            content=tuple(reading.content),
            stop_reason=reading.stop_reason,
            usage=reading.usage,
            error_kind=reading.error_kind,
            error_text=reading.error_text,
            message_id=reading.message_id,
            broken_tools=reading.broken_tools,
        )

    async def _attempt(
        self, client: anthropic.AsyncAnthropic, body: dict[str, Any], intent: Intent
    ) -> Call:
        token = INTENT.set(intent)
        failure: BaseException | None = None
        try:
            # The raw stream even for a whole answer: nothing is parsed before the last byte is
            # stamped, and nobody is woken.
            response = await client.post(
                "/v1/messages",
                cast_to=httpx2.Response,
                body=body,
                options={"headers": self._headers(intent.request)},
                stream=True,
                stream_cls=anthropic.AsyncStream,
            )
            try:
                await intent.call.exchange.body.read_out()
            finally:
                await response.aclose()
        except (anthropic.APIError, httpx2.TransportError, httpx2.StreamError) as e:
            failure = e
        except asyncio.CancelledError as e:
            failure = e
            raise
        finally:
            INTENT.reset(token)
            call = intent.call or self._begin(intent, None)
            call.failure, call.ended_ns = failure, now_ns()
            if call.exchange:
                call.exchange.close(call.ended_ns, failure)
            call.span.ended_ns = call.exchange.ended_ns if call.exchange else call.ended_ns
            if isinstance(failure, asyncio.CancelledError):
                self._count_if_limited(call)
        return call

    def _headers(self, request: Request) -> dict[str, str]:
        return headers_sent(request, self.betas, self.session.endpoint.traits.own_server)

    def _now_unread(self) -> int:
        """Now, less the time in which the lab read the last answer: where nothing came after it, a
        trial ends with the answer itself."""
        now = now_ns()
        if self._read_ns is None:
            return now
        ended_ns, read_ns = self._read_ns
        last_ns = max(
            (call.exchange.ended_ns if call.exchange else call.ended_ns) or now
            for call in self.calls
        )
        return now if last_ns > read_ns else now - (read_ns - max(ended_ns, last_ns))

    def observe(self, exchange: Exchange) -> None:
        """The transport's question: whose exchange is this? One of `call`, or one of the user's own
        code."""
        exchange.allowance = self.allowance
        intent = INTENT.get()
        if intent is not None and intent.call is None:
            exchange.token = intent.token
            exchange.heard = intent.heard
            exchange.begun, exchange.connection = intent.begun, intent.request.connection
        else:
            for call in self.calls:
                if call.exchange and not call.exchange.open:
                    self._count_if_limited(call)
            self._afford()
            body = _object(exchange.request_body)
            request = Request(body, stream=bool(body.get("stream")), intended_cache="any")
            intent = Intent(
                role="answer",
                name="answer",
                request=request,
                model=str(body.get("model") or "?"),
                endpoint=self.session.endpoint.name,
                started_ns=exchange.started_ns,
                own=True,
            )
        self._begin(intent, exchange)

    def _begin(self, intent: Intent, exchange: Exchange | None) -> Call:
        call = Call(intent, exchange, self._open_span("call", intent.name, intent.started_ns))
        intent.call = call
        self.calls.append(call)
        return call

    def _open_span(self, kind: SpanKind, name: str, at_ns: int | None = None) -> SpanRow:
        trial = self.trial
        span = SpanRow(
            span_id=new_id(),
            trial_id=trial.trial_id,
            run_id=trial.run_id,
            session_id=trial.session_id,
            parent_id=SPAN.get(),
            kind=kind,
            name=name,
            started_ns=at_ns or now_ns(),
        )
        self.spans.append(span)
        self._read_ns = None
        return span

    def _afford(self) -> None:
        """Raises BudgetReached, and ends the trial, where the run may spend no more."""
        if self.session.budget.is_reached:
            self.out_of_budget = True
            self.give_up()
            raise BudgetReached(self.session.budget.text)

    def _count_if_limited(self, call: Call) -> None:
        """Before the clock has stopped an answer is read for its cost only where that decides."""
        if self.session.budget.usd is not None:
            self._count(call)

    def _count(self, call: Call) -> None:
        """What the budget counts of a call that has ended, once."""
        if call.counted_usd is not None:
            return
        exchange, usage = call.exchange, {}
        if exchange and not call.repeated:
            body, sent = call.intent.request.body, exchange.sent_ns is not None
            usage = billable(call.reading, body, exchange.status, sent)
        call.counted_usd = counted_usd(self.session.endpoint.kind, call.priced_as, usage)
        self.session.budget.spent_usd += call.counted_usd

    # After the clock has stopped

    async def read_rest(self) -> None:
        """Read what nobody has read yet, long answers on a thread; `finished` would hold up the
        loop with them, and Stop."""
        for call in self.calls:
            self._close(call)
            await call.read(self._turn)

    def _close(self, call: Call) -> None:
        if call.exchange:
            # One that the caller's code left open.
            call.exchange.close(now_ns(), asyncio.CancelledError())
            call.span.ended_ns = call.exchange.ended_ns

    def words(self) -> list[Any]:
        """All that was asked and answered in it: bodies, and the text of each call."""
        bodies = [call.intent.request.body for call in self.calls]
        texts = ["".join(part.text for part in call.reading.arrivals) for call in self.calls]
        return [*bodies, *texts]

    def finished(self) -> FinishedTrial:
        """All rows of the trial, with instants as offsets from the session's origin and costs by
        today's prices."""
        origin, rows, events = self.session.origin_ns, [], []
        for call in self.calls:
            self._close(call)
            self._count(call)
            rows.append(self._row(call))
            events += call.reading.events(origin, call.id, self.trial.run_id)
        if not self.session.keep_text:
            for event in events:
                event.text = None
        for span in self.spans:
            span.started_ns -= origin
            if span.ended_ns is not None:
                span.ended_ns -= origin
        self._price_cancelled(rows)
        by_itself = self._caches_itself(rows)
        self.mismatches += [
            reason
            for call, row in zip(self.calls, rows, strict=True)
            if not call.intent.own and (reason := cache_mismatch(row, by_itself))
        ]
        self.mismatches += [
            reason
            for call, row in zip(self.calls, rows, strict=True)
            if (reason := connection_mismatch(row, call.intent.request.connection))
        ]
        # A sum with an unknown price in it is unknown; a call that was refused, without any usage,
        # cost nothing.
        costs = [
            row.cost_usd
            for call, row in zip(self.calls, rows, strict=True)
            if (call.reading.usage or row.cost_usd is not None) and row.role != "check"
        ]
        self.trial.cost_usd = sum(costs) if costs and None not in costs else None
        return FinishedTrial(self.trial, rows, self.spans, events)

    def _price_cancelled(self, rows: Sequence[CallRow]) -> None:
        """A call that was cancelled before it told any count is billed its prompt all the same:
        that of an equal call of the trial. What it wrote until the server noticed is told to
        nobody, so this is the least that it cost; a budget counts its longest."""
        told = [call for call in self.calls if call.reading.usage.get("input_tokens") is not None]
        for call, row in zip(self.calls, rows, strict=True):
            exchange, body = call.exchange, call.intent.body
            is_open = row.error_kind == "cancelled" and exchange and exchange.sent_ns is not None
            if not is_open or row.cost_usd is not None or body is None:
                continue
            if twin := next((each for each in told if each.intent.body == body), None):
                usage = {**twin.reading.usage, "output_tokens": 0, "iterations": None}
                row.cost_usd = self.session.cost_usd(twin.priced_as, usage)

    def _caches_itself(self, rows: Sequence[CallRow]) -> bool:
        """As the probe found; where nobody has tried it, from what it reports: reads that nothing
        marked, and never a write."""
        session = self.session
        if session.endpoint.caching is not None:
            return session.endpoint.caching == "itself"
        for call, row in zip(self.calls, rows, strict=True):
            if row.cache_write_5m_tokens or row.cache_write_1h_tokens:
                session.writes_reported = True
            if row.cache_read_tokens and not marks_cache(call.intent.request.body):
                session.reads_unmarked = True
        return session.reads_unmarked and not session.writes_reported

    def _row(self, call: Call) -> CallRow:
        intent, exchange, reading, trial = call.intent, call.exchange, call.reading, self.trial
        request = intent.request
        unmeant = request.intended_cache == "none" and marks_cache(request.body)
        row = CallRow(
            call_id=call.id,
            trial_id=trial.trial_id,
            run_id=trial.run_id,
            session_id=trial.session_id,
            span_id=call.span.span_id,
            role=intent.role,
            attempt=intent.attempt,
            endpoint=intent.endpoint,
            model=intent.model,
            intended_cache="any" if unmeant else request.intended_cache,
            counted_usd=call.counted_usd,
            **reading.columns(request.body),
        )
        stamps: dict[str, int | None] = {
            "started_ns": intent.started_ns,
            "ended_ns": exchange.ended_ns if exchange else call.ended_ns,
        }
        if exchange:
            row.http_status, row.connection_reused = exchange.status, exchange.reused
            row.request_id = (
                exchange.headers.get("request-id", "")[: limits.WORD_CHARACTERS] or None
            )
            stamps |= {
                name: getattr(exchange, name)
                for name in ("dns_ns", "connected_ns", "tls_ns", "sent_ns", "headers_ns")
            }
            stamps["first_byte_ns"] = exchange.chunks[0][0] if exchange.chunks else None
            stamps |= {name: getattr(reading, name) for name in CLOCKS}
            row.loop_lag_ns = self.session.lag.worst(
                intent.started_ns, stamps["ended_ns"] or now_ns()
            )
        for name, at_ns in stamps.items():
            setattr(row, name, at_ns - self.session.origin_ns if at_ns is not None else None)
        if reading.usage:
            for name, value in usage_columns(reading.usage).items():
                setattr(row, name, value)
            row.cost_usd = self.session.cost_usd(call.priced_as, reading.usage)
        self._compare(row, reading, intent.body or request.body)
        if request.connection != "any":
            row.asked["connection"] = request.connection
        return row

    def _compare(self, row: CallRow, reading: Reading, body: Mapping[str, Any]) -> None:
        """Served is not asked: a judge's call is none of the arm's."""
        row.asked = served.asked(body)
        tokens = None
        if row.input_tokens is not None:
            read = row.cache_read_tokens or 0
            written = (row.cache_write_5m_tokens or 0) + (row.cache_write_1h_tokens or 0)
            tokens = row.input_tokens + read + written
        thread = self._threads.take(row, body, tokens)
        reasons = [*served.otherwise(row, reading), *filter(None, [thread])]
        if reasons and row.role != "check":
            self.mismatches += reasons
            self.mismatch_kind = SERVED_OTHERWISE


def retry_after_s(call: Call) -> float | None:
    """How long to wait before trying again, or None: only a 429 that says when, a 529, and a
    connection that failed before any byte.

    A 429 without retry-after is the spend cap: trying again would only hide it.
    """
    exchange = call.exchange
    if exchange is None or exchange.status not in (None, 429, 529):
        return None
    back_off = BACK_OFF_S * 2 ** (call.intent.attempt - 1)
    if exchange.status == 429:
        try:
            wait = float(exchange.headers["retry-after"])
        except (KeyError, ValueError):
            return None
        return max(wait, 0.0) if wait <= LONGEST_WAIT_S else None
    kind = parsing.failure_words(exchange.failure)[0] if exchange.failure else None
    if exchange.status == 529 or kind == "connect":
        return back_off
    # A kept connection that the server closed just as it was used again: nothing was answered, and
    # a new one will do.
    return 0.0 if kind == "disconnected" and call.intent.attempt == 1 else None


def cache_mismatch(row: CallRow, by_itself: bool = False) -> str | None:
    """Why a call was in another cache state than its arm meant; None where it was right, or the
    endpoint reported nothing.

    `by_itself`: the server remembers every prompt unasked and reports no writes, so that a write
    cannot be told from a cold read.
    """
    if row.error_kind or row.input_tokens is None:
        return None
    read = row.cache_read_tokens or 0
    written = (row.cache_write_5m_tokens or 0) + (row.cache_write_1h_tokens or 0)
    seen = "read" if read > SLACK_TOKENS else "write" if written else "none"
    if row.intended_cache not in (seen, "any") and not (
        by_itself and (row.intended_cache, seen) == ("write", "none")
    ):
        if seen == "none" and row.intended_cache != "none":
            return f"the endpoint reported no cache use ({written} tokens written, {read} read)"
        return f"cache state {seen} where {row.intended_cache} was meant"
    if (
        row.physical_cache_tokens is not None
        and abs(row.physical_cache_tokens - read) > SLACK_TOKENS
    ):
        return (
            f"{row.physical_cache_tokens} tokens were physically cached where {read} were reported"
        )
    return None


def connection_mismatch(row: CallRow, meant: Reuse) -> str | None:
    """Why a call went by another connection than its arm meant; None where it was right, or nobody
    saw."""
    if row.error_kind or row.connection_reused is None:
        return None
    if meant == "new" and row.connection_reused:
        return "it went by a connection that was open already, where a new one was meant"
    if meant in ("kept", "opened") and not row.connection_reused:
        how = "kept from an earlier call" if meant == "kept" else "opened ahead"
        return (
            f"a new connection was made, since the one {how} had been closed meanwhile, by the"
            " server or something on the way: pause less between calls"
        )
    return None


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
