"""Processes of the lab on this machine: the local server and the worker are started, found and stopped here, and one measures at a time.

Everything is in the runtime folder: local.json and simulated.json (a server's card, 0600), measure.lock (held by whoever measures) and
measure.queue (by who waits to be next), runs/RUN_ID.json (what a worker shall do), .jsonl (its progress), .stop (asks it to end), .log
(what it could not say otherwise).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lab
from lab import clock, paths
from lab.endpoints import own_server
from lab.model import LabError, new_id

SERVER_START_S = 300.0
SLOW_ANSWER_S = 60.0
TURN_S, TURN_POLL_S = 2.0, 0.05
ALIKE = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
"""In which every shell's `ps` words an instant alike."""
_started: list[subprocess.Popen] = []


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
    started: str
    since_utc: str

    @property
    def text(self) -> str:
        return f"{self.technique} is being measured (run {self.run_id}, process {self.pid}, since {self.since_utc[11:16]} UTC)"


def born(pid: int) -> str | None:
    """When a process started, as the system words it; with the pid it names one process for good. None if there is none."""
    try:
        # After the command's name, which may hold spaces and brackets: field 22 is the start time in ticks since boot.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        if sys.platform == "linux":
            return None
    except (OSError, IndexError):
        pass
    told = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env=ALIKE,
    )
    return told.stdout.strip() or None


# The local server


def local_server(simulated: bool = False) -> ServerCard:
    """The lab's own server, found or started; whoever comes second waits for the first to have started it."""
    name = "simulated" if simulated else "local"
    with _locked(paths.runtime() / f"{name}.start", wait=True):
        return _server(name) or _start_server(name)


def _server(name: str) -> ServerCard | None:
    """The server whose card is in the runtime folder. While its process lives it is waited for: a busy machine makes it slow, not dead."""
    card = _read(paths.runtime() / f"{name}.json") or {}
    if card.get("version") != lab.__version__ or not isinstance(card.get("pid"), int):
        return None
    until_ns = clock.now_ns() + int(SLOW_ANSWER_S * 1e9)
    try:
        while (
            (alive := born(card["pid"])) is not None
            and alive == card["born"]
            and clock.now_ns() < until_ns
        ):
            # A pid alone could be another process's by now, and an address too.
            if own_server.kind_at(card["base_url"], 2.0) == name:
                return ServerCard(card["base_url"], card["api_key"], card["models"], card["pid"])
    except (KeyError, TypeError, ValueError):
        return None
    return None


def _start_server(name: str) -> ServerCard:
    card, log = paths.runtime() / f"{name}.json", paths.runtime() / f"{name}.log"
    card.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "lab.local",
        "--announce",
        str(card),
        *(["--simulated"] if name == "simulated" else []),
    ]
    process = _detached(command, log, {"LAB_LOCAL_KEY": ""})
    deadline = clock.now_ns() + SERVER_START_S * 1e9
    while clock.now_ns() < deadline:
        if process.poll() is not None:
            said = log.read_text(errors="replace").strip().splitlines()
            raise LabError(
                f"The {name} server ended at once: {said[-1] if said else f'exit code {process.returncode}'}"
            )
        if found := _server(name):
            return found
        clock.pause_s(0.02)
    process.terminate()
    raise LabError(
        f"The {name} server did not start within {SERVER_START_S:.0f} s; its log is {log}."
    )


def _detached(command: list[str], log: Path, changes: dict[str, str]) -> subprocess.Popen:
    """A process in a session of its own: Ctrl-C in a dashboard's terminal does not reach it."""
    environment = {**os.environ, **changes}
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        process = subprocess.Popen(
            command,
            cwd=paths.ROOT,
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
    """Wait until nobody measures, however long that takes; `note` is told once who keeps this one waiting.

    Whoever waits stands in a queue first: one that measures again and again would else always be there before it.
    """
    path, next_up, noted, since_ns = paths.runtime() / "measure.queue", False, False, clock.now_ns()
    with contextlib.ExitStack() as queue:
        while True:
            with contextlib.suppress(BlockingIOError):
                if not next_up:
                    queue.enter_context(_locked(path))
                    next_up = True
                if running() is None:
                    return
            if not noted and clock.now_ns() - since_ns > patience_s * 1e9:
                card, noted = running(), True
                note(
                    f"Waiting for this machine's one measurement: {card.text if card else 'another is just starting'}."
                )
            clock.pause_s(TURN_POLL_S)


@contextlib.contextmanager
def measuring(run_id: str, technique: str) -> Iterator[None]:
    """Hold the machine's one measurement; LabError says who holds it already. A dead holder's lock is free by itself (flock)."""
    path = paths.runtime() / "measure.lock"
    with contextlib.ExitStack() as stack:
        for attempt in range(10):  # a reader that only looks holds the lock for a moment too
            try:
                held = stack.enter_context(_locked(path))
                break
            except BlockingIOError:
                if attempt < 9 and running() is None:
                    clock.pause_s(0.02)
                    continue
                card = running()
                raise Busy(
                    f"Only one run is measured at a time: {card.text if card else 'another is just starting'}."
                ) from None
        card = RunCard(
            run_id, technique, os.getpid(), born(os.getpid()) or "", clock.utc_now().isoformat()
        )
        with contextlib.suppress(OSError):  # a full folder: the lock holds without its words
            os.ftruncate(held, 0)
            os.pwrite(held, json.dumps(asdict(card)).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(held, 0)


def running() -> RunCard | None:
    """Who measures now; None if nobody does."""
    # A child that has ended stays a process, and its lease in force, until its parent asks.
    _started[:] = [process for process in _started if process.poll() is None]
    path = paths.runtime() / "measure.lock"
    try:
        with _locked(path, shared=True):
            return None
    except BlockingIOError:
        with contextlib.suppress(TypeError):
            return RunCard(**(_read(path) or {}))
        return None


@contextlib.contextmanager
def _locked(path: Path, wait: bool = False, shared: bool = False) -> Iterator[int]:
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
    """Start a worker for a BenchmarkConfig and answer with its run id; LabError at once while another run is measured."""
    if card := running():
        raise Busy(f"Only one run is measured at a time: {card.text}.")
    run_id = config.join_run or new_id()
    path = _run_file(run_id, ".json")
    start_afresh(run_id)
    given = {"run_id": run_id, "config": config.model_dump(mode="json")}
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(given, file)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise LabError(
            f"Cannot write {path.parent}: {error.strerror}. Make room there, or set LAB_RUNTIME to another folder."
        ) from error
    process = _detached(
        [sys.executable, "-m", "lab.worker", str(path)], _run_file(run_id, ".log"), {}
    )
    deadline = clock.now_ns() + 10e9
    while process.poll() is None and clock.now_ns() < deadline:
        card = running()
        if (card and card.run_id == run_id) or read_progress(run_id)[0]:
            return run_id
        clock.pause_s(0.02)
    ending = [entry for entry in read_progress(run_id)[0] if entry["kind"] == "ended"]
    if process.poll() is not None and not ending:
        said = _run_file(run_id, ".log").read_text(errors="replace").strip().splitlines()
        raise LabError(
            f"The worker ended before it measured: {said[-1] if said else process.returncode}"
        )
    return run_id


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
    """What a run has said since `offset` (bytes), and the offset to ask from next; a line still being written waits."""
    try:
        with progress_path(run_id).open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    complete = data[: data.rfind(b"\n") + 1]
    return [entry for line in complete.splitlines() if (entry := _entry(line))], offset + len(
        complete
    )


def _entry(line: bytes) -> dict[str, Any] | None:
    """A torn or foreign line says nothing, and what comes after it still does."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("kind"), str) else None


def _run_file(run_id: str, suffix: str) -> Path:
    if not run_id or not set(run_id) <= set("0123456789abcdefABCDEF-"):
        raise LabError(f"{run_id!r} is not the id of a run.")
    folder = paths.runtime() / "runs"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{run_id}{suffix}"


def _read(path: Path) -> dict[str, Any] | None:
    """A card, or None where there is none, or anything else in its place."""
    try:
        card = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return card if isinstance(card, dict) else None
