"""A gateway before a server, with planted faults: `python -m bench.gateway URL [--handshake-ms 40]
[--buffer 8192] [--flush-ms 10] [--certificate PEM]`. It prints its address, serves until its
standard input ends, and then prints what the opening of each connection took, in ms.

It is a proxy of bytes on a loopback port of its own. One connection upstream stands for each of the
client's and lives as long, so that a kept connection is kept all the way. What it can do wrong:

    handshake_ms  a new connection is looked at so much later; with TLS before its handshake
    buffer        an answer is passed on when so many bytes are full, or at its end
    flush_ms      what came meanwhile is passed on together, so many milliseconds later
    idle_s        a connection that has rested for so long is closed
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools

AT_ONCE = 65_536


@dataclass
class Gateway:
    """Serves on a thread from `open()` to `close()`."""

    url: str
    handshake_ms: float = 0
    buffer: int = 0
    flush_ms: float = 0
    idle_s: float | None = None
    tls: ssl.SSLContext | None = None
    opening_ms: list[float] = field(default_factory=list)
    """Of each connection, from when it came to when it could carry a request."""

    def open(self) -> Gateway:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.listener.setblocking(False)
        self.loop = asyncio.new_event_loop()
        self.tasks: set[asyncio.Task] = set()
        self.serving = self.loop.create_task(self._serve())
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    @property
    def base_url(self) -> str:
        scheme, host = ("https", "localhost") if self.tls else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self.listener.getsockname()[1]}"

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self.serving)
        self.loop.close()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.serving.cancel)
        self.thread.join(5)
        self.listener.close()

    async def _serve(self) -> None:
        try:
            while True:
                client, _ = await self.loop.sock_accept(self.listener)
                task = self.loop.create_task(self._pass(client))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
        finally:
            tasks = [*self.tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass(self, client: socket.socket) -> None:
        """One connection of the client's, from its first byte to its last."""
        with contextlib.suppress(OSError, TimeoutError):
            came = time.perf_counter()
            # asyncio sets it only where the listener named its protocol.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.sleep(self.handshake_ms / 1000)
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            # Nothing is read of the connection, and no TLS begun, before this.
            transport, _ = await self.loop.connect_accepted_socket(
                lambda: protocol, client, ssl=self.tls
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, self.loop)
            self.opening_ms.append((time.perf_counter() - came) * 1000)
            parts = urlsplit(self.url)
            from_server, to_server = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                down = self.loop.create_task(Answers(self, from_server, writer).pass_on())
                await asyncio.wait(
                    {down, self.loop.create_task(self._up(reader, to_server))},
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                to_server.close()
                writer.close()

    async def _up(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while data := await asyncio.wait_for(reader.read(AT_ONCE), self.idle_s):
            to_server.write(data)


class Answers:
    """The server's answers on their way down one connection; httptools says where one ends."""

    def __init__(
        self, gateway: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.gateway, self.reader, self.writer = gateway, reader, writer
        self.held = b""
        self.is_whole = False
        self.timer: asyncio.TimerHandle | None = None
        self.parser = httptools.HttpResponseParser(self)

    def on_message_complete(self) -> None:
        self.is_whole = True

    async def pass_on(self) -> None:
        while data := await self.reader.read(AT_ONCE):
            self.is_whole = False
            self.parser.feed_data(data)
            self.held += data
            if not self.gateway.flush_ms:
                self._write()
            elif self.timer is None:
                self.timer = self.gateway.loop.call_later(self.gateway.flush_ms / 1000, self._write)
        self.is_whole = True  # what the server ended by closing
        self._write()

    def _write(self) -> None:
        self.timer = None
        for piece in self._due():
            self.writer.write(piece)

    def _due(self) -> Iterator[bytes]:
        size = self.gateway.buffer
        while self.held and (self.is_whole or len(self.held) >= size):
            passed = size or len(self.held)
            yield self.held[:passed]
            self.held = self.held[passed:]


@contextlib.contextmanager
def beside(url: str, **options: Any) -> Iterator[tuple[str, list[float]]]:
    """One in a process of its own, which no measuring loop has to share: its address, and a list
    that has what each connection took to open, in ms, once it is over."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    opening_ms: list[float] = []
    with subprocess.Popen(
        [sys.executable, "-m", "bench.gateway", url, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process.stdout.readline().strip(), opening_ms
        finally:
            process.stdin.close()
            opening_ms += json.loads(process.stdout.read() or "[]")


def certificate(folder: Path) -> Path:
    """For `localhost`, with its key, and vouching for itself: SSL_CERT_FILE takes it too. Needs
    openssl."""
    file = folder / "localhost.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", *curve, *subject, "-keyout", file, "-out", f"{file}.crt"]
    subprocess.run(made, check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="the server that it stands before")
    parser.add_argument("--handshake-ms", type=float, default=0)
    parser.add_argument("--buffer", type=int, default=0, metavar="BYTES")
    parser.add_argument("--flush-ms", type=float, default=0)
    parser.add_argument("--idle-s", type=float)
    parser.add_argument("--certificate", type=Path, help="a PEM with its key, for TLS")
    options = vars(parser.parse_args())
    if certificate := options.pop("certificate"):
        options["tls"] = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        options["tls"].load_cert_chain(certificate)
    gateway = Gateway(**options).open()
    print(gateway.base_url, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.read()
    print(json.dumps(gateway.opening_ms))


if __name__ == "__main__":
    main()
