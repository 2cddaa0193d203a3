"""A watch: probes of a request beside a control for days, in a process of its own that any
dashboard finds by its card (0600) in the runtime folder: watch/RUN_ID.json, and whose lock one
process holds: watch/RUN_ID.lock."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import clock, machine, paths, processes
from lab.model import LabError

if TYPE_CHECKING:
    from lab.watch.watch_order import WatchOrder
    from lab.watch.watch_settings import WatchConfig

STOP_S = 20.0
LATEST_BYTES = 16_384
_started: list[subprocess.Popen] = []


@dataclass(frozen=True)
class Card:
    """A watch that is kept now."""

    run_id: str
    name: str
    pid: int
    born: str | None
    """What machine.born() says of the pid."""
    endpoint: str
    kind: str
    since_utc: str


def start(config: WatchConfig, named: dict[str, Any] | None = None) -> Card:
    """Begin a watch, or go on with it, in a process of its own, which goes on without whoever
    started it. `named` are the settings that the user named. Raises LabError; ConsentNeeded for an
    address that nobody has agreed to."""
    from lab.watch import watch_order

    order = watch_order.resolve(config, named or {})
    order.cost()
    if card := current(order.run_id):
        raise LabError(f"The watch {card.name!r} is kept already (process {card.pid}).")
    order.keep()
    log = folder() / "watch.log"
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        process = subprocess.Popen(
            paths.module("lab.watch"),
            cwd=paths.home(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=out,
            env={**os.environ, "LAB_DB": str(paths.database())},
            start_new_session=True,
        )
    _started.append(process)
    with process.stdin as orders:
        orders.write(json.dumps({"run_id": order.run_id, "db": order.config.db}).encode())
    with process.stdout as answer:
        answer.readline()
    if card := current(order.run_id):
        return card
    text = last(order.run_id, "ended").get("text")
    raise LabError(text or f"The watch ended at once; its log is {log}.")


def cards() -> list[Card]:
    """The watches that are kept now, the latest first. What a dead one left behind is removed."""
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


def current(run_id: str) -> Card | None:
    return next((card for card in cards() if card.run_id == run_id), None)


def latest(run_id: str) -> list[dict[str, Any]]:
    """What a watch has said last; what it says in a month is too much to be read each second."""
    try:
        size = processes.progress_path(run_id).stat().st_size
    except OSError:
        return []
    return processes.read_progress(run_id, max(0, size - LATEST_BYTES))[0]


def last(run_id: str, *kinds: str) -> dict[str, Any]:
    """The last entry of one of these kinds; empty where there is none."""
    return next((each for each in reversed(latest(run_id)) if each["kind"] in kinds), {})


def stop(run_id: str) -> bool:
    """Ask a watch to end, and wait until it has: its rows are written by then. False where it was
    not kept."""
    if current(run_id) is None:
        return False
    processes.stop(run_id)
    deadline_ns = clock.now_ns() + int(STOP_S * 1e9)
    while current(run_id) and clock.now_ns() < deadline_ns:
        clock.pause_s(0.05)
    return True


def folder() -> Path:
    folder = paths.runtime() / "watch"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextlib.contextmanager
def announced(order: WatchOrder) -> Iterator[Callable[[Any], None]]:
    """While a watch is kept, whoever looks finds it; LabError where another process keeps it."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(processes.locked(folder() / f"{order.run_id}.lock"))
        except BlockingIOError:
            raise LabError(
                f"The watch {order.config.name!r} is kept already{_by_whom(order.run_id)}. Stop it"
                " first, or give this one another --name."
            ) from None
        except OSError as error:
            raise LabError(order.no_room(paths.runtime_folder(), error)) from error
        yield from _with_card(order)


def _by_whom(run_id: str) -> str:
    card = current(run_id)
    return f" (process {card.pid}, since {card.since_utc[:16]} UTC)" if card else ""


def _with_card(order: WatchOrder) -> Iterator[Callable[[Any], None]]:
    card = Card(
        run_id=order.run_id,
        name=order.config.name,
        pid=os.getpid(),
        born=machine.born(os.getpid()),
        endpoint=order.endpoint.name,
        kind=order.endpoint.kind,
        since_utc=clock.utc_now().isoformat(),
    )
    file = folder() / f"{order.run_id}.json"

    def ready(_: Any) -> None:
        try:
            paths.write_private(file, asdict(card))
            processes.record(order.run_id)
        except OSError as error:
            raise LabError(order.no_room(paths.runtime(), error)) from error

    try:
        yield ready
    finally:
        file.unlink(missing_ok=True)
