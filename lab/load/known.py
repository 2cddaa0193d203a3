"""A server whose answers come at known instants, to measure clients against: a process of its own
(`python -m lab.load.known`).

POST /v1/messages and /v1/chat/completions answer like the two APIs: the first token 200 ms +
U[0,10) after the whole request was read, 64 tokens 10 ms apart, each one write. GET /known says of
each answer, by its id, when its request was read and when each token was written (ns of
lab.clock.now_ns, taken before the write); DELETE /known forgets them.

It is a plain loop over a selector: the timers of asyncio and uvloop count whole milliseconds.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import gc
import heapq
import json
import os
import random
import select
import selectors
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import httptools

from lab.clock import now_ns
from lab.load.known_answers import PATHS, WORDS, Chat, Messages

SPIN_NS = 200_000
"""A sleep wakes up to 0.1 ms late; with `spin` the last bit is not slept."""
IN_A_ROW = 4
"""Tokens that are written before the sockets are looked at: a request is read no later."""
STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"request-id: req_%s\r\ntransfer-encoding: chunked\r\n\r\n"
)


@dataclass(frozen=True)
class Pace:
    first_ms: float = 200.0
    spread_ms: float = 10.0
    """The first token comes up to so much later, uniformly."""
    tokens: int = 64
    """At most; a request may ask for fewer (max_tokens)."""
    gap_ms: float = 10.0


class Answer:
    """One answer under way, and what is known of it afterwards."""

    __slots__ = (
        "asked_as", "connection", "due_ns", "left", "read_ns", "streams", "words", "written",
    )  # fmt: skip

    def __init__(self, connection: Connection, words: Messages | Chat, asked: dict) -> None:
        self.connection, self.words, self.streams = connection, words, bool(asked.get("stream"))
        self.left = words.tokens
        self.asked_as = connection.asked_as
        """What the client called its request (x-request-id): some tell no id of the answer."""
        self.read_ns = self.due_ns = 0
        """Of its request; of its first token."""
        self.written = array.array("q")


class Connection:
    """One client's socket; httptools calls the `on_` methods."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server, self.sock = server, sock
        self.parser = httptools.HttpRequestParser(self)
        self.path, self.body, self.asked_as = b"", bytearray(), None
        self.is_open = True

    def readable(self) -> None:
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.server.read_ns = now_ns()
        try:
            if data:
                self.parser.feed_data(data)
                return
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            pass
        self.close()

    def write(self, data: bytes) -> None:
        """All of it at once, or not at all: who lets 100 KB wait is hung up on."""
        try:
            if self.is_open and self.sock.send(data) < len(data):
                self.close()
        except OSError:
            self.close()

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.server.selector.unregister(self.sock)
            self.sock.close()

    def on_message_begin(self) -> None:
        self.path, self.asked_as = b"", None
        self.body.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self.asked_as = value.decode("latin-1")

    def on_url(self, url: bytes) -> None:
        self.path += url

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        method, path = self.parser.get_method(), self.path.partition(b"?")[0]
        if method == b"POST" and path in PATHS:
            try:
                asked = json.loads(bytes(self.body))
                self.server.begin(self, PATHS[path], asked)
            except (ValueError, TypeError, AttributeError):
                self.json({"error": {"type": "invalid_request_error", "message": "?"}}, "400 Bad")
        else:
            self.json(self.server.told(method, path))

    def json(self, value: Any, status: str = "200 OK") -> None:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
        self.sock.setblocking(True)  # what is known of many answers is long
        with contextlib.suppress(OSError):
            self.sock.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        self.sock.setblocking(False)


class Server:
    def __init__(self, pace: Pace, port: int = 0, spin: bool = False) -> None:
        self.pace, self.spin_ns = pace, SPIN_NS if spin else 0
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.due: list[tuple[int, int, Answer]] = []
        self.known: dict[str, Answer] = {}
        self.count, self.read_ns, self.is_over = 0, 0, False
        self.random = random.Random(1)

    def accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(self, sock)
                self.selector.register(sock, selectors.EVENT_READ, connection.readable)

    def told(self, method: bytes, path: bytes) -> Any:
        if path == b"/v1/models":
            model = {"id": "known", "type": "model", "object": "model", "display_name": "known"}
            return {"object": "list", "data": [model], "has_more": False}
        if path != b"/known":
            return {"status": "ok"}
        known = {
            name: {
                "read_ns": answer.read_ns,
                "due_ns": answer.due_ns,
                "written_ns": answer.written.tolist(),
                "asked_as": answer.asked_as,
            }
            for name, answer in self.known.items()
        }
        if method == b"DELETE":
            self.known.clear()
            gc.collect()
            return {"forgotten": len(known)}
        return known

    def begin(self, connection: Connection, api: type, asked: dict[str, Any]) -> None:
        self.count += 1
        most = asked.get("max_tokens") or asked.get("max_completion_tokens") or self.pace.tokens
        tokens = max(1, min(most, self.pace.tokens))
        name = f"{api.start}{self.count:012d}"
        words = api(name, str(asked.get("model", "known")), tokens, asked)
        answer = self.known[name] = Answer(connection, words, asked)
        answer.read_ns = self.read_ns
        wait_ms = self.pace.first_ms + self.random.random() * self.pace.spread_ms
        answer.due_ns = answer.read_ns + int(wait_ms * 1e6)
        heapq.heappush(self.due, (answer.due_ns, self.count, answer))
        if answer.streams:
            connection.write(STREAM % name.encode() + words.head())

    def emit(self) -> None:
        """Write the token that is due first."""
        due_ns, number, answer = self.due[0]
        words, connection = answer.words, answer.connection
        data = words.token(len(answer.written)) if answer.streams else b""
        answer.written.append(now_ns())
        if data:
            connection.write(data)
        answer.left -= 1
        if answer.left and connection.is_open:
            due = (due_ns + int(self.pace.gap_ms * 1e6), number, answer)
            heapq.heapreplace(self.due, due)
            return
        heapq.heappop(self.due)
        if answer.streams:
            connection.write(words.end() + b"0\r\n\r\n")
        else:
            texts = (WORDS[place % len(WORDS)] for place in range(len(answer.written)))
            connection.json(words.whole(" ".join(texts)))

    def serve(self) -> None:
        """Until `is_over`."""
        while not self.is_over:
            for _ in range(IN_A_ROW):
                if not self.due or self.due[0][0] > now_ns():
                    break
                self.emit()
            for key, _ in self.selector.select(self.idle_s()):
                key.data()

    def end(self) -> None:
        self.is_over = True

    def idle_s(self) -> float | None:
        """Sleep until shortly before the next token, to the microsecond where the system can:
        epoll itself counts milliseconds. What a selector may wait afterwards."""
        if not self.due:
            return None
        wait_ns = self.due[0][0] - now_ns() - self.spin_ns
        if wait_ns > 0:
            select.select([self.selector.fileno()], [], [], wait_ns / 1e9)
        return 0


def start(pace: Pace | None = None, core: int | None = None) -> subprocess.Popen:
    """The server as a child that ends with this process; `base_url` waits for it. On a core of its
    own it spins."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in vars(pace or Pace()).items()]
    flags += [] if core is None else [f"--core={core}", "--spin"]
    from lab import paths

    command = paths.module("lab.load.known", "--with-parent", *flags)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, cwd=paths.home(), **pipes)


def base_url(server: subprocess.Popen) -> str:
    """Of a server just started. Raises LabError where it ended at once."""
    line = server.stdout.readline()
    if not line:
        from lab.model import LabError  # pydantic, which the server must do without

        raise LabError("The server with known answers did not start; run python -m lab.load.known.")
    return json.loads(line)["base_url"]


def truth(url: str) -> dict[str, dict[str, Any]]:
    """What GET /known says: by the id of each answer read_ns, due_ns (of the first token) and
    written_ns (of each)."""
    import http.client  # the server itself needs none of it

    server = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    with contextlib.closing(server):
        server.request("GET", "/known")
        return json.loads(server.getresponse().read())


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m lab.load.known", description=__doc__)
    flags.add_argument("--port", type=int, default=0, help="0 for a free one")
    for name, value in vars(Pace()).items():
        flags.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    flags.add_argument("--core", type=int, help="the core that it keeps to (Linux)")
    flags.add_argument("--spin", action="store_true", help="wake to the microsecond: a whole core")
    flags.add_argument("--with-parent", action="store_true", help="end when stdin does")
    options = flags.parse_args()
    if options.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    pace = Pace(*(getattr(options, name) for name in vars(Pace())))
    server = Server(pace, options.port, options.spin)
    if options.with_parent:
        server.selector.register(sys.stdin, selectors.EVENT_READ, server.end)
    address = {"base_url": f"http://127.0.0.1:{server.port}", "pid": os.getpid()}
    print(json.dumps(address), flush=True)
    gc.freeze()
    gc.disable()
    with contextlib.suppress(KeyboardInterrupt):
        server.serve()


if __name__ == "__main__":
    main()
