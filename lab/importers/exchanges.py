"""One HTTP exchange with /v1/messages as a file tells it, read as the lab reads its own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from lab import limits, scrub
from lab.instrumentation import parsing
from lab.instrumentation.parsing import CLOCKS
from lab.instrumentation.stamps import Exchange
from lab.recorder.observed_call import SECRET_HEADERS
from lab.recording import sender
from lab.recording.scribe import Seen, known_id, offset_ns
from lab.rows import EventRow

PATH = re.compile(r"/v1/messages/?$")
"""And not count_tokens or batches."""


@dataclass
class Told:
    """Milliseconds run from its start. Names of headers are in lower case; keys among them go no
    further."""

    started: datetime
    url: str
    body: Any
    """Of the request: JSON, as text or read."""
    status: int | None = None
    answer: bytes | None = None
    """The answer's body; None where the file has none."""
    asked: Mapping[str, str] = field(default_factory=dict)
    answered: Mapping[str, str] = field(default_factory=dict)
    arrivals: Sequence[tuple[float, bytes]] = ()
    """The answer in pieces, where their times are known."""
    ended_ms: float | None = None
    clocks_ms: Mapping[str, float | None] = field(default_factory=dict)
    """Instants by their columns of `calls`: sent_ns, first_byte_ns, …"""
    reused: bool | None = None
    failure: str | None = None
    """The lab's word for what ended it without an answer."""


def is_call(method: Any, url: Any) -> bool:
    try:
        return method == "POST" and bool(PATH.search(urlsplit(url).path))
    except (ValueError, TypeError, AttributeError):
        return False


def seen(told: Told, *id: str) -> Seen:
    """`id` makes it known again. Raises ValueError where the request is no JSON object."""
    body = json.loads(told.body) if isinstance(told.body, str | bytes) else told.body
    if not isinstance(body, dict):
        raise ValueError("no request")
    for name in SECRET_HEADERS:
        scrub.learn(told.asked.get(name, ""))
    origin = offset_ns(told.started)

    def at_ns(ms: float | None) -> int | None:
        return None if ms is None else origin + round(ms * 1e6)

    reading = _reading(told, origin, at_ns(told.ended_ms))
    call: dict[str, Any] = {
        "endpoint": host(told.url),
        "model": str(body.get("model") or "?")[: limits.WORD_CHARACTERS],
        "served_model": reading.model,
        "message_id": reading.message_id,
        "request_id": told.answered.get("request-id", "")[: limits.WORD_CHARACTERS] or None,
        "ended_ns": at_ns(told.ended_ms),
        "connection_reused": told.reused,
        "http_status": told.status,
        "stop_reason": reading.stop_reason,
        "error_kind": reading.error_kind,
        "error_text": reading.error_text,
        "cache_miss_reason": reading.cache_miss_reason,
        "missed_cache_tokens": reading.missed_cache_tokens,
        "diagnosis": reading.diagnosis if _asks_diagnosis(body) else None,
        "rate_limits": reading.rate_limits or None,
        "usage_note": "; ".join(dict.fromkeys(reading.usage_notes)) or None,
    }
    call |= {name: at_ns(ms) for name, ms in told.clocks_ms.items()}
    if told.arrivals:
        call |= {name: getattr(reading, name) for name in CLOCKS}
    is_told = bool(told.arrivals or told.answer or told.failure)
    name = reading.message_id or ""
    if not name.startswith("msg_"):  # a gateway's may come again
        name = f"{name}{told.started} {len(str(body))}"
    return Seen(
        started_utc=told.started,
        started_ns=origin,
        body=body,
        betas=told.asked.get("anthropic-beta", ""),
        content=reading.content or None,
        call=call,
        usage=reading.usage,
        events=_events(reading) if told.arrivals else (),
        conversation=sender.conversation(told.asked, body),
        agent=sender.agent(told.asked),
        recorded={} if is_told else {"note": "The file does not have the answer."},
        id=known_id(*id, host(told.url), name),
    )


def _asks_diagnosis(body: Mapping[str, Any]) -> bool:
    asked = body.get("diagnostics")
    return isinstance(asked, Mapping) and bool(asked.get("previous_message_id"))


def host(url: str) -> str:
    """Without what may be a name and a password."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2][: limits.WORD_CHARACTERS] or "anthropic"
    except ValueError:
        return "anthropic"


def _reading(told: Told, origin: int, ended_ns: int | None) -> parsing.Reading:
    if told.failure:
        return parsing.Reading(error_kind=told.failure)
    if not (told.arrivals or told.answer):
        is_refused = told.status is not None and told.status >= 400
        return parsing.Reading(error_kind=f"http_{told.status}" if is_refused else None)
    exchange = Exchange(b"", origin, ended_ns=ended_ns, status=told.status or 200)
    exchange.headers = dict(told.answered)
    exchange.chunks = [(origin + round(ms * 1e6), piece) for ms, piece in told.arrivals]
    exchange.chunks = exchange.chunks or [(ended_ns or origin, told.answer or b"")]
    return parsing.read(exchange)


def _events(reading: parsing.Reading) -> list[EventRow]:
    return [
        EventRow("", "", seq, arrival.at_ns, arrival.kind, arrival.characters, arrival.text or None)
        for seq, arrival in enumerate(reading.arrivals)
    ]
