"""A foreign database as data: a process of its own keeps of the tables what can be a lab's, as
Parquet. Nothing that the file defines is ever run: no view, macro, generated column or setting."""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from lab import clock, endpoint_kinds, model
from lab.model import LabError
from lab.rows import ROWS
from lab.scrub import UNSEEN, visible
from lab.store import json_shapes, sandbox

if TYPE_CHECKING:
    import duckdb

FORMS = {
    "parquet": "read_parquet({file})",
    "csv": """read_csv({file}, all_varchar = true, header = true, delim = ',', quote = '"',
        escape = '"', allow_quoted_nulls = false, parallel = false)""",
    "json": "read_json({file}, format = 'array', columns = {{{columns}}})",
}
"""How an export's files are read; what is text in them is cast to the tables' own types."""
LARGEST = 4 << 30
TIMEOUT_S = 60.0
BYTES_PER_S = 20_000_000
"""The time limit grows with the file: a large one of the lab's own must pass."""
MEMORY = "1GB"
PATIENCE_S = 3.0
WORD, NAME, ERROR, TEXT, JSON = 200, 4_000, 500, 1_000_000, 1_000_000
BODY = 40_000_000
"""Of a request as it was sent: the API takes 32 MB."""
LENGTHS = {"note": NAME, "name": NAME, "error_text": ERROR, "text": TEXT, "pieces": TEXT}
WORDS = {
    ("runs", "endpoint_kind"): tuple(endpoint_kinds.KINDS),
    ("runs", "status"): get_args(model.Status),
    ("load_levels", "mode"): ("closed", "open"),
    ("trials", "phase"): get_args(model.Phase),
    ("trials", "outcome"): get_args(model.Outcome),
    ("calls", "role"): get_args(model.Role),
    ("calls", "intended_cache"): get_args(model.Cache),
    ("spans", "kind"): get_args(model.SpanKind),
}
KEYS = {
    "runs": "run_id",
    "sessions": "session_id",
    "load_levels": "session_id, level",
    "trials": "trial_id",
    "calls": "call_id",
    "spans": "span_id",
    "recorded_calls": "call_id",
}
BELONGS = {
    "sessions": ("runs", ("run_id",)),
    "load_levels": ("sessions", ("run_id", "session_id")),
    "trials": ("runs", ("run_id",)),
    "calls": ("trials", ("run_id", "session_id", "trial_id")),
    "spans": ("trials", ("run_id", "session_id", "trial_id")),
    "events": ("calls", ("run_id", "call_id")),
    "recorded_calls": ("calls", ("run_id", "session_id", "trial_id", "call_id")),
    "recorded_blocks": ("calls", ("run_id", "trial_id", "call_id")),
}
OF_RECORDINGS = ("recorded_calls", "recorded_blocks")
NEWER = ("load_levels", *OF_RECORDINGS)
"""Tables that an older lab's file has not."""
NOT_TAKEN_OVER = ("db", "join_run", "max_usd", "scheduler")
"""Parts of a run's config that say where this user's rows go, what this user spends, and whose
machines measure."""


class Imported(NamedTuple):
    """How many rows an import added; `left_out` rows of the file cannot be a lab's."""

    runs: int
    trials: int
    calls: int
    events: int
    left_out: int = 0


class Clean(NamedTuple):
    """A folder with a Parquet file for each table, in the tables' own columns and types."""

    folder: Path
    name: str | None
    """What the file was called; None for rows of this lab's own that come back."""
    left_out: int = 0


@contextmanager
def cleaned(source: Path, name: str | None = None) -> Iterator[Clean]:
    """The rows of a lab.duckdb, of a folder or of a zip of exported files (Parquet, CSV or JSON)
    that can be a lab's. Raises LabError."""
    if not source.exists():
        raise LabError(f"There is no {source}. Give another lab.duckdb or a folder of an export.")
    name, files = visible(name or source.name)[:WORD], [source]
    if source.is_dir():
        present = {file.name for file in source.iterdir()}
        if missing := _missing(present):
            raise LabError(f"There is no {missing} in {name}. An export has every table.")
        files = [source / file for file in _files(present).values() if file in present]
    size = sum(file.stat().st_size for file in files)
    if size > LARGEST:
        raise LabError(
            f"{name} is larger than {LARGEST >> 30} GB. Export single runs there with --run, and"
            " import those."
        )
    with tempfile.TemporaryDirectory(prefix="lab-import-") as folder:
        timeout_s = TIMEOUT_S + size / BYTES_PER_S
        order = {"source": str(source), "folder": folder, "cpu_s": int(timeout_s) * 2}
        try:
            left_out = sandbox.alone(
                "lab.store.importing",
                order,
                timeout_s,
                f"it took longer than {timeout_s:.0f} s to read and was stopped",
                f"it takes more than {MEMORY} of memory or {LARGEST >> 30} GB of disk to read",
            )
        except LabError as error:
            raise LabError(
                f"Cannot import {name}: {visible(str(error))[:ERROR].rstrip('.!')}. Nothing was"
                " changed."
            ) from None
        yield Clean(Path(folder), name, json.loads(left_out))


def take_in(connection: duckdb.DuckDBPyConnection, clean: Clean) -> Imported:
    """Add what is not there yet; a run that gets foreign rows says so from then on."""

    def insert(table: str, where: str, replaced: str = "") -> int:
        rows = _at(clean.folder, table)
        return connection.execute(
            f"INSERT INTO {table} BY NAME SELECT *{replaced} FROM {rows} WHERE {where}"
        ).fetchall()[0][0]

    marked = f" REPLACE ({quoted(clean.name)} AS imported_from)" if clean.name else ""
    runs = insert("runs", "run_id NOT IN (SELECT run_id FROM runs)", marked)
    insert("sessions", "session_id NOT IN (SELECT session_id FROM sessions)")
    insert(
        "load_levels", "(session_id, level) NOT IN (SELECT (session_id, level) FROM load_levels)"
    )
    of_new_trials = "trial_id IN (SELECT trial_id FROM new_trials)"
    for table, new in (
        ("trials", "trial_id NOT IN (SELECT trial_id FROM trials)"),
        ("calls", of_new_trials),
    ):
        connection.execute(
            f"CREATE TEMP TABLE new_{table} AS SELECT {KEYS[table]}, run_id"
            f" FROM {_at(clean.folder, table)} WHERE {new}"
        )
    trials, calls, *_ = (
        insert(table, of_new_trials) for table in ("trials", "calls", "spans", *OF_RECORDINGS)
    )
    events = insert("events", "call_id IN (SELECT call_id FROM new_calls)")
    if clean.name:
        joined = "imported_from IS NULL AND run_id IN (SELECT run_id FROM new_trials)"
        connection.execute(f"UPDATE runs SET imported_from = ? WHERE {joined}", [clean.name])
    connection.execute("DROP TABLE new_trials; DROP TABLE new_calls")
    return Imported(runs, trials, calls, events, clean.left_out)


# Within the process of its own


def _clean(order: dict[str, Any]) -> int:
    """Write the clean tables into the order's folder; the number of rows left out."""
    import duckdb

    from lab.store import migrations

    source, folder = Path(order["source"]), Path(order["folder"])
    with ExitStack() as turns:
        connection = turns.enter_context(duckdb.connect(":memory:"))
        migrations.apply(connection)
        if source.suffix == ".zip":
            source = _unpacked(source, folder / "unpacked")
        is_folder = source.is_dir()
        if not is_folder:
            _attach(connection, source, turns)
        present = {file.name for file in source.iterdir()} if is_folder else set()
        files = {table: file for table, file in _files(present).items() if file in present}
        readable = [source / file for file in files.values()]
        sandbox.confine(
            connection,
            2,
            MEMORY,
            f"temp_directory = {quoted(folder / 'spill')}",
            "max_temp_directory_size = '2GB'",
            f"allowed_directories = [{quoted(folder)}]",
            f"allowed_paths = [{', '.join(map(quoted, readable))}]",
        )
        for function in CLEAN:
            connection.create_function(
                f"clean_{function.__name__}",
                function,
                ["VARCHAR"],
                "VARCHAR",
                null_handling="special",
            )
        # No file has what comes next: half an emoji.
        unseen = "".join(UNSEEN.findall("".join(map(chr, range(1, 0xD800)))))
        connection.execute(
            f"CREATE MACRO visible(words) AS translate(words, chr(0) || '{unseen}',"
            f" '{visible(chr(0))}{visible(unseen)}')"
        )
        left_out, size = 0, 0
        for table in ROWS:
            place = f"source.main.{table}"
            if is_folder and table in files:
                place = _read(connection, source / files[table], table)
            columns = _columns(connection, table, place, is_folder and table in files)
            if not columns:  # an older lab's
                place = f"memory.main.{table}"
            there, copied = _copy(connection, table, place, columns, folder)
            left_out += there - copied
            if table == "runs":
                connection.execute(
                    f"CREATE TABLE kept_text AS SELECT run_id FROM {_at(folder, 'runs')}"
                    " WHERE keep_text"
                )
            size += copied * 100
        size += connection.execute(
            f"SELECT coalesce(sum(strlen(text)), 0) FROM {_at(folder, 'events')}"
        ).fetchall()[0][0]
        if size > LARGEST:
            raise LabError(f"it holds more than {LARGEST >> 30} GB")
        return left_out


def _attach(connection: duckdb.DuckDBPyConnection, source: Path, turns: ExitStack) -> None:
    import duckdb

    from lab.store import turnstile

    if source.with_name(f"{source.name}.lock").exists():  # another lab's own: wait for its writer
        turns.enter_context(turnstile.reading(source, PATIENCE_S))
    deadline = clock.now_ns() + int(PATIENCE_S * 1e9)
    while True:
        try:
            connection.execute(f"ATTACH {quoted(source)} AS source (READ_ONLY)")
            return
        except duckdb.IOException as error:
            if "Could not set lock" not in str(error):
                raise
            if clock.now_ns() > deadline:
                raise LabError(
                    "another program holds it. Close it there and import again"
                ) from None
        clock.pause_s(0.05)


def _unpacked(source: Path, folder: Path) -> Path:
    """The tables of a zip, by their names alone: no path inside it is followed."""
    folder.mkdir()
    room = LARGEST
    try:
        with zipfile.ZipFile(source) as packed:
            for item in packed.infolist():
                file = folder / Path(item.filename).name
                if file.stem not in ROWS or file.suffix[1:] not in FORMS:
                    continue
                with packed.open(item) as inside, file.open("wb") as out:
                    while part := inside.read(1 << 20):
                        room -= len(part)
                        if room < 0:
                            raise LabError(f"it holds more than {LARGEST >> 30} GB")
                        out.write(part)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise LabError(f"it is no zip file that can be read ({error})") from None
    if missing := _missing({file.name for file in folder.iterdir()}):
        raise LabError(f"there is no {missing} in it. An export has every table")
    return folder


def _files(present: Collection[str]) -> dict[str, str]:
    """By their tables, the files of the first form in which any table is there."""
    forms = (form for form in FORMS if any(f"{table}.{form}" in present for table in ROWS))
    form = next(forms, next(iter(FORMS)))
    return {table: f"{table}.{form}" for table in ROWS}


def _missing(present: Collection[str]) -> str:
    needed = {table: name for table, name in _files(present).items() if table not in NEWER}
    return ", ".join(name for name in needed.values() if name not in present)


def _read(connection: duckdb.DuckDBPyConnection, file: Path, table: str) -> str:
    declared = connection.execute(f"DESCRIBE memory.main.{table}").fetchall()
    columns = ", ".join(f"{name}: 'VARCHAR'" for name, *_ in declared)
    return FORMS[file.suffix[1:]].format(file=quoted(file), columns=columns)


def _columns(
    connection: duckdb.DuckDBPyConnection, table: str, place: str, is_folder: bool
) -> frozenset[str]:
    """Of a source's table, none where an older lab had no such table; a column that is computed is
    a program, and not read."""
    if is_folder:
        return frozenset(
            name for name, *_ in connection.execute(f"DESCRIBE SELECT * FROM {place}").fetchall()
        )
    columns = connection.execute(
        """
        SELECT column_name
        FROM duckdb_columns()
        WHERE database_name = 'source' AND schema_name = 'main' AND table_name = ?
            AND NOT is_generated
            AND table_oid IN (SELECT table_oid FROM duckdb_tables()
                WHERE database_name = 'source' AND schema_name = 'main')
        """,
        [table],
    ).fetchall()
    if not columns and table not in NEWER:
        raise LabError(f"it has no table {table}, and is no database of the lab")
    return frozenset(name for (name,) in columns)


def _copy(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    place: str,
    present: frozenset[str],
    folder: Path,
) -> tuple[int, int]:
    """Write the clean rows of one table; how many rows the source has, and how many are clean."""
    declared = connection.execute(f"DESCRIBE memory.main.{table}").fetchall()
    columns = [
        f"{_value(table, name, kind, name in present)} AS {name}" for name, kind, *_ in declared
    ]
    needed = [name for name, _, null, *_ in declared if null == "NO"]
    wanted = [f"{name} IS NOT NULL" for name in needed]
    if table in BELONGS:
        parent, keys = BELONGS[table]
        wanted.append(
            f"({', '.join(keys)}) IN (SELECT ({', '.join(keys)}) FROM {_at(folder, parent)})"
        )
    once = f"QUALIFY row_number() OVER (PARTITION BY {KEYS[table]}) = 1" if table in KEYS else ""
    sql = (
        f"SELECT * FROM (SELECT {', '.join(columns)} FROM {place} AS theirs) WHERE"
        f" {' AND '.join(wanted)} {once}"
    )
    file = quoted(folder / f"{table}.parquet")
    ((copied,),) = connection.execute(f"COPY ({sql}) TO {file} (FORMAT parquet)").fetchall()
    ((there,),) = connection.execute(f"SELECT count(*) FROM {place}").fetchall()
    return there, copied


def _value(table: str, name: str, kind: str, present: bool) -> str:
    """The SQL that makes of a source's column what the lab's own may hold, or NULL."""
    if not present or name == "imported_from":
        return f"NULL::{kind}"
    value = f'theirs."{name}"'
    text = f"TRY_CAST({value} AS VARCHAR)"
    if (table, name) in WORDS:
        words = ", ".join(map(quoted, WORDS[table, name]))
        own = f"CASE WHEN {text} IN ({words}) THEN {text} END"
        # A run that was going on over there is over here.
        return f"replace({own}, 'running', 'interrupted')" if name == "status" else own
    if kind == "JSON":
        if name == "server_ms":
            parts = ", ".join(
                f"'{part}', part_ms({text}::JSON, '$.{part}')"
                for part in ("queue", "prefill", "decode")
            )
            return (
                f"CASE WHEN strlen({text}) < {ERROR} AND json_valid({text}) THEN"
                f" json_merge_patch('{{}}', json_object({parts})) END"
            )
        return f"{_json(table, name, text)}::JSON"
    if (table, name) == ("recorded_calls", "source"):
        return f"CASE WHEN regexp_full_match({text}, '[a-z0-9_-]{{1,40}}') THEN {text} END"
    if kind == "VARCHAR":
        return f"left(visible({text}), {LENGTHS.get(name, WORD)})"
    if kind == "UUID":
        return f"TRY_CAST({text} AS UUID)"
    cast = f"TRY_CAST({value} AS {kind})"
    if kind == "DOUBLE":
        return f"known({cast})"
    within = ""
    if kind == "TIMESTAMP WITH TIME ZONE":
        within = "BETWEEN TIMESTAMPTZ '1970-01-01' AND TIMESTAMPTZ '9998-12-31'"
    elif kind == "BIGINT":
        within = f"BETWEEN {0 if name == 'seed' else -(2**53)} AND {2**53 - 1}"
    elif kind == "INTEGER" and name != "block":  # warm-up blocks lie below 1
        within = ">= 0"
    return f"CASE WHEN {cast} {within} THEN {cast} END" if within else cast


def _json(table: str, name: str, text: str) -> str:
    """The SQL that makes of a JSON text one of the shape that its readers rely on, or NULL."""
    function, longest, where = CLEAN_BY.get((table, name), "facts"), JSON, ""
    if (table, name) == ("runs", "settings"):
        return (
            f"CASE WHEN strlen({text}) > {JSON} THEN NULL"
            f" WHEN theirs.technique = {quoted(model.OBSERVED)} THEN clean_recording({text})"
            f" WHEN theirs.technique = {quoted(model.LOAD)} THEN clean_load({text})"
            f" ELSE clean_settings({text}) END"
        )
    if name in ("body", "answer"):
        longest = BODY
        where = " AND theirs.run_id::VARCHAR IN (SELECT run_id::VARCHAR FROM kept_text)"
    return f"CASE WHEN strlen({text}) <= {longest}{where} THEN clean_{function}({text}) END"


def settings(text: str | None) -> str | None:
    """A run's settings, or nothing where they lack the shape that pages and repeats rely on."""
    value = json_shapes.parsed(text)
    if not json_shapes.is_sound(value):
        return None
    value = json_shapes.settings(value)
    for part in (*value["arms"], value["baseline"], value["headline"]):
        part |= {name: part[name][:WORD] for name in ("technique", "arm")}
    value["config"] = _config(value["config"])
    return json.dumps(value)


def _config(value: dict[str, Any]) -> dict[str, Any]:
    kept = {name: part for name, part in value.items() if name not in NOT_TAKEN_OVER}
    for name in ("scenario", "arrivals"):
        if isinstance(path := kept.get(name), str) and set("/.~\\") & set(path):
            # A path on another machine: here another file's lines would go to an endpoint.
            kept[name] = f"imported: {Path(path).name}"
    return kept


def load(text: str | None) -> str | None:
    """The settings of a load."""
    value = json_shapes.parsed(text)
    if not isinstance(value, dict) or not isinstance(value.get("config"), dict):
        return None
    value = json_shapes.load(value)
    return json.dumps(value | {"config": _config(value["config"])})


def models(text: str | None) -> str | None:
    value = json_shapes.parsed(text)
    if not isinstance(value, dict):
        return None
    return json.dumps({tier: name[:WORD] for tier, name in json_shapes.models(value).items()})


def facts(text: str | None) -> str | None:
    value = json_shapes.parsed(text)
    return json.dumps(json_shapes.facts(value)) if isinstance(value, dict) else None


def iterations(text: str | None) -> str | None:
    value = json_shapes.parsed(text)
    return json.dumps(json_shapes.iterations(value)) if isinstance(value, list) else None


def recording(text: str | None) -> str | None:
    """The settings of a recording's run."""
    value = json_shapes.parsed(text)
    if not isinstance(value, dict) or not isinstance(value.get("recording"), dict):
        return None
    return json.dumps({"recording": json_shapes.recording(value["recording"])})


def blocks(text: str | None) -> str | None:
    value = json_shapes.parsed(text)
    return json.dumps(json_shapes.blocks(value)) if isinstance(value, list) else None


def marks(text: str | None) -> str | None:
    value = json_shapes.parsed(text)
    return json.dumps(json_shapes.marks(value)) if isinstance(value, list) else None


def asked(text: str | None) -> str | None:
    value = json_shapes.parsed(text)
    return json.dumps(json_shapes.asked(value)) if isinstance(value, dict) else None


def request(text: str | None) -> str | None:
    """The settings of a recorded request."""
    value = json_shapes.parsed(text)
    return json.dumps(json_shapes.recording(value)) if isinstance(value, dict) else None


def body(text: str | None) -> str | None:
    value = json_shapes.parsed(text)
    return json.dumps(value) if isinstance(value, dict) else None


def answer(text: str | None) -> str | None:
    value = json_shapes.parsed(text)
    if not isinstance(value, list):
        return None
    return json.dumps([block for block in value if isinstance(block, dict)])


CLEAN = (
    *(settings, recording, load, models, facts, iterations),
    *(blocks, marks, asked, request, body, answer),
)
CLEAN_BY = {
    ("runs", "models"): "models",
    ("calls", "iterations"): "iterations",
    ("calls", "asked"): "asked",
    ("recorded_calls", "blocks"): "blocks",
    ("recorded_calls", "reply"): "blocks",
    ("recorded_calls", "marks"): "marks",
    ("recorded_calls", "settings"): "request",
    ("recorded_calls", "body"): "body",
    ("recorded_calls", "answer"): "answer",
}
"""What cleans a column of JSON; any other is an object of facts."""


def _at(folder: Path, table: str) -> str:
    return f"read_parquet({quoted(folder / f'{table}.parquet')})"


def quoted(text: Path | str) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def main() -> int:
    order = json.load(sys.stdin)
    sandbox.limit(order["cpu_s"], LARGEST)
    import duckdb

    try:
        print(_clean(order))
        return 0
    except LabError as error:
        sentence = str(error)
    except (MemoryError, duckdb.OutOfMemoryException):
        sentence = f"it takes more than {MEMORY} of memory to read"
    except OSError as error:
        sentence = f"{error.strerror}"
    except duckdb.Error as error:
        sentence = (
            str(error).splitlines()[0].removeprefix("IO Error: ").replace(order["source"], "it")
        )
    return sandbox.refused(sentence)


if __name__ == "__main__":
    sys.exit(main())
