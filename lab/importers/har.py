"""HAR 1.2, as browsers and mitmproxy save it: an entry an exchange, with the phases of its
connection.

Phases are in ms, −1 where they do not apply; `connect` includes `ssl`
(http://www.softwareishard.com/blog/har-12-spec/#timings).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from lab import limits
from lab.importers import exchanges, instants
from lab.importers.exchanges import Told
from lab.importers.json_files import Source, elements
from lab.recording.scribe import Seen

NAME = "har"
TITLE = "HAR files"
CANNOT = (
    "A HAR file has the answer's first byte, which is no token, and in most no time of any piece:"
    " first-token times are known only where the browser kept each event's.",
    exchanges.NO_TOOLS,
)


def recognises(head: bytes) -> bool:
    start = head[:4096].lstrip(b"\xef\xbb\xbf \r\n\t")
    return start[:1] == b"{" and b'"log"' in start and b'"entries"' in head


def read(source: Source) -> Iterator[Seen]:
    pieces = chain.from_iterable(elements(file, "entries", source) for file in sorted(source.files))
    return exchanges.read(source, NAME, "entries", pieces, _told)


def _told(entry: Mapping[str, Any]) -> Told:
    request, response = entry["request"], entry["response"]
    started = instants.read(entry["startedDateTime"])
    clocks, ended_ms, reused = _clocks(entry.get("timings"), entry.get("time"))
    return Told(
        started=started,
        url=request["url"],
        body=request["postData"]["text"],
        ended_ms=ended_ms,
        clocks_ms=clocks,
        answer=_content(response.get("content")),
        arrivals=_arrivals(entry.get("_eventSourceMessages"), started, ended_ms),
        reused=reused,
        failure=_failure(response.get("status"), response.get("_error")),
    )


def _clocks(timings: Any, total: Any) -> tuple[dict[str, float | None], float | None, bool | None]:
    """The instants of a call in ms from its start, its end, and whether the connection was there
    already."""
    timings = timings if isinstance(timings, Mapping) else {}
    parts = {name: _ms(timings.get(name)) for name in PHASES}
    at, instants_ms = 0.0, {}
    for name in PHASES:
        at += parts[name] or 0.0
        instants_ms[name] = None if parts[name] is None else at
    connect = timings.get("connect")
    is_new = parts["connect"] is not None and parts["connect"] > 0
    clocks = {
        "sent_ns": instants_ms["send"],
        "first_byte_ns": instants_ms["wait"],
        "dns_ns": instants_ms["dns"] if parts["dns"] else None,
    }
    if is_new:
        ssl = _ms(timings.get("ssl")) or 0.0
        clocks["connected_ns"] = instants_ms["connect"] - ssl
        clocks["tls_ns"] = instants_ms["connect"] if ssl else None
    reused = False if is_new else True if connect in (-1, 0) else None
    whole = _ms(total)
    ended = whole if whole is not None else instants_ms["receive"]
    return clocks, ended, reused


PHASES = ("blocked", "dns", "connect", "send", "wait", "receive")
"""In their order."""


def _ms(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) and 0 <= value < 1e9 else None


def _content(content: Any) -> bytes | None:
    text = content.get("text") if isinstance(content, Mapping) else None
    if not isinstance(text, str) or not text:
        return None
    if content.get("encoding") == "base64":
        return base64.b64decode(text, validate=True)
    return text.encode("utf-8", "replace")


def _arrivals(
    messages: Any, started: datetime, ended_ms: float | None
) -> Sequence[tuple[float, bytes]]:
    """What Chrome keeps of a stream: its events, with the Unix second of each. Times that lie
    outside of the exchange are on another clock, and are none."""
    if not isinstance(messages, list) or not messages or len(messages) > limits.EVENTS:
        return ()
    arrivals = []
    for message in messages:
        at_ms = (float(message["time"]) - started.timestamp()) * 1000
        name, data = str(message.get("eventName") or ""), str(message["data"])
        event = "".join(f"data: {line}\n" for line in data.split("\n"))
        arrivals.append((at_ms, f"event: {name}\n{event}\n".encode("utf-8", "replace")))
    times = [at_ms for at_ms, _ in arrivals]
    latest = math.inf if ended_ms is None else ended_ms + 50
    is_within = times[0] >= 0 and times[-1] <= latest and times == sorted(times)
    return arrivals if is_within else ()


def _failure(status: Any, error: Any) -> str | None:
    if status not in (0, None):
        return None
    return "cancelled" if "abort" in str(error).lower() else "disconnected"
