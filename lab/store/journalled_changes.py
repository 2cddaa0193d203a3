"""What is written, as changes: each is a line of a journal, and rows of the tables once it is
applied; again changes nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any

import duckdb

from lab.rows import CallRow, EventRow, FinishedTrial, RunRow, SessionRow, SpanRow, TrialRow
from lab.store import migrations

ROWS = {
    "runs": RunRow,
    "sessions": SessionRow,
    "trials": TrialRow,
    "calls": CallRow,
    "spans": SpanRow,
    "events": EventRow,
}
COLUMNS = {table: [column.name for column in fields(row)] for table, row in ROWS.items()}
# What a row can be wrong in. Whatever else a write fails with says nothing about the row: it could
# not be written, and is kept.
UNFIT = (
    duckdb.DataError,
    duckdb.IntegrityError,
    duckdb.NotSupportedError,
    duckdb.ProgrammingError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def of_trials(trials: Sequence[FinishedTrial]) -> dict[str, Any]:
    return {
        "rows": {
            "trials": [values(finished.trial) for finished in trials],
            "calls": [values(row) for finished in trials for row in finished.calls],
            "spans": [values(row) for finished in trials for row in finished.spans],
            "events": [
                {**values(row), "trial_id": finished.trial.trial_id}
                for finished in trials
                for row in finished.events
            ],
        }
    }


def values(row: Any) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in fields(row)}


def plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value)} does not belong in a row")


def applied(
    changes: list[Any], connection: duckdb.DuckDBPyConnection, names: list[Any], begun: bool = False
) -> list[Any]:
    """Apply all in one transaction, or, where one does not fit, each in its own; answers with the
    names of those that do not fit.

    `begun`: the caller has begun the transaction and ends it.
    """
    try:
        if not begun:
            connection.begin()
        for change in changes:
            apply(connection, change)
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
            apply(connection, change)
            connection.commit()
        except UNFIT:
            connection.rollback()
            unfit.append(name)
    if begun:
        connection.begin()
    return unfit


def apply(connection: duckdb.DuckDBPyConnection, change: Any) -> None:
    """One change, which may have been applied before. Raises UNFIT."""
    if not isinstance(change, dict):
        raise TypeError("no change")
    if run_id := change.get("orphans"):
        sql = (
            "UPDATE runs SET status = 'interrupted' WHERE status = 'running' AND run_id <> ?::UUID"
            " AND started_utc < ?::TIMESTAMPTZ"
        )
        connection.execute(sql, [run_id, change["ended_utc"]])
    elif run_id := change.get("update"):
        columns = [name for name in ("status", "ended_utc", "note", "name") if name in change]
        assignments = ", ".join(f"{name} = ?" for name in columns)
        connection.execute(
            f"UPDATE runs SET {assignments} WHERE run_id = ?::UUID",
            [*(change[name] for name in columns), run_id],
        )
    else:
        _insert(connection, change["rows"])


def _insert(connection: duckdb.DuckDBPyConnection, rows: dict[str, list[dict[str, Any]]]) -> None:
    renewed = ", ".join(
        f"{name} = excluded.{name}" for name in ("models", "settings", "status", "ended_utc")
    )
    for table, conflict in (
        ("runs", f"(run_id) DO UPDATE SET {renewed}"),
        ("sessions", "DO NOTHING"),
    ):
        columns = COLUMNS[table]
        for row in rows.get(table, []):
            places = ", ".join("?" * len(columns))
            connection.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT"
                f" {conflict}",
                _row(table, row),
            )
    if trials := rows.get("trials"):
        # A trial and all that belongs to it are written in one transaction: where the trial is, the
        # rest is.
        ids = [row["trial_id"] for row in trials]
        known = {
            found
            for (found,) in connection.execute(
                "SELECT trial_id::VARCHAR FROM trials WHERE trial_id IN (SELECT unnest(?)::UUID)",
                [ids],
            ).fetchall()
        }
        for table in ("trials", "calls", "spans", "events"):
            fresh = [
                _row(table, row) for row in rows.get(table, []) if row["trial_id"] not in known
            ]
            if fresh:
                appender = connection.appender(table, columns=COLUMNS[table])
                appender.append_rows(fresh)
                appender.flush()


def _row(table: str, row: dict[str, Any]) -> list[Any]:
    return [_value(row.get(name), kind) for name, kind in _types(table).items()]


@cache
def _types(table: str) -> dict[str, str]:
    """Column name to DuckDB's type, as the migrations make it."""
    with duckdb.connect(":memory:") as connection:
        migrations.apply(connection)
        return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {table}").fetchall()}


def _value(value: Any, kind: str) -> Any:
    """What the column can hold, whatever a server has sent: a number out of range is null, half an
    emoji or a NUL character is a mark."""
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
        return (
            value
            if value.isprintable() and value.isascii()
            else value.replace("\0", "␀").encode("utf-8", "replace").decode()
        )
    return value


BITS = {"INTEGER": 32, "BIGINT": 64}


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {str(name): _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
