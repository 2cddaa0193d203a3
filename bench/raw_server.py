"""A server that is only a socket: it reads one request after another and lets a function write
whatever bytes it likes.

It shares no code with the lab, so that no library keeps it from being wrong.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

NONCE = re.compile(rb"\[trial (\d{16})\]")
MOST_BYTES = 4_000_000_000
MOST_SECONDS = 90.0
"""How much and how long an endless answer is at most, should the lab never hang up."""


def message(**changes: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": 12,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "output_tokens": 7,
    }
    text = {"type": "text", "text": "The harbour is quiet. Nothing moves."}
    whole = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [text],
        "stop_reason": "end_turn",
    }
    return {**whole, "stop_sequence": None, "usage": usage, **changes}


def events(**changes: Any) -> list[dict[str, Any]]:
    """The same message as a stream."""
    whole = message(**changes)
    pieces = ("The harbour ", "is quiet. ", "Nothing moves.")
    return [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": piece},
            }
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": whole["stop_reason"]},
            "usage": {"output_tokens": 7},
        },
        {"type": "message_stop"},
    ]


def sse(given: Iterable[Any], end: str = "\n") -> bytes:
    """Events as bytes; what is no dict is sent as the data itself."""
    lines = []
    for event in given:
        if isinstance(event, dict) and isinstance(event.get("type"), str):
            lines.append(f"event: {event['type'][:200]}{end}")
        data = event if isinstance(event, str) else json.dumps(event)
        lines.append(f"data: {data}{end}{end}")
    return "".join(lines).encode()


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    nonce: str | None = None
    at: float = field(default_factory=time.monotonic)

    @property
    def stream(self) -> bool:
        with contextlib.suppress(ValueError):
            return bool(json.loads(self.body).get("stream"))
        return False

    @property
    def key(self) -> str:
        return self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix(
            "Bearer "
        )


class Connection:
    """What an answer is written to. It is closed once the answer's function is done, unless a
    whole, well framed answer was sent."""

    def __init__(self, sock: socket.socket, server: RawServer) -> None:
        self.sock, self.server, self.kept = sock, server, False
        self.asked = Asked("", "", {}, b"")
        self.left = b""

    def read(self) -> bool:
        """The next request; False where there is none any more."""
        data = self.left
        while b"\r\n\r\n" not in data:
            more = self.sock.recv(65536)
            if not more:
                return False
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        length = int(headers.get("content-length") or 0)
        while len(body) < length:
            more = self.sock.recv(65536)
            if not more:
                return False
            body += more
        self.left = body[length:]
        method, path, _ = f"{first} ".split(" ", 2)
        nonce = NONCE.search(body)
        self.asked = Asked(
            method, path, headers, body[:length], nonce[1].decode() if nonce else None
        )
        self.kept = False
        return True

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def head(
        self, status: int | str = 200, kind: str | None = "application/json", **headers: Any
    ) -> None:
        lines = [f"HTTP/1.1 {status} Odd" if isinstance(status, int) else status]
        lines += [f"content-type: {kind}"] if kind else []
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"))

    def json(
        self,
        value: Any,
        status: int | str = 200,
        kind: str | None = "application/json",
        **headers: Any,
    ) -> None:
        """A whole answer, well framed; bytes go as they are."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.head(status, kind, content_length=len(body), **headers)
        self.send(body)
        self.kept = True

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def stream(
        self,
        body: bytes | Iterable[bytes],
        status: int = 200,
        kind: str | None = "text/event-stream",
        **headers: Any,
    ) -> None:
        """A chunked answer, well framed."""
        self.head(status, kind, transfer_encoding="chunked", **headers)
        for data in [body] if isinstance(body, bytes) else body:
            if data:
                self.chunk(data)
        self.send(b"0\r\n\r\n")
        self.kept = True

    def good(self, pause_s: float = 0.0) -> None:
        if self.asked.stream:
            pieces = [sse([event]) for event in events()]
            self.head(200, "text/event-stream", transfer_encoding="chunked")
            for data in pieces:
                time.sleep(pause_s / len(pieces))
                self.chunk(data)
            self.send(b"0\r\n\r\n")
            self.kept = True
        else:
            time.sleep(pause_s)
            self.json(message())

    def reset(self) -> None:
        """Hang up with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def silence(self, seconds: float = MOST_SECONDS) -> None:
        """Say nothing until the lab hangs up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.server.closed:
            if select.select([self.sock], [], [], 0.05)[0] and not self.sock.recv(65536):
                return

    def endless(self, data: bytes, seconds: float = MOST_SECONDS) -> None:
        sent, deadline = 0, time.monotonic() + seconds
        while sent < MOST_BYTES and time.monotonic() < deadline and not self.server.closed:
            self.send(data)
            sent += len(data)

    def drip(self, data: bytes, pause_s: float) -> None:
        """One byte at a time, until all is said or nobody listens."""
        for byte in data:
            self.send(bytes([byte]))
            time.sleep(pause_s)
            if self.server.closed:
                return


class RawServer:
    """Listens on a free port of 127.0.0.1. `answer` writes to a Connection; `greet` may take a
    connection before it is read at all."""

    def __init__(
        self,
        answer: Callable[[Connection], None],
        greet: Callable[[Connection], bool] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answer, self.greet, self.tls = answer, greet or (lambda connection: False), tls
        self.asked: list[Asked] = []
        self.closed = False
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.sockets: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self.closed:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sockets.add(sock)
        with contextlib.suppress(OSError, ValueError):
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            connection = Connection(sock, self)
            if not self.greet(connection):
                while connection.read():
                    self.asked.append(connection.asked)
                    self.answer(connection)
                    if not connection.kept or connection.asked.headers.get("connection") == "close":
                        break
        with contextlib.suppress(OSError):
            sock.close()
        self.sockets.discard(sock)

    @property
    def nonces(self) -> list[str]:
        """In the order in which they were first seen; each is one trial."""
        return list(dict.fromkeys(asked.nonce for asked in self.asked if asked.nonce))

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.closed = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in list(self.sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
