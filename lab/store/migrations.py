"""The schema as numbered files, applied once each, and metrics.sql, whose views are replaced
whenever the file has changed."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import duckdb

from lab.model import LabError
from lab.rows import ROWS

SCHEMA = Path(__file__).parent / "schema"
VIEWS = Path(__file__).parent / "metrics.sql"
# What a program of the lab never needs; the same for all connections of a process to one file, or
# DuckDB refuses the second one.
CONFIG = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}


@cache
def wanted() -> dict[str, str]:
    """File name → hash of its text, in the order of application; metrics.sql comes last."""
    files = [*sorted(SCHEMA.glob("[0-9]*.sql")), VIEWS]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files}


def is_current(connection: duckdb.DuckDBPyConnection, where: str) -> bool:
    """Whether every migration and these very views are there. Raises LabError for a database of a
    newer lab."""
    applied = _applied(connection)
    if newer := sorted(applied.keys() - wanted().keys()):
        raise LabError(
            f"{where} was written by a newer version of the lab (it has {newer[-1]})."
            " Update the lab, or choose another file with --db."
        )
    return applied.keys() == wanted().keys() and applied[VIEWS.name] == wanted()[VIEWS.name]


def is_ours(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the views and macros are those of metrics.sql and no others, whatever the file says:
    a foreign one could run code."""
    definitions = _definitions(connection)
    return definitions == _own_definitions() or definitions == _own_definitions(storage(connection))


def apply(connection: duckdb.DuckDBPyConnection, where: str = "the database") -> None:
    """Bring a database up to date, in one transaction."""
    if is_current(connection, where) and is_ours(connection):
        return
    applied = _applied(connection)
    try:
        with transaction(connection):
            connection.execute(
                "CREATE TABLE IF NOT EXISTS migrations"
                " (name VARCHAR NOT NULL, hash VARCHAR NOT NULL, applied_utc TIMESTAMPTZ NOT NULL)"
            )
            for name, digest in wanted().items():
                if name == VIEWS.name:
                    _drop_definitions(connection)
                    _check_tables(connection)
                elif name in applied:
                    continue
                connection.execute(_text(name))
                connection.execute("DELETE FROM migrations WHERE name = ?", [name])
                connection.execute("INSERT INTO migrations VALUES (?, ?, now())", [name, digest])
    except duckdb.CatalogException as error:
        raise LabError(
            f"{where} is not a database of the lab ({str(error).splitlines()[0]})."
            " Choose another file with --db."
        ) from error


@cache
def empty() -> duckdb.DuckDBPyConnection:
    """A database in memory without a row, to take cursors of. Made once a process: that takes a
    fifth of a second. One thread, since a process that is forked has no other."""
    connection = duckdb.connect(":memory:", config={**CONFIG, "threads": 1})
    apply(connection)
    return connection


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
        connection.commit()
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has ended the transaction
            connection.rollback()
        raise


def _text(name: str) -> str:
    return (VIEWS if name == VIEWS.name else SCHEMA / name).read_text(encoding="utf-8")


def _applied(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    there = connection.execute(
        "SELECT 1 FROM system.main.duckdb_tables()"
        " WHERE table_name = 'migrations' AND NOT temporary"
    ).fetchall()
    return dict(connection.execute("SELECT name, hash FROM migrations").fetchall()) if there else {}


def _definitions(connection: duckdb.DuckDBPyConnection) -> list[tuple]:
    """Read from the catalog: nothing of them is run. Its functions are named in full, since a macro
    may have the name of any function.

    Texts as the words in them, sorted: DuckDB keeps the names of an EXCLUDE in no order.
    """
    rows = connection.execute(
        """
        SELECT 'view', schema_name, view_name, sql
        FROM system.main.duckdb_views()
        WHERE NOT internal
        UNION ALL
        SELECT function_type, schema_name, function_name, macro_definition
        FROM system.main.duckdb_functions()
        WHERE NOT internal
        ORDER BY ALL
        """
    ).fetchall()
    return [(*names, sorted(re.findall(r"\w+|[^\w\s]", text or ""))) for *names, text in rows]


def storage(connection: duckdb.DuckDBPyConnection) -> str:
    """The oldest DuckDB that reads the file, such as v1.0.0; empty in memory."""
    rows = connection.execute(
        "SELECT tags FROM system.main.duckdb_databases() WHERE NOT internal"
    ).fetchall()
    return rows[0][0].get("storage_version", "").rstrip("+")


@cache
def _own_definitions(storage: str = "") -> list[tuple]:
    """As they come back out of a file: in an older storage DuckDB words some expressions
    otherwise."""
    if not storage:
        return _definitions(empty().cursor())
    with tempfile.TemporaryDirectory(prefix="lab-views-") as folder:
        file = Path(folder) / "own"
        config = {"storage_compatibility_version": storage}
        with duckdb.connect(str(file), config=config) as connection:
            for name in wanted():
                connection.execute(_text(name))
        with duckdb.connect(str(file), read_only=True) as connection:
            return _definitions(connection)


def _drop_definitions(connection: duckdb.DuckDBPyConnection) -> None:
    for kind, schema, name, _ in _definitions(connection):
        word = {"view": "VIEW", "table_macro": "MACRO TABLE"}.get(kind, "MACRO")
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, name))
        connection.execute(f"DROP {word} IF EXISTS {quoted} CASCADE")


def _check_tables(connection: duckdb.DuckDBPyConnection) -> None:
    tables = connection.execute(
        "SELECT table_name FROM system.main.duckdb_tables() WHERE NOT temporary"
    ).fetchall()
    if missing := sorted(set(ROWS) - {name for (name,) in tables}):
        raise duckdb.CatalogException(f"it has no table {missing[0]}")
