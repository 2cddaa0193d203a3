"""Side by side in a real browser: one press measures arms of several techniques and judges each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from dashboards import WRONG, Dashboard, started, still

from tests.measured import FAST

pytestmark = pytest.mark.browser
MIDWAY = r"""() => {
    const [told, dots] = [".st-key-run-panel", ".st-key-live-dots"]
        .map(place => document.querySelector(place)?.textContent ?? "");
    return /\b([6-9]|1\d|2[0-4]) of 27 trials/.test(told) && dots.match(/n = \d/g)?.length >= 3;
}"""
"""Whether each of three arms has a dot, from two blocks on and before the last."""


@pytest.fixture(scope="module")
def dashboard(browser, tmp_path_factory) -> Iterator[Dashboard]:
    with started(tmp_path_factory.mktemp("beside"), browser) as dashboard:
        yield dashboard


def test_one_press_shows_dots_for_every_arm_and_then_a_verdict_for_each(dashboard):
    """For 40 of 44 trials every arm said "no trial yet"; of three arms one was judged."""
    dashboard.knobs(**FAST | {"gap_ms": 60, "answer_tokens": 10})
    page = dashboard.opened("Side_by_side?endpoint=simulated&blocks=8")
    page.locator(".st-key-run-button button").first.click()
    page.locator(".st-key-live-dots .js-plotly-plot").first.wait_for()
    page.wait_for_function(MIDWAY)
    page.locator(".lab-arms section").first.wait_for()
    assert page.locator(WRONG).count() == 0
    assert "streaming.streamed" in page.locator(".st-key-verdict").inner_text().lower()
    told = page.locator(".lab-arms").inner_text()
    assert "caching.cached" in told and re.search(r"faster|Not enough data|difference", told)
    table = page.locator(".lab-table")
    table.locator("tbody tr").first.wait_for()  # it comes after them
    assert table.locator("tbody tr").count() == 3
    assert "8 of 8" in table.inner_text()
    run = parse_qs(urlsplit(page.url).query)["run"]
    assert dashboard.rows("SELECT run_id::VARCHAR, technique FROM runs") == [(*run, "side-by-side")]


def test_nothing_scrolls_sideways_in_a_narrow_window_but_the_table(dashboard):
    page = dashboard.opened("Side_by_side?endpoint=simulated&set-up-open=true")
    page.set_viewport_size({"width": 420, "height": 900})
    page.locator(".lab-table").wait_for()
    still(page)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert page.locator(WRONG).count() == 0


def test_names_cover_no_other_name_in_the_picture_of_a_narrow_window(dashboard):
    page = dashboard.opened("Side_by_side?endpoint=simulated")
    page.set_viewport_size({"width": 420, "height": 900})
    page.locator(".st-key-pareto .textpoint, .st-key-figure-pareto .textpoint").first.wait_for(
        state="attached"
    )
    still(page, 1_000)
    boxes = page.evaluate(
        """[...document.querySelectorAll('[class*="pareto"] .textpoint text')]
            .map(text => text.getBoundingClientRect()).filter(box => box.width)
            .map(box => [box.left, box.top, box.right, box.bottom])"""
    )
    assert all(left >= 0 and right <= 420 for left, _, right, _ in boxes)
    covered = [
        (one, other)
        for place, one in enumerate(boxes)
        for other in boxes[place + 1 :]
        if one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
    ]
    assert covered == []
