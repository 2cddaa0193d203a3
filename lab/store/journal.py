"""What was acknowledged and is not in the database yet: lines in a folder beside it, or batches of
rows (lab/store/row_batches.py), each on disk before anybody is told.

A file belongs to the one Store that holds a lock on it. Whoever finds one without an owner takes it
in.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

from lab import clock
from lab.model import new_id

LINES, BATCHES = ".jsonl", ".arrow"
"""What a file's name ends with, by what is in it."""


class Journal:
    """One Store's own file; it is made at the first append."""

    def __init__(self, folder: Path, suffix: str = LINES) -> None:
        self.folder, self.suffix = folder, suffix
        self.file: FileIO | None = None

    @property
    def path(self) -> Path | None:
        return None if self.file is None else Path(self.file.name)

    @property
    def size(self) -> int:
        return 0 if self.file is None else os.fstat(self.file.fileno()).st_size

    def append(self, changes: list[dict[str, Any]]) -> None:
        """The lines are on disk when this returns. Raises OSError where the disk refuses, and then
        none of them is there."""
        self.write("".join(line(change) + "\n" for change in changes).encode())

    def write(self, data: bytes) -> None:
        """The same of whatever a reader of the file knows the end of."""
        if self.file is None:
            self.file = self._made()
        descriptor = self.file.fileno()
        size = os.fstat(descriptor).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, size)  # half a line would swallow the next one
            raise

    def is_lost(self) -> bool:
        """Whether somebody has removed the file; the next append then makes another."""
        if self.file is not None and not os.fstat(self.file.fileno()).st_nlink:
            self.file.close()
            self.file = None
            return True
        return False

    def restore(self) -> None:
        """Where somebody has removed the file, all of it is in another. Raises OSError."""
        if self.file is not None and not os.fstat(self.file.fileno()).st_nlink:
            lost, self.file = self.file, None
            lost.seek(0)
            try:
                self.write(lost.readall())
            except OSError:
                self.close()
                self.file = lost
                raise
            lost.close()

    def clear(self) -> None:
        """All of it is in the database."""
        if self.file is not None:
            os.ftruncate(self.file.fileno(), 0)

    def close(self) -> None:
        """An empty file is removed."""
        if self.file is None:
            return
        with suppress(OSError):
            if not os.fstat(self.file.fileno()).st_size:
                os.unlink(self.file.name)
        self.file.close()
        self.file = None

    def _made(self) -> FileIO:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = self.folder / f"{new_id()}{self.suffix}"
            file = FileIO(path, "a+", opener=partial(os.open, mode=0o600))
            # Somebody may have found it before it had its owner, and have taken it away as an empty
            # one.
            if _ours(file.fileno()) and _is(path, file.fileno()):
                # Its name is on disk only with its folder.
                with suppress(OSError), _opened(self.folder, os.O_RDONLY) as folder:
                    os.fsync(folder)
                return file
            file.close()
            clock.pause_s(0.001)


def line(change: dict[str, Any]) -> str:
    return json.dumps(change, default=datetime.isoformat)


def ownerless(folder: Path) -> list[Path]:
    """The files with something in them whose owner has ended, oldest first."""
    abandoned = []
    for path in [*files(folder), *files(folder, BATCHES)]:
        with suppress(OSError), _opened(path) as file:
            if os.fstat(file).st_size and _is(path, file) and _locked(file, fcntl.LOCK_SH):
                abandoned.append(path)
    return abandoned


def size(paths: Iterable[Path]) -> int:
    """Bytes in those of the files that are still there."""
    total = 0
    for path in paths:
        with suppress(OSError):
            total += path.stat().st_size
    return total


def set_aside(file: Path, lines: list[str]) -> bool:
    """Write what does not fit into FILE.refused; whether that could be done."""
    aside, log = file.with_suffix(".refused"), logging.getLogger(__name__)
    try:
        aside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside.write_text("".join(line + "\n" for line in lines))
    except OSError as error:
        log.warning(
            "%s cannot be written (%s): what does not fit the database stays", aside, error.strerror
        )
        return False
    log.warning("%s: %d lines do not fit the database and are set aside", aside, len(lines))
    return True


def set_batch_aside(folder: Path, data: bytes) -> None:
    """A batch that does not fit the database, or is torn, as a file of its own. Raises OSError."""
    aside = folder / f"{new_id()}{BATCHES}.refused"
    aside.write_bytes(data)
    logging.getLogger(__name__).warning(
        "%s: %s bytes of rows do not fit the database and are set aside", aside, f"{len(data):,}"
    )


def files(folder: Path, suffix: str = LINES) -> list[Path]:
    try:
        return sorted(folder.glob(f"*{suffix}"))
    except OSError:
        return []


def lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Each whole line and what it says; None where that is no JSON. Of a torn last one nobody was
    told."""
    data = path.read_bytes()
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        if not line.strip(b"\0 "):
            continue
        text = line.decode("utf-8", "replace")
        try:
            yield text, json.loads(text)
        except (ValueError, RecursionError):
            yield text, None


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Hold an ownerless file; False where it has an owner, or is gone."""
    try:
        with _opened(path) as descriptor:
            yield _ours(descriptor) and _is(path, descriptor)
    except FileNotFoundError:
        yield False


def _ours(descriptor: int) -> bool:
    """Whoever only looks holds the file too, for a moment and shared."""
    while not _locked(descriptor, fcntl.LOCK_EX):
        if not _locked(descriptor, fcntl.LOCK_SH):
            return False
        clock.pause_s(0.0005)
    return True


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _opened(path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
