"""A recording among the stored runs: it goes through every file as a run does, stands in no list
or chart of runs, and can be forgotten so that no byte of it is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from lab import cli, new_recording, processes, recordings, results, resume, scrub
from lab.cli import flags
from lab.model import OBSERVED, LabError
from lab.recording.scribe import Scribe, Seen
from lab.store import importing, queries
from lab.store.export import FORMATS, export, packed
from lab.store.store import Store
from tests.recorded_runs import record

STARTED = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
S = 10**9
SENTENCE = "The heron sleeps under the third bridge."
KEY = "sk-ant-planted-0123456789abcdefghij"


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "r"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("LAB_RUNTIME", str(folder))
    return folder


def recorded(store: Store, *, keep_text: bool = True, calls: int = 3, end: bool = True) -> str:
    """Call n begins n s after the start, has its first token after 200 ms and ends after 500."""
    run, session = new_recording.begin(
        store, "client", "anthropic", "live", keep_text=keep_text, name="my agent"
    )
    scribe = Scribe(
        run.run_id,
        session.session_id,
        "client",
        "anthropic",
        new_recording.hasher(),
        keep_text=keep_text,
    )
    messages, rows = [], []
    for number in range(calls):
        at = number * S
        messages.append({"role": "user", "content": f"{number}: {SENTENCE}"})
        body = {
            "model": "claude-sonnet-5-5",
            "system": [{"type": "text", "text": SENTENCE, "cache_control": {"type": "ephemeral"}}],
            "messages": list(messages),
        }
        finished = scribe.rows(
            Seen(
                STARTED,
                at,
                body,
                content=[{"type": "text", "text": f"Answer {number}"}],
                usage={"input_tokens": 10, "output_tokens": 3},
                call={"first_token_ns": at + S // 5, "ended_ns": at + S // 2},
                conversation="one",
            )
        )
        messages.append({"role": "assistant", "content": f"Answer {number}"})
        scrub.trial(finished)
        rows.append(finished)
    store.write_trials(rows)
    if end:
        store.finish_run(run.run_id, "finished")
    return run.run_id


def tables(store: Store) -> dict[str, list]:
    """Every row of every table, as text."""
    names = ("recorded_calls", "recorded_blocks", "calls", "spans", "trials", "sessions")
    with store.snapshot():
        frames = {name: store.frame(f"SELECT * FROM {name} ORDER BY ALL") for name in names}
    return {name: frame.astype(str).values.tolist() for name, frame in frames.items()}


# Through every file


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> tuple[Store, str, dict[str, list]]:
    """A recording that keeps text and is only read: its database, its id and its rows."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_RUNTIME", str(folder / "r"))
        store = Store(folder / "lab.duckdb")
        return store, recorded(store), tables(store)


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_exported_and_imported_again_is_the_same(kept, tmp_path, format):
    (store, run_id, rows), other = kept, Store(tmp_path / "b.duckdb")
    files = export(store, tmp_path / "out", format)
    other.import_from(files[0] if format == "duckdb" else tmp_path / "out")
    assert tables(other) == rows
    run = queries.run(other, run_id)
    assert run["settings"]["recording"] == {"source": "client"}
    first, second = recordings.read(store, run_id), recordings.read(other, run_id)
    assert list(first.prompts.values()) == list(second.prompts.values())
    assert first.kept_pieces == second.kept_pieces and len(first.kept_pieces) == 6
    other.import_from(files[0] if format == "duckdb" else tmp_path / "out")
    assert tables(other) == rows


def test_a_zip_of_it_comes_in_too(kept, tmp_path):
    (store, _, rows), other = kept, Store(tmp_path / "b.duckdb")
    other.import_from(packed(store, tmp_path, "parquet"))
    assert tables(other) == rows


def test_a_file_of_an_older_lab_has_no_such_tables_and_comes_in(tmp_path):
    older, mine = Store(tmp_path / "older.duckdb"), Store(tmp_path / "mine.duckdb")
    record(older, blocks=1)
    export(older, tmp_path / "out", "csv")
    for table in importing.OF_RECORDINGS:
        (tmp_path / "out" / f"{table}.csv").unlink()
        with duckdb.connect(str(older.path)) as connection:
            connection.execute(f"DROP TABLE {table}")
    added = mine.import_from(older.path)
    assert (added.runs, added.left_out) == (1, 0)
    assert mine.import_from(tmp_path / "out").left_out == 0
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in (tmp_path / "out").iterdir():
            archive.write(file, file.name)
    assert mine.import_from(tmp_path / "all.zip") == importing.Imported(0, 0, 0, 0, 0)


def test_a_foreign_recording_is_brought_into_its_shape(tmp_path):
    store, mine = Store(tmp_path / "theirs.duckdb"), Store(tmp_path / "mine.duckdb")
    run_id = recorded(store)
    changes = {
        "blocks": [["messages", 0, "user", "text", "", 9, "h"], "no block", [1, 2]],
        "marks": [[0, "5m"], [1, "forever"], "x"],
        "settings": {"model": "m", "nested": {"a": 1}, "long": "y" * 1_900},
        "reply": {"no": "list"},
        "body": ["no body"],
    }
    values = ", ".join(f"{name} = '{json.dumps(value)}'" for name, value in changes.items())
    with duckdb.connect(str(store.path)) as connection:
        connection.execute(f"UPDATE recorded_calls SET {values}")
        connection.execute("UPDATE recorded_calls SET source = 'A <b>source</b>' WHERE rowid = 2")
        settings = json.dumps({"recording": {"source": "client", "deep": {"a": 1}}})
        connection.execute(f"UPDATE runs SET settings = '{settings}'")
    assert mine.import_from(store.path).left_out == 1
    calls = queries.recorded_calls(mine, run_id)
    assert json.loads(calls["blocks"][0]) == [
        ["messages", 0, "user", "text", "", 9, "h"],
        ["messages", 0, "", "", "", 0, ""],
        ["messages", 0, "", "", "", 0, ""],
    ]
    assert json.loads(calls["marks"][0]) == [[0, "5m"]]
    assert json.loads(calls["settings"][0]) == {"model": "m", "long": "y" * 1_000}
    assert calls["reply"].isna().all()
    assert queries.recorded_bodies(mine, run_id, calls["call_id"]) == {}
    assert queries.run(mine, run_id)["settings"]["recording"] == {"source": "client"}


def test_a_body_comes_in_only_where_its_run_keeps_text(tmp_path):
    store, mine = Store(tmp_path / "theirs.duckdb"), Store(tmp_path / "mine.duckdb")
    recorded(store)
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("UPDATE runs SET keep_text = FALSE")
    mine.import_from(store.path)
    assert mine.frame("SELECT count(*) FROM recorded_calls WHERE body IS NOT NULL").iat[0, 0] == 0


def test_what_waits_beside_an_older_database_that_is_held_is_seen_with_it(tmp_path):
    store = Store(tmp_path / "lab.duckdb", patience_s=0.1)
    record(store, blocks=1)
    with duckdb.connect(str(store.path)) as connection:
        for table in importing.OF_RECORDINGS:
            connection.execute(f"DROP TABLE {table}")
        connection.execute("CHECKPOINT")
    holding = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", holding, str(store.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    holder.stdout.readline()
    try:
        run_id = recorded(store)
        assert len(queries.recorded_calls(store, run_id)) == 3
        assert len(queries.runs(store)) == 1
    finally:
        holder.communicate()


def test_a_recording_that_is_deleted_can_be_brought_back(tmp_path):
    store = Store(tmp_path / "lab.duckdb")
    run_id = recorded(store)
    before = tables(store)
    assert queries.row_counts(store, run_id)["recorded_blocks"] == 6
    store.delete_run(run_id)
    assert not any(queries.row_counts(store).values())
    assert store.undelete() == run_id
    assert tables(store) == before


def test_a_key_is_blanked_in_a_body_however_deep(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    store = Store(tmp_path / "lab.duckdb")
    run, session = new_recording.begin(store, "client", "anthropic", "live", keep_text=True)
    scribe = Scribe(
        run.run_id,
        session.session_id,
        "client",
        "anthropic",
        new_recording.hasher(),
        keep_text=True,
    )
    deep = {"input": [{"env": {KEY: [KEY, f"Bearer {KEY}"]}}]}
    deepest: list = []
    for _ in range(100_000):
        deepest = [deepest]
    body = {"model": KEY, "messages": [{"role": "user", "content": [{"type": "x", **deep}]}]}
    finished = scribe.rows(Seen(STARTED, 0, body, content=[{"type": "text", "text": KEY}]))
    assert KEY in str(finished.recorded_calls[0].body)
    scrub.trial(finished)
    row = finished.recorded_calls[0]
    assert KEY not in f"{row} {finished.calls}" and "[key]" in str(row.body)
    row.body = {"nested": deepest}  # cannot be looked through, so it is not kept
    scrub.trial(finished)
    assert row.body is None


# Apart from what was measured


def test_it_stands_in_no_list_of_runs(tmp_path):
    store = Store(tmp_path / "lab.duckdb")
    run_id = recorded(store)
    with pytest.raises(LabError, match="only a recording of your app here"):
        queries.resolve(store, "last")
    assert queries.last_run_id(store) is None and queries.measured_run_ids(store) == []
    for rows in (
        queries.runs(store),
        queries.runs(store, technique=OBSERVED),
        queries.finds(store),
        queries.quick_runs(store, "anthropic"),
        queries.history(store, "ttft_ms"),
        queries.arm_summary(store, run_id),
        queries.arm_counts(store, run_id),
        queries.counted_trials(store, run_id),
    ):
        assert rows.empty
    assert queries.recordings(store)["calls"].tolist() == [3]
    measured = record(store, blocks=1)
    assert queries.resolve(store, "last") == measured
    assert queries.resolve(store, "my agent") == run_id


def test_the_last_that_show_and_check_tell_may_be_a_recording(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_DB", str(tmp_path / "lab.duckdb"))
    store = Store(tmp_path / "lab.duckdb")
    with pytest.raises(LabError, match="no run and no recording yet"):
        flags.meant("last")
    first = record(store, blocks=1)
    assert flags.meant("last") == first
    second = recorded(store)
    assert flags.meant("last") == second and flags.meant("last~1") == first
    assert queries.resolve(store, "last") == first
    with pytest.raises(LabError, match="there are 2 runs, loads and recordings"):
        flags.meant("last~2")


def test_each_command_says_something_right(db, capsys):
    store = Store()
    recorded(store)

    def run(*words: str) -> tuple[int, str]:
        code = cli.main(list(words))
        said = capsys.readouterr()
        return code, said.out + said.err

    code, words = run("runs")
    assert code == 0 and "Recordings of your applications" in words
    assert "3 calls  my agent  (keeps text)" in words
    code, words = run("runs", "--json")
    assert json.loads(words)["recordings"][0]["source"] == "client"
    for words in (("report", "my agent"), ("resume", "my agent")):
        code, words = run(*words)
        assert code == 2 and "recording of your application" in words
    code, words = run("trace", "my agent", "--to", "file", "--out", str(db.parent / "t.jsonl"))
    assert code == 0 and "sent 3" in words
    code, words = run("export", "--run", "my agent", "--out", str(db.parent / "e"))
    assert code == 0 and "recorded_calls.parquet" in words
    with pytest.raises(LabError, match="recording of your application"):
        results.read("my agent")
    with pytest.raises(LabError, match="no blocks to measure"):
        resume.progress(store, queries.resolve(store, "my agent"))


def test_one_under_way_is_left_alone_by_a_run_and_a_dead_one_is_interrupted(tmp_path, runtime):
    store = Store(tmp_path / "lab.duckdb")
    mine, dead = recorded(store, end=False), recorded(store, end=False)
    if not (child := os.fork()):
        processes.record(dead)
        os._exit(0)
    os.waitpid(child, 0)
    measured = record(store, blocks=1)
    store.close_orphans(measured)
    in_file = store.frame("SELECT run_id, status FROM runs WHERE technique = 'observed'")
    by_run = dict(in_file.itertuples(index=False))
    assert by_run == {mine: "running", dead: "interrupted"}
    assert set(queries.recordings(store)["status"]) == {"running", "interrupted"}
    processes.recorded(mine)
    assert queries.run(store, mine)["status"] == "interrupted"


# Forgotten


def places(folder: Path, words: str) -> list[str]:
    """The files whose bytes have it."""
    return [
        file.name
        for file in sorted(folder.rglob("*"))
        if file.is_file() and words.encode() in file.read_bytes()
    ]


def test_what_is_forgotten_is_in_the_bytes_of_no_file(tmp_path, runtime):
    store = Store(tmp_path / "lab.duckdb")
    kept = record(store, blocks=2)
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("CREATE TABLE my_own (words VARCHAR); INSERT INTO my_own VALUES ('a')")
    run_id = recorded(store)
    again = recorded(store, calls=1)
    store.delete_run(again)  # in the free room of the file, and in the trash
    refused = tmp_path / "lab.duckdb.spool" / "old.refused"
    refused.parent.mkdir(exist_ok=True)
    refused.write_text(refused_lines(run_id))
    (runtime / "runs" / f"{run_id}.log").write_text(SENTENCE)
    waiting = Store(store.path)
    waiting._append({"update": run_id, "note": SENTENCE})
    waiting._journal.close()
    assert {"lab.duckdb", "old.refused", f"{run_id}.log"} <= set(places(tmp_path, SENTENCE))
    mode = store.path.stat().st_mode
    store.forget(again)
    assert "recorded_calls.parquet" not in places(tmp_path, SENTENCE)
    store.forget(run_id)
    assert places(tmp_path, SENTENCE) == []
    left = [file for file in tmp_path.rglob("*") if run_id in file.name]
    assert left == [] and [*map(json.loads, refused.read_text().splitlines())] == [
        {"rows": {"trials": [{"run_id": "another run", "error_text": "stays"}]}},
        {"update": "another run"},
    ]
    assert queries.runs(store)["run_id"].tolist() == [kept] and len(queries.trials(store, kept))
    assert store.frame("SELECT * FROM my_own")["words"].tolist() == ["a"]
    assert store.path.stat().st_mode == mode
    assert recorded(Store(store.path))  # the file is a lab's still
    with pytest.raises(LabError, match="There is no run"):
        store.forget(run_id)


def refused_lines(run_id: str) -> str:
    """Rows of two runs that did not fit, a line that is no JSON, and one of another run."""
    other = {"run_id": "another run", "error_text": "stays"}
    rows = {"trials": [{"run_id": run_id, "error_text": SENTENCE}, other]}
    return f'{json.dumps({"rows": rows})}\n{run_id} {SENTENCE}\n{{"update": "another run"}}\n'


def test_one_under_way_is_not_forgotten(tmp_path):
    store = Store(tmp_path / "lab.duckdb")
    run_id = recorded(store, end=False)
    with pytest.raises(LabError, match="still under way"):
        store.forget(run_id)
    assert len(queries.recordings(store)) == 1


def test_a_disk_without_room_for_the_new_file_leaves_the_old_one(tmp_path):
    store = Store(tmp_path / "lab.duckdb")
    run_id = recorded(store)
    (tmp_path / "lab.duckdb.new").mkdir()
    (tmp_path / "lab.duckdb.new" / "x").touch()
    with pytest.raises(LabError):
        store.forget(run_id)
    assert len(queries.recorded_calls(store, run_id)) == 3


def test_forget_asks_first(db, capsys, monkeypatch):
    run_id = recorded(Store())
    assert cli.main(["forget", "my agent"]) == 2
    assert "nobody can be asked here" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: print(question) or "n")
    assert cli.main(["forget", run_id[:18]]) == 1
    assert "my agent" in capsys.readouterr().out and len(queries.recordings(Store())) == 1
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert cli.main(["forget", "my agent"]) == 0
    said = capsys.readouterr().out
    assert "with its 3 calls" in said and "yours to delete" in said
    assert places(db.parent, SENTENCE) == [] and os.path.exists(db)
