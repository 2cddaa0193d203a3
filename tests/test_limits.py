"""What a server may send without end, against a raw socket; numbers are those of a lab whose limit
is 4 MB instead of 64."""

import asyncio
import gzip
import json
import socket
import threading
import zlib
from dataclasses import dataclass, field

import anthropic
import httpx2
import pytest

from lab import limits
from lab.clock import now_ns, sleep_s
from lab.endpoints.client import open_client
from lab.endpoints.registry import Endpoint
from lab.harness.bench import TrialBench
from lab.harness.session import Session
from lab.instrumentation import parsing, stamps
from lab.instrumentation.stamps import OBSERVER
from lab.model import LabError, Request, new_id
from lab.rows import TrialRow

MB = 1_000_000
MOST = 60 * MB
"""Where the endless end, should nobody hang up."""
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Tea. "}}
GOOD = (
    {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 3}}},
    TEXT,
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
)
BODY = {"max_tokens": 8, "messages": [{"role": "user", "content": "Go."}]}


def sse(*events) -> bytes:
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )


def head(*lines: str, status: str = "200 OK", kind: str = "text/event-stream") -> bytes:
    return "\r\n".join(
        (f"HTTP/1.1 {status}", f"content-type: {kind}", "connection: close", *lines, "", "")
    ).encode()


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass
class RawServer:
    """Answers each connection's first request with the next of `answers`: bytes, or an iterable of
    them."""

    answers: list = field(default_factory=list)
    sent: int = 0

    def __post_init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(
                target=self.answer, args=(connection, self.answers.pop(0)), daemon=True
            ).start()

    def answer(self, connection, answer):
        connection.settimeout(20)
        with connection:
            try:
                asked = b""
                while b"Go." not in asked and not asked.startswith(b"GET"):
                    asked += connection.recv(65536)
                for piece in [answer] if isinstance(answer, bytes) else answer:
                    connection.sendall(piece)
                    self.sent += len(piece)
                    if self.sent > MOST:
                        break
            except OSError:
                pass

    def close(self):
        self.socket.close()


def endless(first: bytes, again: bytes):
    yield first
    while True:
        yield again * (1 + 65536 // len(again))


@pytest.fixture
def server():
    server = RawServer()
    yield server
    server.close()


@pytest.fixture
def four_mb(monkeypatch):
    monkeypatch.setenv("LAB_MAX_BODY_MB", "4")
    limits.body_bytes.cache_clear()
    yield
    limits.body_bytes.cache_clear()


@pytest.fixture
async def session(server):
    session = Session(
        new_id(),
        Endpoint("raw", "live", server.url, "key", {"small": "m", "large": "m"}, "small"),
        True,
        5,
    )
    yield session
    await session.close()


def a_bench(session) -> TrialBench:
    row = TrialRow(
        new_id(), session.run_id, session.id, "t", "a", 1, 0, 1, "measured", None, None, now_ns()
    )
    bench = TrialBench(session, row, "[trial 0000000000000000] ")
    OBSERVER.set(bench.observe)
    return bench


async def row_of(session, server, *answers, stream=True):
    """The row of one call that is answered so."""
    server.answers = list(answers)
    bench = a_bench(session)
    await bench.call(Request(BODY, stream=stream))
    return bench.finished().calls[-1]


async def test_an_endless_stream_ends_as_a_row_that_names_the_limit(four_mb, session, server):
    row = await row_of(session, server, endless(head() + sse(*GOOD[:2]), sse(TEXT)))
    assert (row.error_kind, row.error_text) == ("too_large", "the body is more than 4 MB")
    assert row.http_status == 200 and row.first_byte_ns and server.sent < 40 * MB


async def test_an_endless_event_is_too_large(four_mb, session, server):
    row = await row_of(session, server, endless(head() + b'data: {"type": "', b"x"))
    assert row.error_kind == "too_large" and server.sent < 40 * MB


async def test_an_event_of_more_than_a_quarter_of_the_body_is_too_large(four_mb, session, server):
    big = json.loads(json.dumps(TEXT))
    big["delta"]["text"] = "x" * int(1.1 * MB)
    row = await row_of(session, server, head() + sse(GOOD[0], big, *GOOD[2:]))
    assert (row.error_kind, row.error_text) == ("too_large", "one event is more than 1 MB")


async def test_an_endless_whole_answer_is_too_large(four_mb, session, server):
    row = await row_of(
        session, server, endless(head(kind="application/json"), b'{"content": '), stream=False
    )
    assert (row.error_kind, row.error_text) == ("too_large", "the body is more than 4 MB")


async def test_pieces_of_one_byte_are_counted(four_mb, monkeypatch, session, server):
    monkeypatch.setattr(limits, "CHUNKS", 2_000)
    row = await row_of(session, server, endless(head("transfer-encoding: chunked"), chunked(b"x")))
    assert (row.error_kind, row.error_text) == (
        "too_large",
        "the answer came in more than 2,000 pieces",
    )


async def test_chunk_headers_without_end_are_too_large(four_mb, session, server):
    row = await row_of(
        session,
        server,
        endless(head("transfer-encoding: chunked"), b"1;" + b"e" * 50_000 + b"\r\nx\r\n"),
    )
    assert (row.error_kind, "chunk headers" in row.error_text) == ("too_large", True)


async def test_more_events_than_any_answer_has_are_too_large(four_mb, monkeypatch, session, server):
    monkeypatch.setattr(limits, "EVENTS", 100)
    row = await row_of(session, server, head() + sse(GOOD[0], *[TEXT] * 101, *GOOD[2:]))
    assert (row.error_kind, row.error_text) == ("too_large", "the stream has more than 100 events")


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
        (b"HTTP/1.1 200 OK\r\na: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"),
    ],
    ids=["headers", "one header", "100", "103"],
)
async def test_headers_without_end_are_too_large(session, server, first, again):
    row = await row_of(session, server, endless(first, again))
    assert row.error_kind == "too_large" and "headers" in row.error_text and row.http_status is None
    assert server.sent < 20 * MB


@pytest.mark.parametrize(("status", "most"), [("200 OK", 4), ("400 Bad Request", 1)])
async def test_a_small_body_that_unpacks_without_end_is_too_large(
    four_mb, session, server, status, most
):
    packed = gzip.compress(b" " * 40 * MB)
    row = await row_of(
        session,
        server,
        head("content-encoding: gzip", f"content-length: {len(packed)}", status=status) + packed,
    )
    assert (row.error_kind, row.error_text) == (
        "too_large",
        f"the body unpacks to more than {most} MB",
    )
    assert len(packed) < 50_000


async def test_the_body_of_an_error_is_small(four_mb, session, server):
    row = await row_of(session, server, endless(head(status="500 Oh"), b"x"))
    assert (row.error_kind, row.error_text, row.http_status) == (
        "too_large",
        "the body is more than 1 MB",
        500,
    )


@pytest.mark.parametrize("coding", ["gzip", "deflate", "bare deflate"])
async def test_a_compressed_answer_that_nobody_asked_for_is_read(session, server, coding):
    bare = zlib.compressobj(wbits=-15)
    data = sse(*GOOD)
    packed = {
        "gzip": gzip.compress(data),
        "deflate": zlib.compress(data),
        "bare deflate": bare.compress(data) + bare.flush(),
    }[coding]
    row = await row_of(
        session, server, head(f"content-encoding: {coding.removeprefix('bare ')}") + packed
    )
    assert (row.error_kind, row.output_tokens, row.stop_reason) == (None, 2, "end_turn")


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "wrong"])
async def test_a_compression_that_the_lab_does_not_know_is_named(session, server, coding):
    row = await row_of(session, server, head(f"content-encoding: {coding}") + b"\x0b\x02\x80")
    assert (row.error_kind, row.error_text, row.http_status) == (
        "malformed",
        f"compressed with {coding} though identity was asked",
        200,
    )


async def test_broken_compression_is_malformed(session, server):
    row = await row_of(session, server, head("content-encoding: gzip") + b"no gzip at all")
    assert row.error_kind == "malformed" and row.error_text.startswith(
        "compressed with gzip though identity was asked, and broken"
    )


async def test_the_answers_of_one_trial_have_a_limit_together(four_mb, session, server):
    long = head() + sse(GOOD[0], *[TEXT] * 25_000, *GOOD[2:])
    assert 2.5 * MB < len(long) < 4 * MB
    server.answers = [long] * 4
    bench = a_bench(session)
    kinds = [(await bench.call(Request(BODY))).error_kind for _ in range(4)]
    assert kinds == [None, None, "too_large", "too_large"]
    assert (
        bench.finished().calls[-1].error_text
        == "the answers of one trial are longer than 8 MB together"
    )


async def test_what_the_users_own_code_reads_has_the_same_limits(four_mb, server):
    server.answers = [endless(head(kind="application/json"), b"[1,")]
    client = open_client(Endpoint("raw", "live", server.url, "key"), 5)
    with pytest.raises(anthropic.APIConnectionError) as failed:
        await client.models.list()
    await client.close()
    assert str(failed.value.__cause__) == "the body is more than 4 MB"


async def test_a_server_is_held_back_while_nobody_reads_and_nothing_is_lost(server):
    whole = b"".join(b"%08d" % n for n in range(2_000_000))
    server.answers = [
        [
            head("content-length: 16000000"),
            *(whole[at : at + MB] for at in range(0, len(whole), MB)),
        ]
    ]
    stream = await stamps.StampedBackend().connect_tcp(
        "127.0.0.1", int(server.url.rpartition(":")[2])
    )
    await stream.write(b"GET / HTTP/1.1\r\n\r\n")
    while not stream.paused:
        await sleep_s(0.01)
    await sleep_s(0.1)
    stream.allowed = 17 * MB
    assert stream.waiting < limits.WAITING_BYTES + MB
    got = b""
    while data := await stream.read(65536, 5):
        assert len(data) <= 65536
        got += data
    await stream.aclose()
    assert got == head("content-length: 16000000") + whole


# Reading


def test_an_event_is_the_same_wherever_its_chunks_part_and_however_its_lines_end():
    events = [{"type": "ping"}, {"type": "new", "x": "a\nb"}, {"type": "ping"}]
    for end in (b"\n", b"\r\n", b"\r"):
        data = sse(*events).replace(b"\n", end)
        for cut in range(len(data)):
            parts = [(1, data[:cut]), (2, b""), (3, data[cut:])]
            assert [event for _, _, event in parsing.events(parts)] == events
        assert [
            event
            for _, _, event in parsing.events([(n, data[n : n + 1]) for n in range(len(data))])
        ] == events


@pytest.mark.parametrize("end", [b"\r\n\n", b"\n\r\n", b"\r\r\n", b"\n\r", b"\r\n\r"])
def test_an_empty_line_may_be_of_mixed_ends(end):
    data = (b'data: {"type": "ping"}' + end) * 3
    assert (
        len([*parsing.events([(0, data)])])
        == len([*parsing.events([(n, data[n : n + 1]) for n in range(len(data))])])
        == 3
    )


def test_an_event_happened_when_the_byte_that_completed_it_came():
    for end in (b"\n", b"\r\n", b"\r"):
        data = sse({"type": "ping"}).replace(b"\n", end)
        due = len(data) - len(end)  # of a CRLF, the CR ends the line already
        assert [
            at for at, _, _ in parsing.events([(n, data[n : n + 1]) for n in range(len(data))])
        ] == [due]


def an_exchange(data: bytes, size: int) -> stamps.Exchange:
    exchange = stamps.Exchange(b"{}", 0)
    exchange.status, exchange.headers = 200, {"content-type": "text/event-stream"}
    for at in range(0, len(data), size):
        exchange.chunks.append((at, data[at : at + size]))
    exchange.received = len(data)
    exchange.close(len(data))
    return exchange


def test_reading_an_event_takes_time_in_proportion_to_its_length():
    took = {}
    for megabytes in (1, 8):
        long = {**TEXT, "delta": {"type": "text_delta", "text": "x" * megabytes * MB}}
        exchange = an_exchange(sse(GOOD[0], long, *GOOD[2:]), 256)
        began = now_ns()
        assert len(parsing.read(exchange).text) == megabytes * MB
        took[megabytes] = now_ns() - began
    assert (
        took[8] < 24 * took[1]
    )  # in proportion it is 8 times as long; copying all that came before, 64 times


async def test_a_trial_ends_with_its_last_answer_and_not_with_the_reading_of_it(session, server):
    """The best of two: what the machine holds up is in one of them."""
    long = head() + sse(GOOD[0], *[TEXT] * 30_000, *GOOD[2:])
    server.answers = [long] * 4
    took_ns, after_ns, between_ns = [], [], []
    for _ in range(2):
        bench = a_bench(session)
        async with bench.span("trial", "a") as root:
            async with bench.span("join", "both"):
                await bench.call(Request(BODY))
            reply = await bench.call(Request(BODY))
        assert reply.ok and len(reply.text) == 150_000
        first, last = bench.calls
        after_ns.append(root.ended_ns - last.exchange.ended_ns)
        between_ns.append(last.intent.started_ns - first.exchange.ended_ns)
        again = an_exchange(long, 65536)
        began = now_ns()
        parsing.read(again)
        took_ns.append(now_ns() - began)
    assert 0 <= min(after_ns) < min(took_ns) / 2
    # What lies between two calls is the application's own time: it must have read the first answer
    # to ask for the second.
    assert min(between_ns) > min(took_ns) / 4


async def test_what_a_trial_does_after_its_last_answer_counts(session, server):
    server.answers = [head() + sse(*GOOD)]
    bench = a_bench(session)
    async with bench.span("trial", "a") as root:
        await bench.call(Request(BODY))
        await sleep_s(0.2)
    assert root.ended_ns - bench.calls[0].exchange.ended_ns > 0.15e9


async def test_who_stops_while_a_long_answer_is_read_does_not_wait_for_it(session, server):
    server.answers = [head() + sse(GOOD[0], *[TEXT] * 190_000, *GOOD[2:])]
    bench = a_bench(session)
    work = asyncio.create_task(bench.call(Request(BODY)))
    while not (bench.calls and bench.calls[0].exchange and not bench.calls[0].exchange.open):
        await sleep_s(0.01)
    assert not work.done() and bench.calls[0].exchange.received > 20 * MB
    began = now_ns()
    work.cancel()
    await asyncio.wait({work})
    assert bench.calls[0]._reading is None
    (row,) = bench.finished().calls
    assert now_ns() - began < 10e9
    assert (work.cancelled(), row.error_kind) == (True, "cancelled") and row.message_start_ns


async def test_a_long_answer_to_the_users_own_code_is_read_beside_the_loop(session, server):
    server.answers = [head() + sse(GOOD[0], *[TEXT] * 20_000, *GOOD[2:])]
    bench = a_bench(session)
    answer = await bench.client.post(
        "/v1/messages", cast_to=httpx2.Response, body={**BODY, "model": "m", "stream": True}
    )
    assert answer.status_code == 200
    await bench.read_rest()
    assert bench.calls[0]._reading is not None and not bench.calls[0].exchange.open
    assert (
        bench.finished().calls[0].error_kind,
        bench.calls[0].reading.usage["output_tokens"],
    ) == (None, 2)


async def test_whether_to_try_again_is_known_without_reading_the_answer(session, server):
    busy = head("retry-after: 0", status="429 Busy", kind="application/json") + b"[" * 100_000
    server.answers = [busy, busy, head() + sse(*GOOD)]
    bench = a_bench(session)
    reply = await bench.call(Request(BODY))
    assert reply.ok and [row.error_kind for row in bench.finished().calls] == [
        "http_429",
        "http_429",
        None,
    ]


@pytest.mark.parametrize(
    "rest", [b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nagain", head() + sse(*GOOD)]
)
async def test_what_a_server_sends_beyond_its_answer_is_nobody_elses_answer(session, server, rest):
    def kept():
        data = sse(*GOOD)
        yield head(f"content-length: {len(data)}").replace(b"close", b"keep-alive") + data + rest
        release.wait(10)

    release = threading.Event()
    server.answers = [
        kept(),
        head()
        + sse(GOOD[0], {**TEXT, "delta": {"type": "text_delta", "text": "Mine."}}, *GOOD[2:]),
    ]
    bench = a_bench(session)
    replies = [await bench.call(Request(BODY)) for _ in range(2)]
    release.set()
    assert [reply.text for reply in replies] == ["Tea. ", "Mine."]
    assert [(row.error_kind, row.connection_reused) for row in bench.finished().calls] == [
        (None, False)
    ] * 2


# Words


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (
            head("location: https://elsewhere.example/v1/messages?key=secret", status="307 Moved"),
            "redirect",
            "status 307 to elsewhere.example; redirects are not followed",
        ),
        (
            head("location: //[", status="302 Found"),
            "redirect",
            "status 302; redirects are not followed",
        ),
        (
            head(kind="text/html") + b"<html>Log in</html>",
            "malformed",
            "status 200 with an HTML page that is no JSON where a message belongs",
        ),
        (
            head(kind="application/json"),
            "malformed",
            "status 200 with an empty body where a message belongs",
        ),
        (
            head(status="204 No Content"),
            "malformed",
            "not a Messages API's answer: a stream without any event",
        ),
        (
            head(kind="text/plain") + b"hello",
            "malformed",
            "status 200 with a body of type text/plain that is no JSON where a message belongs",
        ),
        (head(), "malformed", "not a Messages API's answer: a stream without any event"),
        (
            head(kind="application/json") + b'{"content": [{"type"',
            "truncated",
            "the answer is not a whole message",
        ),
        (
            head(kind="application/json") + b'{"content": "x"}',
            "malformed",
            "not a Messages API's answer: JSON without a list of content",
        ),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "malformed", None),
        (b"", "disconnected", None),
        (head("content-length: 9", kind="application/json") + b"{", "disconnected", None),
    ],
)
async def test_what_is_no_answer_gets_an_honest_word(session, server, answer, kind, text):
    row = await row_of(session, server, answer, answer, stream=False)
    assert row.error_kind == kind and text in (None, row.error_text)


async def test_an_error_text_is_cut(session, server):
    body = json.dumps(
        {"type": "error", "error": {"type": "t" * 9_000, "message": "m" * 900_000}}
    ).encode()
    row = await row_of(session, server, head(status="400 Bad", kind="application/json") + body)
    assert (len(row.error_kind), len(row.error_text)) == (200, 500)


@pytest.mark.parametrize(
    "raised", [httpx2.ReadTimeout("x"), httpx2.WriteTimeout("x"), TimeoutError(), OSError()]
)
def test_a_timeout_is_a_timeout_whoever_raises_it(raised):
    kind = "exception" if type(raised) is OSError else "timeout"
    wrapped = RuntimeError("a library's own")
    wrapped.__cause__ = raised
    assert parsing.failure_words(raised)[0] == kind and parsing.failure_words(wrapped)[0] == kind


async def test_silence_is_a_timeout(server):
    session = Session(
        new_id(), Endpoint("raw", "live", server.url, "key", {"small": "m"}, "small"), True, 0.2
    )

    def silent():
        yield head() + sse(GOOD[0])
        release.wait(10)

    release = threading.Event()
    row = await row_of(session, server, silent())
    release.set()
    await session.close()
    assert row.error_kind == "timeout" and row.message_start_ns


@pytest.mark.parametrize("nonsense", ["0", "many", "-3", "1e9"])
def test_a_limit_that_is_no_number_is_a_sentence(monkeypatch, nonsense):
    monkeypatch.setenv("LAB_MAX_BODY_MB", nonsense)
    limits.body_bytes.cache_clear()
    with pytest.raises(LabError, match="LAB_MAX_BODY_MB"):
        limits.body_bytes()
    limits.body_bytes.cache_clear()
