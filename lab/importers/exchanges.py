"""HTTP exchanges with /v1/messages as files tell them, read as the lab reads its own. A source says
where it keeps what; the rest is here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from lab import limits, scrub
from lab.importers.json_files import Source
from lab.instrumentation import parsing
from lab.instrumentation.parsing import CLOCKS
from lab.instrumentation.stamps import Exchange
from lab.recorder.observed_call import SECRET_HEADERS
from lab.recording import sender
from lab.recording.scribe import Seen, known_id, offset_ns

PATH = re.compile(r"/v1/messages/?$")
"""And not count_tokens or batches."""
NO_TOOLS = "It does not say what ran between two calls: tools show as gaps."
"""What no file of exchanges can tell."""


@dataclass
class Told:
    """What each source keeps in its own way; milliseconds run from the call's start."""

    started: datetime
    url: str
    """Of its host; the path need not be in it."""
    body: Any
    """Of the request: JSON, as text or read."""
    ended_ms: float | None
    clocks_ms: Mapping[str, float | None]
    """Instants by their columns of `calls`: sent_ns, first_byte_ns, …"""
    answer: bytes | None
    """The answer's body; None where the file has none."""
    arrivals: Sequence[tuple[float, bytes]] = ()
    """The answer in pieces, where their times are known."""
    reused: bool | None = None
    failure: str | None = None
    """The lab's word for what ended it without an answer."""
    id: str = ""
    """The source's own."""


def read(
    source: Source,
    name: str,
    noun: str,
    pieces: Iterable[Mapping[str, Any]],
    tell: Callable[[Mapping[str, Any]], Told],
) -> Iterator[Seen]:
    """What is seen of each call among `pieces`, which are called `noun` where they are left out;
    `tell` makes Told of one."""
    for piece in pieces:
        try:
            request = piece["request"]
            if is_call(request["method"], request.get("url", request.get("path"))):
                yield _seen(piece, tell(piece), name)
            else:
                source.leave_out("requests to other paths")
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            source.leave_out(f"{noun} of another shape")
        except RecursionError:
            source.leave_out(f"{noun} nested too deeply")


def is_call(method: Any, url: Any) -> bool:
    try:
        return method == "POST" and bool(PATH.search(urlsplit(url).path))
    except (ValueError, TypeError, AttributeError):
        return False


def _headers(listed: Any) -> dict[str, str]:
    """By their names in lower case, from an object or from HAR's list of pairs. Keys among them go
    no further."""
    if isinstance(listed, list):
        pairs = [(pair.get("name"), pair.get("value")) for pair in listed if isinstance(pair, dict)]
    else:
        pairs = listed.items() if isinstance(listed, dict) else ()
    return {
        name.lower(): value
        for name, value in pairs
        if isinstance(name, str) and isinstance(value, str)
    }


def _seen(piece: Mapping[str, Any], told: Told, source: str) -> Seen:
    """Raises ValueError where the request is no JSON object."""
    body = json.loads(told.body) if isinstance(told.body, str | bytes) else told.body
    if not isinstance(body, dict):
        raise ValueError("no request")
    response = piece["response"]
    asked, answered = _headers(piece["request"].get("headers")), _headers(response.get("headers"))
    status = response.get("status")
    status = status if isinstance(status, int) and status > 0 else None
    for name in SECRET_HEADERS:
        scrub.learn(asked.get(name, ""))
    origin = offset_ns(told.started)

    def at_ns(ms: float | None) -> int | None:
        return None if ms is None else origin + round(ms * 1e6)

    reading = _reading(told, status, answered, origin)
    call: dict[str, Any] = {
        "endpoint": host(told.url),
        "model": str(body.get("model") or "?")[: limits.WORD_CHARACTERS],
        "request_id": answered.get("request-id", "")[: limits.WORD_CHARACTERS] or None,
        "ended_ns": at_ns(told.ended_ms),
        "connection_reused": told.reused,
        "http_status": status,
        **reading.columns(body),
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
        betas=asked.get("anthropic-beta", ""),
        content=reading.content or None,
        call=call,
        usage=reading.usage,
        events=reading.events() if told.arrivals else (),
        conversation=sender.conversation(asked, body),
        agent=sender.agent(asked),
        recorded={} if is_told else {"note": "The file does not have the answer."},
        id=known_id(*filter(None, (source, told.id)), host(told.url), name),
    )


def host(url: str) -> str:
    """Without what may be a name and a password."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2][: limits.WORD_CHARACTERS] or "anthropic"
    except ValueError:
        return "anthropic"


def _reading(
    told: Told, status: int | None, answered: Mapping[str, str], origin: int
) -> parsing.Reading:
    if told.failure or not (told.arrivals or told.answer):
        refused = f"http_{status}" if status and status >= 400 else None
        return parsing.Reading(error_kind=told.failure or refused)
    pieces = told.arrivals or [(told.ended_ms or 0.0, told.answer)]
    chunks = [(origin + round(ms * 1e6), piece) for ms, piece in pieces]
    ended_ns = None if told.ended_ms is None else origin + round(told.ended_ms * 1e6)
    exchange = Exchange(b"", origin, ended_ns=ended_ns, status=status or 200)
    exchange.headers, exchange.chunks = dict(answered), chunks
    return parsing.read(exchange)
