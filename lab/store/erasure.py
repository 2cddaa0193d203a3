"""A run taken out of every file that the lab keeps, for good: DuckDB leaves deleted rows in the
file's free room, so the whole file is written anew without them."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb

from lab.store import migrations
from lab.store.importing import quoted
from lab.store.journal import BATCHES


def rewrite(connection: duckdb.DuckDBPyConnection, fresh: Path, run_id: str) -> None:
    """The connection's database as the file `fresh`, all of it but this run; whoever made other
    tables there finds them again."""
    ((own,),) = connection.execute("SELECT current_database()").fetchall()
    storage = migrations.storage(connection)
    version = f" (STORAGE_VERSION '{storage}')" if storage else ""
    connection.execute(f"ATTACH {quoted(fresh)} AS fresh{version}")
    connection.execute(f'COPY FROM DATABASE "{own}" TO fresh (SCHEMA)')
    for schema, table, has_run in connection.execute(
        """
        SELECT
            schema_name,
            table_name,
            table_oid IN (
                SELECT table_oid
                FROM system.main.duckdb_columns()
                WHERE column_name = 'run_id' AND database_name = current_database()
            )
        FROM system.main.duckdb_tables()
        WHERE database_name = current_database() AND NOT temporary
        """
    ).fetchall():
        place = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, table))
        rest = " WHERE run_id::VARCHAR IS DISTINCT FROM ?" if has_run else ""
        connection.execute(
            f'INSERT INTO fresh.{place} SELECT * FROM "{own}".{place}{rest}',
            [run_id] if has_run else [],
        )
    connection.execute("DETACH fresh")


def clear_refused(spool: Path, run_id: str) -> None:
    """Lines that did not fit the database, less what is this run's in them; a batch of rows that
    did not goes whole."""
    with suppress(FileNotFoundError):
        for file in spool.glob("*.refused"):
            if file.stem.endswith(BATCHES):
                if uuid.UUID(run_id).bytes in file.read_bytes():
                    file.unlink()
                continue
            lines = file.read_text(errors="replace").splitlines()
            rest = [text for line in lines if (text := _without(line, run_id))]
            if rest:
                file.write_text("".join(line + "\n" for line in rest))
            else:
                file.unlink()


def _without(line: str, run_id: str) -> str | None:
    if run_id not in line:
        return line
    try:
        change: Any = json.loads(line)
        rows = {
            table: [row for row in rows if row.get("run_id") != run_id]
            for table, rows in change["rows"].items()
        }
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return json.dumps({"rows": rows}) if any(rows.values()) else None
