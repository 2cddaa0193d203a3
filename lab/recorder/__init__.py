"""The recorder: it stands between the user's application and its API, hands every byte on, and
keeps what each call took. A process of its own; here it is started, found and stopped.

Each leaves a card (0600) in the runtime folder: recorder/RUN_ID.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab import clock, machine, paths, processes
from lab.model import LabError

STOP_S = 70.0
_started: list[subprocess.Popen] = []


@dataclass(frozen=True)
class Card:
    """A recorder that runs now."""

    run_id: str
    port: int
    pid: int
    born: str | None
    """What machine.born() says of the pid."""
    upstream: str
    """The endpoint's name or origin."""
    kind: str
    base_url: str
    """Of the upstream."""
    keep_text: bool
    since_utc: str
    own_key: str = ""
    """Of the lab's own server, where that is upstream: what its clients must send."""

    @property
    def url(self) -> str:
        """What the application's base URL must be."""
        return f"http://127.0.0.1:{self.port}"


def start(
    upstream: str | None = None,
    keep_text: bool = False,
    port: int | None = None,
    name: str | None = None,
) -> Card:
    """Start a recorder in a process of its own, which goes on without whoever started it.

    `upstream` is an endpoint's name or a base URL; None is where the SDK would go. Raises LabError;
    ConsentNeeded for an address that nobody has agreed to.
    """
    from lab.recorder import upstream as upstreams

    resolved = upstreams.find(upstream)
    order = {
        "upstream": asdict(resolved),
        "db": str(paths.database()),
        "keep_text": keep_text,
        "name": name,
        "port": port or 0,
    }
    log = folder() / "recorder.log"
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        process = subprocess.Popen(
            paths.module("lab.recorder"),
            cwd=paths.home(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=out,
            start_new_session=True,
        )
    _started.append(process)
    with process.stdin as orders:
        orders.write(json.dumps(order).encode())
    with process.stdout as answer:
        line = answer.readline()
    try:
        answered = json.loads(line)
    except ValueError:
        answered = {}
    for card in cards():
        if card.run_id == answered.get("run_id"):
            return card
    raise LabError(answered.get("text") or f"The recorder ended at once; its log is {log}.")


def cards() -> list[Card]:
    """The recorders that run now, the latest first. What a dead one left behind is removed."""
    # A child that has ended stays a process until its parent asks.
    _started[:] = [process for process in _started if process.poll() is None]
    alive = []
    for file in sorted(folder().glob("*.json"), reverse=True):
        try:
            card = Card(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            continue
        if card.born and machine.born(card.pid) == card.born:
            alive.append(card)
        else:
            file.unlink(missing_ok=True)
    return alive


def current() -> Card | None:
    """The recorder that was started last, of those that run now."""
    return next(iter(cards()), None)


def stop(run_id: str | None = None) -> str | None:
    """End a recorder (the latest, unless its run is given) and answer with its run once all is
    written, or after STOP_S: it then goes on by itself. None where there is none. Calls under way
    have two seconds."""
    card = next((card for card in cards() if run_id in (None, card.run_id)), None)
    if card is None:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(card.pid, signal.SIGTERM)
    deadline_ns = clock.now_ns() + int(STOP_S * 1e9)
    while card in cards() and clock.now_ns() < deadline_ns:
        clock.pause_s(0.02)
    return card.run_id


def told(run_id: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """What a recorder has said of itself since `offset`, and the offset to ask from next: `kind` is
    call, note, lost, waiting or ended."""
    return processes.read_progress(run_id, offset)


def unrecorded(lost: Mapping[str, int], whose: str = "") -> list[str]:
    """What is missing in a recording, in words, from how many calls by why."""
    from lab import units  # for an observed application, only where something is

    return [
        f"{units.counted(calls, 'call')}{whose} {'was' if calls == 1 else 'were'} not recorded:"
        f" {reason}."
        for reason, calls in lost.items()
    ]


def folder() -> Path:
    folder = paths.runtime() / "recorder"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextlib.contextmanager
def announced(card: Card):
    """While a recorder runs, whoever looks finds it."""
    file = folder() / f"{card.run_id}.json"
    paths.write_private(file, asdict(card))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def card_of(run_id: str, port: int, upstream: Any, keep_text: bool) -> Card:
    return Card(
        run_id=run_id,
        port=port,
        pid=os.getpid(),
        born=machine.born(os.getpid()),
        upstream=upstream.name,
        kind=upstream.kind,
        base_url=upstream.base_url,
        keep_text=keep_text,
        since_utc=clock.utc_now().isoformat(),
        own_key=upstream.api_key,
    )


def paste_lines(card: Card) -> dict[str, str]:
    """What to paste, by where: Shell, Python, TypeScript, Claude Code. Of the lab's own server its
    random loopback key is part of it; no other key is known here."""
    url, key = card.url, card.own_key
    python = [f'base_url="{url}"', *([f'api_key="{key}"'] if key else [])]
    script = [f'baseURL: "{url}"', *([f'apiKey: "{key}"'] if key else [])]
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings(card).items())
    return {
        "Shell": f"export {variables}",
        "Python": f"client = Anthropic({', '.join(python)})",
        "TypeScript": f"const client = new Anthropic({{ {', '.join(script)} }});",
        "Claude Code": f"{variables} claude",
    }


def settings(card: Card) -> dict[str, str]:
    """The variables that lead an application through the recorder."""
    key = {"ANTHROPIC_API_KEY": card.own_key} if card.own_key else {}
    return {"ANTHROPIC_BASE_URL": card.url, **key}


def command_environment(card: Card) -> dict[str, str]:
    """This process's variables, changed for a command that is to go through the recorder."""
    environment = {**os.environ, **settings(card)}
    if card.own_key:  # a login of the user's own is nothing that the lab's server knows
        for name in ("ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"):
            environment.pop(name, None)
    names = ("no_proxy", "NO_PROXY")  # a proxy of the environment cannot reach this machine
    own = [environment.get(name) for name in names]
    for name, value in zip(names, own, strict=True):
        hosts = [value or own[0] or own[1], "127.0.0.1,localhost"]
        environment[name] = ",".join(filter(None, hosts))
    return environment
