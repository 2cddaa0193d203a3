"""The database file: open, use, close, under the turnstile; what cannot be written now waits in a
spool beside it."""

from __future__ import annotations

import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from lab import clock, paths, processes
from lab.model import LabError, Status, new_id
from lab.paths import COMMAND
from lab.rows import ROWS, FinishedTrial, LoadLevelRow, RunRow, SessionRow
from lab.store import (
    erasure,
    frames,
    importing,
    journal,
    journalled_changes,
    migrations,
    row_batches,
    turnstile,
)
from lab.store.importing import Imported
from lab.store.journal import BATCHES, Journal
from lab.store.row_batches import Batch
from lab.store.turnstile import Busy

if TYPE_CHECKING:
    import pandas as pd

PATIENCE_S = 10.0
SHORT_PATIENCE_S = 0.5
"""Of a reader for whom rows wait beside the database: they can be read there too."""
LARGEST_COPY = 4 * 2**30
AT_ONCE_BYTES = 16_000_000
"""Of the spool, in one transaction."""
TAKEN_IN_BYTES_PER_S = 10_000_000
"""Of the spool, before a write's own rows, by its patience."""
BATCHES_FASTER = 8
"""Times: rows in batches are taken in column by column."""
OURS: set[tuple[int, int]] = set()
"""Files (device, inode) whose views are the lab's own; to compare them takes milliseconds."""
RETRY_S = 0.05
CURRENT: dict[Path, tuple[int, ...]] = {}
"""When a database of this lab's own tables and views was last seen there: the file, the instant of
its last write and the number of changes. To look again takes as long as a query."""
HELD: set[Path] = set()
"""Databases that somebody else held when this process last asked to write."""
FULL = ("No space left", "Disk quota exceeded", "File too large", "Read-only file system")


class Full(LabError):
    """The disk takes no more, for now: it is full, or refuses."""

    @property
    def why(self) -> str:
        """In few words, without its full stop."""
        if any(word in str(self) for word in FULL[:2]):
            return "the disk is full"
        return getattr(self.__cause__, "strerror", None) or str(self)


class Store:
    """One lab.duckdb. Threads and processes may each have their own Store of one file, and share
    one too.

    Every `write_…` returns True once the rows are safely in the database. Where another program
    holds the file, or the disk refuses, it returns False: the rows are then on disk in the spool,
    readers see them, and the next write of any process takes them in.
    """

    def __init__(self, path: Path | str | None = None, patience_s: float = PATIENCE_S) -> None:
        self.path = Path(path or paths.database()).expanduser().absolute()
        self.patience_s = patience_s
        self._pending: list[dict[str, Any]] = []
        self._journal = Journal(self._spool)
        self._batches = Journal(self._spool, BATCHES)
        self._journalled = 0
        """How many of the pending changes are on disk already, in the journal."""
        self._kept: set[str] = set()
        """Ids of the trials among them."""
        self._writes = threading.RLock()
        self._thread = threading.local()
        self._current: tuple[int, int] | None = None

    # Reading

    def frame(self, sql: str, params: Sequence[Any] | dict[str, Any] = ()) -> pd.DataFrame:
        """The rows of one query, read under the turnstile. UUIDs are str, times are UTC, JSON is
        text; an absent database has no rows."""
        import pandas as pd  # half a second that whoever only writes does not need

        try:
            with self.snapshot():
                relation = self._thread.connection.sql(sql, params=params or None)
                return frames.read(relation) if relation is not None else pd.DataFrame()
        except duckdb.DataError as error:
            raise LabError(
                f"A value in {self.path} cannot be read: {str(error).splitlines()[0]}."
            ) from error

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """This thread's `frame` calls share one opening (each saves 20–30 ms) and see one state.
        Keep it short."""
        if getattr(self._thread, "connection", None):
            yield
            return
        with self.reading() as connection, self._explained():
            self._thread.connection = connection
            try:
                yield
            finally:
                self._thread.connection = None

    @contextmanager
    def only(self, *run_ids: str) -> Iterator[None]:
        """A snapshot in which there are the trials of these runs alone: their metrics are worked
        out once, not by each `frame` that asks for them."""
        ids = ", ".join(f"'{as_uuid(run_id)}'::UUID" for run_id in run_ids)
        chosen = f"run_id IN ({ids})" if len(run_ids) > 1 else f"run_id = {ids or 'NULL'}"
        # Through joins an id reaches the tables underneath, a list of them does not.
        tables = ["trial_metrics"] if len(run_ids) == 1 else ["trials", "calls", "trial_metrics"]
        with self.snapshot():
            try:
                for table in tables:  # the other views then read these tables
                    self.frame(f"CREATE TEMP TABLE {table} AS FROM {table} WHERE {chosen}")
                yield
            finally:
                for table in tables:
                    self.frame(f"DROP TABLE IF EXISTS temp.{table}")

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection while the turn lasts; what waits in the spool is in it. LabError
        where the file cannot be read."""
        if not self._settled():
            with self._overlaid() as connection:
                yield connection
            return
        if not self._exists():
            with migrations.empty().cursor() as connection:
                connection.execute("SET TimeZone = 'UTC'")
                yield connection
            return
        for attempt in range(2):
            with self._opened(self.patience_s, read_only=True) as (connection, _):
                if self._is_current(connection):
                    yield connection
                    return
            if attempt == 0:
                self._bring_up_to_date()
        raise LabError(
            f"{self.path} cannot be brought up to date with this lab. Choose another file with"
            " --db."
        )

    def _settled(self) -> bool:
        """Whether the database has everything, once what waits in the spool is taken in."""
        if not journal.ownerless(self._spool):
            return True
        try:
            with self._turn(SHORT_PATIENCE_S):
                pass
        except (Busy, Full):
            return False
        return not journal.ownerless(self._spool)

    @contextmanager
    def _overlaid(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The database and what waits beside it, together in memory: somebody holds the file, or
        the disk is full."""
        with self._connected(":memory:") as connection:
            migrations.apply(connection)
            if self._exists():
                self._copy_into(connection)
            for path in journal.files(self._spool):
                for _, change in journal.lines(path):
                    with suppress(*journalled_changes.UNFIT):
                        journalled_changes.apply(connection, change)
            for path in journal.files(self._spool, BATCHES):
                with suppress(FileNotFoundError):
                    row_batches.take_in(connection, path)
            yield connection

    def _copy_into(self, connection: duckdb.DuckDBPyConnection) -> None:
        """By a copy, since a file that somebody holds cannot be opened; what is committed is in it
        and its log."""
        try:
            if self.path.stat().st_size > LARGEST_COPY:
                raise Busy(
                    f"{self.path} cannot be written now, and is too large to be read beside what"
                    " waits. Try again later."
                )
            with tempfile.TemporaryDirectory(prefix="lab-copy-") as folder:
                copy = Path(folder) / "lab.duckdb"
                shutil.copyfile(self.path, copy)
                with suppress(FileNotFoundError):
                    shutil.copyfile(f"{self.path}.wal", f"{copy}.wal")
                connection.execute(f"ATTACH {importing.quoted(copy)} AS copied")
                for table in ROWS:
                    if table in journalled_changes.tables(connection, "copied"):
                        connection.execute(
                            f"INSERT INTO {table} BY NAME SELECT * FROM copied.{table}"
                        )
                connection.execute("DETACH copied")
        except (OSError, duckdb.Error) as error:
            raise Busy(
                f"{self.path} is being written by another program, and cannot be read now. Close it"
                " there and try again."
            ) from error

    def version(self) -> int:
        """A number that changes with every write by any process: what pages cache by. 0 where there
        is no database."""
        waiting = journal.size(journal.ownerless(self._spool))
        return turnstile.changes(self.path) + (waiting << 32)

    # Writing

    def write_run(self, row: RunRow) -> bool:
        """Add a run, or renew it when it is resumed (its note and name stay)."""
        if row.status != "running":
            processes.recorded(row.run_id)
        return self._write({"rows": {"runs": [journalled_changes.values(row)]}})

    def write_session(self, row: SessionRow) -> bool:
        """Add a session, or renew what its instrument was found to be."""
        return self._write({"rows": {"sessions": [journalled_changes.values(row)]}})

    def write_level(self, row: LoadLevelRow) -> bool:
        """Add a level of a load, or renew it once it has ended."""
        return self._write({"rows": {"load_levels": [journalled_changes.values(row)]}})

    def keep(self, *trials: FinishedTrial) -> None:
        """On disk, beside the database, before this returns; the next write takes them into the
        database. Raises LabError where the disk refuses: then nobody must be told of any."""
        with self._writes:
            try:
                self._append(*(journalled_changes.of_trials([trial]) for trial in trials))
            except OSError as error:
                raise Full(
                    f"Cannot write {self._spool}: {error.strerror}. What was shown so far is kept;"
                    " once it can be written, go on with `resume`."
                ) from error
            self._kept |= {trial.trial.trial_id for trial in trials}

    def write_trials(self, trials: Sequence[FinishedTrial]) -> bool:
        """Trials with all that belongs to them in one transaction; those that are there already are
        left alone."""
        fresh = [trial for trial in trials if trial.trial.trial_id not in self._kept]
        return self._write(*([journalled_changes.of_trials(fresh)] if fresh else []))

    def keep_batch(self, batch: Batch) -> None:
        """`keep` for many trials at once: a few milliseconds, and no work of the database's."""
        with self._writes:
            try:
                self._batches.restore()
                self._batches.write(row_batches.packed(batch))
            except OSError as error:
                raise LabError(
                    f"Cannot write {self._spool}: {error.strerror}. What was measured so far is"
                    " kept; make room there and start again."
                ) from error

    @property
    def kept_bytes(self) -> int:
        """Of the batches that are on disk, and not in the database."""
        return self._batches.size

    def write_batch(self, batch: Batch | None = None) -> bool:
        """Take in all batches that were kept, and this one; trials that are there already are left
        alone. Readers see a batch once it is in the database."""
        if batch is not None:
            self.keep_batch(batch)
        return self._write()

    def finish_run(self, run_id: str, status: Status) -> bool:
        processes.recorded(run_id)
        return self._write(
            {"update": as_uuid(run_id), "status": status, "ended_utc": clock.utc_now().isoformat()}
        )

    def close_orphans(self, run_id: str) -> bool:
        """Other runs that say they are running have lost their process: only `run_id` is measured
        on this machine, and recordings have a card each."""
        return not self._exists() or self._write(
            {
                "orphans": as_uuid(run_id),
                "alive": sorted(processes.recorded_now()),
                "ended_utc": clock.utc_now().isoformat(),
            }
        )

    def set_note(self, run_id: str, note: str | None) -> bool:
        return self._write({"update": as_uuid(run_id), "note": note or None})

    def rename(self, run_id: str, name: str | None) -> bool:
        return self._write({"update": as_uuid(run_id), "name": name or None})

    def delete_run(self, run_id: str) -> None:
        """Take a run out of every table; `undelete` can bring it back until the next delete."""
        run_id = as_uuid(run_id)
        with self._transaction() as connection:
            if not connection.execute(
                "SELECT 1 FROM runs WHERE run_id = ?::UUID", [run_id]
            ).fetchall():
                raise LabError(f"There is no run {run_id}. List the runs with: {COMMAND} runs")
            shutil.rmtree(self._trash, ignore_errors=True)
            self._trash.mkdir(mode=0o700)
            for table in ROWS:
                file = importing.quoted(self._trash / f"{table}.parquet")
                connection.execute(
                    f"COPY (SELECT * FROM {table} WHERE run_id = '{run_id}') TO {file} (FORMAT"
                    " parquet)"
                )
            for table in reversed(ROWS):
                connection.execute(f"DELETE FROM {table} WHERE run_id = ?::UUID", [run_id])

    def undelete(self) -> str | None:
        """Bring back the run that was deleted last; its id, or None where there is none."""
        file = self._trash / "runs.parquet"
        if not file.exists():
            return None
        self._take_in(importing.Clean(self._trash, None))
        run_id = self.frame("SELECT run_id FROM read_parquet(?)", [str(file)])["run_id"][0]
        shutil.rmtree(self._trash, ignore_errors=True)
        return run_id

    def forget(self, run_id: str) -> None:
        """Take a run out of every file that the lab has for it, so that none of its bytes is left:
        tables, log, spool, what was deleted last, runtime folder. Nothing brings it back. Raises
        LabError, and then nothing has changed."""
        run_id = as_uuid(run_id)
        card = processes.running()
        if run_id in processes.recorded_now() or (card and card.run_id == run_id):
            raise LabError("It is still under way. Stop it first, then forget it.")
        with self._writes:
            if self._pending or self._batches.size:
                self._write()
            with self._turn() as connection:
                deleted = self._deleted() == run_id
                sql = "SELECT 1 FROM runs WHERE run_id = ?::UUID"
                if not deleted and not connection.execute(sql, [run_id]).fetchall():
                    raise LabError(f"There is no run {run_id}. List the runs with: {COMMAND} runs")
                self._replace_without(connection, run_id)
            if deleted:
                shutil.rmtree(self._trash, ignore_errors=True)
            erasure.clear_refused(self._spool, run_id)
        processes.forget(run_id)

    def _replace_without(self, connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
        file = self.path.resolve()
        draft = file.with_name(file.name + ".new")
        try:
            for left in (draft, Path(f"{draft}.wal")):
                left.unlink(missing_ok=True)
            erasure.rewrite(connection, draft, run_id)
            connection.close()
            shutil.copymode(file, draft)
            # It belongs to the old file, and has nothing that the new one has not.
            Path(f"{self.path}.wal").unlink(missing_ok=True)
            draft.replace(file)
        except OSError as error:
            raise LabError(
                f"Cannot write {draft}: {error.strerror}. Nothing was forgotten; make room there"
                " and try again."
            ) from error
        finally:
            for left in (draft, Path(f"{draft}.wal")):
                with suppress(OSError):
                    left.unlink()

    def _deleted(self) -> str | None:
        """The run that was deleted last, and can be brought back."""
        file = self._trash / "runs.parquet"
        if not file.exists():
            return None
        with self._connected(":memory:") as connection, suppress(duckdb.Error):
            rows = connection.execute(
                "SELECT run_id::VARCHAR FROM read_parquet(?)", [str(file)]
            ).fetchall()
            return rows[0][0] if rows else None
        return None

    def import_from(self, source: Path | str, name: str | None = None) -> Imported:
        """Add what another lab.duckdb, or a folder or zip of exported Parquet, has and this one has
        not. `name` is what the file was called, where it has another name here."""
        source = Path(source).expanduser().absolute()
        if source == self.path:
            raise LabError("A database cannot be imported into itself. Choose another file.")
        with importing.cleaned(source, name) as clean:
            return self._take_in(clean)

    def _take_in(self, clean: importing.Clean) -> Imported:
        with self._transaction() as connection:
            return importing.take_in(connection, clean)

    def close(self) -> None:
        """Write what is still in memory; raises LabError if neither the database nor its spool can
        take it."""
        with self._writes:
            try:
                if self._pending or self._batches.size:
                    self._write()
            finally:
                self._journal.close()
                self._batches.close()

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
        with duckdb.connect(name, config=migrations.CONFIG) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except journalled_changes.UNFIT:
            raise
        except duckdb.Error as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> LabError:
        reason = str(error).splitlines()[0].removeprefix("IO Error: ").rstrip(".!")
        if "Corrupt database file" in reason:
            return LabError(
                f"A part of {self.path} is damaged on disk, and this cannot be read from it. Save"
                f" each run that still opens with `{COMMAND} export --run RUN --format"
                " duckdb`, move the file away, and import what was saved."
            )
        if any(word in str(error) for word in FULL):
            return Full(
                f"Cannot write {self.path}: {reason}. Make room there; what waits beside it is"
                " taken in by the next command."
            )
        return LabError(
            f"Cannot read {self.path}: {reason}. Move the file away, or choose another with --db;"
            " the lab then starts an empty one."
        )

    def _open(self, read_only: bool, deadline_ns: int) -> duckdb.DuckDBPyConnection | None:
        """None while a program that knows no turnstile holds the file and the deadline is not
        over."""
        if not read_only and not self.path.exists():
            self._create()
            OURS.add(self._file())
        try:
            connection = duckdb.connect(
                str(self.path), read_only=read_only, config=migrations.CONFIG
            )
        except duckdb.IOException as error:
            if "Could not set lock" not in str(error):
                raise self.unreadable(error) from error
            if clock.now_ns() < deadline_ns:
                return None
            holder = str(error).partition("Conflicting lock is held in ")[2].partition(". ")[0]
            raise Busy(
                f"Another program holds {self.path}{f' ({holder})' if holder else ''}. Close it"
                " there and try again."
            ) from error
        except duckdb.Error as error:
            raise self.unreadable(error) from error
        connection.execute("SET TimeZone = 'UTC'")
        return connection

    def _create(self) -> None:
        """Beside its place first: a full disk must not leave a file that is no database."""
        draft = self.path.with_name(self.path.name + ".new")

        def clear() -> None:
            for file in (draft, draft.with_name(draft.name + ".wal")):
                file.unlink(missing_ok=True)

        clear()
        try:
            with self._explained(), self._connected(str(draft)) as connection:
                migrations.apply(connection, str(self.path))
            draft.chmod(0o600)  # it may come to hold the user's words
            draft.replace(self.path)
        finally:
            clear()

    def _file(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_dev, status.st_ino

    def _is_current(self, connection: duckdb.DuckDBPyConnection) -> bool:
        file = self._file()
        seen = (*file, self.path.stat().st_mtime_ns, turnstile.changes(self.path))
        if self._current != file and CURRENT.get(self.path) != seen:
            with self._explained():
                if not migrations.is_current(connection, str(self.path)):
                    return False
                if file not in OURS and not migrations.is_ours(connection):
                    return False
            OURS.add(file)
            CURRENT[self.path] = seen
        self._current = file
        return True

    def _bring_up_to_date(self) -> None:
        with self._writing() as (connection, turn):
            migrations.apply(connection, str(self.path))
            turn.changed()

    @contextmanager
    def _writing(
        self, patience_s: float | None = None
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, turnstile.Turn]]:
        # While a foreign program keeps the file, no block should wait for it in full again.
        if patience_s is None:
            patience_s = self.patience_s
        elif self.path in HELD:
            patience_s = min(patience_s, 0.2)
        try:
            with self._opened(patience_s, read_only=False) as (connection, turn):
                HELD.discard(self.path)
                yield connection, turn
        except Busy:
            HELD.add(self.path)
            raise

    @contextmanager
    def _opened(
        self, patience_s: float, read_only: bool
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, turnstile.Turn | None]]:
        deadline = clock.now_ns() + int(patience_s * 1e9)
        take_turn = turnstile.reading if read_only else turnstile.writing
        while True:
            with take_turn(self.path, patience_s) as turn:
                self._exists()
                connection = self._open(read_only, deadline)
                if connection is not None:
                    with connection:
                        yield connection, turn
                    return
            clock.pause_s(RETRY_S)

    @contextmanager
    def _turn(self, patience_s: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """To write in, once what waits in the spool is in. `patience_s` where the spool will do as
        well."""
        with self._writes, self._writing(patience_s) as (connection, turn), self._explained():
            if not self._is_current(connection):
                migrations.apply(connection, str(self.path))
            self._take_in_spool(connection, turn)
            self._take_in_batches(connection, turn)
            yield connection
            turn.changed()

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._turn() as connection, migrations.transaction(connection):
            yield connection

    def _take_in_spool(self, connection: duckdb.DuckDBPyConnection, turn: turnstile.Turn) -> None:
        """In the order of the files, many in one transaction. A line that does not fit is set
        aside, and keeps no other out."""
        waiting = journal.files(self._spool)
        while waiting:
            with ExitStack() as locks:
                lines: list[tuple[Path, str, dict[str, Any]]] = []
                files, size = [], 0
                while waiting and size < AT_ONCE_BYTES:
                    file = waiting.pop(0)
                    if locks.enter_context(journal.taken(file)):
                        files.append(file)
                        size += file.stat().st_size
                        lines += ((file, text, change) for text, change in journal.lines(file))
                unfit = journalled_changes.applied([line[-1] for line in lines], connection)
                for file in files:
                    wrong = [lines[place][1] for place in unfit if lines[place][0] == file]
                    # Only now: if the process ends before this, it is taken in again, which changes
                    # nothing.
                    if not wrong or journal.set_aside(file, wrong):
                        file.unlink(missing_ok=True)
                if lines:
                    turn.changed()

    def _take_in_batches(self, connection: duckdb.DuckDBPyConnection, turn: turnstile.Turn) -> None:
        """This Store's own and those without an owner. What does not fit is set aside."""
        with suppress(OSError):
            if self._batches.size:
                self._insert_batches(connection, self._batches.file.fileno())
                self._batches.clear()
                turn.changed()
            for file in journal.files(self._spool, BATCHES):
                with journal.taken(file) as is_ours:
                    if is_ours:
                        self._insert_batches(connection, file)
                        file.unlink(missing_ok=True)
                        turn.changed()

    def _insert_batches(self, connection: duckdb.DuckDBPyConnection, source: Path | int) -> None:
        for data in row_batches.take_in(connection, source):
            journal.set_batch_aside(self._spool, data)

    def _write(self, *added: dict[str, Any]) -> bool:
        with self._writes:
            self._pending += added
            try:
                waiting = journal.size(journal.files(self._spool))
                others = {*journal.files(self._spool, BATCHES)} - {self._batches.path}
                waiting += journal.size(others) // BATCHES_FASTER
                if waiting > self.patience_s * TAKEN_IN_BYTES_PER_S:
                    raise Busy(
                        f"Much waits beside {self.path}; the next who reads it takes that in."
                    )
                with self._turn(self.patience_s) as connection:
                    unfit = journalled_changes.applied(self._pending, connection)
            except (Busy, Full) as error:
                self._keep_in_spool()
                if self._pending:
                    raise Full(
                        f"Neither {self.path} nor {self._spool} can be written: {error}"
                    ) from error
                return False
            except LabError:
                self._keep_in_spool()
                raise
            lines = [journal.line(self._pending[place]) for place in unfit]
            if lines and not journal.set_aside(self._spool / new_id(), lines):
                raise LabError(
                    f"{len(lines)} rows do not fit {self.path}, and {self._spool} cannot be written"
                    " to set them aside."
                )
            self._forget()
            self._journal.clear()
            if lines:
                raise LabError(
                    f"{len(lines)} rows do not fit {self.path}, and are set aside in {self._spool}."
                )
            return True

    def _append(self, *added: dict[str, Any]) -> None:
        """To the journal, with what is pending and not in it yet; OSError where the disk
        refuses."""
        if self._journal.is_lost():
            self._journalled = 0  # somebody has removed the folder
        self._pending += added
        try:
            self._journal.append(self._pending[self._journalled :])
        except OSError:
            del self._pending[len(self._pending) - len(added) :]
            raise
        self._journalled = len(self._pending)

    def _forget(self) -> None:
        self._pending.clear()
        self._kept.clear()
        self._journalled = 0

    def _keep_in_spool(self) -> None:
        """On disk at once, where a killed process loses nothing; in memory where the disk
        refuses."""
        with suppress(OSError):
            self._append()
            # Without an owner, so that whoever reads or writes next takes it in.
            self._journal.close()
            self._batches.close()
            self._forget()


def as_uuid(text: str) -> str:
    """An id as DuckDB writes it. Raises LabError for what is none."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise LabError(
            f"{text!r} is not the id of a run. List the runs with: {COMMAND} runs"
        ) from None
