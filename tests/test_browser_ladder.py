"""The page Ladder in a real browser: a ladder from the press to its stack, and one that is
stopped."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from dashboards import WRONG, Dashboard, started, still

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def dashboard(browser, tmp_path_factory) -> Iterator[Dashboard]:
    with started(tmp_path_factory.mktemp("ladder"), browser) as dashboard:
        # 40 tokens of 6 ms: an answer takes 240 ms, and streamed it is there at once.
        dashboard.knobs(answer_tokens=40, gap_ms=6.0)
        yield dashboard


def test_a_ladder_is_climbed_in_view_and_names_its_stack(dashboard):
    page = dashboard.opened("Ladder?endpoint=simulated&ladder-levers=Streaming&ladder-minutes=3")
    page.locator(".st-key-run-button button").click()
    panel = page.locator(".st-key-run-panel")
    panel.get_by_text(re.compile(r"(Screening|Confirmation): block \d+")).wait_for(timeout=180_000)
    # Its three minutes, and as many again.
    page.locator(".st-key-verdict").wait_for(timeout=360_000)
    still(page)
    assert page.locator(WRONG).count() == 0
    assert "Streamed" in page.locator(".st-key-verdict").inner_text()
    assert page.locator(".st-key-verdict .lab-number").inner_text().startswith("−")
    phases = dict(dashboard.rows("SELECT phase, count(*) FROM trials GROUP BY 1"))
    assert phases["screened"] > 0 and phases["measured"] >= 2 * 12

    run_id = re.search(r"run=([0-9a-f-]{36})", page.url)[1]
    again = dashboard.opened(f"Ladder?run={run_id}&view=Use it in your app")
    code = again.locator(".st-key-chosen-view pre").first
    code.wait_for()
    assert "stream" in code.inner_text()
    assert again.locator(WRONG).count() == 0


def test_a_ladder_can_be_stopped_and_keeps_what_it_measured(dashboard):
    page = dashboard.opened(
        "Ladder?endpoint=simulated&ladder-levers=Streaming&ladder-levers=Cache"
        "&ladder-minutes=30&set-up-open=true"
    )
    page.locator(".st-key-run-button button").click()
    panel = page.locator(".st-key-run-panel")
    panel.get_by_text(re.compile(r"block ([2-9]|\d\d)")).wait_for(timeout=180_000)
    panel.get_by_role("button", name="Stop").click()
    page.get_by_text("was stopped before its end").wait_for()
    still(page)
    assert page.locator(WRONG).count() == 0
    assert "did not come to an end" in page.locator(".st-key-verdict").inner_text()
    ((status, trials),) = dashboard.rows(
        "SELECT status, (SELECT count(*) FROM trials WHERE trials.run_id = runs.run_id)"
        " FROM runs ORDER BY started_utc DESC LIMIT 1"
    )
    assert status == "interrupted" and trials > 0
