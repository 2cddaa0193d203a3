"""The page Load: its form, a load from the press to the answer, and where other pages lead to
it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from stored_loads import stored
from streamlit.testing.v1 import AppTest
from test_pages import chosen_run, opened, well

from lab import load_estimate, processes
from lab.clock import pause_s
from lab.endpoints import consent
from lab.load.load_settings import LoadConfig
from lab.model import LOAD, new_id
from lab.store import queries
from lab.store.store import Store
from pages.parts import frame, load_form, run_panel

LOADS = frame.page_of(LOAD).path
OBJECTIVE = "p95 ttft_ms < 800"


def texts(app: AppTest) -> str:
    shown = (*app.markdown, *app.caption, *app.info, *app.warning, *app.error)
    return "\n".join(words.value.replace("\\", "") for words in shown)


@pytest.fixture
def ordered(monkeypatch) -> list[LoadConfig]:
    """What a press of Run orders; no worker is started."""
    orders: list[LoadConfig] = []
    monkeypatch.setattr(run_panel, "PATIENCE_S", 0.0)
    monkeypatch.setattr(processes, "start_run", lambda config: orders.append(config) or new_id())
    return orders


def test_the_empty_page_has_a_form_that_can_be_run_at_once(db, ordered):
    app = opened(LOADS, endpoint="simulated")
    well(app)
    app.button(key="run-button").click().run()
    (config,) = ordered
    assert (config.endpoint, config.concurrency, config.rate) == ("simulated", [16], [])


MODES: dict[str, Callable[[LoadConfig], bool]] = {
    "Streams": lambda config: config.concurrency == [16] and not config.is_open,
    "Sweep": lambda config: config.concurrency == [1, 2, 4, 8, 16, 32],
    "Rate": lambda config: config.rate == [10.0] and config.arrivals == "poisson",
    "Ramp": lambda config: config.ramp == "1:16" and config.seconds == load_form.SECONDS,
    "Search": lambda config: config.search == "concurrency" and config.slo == [OBJECTIVE],
}


@pytest.mark.parametrize("mode", MODES)
def test_each_way_to_put_a_load_on_shows_its_own_fields_and_can_be_run(db, ordered, mode):
    app = opened(LOADS, endpoint="simulated", **{"load-mode": mode})
    well(app)
    keys = {widget.key for widget in (*app.number_input, *app.text_input)}
    assert ("load-rate" in keys) == (mode == "Rate")
    assert ("load-most" in keys) == (mode == "Search")
    app.button(key="run-button").click().run()
    assert MODES[mode](ordered[0])


def test_what_rises_may_be_the_rate(db, ordered):
    app = opened(LOADS, endpoint="simulated", **{"load-mode": "Ramp"})
    app.segmented_control(key="load-what").set_value(load_form.RATE).run()
    well(app)
    app.button(key="run-button").click().run()
    assert ordered[0].ramp == "5:20/s" and ordered[0].is_open


def test_the_form_refuses_in_a_sentence(db):
    app = opened(LOADS, endpoint="simulated", **{"load-mode": "Sweep"})
    app.text_input(key="load-levels-concurrency").set_value("1, two").run()
    assert "Levels are whole numbers" in texts(app) and not app.exception
    app = opened(LOADS, endpoint="simulated")
    app.text_input(key="load-slo").set_value("p95 speed < 3").run()
    assert "no 'speed'" in texts(app) or app.button(key="run-button").disabled


def test_a_live_endpoint_asks_with_the_price_before_anything_is_sent(db, ordered, monkeypatch):
    consent.allow("https://api.example.test", key=False)
    monkeypatch.setenv("LAB_IGNORE_KEYS", "")
    asked = load_estimate.LoadEstimate(
        requests=98, text="98 requests", question="This sends 98 requests, for at most $0.04."
    )
    monkeypatch.setattr(load_estimate, "estimate", lambda config: asked)
    app = opened(LOADS, endpoint="https://api.example.test")
    app.button(key="run-button").click().run()
    assert not ordered and "for at most $0.04" in texts(app)
    app.button(key="load-no").click().run()
    assert not ordered and "for at most $0.04" not in texts(app)
    app.button(key="run-button").click().run()
    app.button(key="load-yes").click().run()
    assert len(ordered) == 1


@pytest.mark.parametrize("view", ["In time", "Distribution", "Errors", "Rows", "In a terminal"])
@pytest.mark.parametrize("mode", ["closed", "open"])
def test_a_load_shows_its_answer_and_every_view(db, mode, view):
    run_id = stored(Store(), mode=mode, failed=3, slo=[OBJECTIVE])
    app = opened(LOADS, run=run_id, view=view)
    well(app)
    assert "Keeps p95" in texts(app) and chosen_run(app) == run_id
    if view == "In a terminal":
        assert any(f"load --slo '{OBJECTIVE}'" in code.value for code in app.code)
    if view == "Errors":
        assert app.dataframe[-1].value["error"].tolist() == ["overloaded_error"]


def test_the_page_opens_the_newest_load_and_a_link_another(db):
    store = Store()
    old, new = stored(store, (4,)), stored(store, (8,))
    assert chosen_run(opened(LOADS, endpoint="simulated")) == new
    assert chosen_run(opened(LOADS, endpoint="simulated", run=old)) == old


def test_a_load_without_a_level_says_so(db):
    store = Store()
    run_id = stored(store, (), status="failed")
    app = opened(LOADS, run=run_id)
    assert not app.exception and "has no level" in texts(app)


def test_the_same_load_can_be_put_on_again(db, ordered):
    run_id = stored(Store(), (4,), settings={"concurrency": [4], "requests": 12})
    app = opened(LOADS, run=run_id, endpoint="simulated")
    app.button(key="load-again").click().run()
    assert (ordered[0].concurrency, ordered[0].requests) == ([4], 12)


def test_other_pages_lead_to_a_load_and_never_judge_it(db):
    store = Store()
    run_id = stored(store, (4, 32), name="my load")
    app = opened("pages/1_Streaming.py", run=run_id)
    well(app)
    assert "The run in this link is a load" in texts(app)
    home = opened("app.py")
    well(home)
    assert "2 levels, 200 calls" in texts(home)
    history = opened("pages/21_History.py")
    well(history)
    assert "2 levels, 200 calls" in texts(history)


def test_a_load_is_named_deleted_and_brought_back_in_history(db):
    run_id = stored(Store(), (4,))
    app = opened("pages/21_History.py", run=run_id)
    well(app)
    app.text_input[0].set_value("before the change")
    next(button for button in app.button if button.label == "Save").click().run()
    assert queries.run(Store(), run_id)["name"] == "before the change"
    app.button(key="delete").click().run()
    assert queries.loads(Store()).empty
    app.button(key="undo").click().run()
    assert queries.loads(Store())["run_id"].tolist() == [run_id]


def test_progress_says_level_requests_first_tokens_and_errors(monkeypatch):
    entries = [
        {"kind": "started", "run_id": "abc", "levels": 4},
        {"kind": "level", "level": 1, "of": 4, "label": "4 streams", "planned": 96},
        {
            "kind": "level_ended", "level": 1, "of": 4, "label": "4 streams", "done": 96,
            "failed": 0, "errors": {}, "ttft_p50_ms": 100.0, "ttft_p95_ms": 120.0,
            "requests_per_s": 8.0, "tokens_per_s": 80.0, "reason": "",
        },
        {"kind": "level", "level": 2, "of": 4, "label": "8 streams", "planned": 96},
        {
            "kind": "load", "level": 2, "of": 4, "label": "8 streams", "done": 48, "planned": 96,
            "failed": 2, "errors": {"timeout": 2}, "elapsed_s": 3.0, "left_s": 3.0,
            "ttft_p50_ms": 110.0, "ttft_p95_ms": 240.0, "requests_per_s": 16.0,
            "tokens_per_s": 160.0, "spent_usd": None,
        },
    ]  # fmt: skip

    def panel():
        import json

        import streamlit as st

        from pages.parts import load_panel

        load_panel._draw(json.loads(st.session_state["entries"]), "abc")

    app = AppTest.from_function(panel, default_timeout=30)
    app.session_state["entries"] = json.dumps(entries)
    app.run()
    assert not app.exception
    progress = app.get("progress")[0].proto
    assert progress.text.replace("\\", "") == (
        "Level 2 of 4: 8 streams · 48 of 96 requests · about 3 s left"
    )
    assert progress.value == 37  # one level of four, and half of the second: 37.5
    numbers = {metric.label: metric.value for metric in app.metric}
    assert numbers["p95 first token"] == "240 ms" and numbers["failed"] == "2"
    table = "".join(element.proto.body for element in app.get("html"))
    assert "<th>4 streams</th><td>96</td>" in table and "<td>120 ms</td>" in table


def test_a_load_runs_from_the_press_to_its_answer(db, simulated_server):
    """Forty requests at once on the simulated server, by the worker and the loader themselves."""
    app = opened(LOADS, endpoint="simulated")
    app.number_input(key="load-requests").set_value(40)
    app.number_input(key="load-max_tokens").set_value(4)
    app.text_input(key="load-slo").set_value("p50 total_ms < 60 s")
    app.run()
    app.button(key="run-button").click().run()
    run_id = chosen_run(app)
    while processes.running():
        pause_s(0.1)
    app = opened(LOADS, run=run_id, endpoint="simulated")
    well(app)
    assert "Keeps p50 total time under 60.0 s up to 16 streams" in texts(app)
    assert queries.loads(Store())["calls"].tolist() == [40]
