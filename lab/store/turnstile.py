"""Who may open the database file now: DuckDB lets one process write and then nobody else even read,
so all of the lab queues here.

A writer takes the file `gate`, then `lock`, exclusively, and lets go of `gate`; a reader passes
`gate`, then takes `lock` shared. While a writer waits at `lock` it holds `gate`, so readers cannot
keep it out by taking turns. In `lock` stands the number of changes ever written.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lab import clock
from lab.model import LabError


class Busy(LabError):
    """Somebody else holds the database, for longer than was worth waiting."""


class Turn:
    """An exclusive turn; `changed()` counts one change while the lock is still held."""

    def __init__(self, lock: int) -> None:
        self.lock = lock

    def changed(self) -> None:
        with suppress(OSError):  # a full disk: pages may show what they had
            os.pwrite(self.lock, b"%020d\n" % (_count(os.pread(self.lock, 20, 0)) + 1), 0)


@contextmanager
def writing(database: Path, patience_s: float) -> Iterator[Turn]:
    """The only turn at a time; raises Busy after `patience_s`."""
    deadline = clock.now_ns() + int(patience_s * 1e9)
    database.parent.mkdir(parents=True, exist_ok=True)
    with _opened(database, ".lock") as lock:
        with _opened(database, ".gate") as gate:
            _take(gate, fcntl.LOCK_EX, deadline, database)
            _take(lock, fcntl.LOCK_EX, deadline, database)
        yield Turn(lock)


@contextmanager
def reading(database: Path, patience_s: float) -> Iterator[None]:
    """A turn shared with other readers; raises Busy after `patience_s`."""
    deadline = clock.now_ns() + int(patience_s * 1e9)
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(_opened(database, ".lock"))
        except LabError:
            yield  # a folder one may only read has no writer of ours either
            return
        with _opened(database, ".gate") as gate:
            _take(gate, fcntl.LOCK_SH, deadline, database)
        _take(lock, fcntl.LOCK_SH, deadline, database)
        yield


def changes(database: Path) -> int:
    """How many changes were ever written to this database; 0 where there is none."""
    if not database.exists():
        return 0
    try:
        return _count(database.with_name(f"{database.name}.lock").read_bytes()[:20])
    except OSError:
        return 0


def _count(digits: bytes) -> int:
    """Garbage in the file counts as nothing: the next change writes a number over it."""
    return int(digits) if digits.isdigit() else 0


@contextmanager
def _opened(database: Path, suffix: str) -> Iterator[int]:
    """A descriptor of its own, so that flock also keeps the threads of one process apart."""
    try:
        path = database.with_name(database.name + suffix)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise LabError(
            f"Cannot write beside {database} ({error.strerror}). Choose a database in a folder of"
            " your own with --db."
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, how: int, deadline_ns: int, database: Path) -> None:
    # Polled, since a blocking flock has no deadline: a suspended holder must not hang a page.
    pause_s = 0.0005
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if clock.now_ns() >= deadline_ns:
                raise Busy(
                    f"Another part of the lab has been using {database} for too long. Try again"
                    " when it is done."
                ) from None
            clock.pause_s(pause_s)
            pause_s = min(pause_s * 1.5, 0.01)
