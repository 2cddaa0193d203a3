"""`python -m lab.local`: bind a loopback port, say where, serve until SIGTERM or until nobody has
asked for long."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import secrets
import shlex
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from lab import clock, machine, paths
from lab.local.server import Server
from lab.local.simulated import Simulated
from lab.model import LabError
from lab.version import VERSION


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        prog="python -m lab.local", description="Serve the Messages API on 127.0.0.1."
    )
    flags.add_argument(
        "--simulated",
        action="store_true",
        help="the scripted latency model instead of the embedded one",
    )
    flags.add_argument("--port", type=int, default=0, help="0 takes a free port")
    flags.add_argument(
        "--announce",
        type=Path,
        help="write address, key and pid to this file, readable by its owner only",
    )
    flags.add_argument(
        "--idle-s",
        type=float,
        default=600,
        help="end after this many seconds without a request or lease; 0 is never",
    )
    flags.add_argument(
        "--knobs", type=json.loads, default={}, help="JSON: knobs of the latency model"
    )
    flags.add_argument(
        "--alias",
        action="store_true",
        help="answer to Claude's names too: haiku is the small model, all others the large",
    )
    flags.add_argument(
        "--exports",
        action="store_true",
        help="print the lines, too, that point a shell's clients here",
    )
    flags.add_argument(
        "--minimum-tokens", type=int, default=256, help="the shortest prefix that is cached"
    )
    flags.add_argument(
        "--no-spin",
        dest="spin",
        action="store_false",
        help="sleep only: a core less, and instants hit within a fraction of a millisecond",
    )
    return flags


class Quiet(uvicorn.Server):
    """uvicorn without its signal handling, which would end a clean stop with the signal's exit
    code."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


class Stamped(AutoHTTPProtocol):
    """A request is received when its last bytes leave the socket, not when the event loop gets
    round to whoever answers it."""

    def data_received(self, data: bytes) -> None:
        at_ns = clock.now_ns()
        super().data_received(data)
        if self.scope is not None:
            self.scope["received_ns"] = at_ns


async def serve(
    server: Server, listener: socket.socket, ready: dict[str, Any], flags: argparse.Namespace
) -> None:
    config = uvicorn.Config(
        server,
        http=Stamped,
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=900,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    quiet = Quiet(config)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, lambda: setattr(quiet, "should_exit", True))
    serving = asyncio.create_task(quiet.serve(sockets=[listener]))
    while not quiet.started and not serving.done():
        await clock.sleep_s(0.005)
    if flags.announce:
        pid = os.getpid()
        process = {"pid": pid, "born": machine.born(pid), "version": VERSION}
        paths.write_private(flags.announce, {**ready, **process})
    print(json.dumps(ready), flush=True)
    if flags.exports:
        print(
            f"export ANTHROPIC_BASE_URL={ready['base_url']}\nexport"
            f" ANTHROPIC_API_KEY={shlex.quote(ready['api_key'])}",
            flush=True,
        )
    longest_s = flags.idle_s or math.inf
    while not serving.done():
        await asyncio.wait({serving}, timeout=min(5.0, max(longest_s / 4, 0.1)))
        if server.idle_s() > longest_s:
            quiet.should_exit = True
    await serving


def withdraw(path: Path) -> None:
    """Remove the announcement if it is still this process's own."""
    with contextlib.suppress(OSError, ValueError):
        if json.loads(path.read_text())["pid"] == os.getpid():
            path.unlink()


def bind(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        raise LabError(
            f"Port {port} of 127.0.0.1 cannot be taken ({error.strerror}). Choose another with"
            " --port, or --port 0 for any free one."
        ) from error
    except OverflowError:
        raise LabError(f"There is no port {port}: ports go from 0 to 65535.") from None
    return listener


def engine_for(flags: argparse.Namespace) -> Any:
    if not flags.simulated:
        from lab.local.llama import Llama

        return Llama(flags.minimum_tokens)
    engine = Simulated(flags.spin and machine.cores() > 1, flags.minimum_tokens)
    try:
        engine.turn(flags.knobs)
    except ValueError as error:
        raise LabError(f"--knobs: {error}") from error
    return engine


def main(arguments: list[str] | None = None) -> int:
    flags = parser().parse_args(arguments)
    engine = None
    try:
        listener = bind(flags.port)
        engine = engine_for(flags)
        key = os.environ.get("LAB_LOCAL_KEY") or secrets.token_urlsafe(24)
        ready = {
            "base_url": f"http://127.0.0.1:{listener.getsockname()[1]}",
            "api_key": key,
            "models": engine.tiers,
        }
        run = asyncio.run
        with contextlib.suppress(ImportError):
            from uvloop import run
        run(serve(Server(engine, key, flags.alias), listener, ready, flags))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if flags.announce:
            withdraw(flags.announce)
        if engine:
            engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
