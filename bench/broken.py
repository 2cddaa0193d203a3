"""Every way to answer wrongly that the bench of faults knows: a name, and a function that writes it
to a connection."""

from __future__ import annotations

import base64
import gzip
import json
import random
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.raw_server import Connection, events, message, sse

HOLE = "@@"
MB = 2**20
SECOND = "Wed, 21 Oct 2099 07:28:00 GMT"


@dataclass(frozen=True)
class Kind:
    """`answer(connection, n)` writes the n-th injection. `shape` is what must have been asked: a
    stream, a whole answer, or either.

    A `slow` one is met with a deadline of half a second; a `heavy` one is given seconds to reach
    the lab's limits; `greets` is done before a request is read; `path` is what it breaks; with
    `keyed` the lab has a key, of which no trace may be left. It takes `times` injections to have
    tried every variant.
    """

    name: str
    answer: Callable[[Connection, int], Any]
    shape: str = "any"
    slow: bool = False
    heavy: bool = False
    greets: bool = False
    path: str = "/v1/messages"
    keyed: bool = False
    times: int = 6


KINDS: dict[str, Kind] = {}


def add(name: str, answer: Callable[[Connection, int], Any], **more: Any) -> None:
    assert name not in KINDS, name
    KINDS[name] = Kind(name, answer, **more)


def kind(name: str, **more: Any) -> Callable:
    def keep(answer: Callable[[Connection, int], Any]) -> Callable:
        add(name, answer, **more)
        return answer

    return keep


def either(
    c: Connection,
    whole: dict[str, Any],
    streamed: list[Any],
    raw: str | None = None,
    **headers: Any,
) -> None:
    """The answer in the shape that was asked for; `raw` is JSON text for the hole in it."""
    data = sse(streamed) if c.asked.stream else json.dumps(whole).encode()
    if raw is not None:
        data = data.replace(f'"{HOLE}"'.encode(), raw.encode("utf-8", "surrogatepass"))
    if c.asked.stream:
        c.stream(data, **headers)
    else:
        c.json(data, **headers)


def opened(c: Connection) -> None:
    """The head of a stream in chunks."""
    c.head(200, "text/event-stream", transfer_encoding="chunked")


def says(text: Any) -> dict[str, Any]:
    return {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": text},
    }


def body(**changes: Any) -> bytes:
    return json.dumps(message(**changes)).encode()


def error(**changes: Any) -> dict[str, Any]:
    return {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "No.", **changes},
    }


# Status codes


for status in (
    204,
    205,
    206,
    300,
    304,
    400,
    401,
    402,
    403,
    404,
    405,
    408,
    409,
    410,
    413,
    418,
    422,
    451,
    500,
    501,
    502,
    503,
    504,
    529,
    599,
):
    add(
        f"status {status}",
        lambda c, n, s=status: c.json(b"" if s in (204, 205, 304) or n % 2 else error(), s),
    )
FIRST_LINES = (
    "HTTP/1.1 999 Odd",
    "HTTP/1.1 abc Odd",
    "HTTP/1.1 -1 Odd",
    "HTTP/9.9 200 OK",
    "HTTP/1.1",
    "ICY 200 OK",
    "\x00\x01",
    "HTTP/1.1 200",
)
for line in FIRST_LINES:
    add(f"first line {line!r}", lambda c, n, first=line: c.json(message(), first))


@kind("a 1xx, then a good answer")
def _(c, n):
    c.send(
        (
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\n\r\n",
        )[n % 3]
    )
    c.good()


add("a 1xx and nothing more", lambda c, n: c.send(b"HTTP/1.1 100 Continue\r\n\r\n"))
add(
    "101 switching protocols",
    lambda c, n: c.send(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    ),
)
add("endless 1xx", lambda c, n: c.endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), heavy=True)

for status in (301, 302, 303, 307, 308):
    add(
        f"redirect {status} to another host",
        lambda c, n, s=status: c.json(b"", s, location=f"{c.server.elsewhere}/v1/messages"),
        keyed=True,
    )
add("redirect to itself", lambda c, n: c.json(b"", 307, location=c.asked.path))
NOWHERE = ({}, {"location": ""}, {"location": "file:///etc/passwd"}, {"location": "http://[::"})
add("redirect to nowhere", lambda c, n: c.json(b"", 302, **NOWHERE[n % 4]))

ODD_BODIES = {
    "HTML": b"<!doctype html><html><title>Sign in</title><script>alert(1)</script></html>",
    "empty": b"",
    "null": b"null",
    "a list": b"[1, [2, {}]]",
    "a number": b"5",
    "a text": b'"no"',
    "NaN": b"NaN",
    "broken JSON": b'{"type": "message", "content": [{"type": "te',
    "2,000 levels": b"[" * 2000 + b"]" * 2000,
    "100,000 levels": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "no UTF-8": b'{"type": "\xff\xfe\xed\xa0\x80"}',
    "NUL bytes": b"\x00" * 2000,
    "2 MB of text": b"A" * 2 * MB,
    "an empty object": b"{}",
}
for name, odd in ODD_BODIES.items():
    add(f"200 with {name}", lambda c, n, b=odd: c.json(b))
    add(f"4xx or 5xx with {name}", lambda c, n, b=odd: c.json(b, (400, 401, 500, 503)[n % 4]))
add(
    "HTML as text/html",
    lambda c, n: c.json(ODD_BODIES["HTML"], (200, 404, 502)[n % 3], "text/html"),
)
for kind_ in (
    None,
    "text/plain",
    "text/event-stream",
    "application/json; charset=utf-16",
    "multipart/mixed",
    "\x01",
    "x" * 5000,
):
    add(
        f"a message as {str(kind_)[:30]!r}",
        lambda c, n, k=kind_: c.json(message(), 200, k),
        shape="whole",
    )
for kind_ in (None, "application/json", "text/plain", "text/event-stream; charset=latin-1"):
    add(
        f"a stream as {kind_}",
        lambda c, n, k=kind_: c.stream(sse(events()), 200, k),
        shape="stream",
    )
for value in (
    "text",
    7,
    None,
    [None, 3, [], "x"],
    {"a": 1},
    True,
    [{"type": 5}],
    [{"type": "text"}],
    [{"type": "text", "text": {}}],
):
    add(f"content is {value}", lambda c, n, v=value: c.json(message(content=v)), shape="whole")

ODD_ERRORS = {
    "a text": "no",
    "a list": ["no"],
    "null": None,
    "type a dict": {"type": {"a": 1}, "message": "no"},
    "type a list": {"type": ["a"], "message": ["no"]},
    "type 1 MB": {"type": "x" * MB, "message": "no"},
    "2 MB of text": {"type": "api_error", "message": "y" * 2 * MB},
    "control sequences": {
        "type": "api_error",
        "message": "\x1b[2J\x1b]0;pwned\x07\x9b31m\r\n\x00\u202ereversed",
    },
    "markup": {
        "type": "<script>alert(1)</script>",
        "message": "[click](http://127.0.0.1/) <img src=x onerror=alert(1)>",
    },
    "half an emoji": {"type": "api_error", "message": "\ud83d"},
}
for name, value in ODD_ERRORS.items():
    add(
        f"an error body with {name}",
        lambda c, n, v=value: c.json({"type": "error", "error": v}, (400, 500)[n % 2]),
    )
    add(
        f"an error event with {name}",
        lambda c, n, v=value: c.stream(sse([*events()[:4], {"type": "error", "error": v}])),
        shape="stream",
    )
add(
    "an error event: overloaded",
    lambda c, n: c.stream(sse([*events()[: n % 6], error(type="overloaded_error")])),
    shape="stream",
)
for after in (
    "",
    "0",
    "-5",
    "nan",
    "inf",
    "1e400",
    "abc",
    SECOND,
    "999999",
    "0.01",
    "\x00",
    "9" * 5000,
):
    add(
        f"429 with retry-after {after[:30]!r}",
        lambda c, n, a=after: c.json(error(type="rate_limit_error"), 429, retry_after=a),
    )
add("429 with no retry-after", lambda c, n: c.json(error(type="rate_limit_error"), 429))


# Framing and hanging up


@kind("hangs up before reading", greets=True)
def _(c, n):
    return None


add("RST before reading", lambda c, n: c.reset(), greets=True)
add("speaks first", lambda c, n: c.send(b"220 mail.example ESMTP\r\n"), greets=True)
STAGES = {
    "after the request": b"",
    "in the status line": b"HTTP/1.",
    "in a header": b"HTTP/1.1 200 OK\r\ncontent-ty",
    "before the headers' end": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n",
    "after the headers": (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    ),
    "in a chunk's size": (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5"
    ),
    "in a chunk": (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding:"
        b" chunked\r\n\r\n50\r\ndata: "
    ),
    "in a body": (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"
    ),
}
for stage, data in STAGES.items():
    add(f"hangs up {stage}", lambda c, n, d=data: c.send(d))
    add(f"RST {stage}", lambda c, n, d=data: (c.send(d), time.sleep(0.002), c.reset()))


def cut_stream(c, n):
    data = sse(events())
    opened(c)
    c.chunk(data[: len(data) * (n % 10 + 1) // 11])


add("hangs up within the stream", cut_stream, shape="stream")
add(
    "RST within the stream",
    lambda c, n: (cut_stream(c, n), time.sleep(0.002), c.reset()),
    shape="stream",
)


@kind("no end of chunks after message_stop", shape="stream")
def _(c, n):
    opened(c)
    c.chunk(sse(events()))


for size in (b"zz", b"-5", b"FFFFFFFFFFFFFFFF", b"5;x=" + b"y" * 100_000, b"", b"0x10", b"1e3"):
    add(
        f"chunk of size {size[:16].decode()!r}",
        lambda c, n, s=size: (opened(c), c.send(s + b"\r\n" + sse(events()))),
    )
add("chunks not parted", lambda c, n: (opened(c), c.send(b"5\r\ndata:XX5\r\n{}\n\n")))
for length in ("10", "1000000", "-1", "abc", "9" * 30, "5, 6", ""):
    add(
        f"content-length {length[:12]!r}",
        lambda c, n, v=length: (c.head(content_length=v), c.send(body())),
        shape="whole",
    )
add(
    "both framings at once",
    lambda c, n: (
        c.head(200, "text/event-stream", transfer_encoding="chunked", content_length="7"),
        c.chunk(sse(events())),
        c.send(b"0\r\n\r\n"),
    ),
)
add("bytes after the answer", lambda c, n: (c.good(), c.send(b"HTTP/1.1 200 OK\r\n\r\nagain")))
add("two answers for one request", lambda c, n: (c.good(), c.good()))
add(
    "a body without framing",
    lambda c, n: c.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + body()),
    shape="whole",
)
add(
    "connection: close and more",
    lambda c, n: (c.json(message(), connection="close"), c.send(b"x" * 1000)),
    shape="whole",
)

HEADERS = {
    "of 1 MB": b"x-long: " + b"y" * MB,
    "20,000 of them": b"\r\n".join(b"x-%d: y" % n for n in range(20_000)),
    "with NUL": b"x-odd: a\x00b",
    "without a colon": b"this is no header",
    "folded": b"x-odd: a\r\n  b",
    "not ASCII": b"x-odd: \xff\xfe\xc3\xa9",
    "with a space in its name": b"x odd: a",
    "request-id of 100 KB": b"request-id: " + b"z" * 100_000,
    "request-id of control sequences": b"request-id: \x1b[31mred\x07",
    "two content-lengths": b"content-length: 5\r\ncontent-length: 6",
}
for name, data in HEADERS.items():
    add(
        f"headers {name}",
        lambda c, n, d=data: (
            c.send(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
                + d
                + b"\r\n\r\n"
            ),
            c.send(body()),
        ),
    )
add(
    "endless headers",
    lambda c, n: (c.send(b"HTTP/1.1 200 OK\r\n"), c.endless(b"x-more: and more\r\n" * 4000)),
    heavy=True,
)
add(
    "an endless header",
    lambda c, n: (c.send(b"HTTP/1.1 200 OK\r\nx-more: "), c.endless(b"y" * 65536)),
    heavy=True,
)


# Compressed, though nobody asked for it


def bomb(megabytes: int) -> bytes:
    """What unpacks to so much, made piece by piece: this process must stay small, or its children
    seem large."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    data = b"".join(packer.compress(b" " * MB) for _ in range(megabytes))
    return data + packer.flush()


_bombs: dict[int, bytes] = {}


def bombed(c: Connection, status: int, kind_: str = "application/json") -> None:
    if 1650 not in _bombs:
        _bombs[1650] = bomb(1650)
    c.json(_bombs[1650], status, kind_, content_encoding="gzip")


add("gzip bomb, 200", lambda c, n: bombed(c, 200), heavy=True)
add(
    "gzip bomb as a stream",
    lambda c, n: bombed(c, 200, "text/event-stream"),
    heavy=True,
    shape="stream",
)
add("gzip bomb in an error", lambda c, n: bombed(c, (400, 500, 529)[n % 3]), heavy=True)
add(
    "gzip, whole and sound",
    lambda c, n: c.json(gzip.compress(body()), content_encoding="gzip"),
    shape="whole",
)
add(
    "deflate, whole and sound",
    lambda c, n: c.json(zlib.compress(body()), content_encoding="deflate"),
    shape="whole",
)
add(
    "gzip, a sound stream",
    lambda c, n: c.stream(gzip.compress(sse(events())), content_encoding="gzip"),
    shape="stream",
)
add(
    "gzip, cut",
    lambda c, n: c.json(gzip.compress(body())[:-12], content_encoding="gzip"),
    shape="whole",
)
for coding in ("gzip", "deflate", "br", "zstd", "compress", "gzip, gzip", "identity", "\x01"):
    add(
        f"garbage as {coding!r}",
        lambda c, n, k=coding: c.json(
            random.Random(n).randbytes(500), (200, 500)[n % 2], content_encoding=k
        ),
    )


# Too slow, too long


add("silence", lambda c, n: c.silence(), slow=True)
add(
    "silence in the headers",
    lambda c, n: (c.send(b"HTTP/1.1 200 OK\r\ncontent"), c.silence()),
    slow=True,
)
add("silence after the headers", lambda c, n: (opened(c), c.silence()), slow=True)
add("silence within the stream", lambda c, n: (cut_stream(c, n), c.silence()), slow=True)
add(
    "silence after message_stop",
    lambda c, n: (opened(c), c.chunk(sse(events())), c.silence()),
    slow=True,
)
add(
    "headers drip",
    lambda c, n: c.drip(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-long: " + b"y" * 500, 0.02
    ),
    slow=True,
)
add(
    "a stream drips",
    lambda c, n: (c.head(200, "text/event-stream"), c.drip(sse(events()), 0.004)),
    slow=True,
)
add("a whole answer drips", lambda c, n: (c.head(), c.drip(body(), 0.01)), slow=True)
add(
    "pings for ever",
    lambda c, n: (c.head(200, "text/event-stream"), c.drip(sse([{"type": "ping"}] * 60), 0.0005)),
    slow=True,
)
add("529 for ever", lambda c, n: c.json(error(type="overloaded_error"), 529), slow=True)
add("an endless body", lambda c, n: (c.head(), c.endless(b" " * 65536)), heavy=True)
add("an endless error body", lambda c, n: (c.head(500), c.endless(b"x" * 65536)), heavy=True)
add(
    "an endless event",
    lambda c, n: (c.head(200, "text/event-stream"), c.send(b"data: "), c.endless(b"x" * 65536)),
    heavy=True,
)
add(
    "an endless stream",
    lambda c, n: (
        c.head(200, "text/event-stream"),
        c.send(sse(events()[:2])),
        c.endless(sse([events()[2]]) * 400),
    ),
    heavy=True,
    shape="stream",
)
add(
    "endless comments",
    lambda c, n: (c.head(200, "text/event-stream"), c.endless(b": nothing\n" * 6000)),
    heavy=True,
)
add(
    "endless empty lines",
    lambda c, n: (c.head(200, "text/event-stream"), c.endless(b"\n" * 65536)),
    heavy=True,
)
add(
    "endless chunks of one byte",
    lambda c, n: (opened(c), c.endless(b"1\r\n:\r\n" * 5000)),
    heavy=True,
)
add(
    "endless trailers",
    lambda c, n: (
        opened(c),
        c.chunk(sse(events())),
        c.send(b"0\r\n"),
        c.endless(b"x-more: y\r\n" * 5000),
    ),
    heavy=True,
)
add(
    "one event of 5 MB in small chunks",
    lambda c, n: c.stream([b"data: ", *[b"x" * 4096] * 1280, b"\n\n", sse(events())]),
    heavy=True,
)
add(
    "a whole answer of 52 MB",
    lambda c, n: c.json(message(content=[{"type": "text", "text": "word " * (52 * MB // 5)}])),
    heavy=True,
    shape="whole",
)
add(
    "20,000 events",
    lambda c, n: c.stream(sse([*events()[:2], *[events()[2]] * 20_000, *events()[5:]])),
    heavy=True,
    shape="stream",
)
add(
    "a delta of 2 MB",
    lambda c, n: c.stream(sse([*events()[:2], says("y" * 2 * MB), *events()[5:]])),
    shape="stream",
)


# The stream's own words


E = events()
STREAMS: dict[str, list[Any]] = {
    "no message_start": E[1:],
    "no block start": [E[0], *E[2:]],
    "no message_delta": [*E[:6], E[7]],
    "no message_stop": E[:-1],
    "nothing but message_stop": E[-1:],
    "nothing but pings": [{"type": "ping"}] * 5,
    "no events": [],
    "all twice": [event for event in E for _ in range(2)],
    "the message twice": [*E, *E],
    "backwards": E[::-1],
    "shuffled": random.Random(1).sample(E, k=len(E)),
    "unknown events": [*E[:3], {"type": "surprise", "a": 1}, {"type": "x" * MB}, *E[3:]],
    "unknown deltas": [*E[:3], {**E[2], "delta": {"type": "surprise_delta", "text": 5}}, *E[3:]],
    "events that are no objects": [*E[:3], "null", "[1]", "5", '"x"', "NaN", "true", *E[3:]],
    "data that is no JSON": [*E[:3], "{nonsense", "<html>", *E[3:]],
    "events without a type": [*E[:3], {"a": 1}, *E[3:]],
    "types that are no texts": [
        *E[:3],
        {"type": 5},
        {"type": ["a"]},
        {"type": {"b": 1}},
        {"type": None},
        {"type": True},
        *E[3:],
    ],
    "2,000 levels": [
        *E[:3],
        "[" * 2000 + "]" * 2000,
        '{"type": ' * 2000 + "1" + "}" * 2000,
        *E[3:],
    ],
    "half an emoji": [*E[:3], says("\ud83d"), says("\ude00"), *E[3:]],
    "NUL and control sequences": [*E[:3], says("\x00\x1b[2J\x9b\u202e\r"), *E[3:]],
    "a tool without id or name": [
        E[0],
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use"}},
        *E[5:],
    ],
    "a tool's input cut": [
        E[0],
        {**E[1], "content_block": {"type": "tool_use", "id": "t", "name": "n", "input": {}}},
        {**E[2], "delta": {"type": "input_json_delta", "partial_json": '{"a": '}},
        *E[5:],
    ],
    "a signature that is a number": [
        *E[:2],
        {**E[2], "delta": {"type": "signature_delta", "signature": 5}},
        *E[2:],
    ],
    "a negative index": [{**event, "index": -1} if "index" in event else event for event in E],
}
for name, given in STREAMS.items():
    add(f"stream: {name}", lambda c, n, g=given: c.stream(sse(g)), shape="stream")
for name, end in {"CRLF": "\r\n", "CR": "\r"}.items():
    add(
        f"stream: lines end in {name}",
        lambda c, n, e=end: c.stream(
            [bytes([b]) for b in sse(events(), e)] if n % 2 else sse(events(), e)
        ),
        shape="stream",
    )
add(
    "stream: a byte order mark first",
    lambda c, n: c.stream(b"\xef\xbb\xbf" + sse(events())),
    shape="stream",
)
add(
    "stream: no UTF-8",
    lambda c, n: c.stream(sse([*E[:2], says("??"), *E[2:]]).replace(b"??", b"\xff\xed\xa0\x80")),
    shape="stream",
)


# Values where they do not belong


VALUES = {
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "2^31": "2147483648",
    "2^40": "1099511627776",
    "2^63": "9223372036854775808",
    "2^70": "1180591620717411303424",
    "1e308": "1e308",
    "1e999": "1e999",
    "-1": "-1",
    "1.5": "1.5",
    "null": "null",
    "a list": "[1, [2]]",
    "a dict": '{"a": {"b": 1}}',
    "true": "true",
    "a text": '"12"',
    "half an emoji": '"\\ud83d"',
    "NUL": '"a\\u0000b"',
    "1 MB": '"' + "x" * MB + '"',
    "5,000 digits": "9" * 5000,
    "2,000 levels": "[" * 2000 + "]" * 2000,
}


def placed(path: tuple, value: Any = HOLE) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The whole message and the stream with a value at a path of the message (`lab` and usage also
    at the stream's end)."""

    def put(target: dict[str, Any]) -> dict[str, Any]:
        target = json.loads(json.dumps(target))
        inner = target
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
        return target

    streamed = events()
    streamed[0]["message"] = put(streamed[0]["message"])
    if path[0] in ("usage", "lab"):
        streamed[-2] = put(streamed[-2])
    elif path == ("stop_reason",):
        streamed[-2]["delta"]["stop_reason"] = value
    return put(message()), streamed


COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
USAGE_FIELDS = (
    *(("usage", name) for name in (*COUNTS, "speed", "service_tier")),
    ("usage", "cache_creation", "ephemeral_5m_input_tokens"),
    ("usage", "cache_creation", "ephemeral_1h_input_tokens"),
    ("usage", "cache_creation"),
    ("usage", "output_tokens_details", "thinking_tokens"),
    ("usage", "output_tokens_details"),
    ("usage", "a_new_one"),
    ("usage",),
)
LAB_FIELDS = (
    *(("lab", name) for name in ("cached_tokens", "queue_ms", "prefill_ms", "decode_ms", "extra")),
    ("lab",),
)
NAME_FIELDS = (
    *(
        (name,)
        for name in ("id", "model", "stop_reason", "role", "type", "diagnostics", "a_new_one")
    ),
    ("diagnostics", "cache_miss_reason"),
    ("diagnostics", "cache_miss_reason", "type"),
)
EVENT_FIELDS = (
    *((name,) for name in ("index", "delta", "content_block", "message")),
    *(("delta", name) for name in ("text", "type", "stop_reason")),
    *(("content_block", name) for name in ("type", "text")),
)


def misplaced(fields: tuple, raw: str) -> Callable[[Connection, int], None]:
    return lambda c, n: either(c, *placed(fields[n % len(fields)]), raw)


def odd_event(raw: str) -> Callable[[Connection, int], None]:
    def answer(c: Connection, n: int) -> None:
        path = EVENT_FIELDS[n % len(EVENT_FIELDS)]
        given = events()
        for event in given:
            if path[0] in event:
                inner = event
                for name in path[:-1]:
                    inner = inner[name]
                inner[path[-1]] = HOLE
        c.stream(sse(given).replace(f'"{HOLE}"'.encode(), raw.encode()))

    return answer


for name, raw in VALUES.items():
    add(f"usage: {name}", misplaced(USAGE_FIELDS, raw), times=len(USAGE_FIELDS))
    add(f"lab: {name}", misplaced(LAB_FIELDS, raw))
    add(f"names: {name}", misplaced(NAME_FIELDS, raw), times=len(NAME_FIELDS))
    add(f"event fields: {name}", odd_event(raw), shape="stream", times=len(EVENT_FIELDS))


# The key, said back


def spoken(c: Connection) -> list[str]:
    """The key in the ways that a server may say it."""
    key = c.asked.key
    half = len(key) // 2
    return [key, base64.b64encode(key.encode()).decode(), key[:half], key[half:], f"Bearer {key}"]


def echo(c: Connection, n: int) -> str:
    ways = spoken(c)
    return ways[n % len(ways)]


def piecewise(c: Connection, n: int) -> None:
    given = events()
    given[2:5] = [says(letter) for letter in f"Your key is {c.asked.key}."]
    c.stream(sse(given))


add(
    "key: in a header",
    lambda c, n: c.json(message(), request_id=echo(c, n), set_cookie=f"k={echo(c, n)}"),
    shape="whole",
    keyed=True,
)
add(
    "key: in the text",
    lambda c, n: either(
        c,
        message(content=[{"type": "text", "text": echo(c, n)}]),
        [*E[:2], says(echo(c, n)), *E[5:]],
    ),
    keyed=True,
)
add("key: a letter a delta", piecewise, shape="stream", keyed=True)
add(
    "key: in an error's text",
    lambda c, n: c.json(error(message=f"{echo(c, n)} is no key"), 401),
    keyed=True,
)
add("key: in an error's type", lambda c, n: c.json(error(type=echo(c, n)), 401), keyed=True)
add(
    "key: in an error event",
    lambda c, n: c.stream(sse([*E[:3], error(type=echo(c, n), message=echo(c, n + 1))])),
    shape="stream",
    keyed=True,
)
add(
    "key: in HTML",
    lambda c, n: c.json(f"<p>{echo(c, n)}</p>".encode(), 403, "text/html"),
    keyed=True,
)
add(
    "key: in names",
    lambda c, n: either(c, *placed(NAME_FIELDS[n % len(NAME_FIELDS)], echo(c, n))),
    keyed=True,
)
add(
    "key: in an event's type",
    lambda c, n: c.stream(sse([*E[:3], {"type": echo(c, n)}, *E[3:]])),
    shape="stream",
    keyed=True,
)
add(
    "key: in the status line",
    lambda c, n: c.json(error(), f"HTTP/1.1 401 {echo(c, n)}"),
    keyed=True,
)
add(
    "key: in a redirect",
    lambda c, n: c.json(b"", 302, location=f"http://127.0.0.1:9/{echo(c, n)}?k={echo(c, n + 1)}"),
    keyed=True,
)
add(
    "key: in usage and lab",
    lambda c, n: either(c, *placed((USAGE_FIELDS + LAB_FIELDS)[n % 19], echo(c, n))),
    keyed=True,
)


# Foreign servers at the path by which the lab knows its own


HEALTH = {
    "a list": b"[]",
    "null": b"null",
    "a number": b"5",
    "a text": b'"ok"',
    "NaN": b"NaN",
    "5,000 digits": b"9" * 5000,
    "2,000 levels": b"[" * 2000 + b"]" * 2000,
    "100,000 levels": b"[" * 100_000,
    "kind a list": b'{"kind": ["simulated"]}',
    "kind a dict": b'{"kind": {}}',
    "kind null": b'{"kind": null}',
    "HTML": ODD_BODIES["HTML"],
    "empty": b"",
    "no UTF-8": b"\xff\xfe\x00",
}
for name, odd in HEALTH.items():
    add(f"/health: {name}", lambda c, n, b=odd: c.json(b), path="/health")
add("/health: status 500", lambda c, n: c.json(b"no", 500), path="/health")
add("/health: no HTTP", lambda c, n: c.send(b"hello\n"), path="/health")
add("/health: RST", lambda c, n: c.reset(), path="/health")
add("/health: silence", lambda c, n: c.silence(30), path="/health")
add(
    "/health: drips",
    lambda c, n: (c.head(content_length=900), c.drip(b" " * 900, 0.1)),
    path="/health",
)
add(
    "/health: headers drip",
    lambda c, n: c.drip(b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 100, 0.1),
    path="/health",
)
add("/health: endless", lambda c, n: (c.head(), c.endless(b" " * 65536, 20)), path="/health")
add(
    "/health: redirects to itself",
    lambda c, n: c.json(b"", 302, location="/health"),
    path="/health",
)
