"""Race and waterfall of a run in a real browser: one place, one clock, and the end of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dashboards import SLOW, Dashboard, started, still

from lab.store.store import Store
from tests import golden_runs

pytestmark = pytest.mark.browser
WATERFALL = '[class*="st-key-waterfall-"] .js-plotly-plot'


@pytest.fixture(scope="module")
def dashboard(browser, tmp_path_factory) -> Iterator[Dashboard]:
    with started(tmp_path_factory.mktemp("race"), browser) as dashboard:
        yield dashboard


@pytest.fixture(scope="module")
def tools(dashboard) -> str:
    recording = golden_runs.parallel_tools(Store(dashboard.database))
    assert recording.store.write_trials(recording.finished)
    return recording.run_id


def test_a_drag_across_the_waterfall_moves_the_race_above_it_and_a_line_shows_where(
    dashboard, tools
):
    page = dashboard.opened(f"Parallelism?run={tools}", reduced_motion="reduce")
    page.locator(WATERFALL).wait_for()
    places = [".st-key-verdict", ".race", WATERFALL]
    tops = [page.locator(place).first.bounding_box()["y"] for place in places]
    assert tops == sorted(tops), "the race stands directly under the verdict"
    assert page.get_by_test_id("stButtonGroup").get_by_text("Race", exact=True).count() == 0
    page.set_viewport_size({"width": 1440, "height": 2400})
    still(page)
    plot = page.locator(WATERFALL).bounding_box()
    at, y = plot["x"] + plot["width"] / 2, plot["y"] + 90
    page.mouse.move(plot["x"] + 100, y)
    page.mouse.down()
    page.mouse.move(at, y, steps=5)
    moment = page.evaluate(
        "([plot, at]) => { const gd = document.querySelector(plot), axis = gd._fullLayout.xaxis;"
        " return axis.p2d(at - gd.getBoundingClientRect().left - axis._offset); }",
        [WATERFALL, at],
    )
    assert float(page.locator(".race input").input_value()) == pytest.approx(moment, abs=1)
    line = page.locator(f"{WATERFALL} > .race-cursor").bounding_box()
    assert line["x"] == pytest.approx(at, abs=1.5)
    page.mouse.up()
    still(page)
    assert "arm=" not in page.url  # a drag is no click
    page.locator(".race .frame").first.click()
    moved = page.locator(f"{WATERFALL} > .race-cursor").bounding_box()
    assert moved["x"] < line["x"]


def test_the_film_is_one_stop_for_tab_and_arrows_move_in_it(dashboard, tools):
    has_focus = "it => it === it.getRootNode().activeElement"
    page = dashboard.opened(f"Parallelism?run={tools}", reduced_motion="reduce")
    page.locator(".race .frame").first.wait_for()
    stops = '.race :is(button, input, [tabindex]):not([tabindex="-1"])'
    assert page.locator(stops).count() == 4, "play, position, speed, film"
    films = page.locator(".race .strip")
    films.nth(0).locator(".frame").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert films.nth(1).locator(".frame").nth(1).evaluate(has_focus)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert films.nth(1).locator(".frame").nth(1).evaluate(has_focus)
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    first = float(page.locator(".race input").input_value())
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    assert float(page.locator(".race input").input_value()) > first


def test_keys_that_are_the_browsers_own_stay_so(dashboard, tools):
    page = dashboard.opened(f"Parallelism?run={tools}", reduced_motion="reduce")
    page.locator(".race .frame").first.wait_for()
    swallowed = (
        "(key, words) => !key.dispatchEvent("
        "new KeyboardEvent('keydown', { bubbles: true, cancelable: true, ...words }))"
    )
    frame, speed = page.locator(".race .frame").first, page.locator(".race .speeds button").first
    assert frame.evaluate(swallowed, {"key": "ArrowDown"})
    assert not frame.evaluate(swallowed, {"key": "ArrowLeft", "altKey": True})
    assert speed.evaluate(swallowed, {"key": "ArrowRight"})
    assert not speed.evaluate(swallowed, {"key": "ArrowDown"})


def test_when_the_last_block_lands_the_dots_become_the_race(dashboard):
    dashboard.knobs(**SLOW)
    page = dashboard.opened("Streaming?endpoint=simulated&blocks=2&set-up-open=true")
    page.locator(".st-key-run-button button").first.click()
    page.locator(".st-key-live-dots .js-plotly-plot").first.wait_for()
    page.locator(".race .clock").first.wait_for()
    page.get_by_role("button", name="Replay", exact=True).wait_for()  # it has played
    still(page)
    assert page.locator(".st-key-live-dots").count() == 0
    inside = page.locator(".race .lanes").evaluate(
        "lanes => { const box = lanes.getBoundingClientRect();"
        " return box.top >= 0 && box.bottom <= innerHeight; }"
    )
    assert inside
