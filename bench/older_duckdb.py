"""Which DuckDB opens an export: `python -m bench.older_duckdb [VERSION …]`.

A run of 100 trials is exported, and each version, installed from PyPI into an environment of its
own, reads the tables and the views of the file. A version that reads the same rows as the lab's own
"reads all"; the first words of its error stand where it does not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from lab.rows import ROWS
from lab.store import export
from lab.store.store import Store
from tests.recorded_runs import record

VERSIONS = ("1.1.3", "1.2.2", "1.3.0", "1.3.2", "1.4.5", "1.5.6")
VIEWS = (*export.VIEWS, "arm_summary", "arm_counts", "pair_differences")
# Counted and summed within DuckDB: what Python makes of a UUID or an instant is not the question.
READ = """
import sys, duckdb
for name in sys.argv[2:]:
    connection = duckdb.connect(sys.argv[1], read_only=True)
    columns = [row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()]
    counts = ", ".join(f'count("{column}"), count(DISTINCT "{column}")' for column in columns)
    print(name, connection.execute(f"SELECT count(*), {counts} FROM {name}").fetchall())
"""


def reads(python: str, file: Path, names: tuple[str, ...]) -> tuple[str, str]:
    """What a Python's DuckDB reads of a file, and the first line of its error."""
    command = [python, "-c", READ, str(file), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    errors = [line for line in done.stderr.splitlines() if "Error:" in line]
    return done.stdout, errors[0][:90] if errors else ""


def main(versions: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="lab-older-") as place:
        folder = Path(place)
        store = Store(folder / "lab.duckdb")
        record(store, blocks=50, started=datetime(2026, 11, 24, 6, 0, tzinfo=UTC))
        (file,) = export.export(store, folder / "out", "duckdb")
        print(f"written by DuckDB {duckdb.__version__}")
        for version in versions:
            venv.create(folder / version, with_pip=True)
            python = str(folder / version / "bin" / "python")
            subprocess.run([python, "-m", "pip", "install", "-q", f"duckdb=={version}"], check=True)
            for kind, names in (("tables", tuple(ROWS)), ("views", VIEWS)):
                wanted, _ = reads(sys.executable, file, names)
                text, error = reads(python, file, names)
                verdict = (
                    "reads all" if text == wanted and not error else error or "reads other rows"
                )
                print(f"{version:8} {kind:7} {verdict}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(VERSIONS)))
