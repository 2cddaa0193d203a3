"""The database file under use by several at once, under failure, and through its whole life."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import fields

import duckdb
import pandas as pd
import pytest

from lab import paths, processes
from lab.model import LabError, new_id
from lab.rows import ROWS
from lab.store import journalled_changes, migrations, queries
from lab.store.export import FORMATS, export, frame_bytes
from lab.store.store import Imported, Store
from tests.stored_trials import a_run, a_trial, filled, held_by_a_foreign_program


def python(code: str, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=paths.ROOT)


# A database that is not there, is old, is new, is broken


def test_an_absent_database_is_an_empty_one_and_reading_does_not_make_it(db):
    store = Store()
    assert (store.path, store.version()) == (db, 0)
    assert queries.runs(store).empty and queries.last_run_id(store) is None
    assert not db.exists()


def test_a_migration_is_applied_once_and_changed_views_are_replaced(db):
    filled(db)
    with duckdb.connect(str(db)) as connection:
        connection.execute("UPDATE migrations SET hash = 'older' WHERE name = 'metrics.sql'")
        connection.execute(
            "CREATE OR REPLACE VIEW trial_metrics AS SELECT 1 AS gone; CREATE VIEW of_old AS SELECT"
            " 2 AS gone"
        )
    store = Store(db)
    assert len(store.frame("SELECT wait_ms FROM trial_metrics")) == 4
    assert store.frame("SELECT * FROM duckdb_views() WHERE view_name = 'of_old'").empty
    assert store.frame("SELECT name FROM migrations ORDER BY name")["name"].tolist() == sorted(
        migrations.wanted()
    )


def test_a_database_of_a_newer_lab_is_left_alone(db):
    filled(db)
    with duckdb.connect(str(db)) as connection:
        connection.execute("INSERT INTO migrations VALUES ('999_future.sql', 'x', now())")
    with pytest.raises(LabError, match=r"newer version.*Update the lab"):
        queries.runs(Store(db))


@pytest.mark.parametrize("content", [b"this is not a database" * 400, b"PK\x03\x04" + b"\0" * 8000])
def test_an_unreadable_file_says_what_to_do(db, content):
    db.write_bytes(content)
    with pytest.raises(LabError, match="--db"):
        queries.runs(Store(db))
    with pytest.raises(LabError, match="--db"):
        Store(db).write_run(a_run(new_id()))
    assert db.read_bytes() == content


def test_a_folder_and_a_foreign_database_say_what_to_do(tmp_path):
    with pytest.raises(LabError, match="is a folder"):
        queries.runs(Store(tmp_path))
    with duckdb.connect(str(tmp_path / "other.duckdb")) as connection:
        connection.execute("CREATE TABLE runs (mine INTEGER)")
    with pytest.raises(LabError, match="not a database of the lab"):
        queries.runs(Store(tmp_path / "other.duckdb"))


# Rows in, rows out


def test_a_row_has_the_columns_of_its_table():
    with duckdb.connect(":memory:") as connection:
        migrations.apply(connection)
        for table, row in ROWS.items():
            described = connection.execute(f"DESCRIBE {table}").fetchall()
            assert [name for name, *_ in described] == [column.name for column in fields(row)]


def test_ids_come_back_as_text_times_as_utc_and_json_as_dicts(db):
    store, run_id = filled(db)
    run = queries.run(store, run_id)
    assert (run["run_id"], run["models"], run["ended_utc"]) == (
        run_id,
        {"small": "smollm2-135m"},
        None,
    )
    assert run["sessions"][0]["machine"] == {"cores": 2}
    assert str(run["started_utc"].tzinfo) in ("UTC", "Etc/UTC")
    assert queries.calls(store, run_id)["server_queue_ms"].tolist() == [1.5] * 4


def test_writing_the_same_trials_again_changes_nothing(db):
    store, run_id = filled(db)
    session_id = queries.run(store, run_id)["sessions"][0]["session_id"]
    trials = [a_trial(run_id, session_id, 9), a_trial(run_id, session_id, 9, "streamed")]
    assert (
        store.write_trials(trials) and store.write_trials(trials) and store.write_trials(trials[:1])
    )
    assert queries.row_counts(store) == {
        "runs": 1,
        "sessions": 1,
        "load_levels": 0,
        "trials": 6,
        "calls": 6,
        "spans": 6,
        "events": 18,
        "recorded_calls": 0,
        "recorded_blocks": 0,
    }


def test_trials_that_waited_in_the_journal_are_written_together_and_each_once(db):
    store, run_id = filled(db, trials=0)
    (session,) = queries.run(store, run_id)["sessions"]
    trials = [a_trial(run_id, session["session_id"], block) for block in range(3)]
    changes = [journalled_changes.of_trials([trial]) for trial in trials]
    named = {"update": run_id, "name": "between them"}
    with duckdb.connect(str(db)) as connection:
        nobodys = {"rows": {"calls": changes[2]["rows"]["calls"]}}  # without their trial
        again = [*changes[:2], nobodys, changes[0], named, changes[1], changes[2]]
        assert journalled_changes.applied(again, connection) == []
    counts = queries.row_counts(store)
    assert (counts["trials"], counts["calls"], counts["events"]) == (3, 3, 9)
    assert queries.run(store, run_id)["name"] == "between them"


def test_a_trial_that_does_not_fit_keeps_none_out_that_waited_with_it(db):
    store, run_id = filled(db, trials=0)
    (session,) = queries.run(store, run_id)["sessions"]
    good, wrong, other = (
        journalled_changes.of_trials([a_trial(run_id, session["session_id"], block)])
        for block in range(3)
    )
    wrong["rows"]["calls"][0]["call_id"] = "no id"
    with duckdb.connect(str(db)) as connection:
        assert journalled_changes.applied([good, wrong, other], connection) == [1]
    assert queries.row_counts(store)["trials"] == 2


def test_a_resumed_run_keeps_its_note_and_name(db):
    store, run_id = filled(db)
    store.set_note(run_id, "on the train")
    store.rename(run_id, "first")
    store.finish_run(run_id, "interrupted")
    store.write_run(a_run(run_id, status="running"))
    with processes.measuring(run_id, "streaming"):
        run = queries.run(store, run_id)
    assert (run["note"], run["name"], run["status"], run["ended_utc"]) == (
        "on the train",
        "first",
        "running",
        None,
    )
    assert (
        queries.resolve(store, "first")
        == queries.resolve(store, "last")
        == queries.resolve(store, run_id[:13])
        == run_id
    )


@pytest.mark.parametrize(
    "run", ["nonsense", "01a20c9e-7dc6-7fb0-9008-a4c7b8356985", "'; DROP TABLE runs; --"]
)
def test_an_unknown_run_is_a_sentence(db, run):
    store, _ = filled(db)
    with pytest.raises(LabError):
        queries.run(store, run)
    with pytest.raises(LabError):
        queries.resolve(store, run)
    with pytest.raises(LabError):
        store.delete_run(run)


def test_each_write_is_counted_and_reads_are_not(db):
    store, run_id = filled(db)
    before = store.version()
    queries.trials(store, run_id)
    assert store.version() == before
    store.set_note(run_id, "x")
    assert Store(db).version() == before + 1


def test_a_snapshot_is_one_state(db):
    store, run_id = filled(db)
    with store.snapshot():
        assert len(queries.trials(store, run_id)) == 4
        assert len(queries.calls(store, run_id)) == 4


def test_a_deleted_run_can_be_brought_back(db):
    store, run_id = filled(db)
    kept = queries.row_counts(store)
    store.set_note(run_id, "keep me")
    store.delete_run(run_id)
    assert set(queries.row_counts(store).values()) == {0}
    assert store.undelete() == run_id
    assert queries.row_counts(store) == kept
    assert queries.run(store, run_id)["note"] == "keep me"
    assert store.undelete() is None


# Out to files and in again


@pytest.mark.parametrize("format", FORMATS)
def test_every_table_is_exported(db, tmp_path, format):
    store, run_id = filled(db)
    filled(db)
    files = export(store, tmp_path / "out", format, run_id)
    readers = {
        "parquet": pd.read_parquet,
        "csv": pd.read_csv,
        "json": pd.read_json,
        "duckdb": lambda file: Store(file).frame("SELECT * FROM events"),
    }
    events = next(file for file in files if file.stem in ("events", "lab"))
    assert len(readers[format](events)) == 12
    assert len(files) == (1 if format == "duckdb" else 11)
    with pytest.raises(LabError):
        export(store, "/dev/null/nowhere", format)


@pytest.mark.parametrize("format", ["parquet", "duckdb"])
def test_an_import_done_twice_adds_nothing(db, tmp_path, format):
    store, run_id = filled(tmp_path / "elsewhere.duckdb")
    export(store, tmp_path / "out", format)
    source = tmp_path / "out" if format == "parquet" else tmp_path / "out" / "lab.duckdb"
    mine, _ = filled(db)
    assert mine.import_from(source) == Imported(runs=1, trials=4, calls=4, events=12)
    assert mine.import_from(source) == Imported(0, 0, 0, 0)
    pd.testing.assert_frame_equal(queries.trials(mine, run_id), queries.trials(store, run_id))


def test_an_import_takes_only_what_is_new_of_a_run(db, tmp_path):
    other, run_id = filled(tmp_path / "other.duckdb")
    mine = Store(db)
    mine.import_from(other.path)
    other.write_trials(
        [a_trial(run_id, queries.run(other, run_id)["sessions"][0]["session_id"], 7)]
    )
    assert mine.import_from(other.path) == Imported(runs=0, trials=1, calls=1, events=3)


def test_what_cannot_be_imported_is_a_sentence(db, tmp_path):
    mine, run_id = filled(db)
    (tmp_path / "bad.duckdb").write_bytes(b"x" * 9000)
    (tmp_path / "empty").mkdir()
    for source in ("bad.duckdb", "empty", "absent", db.name):
        with pytest.raises(LabError):
            mine.import_from(tmp_path / source)
    assert len(queries.trials(mine, run_id)) == 4


@pytest.mark.parametrize("format", FORMATS)
def test_any_frame_becomes_a_file_to_download(format):
    assert frame_bytes(pd.DataFrame({"n": [1, 2], "text": ["a", None]}), format)


@pytest.mark.parametrize("format", FORMATS)
def test_what_a_file_cannot_hold_is_text_in_it(db, format):
    odd = Store().frame(
        "SELECT INTERVAL 1 MONTH AS gap, MAP {'a': 1} AS map, [1, 2] AS list, {'x': 1} AS pair,"
        " 'a'::BLOB AS bytes, now() AS at"
    )
    assert frame_bytes(odd, format)


# Several at once


def test_what_a_foreign_program_keeps_out_waits_in_the_spool(db):
    _, run_id = filled(db)
    session_id = queries.run(Store(db), run_id)["sessions"][0]["session_id"]
    program = held_by_a_foreign_program(db)
    writer = Store(db, patience_s=0.2)
    assert not writer.write_trials([a_trial(run_id, session_id, 5)])
    assert not writer.write_trials([a_trial(run_id, session_id, 6)])
    assert not writer.finish_run(run_id, "finished")
    writer.close()
    program.communicate("\n")
    other = Store(db)
    spooled = sorted(other._spool.glob("*.jsonl"))
    kept = [file.read_text() for file in spooled]
    other.set_note(run_id, "the next writer takes them in")
    assert sorted(queries.trials(other, run_id)["block"]) == [0, 0, 1, 1, 5, 6]
    assert queries.run(other, run_id)["status"] == "finished"
    assert not list(other._spool.glob("*.jsonl"))
    for file, text in zip(
        spooled, kept, strict=True
    ):  # as if the writer had ended just before it removed them
        file.write_text(text)
    other.set_note(run_id, "and once only")
    assert queries.row_counts(other)["events"] == 18


def test_a_wrong_line_in_the_spool_is_set_aside_and_keeps_no_other_write_out(db, caplog):
    store, run_id = filled(db)
    store._spool.mkdir()
    wrong = [
        '{"rows": {"trials": [{"trial_id": "no id"}]}}',
        "garbage",
        "[1, 2]",
        "[" * 5000,
        '{"update": "no id"}',
    ]
    good = json.dumps({"update": run_id, "name": "named in the spool"})
    (store._spool / "1.jsonl").write_text("\n".join([*wrong, good]) + "\n")
    (store._spool / "2.jsonl").write_text(
        '{"upd'
    )  # torn: whoever wrote it was killed, and had told nobody
    assert store.set_note(run_id, "kept")
    assert [queries.run(store, run_id)[name] for name in ("note", "name")] == [
        "kept",
        "named in the spool",
    ]
    assert [file.name for file in store._spool.iterdir()] == ["1.refused", "2.jsonl"] or not (
        store._spool / "2.jsonl"
    ).exists()
    assert sorted((store._spool / "1.refused").read_text().splitlines()) == sorted(wrong)
    assert "set aside" in caplog.text


def test_half_an_emoji_costs_no_row(db):
    store, run_id = filled(db)
    trial = a_trial(run_id, queries.run(store, run_id)["sessions"][0]["session_id"], 5)
    trial.trial.error_text = "a \ud83d here"
    assert store.write_trials([trial])
    assert queries.trials(store, run_id)["error_text"].dropna().tolist() == ["a ? here"]


def test_a_reader_waits_for_a_foreign_program_to_let_go(db):
    store, run_id = filled(db)
    program = held_by_a_foreign_program(db)
    threading.Timer(0.5, lambda: program.communicate("\n")).start()
    assert len(queries.trials(store, run_id)) == 4


def test_a_foreign_program_that_never_lets_go_is_named_within_the_stores_patience(db):
    """A worker's store waits half a second, also for a read: a Stop must not wait for it."""
    filled(db)
    store = Store(db, patience_s=0.3)
    program = held_by_a_foreign_program(db)
    try:
        with pytest.raises(LabError, match="Another program holds"):
            queries.runs(store)
    finally:
        program.communicate("\n")


READ_WITHOUT_PAUSE = """
    import sys
    from lab.store.store import Store
    store = Store(sys.argv[1])
    print("reading", flush=True)
    while not store.frame("SELECT count(*) AS n, sum(hash(text)) FROM events, range(20000)").empty:
        if store.frame("SELECT status FROM runs")["status"].tolist() == ["finished"]:
            break
"""


def test_readers_without_pause_do_not_keep_a_writer_out(db):
    store, run_id = filled(db, 100)
    session_id = queries.run(store, run_id)["sessions"][0]["session_id"]
    readers = [python(READ_WITHOUT_PAUSE, db) for _ in range(3)]
    waits = []
    try:
        for reader in readers:
            assert reader.stdout.readline() == "reading\n"
        for block in range(8):
            began = time.perf_counter()
            assert store.write_trials([a_trial(run_id, session_id, 100 + block)])
            waits.append(time.perf_counter() - began)
    finally:
        store.finish_run(run_id, "finished")
        ends = [reader.wait(60) for reader in readers]
        for reader in readers:
            reader.stdout.close()
    assert ends == [0, 0, 0]
    assert sorted(waits)[len(waits) // 2] < 3
    assert queries.row_counts(store)["trials"] == 108


def test_threads_of_one_process_read_and_write_one_file(db):
    store, run_id = filled(db)
    session_id = queries.run(store, run_id)["sessions"][0]["session_id"]
    failures: list[BaseException] = []

    def guarded(work) -> None:
        try:
            for number in range(6):
                work(number)
        except BaseException as error:
            failures.append(error)

    works = [lambda n: Store(db).write_trials([a_trial(run_id, session_id, n)])] * 2 + [
        lambda n: queries.trials(store, run_id)
    ] * 2
    threads = [threading.Thread(target=guarded, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert queries.row_counts(store)["trials"] == 16


WRITE_UNTIL_KILLED = """
    import sys
    sys.path.insert(0, ".")
    from tests.stored_trials import a_trial
    from lab.store.store import Store
    store = Store(sys.argv[1])
    for block in range(100000):
        trial = a_trial(sys.argv[2], sys.argv[3], block)
        if store.write_trials([trial]):
            print(trial.trial.trial_id, flush=True)
"""


def test_a_killed_writer_loses_no_acknowledged_trial(db):
    store, run_id = filled(db, 0)
    session_id = queries.run(store, run_id)["sessions"][0]["session_id"]
    acknowledged: set[str] = set()
    for _ in range(2):
        writer = python(WRITE_UNTIL_KILLED, db, run_id, session_id)
        for _ in range(10):
            acknowledged.add(writer.stdout.readline().strip())
        writer.kill()
        acknowledged |= {line.strip() for line in writer.stdout if len(line) == 37}
        writer.wait()
        writer.stdout.close()
    trials = queries.trials(store, run_id)
    assert acknowledged <= set(trials["trial_id"])
    counts = queries.row_counts(store)
    assert counts["events"] == 3 * counts["trials"] and counts["calls"] == counts["trials"]


# The words beside the data


def catalogue(store: Store) -> pd.DataFrame:
    """Every table and view, column by column: kind, table, about, column, type, unit, meaning (from
    data/README.md)."""
    documented, kind, table, about = [], "", "", ""
    for line in (paths.ROOT / "data" / "README.md").read_text().splitlines():
        if line.startswith(("## Table ", "## View ")):
            kind, table, about = line.split()[1].lower(), line.split()[2], ""
        elif line.startswith("| ") and not line.startswith("| column "):
            documented.append(
                (kind, table, about, *(cell.strip() for cell in line.strip("| ").split(" | ")))
            )
        elif table and line and not line.startswith("|"):
            about = line
    words = pd.DataFrame(
        documented, columns=["kind", "table", "about", "column", "unit", "meaning"]
    )
    types = store.frame(
        'SELECT table_name AS "table", column_name AS "column", data_type AS type FROM'
        " duckdb_columns() WHERE NOT internal"
    )
    return words.merge(types, on=["table", "column"], how="left")[
        ["kind", "table", "about", "column", "type", "unit", "meaning"]
    ]


def test_every_table_view_and_column_is_documented_in_order(db):
    store, _ = filled(db)
    documented = catalogue(store)
    there = store.frame(
        'SELECT table_name AS "table", column_name AS "column" FROM duckdb_columns() WHERE NOT'
        " internal ORDER BY table_oid, column_index"
    )
    for table, columns in there.groupby("table"):
        assert (
            documented.loc[documented["table"] == table, "column"].tolist()
            == columns["column"].tolist()
        ), table
    assert set(documented["table"]) == set(there["table"])
    assert (
        documented["type"].notna().all()
        and (documented["meaning"].str.len() > 0).all()
        and (documented["unit"].str.len() > 0).all()
    )


def test_a_database_that_forges_its_views_is_given_the_labs_own(db, tmp_path):
    _, run_id = filled(db)
    secret = tmp_path / "secret"
    secret.write_text("a secret")
    with duckdb.connect(str(db)) as connection:
        connection.execute("DROP VIEW arm_summary")
        connection.execute(
            f"CREATE VIEW arm_summary AS SELECT content AS arm FROM read_text('{secret}')"
        )
        connection.execute("CREATE MACRO median(x) AS (SELECT content FROM read_text('x'))")
        connection.execute("CREATE MACRO endless(x) AS TABLE SELECT * FROM range(x)")
    from lab.store import store as stores

    stores.OURS.clear()  # another process
    assert "a secret" not in str(queries.arm_summary(Store(db), run_id).to_dict())
    assert Store(db).frame("SELECT median(x) AS m FROM range(3) AS r(x)")["m"].tolist() == [1.0]
    with duckdb.connect(str(db)) as connection:
        connection.execute("DELETE FROM migrations WHERE name = 'metrics.sql'; DROP TABLE events")
    with pytest.raises(LabError, match="not a database of the lab"):
        Store(db).frame("SELECT 1")
