"""The load's own HTTP: what goes out, what is taken for the end of an answer, and what is said of
one that has none."""

import asyncio
import gc
import ssl
import subprocess
import threading

import httpx2
import pytest
import uvloop

from bench.raw_server import Connection, RawServer, events, message, sse
from bench.recorder_ground import ProxyTap
from lab import limits, tunnel
from lab.clock import now_ns, sleep_s
from lab.endpoints.client import open_client
from lab.endpoints.registry import Endpoint
from lab.instrumentation import parsing, stamps
from lab.load import wire
from lab.load.call_frame import CallFrame
from lab.load.wire import Address, Template, Wire

BODY = b'{"model": "m"}'
WHOLE = b'{"type": "message"}'
NONE = (None,) * 5


def template(path: str = "/v1/messages", body: bytes = BODY) -> Template:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    return Template(head.encode(), body)


class Asking:
    """A wire on a loop as the loader's: `await call()` one after another."""

    def __init__(self, server: RawServer, **address) -> None:
        place = {"host": "127.0.0.1", "port": server.port, "timeout_s": 30.0, **address}
        self.over: dict[int, asyncio.Future] = {}
        self.wire = Wire(Address(**place), lambda call: self.over[call.request].set_result(call))

    def begin(self, request: Template | None = None) -> asyncio.Future:
        number = len(self.over)
        self.over[number] = asyncio.get_running_loop().create_future()
        now = now_ns()
        frame = CallFrame(1, number, number, 0, 0, 1, now, now, *NONE, 0, None, None)
        sent = request or template()
        self.wire.send(frame, sent.filled(b""))
        return self.over[number]

    async def call(self, request: Template | None = None) -> CallFrame:
        return await self.begin(request)


def ask(server: RawServer, times: int = 1, request: Template | None = None, **address):
    """The frames of so many calls, one after another."""

    async def asking() -> list[CallFrame]:
        there = Asking(server, **address)
        frames = [await there.call(request) for _ in range(times)]
        there.wire.close()
        return frames

    return uvloop.run(asking())


def answering(*parts: bytes, keep: bool = True):
    """A server that writes these bytes, each when the one before has been on its way."""

    def answer(connection: Connection) -> None:
        for part in parts:
            connection.send(part)
            threading.Event().wait(0.002)
        connection.kept = keep

    return RawServer(answer)


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nrequest-id: r1\r\n\r\n"
STREAM = CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nlater: no header\r\n\r\n"


@pytest.mark.parametrize("place", range(1, len(STREAM), 3))
def test_an_answer_is_the_same_wherever_it_is_split(place):
    with answering(STREAM[:place], STREAM[place:]) as server:
        first, second = ask(server, 2)
    for frame in (first, second):
        assert (frame.body, frame.status, frame.failure) == (b"abcde", 200, None)
        assert frame.headers == {"transfer-encoding": "chunked", "request-id": "r1"}
        assert b"".join(data for _, data in frame.chunks) == b"abcde"
        assert list(frame.at_ns) == sorted(frame.at_ns)
    assert (first.reused, second.reused) == (False, True)


def test_each_arrival_has_an_instant_of_its_own_and_they_are_in_the_order_of_the_wire():
    pieces = [b"1\r\n%d\r\n" % digit for digit in range(10)]
    with answering(CHUNKED, *pieces, b"0\r\n\r\n") as server:
        (frame,) = ask(server)
    assert [data for _, data in frame.chunks] == [b"%d" % digit for digit in range(10)]
    clocks = [frame.started_ns, frame.dns_ns, frame.connected_ns, frame.sent_ns, frame.headers_ns]
    clocks += [*frame.at_ns, frame.ended_ns]
    assert clocks == sorted(clocks) and len(set(frame.at_ns)) == 10


@pytest.mark.parametrize(
    ("said", "keeps", "reused"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", True, True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", True, False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", True, False),
        (b"HTTP/1.0 200 OK\r\n\r\nok", False, False),
        (b"HTTP/1.1 200 OK\r\n\r\nok", False, False),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n"
         b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", True, True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", True, False),
    ],
)  # fmt: skip
def test_an_answer_ends_where_its_server_means_it_to(said, keeps, reused):
    with answering(said, keep=keeps) as server:
        frames = ask(server, 2)
    assert [frame.body for frame in frames] == [b"ok", b"ok"]
    assert [frame.failure for frame in frames] == [None, None]
    assert [frame.reused for frame in frames] == [False, reused]
    assert "link" not in frames[0].headers


def test_a_kept_connection_that_was_dead_is_none_of_the_servers_failures():
    """The request goes out once more, on a new connection, and its clock runs on."""

    def answer(connection: Connection) -> None:
        if len(server.asked) == 2:
            connection.reset()
        else:
            connection.json(message())

    with RawServer(answer) as server:
        _, second, third = ask(server, 3)
        assert len(server.asked) == 4
    assert (second.status, second.failure, second.attempt, second.reused) == (200, None, 2, False)
    assert second.started_ns < second.connected_ns < second.sent_ns
    assert (third.attempt, third.reused) == (1, True)


def test_a_request_whose_answer_has_begun_is_not_sent_again():
    def answer(connection: Connection) -> None:
        if len(server.asked) == 2:
            connection.send(b"HTTP/1.1 200 OK\r\n")
            threading.Event().wait(1.0)
            connection.reset()
        else:
            connection.json(message())

    with RawServer(answer) as server:
        _, second = ask(server, 2)
        assert len(server.asked) == 2
    assert (second.failure[0], second.attempt, second.reused) == ("disconnected", 1, True)


def test_a_connection_that_rested_too_long_is_not_used_again(monkeypatch):
    monkeypatch.setattr(wire, "IDLE_NS", 0)
    with RawServer(lambda connection: connection.json(message())) as server:
        frames = ask(server, 2)
    assert [(frame.reused, frame.attempt) for frame in frames] == [(False, 1)] * 2


def test_what_a_server_says_unasked_is_not_taken_for_the_next_answer():
    said = threading.Event()

    def answer(connection: Connection) -> None:
        connection.json(message())
        if len(server.asked) == 1:
            said.wait(5)
            connection.send(b"HTTP/1.1 408 Idle\r\ncontent-length: 0\r\n\r\n")

    async def asking() -> list[CallFrame]:
        there = Asking(server)
        await there.call()
        (resting,) = there.wire.idle
        said.set()
        for _ in range(1000):
            if resting.transport.is_closing():
                break
            await sleep_s(0.005)
        second = await there.call()
        there.wire.idle[0].transport.close()  # and asked before the loop has closed it
        third = await there.call()
        there.wire.close()
        return [second, third]

    with RawServer(answer) as server:
        frames = uvloop.run(asking())
    assert [(f.status, f.reused, f.attempt) for f in frames] == [(200, False, 1)] * 2


def test_a_name_is_reached_by_its_second_address_where_nobody_is_at_the_first():
    async def two(host, port, **options):
        return [(2, 1, 6, "", (place, port)) for place in ("127.0.0.2", "127.0.0.1")]

    async def asking(server: RawServer) -> CallFrame:
        asyncio.get_running_loop().getaddrinfo = two
        there = Asking(server, host="two.example")
        frame = await there.call()
        there.wire.close()
        return frame

    with RawServer(lambda connection: connection.json(message())) as server:
        frame = asyncio.run(asking(server))  # uvloop's loop takes no other getaddrinfo
    assert (frame.status, frame.failure) == (200, None)


def test_a_new_connection_that_dies_is_a_failure_and_nothing_is_sent_twice():
    with RawServer(lambda connection: connection.reset()) as server:
        (frame,) = ask(server)
        assert len(server.asked) == 1
    assert frame.failure[0] == "disconnected" and frame.attempt == 1


def test_a_redirect_is_an_answer():
    said = b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n"
    with answering(said) as server:
        (frame,) = ask(server)
        assert len(server.asked) == 1
    assert (frame.status, frame.failure) == (302, None)
    assert frame.headers["location"] == "http://elsewhere/"


def test_a_large_request_has_been_sent_when_the_socket_has_all_of_it():
    def greet(connection: Connection) -> bool:
        threading.Event().wait(0.1)
        read.append(now_ns())
        return False

    read: list[int] = []
    with RawServer(lambda connection: connection.json(message()), greet) as server:
        large = template(body=b"x" * 20_000_000)
        (frame,) = ask(server, request=large, timeout_s=60.0)
        assert len(server.asked[0].body) == 20_000_000
    assert read[0] < frame.sent_ns <= frame.headers_ns


def test_a_request_that_its_server_does_not_take_has_not_been_sent():
    over = threading.Event()
    with RawServer(lambda c: None, lambda c: over.wait(10)) as server:
        (frame,) = ask(server, request=template(body=b"x" * 20_000_000), timeout_s=0.3)
        over.set()
    text = "WriteTimeout: the request could not be sent in time"
    assert (frame.failure, frame.sent_ns) == (("timeout", text), None)


def words_of_the_sdk(server: RawServer, timeout_s: float) -> str:
    """The lab's word for the same, by the way that techniques take."""

    async def asking() -> str:
        seen: list[stamps.Exchange] = []
        stamps.OBSERVER.set(seen.append)
        endpoint = Endpoint("raw", "live", server.url, "key", {"small": "m"}, "small")
        async with open_client(endpoint, timeout_s) as client:
            try:
                response = await client.post(
                    "/v1/messages", cast_to=httpx2.Response, body={"model": "m"}, stream=True
                )
                async for _ in response.aiter_raw():
                    pass
            except Exception as error:
                return parsing.failure_words(seen[0].failure or error)[0]
        return parsing.read(seen[0]).error_kind

    return asyncio.run(asking())


def silence(connection: Connection) -> None:
    connection.silence(5)


def broken_off(connection: Connection) -> None:
    connection.send(CHUNKED + b"3\r\nabc\r\n")


def cut_short(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")


FAULTS = {
    "no answer": (lambda connection: None, "disconnected"),
    "a reset": (lambda connection: connection.reset(), "disconnected"),
    "broken off": (broken_off, "disconnected"),
    "shorter than it says": (cut_short, "disconnected"),
    "silence": (silence, "timeout"),
    "silence in the midst": (lambda c: (broken_off(c), silence(c)), "timeout"),
    "no HTTP": (lambda connection: connection.send(b"SSH-2.0-x\r\n\r\n"), "malformed"),
    "a broken chunk": (lambda connection: connection.send(CHUNKED + b"zz\r\n"), "malformed"),
    "compressed": (lambda c: c.json(b"\x28\xb5\x2f\xfd", content_encoding="zstd"), "malformed"),
    "headers without an end": (lambda c: c.endless(b"x-a: b\r\n" * 1000), "too_large"),
    "a large error": (lambda c: c.json(b"x" * 1_500_000, 500), "too_large"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_ends_a_call_has_the_same_word_as_in_a_techniques_call(fault):
    answer, word = FAULTS[fault]

    def broken(connection: Connection) -> None:
        if fault == "headers without an end":
            connection.send(b"HTTP/1.1 200 OK\r\n")
        answer(connection)

    with RawServer(broken) as server:
        timeout_s = 0.3 if "silence" in fault else 20
        (frame,) = ask(server, timeout_s=timeout_s)
        assert frame.failure[0] == word
        assert words_of_the_sdk(server, timeout_s) == word


@pytest.fixture
def one_mb(monkeypatch):
    monkeypatch.setenv("LAB_MAX_BODY_MB", "1")
    limits.body_bytes.cache_clear()
    yield
    limits.body_bytes.cache_clear()


def test_a_body_without_an_end_is_cut(one_mb):
    with RawServer(lambda c: (c.head(), c.endless(b"x" * 50_000))) as server:
        (frame,) = ask(server)
    assert frame.failure == ("too_large", "the body is more than 1 MB")
    assert frame.ends[-1] == len(frame.body) <= 2_000_000


def test_the_headers_of_chunks_have_an_end_too(one_mb, monkeypatch):
    monkeypatch.setattr(limits, "CHUNKS", 1000)
    with RawServer(lambda c: (c.send(CHUNKED + b"1;"), c.endless(b"x" * 50_000))) as server:
        (frame,) = ask(server)
    assert frame.failure[0] == "too_large" and frame.failure[1].startswith("the chunk headers of")


def test_an_answer_in_too_many_pieces_is_cut(monkeypatch):
    monkeypatch.setattr(limits, "CHUNKS", 20)
    monkeypatch.setattr(limits, "CUT_CHUNKS", 5)
    with answering(CHUNKED, *[b"1\r\nx\r\n"] * 30) as server:
        (frame,) = ask(server)
    assert frame.failure == ("too_large", "the answer came in more than 20 pieces")
    assert (frame.body, len(frame.at_ns)) == (b"xxxxx", 5)  # of the rest nothing is kept


def test_the_headers_of_an_error_that_is_compressed_still_say_what_it_is():
    with RawServer(lambda c: c.json(b"\x1f\x8b", 429, content_encoding="gzip")) as server:
        (frame,) = ask(server)
    assert (frame.status, frame.failure) == (429, None)


def test_nobody_there_is_no_connection():
    with RawServer(lambda connection: None) as server:
        pass
    (frame,) = ask(server)
    assert frame.failure[0] == "connect" and frame.connected_ns is None
    assert frame.started_ns < frame.ended_ns and frame.sent_ns is None


def test_a_connection_that_takes_too_long_is_given_up():
    """Whoever waits for TLS from one that speaks none waits for ever."""
    with RawServer(lambda c: None, lambda c: c.silence(5) is None) as server:
        (frame,) = ask(server, is_tls=True, connect_s=2.0)
    assert frame.failure[0] == "connect" and "in time" in frame.failure[1]
    assert frame.connected_ns is not None and frame.tls_ns is None


def test_tls_has_a_stamp_and_trusts_whom_the_sdk_would(tmp_path, monkeypatch):
    key, authority = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made = ["openssl", "req", "-x509", *curve, *subject, "-keyout", key, "-out", authority]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    stream = sse(events())
    with RawServer(lambda c: c.stream([stream[:200], stream[200:]]), tls=context) as server:
        (stranger,) = ask(server, host="localhost", is_tls=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        (elsewhere,) = ask(server, is_tls=True)  # 127.0.0.1 is not the name it was made for
        first, second = ask(server, 2, host="localhost", is_tls=True)
        large = template(body=b"x" * 3_000_000)
        (posted,) = ask(server, request=large, host="localhost", is_tls=True)
        assert len(server.asked[-1].body) == 3_000_000
        with ProxyTap(server.port) as proxy:  # which the name is left to
            way = tunnel.through(f"http://127.0.0.1:{proxy.port}", "localhost", server.port)
            (tunnelled,) = ask(server, host="localhost", is_tls=True, tunnel=way)
    assert proxy.heads == [f"CONNECT localhost:{server.port} HTTP/1.1\r\n"
                           f"Host: localhost:{server.port}\r\n\r\n"]  # fmt: skip
    for frame in (stranger, elsewhere):
        assert frame.failure[0] == "connect" and "certificate" in frame.failure[1].lower()
    for frame in (first, second, posted, tunnelled):
        assert (frame.failure, frame.body) == (None, stream)
    assert first.dns_ns <= first.connected_ns <= first.tls_ns <= first.sent_ns
    assert second.reused and second.tls_ns is None and posted.sent_ns <= posted.headers_ns


def test_whatever_is_under_way_can_be_cancelled():
    async def asking(server: RawServer, mute: RawServer) -> list[CallFrame]:
        there, elsewhere = Asking(server), Asking(mute, is_tls=True)
        waiting = [there.begin(), elsewhere.begin()]
        while not there.wire.asked or not next(iter(there.wire.asked)).size:
            await sleep_s(0.001)
        waiting.append(there.begin())  # whose connection has not even begun to be made
        there.wire.close()
        elsewhere.wire.close()
        return [await one for one in waiting]

    mute = RawServer(lambda c: None, lambda c: c.silence(5) is None)
    with RawServer(lambda c: (broken_off(c), silence(c))) as server, mute:
        frames = uvloop.run(asking(server, mute))
    assert [frame.failure[0] for frame in frames] == ["cancelled"] * 3
    assert [frame.body for frame in frames] == [b"abc", b"", b""]
    assert all(frame.ended_ns >= frame.started_ns for frame in frames)


def test_connections_come_and_go_without_garbage():
    """None is collected while a level goes on."""

    async def asking(server: RawServer) -> int:
        there = Asking(server)
        gc.collect()
        gc.disable()
        for _ in range(50):
            await there.call()
        server.__exit__()
        for _ in range(50):
            assert (await there.call()).failure[0] == "connect"
        await sleep_s(0)
        left = gc.collect()
        gc.enable()
        there.wire.close()
        return left

    closing = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
    with answering(closing) as server:
        assert uvloop.run(asking(server)) < 20


def test_a_nonce_is_written_over_the_one_that_was_prepared():
    request = Template(b"HEAD ", b"a 0000 b 0000 c", (2, 9))
    assert request.filled(b"1234") == b"HEAD a 1234 b 1234 c"


def test_a_request_says_nothing_of_its_key():
    assert "secret" not in repr(Template(b"x-api-key: secret", b"secret"))


def test_a_frame_is_the_same_after_its_way_through_a_pipe():
    with RawServer(lambda connection: connection.good()) as server:
        (frame,) = ask(server)
    assert CallFrame.unpacked(frame.packed()) == frame
