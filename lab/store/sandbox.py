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
    import pandas as pd

    from lab.store.store import Store

MAX_BYTES = 64_000_000


def run_sql(
    store: Store, sql: str, timeout_s: float = 5, memory: str = "512MB", max_rows: int = 10_000
) -> pd.DataFrame:
    """The rows of one SELECT, WITH, DESCRIBE, SHOW or SUMMARIZE; at most `max_rows`, then
    `frame.attrs["truncated"]` is True.

    Everything else, and whatever passes a limit, is a LabError of one line. The reader's turn lasts
    as long as the query, so a writer waits at most `timeout_s` for it.
    """
    import pyarrow as pa

    store.frame("SELECT 1")  # an older file is brought up to date here, where writing is allowed
    order = {
        "path": str(store.path),
        "sql": sql,
        "memory": memory,
        "max_rows": max_rows,
        "cpu_s": int(timeout_s) + 2,
    }
    try:
        done = alone("lab.store.sandbox", order, timeout_s + 1)  # the second is for starting Python
    except subprocess.TimeoutExpired:
        raise LabError(
            f"The query took longer than {timeout_s:g} s and was stopped. Narrow it with WHERE"
            " run_id = … or look at fewer rows."
        ) from None
    if done.returncode == 3:
        raise LabError(done.stderr.decode(errors="replace").strip())
    if done.returncode != 0:
        raise LabError(
            f"The query passed its limits ({memory}, {timeout_s:g} s) and was stopped. Narrow it"
            " with WHERE run_id = … or LIMIT."
        )
    frame = pa.ipc.open_stream(done.stdout).read_all().to_pandas()
    frame.attrs["truncated"] = len(frame) > max_rows
    return frame.head(max_rows)


def alone(module: str, order: dict, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
    """A module of the lab as a process that is given its order on stdin and nothing else, and is
    killed when its time is over."""
    # No variable but these: a key in the environment is out of reach even of a hole in the SQL
    # engine.
    environment = {
        name: os.environ[name]
        for name in ("PATH", "LANG", "LC_ALL", "TMPDIR")
        if name in os.environ
    }
    return subprocess.run(
        paths.module(module),
        input=json.dumps(order).encode(),
        capture_output=True,
        timeout=timeout_s,
        cwd=paths.ROOT,
        env=environment,
    )


def _answer(order: dict) -> bytes:
    import duckdb
    import pyarrow as pa

    from lab.store import frames, migrations, turnstile

    statements = duckdb.extract_statements(order["sql"])
    if len(statements) != 1:
        raise LabError(
            f"One query at a time, please: this is {len(statements)}."
            if statements
            else "There is no query. Try: SELECT * FROM runs"
        )
    if statements[0].type != duckdb.StatementType.SELECT:
        raise LabError("Only a query can run here: SELECT, WITH, DESCRIBE, SHOW or SUMMARIZE.")
    path = Path(order["path"])
    with turnstile.reading(path, 10):
        connection = (
            duckdb.connect(str(path), read_only=True)
            if path.exists()
            else duckdb.connect(":memory:")
        )
        if not path.exists():
            migrations.apply(connection)
        for setting in (
            "TimeZone = 'UTC'",
            "threads = 1",
            f"memory_limit = '{order['memory']}'",
            "temp_directory = ''",
            "python_enable_replacements = false",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            "allow_community_extensions = false",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            connection.execute(f"SET {setting}")
        rows = frames.shown(connection, connection.sql(order["sql"]).limit(order["max_rows"] + 1))
    if rows.nbytes > MAX_BYTES:
        raise LabError(
            f"The result is larger than {MAX_BYTES // 1_000_000} MB. Look at fewer columns or rows."
        )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()


def limit(cpu_s: int, file_bytes: int = 0) -> None:
    """Bound this process for good, and how large a file it may write."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if (
        sys.platform == "linux"
    ):  # DuckDB's own limit does not see every allocation; macOS does not honour this one
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


def main() -> int:
    order = json.load(sys.stdin)
    limit(order["cpu_s"])
    import duckdb

    try:
        answer = _answer(order)
    except LabError as error:
        sentence = str(error)
    except MemoryError:
        sentence = (
            f"The query needed more than {order['memory']}. Narrow it with WHERE run_id = … or look"
            " at fewer columns."
        )
    except duckdb.OutOfMemoryException:
        sentence = (
            f"The query needed more than {order['memory']}. Narrow it with WHERE run_id = … or look"
            " at fewer columns."
        )
    except duckdb.PermissionException as error:
        sentence = f"Not here: {str(error).splitlines()[0].partition(': ')[2]}"
    except duckdb.IOException as error:
        locked = "Could not set lock" in str(error)
        sentence = (
            "Another program holds the database. Close it there and ask again."
            if locked
            else str(error).splitlines()[0]
        )
    except duckdb.Error as error:
        sentence = str(error).splitlines()[0]
    else:
        sys.stdout.buffer.write(answer)
        return 0
    print(" ".join(sentence.split()), file=sys.stderr)
    return 3


if __name__ == "__main__":
    sys.exit(main())
