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

from lab import limits
from lab.clock import now_ns
from lab.load.call_frame import CallFrame
from lab.load.connection import Connection
from lab.reach import IDLE_NS, reach
from lab.tunnel import Tunnel

SWEEPS = 20
"""In the time in which nothing may arrive."""
STOPPED = ("cancelled", "stopped by the lab or by the caller")


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
    tunnel: Tunnel | None = None
    """Through a proxy, which is then the host that is looked up."""


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
        place, tunnel = self.address, self.address.tunnel
        if tunnel is None:
            made = await reach(lambda: Connection(self), place.host, place.port, call)
            call.connected_ns = now_ns()
            return made
        answers, connection = asyncio.StreamReader(), Connection(self)
        digging = asyncio.StreamReaderProtocol(answers)
        transport, _ = await reach(lambda: digging, tunnel.host, tunnel.port, call)
        try:
            await tunnel.dig(transport, answers)
        except BaseException:
            transport.abort()
            raise
        call.connected_ns = now_ns()
        transport.set_protocol(connection)
        connection.connection_made(transport)
        return transport, connection

    async def _secure(self, transport: asyncio.Transport, connection: Connection) -> None:
        host = self.address.host
        try:
            secured = await self.loop.start_tls(
                transport, connection, self.tls, server_hostname=host
            )
        except BaseException:
            transport.abort()
            raise
        connection.use(secured)

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
