"""HTTP/1.1 under the SDK, for what goes straight to its server: a socket that stamps in
`data_received` and has httptools find at once what is head, body and end.

Reading takes no task, timer or generator for each arrival: who wants a whole answer is woken by its
end. h11 writes a request's head, once for all that are alike; what takes a proxy is httpcore's (see
lab.instrumentation.stamps).
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Protocol

import h11
import httptools
import httpx2

from lab import limits
from lab.clock import now_ns, sleep_s
from lab.model import Reuse
from lab.reach import IDLE_NS, reach

HEAD, PIECE, END = "head", "piece", "end"
"""What a reader waits for."""
HUNG_UP = "Server disconnected without sending a response."
CUT_SHORT = "peer closed connection without sending complete message body"


class TooLarge(httpx2.TransportError):
    """More came than lab.limits allows; the text names the limit."""


class Phases(Protocol):
    """Where the instants of a request are noted, in ns of lab.clock.now_ns."""

    dns_ns: int | None
    connected_ns: int | None
    tls_ns: int | None
    sent_ns: int | None
    reused: bool | None
    """Whether the connection was open before the request."""
    connection: Reuse
    """Which connection it is to go by."""


def too_long(part: str) -> TooLarge:
    return TooLarge(f"the {part} of the answer are longer than any server of the API makes them")


def is_readable(transport: asyncio.Transport | None) -> bool:
    """Whether the kernel holds bytes or an end that the loop has not looked at yet."""
    sock = transport.get_extra_info("socket") if transport else None
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


@lru_cache(maxsize=256)
def head_of(method: str, target: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Raises LocalProtocolError for what no header can hold."""
    try:
        request = h11.Request(method=method, target=target, headers=headers)
        return h11.Connection(h11.CLIENT).send(request)
    except h11.LocalProtocolError as error:
        raise httpx2.LocalProtocolError(str(error)) from error


class Connection(asyncio.Protocol):
    """A socket with at most one exchange under way; httptools calls the `on_` methods."""

    def __init__(self, origin: tuple[bytes, bytes, int]) -> None:
        self.origin = origin
        self.transport: asyncio.Transport | None = None
        self.parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.requests = 0
        self.is_ahead = self.is_single = False
        """Opened before anybody asked; for one exchange alone."""
        self.is_busy = self.is_lost = False
        self.arrived_ns = now_ns()
        """When something last came; at the end of an answer, when it was whole."""
        self.read_ns = 0
        """The arrival of what was last handed on."""
        self.waiter: asyncio.Future | None = None
        self.writable: asyncio.Future | None = None
        self._renew("")

    def _renew(self, method: str) -> None:
        self.method = method
        self.status, self.reason, self.version, self.headers_ns = 0, b"", b"", 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: deque[tuple[int, bytes]] = deque()
        self.held, self.left = 0, limits.HEAD_BYTES
        """Bytes that wait for a reader; bytes that may still come."""
        self.has_headers = self.is_whole = self.is_kept = self.is_spoilt = self.is_paused = False
        self.failure: Exception | None = None
        self.take: Callable[[int, bytes], None] | None = None
        self.awaits, self.since_ns = HEAD, 0
        self.timeout_s: float | None = None
        self.timer: asyncio.TimerHandle | None = None

    # asyncio's side

    def connection_made(self, transport) -> None:
        self.transport = transport
        # Otherwise uvloop writes only once it has looked at every other socket. Of 0, TLS makes a
        # pause that nothing ends.
        transport.set_write_buffer_limits(1)

    def data_received(self, data: bytes) -> None:
        self.arrived_ns = now_ns()
        if not self.is_busy:  # beyond an answer: it would be taken for the next one
            self.transport.close()
            return
        self.left -= len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(httpx2.RemoteProtocolError("the server changes to another protocol"))
        except httptools.HttpParserError as error:
            self.is_spoilt = True
            self._fail(httpx2.RemoteProtocolError(str(error)))
        if self.left < 0:
            self._fail(too_long("chunk headers" if self.has_headers else "headers"))
        if self.held > limits.WAITING_BYTES and not self.is_paused:
            self.is_paused = True
            self.transport.pause_reading()
        if self.waiter:
            self._wake()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._end(exc)
        self.resume_writing()
        self.parser = None  # they hold each other, and no garbage is collected while one measures

    def pause_writing(self) -> None:
        self.writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self.writable and not self.writable.done():
            self.writable.set_result(None)
        self.writable = None

    def _end(self, error: Exception | None) -> None:
        if not self.is_busy or self.is_whole or self.failure:
            return
        self.arrived_ns = now_ns()
        if error:
            self._fail(httpx2.ReadError(str(error)))
        elif self.has_headers and self._ends_with_connection():
            self.is_whole = True
        else:
            self._fail(httpx2.RemoteProtocolError(CUT_SHORT if self.has_headers else HUNG_UP))
        self._wake()

    def _ends_with_connection(self) -> bool:
        names = {name.lower() for name, _ in self.headers}
        return not names & {b"content-length", b"transfer-encoding"}

    def _fail(self, failure: Exception) -> None:
        """What comes after a whole answer is no failure of it."""
        if not self.is_whole and self.failure is None:
            self.failure = failure

    # httptools' side

    def on_message_begin(self) -> None:
        self.is_spoilt |= self.is_whole

    def on_status(self, reason: bytes) -> None:
        self.reason = reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_headers:  # else a trailer
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if self.is_whole:
            return
        if status < 200:  # an interim answer
            self.headers.clear()
            return
        self.status, self.has_headers, self.headers_ns = status, True, self.arrived_ns
        self.version = f"HTTP/{self.parser.get_http_version()}".encode()
        self.left = limits.most_with_framing(status)
        if self.method == "HEAD":
            self.is_whole = self.is_spoilt = True

    def on_body(self, piece: bytes) -> None:
        if self.is_whole or self.failure:
            return
        if self.take is None:
            self.pieces.append((self.arrived_ns, piece))
            self.held += len(piece) + limits.CHUNK_COST
            return
        try:
            self.take(self.arrived_ns, piece)
        except TooLarge as error:
            self._fail(error)

    def on_message_complete(self) -> None:
        if self.has_headers and not self.failure:
            self.is_whole, self.is_kept = True, self.parser.should_keep_alive()

    # The reader's side

    async def ask(self, method: str, data: bytes, timeouts: dict, phases: Phases | None) -> None:
        """Send a request and wait for the head of its answer."""
        self._renew(method)
        self.is_busy = True
        if self.is_lost or self.transport.is_closing():
            raise httpx2.RemoteProtocolError(HUNG_UP)
        self.transport.write(data)
        if self.writable:
            try:
                async with asyncio.timeout(timeouts.get("write")):
                    await self.writable
            except TimeoutError as e:
                raise httpx2.WriteTimeout("the request could not be sent in time") from e
        sent_ns = now_ns()
        if phases:
            phases.sent_ns, phases.reused = sent_ns, self.requests > 0 or self.is_ahead
        self.requests += 1
        self.timeout_s = timeouts.get("read")
        if self.timeout_s is not None:
            self._time(self.timeout_s)
        await self._until(HEAD)
        if not self.has_headers:
            raise self.failure

    async def each_piece(self) -> AsyncIterator[tuple[int, bytes]]:
        """(stamp, bytes) of the body as it comes; what ended it too early is raised after them."""
        eager = 0
        while True:
            while self.pieces:
                at_ns, piece = self.pieces.popleft()
                self.held -= len(piece) + limits.CHUNK_COST
                if self.is_paused and self.held < limits.WAITING_BYTES // 2:
                    self._resume()
                self.read_ns = at_ns
                eager += len(piece)
                yield at_ns, piece
                if eager > limits.EAGER_BYTES:
                    eager = 0
                    await sleep_s(0)
            self.read_ns = self.arrived_ns
            if self.failure:
                raise self.failure
            if self.is_whole:
                return
            await self._until(PIECE)
            eager = 0

    async def read_out(self, take: Callable[[int, bytes], None]) -> None:
        """Hand all that comes to `take`, which may raise TooLarge, until the end."""
        for at_ns, piece in self.pieces:
            take(at_ns, piece)
        self.pieces.clear()
        self.held, self.take = 0, take
        if self.is_paused:
            self._resume()
        await self._until(END)
        self.read_ns = self.arrived_ns
        if self.failure:
            raise self.failure

    def _resume(self) -> None:
        self.is_paused = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

    async def _until(self, awaits: str) -> None:
        self.awaits = awaits
        if self._is_there():
            return
        self.since_ns = now_ns()
        self.waiter = asyncio.get_running_loop().create_future()
        try:
            await self.waiter
        finally:
            self.waiter = None

    def _is_there(self) -> bool:
        if self.is_whole or self.failure:
            return True
        return self.has_headers if self.awaits == HEAD else self.awaits == PIECE and self.pieces

    def _wake(self) -> None:
        if self.waiter and not self.waiter.done() and self._is_there():
            self.waiter.set_result(None)

    def _time(self, seconds: float) -> None:
        self.timer = asyncio.get_running_loop().call_later(seconds, self._look_at_time)

    def _look_at_time(self) -> None:
        """One timer an answer, not one an arrival."""
        late_ns = now_ns() - max(self.since_ns, self.arrived_ns)
        left_s = self.timeout_s - (late_ns / 1e9 if self.waiter else 0)
        if left_s > 0:
            self._time(left_s)
            return
        self._fail(httpx2.ReadTimeout("nothing arrived in time"))
        self._wake()

    def rest(self) -> bool:
        """The exchange is over. Whether the connection can have another; else it is closed."""
        if self.timer:
            self.timer.cancel()
        self.take = self.timer = None
        self.pieces.clear()
        self.is_busy = False
        good = self.is_whole and self.is_kept and not self.is_spoilt and not self.is_paused
        good = good and not self.is_single
        if good and not self.writable and not self.is_lost and not self.transport.is_closing():
            return True
        self.transport.abort() if self.failure else self.transport.close()
        return False

    def is_usable(self, longest_ns: int | None = IDLE_NS) -> bool:
        """None: however long it has rested."""
        rested_ns = now_ns() - self.arrived_ns
        return not (
            self.is_lost
            or self.transport.is_closing()
            or (longest_ns is not None and rested_ns > longest_ns)
            # What TLS sends after its handshake waits on one that was opened just now.
            or (self.requests > 0 and is_readable(self.transport))
        )


class Body(httpx2.AsyncByteStream):
    """The body of an answer; `close` gives its connection back."""

    def __init__(self, connection: Connection, close: Callable[[Connection], None]) -> None:
        self.connection, self.close = connection, close
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for _, piece in self.connection.each_piece():
            yield piece

    async def aclose(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.close(self.connection)


class DirectTransport(httpx2.AsyncBaseTransport):
    """Connections to any number of origins, kept while they rest; as many at once as it is told."""

    def __init__(self, connections: int, is_tls: bool = False) -> None:
        self.free = asyncio.Semaphore(connections)
        self.idle: dict[tuple[bytes, bytes, int], list[Connection]] = {}
        self.busy: set[Connection] = set()
        # Some 20 ms: none of it may fall into a call.
        self.tls = trusting() if is_tls else None

    async def handle_async_request(
        self, request: httpx2.Request, phases: Phases | None = None
    ) -> httpx2.Response:
        timeouts = request.extensions.get("timeout", {})
        data = payload(request, await request.aread())
        await self._turn(timeouts.get("pool"))
        connection = None
        try:
            connection = await self._connection(request, timeouts.get("connect"), phases)
            self.busy.add(connection)
            await connection.ask(request.method, data, timeouts, phases)
        except BaseException:
            self._release(connection)
            raise
        return httpx2.Response(
            connection.status,
            headers=connection.headers,
            stream=Body(connection, self._release),
            extensions={"http_version": connection.version, "reason_phrase": connection.reason},
        )

    async def _turn(self, timeout_s: float | None) -> None:
        if not self.free.locked():
            await self.free.acquire()
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self.free.acquire()
        except TimeoutError as e:
            raise httpx2.PoolTimeout("no connection was free in time") from e

    async def _connection(
        self, request: httpx2.Request, timeout_s: float | None, phases: Phases | None
    ) -> Connection:
        url = request.url
        scheme = url.raw_scheme
        if scheme not in (b"http", b"https"):
            raise httpx2.UnsupportedProtocol(f"{scheme.decode()!r} is neither http nor https.")
        origin = origin_of(url)
        meant: Reuse = phases.connection if phases else "any"
        if connection := self._resting(origin, meant):
            return connection
        server_name = request.extensions.get("sni_hostname")
        connection = await self._open(origin, server_name, timeout_s, phases)
        connection.is_single = meant == "new"
        return connection

    def _resting(self, origin: tuple[bytes, bytes, int], meant: Reuse) -> Connection | None:
        """The one that rested last, of those that are meant; which have ended are closed."""
        kept = [] if meant == "new" else self.idle.get(origin, [])
        for place in range(len(kept) - 1, -1, -1):
            if meant != "any" and (kept[place].requests > 0) != (meant == "kept"):
                continue
            connection = kept.pop(place)
            # Who means one that was kept wants to know how long the server keeps it.
            if connection.is_usable(IDLE_NS if meant == "any" else None):
                return connection
            connection.transport.close()
        return None

    async def open_ahead(self, url: httpx2.URL, timeout_s: float | None) -> None:
        """A connection that waits for its first call, in place of those that rest."""
        origin = origin_of(url)
        for connection in self.idle.pop(origin, ()):
            connection.transport.close()
        connection = await self._open(origin, None, timeout_s, None)
        connection.is_ahead = True
        self.idle[origin] = [connection]

    async def _open(
        self,
        origin: tuple[bytes, bytes, int],
        server_name: str | None,
        timeout_s: float | None,
        phases: Phases | None,
    ) -> Connection:
        scheme, name, port = origin
        host = name.decode("ascii")
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await reach(lambda: Connection(origin), host, port, phases)
        except TimeoutError as e:
            raise httpx2.ConnectTimeout(f"no connection to {host}:{port} in time") from e
        except (OSError, ValueError) as e:  # a name that no address can have is a UnicodeError
            raise httpx2.ConnectError(str(e)) from e
        if phases:
            phases.connected_ns = now_ns()
        if scheme == b"https":
            await self._secure(connection, server_name or host, timeout_s)
            if phases:
                phases.tls_ns = now_ns()
        return connection

    async def _secure(self, connection: Connection, host: str, timeout_s: float | None) -> None:
        self.tls = self.tls or trusting()
        raw = connection.transport
        try:
            async with asyncio.timeout(timeout_s):
                secured = await asyncio.get_running_loop().start_tls(
                    raw, connection, self.tls, server_hostname=host
                )
        except BaseException as e:
            raw.abort()
            if isinstance(e, TimeoutError):
                raise httpx2.ConnectTimeout("no TLS in time") from e
            if isinstance(e, OSError | ValueError):  # ssl.SSLError is an OSError
                raise httpx2.ConnectError(str(e)) from e
            raise
        connection.connection_made(secured)

    def _release(self, connection: Connection | None) -> None:
        self.free.release()
        if connection is None:
            return
        self.busy.discard(connection)
        if connection.rest():
            self.idle.setdefault(connection.origin, []).append(connection)

    async def aclose(self) -> None:
        kept = [connection for group in self.idle.values() for connection in group]
        for connection in (*kept, *self.busy):
            connection.transport.close()
        self.idle.clear()


def origin_of(url: httpx2.URL) -> tuple[bytes, bytes, int]:
    scheme = url.raw_scheme
    return scheme, url.raw_host, url.port or (443 if scheme == b"https" else 80)


def trusting() -> ssl.SSLContext:
    """Whom the SDK trusts."""
    context = httpx2.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def payload(request: httpx2.Request, body: bytes) -> bytes:
    """All of a request in one piece."""
    head = head_of(request.method, request.url.raw_path, tuple(request.headers.raw))
    if "transfer-encoding" in request.headers:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    return head + body
