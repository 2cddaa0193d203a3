"""A user's own SQL, run where it can do no harm: one query, read-only, in a process of its own that
is killed at its limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lab import paths
from lab.model import LabError

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from lab.store.store import Store

MAX_BYTES = 64_000_000
TYPES = b"types"
"""Under which key the answer's schema has the types that Arrow has not."""
REFUSED = 3
"""The exit code of a process that says why on stderr."""
CONFINED = (
    "TimeZone = 'UTC'",
    "python_enable_replacements = false",
    "autoinstall_known_extensions = false",
    "autoload_known_extensions = false",
    "allow_community_extensions = false",
    "enable_external_access = false",
    "lock_configuration = true",
)


def run_sql(
    store: Store, sql: str, timeout_s: float = 5, memory: str = "512MB", max_rows: int = 10_000
) -> pd.DataFrame:
    """The rows of one SELECT, WITH, DESCRIBE, SHOW or SUMMARIZE; at most `max_rows`, then
    `frame.attrs["truncated"]` is True. Everything else, and whatever passes a limit, is a LabError.
    A writer waits at most `timeout_s` for it.

    Whole numbers stay whole where some are missing; `frame.attrs["types"]` has the DuckDB type of
    each column that is text to pandas and more to DuckDB."""
    import pandas as pd
    import pyarrow as pa

    store.frame("SELECT 1")  # an older file is brought up to date here, where writing is allowed
    order = {
        "path": str(store.path),
        "sql": sql,
        "memory": memory,
        "max_rows": max_rows,
        "cpu_s": int(timeout_s) + 2,
    }
    answer = alone(
        "lab.store.sandbox",
        order,
        timeout_s + 1,  # for starting Python
        f"The query took longer than {timeout_s:g} s and was stopped. Narrow it with WHERE"
        " run_id = … or look at fewer rows.",
        f"The query passed its limits ({memory}, {timeout_s:g} s) and was stopped. Narrow it"
        " with WHERE run_id = … or LIMIT.",
    )
    table = pa.ipc.open_stream(answer).read_all()
    whole = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}
    frame = table.to_pandas(types_mapper=whole.get)
    frame.attrs["types"] = json.loads(table.schema.metadata[TYPES])
    frame.attrs["truncated"] = len(frame) > max_rows
    return frame.head(max_rows)


def alone(module: str, order: dict, timeout_s: float, too_slow: str, killed: str) -> bytes:
    """What a module of the lab answers as a process that is given its order on stdin and nothing
    else. LabError with its own sentence, or one of the two."""
    # No other variable, such as a key, is within reach of a hole in the SQL engine.
    names = os.environ.keys() & {"PATH", "LANG", "LC_ALL", "TMPDIR"}
    try:
        done = subprocess.run(
            paths.module(module),
            input=json.dumps(order).encode(),
            capture_output=True,
            timeout=timeout_s,
            cwd=paths.ROOT,
            env={name: os.environ[name] for name in names},
        )
    except subprocess.TimeoutExpired:
        raise LabError(too_slow) from None
    if done.returncode == REFUSED:
        raise LabError(done.stderr.decode(errors="replace").strip())
    if done.returncode:
        raise LabError(killed)
    return done.stdout


def _answer(order: dict) -> bytes:
    import duckdb

    statements = duckdb.extract_statements(order["sql"])
    if len(statements) != 1:
        raise LabError(
            f"One query at a time, please: this is {len(statements)}."
            if statements
            else "There is no query. Try: SELECT * FROM runs"
        )
    if statements[0].type != duckdb.StatementType.SELECT:
        raise LabError("Only a query can run here: SELECT, WITH, DESCRIBE, SHOW or SUMMARIZE.")
    # What is refused above needs none of these.
    import pyarrow as pa

    from lab.store import frames, migrations, turnstile

    path = Path(order["path"])
    with turnstile.reading(path, 10):
        connection = (
            duckdb.connect(str(path), read_only=True)
            if path.exists()
            else duckdb.connect(":memory:")
        )
        if not path.exists():
            migrations.apply(connection)
        confine(connection, 1, order["memory"], "temp_directory = ''")
        asked = connection.sql(order["sql"]).limit(order["max_rows"] + 1)
        rows = frames.shown(connection, asked)
        kinds = dict(zip(asked.columns, map(str, asked.types), strict=True))
        types = {name: kind for name, kind in kinds.items() if kind in ("UUID", "JSON")}
        rows = rows.replace_schema_metadata({TYPES: json.dumps(types)})
    if rows.nbytes > MAX_BYTES:
        raise LabError(
            f"The result is larger than {MAX_BYTES // 1_000_000} MB. Look at fewer columns or rows."
        )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()


def confine(
    connection: duckdb.DuckDBPyConnection, threads: int, memory: str, *settings: str
) -> None:
    """From here on it reads and writes nothing but what the settings allow, and none can change."""
    own = (f"threads = {threads}", f"memory_limit = '{memory}'", *settings)
    for setting in (*own, *CONFINED):
        connection.execute(f"SET {setting}")


def limit(cpu_s: int, file_bytes: int = 0) -> None:
    """Bound this process for good, and how large a file it may write."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # DuckDB's own limit does not see every allocation; macOS does not honour this one.
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


def main() -> int:
    order = json.load(sys.stdin)
    limit(order["cpu_s"])
    import duckdb

    try:
        sys.stdout.buffer.write(_answer(order))
        return 0
    except LabError as error:
        sentence = str(error)
    except (MemoryError, duckdb.OutOfMemoryException):
        sentence = (
            f"The query needed more than {order['memory']}. Narrow it with WHERE run_id = … or look"
            " at fewer columns."
        )
    except duckdb.PermissionException as error:
        sentence = f"Not here: {str(error).splitlines()[0].partition(': ')[2]}"
    except duckdb.Error as error:
        sentence = str(error).splitlines()[0]
        if "Could not set lock" in str(error):
            sentence = "Another program holds the database. Close it there and ask again."
    return refused(sentence)


def refused(sentence: str) -> int:
    print(" ".join(sentence.split()), file=sys.stderr)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
