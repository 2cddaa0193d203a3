"""Where the messages of one direction of an HTTP/1.1 connection begin and end: bytes in, the same
bytes out, each with what it is. Nothing is mended: what cannot be followed is handed on as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from lab import limits

HEAD, BODY, FRAME, END, ODD = "head", "body", "frame", "end", "odd"
"""A whole head; a piece of a body; framing between bodies' pieces; the message is over (no bytes);
what is no HTTP, or no longer is."""
CHUNKED, UNTIL_CLOSED, TUNNEL = -1, -2, -3
"""How long a body is, where it is no number."""
HEAD_END = re.compile(rb"\r?\n\r?\n")
BLANK = re.compile(rb"[\r\n]+")
FOLD = re.compile(r"\n[ \t]+")
REQUEST = re.compile(rb"[A-Z]{1,20}( |$)|[A-Z]{1,20}$")
ANSWER = b"HTTP/1."
SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(;.*)?")
PLAIN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
SIZE_LINE = 16_000
_LINE, _DATA, _DATA_END, _TRAILER = range(4)


class Part(NamedTuple):
    kind: str
    raw: bytes
    body: bytes = b""
    """Of a body: the bytes without their framing."""


class Framing:
    """One direction. While a head is not whole its bytes wait in `held`."""

    def __init__(self, is_answer: bool) -> None:
        self.is_answer = is_answer
        self.held = b""
        self.odd: str | None = None
        """Why this direction can no longer be followed."""
        self._in_head = True
        self._length = 0
        self._left = 0
        self._place = _LINE
        self._line = b""

    def expect(self, length: int) -> None:
        """How long the body is that follows the head just given: a number, or one of the words.
        Said before the next part is taken."""
        self._length = self._left = length
        self._place, self._line = _LINE, b""

    def lose(self, reason: str) -> None:
        """From here on nothing is understood."""
        self.odd = self.odd or reason

    @property
    def ends_with_connection(self) -> bool:
        """Whether the message under way is whole when the connection ends."""
        return not self._in_head and self._length == UNTIL_CLOSED and not self.odd

    def parts(self, data: bytes) -> Iterator[Part]:
        """Of what came: together their raw bytes are what came, but for those of a head that is not
        whole yet."""
        # By places, never by what is left: of many small messages that would be copied each time.
        known, data, self.held = len(self.held), self.held + data, b""
        at = 0
        while at < len(data) or (not self._in_head and self._length == 0):
            if self.odd or (not self._in_head and self._length == TUNNEL):
                yield Part(ODD, data[at:])
                return
            if self._in_head:
                part, known = self._head(data, at, known), 0
                if part is None:
                    return
                at += len(part.raw)
                yield part
            elif self._length == UNTIL_CLOSED:
                yield Part(BODY, data[at:], data[at:])
                return
            elif self._length == CHUNKED:
                part = self._chunk(data, at)
                at += len(part.raw)
                yield part
            else:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if piece:
                    yield Part(BODY, piece, piece)
                if not self._left:
                    yield self._end()

    def _end(self) -> Part:
        self._in_head = True
        return Part(END, b"")

    def _head(self, data: bytes, at: int, known: int) -> Part | None:
        """`known` bytes of it were there before. None where it is not whole: it is then held."""
        if blank := BLANK.match(data, at):  # RFC 9112: between two messages it is passed over
            return Part(FRAME, blank[0])
        if match := HEAD_END.search(data, at + max(0, known - 3)):
            self._in_head, self._length = False, 0
            if self._looks_right(data[at : match.end()]):
                return Part(HEAD, data[at : match.end()])
            self.lose("not HTTP")
        elif len(data) - at > limits.HEAD_BYTES:
            self.lose("headers without an end")
        elif not self._looks_right(data[at:]):
            self.lose("not HTTP")
        else:
            self.held = data[at:]
            return None
        return Part(ODD, data[at:])

    def _looks_right(self, data: bytes) -> bool:
        if self.is_answer:
            return data.startswith(ANSWER[: len(data)])
        return REQUEST.match(data) is not None

    def _chunk(self, data: bytes, at: int) -> Part:
        if (
            self._place == _LINE
            and not self._line
            and (match := PLAIN_SIZE.match(data, at))
            and (size := int(match[1], 16))
            and data.startswith(b"\r\n", end := match.end() + size)
        ):  # a whole chunk, as most are
            return Part(BODY, data[at : end + 2], data[match.end() : end])
        if self._place == _DATA:
            piece = data[at : at + self._left]
            self._left -= len(piece)
            if not self._left:
                self._place = _DATA_END
            return Part(BODY, piece, piece)
        end = data.find(b"\n", at) + 1
        raw = data[at : end or len(data)]
        self._line += raw
        if not end:
            if len(self._line) > SIZE_LINE:
                self.lose("a chunk's size without an end")
            return Part(FRAME, raw)
        line, self._line = self._line.rstrip(b"\r\n"), b""
        if self._place == _LINE:
            if not (match := SIZE.fullmatch(line)):
                self.lose("a chunk without a size")
            elif size := int(match[1], 16):
                self._left, self._place = size, _DATA
            else:
                self._place = _TRAILER
        elif self._place == _DATA_END:
            if line:
                self.lose("a chunk longer than it says")
            self._place = _LINE
        elif not line:  # the end of the trailers
            self._length = self._left = 0
        return Part(FRAME, raw)


class Lines(NamedTuple):
    """A head, read."""

    first: str
    headers: dict[str, str]
    """Lower-case names; the first of several."""
    length: int | None
    """Of the body, as the headers say it: a number, CHUNKED, or None where they say nothing."""
    odd: str | None


def lines(head: bytes) -> Lines:
    text = FOLD.sub(" ", head.decode("latin-1").replace("\r\n", "\n").rstrip("\n"))
    first, *rest = text.split("\n")
    headers: dict[str, str] = {}
    odd, lengths, codings = None, set(), []
    for line in rest:
        name, colon, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon:
            continue
        headers.setdefault(name, value)
        if name == "content-length":
            lengths.add(value)
        elif name == "transfer-encoding":
            codings += [word.strip().lower() for word in value.split(",")]
            codings = [coding for coding in codings if coding not in ("", "identity")]
    length: int | None = None
    if codings and codings[-1] == "chunked":
        length = CHUNKED
    elif codings:
        odd = "a transfer-encoding that does not end with chunked"
    elif len(lengths) == 1 and (said := lengths.pop()).isascii() and said.isdigit():
        length = int(said.lstrip("0")[:18] or "0")
    elif lengths:
        odd = "a content-length that is none"
    return Lines(first, headers, length, odd)
