"""A socket of the load's wire, with at most one call under way: what arrives is stamped first, then
framed, and not read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httptools

from lab import limits
from lab.clock import now_ns
from lab.load.call_frame import CallFrame

if TYPE_CHECKING:
    from lab.load.wire import Wire

UNTIL_END, LENGTH, CHUNKED = "until the end", "length", "chunked"


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
        self.parser: httptools.HttpResponseParser | None = None

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
        self.parser = httptools.HttpResponseParser(self)
        self.use(transport)

    def use(self, transport) -> None:
        """The socket's transport, then TLS's."""
        self.transport = transport
        # Otherwise uvloop writes only once it has looked at every other socket.
        transport.set_write_buffer_limits(1, 0)

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
        self.most, self.left = limits.most_of_body(status), limits.most_with_framing(status)
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
