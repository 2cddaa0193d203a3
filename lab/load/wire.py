"""HTTP/1.1 for load: prepared bytes go out, and what comes back is stamped in `data_received` and
kept unread; httptools finds where an answer ends.

    connect ─ TLS ─ write … sent │ headers │ arrival arrival arrival … │ ended
    └ only on a new connection ┘

No task, future or timer is made for what arrives. What ends a call has the words that
lab.instrumentation.parsing.failure_words has for the like. Compressed answers are refused,
redirects are not followed. A kept connection that ends before a byte of the answer came is taken
for an idle one that the server closed: the request goes out once more on a new connection, as
attempt 2 of the same call, whose clock runs on.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

import httptools

from lab import limits
from lab.clock import now_ns
from lab.load.call_frame import CallFrame

NEXT_ADDRESS_S = 2.0
IDLE_NS = 55_000_000_000
"""What a connection may rest before it is used again, as in lab.instrumentation.stamps."""
SWEEPS = 20
"""In the time in which nothing may arrive."""
STOPPED = ("cancelled", "stopped by the lab or by the caller")
UNTIL_END, LENGTH, CHUNKED = "until the end", "length", "chunked"


@dataclass(frozen=True)
class Template:
    """A request as it is sent, but for its nonce."""

    head: bytes = field(repr=False)
    """Request line and headers, the key among them, with the empty line."""
    body: bytes = field(repr=False)
    nonce_at: tuple[int, ...] = ()
    """Where in the body the digits of the nonce are written."""

    def filled(self, nonce: bytes) -> bytes:
        """The request with this nonce in it, which is as long as the one that it replaces."""
        parts, place = [self.head], 0
        for at in self.nonce_at:
            parts += self.body[place:at], nonce
            place = at + len(nonce)
        return b"".join([*parts, self.body[place:]])


@dataclass(frozen=True)
class Address:
    """The origin that all requests of a load go to."""

    host: str
    port: int
    is_tls: bool = False
    timeout_s: float = 120.0
    """How long nothing may arrive."""
    connect_s: float = 10.0


class Connection(asyncio.Protocol):
    """A socket with at most one call under way; httptools calls the `on_` methods."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.transport: asyncio.Transport | None = None
        self.call: CallFrame | None = None
        self.payload = b""
        self.calls = 0
        self.last_ns = 0
        """When something was last sent or received."""
        self.body = bytearray()
        self.size = 0
        self.left = self.most = 0
        """What may still come in before it is too much; what a body may have."""
        self.has_headers = self.is_whole = self.is_kept = self.is_full = self.over = False
        self.framed = UNTIL_END
        self.failed: tuple[str, str] | None = None
        self.on_body = self.body.extend
        self.parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def ask(self, call: CallFrame, payload: bytes) -> None:
        self.call, self.payload = call, payload
        call.reused = self.calls > 0
        self.calls += 1
        self.left = limits.HEAD_BYTES
        self.has_headers = self.is_whole = self.is_kept = self.over = False
        self.failed = None
        del self.body[:]
        self.size = 0
        self.wire.asked.add(self)
        self.transport.write(payload)
        self.last_ns = now_ns()
        # What the socket does not take at once has been sent when resume_writing says so.
        if not self.is_full:
            call.sent_ns = self.last_ns

    # asyncio's side

    def connection_made(self, transport) -> None:
        self.transport = transport
        # Otherwise uvloop writes only once it has looked at every other socket.
        transport.set_write_buffer_limits(0)

    def data_received(self, data: bytes) -> None:
        at_ns = now_ns()
        call = self.call
        if call is None:  # beyond an answer: it would be taken for the next one
            self.transport.close()
            return
        self.last_ns = at_ns
        self.left -= len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.failed = ("malformed", "not HTTP: the server changes to another protocol")
        except httptools.HttpParserError as error:
            self.over = True
            if not self.is_whole:
                self.failed = self.failed or ("malformed", f"not HTTP: {error}")
        size = len(self.body)
        if size != self.size:
            self.size = size
            call.at_ns.append(at_ns)
            call.ends.append(size)
            if size > self.most or len(call.ends) > limits.CHUNKS:
                self.failed = self._excess()
        if self.left < 0 and not self.is_whole:
            self.failed = self.failed or self._excess()
        if self.is_whole or self.failed:
            self._end(at_ns, self.failed)

    def eof_received(self) -> None:
        if self.call:
            self._hung_up(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.call:
            self._hung_up(exc)
        self.wire.forget(self)
        # They hold each other, and no garbage is collected during a level.
        self.parser = self.on_body = None

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        if self.call and self.call.sent_ns is None:
            self.last_ns = self.call.sent_ns = now_ns()

    # httptools' side

    def on_message_begin(self) -> None:
        self.over = self.is_whole
        if not self.is_whole:
            self.call.headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_headers:  # else a trailer
            self.call.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if self.is_whole or status < 200:
            return
        call, headers = self.call, self.call.headers
        call.headers_ns, call.status = self.last_ns, status
        self.has_headers = True
        self.most = limits.body_bytes() if status < 300 else limits.ERROR_BYTES
        # Chunked, each byte of a body may come in six.
        self.left = 6 * limits.CHUNKS + 2 * self.most
        self.framed = UNTIL_END
        if "transfer-encoding" in headers:
            self.framed = CHUNKED
            if headers["transfer-encoding"].strip().lower() != "chunked":
                self.failed = ("malformed", "not HTTP: a transfer encoding other than chunked")
        elif "content-length" in headers or status in (204, 304):
            self.framed = LENGTH
        coding = headers.get("content-encoding", "").strip().lower()
        if coding not in ("", "identity") and status < 300:
            text = f"compressed with {coding:.40} though identity was asked"
            self.failed = ("malformed", text)

    def on_message_complete(self) -> None:
        # An interim answer (1xx) is complete too, and no answer.
        if self.has_headers and not self.is_whole:
            self.is_whole = True
            self.is_kept = self.parser.should_keep_alive()

    # How a call ends

    def _excess(self) -> tuple[str, str]:
        if len(self.call.ends) > limits.CHUNKS:
            text = f"the answer came in more than {limits.CHUNKS:,} pieces"
        elif self.size > self.most:
            text = f"the body is more than {self.most // limits.MB} MB"
        else:
            part = "chunk headers" if self.has_headers else "headers"
            text = f"the {part} of the answer are longer than any server of the API makes them"
        return "too_large", text

    def _hung_up(self, error: Exception | None) -> None:
        call = self.call
        if self.has_headers and self.framed == UNTIL_END and error is None:
            self._end(now_ns(), None)
        elif call.reused and not self.has_headers and self.left == limits.HEAD_BYTES:
            payload = self._release()
            self.transport.abort()
            self.wire.again(call, payload)
        elif error is not None:
            self._end(now_ns(), ("disconnected", f"ReadError: {error}"))
        else:
            what = "peer closed connection without sending complete message body"
            if not self.has_headers:
                what = "Server disconnected without sending a response."
            self._end(now_ns(), ("disconnected", f"RemoteProtocolError: {what}"))

    def _release(self) -> bytes:
        payload, self.payload, self.call = self.payload, b"", None
        self.wire.asked.discard(self)
        return payload

    def _end(self, at_ns: int, failure: tuple[str, str] | None) -> None:
        """The call is over; its connection is kept where it can be."""
        call = self.call
        self._release()
        call.body, call.ended_ns = bytes(self.body), at_ns
        if failure or not self.is_kept or self.over or self.is_full:
            self.transport.abort() if failure else self.transport.close()
        else:
            self.wire.idle.append(self)
        self.wire.finish(call, failure)

    def fail(self, failure: tuple[str, str]) -> None:
        """From outside: it took too long, or nobody waits any more."""
        self._end(now_ns(), failure)


class Wire:
    """The connections to one address. `ended` is called with each call once it is over."""

    def __init__(self, address: Address, ended: Callable[[CallFrame], None]) -> None:
        self.address, self.ended = address, ended
        self.idle: list[Connection] = []
        self.asked: set[Connection] = set()
        self.connecting: dict[asyncio.Task, tuple[CallFrame, bytes]] = {}
        self.opened = 0
        """Connections so far."""
        self.tls: ssl.SSLContext | None = None
        if address.is_tls:
            import httpcore2  # the SDK's own choice of certificates

            self.tls = httpcore2.default_ssl_context()
            self.tls.set_alpn_protocols(["http/1.1"])
        self.loop = asyncio.get_running_loop()
        self._timer = self.loop.call_later(self._sweep_s, self._sweep)

    def send(self, call: CallFrame, payload: bytes) -> None:
        """On a connection that rests, or a new one; `call.started_ns` is set."""
        while self.idle:
            connection = self.idle.pop()
            rested_ns = call.started_ns - connection.last_ns
            if not connection.transport.is_closing() and rested_ns < IDLE_NS:
                connection.ask(call, payload)
                return
            connection.transport.close()
        self._send_new(call, payload)

    def again(self, call: CallFrame, payload: bytes) -> None:
        call.attempt += 1
        call.sent_ns = None
        self._send_new(call, payload)

    def cancel(self) -> None:
        """Whatever is under way is cancelled, and handed to `ended`."""
        for connection in list(self.asked):
            connection.fail(STOPPED)
        for task in self.connecting:
            task.cancel()

    def close(self) -> None:
        self._timer.cancel()
        self.cancel()
        for connection in self.idle:
            connection.transport.close()
        self.idle.clear()

    def forget(self, connection: Connection) -> None:
        if connection in self.idle:
            self.idle.remove(connection)

    def finish(self, call: CallFrame, failure: tuple[str, str] | None) -> None:
        call.failure = failure
        if failure and failure[0] in ("too_large", "cancelled"):
            cut(call)
        self.ended(call)

    def _send_new(self, call: CallFrame, payload: bytes) -> None:
        task = self.loop.create_task(self._open(call))
        self.connecting[task] = call, payload
        task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task) -> None:
        call, payload = self.connecting.pop(task)
        failure = STOPPED if task.cancelled() else self._unconnected(task.exception())
        if failure is None and task.result().transport.is_closing():
            failure = (
                "disconnected",
                "RemoteProtocolError: Server disconnected without an answer.",
            )
        if failure is None:
            task.result().ask(call, payload)
            return
        call.ended_ns = now_ns()
        self.finish(call, failure)

    def _unconnected(self, error: BaseException | None) -> tuple[str, str] | None:
        if isinstance(error, TimeoutError):
            where = f"{self.address.host}:{self.address.port}"
            return "connect", f"ConnectTimeout: no connection to {where} in time"
        # What is no OSError is a name that no address can have.
        return error and ("connect", f"ConnectError: {error}")

    async def _open(self, call: CallFrame) -> Connection:
        async with asyncio.timeout(self.address.connect_s):
            transport, connection = await self._reach(call)
            self.opened += 1
            if self.tls:
                await self._secure(transport, connection)
                call.tls_ns = now_ns()
            return connection

    async def _reach(self, call: CallFrame) -> tuple[asyncio.Transport, Connection]:
        host, port = self.address.host, self.address.port
        answers = await self.loop.getaddrinfo(host, port, type=1)
        call.dns_ns = now_ns()
        places = list(dict.fromkeys(answer[4][0] for answer in answers))
        for place in places:
            is_last = place == places[-1]
            try:
                # An unreachable first address (IPv6, mostly) must not take all the time.
                async with asyncio.timeout(None if is_last else NEXT_ADDRESS_S):
                    pair = await self.loop.create_connection(self._connection, place, port)
                break
            except OSError:
                if is_last:
                    raise
        call.connected_ns = now_ns()
        return pair

    def _connection(self) -> Connection:
        return Connection(self)

    async def _secure(self, transport: asyncio.Transport, connection: Connection) -> None:
        host = self.address.host
        try:
            secured = await self.loop.start_tls(
                transport, connection, self.tls, server_hostname=host
            )
        except BaseException:
            transport.abort()
            raise
        connection.connection_made(secured)

    @property
    def _sweep_s(self) -> float:
        return min(max(self.address.timeout_s / SWEEPS, 0.02), 1.0)

    def _sweep(self) -> None:
        """One coarse timer for all: a timer for each arrival would cost more than the arrival."""
        now = now_ns()
        late_ns = now - int(self.address.timeout_s * 1e9)
        for connection in [one for one in self.asked if one.last_ns < late_ns]:
            sent = connection.call.sent_ns is not None
            text = "ReadTimeout: nothing arrived in time"
            text = text if sent else "WriteTimeout: the request could not be sent in time"
            connection.fail(("timeout", text))
        self._timer = self.loop.call_later(self._sweep_s, self._sweep)


def cut(call: CallFrame) -> None:
    """Let go of the rest of an answer that nobody will read whole."""
    kept = 0
    for end in call.ends[: limits.CUT_CHUNKS]:
        if end > limits.CUT_BYTES:
            break
        kept += 1
    del call.at_ns[kept:], call.ends[kept:]
    call.body = call.body[: call.ends[-1] if kept else 0]
