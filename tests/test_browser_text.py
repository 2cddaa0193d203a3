"""In a real browser: an arm named as a link is text in every figure, on every page that shows its
run, and in its report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dashboards import Dashboard, started, still
from test_browser import WATERFALL
from test_inert_text import LINK, named

from lab import results
from lab.harness.reporters import html
from lab.store.store import Store

pytestmark = pytest.mark.browser
FOREIGN = (
    "[...document.querySelectorAll('a')].map(it => it.outerHTML).filter(it => it.includes('evil'))"
)


@pytest.fixture(scope="module")
def dashboard(browser, tmp_path_factory) -> Iterator[tuple[Dashboard, Store, str]]:
    """(itself, store, run) of a dashboard whose one database holds the hostile run."""
    folder = tmp_path_factory.mktemp("text")
    store = Store(folder / "lab.duckdb")
    run_id = named(store)
    with started(folder, browser) as dashboard:
        yield dashboard, store, run_id


def links(page: Any) -> list[str]:
    return page.evaluate(FOREIGN)


def test_no_page_makes_a_link_of_a_name(dashboard):
    shown, _, run_id = dashboard
    page = shown.opened("")
    for path in (
        "",
        f"History?run={run_id}",
        f"Prompt_caching?run={run_id}",
        f"Prompt_caching?run={run_id}&view=Pairs",
    ):
        if path:
            shown.goto(page, path)
        page.locator(".js-plotly-plot .main-svg, [data-testid=stDataFrame]").first.wait_for()
        still(page)
        if "caching" in path:
            page.locator(WATERFALL).wait_for()
            assert LINK in page.locator(WATERFALL).text_content()
        assert links(page) == [], path
        assert page.locator("[data-testid=stException]").count() == 0, path


def test_no_report_makes_a_link_of_a_name(dashboard, browser, tmp_path):
    _, store, run_id = dashboard
    (tmp_path / "report.html").write_text(html.page(results.read(run_id, store)), encoding="utf-8")
    page = browser.new_context(offline=True).new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    assert links(page) == []
    assert LINK in page.locator("body").inner_text()
