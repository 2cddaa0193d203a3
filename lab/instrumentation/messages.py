"""What the stamped bytes of a Messages API exchange mean: clocks, content, usage, error words. Runs after the last stamp.

An event happened when the chunk that completed it arrived; a stream chunk is not a token, and an event may span chunks.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx2

from lab.instrumentation.wire import Exchange

# A full stop after a digit is a list number or a decimal more often than an end.
SENTENCE_END = re.compile(r"[^\W\d_][\"'”’)\]]?[.!?…][\"'”’)\]]?(?=\s|$)|\S(?=\n)|[。！？]")
TOKENS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class Arrival(NamedTuple):
    """One SSE event: `kind` is its type, for a delta the delta's; a whole (unstreamed) body is one arrival of kind `message`."""

    at_ns: int
    kind: str
    characters: int
    text: str


@dataclass(slots=True)
class Reading:
    """Clocks are lab.clock.now_ns() stamps, None where it did not happen; for an unstreamed answer only the exchange's own exist."""

    content: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    message_id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    error_kind: str | None = None
    error_text: str | None = None
    cache_miss_reason: str | None = None
    lab: dict[str, Any] = field(default_factory=dict)
    message_start_ns: int | None = None
    thinking_started_ns: int | None = None
    first_thinking_ns: int | None = None
    first_text_ns: int | None = None
    first_sentence_ns: int | None = None
    first_tool_ns: int | None = None
    last_text_ns: int | None = None
    last_token_ns: int | None = None

    @property
    def text(self) -> str:
        return "".join(block.get("text", "") for block in self.content if block.get("type") == "text")


def events(chunks: list[tuple[int, bytes]]) -> Iterator[tuple[int, str, dict]]:
    """(stamp, event name, data) of each complete SSE event; an event whose data is no JSON object is passed over."""
    rest = b""
    for at_ns, chunk in chunks:
        rest += chunk.replace(b"\r\n", b"\n") if b"\r" in chunk else chunk
        *complete, rest = rest.split(b"\n\n")
        for block in complete:
            name, data = "", []
            for line in block.split(b"\n"):
                if line.startswith(b"data:"):
                    data.append(line[5:].strip())
                elif line.startswith(b"event:"):
                    name = line[6:].strip().decode("utf-8", "replace")
            if not data:
                continue
            try:
                value = _loads(b"\n".join(data))
            except ValueError:
                continue
            if isinstance(value, dict):
                yield at_ns, value.get("type") or name, value


def _loads(data: bytes) -> Any:
    """JSON, with "?" for half an emoji: a server may split one over two deltas, and no database or socket takes a half."""
    value = json.loads(data)
    if b"\\ud" in data.lower() or b"\xed" in data:
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def read(exchange: Exchange) -> Reading:
    """Everything the exchange says; a broken one gives what it did say, and error words. Whatever a server sends, it never raises."""
    reading = Reading()
    if exchange.status is not None:
        kind = exchange.headers.get("content-type", "")
        try:
            if exchange.status == 200 and "text/event-stream" in kind:
                _read_stream(exchange, reading)
            else:
                _read_whole(exchange, reading)
            _check(reading)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            arrivals = [arrival for arrival in reading.arrivals if isinstance(arrival.kind, str)]
            reading = Reading(arrivals=arrivals, error_kind="malformed", error_text=f"not a Messages API's answer: {error}")
    if exchange.failure is not None and reading.error_kind in (None, "truncated") and reading.stop_reason is None:
        reading.error_kind, reading.error_text = failure_words(exchange.failure)
    return reading


def _check(reading: Reading) -> None:
    """Raises where a field that becomes a column has another type than the API's."""
    usage = reading.usage
    words = [
        reading.message_id,
        reading.model,
        reading.stop_reason,
        reading.cache_miss_reason,
        usage.get("speed"),
        usage.get("service_tier"),
    ]
    if wrong := [word for word in words if not isinstance(word, str | None)]:
        raise TypeError(f"{wrong[0]!r:.60} where a text belongs")
    counts = usage | (usage.get("cache_creation") or {}) | (usage.get("output_tokens_details") or {})
    for name, count in counts.items():
        if name.endswith("_tokens") and not (count is None or (isinstance(count, int) and 0 <= count < 2**31)):
            raise TypeError(f"{name} is {count!r:.60}")
    for name, amount in reading.lab.items():
        if name.endswith(("_ms", "_tokens")) and not isinstance(amount, int | float | None):
            raise TypeError(f"{name} is {amount!r:.60}")
    len(reading.text)


def failure_words(failure: BaseException) -> tuple[str, str]:
    """The lab's word for what ended an exchange, and the library's sentence."""
    text = f"{type(failure).__name__}: {failure}".removesuffix(": ")
    if isinstance(failure, (asyncio.CancelledError, GeneratorExit)):
        return "cancelled", "stopped by the lab or by the caller"
    if isinstance(failure, httpx2.ConnectTimeout | httpx2.ConnectError | httpx2.PoolTimeout | httpx2.ProxyError):
        return "connect", text
    if isinstance(failure, httpx2.TimeoutException):
        return "timeout", text
    if isinstance(failure, httpx2.TransportError):
        return "disconnected", text
    return "exception", text


def _read_whole(exchange: Exchange, reading: Reading) -> None:
    body = b"".join(data for _, data in exchange.chunks)
    try:
        message = _loads(body)
    except ValueError:
        message = None
    if exchange.status >= 400:
        error = message.get("error") if isinstance(message, dict) else None
        error = error if isinstance(error, dict) else {}
        reading.error_kind = str(error.get("type") or f"http_{exchange.status}")
        reading.error_text = str(error.get("message") or body[:200].decode("utf-8", "replace"))
    elif not isinstance(message, dict) or "content" not in message:
        reading.error_kind, reading.error_text = "truncated", "the answer is not a whole message"
    else:
        _begin(message, reading)
        reading.content = [block for block in message["content"] if isinstance(block, dict)]
        reading.stop_reason = message.get("stop_reason")
        reading.lab = message.get("lab") or {}
        reading.arrivals.append(Arrival(exchange.ended_ns or 0, "message", len(reading.text), reading.text))


def _begin(message: dict, reading: Reading) -> None:
    reading.message_id, reading.model = message.get("id"), message.get("model")
    reading.usage.update({k: v for k, v in (message.get("usage") or {}).items() if v is not None})
    reason = (message.get("diagnostics") or {}).get("cache_miss_reason")
    reading.cache_miss_reason = reason.get("type") if isinstance(reason, dict) else reason


def _read_stream(exchange: Exchange, reading: Reading) -> None:
    blocks: dict[int, dict[str, Any]] = {}
    pieces: dict[int, list[str]] = {}
    spoken: list[tuple[int, str]] = []
    stopped = False
    for at_ns, kind, data in events(exchange.chunks):
        text = ""
        if kind == "message_start":
            reading.message_start_ns = at_ns
            _begin(data.get("message") or {}, reading)
        elif kind == "content_block_start":
            index, block = data.get("index", len(blocks)), dict(data.get("content_block") or {})
            blocks[index] = block
            if block.get("type") == "thinking" and reading.thinking_started_ns is None:
                reading.thinking_started_ns = at_ns
            if block.get("type") == "tool_use":  # the block's name is generated: it is the call's first token
                reading.first_tool_ns = reading.first_tool_ns or at_ns
                reading.last_token_ns = at_ns
        elif kind == "content_block_delta":
            delta, index = data.get("delta") or {}, data.get("index", 0)
            kind = delta.get("type", kind)
            if field_name := TOKENS.get(kind):
                text = delta.get(field_name) or ""
            if text:
                pieces.setdefault(index, []).append(text)
                reading.last_token_ns = at_ns
                if kind == "text_delta":
                    reading.first_text_ns = reading.first_text_ns or at_ns
                    reading.last_text_ns = at_ns
                    spoken.append((at_ns, text))
                elif kind == "thinking_delta":
                    reading.first_thinking_ns = reading.first_thinking_ns or at_ns
            elif kind == "signature_delta":
                blocks.setdefault(index, {"type": "thinking"})["signature"] = delta.get("signature")
        elif kind == "message_delta":
            reading.usage.update({k: v for k, v in (data.get("usage") or {}).items() if v is not None})
            reading.stop_reason = (data.get("delta") or {}).get("stop_reason") or reading.stop_reason
            reading.lab = data.get("lab") or reading.lab
        elif kind == "message_stop":
            stopped = True
        elif kind == "error":
            error = data.get("error") or {}
            error = error if isinstance(error, dict) else {"message": error}
            reading.error_kind, reading.error_text = str(error.get("type") or "error"), str(error.get("message") or "")
        reading.arrivals.append(Arrival(at_ns, kind, len(text), text))
    for index in sorted(blocks.keys() | pieces.keys()):
        reading.content.append(_assembled(blocks.get(index, {"type": "text"}), "".join(pieces.get(index, ()))))
    reading.first_sentence_ns = first_sentence(spoken) if stopped or spoken else None
    if not stopped:
        reading.stop_reason = None
        if reading.error_kind is None:
            reading.error_kind, reading.error_text = "truncated", "the stream ended without message_stop"


def _assembled(block: dict[str, Any], text: str) -> dict[str, Any]:
    if block.get("type") == "tool_use":
        try:
            return {**block, "input": json.loads(text) if text else block.get("input") or {}}
        except ValueError:
            return {**block, "input": {}}
    name = "thinking" if block.get("type") == "thinking" else "text"
    return {**block, name: block.get(name, "") + text}


def first_sentence(spoken: list[tuple[int, str]]) -> int | None:
    """When the first full sentence could be read: the stamp of its last mark; an answer without one is a sentence as a whole."""
    if not spoken:
        return None
    match = SENTENCE_END.search("".join(text for _, text in spoken))
    if match:
        left = match.end()
        for at_ns, text in spoken:
            left -= len(text)
            if left <= 0:
                return at_ns
    return spoken[-1][0]
