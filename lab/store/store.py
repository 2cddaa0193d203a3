"""The database file: open, use, close, under the turnstile; what cannot be written now waits in a spool beside it."""

from __future__ import annotations

import json
import logging
import math
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from lab import clock, paths
from lab.model import CallRow, EventRow, FinishedTrial, LabError, RunRow, SessionRow, SpanRow, Status, TrialRow, new_id
from lab.store import frames, importing, journal, migrations, turnstile
from lab.store.importing import Imported
from lab.store.journal import Journal
from lab.store.turnstile import Busy

ROWS = {"runs": RunRow, "sessions": SessionRow, "trials": TrialRow, "calls": CallRow, "spans": SpanRow, "events": EventRow}
COLUMNS = {table: [column.name for column in fields(row)] for table, row in ROWS.items()}
# What a program of the lab never needs; the same for all connections of a process, or DuckDB refuses the second one.
CONFIG = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "python_enable_replacements": "false"}
READ_PATIENCE_S = 10.0
SHORT_PATIENCE_S = 0.5
"""Where rows wait beside the database, which can be read without it."""
LARGEST_COPY = 2**30
OURS: set[tuple[int, int]] = set()
"""Files whose views this process has seen to be the lab's own: to compare them takes some milliseconds."""
RETRY_S = 0.05
HELD: set[Path] = set()
"""Databases that somebody else held when this process last asked to write: it then asks for a moment only."""
BROKEN = (duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException, duckdb.IOException)
# What a row can be wrong in. Whatever else a write fails with says nothing about the row: it could not be written, and is kept.
UNFIT = (
    duckdb.DataError,
    duckdb.IntegrityError,
    duckdb.NotSupportedError,
    duckdb.ProgrammingError,
    LookupError,
    TypeError,
    ValueError,
)


FULL = ("No space left", "Disk quota exceeded", "File too large", "Read-only file system")


class Full(LabError):
    """The disk takes no more, for now."""


class Store:
    """One lab.duckdb. Threads and processes may each have their own Store of one file, and share one too.

    Every `write_…` returns True once the rows are safely in the database. Where another program holds the file, or the disk refuses,
    it returns False: the rows are then on disk in the spool, readers see them, and the next write of any process takes them in.
    """

    def __init__(self, path: Path | str | None = None, patience_s: float = 10.0, read_patience_s: float | None = None) -> None:
        self.path = Path(path or paths.database()).expanduser().absolute()
        self.patience_s = patience_s
        self.read_patience_s = read_patience_s or READ_PATIENCE_S
        self._pending: list[dict[str, Any]] = []
        self._journal = Journal(self._spool)
        self._journalled = 0
        """How many of the pending changes are on disk already, in the journal."""
        self._kept: set[str] = set()
        """Trials among them."""
        self._writes = threading.RLock()
        self._held = threading.local()
        self._current: tuple[int, int] | None = None

    # Reading

    def frame(self, sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> pd.DataFrame:
        """The rows of one query, read under the turnstile. UUIDs are str, times are UTC, JSON is text; an absent database has no rows."""
        try:
            if held := getattr(self._held, "connection", None):
                return fetch(held, sql, params)
            with self.reading() as connection, self._explained():
                return fetch(connection, sql, params)
        except duckdb.DataError as error:
            raise LabError(f"A value in {self.path} cannot be read: {str(error).splitlines()[0]}.") from error

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within it, this thread's `frame` calls share one opening (20–30 ms saved for each) and see one state. Keep it short."""
        if getattr(self._held, "connection", None):
            yield
            return
        with self.reading() as connection, self._explained():
            self._held.connection = connection
            try:
                yield
            finally:
                self._held.connection = None

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection while the turn lasts; what waits in the spool is in it. LabError where the file cannot be read."""
        waiting = bool(journal.ownerless(self._spool))
        if waiting and self._settled():
            waiting = False
        if waiting:
            with self._overlaid() as connection:
                yield connection
            return
        if not self._exists():
            with self._connected(":memory:") as connection:
                migrations.apply(connection)
                yield connection
            return
        deadline = clock.now_ns() + int(self.read_patience_s * 1e9)
        renewed = False
        while True:
            with turnstile.reading(self.path, self.read_patience_s):
                connection = self._open(read_only=True, deadline_ns=deadline)
                if connection is not None:
                    try:
                        if self._is_current(connection):
                            yield connection
                            return
                    finally:
                        connection.close()
            if connection is None:
                clock.pause_s(RETRY_S)
            elif renewed:
                raise LabError(f"{self.path} cannot be brought up to date with this lab. Choose another file with --db.")
            else:
                self._bring_up_to_date()
                renewed = True

    def _settled(self) -> bool:
        """Whether what waited in the spool is in the database now."""
        try:
            with self._transaction(SHORT_PATIENCE_S):
                return True
        except LabError:
            return False

    @contextmanager
    def _overlaid(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The database as it is on disk, and what waits beside it, together in memory: somebody holds the file, or the disk is full.

        A large database is left out, and only what waits is seen.
        """
        with self._connected(":memory:") as connection:
            migrations.apply(connection)
            with suppress(OSError, duckdb.Error), tempfile.TemporaryDirectory(prefix="lab-copy-") as folder:
                # A copy, since a file that somebody holds cannot be opened; what they have committed is in it and its log.
                if self.path.stat().st_size <= LARGEST_COPY:
                    copy = Path(folder) / "lab.duckdb"
                    shutil.copyfile(self.path, copy)
                    with suppress(FileNotFoundError):
                        shutil.copyfile(f"{self.path}.wal", f"{copy}.wal")
                    quoted = str(copy).replace("'", "''")
                    connection.execute(f"ATTACH '{quoted}' AS copied")
                    for table in ROWS:
                        connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM copied.{table}")
                    connection.execute("DETACH copied")
            for path in journal.files(self._spool):
                for _, change in journal.lines(path):
                    with suppress(*UNFIT, duckdb.Error):
                        _apply(connection, change or {})
            yield connection

    def version(self) -> int:
        """A number that changes with every write by any process: what pages cache by. 0 where there is no database."""
        waiting = 0
        for path in journal.ownerless(self._spool):
            with suppress(FileNotFoundError):
                waiting += path.stat().st_size
        return turnstile.changes(self.path) + (waiting << 32)

    # Writing

    def write_run(self, row: RunRow) -> bool:
        """Add a run, or renew it when it is resumed (its note and name stay)."""
        return self._write({"rows": {"runs": [_values(row)]}})

    def write_session(self, row: SessionRow) -> bool:
        return self._write({"rows": {"sessions": [_values(row)]}})

    def keep(self, trial: FinishedTrial) -> None:
        """On disk, beside the database, before this returns: a trial that was told survives whatever ends this process.

        The next write takes it into the database. Raises LabError where the disk refuses: then nobody must be told.
        """
        with self._writes:
            try:
                self._journal.append([_change([trial])], _plain)
            except OSError as error:
                raise LabError(_refused(self._spool, error)) from error
            self._pending.append(_change([trial]))
            self._journalled += 1
            self._kept.add(trial.trial.trial_id)

    def write_trials(self, trials: Sequence[FinishedTrial]) -> bool:
        """Trials with their calls, spans and events in one transaction; a trial that is there already is left alone."""
        fresh = [trial for trial in trials if trial.trial.trial_id not in self._kept]
        return self._write(*([_change(fresh)] if fresh or not self._pending else []))

    def finish_run(self, run_id: str, status: Status) -> bool:
        return self._write({"update": as_uuid(run_id), "status": status, "ended_utc": clock.utc_now().isoformat()})

    def set_note(self, run_id: str, note: str | None) -> bool:
        return self._write({"update": as_uuid(run_id), "note": note or None})

    def rename(self, run_id: str, name: str | None) -> bool:
        return self._write({"update": as_uuid(run_id), "name": name or None})

    def delete_run(self, run_id: str) -> None:
        """Take a run out of every table; its rows stay in a trash folder until the next delete, for `undelete`."""
        run_id = as_uuid(run_id)
        with self._transaction() as connection:
            if not connection.execute("SELECT 1 FROM runs WHERE run_id = ?::UUID", [run_id]).fetchall():
                raise LabError(f"There is no run {run_id}. List the runs with: python main.py runs")
            shutil.rmtree(self._trash, ignore_errors=True)
            self._trash.mkdir(parents=True)
            for table in ROWS:
                file = str(self._trash / f"{table}.parquet").replace("'", "''")
                connection.execute(f"COPY (SELECT * FROM {table} WHERE run_id = '{run_id}') TO '{file}' (FORMAT parquet)")
            for table in reversed(ROWS):
                connection.execute(f"DELETE FROM {table} WHERE run_id = ?::UUID", [run_id])

    def undelete(self) -> str | None:
        """Bring back the run that was deleted last; its id, or None where there is nothing to bring back."""
        if not (self._trash / "runs.parquet").exists():
            return None
        self._take_in(importing.Clean(self._trash, None))
        with self._connected(":memory:") as connection:
            file = str(self._trash / "runs.parquet")
            ((run_id,),) = connection.execute("SELECT run_id::VARCHAR FROM read_parquet(?)", [file]).fetchall()
        shutil.rmtree(self._trash, ignore_errors=True)
        return run_id

    def import_from(self, source: Path | str, name: str | None = None) -> Imported:
        """Add what another lab.duckdb, or a folder or zip of exported Parquet, has and this one has not; doing it twice adds nothing.

        `name` is what the file was called, where that is not the name it has here.
        """
        source = Path(source).expanduser().absolute()
        if source == self.path:
            raise LabError("A database cannot be imported into itself. Choose another file.")
        with importing.cleaned(source, name) as clean:
            return self._take_in(clean)

    def _take_in(self, clean: importing.Clean) -> Imported:
        with self._transaction() as connection:
            return importing.take_in(connection, clean)

    def close(self) -> None:
        """Write what is still in memory; raises LabError if neither the database nor its spool can take it."""
        with self._writes:
            try:
                if self._pending and not self._write() and self._pending:
                    raise LabError(f"{len(self._pending)} writes could not be kept: neither {self.path} nor {self._spool} can be written.")
            finally:
                self._journal.close()

    # Within

    @property
    def _spool(self) -> Path:
        return self.path.with_name(self.path.name + ".spool")

    @property
    def _trash(self) -> Path:
        return self.path.with_name(self.path.name + ".trash")

    def _exists(self) -> bool:
        if self.path.is_dir():
            raise LabError(f"{self.path} is a folder. Choose a database file with --db.")
        return self.path.exists()

    @contextmanager
    def _connected(self, name: str) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = duckdb.connect(name, config=CONFIG)
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except UNFIT:
            raise
        except (*BROKEN, duckdb.Error) as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> LabError:
        reason = str(error).splitlines()[0].removeprefix("IO Error: ")
        if "Corrupt database file" in reason:
            return LabError(
                f"A part of {self.path} is damaged on disk, and this cannot be read from it. Save each run that still opens with "
                "`python main.py export --run RUN --format duckdb`, move the file away, and import what was saved."
            )
        if any(word in str(error) for word in FULL):
            return Full(f"Cannot write {self.path}: {reason}. The rows wait beside it; make room, and the next command takes them in.")
        return LabError(
            f"Cannot read {self.path}: {reason}. Move the file away, or choose another with --db; the lab then starts an empty one."
        )

    def _open(self, read_only: bool, deadline_ns: int) -> duckdb.DuckDBPyConnection | None:
        """A connection, or None while a program that knows no turnstile holds the file and the deadline is not over."""
        try:
            connection = duckdb.connect(str(self.path), read_only=read_only, config=CONFIG)
        except duckdb.IOException as error:
            if "Could not set lock" not in str(error):
                raise self.unreadable(error) from error
            if clock.now_ns() < deadline_ns:
                return None
            holder = str(error).partition("Conflicting lock is held in ")[2].partition(". ")[0]
            raise Busy(f"Another program holds {self.path}{f' ({holder})' if holder else ''}. Close it there and try again.") from error
        except duckdb.Error as error:
            raise self.unreadable(error) from error
        connection.execute("SET TimeZone = 'UTC'")
        return connection

    def _is_current(self, connection: duckdb.DuckDBPyConnection) -> bool:
        status = self.path.stat()
        if self._current != (status.st_dev, status.st_ino):
            with self._explained():
                if not migrations.is_current(connection, str(self.path)):
                    return False
                if (status.st_dev, status.st_ino) not in OURS and not migrations.is_ours(connection):
                    return False
            self._current = (status.st_dev, status.st_ino)
            OURS.add(self._current)
        return True

    def _bring_up_to_date(self) -> None:
        with self._writing() as (connection, turn):
            migrations.apply(connection, str(self.path))
            turn.changed()

    @contextmanager
    def _writing(self, patience_s: float | None = None) -> Iterator[tuple[duckdb.DuckDBPyConnection, turnstile.Turn]]:
        # While a foreign program keeps the file, a run should not lose ten seconds at every block: ask once, briefly, and spool.
        patience_s = min(self.patience_s, 0.2) if self.path in HELD else min(self.patience_s, patience_s or self.patience_s)
        deadline = clock.now_ns() + int(patience_s * 1e9)
        try:
            while True:
                with turnstile.writing(self.path, patience_s) as turn:
                    self._exists()
                    connection = self._open(read_only=False, deadline_ns=deadline)
                    if connection is not None:
                        try:
                            HELD.discard(self.path)
                            yield connection, turn
                        finally:
                            connection.close()
                        return
                clock.pause_s(RETRY_S)
        except Busy:
            HELD.add(self.path)
            raise

    @contextmanager
    def _transaction(self, patience_s: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction in one turn; what waits in the spool is taken in first."""
        with self._writes, self._writing(patience_s) as (connection, turn), self._explained():
            if not self._is_current(connection):
                migrations.apply(connection, str(self.path))
            self._take_in_spool(connection, turn)
            connection.begin()
            try:
                yield connection
                connection.commit()
            except BaseException:
                with suppress(duckdb.Error):
                    connection.rollback()
                raise
            turn.changed()

    def _take_in_spool(self, connection: duckdb.DuckDBPyConnection, turn: turnstile.Turn) -> None:
        """Each file in a transaction of its own. A line that does not fit is set aside, and must not keep the others out."""
        for file in journal.files(self._spool):
            with journal.taken(file) as free:
                if not free:
                    continue
                changes = list(journal.lines(file))
                unfit = [text for text, change in changes if change is None]
                fit = [(text, change) for text, change in changes if change is not None]
                unfit += _applied([change for _, change in fit], connection, [text for text, _ in fit])
                if unfit:
                    aside = file.with_suffix(".refused")
                    aside.write_text("".join(text + "\n" for text in unfit))
                    logging.getLogger(__name__).warning("%s: %d lines do not fit the database and are set aside", aside, len(unfit))
                turn.changed()
                # Only now: if the process ends before this, it is taken in again, which changes nothing.
                file.unlink(missing_ok=True)

    def _write(self, *changes: dict[str, Any]) -> bool:
        with self._writes:
            self._pending += changes
            try:
                with self._transaction() as connection:
                    unfit = _applied(self._pending, connection, self._pending, begun=True)
            except Busy:
                self._keep_in_spool()
                return False
            except LabError as error:
                self._keep_in_spool()
                if self._pending or not isinstance(error, Full):
                    raise
                return False
            self._forget()
            if unfit:
                raise LabError(f"{len(unfit)} rows do not fit {self.path}, and are set aside in {self._set_aside(unfit)}.")
            return True

    def _forget(self) -> None:
        self._pending.clear()
        self._kept.clear()
        self._journal.clear()
        self._journalled = 0

    def _set_aside(self, changes: list[dict[str, Any]]) -> Path:
        self._spool.mkdir(parents=True, exist_ok=True)
        aside = self._spool / f"{new_id()}.refused"
        aside.write_text("".join(json.dumps(change, default=_plain) + "\n" for change in changes))
        return aside

    def _keep_in_spool(self) -> None:
        """On disk at once, so that even a killed process loses nothing; in memory where the disk refuses."""
        try:
            self._journal.append(self._pending[self._journalled :], _plain)
        except OSError:
            return
        # Without an owner, so that whoever reads or writes next takes it in.
        self._journal.close()
        self._pending.clear()
        self._kept.clear()
        self._journalled = 0


def fetch(connection: duckdb.DuckDBPyConnection, sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> pd.DataFrame:
    """A result as pandas, by lab.store.frames."""
    relation = connection.sql(sql, params=params or None)
    return frames.read(relation) if relation is not None else pd.DataFrame()


def _change(trials: Sequence[FinishedTrial]) -> dict[str, Any]:
    return {
        "rows": {
            "trials": [_values(finished.trial) for finished in trials],
            "calls": [_values(row) for finished in trials for row in finished.calls],
            "spans": [_values(row) for finished in trials for row in finished.spans],
            "events": [{**_values(row), "trial_id": finished.trial.trial_id} for finished in trials for row in finished.events],
        }
    }


def _refused(folder: Path, error: OSError) -> str:
    return f"Cannot write {folder}: {error.strerror}. What was told before is kept; make room and go on with `resume`."


def _values(row: Any) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in fields(row)}


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value)} does not belong in a row")


def as_uuid(text: str) -> str:
    """An id as DuckDB writes it. Raises LabError for what is none."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise LabError(f"{text!r} is not the id of a run. List the runs with: python main.py runs") from None


def _applied(changes: list[dict[str, Any]], connection: duckdb.DuckDBPyConnection, names: list[Any], begun: bool = False) -> list[Any]:
    """Apply all in one transaction, or, where one does not fit, each in its own; answers with the names of those that do not fit.

    `begun`: the caller has begun the transaction and ends it.
    """
    try:
        if not begun:
            connection.begin()
        for change in changes:
            _apply(connection, change)
        if not begun:
            connection.commit()
        return []
    except UNFIT:
        connection.rollback()
    except BaseException:
        if not begun:
            with suppress(duckdb.Error):
                connection.rollback()
        raise
    unfit = []
    for change, name in zip(changes, names, strict=True):
        connection.begin()
        try:
            _apply(connection, change)
            connection.commit()
        except UNFIT:
            connection.rollback()
            unfit.append(name)
    if begun:
        connection.begin()
    return unfit


def _apply(connection: duckdb.DuckDBPyConnection, change: dict[str, Any]) -> None:
    """One change, which may have been applied before."""
    if run_id := change.get("update"):
        columns = [name for name in ("status", "ended_utc", "note", "name") if name in change]
        assignments = ", ".join(f"{name} = ?" for name in columns)
        connection.execute(f"UPDATE runs SET {assignments} WHERE run_id = ?::UUID", [*(change[name] for name in columns), run_id])
    else:
        _insert(connection, change["rows"])


def _insert(connection: duckdb.DuckDBPyConnection, rows: dict[str, list[dict[str, Any]]]) -> None:
    renewed = ", ".join(f"{name} = excluded.{name}" for name in ("models", "settings", "status", "ended_utc"))
    for table, conflict in (("runs", f"(run_id) DO UPDATE SET {renewed}"), ("sessions", "DO NOTHING")):
        columns = COLUMNS[table]
        for row in rows.get(table, []):
            places = ", ".join("?" * len(columns))
            connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT {conflict}", _row(table, row))
    if trials := rows.get("trials"):
        # A trial and all that belongs to it are written in one transaction: where the trial is, the rest is.
        ids = [row["trial_id"] for row in trials]
        known = {
            found
            for (found,) in connection.execute(
                "SELECT trial_id::VARCHAR FROM trials WHERE trial_id IN (SELECT unnest(?)::UUID)", [ids]
            ).fetchall()
        }
        for table in ("trials", "calls", "spans", "events"):
            fresh = [_row(table, row) for row in rows.get(table, []) if row["trial_id"] not in known]
            if fresh:
                appender = connection.appender(table, columns=COLUMNS[table])
                appender.append_rows(fresh)
                appender.flush()


def _row(table: str, row: dict[str, Any]) -> list[Any]:
    return [_value(row.get(name), kind) for name, kind in _types(table).items()]


@cache
def _types(table: str) -> dict[str, str]:
    """Column name to DuckDB's type, as the migrations make it."""
    with duckdb.connect(":memory:", config=CONFIG) as connection:
        migrations.apply(connection)
        return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {table}").fetchall()}


def _value(value: Any, kind: str) -> Any:
    """What the column can hold, whatever a server has sent: a number out of range is null, half an emoji or a NUL character is a mark."""
    if value is None:
        return None
    if kind in BITS:
        try:
            number = int(value)
        except (OverflowError, TypeError, ValueError):
            return None
        return number if -(2 ** (BITS[kind] - 1)) <= number < 2 ** (BITS[kind] - 1) else None
    if kind == "DOUBLE":
        try:
            number = float(value)
        except (OverflowError, TypeError, ValueError):
            return None
        return number if math.isfinite(number) else None
    if kind == "JSON":
        return json.dumps(_finite(value), allow_nan=False)
    if kind == "VARCHAR":
        value = str(value)
        return value if value.isprintable() and value.isascii() else value.replace("\0", "␀").encode("utf-8", "replace").decode()
    return value


BITS = {"INTEGER": 32, "BIGINT": 64}


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {str(name): _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
