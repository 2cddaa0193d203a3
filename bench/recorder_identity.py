"""Whether the recorder changes a byte: `python -m bench.recorder_identity [--calls N] [--quick]`.

1. Clients that nobody here wrote (the official SDK's sync, async and streaming calls, tools,
   count_tokens, batches and their refusal; Claude Code where npm gives it) ask the simulated server
   through a recorder that stands between two taps: what went in is held against what came out, both
   ways, byte for byte, body by body.
2. The same clients ask a server whose answers are always the same, with the recorder and without:
   what it was asked, and what it answered, must have the same hashes.
3. So many calls (1,000) meet every fault of the bench of faults, with the recorder and without it:
   the client must meet the same bytes and the same ending.

Prints a table; ends with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anthropic
import h11

from bench.broken import KINDS
from bench.raw_server import Connection, RawServer, message
from bench.recorder_ground import Crossing, Tap, ask, until
from lab import paths, recorder
from lab.endpoints import consent

KEY = "sk-ant-placeholder-of-the-bench"
TOOL = {
    "name": "look_up",
    "description": "Looks a word up.",
    "input_schema": {"type": "object", "properties": {"word": {"type": "string"}}},
}
CLAUDE = "@anthropic-ai/claude-code@2.1.332"


# Clients


def sdk(url: str, key: str, model: str) -> None:
    """Everything that the official SDK does with messages."""
    options = {"base_url": url, "api_key": key, "max_retries": 0}
    asked: dict[str, Any] = {
        "model": model,
        "max_tokens": 20,
        "messages": [{"role": "user", "content": "Grüße 👋, and a harbour."}],
        "system": [
            {"type": "text", "text": "Be kind. " * 300, "cache_control": {"type": "ephemeral"}}
        ],
    }
    with anthropic.Anthropic(**options) as client:
        client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            stream.get_final_message()
        client.messages.create(**asked, tools=[TOOL], extra_headers={"anthropic-beta": "x-2026"})
        with client.messages.stream(**asked, tools=[TOOL]) as stream:
            stream.get_final_message()
        client.messages.count_tokens(
            **{name: asked[name] for name in ("model", "messages", "system")}
        )
        for attempt in (
            lambda: client.messages.create(**asked | {"model": "none"}),
            lambda: client.messages.batches.create(requests=[]),
            lambda: client.messages.batches.retrieve("msgbatch_none"),
            lambda: client.models.retrieve("none"),
        ):
            with contextlib.suppress(anthropic.APIStatusError):
                attempt()

    async def at_once() -> None:
        async with anthropic.AsyncAnthropic(**options) as client:

            async def streamed() -> None:
                async with client.messages.stream(**asked) as stream:
                    await stream.get_final_message()

            await asyncio.gather(
                *(client.messages.create(**asked) for _ in range(4)),
                *(streamed() for _ in range(4)),
            )

    asyncio.run(at_once())


def claude_code(folder: Path, url: str, key: str, model: str) -> None:
    """In the same folder with the same home and session each time, so that it asks the same."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    (work / "notes.txt").write_text("The ferry leaves at nine.")
    shutil.rmtree(work / ".claude", ignore_errors=True)
    command = ["claude", "-p", "What do the notes say?", "--model", model, "--tools", "Read"]
    done = subprocess.run(
        [*command, "--session-id", "5f0c1c5e-7d0f-4a3e-9a57-1d2a7c9b0e11"],
        cwd=work,
        env={
            "PATH": f"{folder}/node_modules/.bin:{os.environ['PATH']}",
            "HOME": str(work),
            "LANG": "C.UTF-8",
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": key,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(f"claude ended with {done.returncode}: {done.stdout[-200:]}")


def installed(folder: Path) -> Path | None:
    """Where Claude Code is, fetched if need be; None where npm does not give it."""
    if (folder / "node_modules/.bin/claude").exists():
        return folder
    try:
        subprocess.run(
            [
                "npm",
                "install",
                "--silent",
                "--no-fund",
                "--no-audit",
                "--prefix",
                str(folder),
                CLAUDE,
            ],
            check=True,
            capture_output=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return folder


# What crossed


def bodies(raw: bytes, role: type, methods: list[bytes]) -> list[tuple[str, str]]:
    """(first words of the head, hash of the body) of each message in one direction of a connection,
    by h11, which the recorder does not use. `methods` are collected of requests, and used up by
    answers."""
    connection, made, body, head = (
        h11.Connection(role, max_incomplete_event_size=1 << 24),
        [],
        [],
        "",
    )
    connection.receive_data(raw)
    connection.receive_data(b"")
    while True:
        if role is h11.CLIENT and connection.our_state is h11.IDLE:
            if not methods:
                return made
            method = methods.pop(0)
            connection.send(h11.Request(method=method, target=b"/", headers=[(b"host", b"x")]))
            connection.send(h11.EndOfMessage())
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return made
        if isinstance(event, h11.Request):
            head = f"{event.method.decode()} {event.target.decode().partition('?')[0]}"
            methods.append(event.method)
        elif isinstance(event, h11.Response):
            head = str(event.status_code)
        elif isinstance(event, h11.Data):
            body.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            made.append((head, hashlib.sha256(b"".join(body)).hexdigest()))
            body = []
            if role is h11.SERVER:
                connection.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
                connection.send(h11.EndOfMessage())
            try:
                connection.start_next_cycle()
            except h11.LocalProtocolError:
                return made
        elif isinstance(event, h11.InformationalResponse):
            continue
        else:
            return made


def messages(crossings: list[Crossing]) -> Counter[tuple[str, str, str, str]]:
    """How often each request, hash of its body, status and hash of the answer's body."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for crossing in crossings:
        methods: list[bytes] = []
        asked = bodies(bytes(crossing.asked), h11.SERVER, methods)
        answered = bodies(bytes(crossing.answered), h11.CLIENT, methods)
        counts.update((*one, *other) for one, other in zip(asked, answered, strict=False))
    return counts


def paired(before: list[Crossing], after: list[Crossing], ports: tuple[int, int]) -> list[str]:
    """What differs between two taps on the two sides of a recorder, but for Host."""
    was, now = (f"127.0.0.1:{port}".encode() for port in ports)
    here = Counter((bytes(c.asked).replace(was, now), bytes(c.answered)) for c in before if c.asked)
    there = Counter((bytes(c.asked), bytes(c.answered)) for c in after if c.asked)
    return [
        f"{len(asked):,} bytes asked, {len(answered):,} answered: differs"
        for asked, answered in (here - there)
    ]


class Same:
    """A server that answers each kind of request with always the same bytes."""

    def __call__(self, c: Connection) -> None:
        path = c.asked.path.partition("?")[0]
        if path == "/v1/messages/count_tokens":
            c.json({"input_tokens": 17})
        elif path != "/v1/messages" or json.loads(c.asked.body).get("model") == "none":
            c.json({"type": "error", "error": {"type": "not_found_error", "message": "No."}}, 404)
        elif c.asked.stream:
            c.good()
        else:
            c.json(message())


def through_a_recorder(port: int) -> recorder.Card:
    url = f"http://127.0.0.1:{port}"
    consent.allow(url, key=False)
    return recorder.start(url)


def real_clients(clients: dict, served: dict) -> list[tuple[str, int, int, list[str]]]:
    """By client: requests, bytes, what differs between the recorder's two sides."""
    rows = []
    for name, client in clients.items():
        with Tap(int(served["base_url"].rpartition(":")[2])) as after:
            card = through_a_recorder(after.port)
            after.crossings.clear()  # whose server this is was asked
            with Tap(card.port) as before:
                client(before.url, served["api_key"], "simulated-small")
                until(lambda: len(after.crossings) >= len(before.crossings))
                time.sleep(0.5)
                wrong = paired(before.crossings, after.crossings, (before.port, after.port))
                here = messages(before.crossings)
                if here != messages(after.crossings):
                    wrong.append("a body's hash differs")
                size = sum(len(c.asked) + len(c.answered) for c in before.crossings)
                rows.append((name, here.total(), size, wrong))
            recorder.stop(card.run_id)
    return rows


def with_and_without(clients: dict) -> list[tuple[str, int, int, list[str]]]:
    """By client: requests, bytes, what differs between two runs of it against the same answers."""
    rows = []
    for name, client in clients.items():
        with RawServer(Same()) as server:
            crossed = []
            client(server.url, KEY, "m")  # what it writes into its home it has written then
            for recorded in (False, True):
                card = through_a_recorder(server.port) if recorded else None
                with Tap(card.port if card else server.port) as tap:
                    client(tap.url, KEY, "m")
                    time.sleep(0.3)
                    crossed.append(tap.crossings)
                if card:
                    recorder.stop(card.run_id)
            hashes = [messages(crossings) for crossings in crossed]
            gone, come = hashes[0] - hashes[1], hashes[1] - hashes[0]
            wrong = [f"{row[0]}: only without" for row in gone]
            wrong += [f"{row[0]}: only with" for row in come]
            size = sum(len(c.asked) + len(c.answered) for c in crossed[1])
            rows.append((name, hashes[1].total(), size, wrong))
    return rows


# Faults


def faults(calls: int, quick: bool) -> tuple[int, int, list[str]]:
    """Calls, kinds, and what differs."""
    rng, wrong, kinds = (
        random.Random(3),
        [],
        [k for k in KINDS.values() if k.path == "/v1/messages"],
    )
    rounds = [
        (kind, n, stream)
        for n in range(6)
        for kind in kinds
        for stream in {"any": (n % 2 == 0,), "stream": (True,), "whole": (False,)}[kind.shape]
        if n < 2 or not (kind.heavy or kind.slow)
    ][:calls]
    if quick:
        rounds = rng.sample(rounds, k=min(len(rounds), calls))
    now: dict[str, Any] = {"kind": KINDS["status 404"], "n": 0}

    def greet(connection: Connection) -> bool:
        if now["kind"].greets:
            now["kind"].answer(connection, now["n"])
        return now["kind"].greets

    def answer(connection: Connection) -> None:
        now["kind"].answer(connection, now["n"])

    with (
        RawServer(lambda c: c.json(b"", 404)) as elsewhere,
        RawServer(answer, greet) as server,
    ):
        server.elsewhere = elsewhere.url
        card = through_a_recorder(server.port)
        for place, (kind, n, stream) in enumerate(rounds):
            now.update(kind=kind, n=n)
            limit = {"most_bytes": 3_000_000, "within_s": 1.0} if kind.heavy or kind.slow else {}
            ports = (server.port, card.port)
            met = [ask(port, request(port, stream), **limit) for port in ports]
            if differs(kind, *met):
                wrong.append(
                    f"{kind.name} {n}: {len(met[0].data)} bytes {met[0].ending}, with it"
                    f" {len(met[1].data)} bytes {met[1].ending}"
                )
            if place % 50 == 49:
                print(f"\r{place + 1} calls", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        recorder.stop(card.run_id)
    return len(rounds), len({kind.name for kind, _, _ in rounds}), wrong


def request(port: int, stream: bool) -> bytes:
    asked = {"model": "m", "max_tokens": 9, "stream": stream}
    text = "hi [trial 0000000000000001]"
    body = json.dumps(asked | {"messages": [{"role": "user", "content": text}]}).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nx-api-key: {KEY}\r\n"
    return f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def differs(kind: Any, here: Any, there: Any) -> bool:
    one, other = here.data, there.data
    if "gzip" in kind.name:  # the second of the day is in its header
        one, other = (data.partition(b"\x1f\x8b")[0] + data[-20:] for data in (one, other))
        return len(here.data) != len(there.data) or one != other
    if kind.heavy or kind.slow:  # whoever asks has left before its end
        return not (one.startswith(other) or other.startswith(one))
    if kind.greets and "left" not in (here.ending, there.ending):
        # FIN or RST is a race between the server's close and the request, with it and without.
        return one != other
    return here != there


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    flags.add_argument("--calls", type=int, default=1000, help="with faults (default 1000)")
    flags.add_argument(
        "--claude", type=Path, metavar="DIR", help="where Claude Code is, or will be"
    )
    flags.add_argument("--quick", action="store_true", help="no Claude Code, 100 faults")
    chosen = flags.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lab-rec-"))
    os.environ |= {
        "LAB_RUNTIME": f"{folder}/r",
        "LAB_SETTINGS": f"{folder}/s",
        "LAB_DB": f"{folder}/lab.duckdb",
    }
    clients = {"anthropic SDK": sdk}
    if not chosen.quick and (claude := installed(chosen.claude or folder / "claude")):
        clients["Claude Code"] = lambda url, key, model: claude_code(claude, url, key, model)
    command = paths.module("lab.local", "--simulated", "--no-spin", "--idle-s", "900")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=paths.home())
    failed = False
    try:
        served = json.loads(server.stdout.readline())
        for title, rows in (
            ("both sides of the recorder, simulated server", real_clients(clients, served)),
            ("with and without, a server of fixed answers", with_and_without(clients)),
        ):
            print(f"\n{title}")
            for name, requests, size, wrong in rows:
                failed |= bool(wrong) or not requests
                print(f"  {name:<16} {requests:4} requests {size:12,} bytes  {len(wrong)} differ")
                print("".join(f"    {line}\n" for line in wrong[:5]), end="", flush=True)
        calls, kinds, wrong = faults(100 if chosen.quick else chosen.calls, chosen.quick)
        print(f"\nfaults: {calls:,} calls of {kinds} kinds, {len(wrong)} differ")
        print("".join(f"  {line}\n" for line in wrong), end="")
    finally:
        server.terminate()
        server.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
