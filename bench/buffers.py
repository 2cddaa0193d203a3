"""Is a stream that something holds back always named, and no other? `python -m bench.buffers
[--runs 50] [--streams 1000]`.

Runs of the streaming technique go through nginx as Debian installs it, and through planted buffers
of 4, 8 and 16 KiB, to the simulated server; then as many unbuffered streams, of other speeds and
lengths, of the simulated and the embedded model. `named` runs have the note. Ends with 1 where a
buffer went unnamed or a stream was suspected. nginx is left out, with a word, where it is not
installed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from bench.ground import Ground

KIB = 1024
KEEP_ALIVE = re.compile(rb"connection: keep-alive\r\n", re.IGNORECASE)
SPEEDS_MS = (2, 4, 8)
"""Gaps between tokens behind a buffer."""
FAST_MS = (0.3, 0.5, 1, 2, 4, 8, 16, 30)
"""Gaps between tokens of unbuffered streams; the shortest is 3,300 tokens a second."""
NGINX = """
worker_processes 1; daemon off; error_log stderr crit; pid {folder}/nginx.pid; user root;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {url}; }} }}
}}
"""


class Buffer:
    """A proxy on a port of its own that passes an answer on when `size` bytes are full, or at its
    end; 0: as it comes."""

    def __init__(self, url: str, size: int) -> None:
        parts = urlsplit(url)
        self.upstream, self.size = (parts.hostname, parts.port), size
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        """One request; both sides close after it, so that the end of its answer is plain."""
        with (
            contextlib.suppress(OSError),
            client,
            socket.create_connection(self.upstream) as server,
        ):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head = b""
            while b"\r\n\r\n" not in head and (data := client.recv(65536)):
                head += data
            first, _, rest = head.partition(b"\r\n")
            server.sendall(first + b"\r\nConnection: close\r\n" + KEEP_ALIVE.sub(b"", rest))
            threading.Thread(target=self._up, args=(client, server), daemon=True).start()
            held, passed_on = b"", False
            while data := server.recv(65536):
                held += (
                    data if passed_on else data.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
                )
                passed_on = True
                while len(held) >= max(1, self.size):
                    passed = self.size or len(held)
                    client.sendall(held[:passed])
                    held = held[passed:]
            client.sendall(held)

    @staticmethod
    def _up(client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)

    def close(self) -> None:
        self.listener.close()


@contextlib.contextmanager
def nginx(url: str) -> Iterator[str]:
    """nginx with its own defaults before a URL, so with proxy_buffering on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="lab-nginx-"))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, url=url))
    process = subprocess.Popen(
        [shutil.which("nginx"), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


class Outcome(NamedTuple):
    named: bool
    held: int
    told: int
    streams: int
    typical: str


def run(url: str, key: str, tokens: int, blocks: int) -> Outcome:
    """One run of streaming, in this process, and what it says of its streams."""
    from lab import results
    from lab.endpoints import consent
    from lab.harness.runner import BenchmarkRunner
    from lab.settings import config_of
    from lab.stats import bursts
    from lab.store import queries
    from lab.store.store import Store

    os.environ["LAB_LOCAL_KEY"] = key
    consent.allow(url, key=False)
    store = Store()
    knobs = {"answer_tokens": max(16, tokens)}
    asyncio.run(
        BenchmarkRunner(
            config_of(technique="streaming", endpoint=url, runs=blocks, warmup=0, knobs=knobs),
            store,
        ).run()
    )
    run_id = queries.last_run_id(store)
    streams = bursts.of_calls(queries.text_arrivals(store, run_id))
    held = [stream for stream in streams if stream.held]
    named = any("held back the stream" in note for note in results.read(run_id, store).notes)
    told = sum(stream.held is not None for stream in streams)
    return Outcome(named, len(held), told, len(streams), held[0].words if held else "")


def knobs(rng: random.Random, gap_ms: float, tokens: int) -> dict:
    # The text differs by seed, so that the pieces differ in length; a queue of 60 ms stands for the
    # way there and the prompt's reading.
    return {"queue_ms": 60, "gap_ms": gap_ms, "answer_tokens": tokens, "seed": rng.randrange(10**6)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--runs", type=int, default=50, help="runs for each kind of buffer; 0: none"
    )
    parser.add_argument(
        "--streams",
        type=int,
        default=1000,
        help="unbuffered streams, one in fifty of the embedded model; 0: none",
    )
    arguments = parser.parse_args()
    ground = Ground()
    os.environ.update(
        {name: value for name, value in ground.environment.items() if name.startswith("LAB_")},
        LAB_IGNORE_KEYS="1",
    )
    from lab import endpoint_kinds, processes
    from lab.local.control import Control

    rng = random.Random(10)
    card = processes.local_server(endpoint_kinds.SIMULATED)
    control = Control(card.base_url, card.api_key)
    wrong = 0
    print(
        f"{'':<28} {'runs':>5} {'named':>6} {'streams':>8} {'held':>5} {'cannot tell':>12}   of one"
    )

    def tell(kind: str, outcomes: list[Outcome]) -> None:
        if not outcomes:
            return
        named, streams = sum(o.named for o in outcomes), sum(o.streams for o in outcomes)
        held, told = sum(o.held for o in outcomes), sum(o.told for o in outcomes)
        typical = next((o.typical for o in outcomes if o.typical), "")
        print(
            f"{kind:<28} {len(outcomes):>5} {named:>6} {streams:>8,} {held:>5} {streams - told:>12}"
            f"   {typical}",
            flush=True,
        )

    def behind(url: str) -> list[Outcome]:
        outcomes = []
        for _ in range(arguments.runs):
            tokens, gap = rng.choice((11, 24, 48, 96, 160)), rng.choice(SPEEDS_MS)
            control.reset()
            control.knobs(**knobs(rng, gap, tokens))
            outcomes.append(run(url, card.api_key, tokens, 3))
            if not outcomes[-1].named:
                print(f"unnamed: {tokens} tokens, {gap} ms apart: {outcomes[-1]}", file=sys.stderr)
        return outcomes

    try:
        if shutil.which("nginx"):
            with nginx(card.base_url) as url:
                outcomes = behind(url)
            wrong += sum(not outcome.named for outcome in outcomes)
            tell("nginx, its defaults", outcomes)
        else:
            print("nginx is not installed (apt-get install nginx-light): left out")
        for size in (4, 8, 16):
            buffer = Buffer(card.base_url, size * KIB)
            outcomes = behind(buffer.base_url)
            buffer.close()
            wrong += sum(not outcome.named for outcome in outcomes)
            tell(f"a buffer of {size} KiB", outcomes)
        left, blocks = arguments.streams - arguments.streams // 50, 10
        for gap in FAST_MS:
            outcomes = []
            for _ in range(-(-left // len(FAST_MS) // blocks)):
                tokens = rng.choice((12, 32, 80, 160) if gap < 8 else (12, 32, 64))
                control.reset()
                control.knobs(**knobs(rng, gap, tokens))
                outcomes.append(run(card.base_url, card.api_key, tokens, blocks))
            wrong += sum(outcome.named for outcome in outcomes)
            tell(f"unbuffered, {gap} ms a token", outcomes)
        local = processes.local_server()
        outcomes = [
            run(local.base_url, local.api_key, 48, 10) for _ in range(-(-arguments.streams // 500))
        ]
        wrong += sum(outcome.named for outcome in outcomes)
        tell("unbuffered, embedded model", outcomes)
    finally:
        ground.close()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
