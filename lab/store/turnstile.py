"""Who may open the database file now: DuckDB lets one process write and then nobody else even read,
so all of the lab queues here.

Two lock files beside the database. A writer takes `gate`, then `lock`, exclusively, and lets go of
`gate`; a reader passes `gate`, then takes `lock` shared. While a writer waits at `lock` it holds
`gate`, so readers cannot keep it out by taking turns. The lock file's content is the number of
changes ever written.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab import clock
from lab.model import LabError


class Busy(LabError):
    """Somebody else holds the database and kept holding it for as long as was worth waiting."""


class Turn:
    """An exclusive turn; `changed()` counts one change while the lock is still held."""

    def __init__(self, lock: int) -> None:
        self.lock = lock

    def changed(self) -> None:
        with suppress(OSError):  # a full disk: pages may show what they had
            os.pwrite(self.lock, b"%020d\n" % (_count(self.lock) + 1), 0)


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
    try:
        lock = os.open(_beside(database, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        yield  # a folder one may only read has no writer of ours either
        return
    try:
        with _opened(database, ".gate") as gate:
            _take(gate, fcntl.LOCK_SH, deadline, database)
        _take(lock, fcntl.LOCK_SH, deadline, database)
        yield
    finally:
        os.close(lock)


def changes(database: Path) -> int:
    """How many changes were ever written to this database; 0 where there is none."""
    if not database.exists():
        return 0
    with suppress(OSError):
        descriptor = os.open(_beside(database, ".lock"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _count(descriptor)
        finally:
            os.close(descriptor)
    return 0


def _count(descriptor: int) -> int:
    """Garbage in the file counts as nothing: the next change writes a number over it."""
    written = os.pread(descriptor, 20, 0)
    return int(written) if written.isdigit() else 0


def _beside(database: Path, suffix: str) -> Path:
    return database.with_name(database.name + suffix)


@contextmanager
def _opened(database: Path, suffix: str) -> Iterator[int]:
    """A descriptor of its own, so that flock also keeps the threads of one process apart; closing
    it lets go of the lock."""
    try:
        descriptor = os.open(
            _beside(database, suffix), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
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
    # Polled, since a blocking flock cannot be given a deadline: a suspended holder must not hang a
    # page for ever.
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
