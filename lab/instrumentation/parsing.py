"""What the stamped bytes of a Messages API exchange mean: clocks, content, usage, error words. Runs
after the last stamp.

An event happened when the chunk that completed it arrived. Reading takes time in proportion to the
bytes, and whatever they are, it ends in a Reading whose values fit the tables.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2

from lab import limits
from lab.instrumentation.stamps import Exchange, TooLarge, Unreadable
from lab.model import Reply
from lab.rows import EventRow

# A full stop after a digit is a list number or a decimal more often than an end.
SENTENCE_END = re.compile(r"[^\W\d_][\"'”’)\]]?[.!?…][\"'”’)\]]?(?=\s|$)|\S(?=\n)|[。！？]")
PIECES = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
"""Where a delta has its piece of the answer; one of another type has it in whatever text it
brings."""
SEALS = ("signature", "encrypted_content", "data")
"""Texts of a delta that nobody can read: a sign of life, and no token."""
NO_PIECES = ("type", "id", "index", *SEALS)
BEGINNINGS = ("text", "thinking", "content")
"""Where a block may have its first piece already as it starts."""
NAMES = (
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "error",
)
"""The events that say something: where the data of one is broken the answer is. Another's is passed
over."""
ERROR_SHAPE = "not a Messages API's answer"
DONE = b"[DONE]"
"""How some gateways end a stream, in the manner of another API."""
STREAM = re.compile(rb"\s*(?::|(?:event|data|id|retry):)")
PASSING = ("content_block_delta", "ping")
"""Events of which nothing is kept but a text."""
EVENTS_AT_ONCE = 24
"""Some 0.2 ms of reading."""
KEPT_ARRIVALS = 1_000
"""Of an answer that is too large."""


class Arrival(NamedTuple):
    """One SSE event: `kind` is its type, for a delta the delta's; a whole (unstreamed) body is one
    arrival of kind `message`."""

    at_ns: int
    kind: str
    characters: int
    text: str


@dataclass(slots=True)
class Reading:
    """Clocks are lab.clock.now_ns() stamps, None where it did not happen or nothing streamed."""

    content: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    message_id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    error_kind: str | None = None
    error_text: str | None = None
    cache_miss_reason: str | None = None
    missed_cache_tokens: int | None = None
    diagnosis: str | None = None
    """unchanged, changed, unknown (the API could not tell) or pending (not yet)."""
    usage_notes: list[str] = field(default_factory=list)
    """Contradictions in what was counted."""
    rate_limits: dict[str, str] = field(default_factory=dict)
    lab: dict[str, Any] = field(default_factory=dict)
    message_start_ns: int | None = None
    first_sign_ns: int | None = None
    """A block that begins, a signature, an estimate or a token."""
    first_token_ns: int | None = None
    """The first generated piece of any block, known or unknown."""
    second_token_ns: int | None = None
    """The second one: with it, a stream has begun to flow."""
    thinking_started_ns: int | None = None
    first_thinking_ns: int | None = None
    first_text_ns: int | None = None
    first_sentence_ns: int | None = None
    first_tool_ns: int | None = None
    whole_tool_ns: int | None = None
    """The first tool can run: the block of its input has ended and is a JSON object, or the model
    went on after one without any input."""
    broken_tools: list[str] = field(default_factory=list)
    last_text_ns: int | None = None
    last_token_ns: int | None = None

    text = Reply.text
    tool_uses = Reply.tool_uses

    def fail(self, kind: str, text: str) -> None:
        self.error_kind, self.error_text = kind, text

    def columns(self, asked: Any) -> dict[str, Any]:
        """What it says of its call, which asked for `asked`, by the columns of `calls`: all but
        its usage and its clocks."""
        names = ("queue", "prefill", "decode")
        parts = {name: self.lab[f"{name}_ms"] for name in names if f"{name}_ms" in self.lab}
        return {
            "message_id": self.message_id,
            "served_model": self.model,
            "stop_reason": self.stop_reason,
            "error_kind": self.error_kind,
            "error_text": self.error_text,
            "cache_miss_reason": self.cache_miss_reason,
            "missed_cache_tokens": self.missed_cache_tokens,
            "diagnosis": self.diagnosis if asks_diagnosis(asked) else None,
            "rate_limits": self.rate_limits or None,
            "usage_note": "; ".join(dict.fromkeys(self.usage_notes)) or None,
            "server_ms": parts or None,
            "physical_cache_tokens": self.lab.get("cached_tokens"),
        }

    def events(self, origin_ns: int = 0, call_id: str = "", run_id: str = "") -> list[EventRow]:
        """Its arrivals as rows, with their text, in ns from the origin."""
        return [
            EventRow(
                call_id,
                run_id,
                seq,
                arrival.at_ns - origin_ns,
                arrival.kind,
                arrival.characters,
                arrival.text or None,
            )
            for seq, arrival in enumerate(self.arrivals)
        ]


def asks_diagnosis(body: Any) -> bool:
    """Whether a request, of whatever shape, named an earlier message to be compared with: an
    answer's null then says that nothing has changed."""
    asked = body.get("diagnostics") if isinstance(body, Mapping) else None
    return isinstance(asked, Mapping) and bool(asked.get("previous_message_id"))


CLOCKS = tuple(name for name in Reading.__dataclass_fields__ if name.endswith("_ns"))


class GivenUp(Exception):
    """Whoever wanted the reading has gone."""


class Odd(ValueError):
    """What in the answer is not the API's."""


def events(chunks: list[tuple[int, bytes]]) -> Iterator[tuple[int, str, dict]]:
    """(stamp, event name, data) of each complete SSE event. A line may end in LF, CRLF or CR, and
    chunks may part anywhere.

    Raises TooLarge, and ValueError or RecursionError where the data of one of NAMES is no JSON
    object.
    """
    pending: list[bytes] = []
    plain = PlainDeltas()
    size = count = values = 0
    line_ended = carriage = False
    for at_ns, chunk in chunks:
        halved = carriage and chunk[:1] == b"\n"  # the second half of a line's end
        if chunk:
            carriage = chunk[-1:] == b"\r"
        if halved:
            chunk = chunk[1:]
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        size += len(chunk)
        if b"\n\n" not in chunk and not (line_ended and chunk[:1] == b"\n"):
            pending.append(chunk)
            if chunk:
                line_ended = chunk[-1:] == b"\n"
            if size > limits.event_bytes():
                raise TooLarge(f"one event is more than {limits.event_bytes() // limits.MB} MB")
            continue
        *complete, rest = b"".join([*pending, chunk]).split(b"\n\n")
        pending, size, line_ended = [rest], len(rest), rest[-1:] == b"\n"
        for block in complete:
            count += 1
            if len(block) > limits.event_bytes():
                raise TooLarge(f"one event is more than {limits.event_bytes() // limits.MB} MB")
            if count > limits.EVENTS:
                raise TooLarge(f"the stream has more than {limits.EVENTS:,} events")
            if same := plain.read(block):
                yield at_ns, "content_block_delta", same
            elif block and (event := _event(block)):
                plain.learn(block, event[1])
                if (
                    event[0] not in PASSING
                    and (values := values + parts_of(block)) > limits.JSON_PARTS
                ):
                    raise TooLarge(
                        f"the stream has more than {limits.JSON_PARTS:,} values beside its deltas"
                    )
                yield at_ns, *event


class PlainDeltas:
    """Most events of a stream are text deltas that differ in their text alone. The second of a kind
    is not parsed: what stands before and behind the text is that of the first, but for spaces that
    the API pads it with."""

    LONGEST = 4_096
    ODD = re.compile(rb"[\\\x00-\x1f\xed]")
    """In a text that is not written as it reads: escapes, what is no JSON, halves of an emoji."""

    def __init__(self) -> None:
        self.before = self.behind = b""
        self.index: Any = None

    def learn(self, block: bytes, data: dict) -> None:
        """From an event that was parsed, where it is plain and its text its last field."""
        delta = data.get("delta")
        if data.keys() != {"type", "index", "delta"} or not isinstance(delta, dict):
            return
        text = delta.get("text")
        if list(delta) != ["type", "text"] or delta["type"] != "text_delta":
            return
        if not text or not isinstance(text, str):
            return
        parts = block.split(f'"{text}"'.encode())
        if len(parts) != 2 or data["type"] != "content_block_delta":
            return
        # Behind the last quote of all there is no other string that it could be.
        if b'"' not in parts[1] and b"\n" not in parts[1]:
            self.before, self.behind = parts[0] + b'"', b'"' + parts[1].replace(b" ", b"")
            self.index = data["index"]

    def read(self, block: bytes) -> dict[str, Any] | None:
        """The data of an event that is like the one learned, else None."""
        begin = len(self.before)
        if not begin or not block.startswith(self.before) or len(block) > self.LONGEST:
            return None
        end = block.find(b'"', begin)
        text = block[begin:end]
        if end < 0 or block[end:].replace(b" ", b"") != self.behind or self.ODD.search(text):
            return None
        try:
            delta = {"type": "text_delta", "text": text.decode()}
        except UnicodeDecodeError:
            return None
        return {"type": "content_block_delta", "index": self.index, "delta": delta}


def _event(block: bytes) -> tuple[str, dict] | None:
    if block.count(b"\n") > limits.EVENT_LINES:
        raise TooLarge(f"one event has more than {limits.EVENT_LINES:,} lines")
    name, data = "", []
    for line in block.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[5:].strip())
        elif line.startswith(b"event:"):
            name = line[6:].strip().decode("utf-8", "replace")
    text = b"\n".join(data)
    if not text or text == DONE:
        return None
    try:
        value = _loads(text)
        if not isinstance(value, dict):
            raise Odd(f"the data of an event is {value!r:.60}")
    except (ValueError, RecursionError):
        if name and name not in NAMES:
            return None
        raise
    return _text_or(value.get("type"), name), value


def _text_or(value: Any, default: str) -> str:
    return value if value and isinstance(value, str) else default


def _integer(digits: str) -> int | float:
    """Python refuses to read an integer of more than 4,300 digits; a tool's input may well have
    twenty."""
    return int(digits) if len(digits) < 300 else math.inf


_DECODER = json.JSONDecoder(parse_int=_integer)


def parts_of(data: bytes) -> int:
    """At least the number of values in a JSON document."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _loads(data: bytes) -> Any:
    """JSON, with "?" for half an emoji: a server may split one over two deltas, and no database or
    socket takes a half.

    Raises ValueError, RecursionError beyond some hundred levels, and TooLarge.
    """
    if len(data) > limits.event_bytes():
        raise TooLarge(f"one JSON document is more than {limits.event_bytes() // limits.MB} MB")
    if len(data) > limits.JSON_PARTS and parts_of(data) > limits.JSON_PARTS:
        raise TooLarge(f"one JSON document has more than {limits.JSON_PARTS:,} values")
    value = _DECODER.decode(data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogatepass"))
    if b"\xed" in data or b"\\ud" in data or b"\\uD" in data:
        value = _DECODER.decode(
            json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
        )
    return value


def read(exchange: Exchange, gone: Callable[[], bool] = lambda: False) -> Reading:
    """Everything the exchange says; a broken one gives what it did say, and error words. Raises
    GivenUp where `gone()` becomes true, and nothing else."""
    steps = in_steps(exchange)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        if gone():
            raise GivenUp


def in_steps(exchange: Exchange) -> Generator[None, None, Reading]:
    """`read`, with a pause after every EVENTS_AT_ONCE events: who reads on an event loop can let
    it stamp what has come meanwhile."""
    reading = Reading()
    if exchange.status is not None:
        reading.rate_limits = _rate_limits(exchange)
        try:
            if exchange.status >= 300:
                _read_error(exchange, reading)
            elif _streams(exchange):
                yield from _read_stream(exchange, reading)
            else:
                _read_whole(exchange, reading)
            _check(reading)
        except TooLarge as error:
            reading = _broken(reading, "too_large", str(error))
            del reading.arrivals[KEPT_ARRIVALS:]
        except Exception as error:  # whatever a server can think of, the run goes on
            reading = _broken(reading, "malformed", f"{ERROR_SHAPE}: {_oddity(error)}")
    failure = exchange.failure
    if isinstance(failure, TooLarge | Unreadable) or (
        failure is not None
        and reading.error_kind in (None, "truncated")
        and reading.stop_reason is None
    ):
        reading.fail(*failure_words(failure))
        if isinstance(failure, TooLarge):
            del reading.arrivals[KEPT_ARRIVALS:]
    return _cut(reading)


def _broken(reading: Reading, kind: str, text: str) -> Reading:
    """What it counted has been paid, whatever is wrong with the rest."""
    return Reading(
        usage=counted(reading.usage),
        arrivals=reading.arrivals,
        error_kind=kind,
        error_text=text,
    )


def unanswered(failure: BaseException | None) -> Reading:
    """Of a call that did not get as far as an exchange."""
    reading = Reading()
    if failure is not None:
        reading.fail(*failure_words(failure))
    return _cut(reading)


def _cut(reading: Reading) -> Reading:
    if reading.error_kind:
        reading.error_kind = _sound(reading.error_kind[: limits.WORD_CHARACTERS])
        reading.error_text = _sound((reading.error_text or "")[: limits.ERROR_CHARACTERS])
    return reading


def _sound(text: str) -> str:
    """Without halves of an emoji, which a library's sentence may have too."""
    return text.encode("utf-8", "replace").decode()


def _oddity(error: Exception) -> str:
    if isinstance(error, Odd):
        return str(error)
    if isinstance(error, RecursionError):
        return "its JSON is nested too deeply"
    if isinstance(error, UnicodeError):
        return "its text is no UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return "its JSON is broken"
    return "a field of another type than the API's"


def _streams(exchange: Exchange) -> bool:
    """By its first bytes, and by its type where they do not tell: servers stream under a JSON type,
    and answer whole under a stream's."""
    start = b"".join(data for _, data in exchange.chunks[:64])[:64].removeprefix(b"\xef\xbb\xbf")
    if start.lstrip()[:1] == b"{":
        return False
    return (
        STREAM.match(start) is not None
        or "text/event-stream" in exchange.headers.get("content-type", "").lower()
    )


def _rate_limits(exchange: Exchange) -> dict[str, str]:
    """What the headers say of the limits, under their names without `anthropic-`."""
    names = islice(filter(LIMITS.match, exchange.headers), 40)
    return {name.removeprefix("anthropic-")[:80]: exchange.headers[name][:80] for name in names}


LIMITS = re.compile("anthropic-(ratelimit|priority|fast)-|retry-after")


def _check(reading: Reading) -> None:
    """Raises where a field that is used has another type or size than the API's."""
    usage = reading.usage
    for name in ("message_id", "model", "stop_reason", "cache_miss_reason"):
        setattr(reading, name, _word(name, getattr(reading, name)))
    for name in ("speed", "service_tier", "inference_geo"):
        if name in usage:
            usage[name] = _word(name, usage[name])
    for counts in _all_counts(usage):
        for name in COUNTS:
            if not _fits(counts.get(name)):
                raise Odd(f"{name} is {counts[name]!r:.60}")
    for entry in usage.get("iterations") or ():
        for name in ("type", "model"):
            _word(name, entry.get(name))
    if not _fits(reading.missed_cache_tokens):
        raise Odd(f"cache_missed_input_tokens is {reading.missed_cache_tokens!r:.60}")
    reading.usage_notes += _contradictions(usage)
    reading.lab = {name: amount for name, amount in reading.lab.items() if _amount(name, amount)}
    len(reading.text)  # raises where a text is none
    for block in reading.content:
        if block.get("type") == "tool_use":
            if not (isinstance(block.get("id"), str) and isinstance(block.get("name"), str)):
                raise Odd("a tool_use without an id or a name")
            if not isinstance(block.get("input"), dict):
                raise Odd(f"the input of a tool_use is {block.get('input')!r:.60}")
        # What an agent sends back in its next turn must be JSON; NaN is none.
        json.dumps(
            {name: value for name, value in block.items() if not isinstance(value, str)},
            allow_nan=False,
        )


COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
    "thinking_tokens",
)
GROUPS = ("cache_creation", "output_tokens_details")


def _all_counts(usage: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The usage, its groups of counts, and those of its iterations; raises Odd where one is no
    object."""
    iterations = usage.get("iterations")
    if not isinstance(iterations, list | None):
        raise Odd(f"iterations is {iterations!r:.60}")
    for part in (usage, *(iterations or ())):
        for counts in (
            part,
            *(part.get(group) or {} for group in GROUPS if isinstance(part, Mapping)),
        ):
            if not isinstance(counts, Mapping):
                raise Odd(f"a group of counts is {counts!r:.60}")
            yield counts


def _fits(value: Any) -> bool:
    return value is None or limits.is_count(value)


def counted(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of a usage, as far as they are counts: of a broken answer, or of a file."""
    counts: dict[str, Any] = {}
    for name, value in usage.items():
        if name in GROUPS and isinstance(value, Mapping):
            counts[name] = counted(value)
        elif name == "iterations" and isinstance(value, list):
            counts[name] = [counted(entry) for entry in value if isinstance(entry, Mapping)]
        elif (name in COUNTS and _fits(value)) or (name in WORDS and isinstance(value, str)):
            counts[name] = value[: limits.WORD_CHARACTERS] if isinstance(value, str) else value
    return counts


WORDS = ("type", "model", "speed", "service_tier", "inference_geo")


def _contradictions(usage: Mapping[str, Any]) -> list[str]:
    written, split = usage.get("cache_creation_input_tokens"), usage.get("cache_creation") or {}
    parts = sum(split.get(name) or 0 for name in COUNTS)
    thinking = (usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0
    notes = []
    if written is not None and split and parts != written:
        notes.append(
            f"cache_creation sums to {parts}, and cache_creation_input_tokens is {written}"
        )
    if thinking > (usage.get("output_tokens") or 0):
        notes.append(f"thinking_tokens is {thinking}, more than all output_tokens")
    return notes


def _word(name: str, value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise Odd(f"{name} is {value!r:.60} where a text belongs")
    return value[: limits.WORD_CHARACTERS] if value else value


def _amount(name: str, amount: Any) -> bool:
    """Whether one of the local server's own figures fits its column; another server may mean
    anything by `lab`."""
    if name.endswith("_tokens"):
        return limits.is_count(amount)
    return not name.endswith("_ms") or (type(amount) in (int, float) and math.isfinite(amount))


def failure_words(failure: BaseException) -> tuple[str, str]:
    """The lab's word for what ended an exchange, and the library's sentence."""
    text = f"{type(failure).__name__}: {failure}".removesuffix(": ")
    if isinstance(failure, (asyncio.CancelledError, GeneratorExit)):
        return "cancelled", "stopped by the lab or by the caller"
    if isinstance(failure, TooLarge):
        return "too_large", str(failure)
    if "Receive buffer too long" in text:  # h11's words for a header, or a chunk's, without an end
        text = "the headers of the answer are longer than any server of the API makes them"
        return "too_large", text
    if isinstance(failure, Unreadable):
        return "malformed", str(failure)
    if isinstance(
        failure,
        httpx2.ConnectTimeout | httpx2.ConnectError | httpx2.PoolTimeout | httpx2.ProxyError,
    ):
        return "connect", text
    if isinstance(failure, httpx2.TimeoutException | TimeoutError):
        return "timeout", text
    if isinstance(failure, httpx2.RemoteProtocolError) and not re.search("disconnect|closed", text):
        return "malformed", f"not HTTP: {failure}"
    if isinstance(failure, httpx2.TransportError) and not isinstance(
        failure, httpx2.LocalProtocolError | httpx2.UnsupportedProtocol
    ):
        return "disconnected", text
    # The SDK wraps what the transport raises.
    if isinstance(failure.__cause__, httpx2.TransportError | OSError):
        return failure_words(failure.__cause__)
    return "exception", text


def _read_error(exchange: Exchange, reading: Reading) -> None:
    """A redirect or an error; its body may be anything."""
    if exchange.status < 400:
        host = _host(exchange.headers.get("location"))
        reading.fail("redirect", f"status {exchange.status}{host}; redirects are not followed")
        return
    body = b"".join(data for _, data in exchange.chunks)
    try:
        message = _loads(body)
    except (ValueError, RecursionError, TooLarge):
        message = None
    error = _mapping(_mapping(message).get("error"))
    reading.fail(
        _text_or(error.get("type"), f"http_{exchange.status}"),
        _text_or(error.get("message"), body[:200].decode("utf-8", "replace")),
    )


def _host(location: str | None) -> str:
    try:
        host = urlsplit(location or "").netloc.rpartition("@")[2]
    except ValueError:
        host = ""
    return f" to {host:.100}" if host else ""


def _read_whole(exchange: Exchange, reading: Reading) -> None:
    body = b"".join(data for _, data in exchange.chunks)
    try:
        message = _loads(body)
    except ValueError as error:
        reading.fail(*_no_json(exchange, body, error))
        return
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        reading.fail("malformed", f"{ERROR_SHAPE}: JSON without a list of content")
        return
    _begin(message, reading)
    reading.content = [block for block in message["content"] if isinstance(block, dict)]
    reading.stop_reason = message.get("stop_reason")
    reading.lab = _mapping(message.get("lab"))
    reading.arrivals.append(
        Arrival(exchange.ended_ns or 0, "message", len(reading.text), reading.text)
    )


def _no_json(exchange: Exchange, body: bytes, error: ValueError) -> tuple[str, str]:
    """JSON that ends too early is an answer cut short; a login page never was one."""
    start = body[:200].lstrip()
    if exchange.failure is not None or (
        start.startswith(b"{") and isinstance(error, json.JSONDecodeError) and _ends_early(error)
    ):
        return "truncated", "the answer is not a whole message"
    kind = exchange.headers.get("content-type", "").partition(";")[0].strip()[:60]
    what = "an HTML page" if start[:1] == b"<" else f"a body of type {kind}" if kind else "a body"
    what = f"{what} that is no JSON" if start else "an empty body"
    return "malformed", f"status {exchange.status} with {what} where a message belongs"


def _ends_early(error: json.JSONDecodeError) -> bool:
    return error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _begin(message: dict, reading: Reading) -> None:
    reading.message_id, reading.model = message.get("id"), message.get("model")
    _grow(reading.usage, message.get("usage") or {}, reading.usage_notes)
    if "diagnostics" not in message:
        return
    diagnostics = message["diagnostics"] or {}
    reason = diagnostics.get("cache_miss_reason")
    reason = reason if isinstance(reason, dict) else {"type": reason}
    kind = reading.cache_miss_reason = reason.get("type")
    reading.missed_cache_tokens = reason.get("cache_missed_input_tokens")
    if not diagnostics:
        reading.diagnosis = "unchanged"
    elif kind is None:
        reading.diagnosis = "pending"
    else:
        reading.diagnosis = "changed" if str(kind).endswith("_changed") else "unknown"


def _grow(known: dict[str, Any], usage: Mapping[str, Any], notes: list[str]) -> None:
    """Counts are cumulative: one that falls is a contradiction, and the larger one holds."""
    for name, value in usage.items():
        before = known.get(name)
        if value is None:
            continue
        if name in GROUPS and isinstance(value, Mapping):
            known[name] = _mapping(before)
            _grow(known[name], value, notes)
        elif name in COUNTS and type(before) is int and type(value) is int and value < before:
            notes.append(f"{name} fell from {before} to {value}")
        elif name != "iterations" or value or not before:
            known[name] = value


def _read_stream(exchange: Exchange, reading: Reading) -> Iterator[None]:
    blocks: dict[int, dict[str, Any]] = {}
    pieces: dict[int, dict[str, list[str]]] = {}
    spoken: list[tuple[int, str]] = []
    stopped = is_bare = False  # bare: the last block is a tool's, and no input came
    characters = 0

    def piece(index: int, name: str, text: str, at_ns: int, kind: str | None) -> None:
        nonlocal characters
        characters += len(text)
        if characters > limits.event_bytes():
            raise TooLarge(
                f"the text of the answer is longer than {limits.event_bytes():,} characters"
            )
        pieces.setdefault(index, {}).setdefault(name, []).append(text)
        _token(reading, at_ns)
        if kind == "text":
            reading.first_text_ns = reading.first_text_ns or at_ns
            reading.last_text_ns = at_ns
            spoken.append((at_ns, text))
        elif kind == "thinking":
            reading.first_thinking_ns = reading.first_thinking_ns or at_ns

    for count, (at_ns, kind, data) in enumerate(events(exchange.chunks), 1):
        if not count % EVENTS_AT_ONCE:
            yield
        text = ""
        if kind == "message_start":
            reading.message_start_ns = at_ns
            _begin(data.get("message") or {}, reading)
        elif kind == "content_block_start":
            index, block = data.get("index", len(blocks)), dict(data.get("content_block") or {})
            blocks[index] = block
            if is_bare:
                reading.whole_tool_ns = reading.whole_tool_ns or at_ns
            is_bare = False
            reading.first_sign_ns = reading.first_sign_ns or at_ns
            sort = str(block.get("type"))
            if sort == "thinking" and reading.thinking_started_ns is None:
                reading.thinking_started_ns = at_ns
            if sort.endswith("tool_use"):  # its name is generated: it is the block's first token
                reading.first_tool_ns = reading.first_tool_ns or at_ns
                _token(reading, at_ns)
            elif (name := _beginning(block)) and not sort.endswith("_result"):
                text = block.pop(name)  # a result would be the server's
                piece(index, name, text, at_ns, sort)
        elif kind == "content_block_delta":
            delta, index = data.get("delta") or {}, data.get("index", 0)
            kind = delta.get("type", kind)
            reading.first_sign_ns = reading.first_sign_ns or at_ns
            if kind == "text_delta" and len(delta) == 2 and type(delta.get("text")) is str:
                if text := delta["text"]:
                    piece(index, "text", text, at_ns, "text")
                reading.arrivals.append(Arrival(at_ns, kind, len(text), text))
                continue
            names = [name for name in delta if name not in NO_PIECES]
            if kind in PIECES:
                names = [PIECES[kind]]
            is_read = kind in ("text_delta", "thinking_delta")
            for name in names:
                value = delta.get(name)
                if kind in PIECES and not isinstance(value, str | None):
                    raise Odd(f"the text of a delta is {value!r:.60}")
                if value and isinstance(value, str):
                    text += value
                    piece(index, name, value, at_ns, name if is_read else None)
            if seals := {name: delta[name] for name in SEALS if isinstance(delta.get(name), str)}:
                blocks.setdefault(index, {"type": "thinking"}).update(seals)
            if kind == "citations_delta" and index in blocks:
                citations = blocks[index].get("citations") or ()
                blocks[index]["citations"] = [*citations, delta.get("citation")]
        elif kind == "content_block_stop":
            index = data.get("index", 0)  # an odd one ends nothing, and breaks nothing
            block = blocks.get(index, {}) if isinstance(index, int) else {}
            if reading.whole_tool_ns is None and block.get("type") == "tool_use":
                came = "".join(pieces.get(index, {}).get("partial_json", ()))
                is_bare = not came and not block.get("input")
                if not is_bare and (not came or _input(came) is not None):
                    reading.whole_tool_ns = at_ns
        elif kind == "message_delta":
            _grow(reading.usage, data.get("usage") or {}, reading.usage_notes)
            delta = data.get("delta") or {}
            reading.stop_reason = delta.get("stop_reason") or reading.stop_reason
            if is_bare and reading.stop_reason == "tool_use":
                reading.whole_tool_ns = reading.whole_tool_ns or at_ns
            reading.lab = _mapping(data.get("lab")) or reading.lab
        elif kind == "message_stop":
            stopped = True
        elif kind == "error":
            error = data.get("error")
            error = error if isinstance(error, dict) else {"message": error}
            reading.fail(_text_or(error.get("type"), "error"), _text_or(error.get("message"), ""))
        reading.arrivals.append(Arrival(at_ns, kind[: limits.WORD_CHARACTERS], len(text), text))
    for index in sorted(blocks.keys() | pieces.keys()):
        parts = {name: "".join(texts) for name, texts in pieces.get(index, {}).items()}
        kind = "thinking" if "thinking" in parts else "text"
        block = _assembled(blocks.get(index, {"type": kind}), parts)
        reading.content.append(block)
        if parts.get("partial_json") and _input(parts["partial_json"]) is None:
            reading.broken_tools.append(str(block.get("id")))
    reading.first_sentence_ns = first_sentence(spoken)
    if stopped:
        return
    reading.stop_reason = None
    if reading.error_kind is not None:
        return
    if reading.arrivals or exchange.failure is not None:
        reading.fail("truncated", "the stream ended without message_stop")
    else:
        reading.fail("malformed", f"{ERROR_SHAPE}: a stream without any event")


def _token(reading: Reading, at_ns: int) -> None:
    reading.first_sign_ns = reading.first_sign_ns or at_ns
    if reading.first_token_ns is None:
        reading.first_token_ns = at_ns
    elif reading.second_token_ns is None:
        reading.second_token_ns = at_ns
    reading.last_token_ns = at_ns


def _beginning(block: Mapping[str, Any]) -> str | None:
    return next(
        (name for name in BEGINNINGS if isinstance(block.get(name), str) and block[name]), None
    )


def _assembled(block: dict[str, Any], parts: Mapping[str, str]) -> dict[str, Any]:
    """The block as it goes back in a next turn: with its pieces, and otherwise as it came."""
    block |= {name: text for name, text in parts.items() if name != "partial_json"}
    if "partial_json" in parts:
        try:
            block["input"] = _loads(parts["partial_json"].encode())
        except ValueError:
            block["input"] = {}
    elif str(block.get("type")).endswith("tool_use"):
        block["input"] = block.get("input") or {}
    return block


def _input(text: str) -> dict[str, Any] | None:
    try:
        value = _loads(text.encode())
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def first_sentence(spoken: list[tuple[int, str]]) -> int | None:
    """When the first full sentence could be read; an answer without a mark is one."""
    beginning = "".join(text for _, text in spoken)[: limits.SENTENCE_CHARACTERS]
    if match := SENTENCE_END.search(beginning):
        left = match.end()
        for at_ns, text in spoken:
            left -= len(text)
            if left <= 0:
                return at_ns
    return spoken[-1][0] if spoken else None
