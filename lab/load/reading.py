"""What came of a load's calls, as rows: each is read once it has ended, off the hot path, and rows
leave as Arrow tables, many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx2
import numpy as np

from lab import endpoint_kinds, limits, pricing, scrub
from lab.clock import today
from lab.harness.budget import billable, counted_usd
from lab.instrumentation import parsing
from lab.instrumentation.parsing import CLOCKS, Reading
from lab.instrumentation.stamps import Exchange, TooLarge, Unreadable
from lab.instrumentation.usage_columns import usage_columns
from lab.load.call_frame import CallFrame
from lab.load.plain_streams import Arrivals, PlainStreams
from lab.load.profile import CallFact, OfTrial
from lab.model import EndpointKind
from lab.rows import CallRow
from lab.store.row_batches import Batch

WIRE = ("scheduled_ns", "started_ns", "dns_ns", "connected_ns", "tls_ns", "sent_ns", "headers_ns")
WIRE += ("ended_ns",)
PRICES_KEPT = 10_000
NOT_HTTP = "not HTTP: "
STANDS_FOR = {
    "connect": httpx2.ConnectError,
    "timeout": httpx2.ReadTimeout,
    "disconnected": httpx2.ReadError,
}
"""What the SDK's client raises where the wire has only a word."""


class Reader:
    """Of one session's loader: `read` each frame at once, `take` the rows now and then.

    `bodies` and `task_ids` are by template; instants of rows count from `origin_ns`, an instant of
    the loader's clock, which was `origin_utc`.
    """

    def __init__(
        self,
        run_id: str,
        session_id: str,
        endpoint: str,
        endpoint_kind: EndpointKind,
        bodies: Sequence[Mapping[str, Any]],
        *,
        origin_ns: int,
        origin_utc: datetime,
        task_ids: Sequence[str | None] = (),
        keep_text: bool = False,
    ) -> None:
        self.run_id, self.session_id = run_id, session_id
        self.endpoint, self.kind = endpoint, endpoint_kind
        self.bodies, self.task_ids = bodies, task_ids
        self.origin_ns, self.origin_utc = origin_ns, origin_utc
        self.keep_text = keep_text
        self.plain = PlainStreams(keep_text)
        self._prices: dict[str, tuple[float | None, float]] = {}
        self._begin()

    def _begin(self) -> None:
        self.calls: list[CallRow] = []
        self.of_trials: list[OfTrial] = []
        self.arrivals: list[Arrivals] = []

    def __len__(self) -> int:
        return len(self.calls)

    def read(self, frame: CallFrame, label: str = "") -> CallFact:
        """`label` is its level's."""
        reading, arrivals = self.plain.read(frame) or self._parsed(frame)
        body = self.bodies[frame.template]
        row = self._row(frame, reading, body)
        self.calls.append(row)
        task = self.task_ids[frame.template] if frame.template < len(self.task_ids) else None
        self.of_trials.append(OfTrial(frame.level, frame.request, label, task))
        self.arrivals.append(arrivals)
        return CallFact(
            level=frame.level,
            request=frame.request,
            scheduled_ns=frame.scheduled_ns,
            started_ns=frame.started_ns,
            sent_ns=frame.sent_ns,
            first_token_ns=reading.first_token_ns,
            second_token_ns=reading.second_token_ns,
            last_token_ns=reading.last_token_ns,
            ended_ns=frame.ended_ns,
            output_tokens=row.output_tokens,
            error_kind=row.error_kind,
            cost_usd=row.counted_usd,
        )

    def _parsed(self, frame: CallFrame) -> tuple[Reading, Arrivals]:
        reading = read_whole(frame)
        arrivals = reading.arrivals
        return reading, Arrivals(
            np.array([arrival.at_ns for arrival in arrivals], np.int64),
            [arrival.kind for arrival in arrivals],
            [arrival.characters for arrival in arrivals],
            [arrival.text for arrival in arrivals] if self.keep_text else None,
        )

    def _row(self, frame: CallFrame, reading: Reading, body: Mapping[str, Any]) -> CallRow:
        origin_ns = self.origin_ns
        model = str(body.get("model") or "?")
        row = CallRow(
            *("", "", self.run_id, self.session_id, ""),
            role="answer",
            attempt=frame.attempt,
            endpoint=self.endpoint,
            model=model,
            # Nothing was meant about a cache: what it did is recorded and not judged.
            intended_cache="any",
            http_status=frame.status,
            connection_reused=frame.reused,
            request_id=frame.headers.get("request-id", "")[: limits.WORD_CHARACTERS] or None,
            **reading.columns(body),
        )
        for source, names in ((frame, WIRE), (reading, CLOCKS)):
            for name in names:
                at_ns = getattr(source, name)
                if at_ns is not None:
                    setattr(row, name, at_ns - origin_ns)
        if frame.at_ns:
            row.first_byte_ns = frame.at_ns[0] - origin_ns
        if reading.usage:
            for name, value in usage_columns(reading.usage).items():
                setattr(row, name, value)
        row.cost_usd, row.counted_usd = self._paid(frame, reading, body, model)
        return row

    def _paid(
        self, frame: CallFrame, reading: Reading, body: Mapping[str, Any], model: str
    ) -> tuple[float | None, float]:
        """Its cost, and what a budget counts of it: as harness.bench has them. Usages are few in a
        load, prices slow to look up."""
        if not endpoint_kinds.kind(self.kind).has_prices:
            return None, 0.0
        usage, sent = reading.usage, frame.sent_ns is not None
        priced_as = f"{model}\0{reading.model}\0{frame.template}"
        key = f"{priced_as}\0{frame.status}{sent}{reading.stop_reason}{reading.error_kind}{usage}"
        if key not in self._prices:
            if len(self._prices) >= PRICES_KEPT:
                self._prices.clear()
            name = pricing.priced_as(model, reading.model, today())
            cost = pricing.cost_usd(name, usage, today()) if usage else None
            counts = billable(reading, body, frame.status, sent)
            self._prices[key] = cost, counted_usd(self.kind, name, counts)
        return self._prices[key]

    def take(self) -> Batch | None:
        """All that was read since it was last asked; None where that is nothing."""
        calls, of_trials, arrivals = self.calls, self.of_trials, self.arrivals
        if not calls:
            return None
        from lab.load import call_tables  # pyarrow: no first request waits for that

        self._begin()
        scrub.calls(calls)
        return call_tables.batch(calls, of_trials, arrivals, self.origin_ns, self.origin_utc)


def read_whole(frame: CallFrame) -> Reading:
    """By parsing, as a call of the SDK's client is read."""
    exchange = Exchange(
        b"",
        frame.started_ns,
        sent_ns=frame.sent_ns,
        headers_ns=frame.headers_ns,
        status=frame.status,
        headers=frame.headers,
        chunks=frame.chunks,
    )
    failure = frame.failure and _failure(*frame.failure)
    exchange.close(frame.ended_ns, failure)
    reading = parsing.read(exchange)
    if failure is not None and parsing.failure_words(failure) == (
        reading.error_kind,
        reading.error_text,
    ):
        reading.fail(*frame.failure)
    return reading


def _failure(kind: str, text: str) -> BaseException:
    """What the SDK's client would have raised."""
    if kind == "cancelled":
        return asyncio.CancelledError()
    if kind == "too_large":
        return TooLarge(text)
    if kind == "malformed":
        is_http = not text.startswith(NOT_HTTP)
        return Unreadable(text) if is_http else httpx2.RemoteProtocolError(text[len(NOT_HTTP) :])
    return STANDS_FOR.get(kind, RuntimeError)(text)
