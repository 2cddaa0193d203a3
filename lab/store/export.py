"""Tables and frames as files that other programs read: Parquet, CSV, JSON or DuckDB."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import duckdb
import pandas as pd

from lab.model import LabError
from lab.store import migrations, turnstile
from lab.store.changes import ROWS
from lab.store.store import READ_PATIENCE_S, Store, as_uuid

FORMATS = ("parquet", "csv", "json", "duckdb")
COPY = {"parquet": "FORMAT parquet", "csv": "FORMAT csv, HEADER", "json": "FORMAT json, ARRAY true"}


def export(store: Store, out_dir: Path | str, format: str = "parquet", run_id: str | None = None) -> list[Path]:
    """Write every table, whole or of one run, into a folder: one file a table, or one lab.duckdb. Gives the files written.

    Parquet and DuckDB exports can be imported again (Store.import_from).
    """
    if format not in FORMATS:
        raise LabError(f"There is no export format {format}. Choose one of: {', '.join(FORMATS)}")
    folder = Path(out_dir).expanduser()
    where = "" if run_id is None else f" WHERE run_id = '{as_uuid(run_id)}'"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if format == "duckdb":
            return [_to_database(store, folder / "lab.duckdb", where)]
        files = [folder / f"{table}.{format}" for table in ROWS]
        with store.reading() as connection:
            for table, file in zip(ROWS, files, strict=True):
                connection.execute(f"COPY (SELECT * FROM {table}{where}) TO {_quoted(file)} ({COPY[format]})")
        return files
    except (OSError, duckdb.Error) as error:
        if "Corrupt database file" in str(error):
            raise store.unreadable(error) from error
        raise LabError(f"Cannot write to {folder}: {str(error).splitlines()[0]}. Choose another folder with --out.") from error


def frame_bytes(frame: pd.DataFrame, format: str, name: str = "result") -> bytes:
    """A frame as the content of a file to download; in a DuckDB file it is the table `name`.

    What a format cannot hold (an interval, a map) is written as text.
    """
    if format not in FORMATS:
        raise LabError(f"There is no export format {format}. Choose one of: {', '.join(FORMATS)}")
    try:
        return _bytes(frame, format, name)
    except (NotImplementedError, TypeError, ValueError):  # what pandas and Arrow raise for a type that the format has not
        odd = [column for column in frame.columns if not pd.api.types.is_numeric_dtype(frame[column])]
        return _bytes(frame.assign(**{column: frame[column].map(str, na_action="ignore") for column in odd}), format, name)


def _bytes(frame: pd.DataFrame, format: str, name: str) -> bytes:
    if format == "csv":
        return frame.to_csv(index=False).encode()
    if format == "json":
        return frame.to_json(orient="records", date_format="iso", indent=1, double_precision=15).encode()
    if format == "parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    if format == "duckdb":
        with tempfile.TemporaryDirectory(prefix="lab-export-") as folder:
            file = Path(folder) / "result.duckdb"
            with duckdb.connect(str(file)) as connection:
                connection.register("shown", frame)
                connection.execute(f'CREATE TABLE "{name.replace(chr(34), "")}" AS SELECT * FROM shown')
            return file.read_bytes()


def _to_database(store: Store, file: Path, where: str) -> Path:
    if file.absolute() == store.path:
        raise LabError(f"{file} is the database itself. Choose another folder with --out.")
    if file.exists():
        raise LabError(f"{file} is there already. Choose another folder with --out.")
    with store.reading():  # brings an older file up to date
        pass
    with duckdb.connect(str(file)) as exported, turnstile.reading(store.path, READ_PATIENCE_S):
        migrations.apply(exported, str(file))
        if store.path.exists():
            exported.execute(f"ATTACH {_quoted(store.path)} AS source (READ_ONLY)")
            for table in ROWS:
                exported.execute(f"INSERT INTO {table} BY NAME SELECT * FROM source.{table}{where}")
    return file


def _quoted(file: Path) -> str:
    return "'" + str(file).replace("'", "''") + "'"
