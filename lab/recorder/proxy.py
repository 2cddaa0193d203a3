"""The recorder's wire: one connection upstream for each of the application's, bytes handed on as
they come, both ways.

    application ── Downward ── Link ── Upward ── API
                    stamps │ hands on │ stamps
                           └ then, and only then, Framing says what it was

Of a request only the Host of its head is another one upstream (and its path, where the upstream has
one of its own); of an answer nothing. What ends one side ends the other in the same way.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from lab import limits
from lab.clock import now_ns, working_ns
from lab.recorder import framing, strangers
from lab.recorder.framing import BODY, END, HEAD, Framing
from lab.recorder.observed_call import (
    ASKED_HEADERS,
    SECRET_HEADERS,
    ObservedCall,
    worth_telling,
)
from lab.recorder.upstream import Connector, Phases, Upstream

HOST = re.compile(rb"(?im)^(host[ \t]*:[ \t]*)[^\r\n]*")
RESET = struct.pack("ii", 1, 0)
FLUSH_POLL_S, FLUSHES = 0.0005, 20_000
INTERIM_ANSWERS = 100
"""Before one answer (1xx); a server has one or two."""
REFUSED_S = 2.0
"""What a refused client has to read why."""
MADE_AHEAD_NS = 100_000_000
"""A connection that has waited so long for its first request was not opened for it."""
EARLY_BYTES = limits.MB
"""Taken from an application before there is a connection upstream."""
HELD_BYTES = 256 * limits.MB
"""Of all calls under way; beyond that they are handed on and not kept."""


class Proxy:
    """Everything that the links of one recorder share."""

    def __init__(
        self,
        upstream: Upstream,
        on_call: Callable[[ObservedCall], None],
        on_unreached: Callable[[str], None] = lambda why: None,
    ) -> None:
        self.upstream, self.connector = upstream, Connector(upstream)
        self.on_call, self.on_unreached = on_call, on_unreached
        self.links: set[Link] = set()
        self.others = 0
        """Requests to other paths."""
        self.unread = 0
        """Calls that were too large to be kept."""
        self.held = 0

    def accept(self) -> asyncio.Protocol:
        return Downward(self)

    @property
    def is_busy(self) -> bool:
        return any(call.is_open for link in self.links for call in link.waiting)

    def close(self) -> None:
        for link in list(self.links):
            link.cut()

    def hold(self, call: ObservedCall, size: int) -> bool:
        """Whether so many bytes more of a call can be kept."""
        call.size += size
        self.held += size
        return call.size <= limits.body_bytes() and self.held <= HELD_BYTES

    def let_go(self, call: ObservedCall) -> None:
        self.held -= call.size
        call.size = 0
        call.body, call.pieces = [], []
        del call.at_ns[:]


class Side(asyncio.Protocol):
    """One end of a link. Where it cannot take more, the other end is not read."""

    other: Side | None = None
    transport: Any = None
    is_full = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def pause_writing(self) -> None:
        self.is_full = True
        if self.other:
            self.other.hold_back(True)

    def resume_writing(self) -> None:
        self.is_full = False
        if self.other:
            self.other.hold_back(False)

    def hold_back(self, wait: bool) -> None:
        if self.transport and not self.transport.is_closing():
            (self.transport.pause_reading if wait else self.transport.resume_reading)()

    def write(self, data: bytes) -> None:
        if data and self.transport and not self.transport.is_closing():
            self.transport.write(data)

    def end(self) -> None:
        """FIN; what was written before it still goes out."""
        if not self.transport or self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def close(self) -> None:
        if self.transport:
            self.transport.close()

    def reset(self, tries: int = FLUSHES) -> None:
        """RST, once what was written before it is out."""
        if not self.transport or self.transport.is_closing():
            return
        if tries and self.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(FLUSH_POLL_S, self.reset, tries - 1)
            return
        if sock := self.transport.get_extra_info("socket"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


class Downward(Side):
    """The application's end."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.link = Link(self.proxy, self)

    def data_received(self, data: bytes) -> None:
        self.link.asked(now_ns(), data)

    def eof_received(self) -> bool:
        self.link.client_ended(now_ns())
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.link.client_lost(now_ns(), exc)


class Upward(Side):
    """The API's end."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.is_tls = link.proxy.upstream.is_tls

    def data_received(self, data: bytes) -> None:
        at_ns, worked_ns = now_ns(), working_ns()
        self.link.down.write(data)
        self.link.answered(at_ns, working_ns() - worked_ns, data)

    def resume_writing(self) -> None:
        super().resume_writing()
        if call := self.link.latest:
            call.sent_ns = now_ns()

    def eof_received(self) -> bool:
        self.link.upstream_ended(now_ns())
        return not self.is_tls

    def connection_lost(self, exc: Exception | None) -> None:
        self.link.upstream_lost(now_ns(), exc)


class Link:
    """One connection of the application and the one upstream that stands for it."""

    def __init__(self, proxy: Proxy, down: Downward) -> None:
        self.proxy, self.down = proxy, down
        self.up = Upward(self)
        self.accepted_ns = now_ns()
        self.phases = Phases()
        self.ready_ns: int | None = None
        self.asking, self.answering = Framing(is_answer=False), Framing(is_answer=True)
        self.waiting: deque[ObservedCall] = deque()
        """Calls whose answer is not whole, the oldest first; also of other paths."""
        self.methods: deque[str] = deque()
        self.latest: ObservedCall | None = None
        """The call whose request is coming, or came last."""
        self.head_ns: int | None = None
        self.requests = self.interim = 0
        self.early: list[bytes] = []
        """What came before there was a connection upstream."""
        self.client_ended_ns: int | None = None
        self.upstream_ended_ns: int | None = None
        self.is_refused = False
        proxy.links.add(self)
        self.connecting = asyncio.ensure_future(self._connect())

    # The connection upstream

    async def _connect(self) -> None:
        try:
            transport, _ = await self.proxy.connector.open(lambda: self.up, self.phases)
        except OSError as error:
            self._finish_all(now_ns(), "connect", _words(error))
            self.down.reset()
            self.proxy.on_unreached(_words(error))  # the request may not have been read
            return
        if self.down.transport.is_closing():
            self.up.close()
            return
        self.ready_ns = now_ns()
        self.up.transport = transport  # of TLS another one than connection_made was told
        self.up.other, self.down.other = self.down, self.up
        early, self.early = self.early, []
        sent_ns, worked_ns = now_ns(), working_ns()
        self.up.write(b"".join(early))
        for call in self.waiting:
            self._connected(call)
            if call.asked_ns is not None:
                call.sent_ns = sent_ns
                call.added_request_ns += working_ns() - worked_ns
        if self.client_ended_ns is not None:
            self.up.end()
        elif not self.up.is_full:
            self.down.hold_back(False)

    def _connected(self, call: ObservedCall) -> None:
        call.ready_ns = self.ready_ns
        if call.reused is not False or call.arrived_ns - self.ready_ns > MADE_AHEAD_NS:
            return
        call.started_ns = self.accepted_ns
        call.dns_ns, call.connected_ns = self.phases.dns_ns, self.phases.connected_ns
        call.tls_ns = self.phases.tls_ns

    # The application asks

    def asked(self, at_ns: int, data: bytes) -> None:
        if self.is_refused:
            return
        worked_ns = working_ns()
        out: list[bytes] = []
        whole: list[ObservedCall] = []
        if self.head_ns is None:
            self.head_ns = at_ns
        for part in self.asking.parts(data):
            out.append(part.raw)
            if part.kind == HEAD:
                read = framing.lines(part.raw)
                if answer := strangers.refusal(read, self.proxy.upstream.host):
                    self._refuse(answer)
                    return
                out[-1] = self._begin(at_ns, part.raw, read)
            elif part.kind == BODY and (call := self.latest):
                self._keep_body(call, part.body)
            elif part.kind == END:
                if call := self.latest:
                    call.asked_ns = at_ns
                    whole.append(call)
                self.head_ns = None
        raw = b"".join(out)
        if self.ready_ns is None:
            self.early.append(raw)
            for call in whole:
                call.added_request_ns = working_ns() - worked_ns
            if sum(map(len, self.early)) > EARLY_BYTES:
                self.down.hold_back(True)
            return
        sent_ns = now_ns()
        self.up.write(raw)
        for call in whole:
            call.sent_ns = sent_ns
            call.added_request_ns = working_ns() - worked_ns

    def _refuse(self, answer: bytes) -> None:
        """This request, and whatever else the connection brings or waits for."""
        self.is_refused = True
        if not self.waiting:  # else it would stand in the midst of another answer
            self.down.write(answer)
        self.connecting.cancel()
        self.up.close()
        self.down.end()
        asyncio.get_running_loop().call_later(REFUSED_S, self.down.close)

    def _begin(self, at_ns: int, head: bytes, read: framing.Lines) -> bytes:
        """A request's head: the call that it begins, and the bytes to send upstream."""
        method, _, rest = read.first.partition(" ")
        path = rest.partition(" ")[0]
        self.asking.expect(read.length or 0)
        if read.odd:
            self.asking.lose(read.odd)
        self.requests += 1
        call = ObservedCall(started_ns=self.head_ns or at_ns, arrived_ns=self.head_ns or at_ns)
        call.reused = self.requests > 1
        self.head_ns = at_ns
        if self.ready_ns is not None:
            self._connected(call)
        self.methods.append(method)
        bare = path.partition("?")[0]
        if method == "POST" and bare.endswith("/v1/messages"):
            call.asked = {name: read.headers[name] for name in ASKED_HEADERS & read.headers.keys()}
            call.secrets = [read.headers[name] for name in SECRET_HEADERS if name in read.headers]
        else:
            call.is_open = False
            self.proxy.others += 1
        self.waiting.append(call)
        self.latest = call
        return self._readdressed(head)

    def _readdressed(self, head: bytes) -> bytes:
        upstream = self.proxy.upstream
        if upstream.path:
            method, space, rest = head.partition(b" ")
            if rest.startswith(b"/"):
                head = method + space + upstream.path + rest
        return HOST.sub(lambda line: line[1] + upstream.authority, head, count=1)

    def _keep_body(self, call: ObservedCall, body: bytes) -> None:
        if call.is_open and self.proxy.hold(call, len(body)):
            call.body.append(body)
        elif call.is_open:
            self._too_large(call)

    def _too_large(self, call: ObservedCall) -> None:
        self.proxy.let_go(call)
        self.proxy.unread += 1
        call.is_open = False

    # The API answers

    def answered(self, at_ns: int, added: int, data: bytes) -> None:
        """After it was handed on."""
        call = self.waiting[0] if self.waiting else None
        if call:
            call.added_reply_ns = max(call.added_reply_ns or 0, added)
            call.told_ns = call.told_ns or at_ns
        bodies: list[bytes] = []
        for part in self.answering.parts(data):
            if part.kind == HEAD:
                self._begin_answer(at_ns, part.raw)
            elif part.kind == BODY:
                bodies.append(part.body)
            elif part.kind == END and self.waiting and self.waiting[0].status is not None:
                self._keep_answer(at_ns, bodies)
                self.waiting[0].closed_ns = at_ns
                self._finish(at_ns)
        self._keep_answer(at_ns, bodies)

    def _keep_answer(self, at_ns: int, bodies: list[bytes]) -> None:
        """What came at one instant is one piece, in however many chunks."""
        call = self.waiting[0] if self.waiting else None
        if bodies and call and call.is_open:
            piece = b"".join(bodies)
            if len(call.pieces) < limits.CHUNKS and self.proxy.hold(
                call, len(piece) + limits.CHUNK_COST
            ):
                call.pieces.append(piece)
                call.at_ns.append(at_ns)
            else:
                self._too_large(call)
        bodies.clear()

    def _begin_answer(self, at_ns: int, head: bytes) -> None:
        read = framing.lines(head)
        words = read.first.split(" ", 2)
        status = words[1] if len(words) > 1 else ""
        call = self.waiting[0] if self.waiting else None
        if not (len(status) == 3 and status.isdigit()):
            self.answering.lose("a status that is none")
            return
        code = int(status)
        if call is None:
            self.answering.lose("an answer that nobody asked for")
        elif code == 101:
            self.answering.expect(framing.TUNNEL)
        elif code < 200:
            self.answering.expect(0)
            self.interim += 1
            if self.interim > INTERIM_ANSWERS:
                self.answering.lose("interim answers without an end")
            return
        elif self.methods[0] == "HEAD" or code in (204, 304):
            self.answering.expect(0)
        elif read.odd:
            self.answering.lose(read.odd)
        else:
            self.answering.expect(framing.UNTIL_CLOSED if read.length is None else read.length)
        self.interim = 0
        if call:
            call.status, call.headers_ns = code, at_ns
            if call.is_open:
                call.answered = worth_telling(read.headers)

    # Ends

    def client_ended(self, at_ns: int) -> None:
        self.client_ended_ns = at_ns
        if self.upstream_ended_ns is not None:
            self._close()
        elif self.ready_ns is not None:
            self.up.end()
        elif self.is_refused or self.up.is_tls:  # TLS knows no half of a connection
            self.down.close()

    def client_lost(self, at_ns: int, exc: Exception | None) -> None:
        self._finish_all(self.client_ended_ns or at_ns, "cancelled")
        if exc is not None:
            self.up.reset(tries=2)
        elif self.upstream_ended_ns is None:
            self.up.close()
        if self.ready_ns is None:
            self.connecting.cancel()
        self.proxy.links.discard(self)

    def upstream_ended(self, at_ns: int) -> None:
        """FIN: what it has said is all that it says."""
        self.upstream_ended_ns = at_ns
        if self.answering.ends_with_connection and self.waiting:
            self.waiting[0].closed_ns = now_ns()
            self._finish(at_ns)
        elif self.client_ended_ns is not None:
            self._finish_all(self.client_ended_ns, "cancelled")
        else:
            self._finish_all(at_ns, "disconnected", "the connection was closed")
        if self.client_ended_ns is not None:
            self._close()
        else:
            self.down.end()

    def upstream_lost(self, at_ns: int, exc: Exception | None) -> None:
        if self.client_ended_ns is not None:
            self._finish_all(self.client_ended_ns, "cancelled")
        if exc is not None:
            self._finish_all(at_ns, "disconnected", "the connection was reset")
            if self.ready_ns is not None:
                self.down.reset()
        elif self.ready_ns is not None:
            if self.upstream_ended_ns is None:
                self.upstream_ended(at_ns)
            if self.up.is_tls:
                self.down.close()

    def cut(self) -> None:
        """The recorder stops."""
        self._finish_all(now_ns(), "cancelled", "the recorder was stopped")
        self.connecting.cancel()
        self.up.reset()
        self.down.reset()

    def _close(self) -> None:
        self.up.close()
        self.down.close()

    def _finish_all(self, at_ns: int, ending: str, note: str | None = None) -> None:
        while self.waiting:
            is_odd = self.answering.odd and self.waiting[0].told_ns
            words = ("malformed", self.answering.odd) if is_odd else (ending, note)
            self._finish(at_ns, *words)

    def _finish(self, at_ns: int, ending: str | None = None, note: str | None = None) -> None:
        call = self.waiting.popleft()
        self.methods.popleft()
        if call is self.latest and call.asked_ns is not None:
            self.latest = None
        if not call.is_open:
            return
        call.is_open = False
        call.ended_ns, call.ending, call.note = at_ns, ending, note
        call.closed_ns = call.closed_ns or at_ns
        self.proxy.on_call(call)
        self.proxy.let_go(call)


def _words(error: OSError) -> str:
    text = error.strerror or str(error) or type(error).__name__
    return f"no connection upstream: {text}"[:200]
