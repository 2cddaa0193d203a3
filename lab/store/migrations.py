"""The schema as numbered files, applied once each, and metrics.sql, whose views are replaced whenever the file has changed."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import duckdb

from lab.model import LabError

SCHEMA = Path(__file__).parent / "schema"
METRICS = Path(__file__).parent / "metrics.sql"
TABLES = ("runs", "sessions", "trials", "calls", "spans", "events")


@cache
def wanted() -> dict[str, str]:
    """File name → hash of its text, in the order of application; metrics.sql comes last."""
    files = [*sorted(SCHEMA.glob("[0-9]*.sql")), METRICS]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files}


def is_current(connection: duckdb.DuckDBPyConnection, where: str) -> bool:
    """Whether every migration and these very views are there. Raises LabError for a database of a newer lab."""
    found = _applied(connection)
    if newer := sorted(found.keys() - wanted().keys()):
        raise LabError(
            f"{where} was written by a newer version of the lab (it has {newer[-1]}). Update the lab, or choose another file with --db."
        )
    return found.keys() == wanted().keys() and found[METRICS.name] == wanted()[METRICS.name]


def apply(connection: duckdb.DuckDBPyConnection, where: str = "the database") -> None:
    """Bring a database up to date, in one transaction."""
    if is_current(connection, where):
        return
    found = _applied(connection)
    connection.begin()
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (name VARCHAR NOT NULL, hash VARCHAR NOT NULL, applied_utc TIMESTAMPTZ NOT NULL)"
        )
        for name, digest in wanted().items():
            if name == METRICS.name:
                _drop_views(connection)
            elif name in found:
                continue
            connection.execute((METRICS if name == METRICS.name else SCHEMA / name).read_text())
            connection.execute("DELETE FROM migrations WHERE name = ?", [name])
            connection.execute("INSERT INTO migrations VALUES (?, ?, now())", [name, digest])
        connection.commit()
    except duckdb.CatalogException as error:
        connection.rollback()
        raise LabError(f"{where} is not a database of the lab ({str(error).splitlines()[0]}). Choose another file with --db.") from error
    except BaseException:
        connection.rollback()
        raise


def _applied(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    there = connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'migrations' AND NOT temporary").fetchall()
    return dict(connection.execute("SELECT name, hash FROM migrations").fetchall()) if there else {}


def _drop_views(connection: duckdb.DuckDBPyConnection) -> None:
    for (view,) in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall():
        connection.execute(f'DROP VIEW "{view}"')
