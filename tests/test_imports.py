"""A foreign database is data: whatever stands in it, the lab takes in its good rows, runs nothing
of it and blocks nobody meanwhile."""

from __future__ import annotations

import io
import json
import threading
import time
import zipfile

import duckdb
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from lab import cli, clock, paths, results
from lab.model import LabError
from lab.store import importing, queries
from lab.store.export import export
from lab.store.store import Store
from pages.parts import history
from tests.recorded_runs import record
from tests.stored_trials import held_by_a_foreign_program

SECRET = "sk-ant-of-somebody"


@pytest.fixture
def mine(tmp_path) -> Store:
    """A lab with one run of its own."""
    store = Store(tmp_path / "mine" / "lab.duckdb")
    record(store, blocks=1)
    return store


@pytest.fixture
def foreign(tmp_path) -> Store:
    """Another lab's database, with one good run of two blocks."""
    store = Store(tmp_path / "theirs" / "lab.duckdb")
    record(store, blocks=2)
    return store


def changed(store: Store, sql: str) -> None:
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(sql)


def state(store: Store) -> dict[str, int]:
    return queries.row_counts(store)


def test_a_good_run_comes_in_whole_is_marked_and_comes_in_once(mine, foreign):
    (theirs,) = queries.runs(foreign)["run_id"]
    assert mine.import_from(foreign.path) == importing.Imported(
        runs=1, trials=4, calls=4, events=12
    )
    assert mine.import_from(foreign.path) == importing.Imported(0, 0, 0, 0)
    pd.testing.assert_frame_equal(queries.trials(mine, theirs), queries.trials(foreign, theirs))
    spans = [
        queries.spans(store, run_id=theirs).sort_values("span_id", ignore_index=True)
        for store in (mine, foreign)
    ]
    pd.testing.assert_frame_equal(*spans)
    marked = queries.runs(mine).set_index("run_id")["imported_from"]
    assert marked[theirs] == "lab.duckdb" and marked.drop(theirs).isna().all()


def test_a_run_of_ones_own_that_comes_back_stays_measured_here(mine, tmp_path):
    export(mine, tmp_path / "out", "duckdb")
    assert mine.import_from(tmp_path / "out" / "lab.duckdb").runs == 0
    (run_id,) = queries.runs(mine)["run_id"]
    mine.delete_run(run_id)
    mine.undelete()
    assert queries.run(mine, run_id)["imported_from"] is None


def test_foreign_trials_in_a_run_of_ones_own_mark_it(mine, tmp_path):
    export(mine, tmp_path / "out", "duckdb")
    copy = Store(tmp_path / "out" / "lab.duckdb")
    changed(
        copy,
        "INSERT INTO trials SELECT * REPLACE (uuid() AS trial_id, 99 AS block) FROM trials LIMIT 1",
    )
    assert mine.import_from(copy.path).trials == 1
    assert queries.runs(mine)["imported_from"].tolist() == ["lab.duckdb"]


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_and_a_zip_of_parquet_come_in_alike(mine, foreign, tmp_path, packed):
    files = export(foreign, tmp_path / "out")
    source = tmp_path / "out"
    if packed:
        source = tmp_path / "packed.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in files:
                archive.write(file, f"../../deep/{file.name}")
    assert mine.import_from(source) == importing.Imported(1, 4, 4, 12)


# What the file defines is never run


def test_a_view_in_a_tables_place_is_no_table(mine, foreign, tmp_path):
    (tmp_path / "secrets.toml").write_text(SECRET)
    (tmp_path / "theirs" / "stolen.duckdb").touch()
    changed(
        foreign,
        f"""
        ALTER TABLE runs RENAME TO kept;
        CREATE VIEW runs AS SELECT * REPLACE ((SELECT content
            FROM read_text('{tmp_path}/secrets.toml')) AS note) FROM kept;
        """,
    )
    before = state(mine)
    with pytest.raises(LabError, match=r"no table runs.*Nothing was changed"):
        mine.import_from(foreign.path)
    assert state(mine) == before and SECRET not in mine.path.read_bytes().decode("latin-1")


def test_an_endless_view_and_macros_of_the_labs_own_names_are_not_run(mine, foreign):
    changed(
        foreign,
        """
        CREATE OR REPLACE VIEW trial_metrics AS SELECT count(*) FROM range(1000000000000) a,
            range(1000000) b;
        CREATE OR REPLACE MACRO known(value) AS 7;
        CREATE OR REPLACE MACRO visible(words) AS 'not seen';
        CREATE OR REPLACE MACRO json_valid(words) AS error('run');
        """,
    )
    assert mine.import_from(foreign.path).trials == 4
    assert mine.frame("SELECT DISTINCT quality, arm FROM trials ORDER BY arm").values.tolist() == [
        [1.0, "cached"],
        [1.0, "uncached"],
    ]


def test_a_computed_column_is_not_read(mine, foreign):
    changed(
        foreign,
        """
        CREATE TABLE again AS FROM runs;
        DROP TABLE runs CASCADE;
        CREATE TABLE runs AS SELECT * EXCLUDE (note) FROM again;
        ALTER TABLE runs RENAME TO plain;
        CREATE TABLE runs (
            run_id UUID, technique VARCHAR, endpoint VARCHAR, endpoint_kind VARCHAR, models JSON,
                settings JSON, seed BIGINT,
            status VARCHAR, keep_text BOOLEAN, started_utc TIMESTAMPTZ,
                note VARCHAR AS (repeat(technique, 100000000))
        );
        INSERT INTO runs
        SELECT run_id, technique, endpoint, endpoint_kind, models, settings, seed, status,
            keep_text, started_utc FROM plain;
        """,
    )
    assert mine.import_from(foreign.path).runs == 1
    assert mine.frame("SELECT note FROM runs WHERE imported_from IS NOT NULL")["note"].isna().all()


def test_the_writers_go_on_while_a_file_is_read(mine, foreign, monkeypatch):
    """A source that takes until its time limit holds no turn of the lab's own database."""
    monkeypatch.setattr(importing, "TIMEOUT_S", 3.0)
    monkeypatch.setattr(
        importing, "PATIENCE_S", 60.0
    )  # the file is held below, so that reading it waits for the limit
    holder = held_by_a_foreign_program(foreign.path)

    def refused() -> None:
        with pytest.raises(LabError, match="took longer than"):
            mine.import_from(foreign.path)

    waits, (run_id,) = [], queries.runs(mine)["run_id"]
    try:
        reader = threading.Thread(target=refused)
        reader.start()
        while reader.is_alive():
            began = time.perf_counter()
            mine.set_note(run_id, "written meanwhile")
            waits.append(time.perf_counter() - began)
            clock.pause_s(0.1)
    finally:
        holder.communicate("\n")
    assert len(waits) > 3 and sorted(waits)[len(waits) // 2] < 1


# Files that cannot be read


def test_each_file_that_cannot_be_read_is_a_sentence_and_changes_nothing(
    mine, foreign, tmp_path, monkeypatch
):
    whole = foreign.path.read_bytes()
    broken = bytearray(whole)
    for place in range(12_288, len(broken), 4_096):
        broken[place + 100] ^= 0xFF
    (tmp_path / "broken.duckdb").write_bytes(broken)
    (tmp_path / "cut.duckdb").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.duckdb").write_bytes(b"x" * 9000)
    (tmp_path / "empty.duckdb").touch()
    (tmp_path / "none.zip").write_bytes(b"PK\3\4" + b"x" * 900)
    (tmp_path / "folder").mkdir()
    with duckdb.connect(str(tmp_path / "other.duckdb")) as connection:
        connection.execute("CREATE TABLE runs (mine INTEGER)")
    (tmp_path / "large.duckdb").touch()
    with (tmp_path / "large.duckdb").open("r+b") as large:
        large.truncate(importing.LARGEST + 1)  # a hole: no disk is used
    before, sentences = state(mine), {}
    for name in (
        "broken.duckdb",
        "cut.duckdb",
        "none.duckdb",
        "empty.duckdb",
        "none.zip",
        "folder",
        "other.duckdb",
        "large.duckdb",
        "no",
    ):
        with pytest.raises(LabError) as refused:
            mine.import_from(tmp_path / name)
        sentences[name] = str(refused.value)
    assert [
        text
        for text in sentences.values()
        if "\n" in text or "Traceback" in text or not text.endswith(".")
    ] == []
    assert "4 GB" in sentences["large.duckdb"] and "every table" in sentences["folder"]
    assert state(mine) == before


def test_a_database_that_another_program_holds_is_named(mine, foreign, monkeypatch):
    monkeypatch.setattr(importing, "PATIENCE_S", 0.1)
    holder = held_by_a_foreign_program(foreign.path)
    try:
        with pytest.raises(LabError, match="another program holds it"):
            mine.import_from(foreign.path)
    finally:
        holder.communicate("\n")


# Rows that cannot be a lab's


def test_values_that_no_clock_price_or_server_has_are_empty_and_the_rest_of_the_row_comes_in(
    mine, foreign
):
    changed(
        foreign,
        """
        UPDATE calls SET output_tokens = -5, ended_ns = 9223372036854775807, cost_usd = 'nan',
            error_text = repeat('x', 9000),
            server_ms = '{"queue": 1.5, "prefill": "x", "other": [1]}',
            model = 'a' || chr(27) || '[31m' || chr(8238);
        UPDATE trials SET quality = 'inf', ended_ns = -9223372036854775808;
        UPDATE runs SET ended_utc = 'infinity', note = repeat('n', 9000), status = 'running';
        UPDATE events SET text = repeat('e', 3000000) WHERE seq = 0;
        """,
    )
    assert mine.import_from(foreign.path) == importing.Imported(1, 4, 4, 12)
    calls = mine.frame(
        "SELECT * FROM calls WHERE run_id IN (SELECT run_id FROM runs WHERE imported_from IS NOT"
        " NULL)"
    )
    assert calls[["output_tokens", "ended_ns", "cost_usd"]].isna().all(axis=None)
    assert (calls["input_tokens"] == 40).all() and (calls["error_text"].str.len() == 500).all()
    assert set(calls["server_ms"]) == {'{"queue":1.5}'} and set(calls["model"]) == {"a␛[31m\ufffd"}
    run = queries.runs(mine).dropna(subset="imported_from").iloc[0]
    assert (len(run["note"]), run["status"]) == (4000, "interrupted") and pd.isna(run["ended_utc"])
    assert mine.frame("SELECT max(strlen(text)) AS n FROM events")["n"].tolist() == [1_000_000]


LEFT_OUT = {
    "an endpoint kind that is none": "UPDATE runs SET endpoint_kind = 'cloud'",
    "a status that is none": "UPDATE runs SET status = '<b>done</b>'",
    "a start in the year 20000": "UPDATE runs SET started_utc = '20000-01-01'",
    "a start at infinity": "UPDATE runs SET started_utc = 'infinity'",
    "settings of nothing": "UPDATE runs SET settings = '{}'",
    "settings of null": "UPDATE runs SET settings = 'null'",
    "arms that are words": (
        """UPDATE runs SET settings = json_merge_patch(settings, '{"arms": ["a", "b"]}')"""
    ),
    "a headline on no metric": (
        """UPDATE runs
        SET settings = json_merge_patch(settings, '{"headline": {"metric": "x; DROP"}}')"""
    ),
    "a headline at no quantile": (
        """UPDATE runs
        SET settings = json_merge_patch(settings, '{"headline": {"quantile": 1}}')"""
    ),
    "settings a thousand levels deep": (
        "UPDATE runs SET settings = (repeat('[', 1000) || repeat(']', 1000))::JSON"
    ),
    "models that are a list": "UPDATE runs SET models = '[]'",
    "a seed below zero": "UPDATE runs SET seed = -1",
}


def test_a_run_that_pages_could_not_show_is_left_out_and_counted(mine, foreign):
    """All of them in one file, beside one run that is good: 13 runs, of which 12 are left out with
    their 4 trials, 4 calls …"""
    good = [record(foreign, blocks=1) for _ in LEFT_OUT]
    changes = zip(good, LEFT_OUT.values(), strict=True)
    changed(foreign, ";".join(f"{sql} WHERE run_id = '{run_id}'" for run_id, sql in changes))
    imported = mine.import_from(foreign.path)
    assert imported[:4] == (1, 4, 4, 12)
    # A run of one block has 1 run, 1 session, 2 trials, 2 calls, 4 spans and 6 events.
    assert imported.left_out == len(LEFT_OUT) * (1 + 1 + 2 + 2 + 4 + 6)


def test_trials_of_no_known_phase_or_outcome_are_left_out_with_what_belongs_to_them(mine, foreign):
    changed(foreign, "UPDATE trials SET phase = 'other' WHERE block = 1 AND arm = 'cached'")
    changed(foreign, "UPDATE trials SET outcome = 'great' WHERE block = 1 AND arm = 'uncached'")
    assert mine.import_from(foreign.path) == importing.Imported(
        1, 2, 2, 6, left_out=2 * (1 + 1 + 2 + 3)
    )


def test_a_row_that_is_there_twice_comes_in_once(mine, foreign):
    changed(
        foreign,
        "INSERT INTO trials FROM trials; INSERT INTO calls FROM calls; INSERT INTO spans FROM"
        " spans",
    )
    assert mine.import_from(foreign.path) == importing.Imported(1, 4, 4, 12, left_out=4 + 4 + 8)


def test_what_a_repeat_would_do_with_this_users_files_and_money_is_not_taken_over(mine, foreign):
    config = (
        '{"config": {"db": "/tmp/x.duckdb", "join_run": "x", "max_usd": 1000, "scheduler":'
        ' "tcp://127.0.0.1:8786", "scenario": "/home/me/.ssh/id_rsa"}}'
    )
    changed(foreign, f"UPDATE runs SET settings = json_merge_patch(settings, '{config}')")
    mine.import_from(foreign.path)
    config = queries.runs(mine).dropna(subset="imported_from")["settings"].iloc[0]["config"]
    assert config == {"technique": "caching", "runs": 2, "scenario": "imported: id_rsa"}


# Reading a run from a file


def test_a_run_read_from_a_file_is_imported_elsewhere_and_leaves_the_file_as_it_was(mine, foreign):
    changed(foreign, "CREATE OR REPLACE VIEW arm_counts AS SELECT error('run') AS n")
    before = foreign.path.read_bytes()
    result = results.read(str(foreign.path))
    assert result.run["imported_from"] == "lab.duckdb" and len(result.trials) == 4
    assert foreign.path.read_bytes() == before


# What is told of them


def test_an_imported_run_says_so_everywhere_and_ones_own_nowhere(
    mine, foreign, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("LAB_DB", str(mine.path))
    mine.import_from(foreign.path, "theirs.duckdb")
    runs = queries.runs(mine)
    (own,), (theirs,) = (
        runs[runs["imported_from"].isna() == here]["run_id"] for here in (True, False)
    )
    said = {}
    for run_id in (theirs, own):
        assert (
            cli.main(["show", run_id, "--output", "console,markdown,json", "--out", str(tmp_path)])
            == 0
        )
        assert cli.main(["report", run_id, "--out", str(tmp_path / "report.html")]) == 0
        said[run_id] = {
            "console": "imported from theirs.duckdb" in capsys.readouterr().out,
            "markdown": "imported from theirs.duckdb" in (tmp_path / f"{run_id}.md").read_text(),
            "json": (
                json.loads((tmp_path / f"{run_id}.json").read_text())["imported_from"]
                == "theirs.duckdb"
            ),
            "report": "imported from theirs.duckdb" in (tmp_path / "report.html").read_text(),
            "page": any(
                "imported" in words.value
                for words in opened("pages/2_Prompt_caching.py", run=run_id).caption
            ),
        }
    assert set(said[theirs].values()) == {True} and set(said[own].values()) == {False}
    cli.main(["runs"])
    assert [
        line.endswith("(imported from theirs.duckdb)")
        for line in sorted(capsys.readouterr().out.splitlines())
    ] == [False, True]
    cli.main(["runs", "--json"])
    assert {
        run["run_id"]: run["imported_from"] for run in json.loads(capsys.readouterr().out)["runs"]
    } == {
        own: None,
        theirs: "theirs.duckdb",
    }
    history = opened("pages/21_History.py").dataframe[0].value
    assert "theirs.duckdb" in history["imported_from"].tolist()
    names = opened("pages/20_Side_by_side.py", runs=[own, theirs]).multiselect[0].options
    assert [name.endswith("imported from theirs.duckdb") for name in names].count(True) == 1
    assert (
        sum(
            "imported from theirs" in words.value.replace("\\", "")
            for words in opened("app.py").caption
        )
        == 1
    )


def opened(path: str, **query) -> AppTest:
    app = AppTest.from_file(str(paths.ROOT / "app.py"), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    return (app if path == "app.py" else app.switch_page(path)).run()


class Uploaded(io.BytesIO):
    """What st.file_uploader gives: bytes with a name."""

    def __init__(self, name: str, content: bytes) -> None:
        super().__init__(content)
        self.name = name


def test_uploads_come_in_by_the_name_they_had(mine, foreign, tmp_path):
    whole = [Uploaded("theirs.duckdb", foreign.path.read_bytes())]
    (tmp_path / "one").mkdir()
    source, name = history._laid_out(whole, tmp_path / "one")
    assert (mine.import_from(source, name).runs, name) == (1, "theirs.duckdb")
    (tmp_path / "two").mkdir()
    parts = [Uploaded(file.name, file.read_bytes()) for file in export(foreign, tmp_path / "out")]
    source, name = history._laid_out(
        [*parts, Uploaded("../../../evil.parquet", b"x")], tmp_path / "two"
    )
    assert mine.import_from(source, name) == importing.Imported(0, 0, 0, 0)
    assert sorted(file.name for file in tmp_path.rglob("evil*")) == []
