"""The connection under the SDK, against a server that is only a socket."""

import asyncio
import ssl
import subprocess
import threading
from contextlib import asynccontextmanager

import anthropic
import httpx2
import pytest

from bench.raw_server import RawServer, events, sse
from lab import limits
from lab.clock import sleep_s
from lab.endpoints.client import open_client
from lab.endpoints.registry import Endpoint
from lab.instrumentation import http1, parsing, stamps

STREAM = sse(events())
WORDS = "The harbour is quiet. Nothing moves."
BODY = {
    "model": "m",
    "max_tokens": 8,
    "stream": True,
    "messages": [{"role": "user", "content": "Go."}],
}
CHUNKED = b"%x\r\n%b\r\n" % (len(STREAM), STREAM)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
FRAMED = {
    "length": b"content-length: %d\r\n\r\n%b" % (len(STREAM), STREAM),
    "chunked": b"transfer-encoding: chunked\r\n\r\n%b0\r\n\r\n" % CHUNKED,
    "trailers": b"transfer-encoding: chunked\r\n\r\n%b0\r\nlate: yes\r\n\r\n" % CHUNKED,
    "until the end": b"connection: close\r\n\r\n" + STREAM,
}


async def post(client, read_out=True, **changes) -> stamps.Exchange:
    """One call as a technique makes it, or as the user's own code reads it."""
    seen = []
    token = stamps.OBSERVER.set(seen.append)
    try:
        response = await client.post(
            "/v1/messages",
            cast_to=httpx2.Response,
            body=BODY | changes,
            stream=True,
            stream_cls=anthropic.AsyncStream,
        )
        try:
            if read_out:
                await seen[0].body.read_out()
            else:
                async for _ in response.aiter_raw():
                    pass
        finally:
            await response.aclose()
    except (anthropic.APIError, httpx2.TransportError):
        pass
    finally:
        stamps.OBSERVER.reset(token)
    return seen[0]


@asynccontextmanager
async def client_of(server, timeout_s=5):
    client = open_client(Endpoint("raw", "live", server.url, "key"), timeout_s)
    try:
        yield client
    finally:
        await client.close()


@pytest.mark.parametrize("read_out", [True, False], ids=["technique", "own code"])
@pytest.mark.parametrize("framed", FRAMED)
async def test_an_answer_is_whole_however_it_is_framed_and_wherever_it_is_parted(framed, read_out):
    answer = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + HEAD + FRAMED[framed]
    cuts = iter(range(1, len(answer), 97))

    def parted(connection) -> None:
        cut = next(cuts)
        connection.send(answer[:cut])
        connection.send(answer[cut:])
        connection.kept = framed != "until the end"

    with RawServer(parted) as server:
        async with client_of(server) as client:
            exchanges = [await post(client, read_out) for _ in range(12)]
    for exchange in exchanges:
        reading = parsing.read(exchange)
        assert (reading.error_kind, reading.text, exchange.status) == (None, WORDS, 200)
        assert "link" not in exchange.headers and "late" not in exchange.headers
        times = [exchange.sent_ns, exchange.headers_ns, exchange.ended_ns]
        assert times == sorted(times)
    reused = [exchange.reused for exchange in exchanges]
    assert reused == [framed != "until the end" and place > 0 for place in range(12)]


async def test_a_kept_connection_that_the_server_has_closed_is_not_used_again():
    closed = threading.Event()

    def once(connection) -> None:
        connection.stream(STREAM)
        connection.kept = False
        closed.set()

    with RawServer(once) as server:
        async with client_of(server) as client:
            for _ in range(2):
                exchange = await post(client)
                assert parsing.read(exchange).error_kind is None and exchange.reused is False
                assert closed.wait(5)
                while server.sockets:
                    await sleep_s(0.01)


async def test_an_answer_that_is_cut_short_says_so_after_all_that_came():
    def cut(connection) -> None:
        connection.head(200, "text/event-stream", transfer_encoding="chunked")
        connection.chunk(sse(events()[:3]))

    with RawServer(cut) as server:
        async with client_of(server) as client:
            for read_out in (True, False):
                reading = parsing.read(await post(client, read_out))
                assert (reading.error_kind, reading.text) == ("disconnected", "The harbour ")


async def test_who_stops_waiting_closes_the_connection():
    with RawServer(lambda connection: connection.silence()) as server:
        async with client_of(server) as client:
            task = asyncio.create_task(post(client))
            while not server.asked:
                await sleep_s(0.01)
            task.cancel()
            await asyncio.wait({task})
            while server.sockets:  # the server saw it hang up
                await sleep_s(0.01)
            assert task.cancelled()


async def test_no_more_connections_than_allowed_and_who_finds_none_in_time_is_told():
    go_on = threading.Event()

    def waits(connection) -> None:
        go_on.wait(10)
        connection.json({})

    with RawServer(waits) as server:
        transport = http1.DirectTransport(2)
        timeout = httpx2.Timeout(5, pool=0.2)
        async with httpx2.AsyncClient(transport=transport, timeout=timeout) as client:
            first = [asyncio.create_task(client.get(server.url)) for _ in range(2)]
            while len(server.asked) < 2:
                await sleep_s(0.01)
            with pytest.raises(httpx2.PoolTimeout):
                await client.get(server.url)
            go_on.set()
            assert [(await task).status_code for task in first] == [200, 200]
            assert (await client.get(server.url)).status_code == 200
        assert len(server.asked) == 3


async def test_a_body_of_pieces_goes_out_whole_and_a_header_of_two_lines_does_not():
    async def pieces():
        yield b"one "
        yield b"two"

    bodies = []

    def reads(connection) -> None:
        bodies.append(connection.left)
        connection.json({})

    with RawServer(reads) as server:
        async with httpx2.AsyncClient(transport=http1.DirectTransport(1)) as client:
            await client.post(server.url, content=pieces())
            with pytest.raises(httpx2.LocalProtocolError):
                await client.get(server.url, headers={"x": "a\r\nb: c"})
    assert bodies == [b"7\r\none two\r\n0\r\n\r\n"]


@pytest.mark.parametrize("read_out", [True, False], ids=["technique", "own code"])
async def test_a_server_is_held_back_while_nobody_reads_and_nothing_is_lost(read_out):
    whole = b"".join(b"%08d" % n for n in range(2_000_000))
    with RawServer(lambda connection: connection.json(whole)) as server:
        async with (
            httpx2.AsyncClient(transport=http1.DirectTransport(1)) as client,
            client.stream("GET", server.url) as response,
        ):
            connection = response.stream._stream.connection
            while not connection.is_paused:
                await sleep_s(0.01)
            await sleep_s(0.1)
            assert connection.held < limits.WAITING_BYTES + 2_000_000
            pieces = []
            async with asyncio.timeout(20):
                if read_out:
                    await connection.read_out(lambda _, piece: pieces.append(piece))
                else:
                    pieces += [piece async for piece in response.aiter_raw()]
            assert b"".join(pieces) == whole


@pytest.fixture
def secured(tmp_path):
    """A server's TLS for `localhost`, and the certificate that vouches for it."""
    key, authority = tmp_path / "key.pem", tmp_path / "cert.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", *curve, *subject, "-keyout", key, "-out", authority]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority, key)
    return context, authority


async def test_tls_has_a_stamp_and_a_stranger_is_refused(secured, monkeypatch):
    context, authority = secured
    with RawServer(lambda connection: connection.stream(STREAM), tls=context) as server:
        server.url = server.url.replace("127.0.0.1", "localhost")
        async with client_of(server) as client:
            stranger = parsing.read(await post(client))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        async with client_of(server) as client:
            first, second = [await post(client) for _ in range(2)]
    assert stranger.error_kind == "connect" and "certificate" in stranger.error_text.lower()
    assert parsing.read(first).text == parsing.read(second).text == WORDS
    assert first.connected_ns <= first.tls_ns <= first.sent_ns
    assert second.reused and second.tls_ns is None


def test_certificates_are_read_before_the_first_call():
    places = ("https://api.example", "http://api.example")
    of = [stamps.transport_for(place).direct.tls is not None for place in places]
    assert of == [True, False]


async def test_what_goes_through_a_proxy_is_stamped_too():
    with RawServer(lambda connection: connection.stream(STREAM)) as proxy:
        transport = stamps.StampedTransport(proxy.url)
        seen = []
        token = stamps.OBSERVER.set(seen.append)
        async with httpx2.AsyncClient(transport=transport) as client:
            for _ in range(2):
                async with client.stream("POST", "http://somewhere.example/v1/messages", json=BODY):
                    await seen[-1].body.read_out()
        stamps.OBSERVER.reset(token)
    assert [asked.path for asked in proxy.asked] == ["http://somewhere.example/v1/messages"] * 2
    assert [parsing.read(exchange).text for exchange in seen] == [WORDS, WORDS]
    assert [exchange.reused for exchange in seen] == [False, True]
    assert seen[0].connected_ns <= seen[0].sent_ns <= seen[0].headers_ns <= seen[0].ended_ns
