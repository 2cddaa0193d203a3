"""The way through a run in a real browser: what a press brings into view, and what a click in the
sidebar takes along."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from dashboards import SLOW, Dashboard, settle, started, still

from lab import processes
from tests.measured import FAST

pytestmark = pytest.mark.browser
PANEL = ".st-key-run-panel-begins, .st-key-run-panel"
SIDEBAR = "[data-testid=stSidebar]"


@pytest.fixture(scope="module")
def dashboard(browser, tmp_path_factory) -> Iterator[Dashboard]:
    with started(tmp_path_factory.mktemp("way"), browser) as dashboard:
        yield dashboard


def query(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def go(page: Any, title: str) -> None:
    page.locator(SIDEBAR).get_by_text(title, exact=True).click()
    page.get_by_role("heading", name=title, exact=True).wait_for()
    still(page, 500)


def endpoint(page: Any) -> str:
    return page.locator(".st-key-endpoint input").input_value()


def test_an_endpoint_of_a_deep_link_survives_the_first_click_in_the_sidebar(dashboard):
    page = dashboard.opened("Streaming?endpoint=simulated")
    go(page, "Parallelism")
    assert (endpoint(page), query(page)["endpoint"]) == ("simulated", ["simulated"])
    go(page, "History")
    go(page, "Streaming")
    assert (endpoint(page), query(page)["endpoint"]) == ("simulated", ["simulated"])


def test_what_was_chosen_on_one_page_is_not_the_next_ones(dashboard):
    page = dashboard.opened(
        "Same_thing_twice?endpoint=simulated&answer_tokens=64&scenario=reasoning&blocks=7"
        "&model_small=simulated-large"
    )
    go(page, "Streaming")
    assert {"answer_tokens", "scenario", "blocks", "model_small"} & set(query(page)) == set()
    assert page.locator(".st-key-answer_tokens input").input_value() == "200"
    assert page.locator(".st-key-blocks input").input_value() == "10"
    page.get_by_role("button", name="Run 10 blocks").wait_for()


def test_an_endpoint_that_was_chosen_is_in_the_url_by_its_name_and_brings_its_model(dashboard):
    page = dashboard.opened("Same_thing_twice?endpoint=local&answer_tokens=8&blocks=1")
    model = page.locator('[class*="st-key-model_small"] input')
    assert model.input_value() == "smollm2-135m"
    page.locator(".st-key-endpoint input").click()
    page.get_by_role("option", name="simulated", exact=True).click()
    page.get_by_text("simulated-small").first.wait_for()
    still(page, 500)
    assert model.input_value() == "simulated-small"
    assert query(page)["endpoint"] == ["simulated"] and "model_small" not in query(page)


def test_a_press_brings_progress_and_stop_into_view_and_no_second_run(dashboard):
    dashboard.knobs(**FAST)
    page = dashboard.opened("Streaming?endpoint=simulated&blocks=1&answer_tokens=20")
    page.locator(".st-key-run-button button").first.click()
    page.locator(".st-key-verdict").wait_for()
    still(page, 500)
    first = query(page)["run"]
    dashboard.knobs(**SLOW)

    page = dashboard.opened("Streaming?endpoint=simulated&blocks=50&answer_tokens=20")
    page.locator(".st-key-new-run button").first.click()
    button = page.locator(".st-key-run-button button")
    button.wait_for()
    still(page, 500)
    main = page.locator("[data-testid=stMain]")
    main.evaluate("main => main.scrollTo(0, main.scrollHeight)")
    button.evaluate("button => { button.click(); button.click(); }")
    page.locator(PANEL).first.wait_for()
    page.wait_for_function("document.querySelector('[data-testid=stMain]').scrollTop === 0")
    stop = page.locator(".st-key-stop button:not([disabled])").first
    stop.wait_for()
    box = stop.bounding_box()
    assert 0 <= box["y"] < 900
    run = processes.running().run_id
    assert query(page)["run"] == [run] != first

    other = dashboard.opened("Parallelism?endpoint=simulated")
    other.locator(".st-key-run-button button[disabled]").first.wait_for()
    link = other.locator(SIDEBAR).get_by_text("Streaming: watch or stop")
    assert link.evaluate("link => getComputedStyle(link).fontSize") == other.locator(
        SIDEBAR
    ).get_by_text("Streaming", exact=True).evaluate("link => getComputedStyle(link).fontSize")
    link.click()
    other.locator(".st-key-stop button").first.wait_for()

    stop.click()
    settle(run)
    page.locator(".st-key-new-run button").filter(visible=True).first.wait_for()
    still(page, 500)
    assert page.get_by_text("Only one run is measured at a time").count() == 0
    assert dashboard.rows("SELECT count(*) FROM runs") == [(2,)]


def test_a_result_stays_while_its_run_gets_more_blocks(dashboard):
    dashboard.knobs(**FAST)
    page = dashboard.opened("Streaming?endpoint=simulated&blocks=1&answer_tokens=20")
    if page.locator(".st-key-verdict").count() == 0:
        page.locator(".st-key-run-button button").first.click()
    page.locator(".st-key-verdict").wait_for()
    still(page, 500)
    dashboard.knobs(**SLOW)
    page.locator(".st-key-more-blocks button").first.click()
    page.locator(".st-key-stop button:not([disabled])").first.wait_for()
    page.locator(".st-key-more-blocks button[disabled]").first.wait_for()
    assert page.locator(".st-key-verdict").is_visible()
    run = processes.running().run_id
    processes.stop(run)
    settle(run)
