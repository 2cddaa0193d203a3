"""Side by side, History and Explorer over real stored runs, as a reader uses them."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from lab.figures import adhoc
from lab.model import View
from lab.store import queries, sandbox
from lab.store.store import Store
from lab.techniques import find
from pages.parts import explorer
from tests import app_recordings, stored_loads, verdict_runs
from tests.recorded_runs import record

ROOT = Path(__file__).parent.parent


def opened(page, **query):
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    return app.switch_page(f"pages/{page}.py").run()


def test_side_by_side_opens_on_recorded_runs(db):
    store = Store()
    for day in (20, 21):
        record(store, started=datetime(2026, 11, day, 6, 0, tzinfo=UTC))
    app = opened("20_Side_by_side")
    assert not app.exception and not app.error


def test_a_run_of_several_techniques_names_each_arm_with_its_technique(db):
    """Two arms of one name were drawn as one."""
    run_id = record(Store())
    with duckdb.connect(str(db)) as connection:
        connection.execute("UPDATE runs SET technique = 'side-by-side'")
    app = opened("20_Side_by_side", run=run_id, what="One paired run")
    assert not app.exception and not app.error
    drawn = "".join(chart.proto.spec for chart in app.get("plotly_chart"))
    assert "caching.cached starts" in drawn
    assert r"\u003ecaching.uncached" in drawn and r"\u003euncached" not in drawn


def test_resume_is_offered_where_a_block_is_missing(db):
    """A run that failed with all its blocks there offered to resume, and measured as many more."""
    run_id = record(Store())
    labels = {}
    for missing in ("none", "one"):
        with duckdb.connect(str(db)) as connection:
            connection.execute("UPDATE runs SET status = 'failed'")
            if missing == "one":
                connection.execute("DELETE FROM trials WHERE block = 8")
        st.cache_data.clear()
        labels[missing] = opened("2_Prompt_caching", run=run_id).button("more-blocks").label
    assert labels["none"].startswith("10 more blocks") and labels["one"] == "Resume"


FAILING = ("caching", "parallelism", "routing", "topology")


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """A database with a run of each of these techniques in which nothing ended well, and their
    ids."""
    store = Store(tmp_path_factory.mktemp("failures") / "lab.duckdb")
    ids = verdict_runs.record(store, *((technique, "faster") for technique in FAILING))
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("UPDATE trials SET outcome = 'failed', error_kind = 'timeout'")
    return store.path, {technique: run_id for (technique, _), run_id in ids.items()}


@pytest.mark.parametrize("technique", FAILING)
def test_a_run_of_failures_shows_no_empty_table_and_offers_no_blocks_that_would_not_help(
    failures, monkeypatch, technique
):
    """Parallelism drew two tables without a row; a router that answered nothing "sends 0 % of its
    trials to the small model"; under "more blocks would not help" stood a button for ten more."""
    path, ids = failures
    monkeypatch.setenv("LAB_DB", str(path))
    own = next(view for view in find(technique).views if isinstance(view, View))
    app = opened(find(technique).page.removesuffix(".py"), run=ids[technique], view=own.name)
    assert not app.exception and not app.dataframe and not app.metric
    captions = [caption.value for caption in app.caption]
    assert any("more blocks would not help" in text.value for text in app.markdown)
    assert any(text.startswith("No trial of this run ended well") for text in captions)
    assert any(text.startswith("**What did not end well**") for text in captions)
    assert "more-blocks" not in [button.key for button in app.button]


def test_a_run_is_named_and_deleted_and_brought_back(db):
    store = Store()
    run_id = record(store)
    app = opened("21_History", run=run_id)
    app.text_input[1].set_value("[Monday](http://a.example)")
    next(button for button in app.button if button.label == "Save").click().run()
    assert queries.run(store, run_id)["name"] == "[Monday](http://a.example)"
    assert any(text.value.startswith("**\\[Monday\\]\\(") for text in app.markdown)  # no link
    app.button("delete").click().run()
    assert queries.runs(store).empty
    app.button("undo").click().run()
    assert len(queries.runs(store)) == 1


def test_the_sql_box_answers_and_refuses(db):
    record(Store())
    app = opened("22_Explorer", what="SQL", sql="SELECT count(*) AS trials FROM trials")
    app.button("run-sql").click().run()
    assert app.dataframe[0].value["trials"].tolist() == [16]
    app.text_area("sql").set_value("DELETE FROM trials").run()
    app.button("run-sql").click().run()
    assert not app.exception and app.error
    assert queries.row_counts(Store())["trials"] == 16


def test_history_speaks_the_pages_words(db):
    """Slugs for techniques, "None" for no cost, "1 runs"."""
    store = Store()
    record(store)
    run_id = record(store, kind="simulated", started=datetime(2026, 11, 25, 6, 0, tzinfo=UTC))
    with duckdb.connect(str(db)) as connection:
        connection.execute("UPDATE runs SET technique = 'side-by-side' WHERE run_id = ?", [run_id])
        connection.execute("UPDATE trials SET cost_usd = NULL WHERE run_id = ?", [run_id])
    app = opened("21_History", run=run_id)
    assert not app.exception and not app.error
    listed = app.dataframe[0].value
    assert listed["technique"].tolist() == ["Side by side", "Prompt caching"]
    assert listed["cost_usd"].tolist() == ["—", "$0.011"]
    links = {link.proto.label: link.proto for link in app.main.get("page_link")}
    assert run_id in links["Open the run"].query_string  # a paired run could not be opened
    captions = [words.value for words in app.caption]
    assert any(words.startswith("2 runs. ") for words in captions)
    app.text_input(key="text").set_value("caching").run()
    assert any(words.value.startswith("1 run. ") for words in app.caption)


@pytest.mark.parametrize("page", ["22_Explorer", "21_History"])
def test_everything_is_made_when_it_is_asked_for_and_not_before(db, page):
    """One table at a time could be taken away, from a button at the foot of the page."""
    record(Store())
    app = opened(page)
    files = {button.key for button in app.get("download_button")}
    assert "save-all" not in files
    app.button("make-everything").click().run()
    assert not app.exception and not app.error
    labels = {button.key: button.label for button in app.get("download_button")}
    assert labels["save-all"] == "Save lab.duckdb"
    told = [words.value for words in app.caption if "main.py export" in words.value]
    assert len(told) == 1
    if page == "22_Explorer":  # what follows is the same part of either page
        return
    app.button_group(key="everything-kind").set_value("parquet").run()
    assert "save-all" not in {button.key for button in app.get("download_button")}
    app.button("make-everything").click().run()
    labels = {button.key: button.label for button in app.get("download_button")}
    assert labels["save-all"] == "Save lab-parquet.zip"
    record(Store())
    app.run()
    assert "save-all" not in {button.key for button in app.get("download_button")}, "it lacks a run"


def test_the_explorers_rows_come_before_its_words(db):
    """At 420 px two tables stood above the first row."""
    record(Store())
    app = opened("22_Explorer", table="calls")
    assert not app.exception and not app.error
    rows, columns = (table.value for table in app.dataframe)
    assert len(rows) == 16 and "call_id" in rows.columns
    assert columns["column_type"].iloc[0] == "UUID"
    assert {"calls-parquet", "calls-duckdb"} <= {b.key for b in app.get("download_button")}


def test_no_example_mixes_endpoint_kinds(db):
    """A local and a simulated arm of one name were one median of n = 16."""
    store, kinds = Store(), ("local", "simulated")
    for kind in kinds:
        record(store, kind=kind, lost={8: "failed"})
        app_recordings.record(store, app_recordings.with_a_clock(), endpoint=kind, kind=kind)
        stored_loads.stored(store, (4,), requests=2, kind=kind)
    shown = {
        name: sandbox.run_sql(store, sql, timeout_s=30) for name, sql in explorer.EXAMPLES.items()
    }
    assert shown["Medians by arm"]["n"].tolist() == [7, 8, 7, 8]
    assert len(shown.pop("Gaps between arrivals")) == 3  # of one call, which is of one kind
    for name, rows in shown.items():
        assert sorted(set(rows["endpoint_kind"])) == [*kinds], name


def test_a_quick_chart_adds_up_nothing_but_counts():
    """Medians of 2,896 and 1,095 ms were one bar of 4,000."""
    frame = pd.DataFrame(
        {"technique": ["parallelism"] * 2, "total_ms": [2900.0, 1100.0], "n": [10, 12]}
    )
    times = adhoc.quick(frame, "technique", "total_ms")
    assert {trace.type for trace in times.data} == {"scatter"}
    heights = [list(trace.y) for trace in times.data]
    assert heights == [[2900, 1100], [2000]]  # both rows, and their median
    assert "median" in times.layout.meta["subtitle"]
    tokens = adhoc.quick(frame.assign(output_tokens=[50, 70]), "technique", "output_tokens")
    assert [list(trace.y) for trace in tokens.data] == [[50, 70], [60]]  # whole, and no count
    counts = adhoc.quick(frame, "technique", "n")
    assert [(trace.type, list(trace.y)) for trace in counts.data] == [("bar", [22])]
    alone = adhoc.quick(frame.assign(arm=["a", "b"]), "arm", "total_ms")
    assert [(trace.type, list(trace.y)) for trace in alone.data] == [("bar", [2900, 1100])]
    with pytest.raises(ValueError, match="never share a chart"):
        adhoc.quick(frame.assign(endpoint_kind=["local", "simulated"]), "technique", "n")
