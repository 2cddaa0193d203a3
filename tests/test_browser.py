"""The dashboard in a real browser, on the real embedded model and on what it recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from dashboards import WRONG, Dashboard, settle, started, still

from lab import processes
from lab.store.store import Store
from tests.measured import FAST

pytestmark = pytest.mark.browser
WATERFALL = '[class*="st-key-waterfall-"] .js-plotly-plot'


@pytest.fixture(scope="module")
def dashboard(browser, tmp_path_factory) -> Iterator[Dashboard]:
    with started(tmp_path_factory.mktemp("browser"), browser) as dashboard:
        yield dashboard


@pytest.fixture(scope="module")
def recorded(dashboard) -> dict[str, Any]:
    """A run of Streaming on the embedded model, begun by a press of the button: its id, and the
    page."""
    page = dashboard.opened("Streaming?endpoint=local&blocks=1&answer_tokens=24&set-up-open=true")
    page.locator(".st-key-run-button button").first.click()
    # A model on cores that two browsers use takes its time.
    page.locator(".st-key-live-dots .js-plotly-plot").first.wait_for(timeout=240_000)
    page.locator(WATERFALL).wait_for(timeout=240_000)
    run = parse_qs(urlsplit(page.url).query)["run"][0]
    return {"run": run, "page": page}


def test_run_pressed_on_the_real_model_shows_the_waterfall_without_another_click(
    dashboard, recorded
):
    page = recorded["page"]
    assert page.locator(f"{WATERFALL} .barlayer .point").count() >= 4
    assert page.locator(WRONG).count() == 0
    kinds = dashboard.rows(
        "SELECT endpoint_kind, status FROM runs WHERE run_id = ?", recorded["run"]
    )
    assert kinds == [("local", "finished")]
    arms = dashboard.rows(
        "SELECT arm, count(*), bool_and(outcome = 'ok') FROM trials WHERE run_id = ? AND phase ="
        " 'measured' GROUP BY arm ORDER BY arm",
        recorded["run"],
    )
    assert arms == [("streamed", 1, True), ("whole", 1, True)]
    tokens = dashboard.rows(
        "SELECT min(output_tokens), min(sent_ns), min(ended_ns) FROM calls WHERE run_id = ?",
        recorded["run"],
    )
    assert all(value > 0 for value in tokens[0])


def test_a_reload_and_a_second_tab_show_the_run_and_either_can_stop_it(dashboard):
    # The first answer takes a minute, so that whatever is done here meets it on its way.
    dashboard.knobs(gap_ms=1000)
    first = dashboard.opened(
        "Streaming?endpoint=simulated&blocks=50&answer_tokens=200&set-up-open=true"
    )
    first.locator(".st-key-run-button button").first.click()
    first.locator(".st-key-stop button").wait_for()
    run = processes.running().run_id
    assert parse_qs(urlsplit(first.url).query)["run"] == [run]
    first.reload(wait_until="domcontentloaded")
    first.locator(".st-key-live-dots .js-plotly-plot").first.wait_for()
    second = dashboard.opened("Streaming")
    second.locator(".st-key-live-dots .js-plotly-plot").first.wait_for()
    second.locator(".st-key-stop button").click()
    first.locator(".st-key-stop button").wait_for(state="detached")
    settle(run)
    assert processes.running() is None
    assert dashboard.rows("SELECT status FROM runs WHERE run_id = ?", run) == [("interrupted",)]
    assert ("cancelled",) in dashboard.rows(
        "SELECT DISTINCT outcome FROM trials WHERE run_id = ?", run
    )
    assert ("cancelled",) in dashboard.rows(
        "SELECT DISTINCT error_kind FROM calls WHERE run_id = ?", run
    )


def test_a_shared_url_opens_the_same_view_in_a_fresh_browser(dashboard, recorded):
    page = dashboard.opened(f"Streaming?run={recorded['run']}")
    page.get_by_test_id("stButtonGroup").get_by_text("Pairs", exact=True).click()
    page.locator(".st-key-pairs .js-plotly-plot").wait_for()
    shared = page.url.removeprefix(f"{dashboard.url}/")
    assert "view=Pairs" in shared and recorded["run"] in shared
    fresh = dashboard.opened(shared)
    fresh.locator(".st-key-pairs .js-plotly-plot").wait_for()
    assert title(fresh, ".st-key-pairs") == title(page, ".st-key-pairs")


def title(page: Any, within: str) -> str:
    return page.locator(f"{within} .annotation-text").last.text_content()


def test_a_click_on_a_bar_opens_its_arm_and_then_one_trial(dashboard, recorded):
    page = dashboard.opened(f"Streaming?run={recorded['run']}")
    page.locator(WATERFALL).wait_for()
    press(page, f"{WATERFALL} .barlayer .point")
    page.wait_for_url(re.compile("arm="))
    press(page, '[class*="st-key-trials-"] .barlayer .point')
    page.wait_for_url(re.compile("trial="))
    page.locator(".st-key-drill [data-testid=stDataFrame]").first.wait_for()
    trial = parse_qs(urlsplit(page.url).query)["trial"][0]
    assert dashboard.rows("SELECT run_id FROM trials WHERE trial_id = ?", trial) == [
        (recorded["run"],)
    ]
    page.locator(".st-key-drill-back button").click()
    # While the page changes, the chart that goes and the one that comes may both be there.
    page.locator('[class*="st-key-trials-"] .js-plotly-plot').filter(visible=True).first.wait_for()
    assert "trial=" not in page.url and "arm=" in page.url


def press(page: Any, bars: str) -> None:
    """Click the widest bar in its middle: plotly listens on a layer above the bars."""
    page.locator(bars).first.wait_for()
    page.locator(bars).first.scroll_into_view_if_needed()
    still(page)
    boxes = [box for bar in page.locator(bars).all() if (box := bar.bounding_box())]
    box = max(boxes, key=lambda one: one["width"])
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(200)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_the_race_plays_and_pauses_on_what_the_model_wrote(dashboard, recorded):
    page = dashboard.opened(f"Streaming?run={recorded['run']}", reduced_motion="reduce")
    race = page.locator(".race")
    race.get_by_role("button", name="×0.25").click()
    # Both presses come from within the page: from outside, the second could come after the end.
    race.locator(".play").evaluate(
        "async play => { play.click(); await new Promise(go => setTimeout(go, 100));"
        " play.click(); }"
    )
    clocks = race.locator(".clock").all_text_contents()
    page.wait_for_timeout(300)
    assert race.locator(".clock").all_text_contents() == clocks
    race.get_by_role("button", name="×4").click()
    race.get_by_role("button", name="Play", exact=True).click()
    race.get_by_role("button", name="Replay", exact=True).wait_for()
    written = dashboard.rows(
        "SELECT string_agg(text, '' ORDER BY seq) FROM events WHERE run_id = ? AND text IS NOT NULL"
        " GROUP BY call_id",
        recorded["run"],
    )
    lanes = race.locator(".text").all_text_contents()
    assert len(lanes) == 2 and all(
        (lane,) in written for lane in lanes if lane
    )  # so small a model may answer with nothing


def test_the_report_and_a_figure_leave_the_page_as_files(dashboard, recorded, tmp_path):
    page = dashboard.opened(f"Streaming?run={recorded['run']}")
    with page.expect_download() as report:
        page.get_by_role("button", name="Report, one HTML file").first.click()
    report.value.save_as(tmp_path / "report.html")
    assert recorded["run"] in (tmp_path / "report.html").read_text(encoding="utf-8")
    page.get_by_role("button", name="Figures").first.click()
    with page.expect_download() as figure:
        page.locator(".st-key-save-distribution button").filter(visible=True).first.click()
    figure.value.save_as(tmp_path / "figure.html")
    assert "Plotly.newPlot" in (tmp_path / "figure.html").read_text(encoding="utf-8")


def test_arms_of_three_techniques_run_side_by_side_in_shared_blocks(dashboard):
    dashboard.knobs(**FAST)
    arms = ["streaming.whole", "caching.cached", "aa.b"]
    chosen = "&".join(f"arms={arm}" for arm in arms)
    page = dashboard.opened(
        f"Side_by_side?what=One+paired+run&endpoint=simulated&blocks=2&{chosen}"
    )
    page.locator(".st-key-run-button button").first.click()
    page.locator('[class*="st-key-pareto"] .js-plotly-plot').first.wait_for()
    assert page.locator(WRONG).count() == 0
    found = dashboard.rows(
        "SELECT trials.technique || '.' || arm AS name, count(*) FROM trials JOIN runs USING"
        " (run_id) WHERE runs.technique = 'side-by-side' AND phase = 'measured' AND outcome = 'ok'"
        " GROUP BY ALL"
    )
    assert sorted(found) == [(arm, 2) for arm in sorted(arms)]
    paired = (
        "SELECT DISTINCT arm, baseline FROM pair_differences JOIN runs USING (run_id) WHERE"
        " runs.technique = 'side-by-side'"
    )
    assert sorted(dashboard.rows(paired)) == [("b", "whole"), ("cached", "whole")]


def test_a_hostile_name_is_shown_as_it_is(dashboard, recorded):
    hostile = "<img src=x onerror=window.bad=1> [a](javascript:window.bad=1) :red[b] $c$"
    run = recorded["run"]
    Store(dashboard.database).rename(run, hostile)
    page = dashboard.opened("History")
    for path in (f"Streaming?run={run}", f"Side_by_side?runs={run}", ""):
        inert(page)
        dashboard.goto(page, path)
    inert(page)
    # The last one opened is Home, whose list of runs has the name, letter for letter.
    page.get_by_text(hostile).first.wait_for()
    Store(dashboard.database).rename(run, None)


def inert(page: Any) -> None:
    still(page)
    assert page.evaluate(
        "window.bad === undefined && !document.querySelector('img[src=x], a[href^=javascript]')"
    )
    assert page.locator(WRONG).count() == 0
