"""Side by side, History and Explorer over real stored runs, as a reader uses them."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from lab.store import queries
from lab.store.store import Store
from tests.recorded_runs import record

ROOT = Path(__file__).parent.parent


def opened(page, **query):
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    return app.switch_page(f"pages/{page}.py").run()


@pytest.mark.parametrize("page", ["20_Side_by_side", "21_History", "22_Explorer"])
def test_an_empty_database_says_what_to_do(db, page):
    app = opened(page)
    assert not app.exception and not app.error
    assert app.info or page == "22_Explorer"


@pytest.mark.parametrize("page", ["20_Side_by_side", "21_History", "22_Explorer"])
def test_a_page_opens_on_recorded_runs(db, page):
    store = Store()
    for day in (20, 21):
        record(store, started=datetime(2026, 11, day, 6, 0, tzinfo=UTC))
    app = opened(page)
    assert not app.exception and not app.error
    assert len(app.dataframe) >= 1


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
    assert labels == {"none": "10 more blocks", "one": "Resume"}


def test_kinds_stand_apart_with_a_warning(db):
    store = Store()
    chosen = [record(store), record(store, kind="simulated")]
    app = opened("20_Side_by_side", runs=chosen)
    assert not app.exception
    assert "endpoint kinds" in app.warning[0].value
    assert len(app.get("plotly_chart")) == 4  # a distribution and a scatter of each kind


def test_a_run_is_named_and_deleted_and_brought_back(db):
    store = Store()
    run_id = record(store)
    app = opened("21_History", run=run_id)
    app.text_input[1].set_value("Monday")
    next(button for button in app.button if button.label == "Save").click().run()
    assert queries.run(store, run_id)["name"] == "Monday"
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
