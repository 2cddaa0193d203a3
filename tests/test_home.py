"""Home: the first experiment begins in its own row, times are what runs took here, and every run is
a link with its verdict in words."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from lab import calibrate, expected, machine, results
from lab.endpoints import registry
from lab.harness.plan import SIDE_BY_SIDE, lacking
from lab.store.store import Store
from lab.techniques import all_techniques
from tests.recorded_runs import record

ROOT = Path(__file__).parent.parent


@pytest.fixture
def quiet(monkeypatch):
    """A machine on which nothing else runs."""
    monkeypatch.setattr(machine, "load", lambda: machine.Load(0.0, 2))


def home(**query):
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception and not app.error
    return app


def links(app):
    """Page and query of each link of the page itself, by its label."""
    drawn = [link.proto for link in app.main.get("page_link")]
    return [(link.label, link.page, link.query_string) for link in drawn]


def taken(db, run_id, seconds, technique="streaming"):
    """The recorded run becomes a quick one that took so long."""
    with duckdb.connect(str(db)) as connection:
        connection.execute(
            "UPDATE runs SET ended_utc = started_utc + to_milliseconds(?), technique = ?,"
            " settings = json_merge_patch(settings, '{\"quick\": true}') WHERE run_id = ?::UUID",
            [1000 * seconds, technique, run_id],
        )


def test_the_first_experiment_begins_in_its_own_row_and_nowhere_else(db):
    """Two buttons started the same run, over an empty plot of 450 px."""
    app = home()
    here = registry.find("local")
    unable = {t.slug: lacking("it", t.needs, here) for t in all_techniques() if t.in_all}
    runnable = [slug for slug, why in unable.items() if not why]
    assert unable["thinking"].startswith("local cannot do effort, thinking, which it is about")
    assert sum("local cannot do effort" in words.value for words in app.markdown) == 1
    buttons = [button.key for button in app.button if "run" in button.key]
    assert buttons == [f"run-{slug}" for slug in runnable]
    assert not app.get("plotly_chart")
    rows = [words.value for words in app.markdown if "streamed against whole" in words.value]
    assert len(rows) == 1 and "about" in rows[0]


def test_a_technique_that_was_tried_has_a_row_in_the_plot_and_no_button(db):
    record(Store())
    app = home()
    assert len(app.get("plotly_chart")) == 1
    assert "run-caching" not in {button.key for button in app.button}
    assert "run-streaming" in {button.key for button in app.button}


def test_a_promised_time_is_what_runs_took_here(db, quiet):
    """Home promised 15 s; it took 41."""
    store, endpoint = Store(), "simulated"
    began = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
    both = ["streaming", "caching"]
    alone = expected.quick_s(store, endpoint, both)
    taken(db, record(store, kind=endpoint, technique="streaming", started=began), 34)
    assert expected.quick_s(store, endpoint, ["streaming"]) == {"streaming": 40}  # 6 s to begin
    # Ten times the estimate there is likely ten times the estimate here.
    assert expected.quick_s(store, endpoint, both)["caching"] > 4 * alone["caching"]
    assert expected.quick_s(store, "local", both) == expected.quick_s(Store(db), "local", both)


def test_four_times_the_blocks_halve_what_can_be_seen(db, monkeypatch):
    """A run's own interval tells where there is one, else the calibration's of 20 blocks."""
    result = results.read(record(Store(db)))
    planned = result.comparisons[0]
    half = (planned.high - planned.low) / 2
    seen = expected.half_width(result, 4 * planned.n)
    assert seen == (pytest.approx(half / 2), planned.metric)
    monkeypatch.setattr(calibrate, "last_calibration", lambda: {"detectable_ms": {"20": 6.0}})
    assert expected.half_width(None, 80) == (3.0, None)
    monkeypatch.setattr(calibrate, "last_calibration", lambda: None)
    assert expected.half_width(None, 80) is None


def test_a_busy_machine_promises_no_more_than_it_can_keep(db, quiet, monkeypatch):
    idle = expected.quick_s(Store(), "simulated", ["caching"])["caching"]
    monkeypatch.setattr(machine, "load", lambda: machine.Load(6.0, 2))
    busy = expected.quick_s(Store(), "simulated", ["caching"])["caching"]
    assert (idle, busy) == (20, 50)  # 6 + 9 s, 6 + 4 × 9 s


def test_latest_runs_say_their_verdict_and_are_links_paired_ones_too(db):
    """A paired run was plain text in a larger font, and could not be opened from anywhere."""
    store = Store()
    single, paired = record(store), record(store)
    with duckdb.connect(str(db)) as connection:
        connection.execute(
            "UPDATE runs SET technique = ? WHERE run_id = ?::UUID", [SIDE_BY_SIDE, paired]
        )
    app = home()
    opened = {query.partition("run=")[2][:36]: label for label, _, query in links(app)}
    assert {single, paired} <= set(opened) and opened[single] == "Prompt caching"
    lines = [words.value.replace("\\", "") for words in app.caption]
    assert sum("cached starts 66 % sooner than " in line for line in lines) == 2


def test_a_run_that_shows_nothing_says_so_in_the_list(db):
    record(Store(), blocks=2)
    lines = [words.value.replace("\\", "") for words in home().caption]
    assert any("Not enough data: cached faster in 2 of 2 blocks" in line for line in lines)


def test_a_verdict_in_a_list_of_runs_says_that_it_is_doubtful(db):
    store = Store(db)
    clean, failing = (record(store, blocks=20, lost=lost) for lost in ({}, {1: "failed"}))
    assert results.read(clean, store).in_short.startswith("cached starts ")
    assert results.read(failing, store).in_short.startswith("Doubtful: cached starts ")
