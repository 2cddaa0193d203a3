"""Rows by the thousand, as Arrow tables: on disk as records of a journal, and into the tables from
there. What belongs to a trial is in the trial's batch."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb

from lab.store import journalled_changes, migrations
from lab.store.journalled_changes import UNFIT

if TYPE_CHECKING:
    import pyarrow as pa

HEAD = struct.Struct("<8sQ")
MARK = b"labrows1"
AT_ONCE_BYTES = 64_000_000
"""Of a journal, in one transaction."""
READ_BYTES = 1 << 30
"""No system reads more at one go than two of these."""


class Batch(NamedTuple):
    """Whole trials, each table with all columns of its own (`table`)."""

    trials: pa.Table
    calls: pa.Table
    spans: pa.Table
    events: pa.Table


def table(name: str, columns: Mapping[str, Any]) -> pa.Table:
    """Rows of one table from a sequence, an array or an Arrow array for each column; what a column
    cannot hold is made to fit as in a journal, and a column that is not there is null.

    A UUID is 16 bytes, JSON any value, an instant a datetime.
    """
    import pyarrow as pa

    length = len(next(iter(columns.values())))
    types = journalled_changes.types(name)
    arrays = [
        _array(columns[column], kind) if column in columns else pa.nulls(length, _type(kind))
        for column, kind in types.items()
    ]
    return pa.table(arrays, names=list(types))


def packed(batch: Batch) -> bytes:
    """A record of a journal: its length, and the tables as Arrow's IPC streams."""
    import pyarrow as pa

    out = io.BytesIO(HEAD.pack(MARK, 0))
    out.seek(HEAD.size)
    for rows in batch:
        with pa.ipc.new_stream(out, rows.schema) as stream:
            stream.write_table(rows)
    out.seek(0)
    out.write(HEAD.pack(MARK, len(out.getbuffer()) - HEAD.size))
    return out.getvalue()


def unpacked(record: bytes) -> Batch:
    """What `packed` made the record of."""
    return _unpacked(record[HEAD.size :])


def take_in(connection: duckdb.DuckDBPyConnection, journal: Path | int) -> list[bytes]:
    """All records of a journal into the tables, many in one transaction; answers with those that do
    not fit or are torn. Trials that are there already are left alone."""
    refused: list[bytes] = []
    waiting: list[bytes] = []
    for data, whole in records(journal):
        if not whole:
            refused.append(data)
            continue
        waiting.append(data)
        if sum(map(len, waiting)) >= AT_ONCE_BYTES:
            refused += _applied(connection, waiting)
            waiting = []
    return refused + _applied(connection, waiting)


def records(journal: Path | int) -> Iterator[tuple[bytes, bool]]:
    """Each record, and whether it is whole; by the journal's place, or its descriptor where the
    place may be gone."""
    if isinstance(journal, Path):
        with journal.open("rb") as file:
            yield from records(file.fileno())
        return
    place, size = 0, os.fstat(journal).st_size
    while place < size:
        mark, length = b"", 0
        if place + HEAD.size <= size:
            mark, length = HEAD.unpack(os.pread(journal, HEAD.size, place))
        begin = place + HEAD.size
        if mark != MARK or begin + length > size:
            yield _read(journal, place, size), False
            return
        place = begin + length
        yield _read(journal, begin, place), True


def insert(connection: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    """Into the tables, less the trials that are there already. Raises UNFIT."""
    for name, rows in batch._asdict().items():
        connection.register(f"batch_{name}", rows)
    try:
        there = "SELECT trial_id FROM batch_trials SEMI JOIN trials USING (run_id, trial_id)"
        fresh = of_fresh = "TRUE"
        if connection.execute(f"{there} LIMIT 1").fetchall():
            connection.execute(f"CREATE OR REPLACE TEMP TABLE old_trials AS {there}")
            fresh = "trial_id NOT IN (FROM old_trials)"
            of_fresh = f"call_id IN (SELECT call_id FROM batch_calls WHERE {fresh})"
        for name in Batch._fields:
            where = of_fresh if name == "events" else fresh
            connection.execute(f"INSERT INTO {name} BY NAME FROM batch_{name} WHERE {where}")
    finally:
        for name in Batch._fields:
            connection.unregister(f"batch_{name}")


# Within


def _applied(connection: duckdb.DuckDBPyConnection, waiting: Sequence[bytes]) -> list[bytes]:
    try:
        with migrations.transaction(connection):
            for data in waiting:
                insert(connection, _unpacked(data))
        return []
    except UNFIT:
        pass
    refused = []
    for data in waiting:
        try:
            with migrations.transaction(connection):
                insert(connection, _unpacked(data))
        except UNFIT:
            refused.append(data)
    return refused


def _unpacked(data: bytes) -> Batch:
    """Raises ValueError where it is none."""
    import pyarrow as pa

    source = pa.BufferReader(data)
    tables = []
    try:
        for _ in Batch._fields:
            with pa.ipc.open_stream(source) as stream:
                tables.append(stream.read_all())
    except OSError as error:  # as Arrow calls a part that ends too early
        raise ValueError(str(error)) from error
    return Batch(*tables)


def _read(descriptor: int, begin: int, end: int) -> bytes:
    parts = []
    while begin < end and (part := os.pread(descriptor, min(end - begin, READ_BYTES), begin)):
        parts.append(part)
        begin += len(part)
    return b"".join(parts)


def _type(kind: str) -> pa.DataType:
    import pyarrow as pa

    return {
        "UUID": pa.uuid(),
        "INTEGER": pa.int32(),
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
    }.get(kind, pa.string())


def _array(values: Any, kind: str) -> pa.Array:
    import pyarrow as pa

    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if kind in ("JSON", "DOUBLE"):
        values = [journalled_changes.value(one, kind) for one in values]
    try:
        if kind == "VARCHAR" and "\0" in "".join(filter(None, values)):
            raise ValueError("a NUL character")
        return pa.array(values, _type(kind))
    except (OverflowError, TypeError, ValueError):
        return pa.array([journalled_changes.value(one, kind) for one in values], _type(kind))
