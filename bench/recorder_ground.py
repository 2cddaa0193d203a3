"""What the recorder's benches and tests stand on: a recorder's wire in this process, a raw client,
and a tap that keeps what crosses a connection. None of it parses with the lab's own code.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lab.recorder.observed_call import ObservedCall
from lab.recorder.proxy import Proxy
from lab.recorder.upstream import Upstream


@dataclass
class Wire:
    url: str
    port: int
    calls: list[ObservedCall]
    proxy: Proxy


@contextlib.contextmanager
def wire(upstream: str | Upstream) -> Iterator[Wire]:
    """A recorder without a writer, on a loop in a thread of its own; what it observed in `calls`,
    without the bodies."""
    if isinstance(upstream, str):
        upstream = Upstream("raw", "live", upstream)
    calls: list[ObservedCall] = []
    ready, ended = threading.Event(), threading.Event()
    kept: dict = {}

    async def main() -> None:
        proxy = Proxy(upstream, calls.append)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(proxy.accept, "127.0.0.1", 0, backlog=1024)
        stop = asyncio.Event()
        kept.update(proxy=proxy, stop=stop, loop=loop, port=server.sockets[0].getsockname()[1])
        ready.set()
        await stop.wait()
        server.close()
        proxy.close()
        await asyncio.sleep(0.05)

    def run() -> None:
        from lab.recorder.serving import run

        run(main)
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    ready.wait(10)
    try:
        port = kept["port"]
        yield Wire(f"http://127.0.0.1:{port}", port, calls, kept["proxy"])
    finally:
        kept["loop"].call_soon_threadsafe(kept["stop"].set)
        ended.wait(10)


class Met(NamedTuple):
    """What a client met."""

    data: bytes
    ending: str
    """closed (FIN), reset (RST), or left: it hung up itself."""


def ask(port: int, request: bytes, most_bytes: int = 1 << 40, within_s: float = 20.0) -> Met:
    """Send, and read to the end, or to so many bytes, or so long."""
    got, size, until = [], 0, time.monotonic() + within_s
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BrokenPipeError):
                sock.sendall(request)
            while size < most_bytes:
                sock.settimeout(max(until - time.monotonic(), 0.001))
                piece = sock.recv(1 << 20)
                if not piece:
                    return Met(b"".join(got), "closed")
                got.append(piece)
                size += len(piece)
    except TimeoutError:
        pass
    except ConnectionError:
        return Met(b"".join(got), "reset")
    return Met(b"".join(got)[:most_bytes], "left")


@dataclass
class Crossing:
    """One connection, both ways."""

    asked: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)


class Tap:
    """Hands a connection on to another port and keeps every byte, with threads and sockets only."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.crossings: list[Crossing] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            try:
                self.greet(sock)
                other = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                sock.close()
                continue
            crossing = Crossing()
            self.crossings.append(crossing)
            for source, sink, kept in (
                (sock, other, crossing.asked),
                (other, sock, crossing.answered),
            ):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=_hand_on, args=(source, sink, kept), daemon=True).start()

    def greet(self, sock: socket.socket) -> None:
        """Before anything is handed on; OSError hangs up."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class ProxyTap(Tap):
    """An HTTP proxy that leads every CONNECT to one port, or refuses it."""

    def __init__(self, port: int, reply: bytes = b"HTTP/1.1 200 Yes\r\n\r\n") -> None:
        self.reply = reply
        self.heads: list[str] = []
        super().__init__(port)

    def greet(self, sock: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (data := sock.recv(1000)):
                raise OSError("it hung up")
            head += data
        self.heads.append(head.decode())
        sock.sendall(self.reply)
        if not self.reply.startswith(b"HTTP/1.1 200"):
            raise OSError("refused")


def _hand_on(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            kept += data
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def until(true: Callable[[], bool], within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(true())
