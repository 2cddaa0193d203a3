"""Tables and frames as files that other programs read: Parquet, CSV, JSON or DuckDB."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd

from lab.model import LabError
from lab.rows import ROWS
from lab.store import migrations, turnstile
from lab.store.store import Store, as_uuid

FORMATS = ("parquet", "csv", "json", "duckdb")
VIEWS = {"trial_metrics": "started_utc, trial_id", "call_metrics": "trial_id, started_ms"}
"""Views that are files of their own beside the tables, and the order of their rows.
A DuckDB export has all views, an import reads none."""
ISO_8601 = "TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%S.%fZ'"
COPY = {
    "parquet": "FORMAT parquet",
    "csv": f"FORMAT csv, HEADER, {ISO_8601}",
    "json": f"FORMAT json, ARRAY true, {ISO_8601}",
}
STORAGE = {"storage_compatibility_version": "v1.0.0"}
"""What DuckDB 2 writes by itself no 1.x opens. The views ask for 1.3 (TRY); tables alone are read
from 1.1 on."""
Progress = Callable[[str, float], None]
"""Is told what is written next, and which share of the whole is done."""
NOT_FINITE = r"(?i)[\[:,]\s*[-+]?(nan|inf|infinity)\s*[,\]}]"
"""Within a JSON value: DuckDB takes these, JSON has none."""


def export(
    store: Store,
    out_dir: Path | str,
    format: str = "parquet",
    run_id: str | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write all tables and metrics, whole or of one run: a file for each, or one lab.duckdb.

    Gives the files written. Each can be imported again (Store.import_from).
    """
    if format not in FORMATS:
        raise LabError(f"There is no export format {format}. Choose one of: {', '.join(FORMATS)}")
    folder = Path(out_dir).expanduser()
    where = "" if run_id is None else f" WHERE run_id = '{as_uuid(run_id)}'"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if format == "duckdb":
            return [_to_database(store, folder / "lab.duckdb", where, progress)]
        files = {name: folder / f"{name}.{format}" for name in (*ROWS, *VIEWS)}
        with store.reading() as connection:
            for place, (name, file) in enumerate(files.items()):
                _tell(progress, name, place / len(files))
                _copy(connection, name, file, format, where)
        return list(files.values())
    except (OSError, duckdb.Error) as error:
        if "Corrupt database file" in str(error):
            raise store.unreadable(error) from error
        raise LabError(
            f"Cannot write to {folder}: {str(error).splitlines()[0]}."
            " Choose another folder with --out."
        ) from error


def packed(store: Store, folder: Path, format: str, progress: Progress | None = None) -> Path:
    """All of the lab as one file in `folder`: lab.duckdb, or a zip of what export() writes."""
    with tempfile.TemporaryDirectory(dir=folder) as parts:
        # Writing the tables takes about three parts of the time, packing them one.
        first = progress and (lambda text, share: progress(text, 0.75 * share))
        files = export(store, parts, format, progress=first)
        if format == "duckdb":
            return files[0].rename(folder / files[0].name)
        whole = folder / f"lab-{format}.zip"
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
            for place, file in enumerate(files):
                _tell(progress, file.name, 0.75 + 0.25 * place / len(files))
                archive.write(file, file.name)
        return whole


def table_bytes(store: Store, name: str, format: str) -> bytes:
    """One table or view as the content of a file, every column in its own type."""
    if format not in FORMATS:
        raise LabError(f"There is no export format {format}. Choose one of: {', '.join(FORMATS)}")
    with tempfile.TemporaryDirectory(prefix="lab-export-") as folder:
        file, parquet = Path(folder) / f"{name}.{format}", Path(folder) / f"{name}.parquet"
        with store.reading() as connection:
            is_database = format == "duckdb"
            _copy(connection, name, *((parquet, "parquet") if is_database else (file, format)))
        if is_database:
            with duckdb.connect(str(file), config=STORAGE) as connection:
                connection.execute(f"CREATE TABLE {name} AS FROM {_quoted(parquet)}")
        return file.read_bytes()


def frame_bytes(frame: pd.DataFrame, format: str, name: str = "result") -> bytes:
    """A frame as the content of a file to download; in a DuckDB file it is the table `name`, with
    the types that `frame.attrs["types"]` says of its columns.

    What a format cannot hold (an interval, a map) is written as text.
    """
    if format not in FORMATS:
        raise LabError(f"There is no export format {format}. Choose one of: {', '.join(FORMATS)}")
    try:
        return _bytes(frame, format, name)
    except (NotImplementedError, TypeError, ValueError):
        # What pandas and Arrow raise for a type that the format has not.
        odd = [
            column for column in frame.columns if not pd.api.types.is_numeric_dtype(frame[column])
        ]
        return _bytes(
            frame.assign(**{column: frame[column].map(str, na_action="ignore") for column in odd}),
            format,
            name,
        )


def _bytes(frame: pd.DataFrame, format: str, name: str) -> bytes:
    if format == "csv":
        return frame.to_csv(index=False).encode()
    if format == "json":
        return frame.to_json(
            orient="records", date_format="iso", indent=1, double_precision=15
        ).encode()
    if format == "parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    if format == "duckdb":
        with tempfile.TemporaryDirectory(prefix="lab-export-") as folder:
            file = Path(folder) / "result.duckdb"
            with duckdb.connect(str(file), config=STORAGE) as connection:
                connection.register("shown", frame)
                types = frame.attrs.get("types", {})
                columns = ", ".join(
                    f"{_name(column)}::{types.get(column, kind)} AS {_name(column)}"
                    for column, kind, *_ in connection.execute("DESCRIBE shown").fetchall()
                )
                connection.execute(f"CREATE TABLE {_name(name)} AS SELECT {columns} FROM shown")
            return file.read_bytes()


def _copy(
    connection: duckdb.DuckDBPyConnection, name: str, file: Path, format: str, where: str = ""
) -> None:
    order = f" ORDER BY {VIEWS[name]}" if name in VIEWS else ""
    rows = f"SELECT {_columns(connection, name, format)} FROM {name}{where}{order}"
    connection.execute(f"COPY ({rows}) TO {_quoted(file)} ({COPY[format]})")


def _tell(progress: Progress | None, text: str, share: float) -> None:
    if progress:
        progress(text, share)


def _to_database(store: Store, file: Path, where: str, progress: Progress | None) -> Path:
    if file.absolute() == store.path:
        raise LabError(f"{file} is the database itself. Choose another folder with --out.")
    if file.exists():
        raise LabError(f"{file} is there already. Choose another folder with --out.")
    with store.reading():  # brings an older file up to date
        pass
    with (
        duckdb.connect(str(file), config=STORAGE) as exported,
        turnstile.reading(store.path, store.patience_s),
    ):
        migrations.apply(exported, str(file))
        if store.path.exists():
            exported.execute(f"ATTACH {_quoted(store.path)} AS source (READ_ONLY)")
            for place, table in enumerate(ROWS):
                _tell(progress, table, place / len(ROWS))
                exported.execute(f"INSERT INTO {table} BY NAME SELECT * FROM source.{table}{where}")
    return file


def _columns(connection: duckdb.DuckDBPyConnection, name: str, format: str) -> str:
    """All columns; for a text format without NaN and infinities, which few programs read there."""
    if format == "parquet":
        return "*"
    columns = []
    for column, kind, *_ in connection.execute(f"DESCRIBE {name}").fetchall():
        value = f'"{column}"'
        if kind == "DOUBLE":
            value = f"CASE WHEN isfinite({value}) THEN {value} END AS {value}"
        elif kind == "JSON" and format == "json":
            text = f"{value}::VARCHAR"
            odd = f"regexp_matches({text}, '{NOT_FINITE}')"
            value = f"CASE WHEN {odd} THEN to_json({text}) ELSE {value} END AS {value}"
        columns.append(value)
    return ", ".join(columns)


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _quoted(file: Path) -> str:
    return "'" + str(file).replace("'", "''") + "'"
