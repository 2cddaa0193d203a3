"""Streams as the API usually writes them, read without parsing each event: one that begins and ends
as an earlier one says the same but for its text. Whatever is unusual is left to
lab.instrumentation.parsing, and both read alike."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from lab import limits
from lab.instrumentation import parsing
from lab.instrumentation.parsing import Reading
from lab.load.call_frame import CallFrame

CONTROL = bytes({*range(0x20)} - {ord("\n")})
NAMED = {"text_delta": "text", "thinking_delta": "thinking"}
"""Where a delta has its text."""
SIGNS = ("content_block_start", *NAMED, "signature_delta")
ASCII_ENDS = ".!?\n"
"""Without one of these a plain text has no sentence's end."""
ODD_BYTES = 100_000
"""Of all events of a call that are parsed: there are few, and short ones."""
NESTED = 100
"""Objects and lists of an event, at most."""
FORMS = 16


class Arrivals(NamedTuple):
    """The events of one call, in their order; instants in ns of the loader's clock."""

    at_ns: np.ndarray
    kinds: Sequence[str]
    characters: Sequence[int]
    texts: Sequence[str] | None
    """None where nobody keeps them."""


class Form(NamedTuple):
    """What stands before and behind the text of a delta, its quotes included."""

    before: bytes
    behind: bytes
    unspaced: bytes | None
    """The same without spaces, where none of them is in a text: the API pads its events."""
    kind: str


@dataclass
class Events:
    """Of one answer, in their order."""

    kinds: list[str] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    """In bytes."""
    odd: list[tuple[int, str, Any]] = field(default_factory=list)
    """Those that are no deltas of a text: place, kind and data."""
    odd_bytes: int = 0


class Unusual(Exception):
    """Not as the API usually writes."""


UNUSUAL = (
    *(Unusual, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError),
    ValueError,
)
"""What reading raises where a value is another than the API's."""


class PlainStreams:
    def __init__(self, keep_text: bool = False) -> None:
        self.keep_text = keep_text
        self.forms: list[Form] = []

    def read(self, frame: CallFrame) -> tuple[Reading, Arrivals] | None:
        """What the answer says, without its content; None where it is unusual."""
        body = frame.body
        if (
            frame.status != 200
            or frame.failure is not None
            or not body.startswith((b"event:", b"data:"))
            or not body.endswith(b"\n\n")
            or len(body) > limits.event_bytes()
            or len(body.translate(None, CONTROL)) != len(body)
        ):
            return None
        try:
            return self._read(frame)
        except UNUSUAL:
            return None

    def _read(self, frame: CallFrame) -> tuple[Reading, Arrivals]:
        events = self._events(frame.body)
        kinds, pieces = events.kinds, events.pieces
        at_ns = _instants(frame, events.lengths)
        is_ascii = b"".join(pieces).isascii()
        texts = None if is_ascii and not self.keep_text else [piece.decode() for piece in pieces]
        characters = list(map(len, pieces if texts is None else texts))
        reading = Reading()
        _tell(reading, events.odd, at_ns)
        spoken = _clock(reading, kinds, characters, at_ns)
        reading.first_sentence_ns = _first_sentence(pieces, spoken, at_ns)
        return reading, Arrivals(at_ns, kinds, characters, texts if self.keep_text else None)

    def _events(self, body: bytes) -> Events:
        """What stands between two deltas of one form is nothing but a text, mostly: then the whole
        body is parted there at once."""
        events, form = Events(), self.forms[0] if self.forms else None
        if form is None:
            self._each(events, body)
            return events
        before, kind, end = form.before, form.kind, b'"' + form.behind + b"\n\n"
        first, *middle = body.split(end + before)
        if not middle:
            self._each(events, first)
            return events
        last = middle.pop()
        self._each(events, first + end)
        joined = b"".join(middle)
        if b'"' in joined or b"\\" in joined or b"\n" in joined:
            for piece in middle:
                self._each(events, before + piece + end)
        else:
            events.kinds += [kind] * len(middle)
            events.pieces += middle
            around = len(before) + len(end)
            events.lengths += [around + length for length in map(len, middle)]
        self._each(events, before + last)
        return events

    def _each(self, events: Events, body: bytes) -> None:
        form = self.forms[0] if self.forms else None
        *blocks, _ = body.split(b"\n\n")
        for block in blocks:
            events.lengths.append(len(block) + 2)
            if form is None or (piece := _piece(block, form)) is None:
                form, piece = self._of_another_form(block, form)
            if piece is not None:
                events.kinds.append(form.kind)
                events.pieces.append(piece)
                continue
            events.odd_bytes += len(block)
            if events.odd_bytes > ODD_BYTES or len(events.kinds) > limits.EVENTS:
                raise Unusual
            kind, data = _parsed(block)
            text = None
            if kind == "content_block_delta":
                kind, text = _delta(data)
            if text is None:
                events.odd.append((len(events.kinds), kind, data))
            else:
                self._learn(block, kind, text)
            events.kinds.append(kind)
            events.pieces.append((text or "").encode())

    def _of_another_form(self, block: bytes, last: Form | None) -> tuple[Form | None, bytes | None]:
        for form in self.forms:
            if form is not last and (piece := _piece(block, form)) is not None:
                return form, piece
        return last, None

    def _learn(self, block: bytes, kind: str, text: str) -> None:
        """Where the text stands there once, as it is, in quotes."""
        quoted = b'"%b"' % text.encode()
        if block.count(quoted) == 1:
            before, _, behind = block.partition(quoted)
            unspaced = None if b'"' in behind else behind.replace(b" ", b"")
            self.forms = [Form(before + b'"', behind, unspaced, kind), *self.forms[: FORMS - 1]]


def _piece(block: bytes, form: Form) -> bytes | None:
    """The text of a delta that is of this form, as JSON has it and as it is; else None."""
    before, behind, unspaced, _ = form
    if not block.startswith(before):
        return None
    text, _, rest = block[len(before) :].partition(b'"')
    if rest != behind and (unspaced is None or rest.replace(b" ", b"") != unspaced):
        return None
    return None if b"\\" in text or b"\n" in text else text


def _instants(frame: CallFrame, lengths: list[int]) -> np.ndarray:
    """When each event was whole."""
    ends = np.frombuffer(frame.ends, np.uint32)
    stamps = np.frombuffer(frame.at_ns, np.int64)
    return stamps[np.searchsorted(ends, np.cumsum(lengths))]


@lru_cache(256)
def _parsed(block: bytes) -> tuple[str, dict[str, Any]]:
    """Type and data of an event; whoever gets them changes nothing in them."""
    *name, line = block.split(b"\n")
    if len(name) > 1 or not all(part.startswith(b"event:") for part in name):
        raise Unusual
    if not line.startswith(b"data:") or b"\\ud" in line.lower():
        raise Unusual
    if line.count(b"{") + line.count(b"[") > NESTED:
        raise Unusual
    data = json.loads(line[5:].decode())
    kind = data["type"]
    if not isinstance(kind, str) or not kind:
        raise Unusual
    return kind, data


def _delta(data: Mapping[str, Any]) -> tuple[str, str | None]:
    """Kind and text of a delta; None for a signature."""
    delta = data["delta"]
    kind = delta["type"]
    if type(data["index"]) is not int:
        raise Unusual
    if kind == "signature_delta" and delta.keys() == {"type", "signature"}:
        if isinstance(delta["signature"], str):
            return kind, None
    elif delta.keys() == {"type", NAMED[kind]} and isinstance(delta[NAMED[kind]], str):
        return kind, delta[NAMED[kind]]
    raise Unusual


def _tell(reading: Reading, odd: list[tuple[int, str, Any]], at_ns: np.ndarray) -> None:
    """What the events say that are no deltas of a text."""
    stopped = False
    for number, kind, data in odd:
        if kind == "message_start" and reading.message_start_ns is None:
            reading.message_start_ns = int(at_ns[number])
            _begin(reading, data["message"])
        elif kind == "content_block_start":
            _block(reading, data, int(at_ns[number]))
        elif kind == "message_delta":
            _use(reading.usage, data.get("usage") or {})
            reading.stop_reason = _word(data["delta"].get("stop_reason")) or reading.stop_reason
            reading.lab = _timings(data.get("lab")) or reading.lab
        elif kind == "message_stop":
            stopped = True
        elif kind not in ("content_block_stop", "ping", "signature_delta"):
            raise Unusual
    if not stopped:
        raise Unusual


def _begin(reading: Reading, message: Mapping[str, Any]) -> None:
    if "diagnostics" in message:
        raise Unusual
    reading.message_id, reading.model = _word(message.get("id")), _word(message.get("model"))
    _use(reading.usage, message.get("usage") or {})


def _block(reading: Reading, data: Mapping[str, Any], at_ns: int) -> None:
    block = data["content_block"]
    if type(data["index"]) is not int or block["type"] not in NAMED.values():
        raise Unusual
    if any(block.get(name) for name in parsing.BEGINNINGS):
        raise Unusual
    if block["type"] == "thinking" and reading.thinking_started_ns is None:
        reading.thinking_started_ns = at_ns


def _use(known: dict[str, Any], usage: Mapping[str, Any]) -> None:
    """The counts so far; a contradiction among them is unusual."""
    for name, value in usage.items():
        if value is None:
            continue
        if name in parsing.GROUPS:
            if parsing.counted(value) != value or known.get(name, value) != value:
                raise Unusual
        elif name in parsing.COUNTS:
            if not limits.is_count(value) or value < known.get(name, 0):
                raise Unusual
        elif name in parsing.WORDS:
            _word(value)
        elif name == "iterations":
            raise Unusual
        known[name] = value
    written, split = known.get("cache_creation_input_tokens"), known.get("cache_creation") or {}
    details = known.get("output_tokens_details") or {}
    if written is not None and split and sum(filter(None, split.values())) != written:
        raise Unusual
    if (details.get("thinking_tokens") or 0) > (known.get("output_tokens") or 0):
        raise Unusual


def _word(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and len(value) <= limits.WORD_CHARACTERS):
        return value
    raise Unusual


def _timings(lab: Any) -> dict[str, Any]:
    if not lab:
        return {}
    for name, amount in lab.items():
        is_number = type(amount) in (int, float) and math.isfinite(amount)
        if not (limits.is_count(amount) if name.endswith("_tokens") else is_number):
            raise Unusual
    return lab


def _clock(
    reading: Reading, kinds: list[str], characters: list[int], at_ns: np.ndarray
) -> list[int]:
    """The instants of deltas: one with a text is a token, any is a sign of life. Answers with the
    places of those that can be read."""
    filled = [place for place, length in enumerate(characters) if length]
    spoken = [place for place in filled if kinds[place] == "text_delta"]
    thought = [place for place in filled if kinds[place] == "thinking_delta"]
    alive = (place for place, kind in enumerate(kinds) if kind in SIGNS)
    for name, place in {
        "first_sign_ns": next(alive, None),
        "first_token_ns": next(iter(filled), None),
        "second_token_ns": next(iter(filled[1:2]), None),
        "last_token_ns": next(reversed(filled), None),
        "first_thinking_ns": next(iter(thought), None),
        "first_text_ns": next(iter(spoken), None),
        "last_text_ns": next(reversed(spoken), None),
    }.items():
        setattr(reading, name, None if place is None else int(at_ns[place]))
    return spoken


def _first_sentence(pieces: list[bytes], spoken: list[int], at_ns: np.ndarray) -> int | None:
    """As parsing.first_sentence, which would want each piece as a text."""
    if not spoken:
        return None
    said = [pieces[place] for place in spoken]
    text = b"".join(said).decode()[: limits.SENTENCE_CHARACTERS]
    place = spoken[-1]
    if text.isascii() and not any(mark in text for mark in ASCII_ENDS):
        return int(at_ns[place])
    if match := parsing.SENTENCE_END.search(text):
        left = len(text[: match.end()].encode())
        place = spoken[bisect_left(list(accumulate(map(len, said))), left)]
    return int(at_ns[place])
