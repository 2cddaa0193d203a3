"""`python -m lab.local`: bind a loopback port, say where, serve until SIGTERM or until nobody has
asked for long."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
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

from lab import clock, machine
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
        help="end after so many seconds without a request or lease; 0 is never",
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
        "--play-spin",
        dest="spin",
        action="store_true",
        default=None,
        help="hit instants within microseconds, at the price of a core",
    )
    flags.add_argument(
        "--no-spin", dest="spin", action="store_false", help="sleep only (where cores are few)"
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
    server: Server,
    listener: socket.socket,
    idle_s: float,
    ready: dict[str, Any],
    announce: Path | None,
    exports: bool = False,
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
    if announce:
        write_private(
            announce,
            {
                **ready,
                "pid": os.getpid(),
                "born": machine.born(os.getpid()),
                "version": VERSION,
            },
        )
    print(json.dumps(ready), flush=True)
    if exports:
        print(
            f"export ANTHROPIC_BASE_URL={ready['base_url']}\nexport"
            f" ANTHROPIC_API_KEY={shlex.quote(ready['api_key'])}",
            flush=True,
        )
    while not serving.done():
        await asyncio.wait({serving}, timeout=min(5.0, max(idle_s / 4, 0.1)) if idle_s else 5.0)
        if idle_s and server.idle_s() > idle_s:
            quiet.should_exit = True
    await serving


def write_private(path: Path, card: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(card, file)
    draft.replace(path)


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
    return listener


def engine_for(flags: argparse.Namespace) -> Any:
    if not flags.simulated:
        from lab.local.llama import Llama

        return Llama(minimum_tokens=flags.minimum_tokens)
    spare = machine.cores() > 1
    engine = Simulated(
        spin=spare if flags.spin is None else flags.spin and spare,
        minimum_tokens=flags.minimum_tokens,
    )
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
        run(
            serve(
                Server(engine, key, flags.alias),
                listener,
                flags.idle_s,
                ready,
                flags.announce,
                flags.exports,
            )
        )
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
