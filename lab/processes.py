"""Processes of the lab on this machine: the local server and the worker are started, found and
stopped here, and one measures at a time.

Everything is in the runtime folder: local.json and simulated.json (a server's card, 0600),
measure.lock (held by whoever measures) and measure.queue (by who waits to be next),
runs/RUN_ID.json (what a worker shall do), .jsonl (its progress), .stop (asks it to end), .log (what
it could not say otherwise), .recording (which process records it).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab import clock, endpoint_kinds, machine, paths
from lab.endpoints import own_server
from lab.model import LabError, new_id
from lab.version import VERSION

SERVER_START_S = 300.0
SLOW_ANSWER_S = 60.0
WORKER_START_S = 60.0
"""A busy machine makes it slow; one that has ended is not waited for."""
TURN_S, TURN_POLL_S = 2.0, 0.05
NAMELESS_S = 3.0
"""So long whoever holds the lock may have no name: one that only looks, or is just starting, may be
kept from its core."""
_started: list[subprocess.Popen] = []
_asked: dict[str, Any] = {}
"""The configs of the last runs that this process has asked for, by run: what a run does not keep of
its user's words is there for more of its blocks as long as this process lives."""
REMEMBERED = 20


@dataclass(frozen=True)
class ServerCard:
    base_url: str
    api_key: str = field(repr=False)
    models: dict[str, str]
    pid: int


@dataclass(frozen=True)
class RunCard:
    """Who measures on this machine now."""

    run_id: str
    technique: str
    pid: int
    born: str | None
    """What machine.born() says of the pid: another process may have that number by now."""
    since_utc: str

    @property
    def text(self) -> str:
        return (
            f"{self.technique} is being measured (run {self.run_id}, process {self.pid}, since"
            f" {self.since_utc[11:16]} UTC)"
        )


# The local server


def local_server(kind: str = endpoint_kinds.LOCAL) -> ServerCard:
    """The lab's own server of a kind, found or started; whoever comes second waits for the first to
    have started it."""
    with locked(paths.runtime() / f"{kind}.start", wait=True):
        return _server(kind) or _start_server(kind)


def _server(name: str) -> ServerCard | None:
    """The server whose card is in the runtime folder. While its process lives it is waited for: a
    busy machine makes it slow, not dead."""
    card = _read(paths.runtime() / f"{name}.json")
    if card.get("version") != VERSION or not isinstance(card.get("pid"), int):
        return None
    until_ns = clock.now_ns() + int(SLOW_ANSWER_S * 1e9)
    try:
        # A pid alone could be another process's by now, and an address too.
        while machine.born(card["pid"]) == card["born"] and clock.now_ns() < until_ns:
            if own_server.kind_at(card["base_url"], 2.0) == name:
                return ServerCard(card["base_url"], card["api_key"], card["models"], card["pid"])
    except (KeyError, TypeError, ValueError):
        return None
    return None


def _start_server(name: str) -> ServerCard:
    card, log = paths.runtime() / f"{name}.json", paths.runtime() / f"{name}.log"
    card.unlink(missing_ok=True)
    flags = endpoint_kinds.named(name).server_flags
    command = paths.module("lab.local", "--announce", str(card), *flags)
    process = _detached(command, log, {"LAB_LOCAL_KEY": ""})
    deadline = clock.now_ns() + SERVER_START_S * 1e9
    while clock.now_ns() < deadline:
        if process.poll() is not None:
            raise LabError(f"The {name} server ended at once: {_last_words(process, log)}")
        if server := _server(name):
            return server
        clock.pause_s(0.02)
    process.terminate()
    raise LabError(
        f"The {name} server did not start within {SERVER_START_S:.0f} s; its log is {log}."
    )


def _last_words(process: subprocess.Popen, log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {process.returncode}"


def _detached(command: list[str], log: Path, changes: dict[str, str]) -> subprocess.Popen:
    """A process in a session of its own: Ctrl-C in a dashboard's terminal does not reach it."""
    environment = {**os.environ, **changes}
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        process = subprocess.Popen(
            command,
            cwd=paths.home(),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    _started.append(process)
    return process


# The measurement lock


class Busy(LabError):
    """Another run is being measured."""


def await_turn(note: Callable[[str], None], patience_s: float = TURN_S) -> None:
    """Wait until nobody measures, however long that takes; `note` is told once who keeps this one
    waiting.

    Whoever waits stands in a queue first: one that measures again and again would else always be
    there before it.
    """
    path, since_ns = paths.runtime() / "measure.queue", clock.now_ns()
    next_up = noted = False
    with contextlib.ExitStack() as queue:
        while True:
            with contextlib.suppress(BlockingIOError):
                if not next_up:
                    queue.enter_context(locked(path))
                    next_up = True
                if running() is None:
                    return
            if not noted and clock.now_ns() - since_ns > patience_s * 1e9:
                noted = True
                note(f"Waiting for this machine's one measurement: {_whose(running())}.")
            clock.pause_s(TURN_POLL_S)


@contextlib.contextmanager
def measuring(run_id: str, technique: str) -> Iterator[None]:
    """Hold the machine's one measurement; LabError says who holds it already. A dead holder's lock
    is free by itself (flock)."""
    path = paths.runtime() / "measure.lock"
    until_ns = clock.now_ns() + int(NAMELESS_S * 1e9)
    with contextlib.ExitStack() as stack:
        while True:
            try:
                lock = stack.enter_context(locked(path))
                break
            except BlockingIOError:
                if (card := running()) or clock.now_ns() > until_ns:
                    whose = _whose(card)
                    raise Busy(f"Only one run is measured at a time: {whose}.") from None
                clock.pause_s(0.02)
        card = RunCard(
            run_id=run_id,
            technique=technique,
            pid=os.getpid(),
            born=machine.born(os.getpid()),
            since_utc=clock.utc_now().isoformat(),
        )
        with contextlib.suppress(OSError):  # a full folder: the lock holds without its words
            os.ftruncate(lock, 0)
            os.pwrite(lock, json.dumps(asdict(card)).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(lock, 0)


def _whose(card: RunCard | None) -> str:
    return card.text if card else "another is just starting"


def running() -> RunCard | None:
    """Who measures now; None if nobody does."""
    # A child that has ended stays a process, and its lease in force, until its parent asks.
    _started[:] = [process for process in _started if process.poll() is None]
    path = paths.runtime() / "measure.lock"
    try:
        with locked(path, shared=True):
            return None
    except BlockingIOError:
        # A holder that was killed leaves its card to the next one, which holds the lock before it
        # writes its own.
        with contextlib.suppress(TypeError):
            card = RunCard(**_read(path))
            return card if card.born and machine.born(card.pid) == card.born else None
        return None


@contextlib.contextmanager
def locked(path: Path, wait: bool = False, shared: bool = False) -> Iterator[int]:
    """Hold a file's lock, which a dead process lets go by itself; BlockingIOError where another has
    it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(
            descriptor,
            (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB),
        )
        yield descriptor
    finally:
        os.close(descriptor)


# Runs


def start_run(config: Any) -> str:
    """Start a worker for a BenchmarkConfig or a LoadConfig and answer with its run id; LabError at
    once while another run is measured."""
    if card := running():
        raise Busy(f"Only one run is measured at a time: {card.text}.")
    run_id = getattr(config, "join_run", None) or new_id()
    remember(run_id, config)
    path, log = _run_file(run_id, ".json"), _run_file(run_id, ".log")
    start_afresh(run_id)
    order = {"run_id": run_id, "config": config.model_dump(mode="json")}
    try:
        paths.write_private(path, order)
    except OSError as error:
        raise LabError(
            f"Cannot write {path.parent}: {error.strerror}. Make room there, or set LAB_RUNTIME to"
            " another folder."
        ) from error
    process = _detached(paths.module("lab.worker", str(path)), log, {})
    deadline = clock.now_ns() + WORKER_START_S * 1e9
    while process.poll() is None and clock.now_ns() < deadline:
        card = running()
        if (card and card.run_id == run_id) or read_progress(run_id)[0]:
            return run_id
        clock.pause_s(0.02)
    ending = [entry for entry in read_progress(run_id)[0] if entry["kind"] == "ended"]
    if process.poll() is not None and not ending:
        raise LabError(f"The worker ended before it measured: {_last_words(process, log)}")
    return run_id


# Recordings


def record(run_id: str) -> None:
    """This process writes a recording from now on, beside whoever measures."""
    card = {"pid": os.getpid(), "born": machine.born(os.getpid())}
    paths.write_private(_run_file(run_id, ".recording"), card)


def recorded(run_id: str) -> None:
    """It has ended."""
    _run_file(run_id, ".recording").unlink(missing_ok=True)


def recorded_now() -> frozenset[str]:
    """The recordings whose process lives; the cards of the others go."""
    alive = set()
    for card in (paths.runtime_folder() / "runs").glob("*.recording"):
        match _read(card):
            case {"pid": int(pid), "born": str(born)} if machine.born(pid) == born:
                alive.add(card.stem)
                continue
        card.unlink(missing_ok=True)
    return frozenset(alive)


def forget(run_id: str) -> None:
    """Every file of a run in the runtime folder, and what a watch keeps to be gone on with."""
    for folder in (paths.runtime_folder(), paths.settings() / "watches"):
        for file in folder.rglob(f"*{run_id}*"):
            if file.is_file():
                file.unlink(missing_ok=True)


def remember(run_id: str, config: Any) -> None:
    """A config with which a run was started here."""
    if getattr(config, "tasks", None) or getattr(config, "knobs", None):
        _asked[run_id] = config
        for oldest in list(_asked)[:-REMEMBERED]:
            del _asked[oldest]


def asked(run_id: str) -> Any:
    """The BenchmarkConfig with which this process has started a run; None where it has not."""
    return _asked.get(run_id)


def start_afresh(run_id: str) -> None:
    """Forget the progress, and the request to stop, of an earlier session of this run."""
    for old in (".jsonl", ".stop"):
        _run_file(run_id, old).unlink(missing_ok=True)


def stop(run_id: str) -> None:
    """Ask a run to end; it does within two seconds, and an answer on its way is cancelled."""
    _run_file(run_id, ".stop").touch(mode=0o600)


def stop_asked(run_id: str) -> bool:
    return _run_file(run_id, ".stop").exists()


def progress_path(run_id: str) -> Path:
    return _run_file(run_id, ".jsonl")


def add_progress(run_id: str, entry: dict[str, Any]) -> None:
    """One line more, whole or not at all; OSError where the folder takes no more."""
    line = (json.dumps(entry) + "\n").encode()
    descriptor = os.open(progress_path(run_id), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, line) < len(line):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(progress_path(run_id)))
    finally:
        os.close(descriptor)


def read_progress(run_id: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """What a run has said since `offset` (bytes), and the offset to ask from next; a line still
    being written waits."""
    try:
        with progress_path(run_id).open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    complete = data[: data.rfind(b"\n") + 1]
    # A torn or foreign line says nothing, and what comes after it still does.
    entries = map(_object, complete.splitlines())
    entries = [entry for entry in entries if isinstance(entry.get("kind"), str)]
    return entries, offset + len(complete)


def _run_file(run_id: str, suffix: str) -> Path:
    if not run_id or not set(run_id) <= set("0123456789abcdefABCDEF-"):
        raise LabError(f"{run_id!r} is not the id of a run.")
    folder = paths.runtime() / "runs"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{run_id}{suffix}"


def _read(path: Path) -> dict[str, Any]:
    """A card; empty where there is none, or anything else in its place."""
    try:
        return _object(path.read_bytes())
    except OSError:
        return {}


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
