"""The page Watch: empty, with a stored watch, and a watch from the press to Stop."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pandas as pd
import pytest
from stored_watches import stored
from streamlit.testing.v1 import AppTest
from test_pages import opened, well
from test_watch import EVERY, ago, pairs

from lab import processes, watch
from lab.clock import utc_now
from lab.figures import probe_series
from lab.model import WATCH
from lab.store.store import Store
from lab.watch import standing, watch_order, watched
from lab.watch.watch_settings import WatchConfig, watch_config_of
from pages.parts import frame

PAGE = frame.page_of(WATCH).path


def texts(app: AppTest) -> str:
    shown = (*app.markdown, *app.caption, *app.info, *app.warning, *app.error, *app.success)
    return "\n".join(words.value.replace("\\", "") for words in shown)


@pytest.fixture
def ordered(monkeypatch) -> list[WatchConfig]:
    """What a press of Start orders; no process is started."""
    orders: list[WatchConfig] = []

    def start(config, named=None):
        orders.append(config)
        return watch.Card("1", config.name, 1, "", "", "", "")

    monkeypatch.setattr(watch, "start", start)
    return orders


def test_the_empty_page_has_a_form_that_can_be_started_at_once(db, ordered):
    app = opened(PAGE, endpoint="simulated")
    well(app)
    app.button(key="watch-start").click().run()
    (config,) = ordered
    assert (config.endpoint, config.every_min, config.pairs) == ("simulated", 15.0, 3)
    assert (config.scenario, config.name) == ("question-answering", "watch")


def test_a_stored_watch_says_its_change_and_draws_both_requests(db):
    stored(Store(), pairs(200, at=100, yours=1.3), name="orders")
    app = opened(PAGE, endpoint="simulated")
    well(app)
    assert "Your request got slower at 3 Nov 2026" in texts(app)
    assert "Not running" in texts(app)
    (table,) = app.dataframe
    assert table.value["whose"].tolist() == ["yours"]


def test_few_probes_say_how_many_it_takes(db):
    stored(Store(), pairs(5))
    app = opened(PAGE, endpoint="simulated")
    well(app)
    assert "5 probes so far; from 12 on it can tell" in texts(app)


def test_an_endpoint_that_never_answered_says_why(db):
    stored(Store(), [(None, None)] * 3)
    app = opened(PAGE, endpoint="simulated")
    well(app)
    assert "2 of 2 requests were not answered as asked: HTTP 500: overloaded." in texts(app)
    assert "the watch was not running" in texts(app)


def test_what_did_not_take_place_after_the_last_probe_is_in_the_chart(db):
    """14 probes, then 10 of a day without dollars: 23 intervals of 15 minutes to the last one."""
    values = pairs(14) + ["the probe might pass the day's $0.50"] * 10
    found = watched.read(Store(), stored(Store(), values, began=ago(24)))
    first, last = probe_series.span(found.probes["at"], standing.gaps(found, is_kept=True))
    assert first < found.probes["at"].min() and last > found.last_utc + EVERY
    well(app := opened(PAGE, endpoint="simulated"))
    for shown in app.get("plotly_chart"):
        layout = json.loads(shown.proto.spec)["layout"]
        (grey,) = layout["shapes"]
        assert pd.Timestamp(layout["xaxis"]["range"][1]) > pd.Timestamp(grey["x1"])


def test_a_watch_that_ended_long_ago_keeps_a_quarter_of_its_chart(db):
    """20 probes are 19 intervals; the chart has 4 times as many, and 2 % on either side."""
    found = watched.read(Store(), stored(Store(), pairs(20), began=ago(2_000)))
    first, last = probe_series.span(found.probes["at"], standing.gaps(found, is_kept=False))
    assert (last - first) / EVERY == pytest.approx(4 * 19 * 1.04)
    found = watched.read(Store(), stored(Store(), [*pairs(1), "busy"], began=ago(2_000)))
    _, last = probe_series.span(found.probes["at"], standing.gaps(found, is_kept=False))
    assert last > found.last_utc + EVERY


@pytest.fixture
def going(db, tmp_path, monkeypatch):
    # A watch that another process keeps; called with what it says.
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("LAB_RUNTIME", str(runtime))
    run_id = stored(Store(), pairs(5), usd_a_day=0.5)
    order = watch_order.new(watch_config_of(endpoint="simulated"))
    with watch.announced(replace(order, run_id=run_id)) as ready:
        ready(None)
        yield partial(processes.add_progress, run_id)


def test_what_a_day_has_cost_is_known_before_its_first_probe(going):
    due = utc_now() + timedelta(hours=1)
    going(
        {"kind": "gap", "text": "Probe 2 did not take place.", "day": "2020-01-01", "spent_usd": 9}
    )
    going({"kind": "next", "number": 3, "at_utc": due.isoformat(), "spent_usd": 0.25,
           "day": str(utc_now().date())})  # fmt: skip
    app = opened(PAGE, endpoint="simulated")
    assert "$0.25 of $0.50 today" in texts(app) and "next probe at" in texts(app)


def test_a_page_reads_the_end_of_what_a_month_has_said(going):
    for n in range(2000):
        going({"kind": "note", "text": f"note {n}"})
    run_id = watch.cards()[0].run_id
    told = watch.latest(run_id)
    assert told[-1]["text"] == "note 1999" and len(told) < 500
    assert watch.last(run_id, "ended") == {}


def test_a_body_that_is_none_is_a_sentence(db, ordered):
    app = opened(PAGE, endpoint="simulated")
    app.selectbox(key="watch-scenario").set_value("my own request").run()
    app.text_area(key="watch-own").set_value('{"messages": 3}').run()
    assert not app.exception and not ordered
    assert "This is no request: messages must be a list" in texts(app)


def test_history_lists_watches_apart_and_leads_to_them(db):
    stored(Store(), pairs(20), name="orders")
    app = opened("pages/21_History.py")
    well(app)
    assert "Watches" in [heading.value for heading in app.subheader]
    assert "0 changes" in texts(app)
