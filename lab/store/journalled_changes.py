"""What is written, as changes: each is a line of a journal, and rows of the tables once it is
applied; again changes nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

import duckdb

from lab.rows import FinishedTrial
from lab.store import migrations

# What a row can be wrong in. Whatever else a write fails with says nothing about the row.
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

OF_A_TRIAL = ("trials", "calls", "spans", "events", "recorded_calls", "recorded_blocks")


def of_trials(trials: Sequence[FinishedTrial]) -> dict[str, Any]:
    rows: dict[str, list[dict[str, Any]]] = {table: [] for table in OF_A_TRIAL}
    for finished in trials:
        rows["trials"].append(values(finished.trial))
        for table in ("calls", "spans", "recorded_calls", "recorded_blocks"):
            rows[table] += map(values, getattr(finished, table))
        of_trial = {"trial_id": finished.trial.trial_id}
        rows["events"] += [values(event) | of_trial for event in finished.events]
    return {"rows": rows}


def values(row: Any) -> dict[str, Any]:
    return {column.name: getattr(row, column.name) for column in fields(row)}


def applied(changes: list[Any], connection: duckdb.DuckDBPyConnection) -> list[int]:
    """Apply all in one transaction, or, where one does not fit, each in its own; answers with the
    places of those that do not fit."""
    try:
        with migrations.transaction(connection):
            for change in _together(changes):
                apply(connection, change)
        return []
    except UNFIT:
        pass
    unfit = []
    for place, change in enumerate(changes):
        try:
            with migrations.transaction(connection):
                apply(connection, change)
        except UNFIT:
            unfit.append(place)
    return unfit


def _together(changes: list[Any]) -> Iterator[Any]:
    """Trials that follow one another as one change: to append the rows of a table costs two
    milliseconds, however many they are."""
    gathered: dict[str, list[dict[str, Any]]] = {}
    known: set[str] = set()
    for change in changes:
        rows = change.get("rows") if isinstance(change, dict) else None
        if rows and rows.keys() <= {*OF_A_TRIAL} and rows.get("trials"):
            for table, more in rows.items():
                fresh = [row for row in more if row["trial_id"] not in known]
                gathered.setdefault(table, []).extend(fresh)
            known |= {row["trial_id"] for row in rows["trials"]}
            continue
        if gathered:
            yield {"rows": gathered}
            gathered, known = {}, set()
        yield change
    if gathered:
        yield {"rows": gathered}


def apply(connection: duckdb.DuckDBPyConnection, change: Any) -> None:
    """One change, which may have been applied before. Raises UNFIT."""
    if not isinstance(change, dict):
        raise TypeError("no change")
    if run_id := change.get("orphans"):
        connection.execute(
            "UPDATE runs SET status = 'interrupted' WHERE status = 'running' AND run_id <> ?::UUID"
            " AND started_utc < ?::TIMESTAMPTZ AND run_id NOT IN (SELECT unnest(?)::UUID)",
            [run_id, change["ended_utc"], change.get("alive") or []],
        )
    elif run_id := change.get("update"):
        columns = [name for name in ("status", "ended_utc", "note", "name") if name in change]
        assignments = ", ".join(f"{name} = ?" for name in columns)
        connection.execute(
            f"UPDATE runs SET {assignments} WHERE run_id = ?::UUID",
            [*(change[name] for name in columns), run_id],
        )
    else:
        _insert(connection, change["rows"])


RENEWED = {
    "runs": ("run_id", ("models", "settings", "status", "ended_utc")),
    "sessions": ("session_id", ("instrument",)),
    "load_levels": ("session_id, level", ("planned", "ended_ns", "not_begun", "reason", "client")),
}
"""Rows that may be written again: by which columns they are known, and which are then renewed."""


def _insert(connection: duckdb.DuckDBPyConnection, rows: dict[str, list[dict[str, Any]]]) -> None:
    for table, (key, names) in RENEWED.items():
        renewed = ", ".join(f"{name} = excluded.{name}" for name in names)
        conflict = f"({key}) DO UPDATE SET {renewed}"
        columns = types(table)
        places = ", ".join("?" * len(columns))
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT {conflict}"
        for row in rows.get(table, []):
            connection.execute(sql, _row(table, row))
    if trials := rows.get("trials"):
        # A trial and all that belongs to it are written in one transaction: where the trial is, the
        # rest is.
        ids = [row["trial_id"] for row in trials]
        sql = "SELECT trial_id::VARCHAR FROM trials WHERE trial_id IN (SELECT unnest(?)::UUID)"
        known = set(connection.execute(sql, [ids]).fetchall())
        for table in OF_A_TRIAL:
            fresh = [row for row in rows.get(table, []) if (row["trial_id"],) not in known]
            if fresh:
                appender = connection.appender(table, columns=list(types(table)))
                appender.append_rows([_row(table, row) for row in fresh])
                appender.flush()


def tables(connection: duckdb.DuckDBPyConnection, database: str) -> set[str]:
    """Those of an attached database, which an older lab may have made."""
    rows = connection.execute(
        "SELECT table_name FROM system.main.duckdb_tables() WHERE database_name = ?", [database]
    ).fetchall()
    return {name for (name,) in rows}


def _row(table: str, row: dict[str, Any]) -> list[Any]:
    return [value(row.get(name), kind) for name, kind in types(table).items()]


def types(table: str) -> dict[str, str]:
    """Column name to DuckDB's type, as the migrations make it."""
    return _all_types()[table]


@cache
def _all_types() -> dict[str, dict[str, str]]:
    asked = migrations.empty().cursor()
    asked.execute(
        "SELECT table_name, column_name, data_type FROM system.main.duckdb_columns()"
        " WHERE NOT internal ORDER BY column_index"
    )
    by_table: dict[str, dict[str, str]] = {}
    for table, name, kind in asked.fetchall():
        by_table.setdefault(table, {})[name] = kind
    return by_table


def value(value: Any, kind: str) -> Any:
    """What the column can hold, whatever a server has sent: a number out of range is null, half an
    emoji or a NUL character is a mark."""
    if value is None:
        return None
    try:
        if kind in LIMITS:
            number = int(value)
            return number if -LIMITS[kind] <= number < LIMITS[kind] else None
        if kind == "DOUBLE":
            number = float(value)
            return number if math.isfinite(number) else None
    except (OverflowError, TypeError, ValueError):
        return None
    if kind == "JSON":
        return json.dumps(_finite(value), allow_nan=False)
    if kind == "VARCHAR":
        return str(value).replace("\0", "␀").encode("utf-8", "replace").decode()
    return value


LIMITS = {"INTEGER": 2**31, "BIGINT": 2**63}


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {str(name): _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
