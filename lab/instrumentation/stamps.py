"""Stamps at the socket: an httpx2 transport that notes when bytes leave and arrive, before any SSE
or JSON is parsed.

    resolve ─ connect ─ TLS ─ write … sent │ headers │ chunk chunk chunk … │ ended
    └ only on a new connection ┘           └ stamped in data_received, the first Python to see it

Every POST …/messages made while OBSERVER holds a function becomes an Exchange, whoever made it;
lab.instrumentation.parsing reads it later. Observed or not, nothing comes in beyond lab.limits.
The sockets are those of lab.instrumentation.http1; where a proxy stands before the server,
httpcore's on a StampedStream.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import httpcore2
import httpx2

from lab import limits, machine
from lab.clock import now_ns, sleep_s
from lab.instrumentation import http1
from lab.instrumentation.http1 import TooLarge
from lab.model import LabError, Reuse
from lab.reach import IDLE_NS, reach

FIRST_PIECE = b"content_block_delta"
"""What the event of a generated piece begins with, and no earlier one holds."""
UNPACKED_BYTES = 256_000
UNPACKED_AT_ONCE = 2
"""Pieces of that size, before the loop has its turn: unpacking is slow."""


class Unreadable(httpx2.TransportError):
    """What came cannot be an answer; the text says why."""


@dataclass(slots=True, eq=False)
class Exchange:
    """One HTTP request and its response as bytes with stamps (ns of lab.clock.now_ns; None where it
    did not happen). `failure` is what ended it, a cancellation too."""

    request_body: bytes
    started_ns: int
    dns_ns: int | None = None
    connected_ns: int | None = None
    tls_ns: int | None = None
    sent_ns: int | None = None
    headers_ns: int | None = None
    ended_ns: int | None = None
    reused: bool | None = None
    connection: Reuse = "any"
    """Which connection it was meant to go by."""
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[tuple[int, bytes]] = field(default_factory=list)
    received: int = 0
    allowance: limits.Allowance = field(default_factory=limits.Allowance)
    failure: BaseException | None = None
    begun: asyncio.Event | None = None
    token: asyncio.Event | None = None
    heard: Callable[[bytes], None] | None = None
    """Told of each piece once it is stamped; it only notes it, to be read later."""
    body: StampedBody | None = None
    """Of its answer, while that comes."""

    def take(self, at_ns: int, chunk: bytes) -> None:
        self.chunks.append((at_ns, chunk))
        self.received += len(chunk)
        if self.begun:
            self.begun.set()
        if self.heard:
            self.heard(chunk)
        # Only where somebody waits for it. Cut in two, the mark is missed, and the next piece's
        # is seen.
        if self.token and FIRST_PIECE in chunk:
            self.token.set()
        self.allowance.left -= len(chunk) + limits.CHUNK_COST
        if len(self.chunks) > limits.CHUNKS:
            raise TooLarge(f"the answer came in more than {limits.CHUNKS:,} pieces")
        if self.allowance.left < 0:
            raise TooLarge(
                f"the answers of one trial are longer than {2 * limits.body_bytes() // limits.MB}"
                " MB together"
            )

    def close(self, at_ns: int, failure: BaseException | None = None) -> None:
        if self.ended_ns is None:
            self.ended_ns, self.failure, self.body = at_ns, failure, None
            if isinstance(failure, TooLarge | asyncio.CancelledError | GeneratorExit):
                self.cut()

    def cut(self) -> None:
        """Let go of the rest of an answer that nobody will read whole."""
        left = limits.CUT_BYTES
        for place, (_, chunk) in enumerate(self.chunks):
            left -= len(chunk)
            if left < 0 or place == limits.CUT_CHUNKS:
                # A new list: a thread may be reading the old one.
                self.chunks = self.chunks[:place]
                self.received = sum(len(chunk) for _, chunk in self.chunks)
                return

    @property
    def open(self) -> bool:
        return self.ended_ns is None


OBSERVER: ContextVar[Callable[[Exchange], None] | None] = ContextVar("observer", default=None)
EXCHANGE: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


class StampedStream(httpcore2.AsyncNetworkStream, asyncio.Protocol):
    """A socket that stamps in `data_received`: later, the event loop's queue would be part of the
    figure. While too much waits for `read`, the server is held back, and its next bytes are stamped
    once they are let in."""

    def __init__(self) -> None:
        self.arrived: deque[tuple[int, bytes]] = deque()
        self.waiting = self.eager = 0
        self.paused = False
        self.allowed, self.allowed_for = limits.HEAD_BYTES, "headers"
        self.read_ns = 0
        self.requests = 0
        self.parser: Any = None
        """h11's state: what a server sent beyond its answer waits there, and would be the next
        one."""
        self.ended = False
        self.lost: Exception | None = None
        self.transport: asyncio.Transport | None = None
        self.waiter: asyncio.Future | None = None
        self.writable: asyncio.Future | None = None

    # asyncio's side

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.arrived.append((now_ns(), data))
        self.waiting += len(data) + limits.CHUNK_COST
        if self.waiting > limits.WAITING_BYTES and not self.paused:
            self.paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self.ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended, self.lost = True, exc
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self.writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self.writable and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None

    def _wake(self) -> None:
        if self.waiter and not self.waiter.done():
            self.waiter.set_result(None)

    # httpcore's side

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if not self.arrived and not self.ended:
            self.waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self.waiter
            except TimeoutError as e:
                raise httpcore2.ReadTimeout("nothing arrived in time") from e
            finally:
                self.waiter = None
            self.eager = 0
        elif self.eager > limits.EAGER_BYTES:
            self.eager = 0
            await sleep_s(0)
        if self.arrived:
            return self._next(max_bytes)
        self.read_ns = now_ns()
        if self.lost:
            raise httpcore2.ReadError(str(self.lost)) from self.lost
        return b""

    def _next(self, max_bytes: int) -> bytes:
        self.read_ns, data = self.arrived.popleft()
        if len(data) > max_bytes:
            self.arrived.appendleft((self.read_ns, data[max_bytes:]))
            data = data[:max_bytes]
        else:
            self.waiting -= limits.CHUNK_COST
        self.waiting -= len(data)
        if self.paused and self.waiting < limits.WAITING_BYTES // 2:
            self.paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
        self.eager += len(data)
        self.allowed -= len(data)
        if self.allowed < 0:
            raise http1.too_long(self.allowed_for)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        if not buffer:
            return
        self.allowed, self.allowed_for = limits.HEAD_BYTES, "headers"
        if self.ended or self.transport is None or self.transport.is_closing():
            raise httpcore2.WriteError("the connection is closed")
        self.transport.write(buffer)
        if self.writable:
            try:
                async with asyncio.timeout(timeout):
                    await self.writable
            except TimeoutError as e:
                raise httpcore2.WriteTimeout("the request could not be sent in time") from e
        if exchange := EXCHANGE.get():
            exchange.sent_ns, exchange.reused = now_ns(), self.requests > 0

    async def aclose(self) -> None:
        if self.transport:
            self.transport.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ):
        try:
            async with asyncio.timeout(timeout):
                loop = asyncio.get_running_loop()
                self.transport = await loop.start_tls(
                    self.transport, self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as e:
            await self.aclose()
            raise httpcore2.ConnectTimeout("no TLS in time") from e
        except (OSError, ValueError) as e:  # ssl.SSLError is an OSError
            await self.aclose()
            raise httpcore2.ConnectError(str(e)) from e
        if exchange := EXCHANGE.get():
            exchange.tls_ns = now_ns()
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # before a connection is reused: has the server hung up?
            left = self.parser and self.parser.trailing_data[0]
            return bool(self.ended or self.arrived or left) or http1.is_readable(self.transport)
        name = {"client_addr": "sockname", "server_addr": "peername"}.get(info, info)
        return self.transport.get_extra_info(name) if self.transport else None


class StampedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves names itself, so that DNS and TCP have a stamp each."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable | None = None,
    ) -> StampedStream:
        exchange = EXCHANGE.get()
        local = (local_address, 0) if local_address else None
        try:
            async with asyncio.timeout(timeout):
                _, stream = await reach(StampedStream, host, port, exchange, local)
        except TimeoutError as e:
            raise httpcore2.ConnectTimeout(f"no connection to {host}:{port} in time") from e
        except (OSError, ValueError) as e:  # a name that no address can have is a UnicodeError
            raise httpcore2.ConnectError(str(e)) from e
        for option in socket_options or ():
            stream.get_extra_info("socket").setsockopt(*option)
        if exchange:
            exchange.connected_ns = now_ns()
        return stream

    async def sleep(self, seconds: float) -> None:
        await sleep_s(seconds)


class Unpacking:
    """gzip and deflate in small steps: httpx2's own decoder would unpack a body of any size."""

    def __init__(self, coding: str) -> None:
        self.coding = coding
        self.inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self.begun = False

    def __call__(self, packed: bytes) -> Iterator[bytes]:
        while packed and not self.inflate.eof:
            try:
                piece = self.inflate.decompress(packed, UNPACKED_BYTES)
            except zlib.error as error:
                if self.begun or self.coding != "deflate":
                    raise Unreadable(
                        f"compressed with {self.coding} though identity was asked, and broken:"
                        f" {error}"
                    ) from error
                # Some servers mean the bare format by "deflate", and some its wrapping.
                self.inflate, self.begun = zlib.decompressobj(-zlib.MAX_WBITS), True
                continue
            packed, self.begun = self.inflate.unconsumed_tail, True
            if piece:
                yield piece


def unpacking(headers: httpx2.Headers) -> Unpacking | None:
    """How to unpack a body that is compressed unasked; the header goes, so that no other layer
    unpacks it again."""
    coding = headers.get("content-encoding", "").strip().lower()
    if coding in ("", "identity"):
        return None
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise Unreadable(f"compressed with {coding:.40} though identity was asked")
    del headers["content-encoding"]
    headers.pop("content-length", None)
    return Unpacking(coding)


@dataclass(eq=False)
class StampedBody(httpx2.AsyncByteStream):
    """The body of a response within its limit, each piece stamped for its exchange."""

    inner: httpx2.AsyncByteStream
    exchange: Exchange | None
    network: StampedStream | None
    """Where httpcore reads from."""
    most: int
    unpack: Unpacking | None
    size: int = 0

    async def _pieces(self) -> AsyncIterator[tuple[int, bytes]]:
        if isinstance(self.inner, http1.Body):
            async for piece in self.inner.connection.each_piece():
                yield piece
            return
        async for packed in self.inner:
            yield self._now(), packed

    def _now(self) -> int:
        """When what was read last had come."""
        if isinstance(self.inner, http1.Body):
            return self.inner.connection.read_ns
        return self.network.read_ns if self.network else now_ns()

    def _take(self, at_ns: int, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > self.most:
            raise TooLarge(
                f"the body{' unpacks to' if self.unpack else ' is'} more than"
                f" {self.most // limits.MB} MB"
            )
        if self.exchange:
            self.exchange.take(at_ns, chunk)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange, count = self.exchange, 0
        try:
            async for at_ns, packed in self._pieces():
                for chunk in self.unpack(packed) if self.unpack else (packed,):
                    self._take(at_ns, chunk)
                    yield chunk
                    count += 1
                    if not count % (UNPACKED_AT_ONCE if self.unpack else limits.EAGER_CHUNKS):
                        await sleep_s(0)
        except BaseException as e:
            if exchange:
                exchange.close(now_ns(), e)
            raise
        if exchange:
            exchange.close(self._now())

    async def read_out(self) -> None:
        """All of it for the exchange alone: who reads it is woken once, by its end."""
        if self.unpack or not isinstance(self.inner, http1.Body):
            async for _ in self:
                pass
            return
        try:
            await self.inner.connection.read_out(self._take)
        except BaseException as e:
            self.exchange.close(now_ns(), e)
            raise
        self.exchange.close(self._now())

    async def aclose(self) -> None:
        await self.inner.aclose()
        if self.exchange:
            self.exchange.close(now_ns())


class StampedTransport(httpx2.AsyncBaseTransport):
    """What AsyncAnthropic's `http_client` sends with."""

    def __init__(
        self, proxy: str | None = None, connections: int = 256, is_tls: bool = False
    ) -> None:
        self.direct = http1.DirectTransport(connections, is_tls) if proxy is None else None
        if proxy is not None:
            self.through = _through(proxy, connections, connections)
            self.afresh = _through(proxy, connections, kept=0)
            """For calls that are to have a new connection."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        observe = OBSERVER.get()
        is_call = request.method == "POST" and request.url.path.endswith("/messages")
        if observe is None or not is_call:
            return await self._answer(request, None)
        exchange = Exchange(await request.aread(), now_ns())
        observe(exchange)
        token = EXCHANGE.set(exchange)
        try:
            return await self._answer(request, exchange)
        except BaseException as e:
            exchange.close(now_ns(), e)
            raise
        finally:
            EXCHANGE.reset(token)

    async def _answer(self, request: httpx2.Request, exchange: Exchange | None) -> httpx2.Response:
        if self.direct:
            response = await self.direct.handle_async_request(request, exchange)
            network, headers_ns = None, response.stream.connection.headers_ns
        else:
            is_new = exchange is not None and exchange.connection == "new"
            way = self.afresh if is_new else self.through
            response = await way.handle_async_request(request)
            network = _network(response)
            headers_ns = network.read_ns if network else now_ns()
        if exchange:
            exchange.headers_ns = headers_ns
            exchange.status = response.status_code
            exchange.headers = {
                name.lower().decode("latin-1"): value.decode("latin-1")
                for name, value in response.headers.raw
            }
        try:
            unpack = unpacking(response.headers)
        except Unreadable:
            await response.stream.aclose()
            raise
        most = limits.most_of_body(response.status_code)
        body = response.stream = StampedBody(response.stream, exchange, network, most, unpack)
        if exchange:
            exchange.body = body
        return response

    async def open_ahead(self, url: httpx2.URL, timeout_s: float | None) -> None:
        """Open a connection for the next call that means one opened ahead. httpx2.TransportError
        where there is none; LabError where a proxy stands before the server."""
        if self.direct is None:
            raise LabError(
                "Through the environment's proxy no connection can be opened ahead of a call:"
                " leave that arm out (--arms names the others), or unset the proxy."
            )
        await self.direct.open_ahead(url, timeout_s)

    async def aclose(self) -> None:
        for way in (self.direct,) if self.direct else (self.through, self.afresh):
            await way.aclose()


def _through(proxy: str, connections: int, kept: int) -> httpx2.AsyncHTTPTransport:
    limits_of_it = httpx2.Limits(
        max_connections=connections,
        max_keepalive_connections=kept,
        keepalive_expiry=IDLE_NS / 1e9,
    )
    transport = httpx2.AsyncHTTPTransport(proxy=proxy, limits=limits_of_it)
    # httpx2 has no public argument for it.
    transport._pool._network_backend = StampedBackend()
    return transport


def _network(response: httpx2.Response) -> StampedStream | None:
    """What an answer through a proxy is read from, and how much may come of it."""
    network = response.extensions.get("network_stream")
    if not isinstance(network, StampedStream):
        return None
    network.parser = _parser(response)
    network.allowed = limits.most_with_framing(response.status_code)
    network.allowed_for = "chunk headers"
    network.requests += 1
    return network


def _parser(response: httpx2.Response) -> Any:
    """There is no public way to it; None where the way has changed, which a test tells."""
    part: Any = response.stream
    for name in ("_httpcore_stream", "_stream", "_connection", "_h11_state"):
        part = getattr(part, name, None)
    return part


def transport_for(base_url: str, connections: int = 256) -> StampedTransport:
    """The stamped transport for an endpoint; the environment's proxy applies, never to a loopback
    address."""
    is_tls = httpx2.URL(base_url).scheme == "https"
    return StampedTransport(machine.proxy(base_url), connections, is_tls)
