"""claude-tap's JSONL (github.com/liaohch3/claude-tap): a line an exchange, written once its answer
had ended, with the whole request and the answer put together again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import chain
from typing import Any

from lab.importers import exchanges, instants
from lab.importers.exchanges import Told
from lab.importers.json_files import Source, lines
from lab.recording.scribe import Seen

NAME = "claude_tap"
TITLE = "claude-tap traces"
CANNOT = (
    "claude-tap keeps no first-token time: how long an answer took to begin, and what a missed"
    " token costs in seconds, cannot be told.",
    exchanges.NO_TOOLS,
)
MARKS = (b'"request_id"', b'"duration_ms"', b'"turn"', b'"timestamp"')


def recognises(head: bytes) -> bool:
    start = head[:4096].lstrip()
    return start[:1] == b"{" and all(mark in start for mark in MARKS)


def read(source: Source) -> Iterator[Seen]:
    pieces = chain.from_iterable(lines(file, source) for file in sorted(source.files))
    return exchanges.read(source, NAME, "lines", pieces, _told)


def _told(line: Mapping[str, Any]) -> Told:
    duration_ms, first_ms = float(line["duration_ms"]), line.get("ttft_ms")
    if not 0 <= duration_ms < 1e8:
        raise ValueError("no duration")
    is_time = isinstance(first_ms, int | float) and 0 <= first_ms <= duration_ms
    return Told(
        # The line's own time is that of its end.
        started=instants.read(line["timestamp"]) - timedelta(milliseconds=duration_ms),
        url=str(line.get("upstream_base_url") or "https://api.anthropic.com"),
        body=line["request"]["body"],
        ended_ms=duration_ms,
        # Newer ones have a time called ttft_ms, of the first byte: that is no token.
        clocks_ms={"first_byte_ns": first_ms if is_time else None},
        answer=_answer(line["response"]),
        id=str(line["request_id"]),
    )


def _answer(response: Mapping[str, Any]) -> bytes | None:
    events = response.get("sse_events")
    if isinstance(events, list) and events:
        datas = (event.get("data") for event in events if isinstance(event, Mapping))
        texts = (data if isinstance(data, str) else json.dumps(data) for data in datas)
        return "".join(f"data: {text}\n\n" for text in texts).encode("utf-8", "replace")
    body = response.get("body")
    if body in (None, ""):
        return None
    return (body if isinstance(body, str) else json.dumps(body)).encode("utf-8", "replace")
