"""The page Load in a real browser: a sweep from the press to its answer, a load that is stopped,
and the link to either."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from dashboards import WRONG, Dashboard, started, still

from tests.measured import FAST

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def dashboard(browser, tmp_path_factory) -> Iterator[Dashboard]:
    with started(tmp_path_factory.mktemp("load"), browser) as dashboard:
        # An answer takes 80 ms, and 80 of them two at a time three seconds, so that it is seen.
        dashboard.knobs(**FAST | {"gap_ms": 20})
        yield dashboard


def test_a_sweep_runs_in_view_and_answers_first(dashboard):
    page = dashboard.opened(
        "Load?endpoint=simulated&load-mode=Sweep&load-levels-concurrency=2,4&load-requests=80"
        "&load-slo=p50 total_ms < 60 s"
    )
    page.locator(".st-key-run-button button").click()
    panel = page.locator(".st-key-run-panel, .st-key-run-panel-begins").first
    panel.wait_for()
    page.locator(".st-key-verdict").wait_for()
    still(page)
    verdict = page.locator(".st-key-verdict").inner_text()
    assert "Keeps p50 total time under 60.0 s up to 4 streams" in verdict
    assert page.locator(".st-key-verdict .lab-number").inner_text() == "4 streams"
    assert page.locator(WRONG).count() == 0
    counted = dict(
        dashboard.rows("SELECT block, count(*) FROM trials WHERE phase = 'load' GROUP BY 1")
    )
    assert counted == {1: 80, 2: 80}

    run_id = re.search(r"run=([0-9a-f-]{36})", page.url)[1]
    again = dashboard.opened(f"Load?run={run_id}&view=Distribution")
    still(again)
    assert "up to 4 streams" in again.locator(".st-key-verdict").inner_text()
    assert again.locator(".st-key-chosen-view .js-plotly-plot").count() == 1


def test_a_load_can_be_stopped_and_keeps_what_it_measured(dashboard):
    page = dashboard.opened(
        "Load?endpoint=simulated&load-mode=Rate&load-rate=20&load-seconds=300&set-up-open=true"
    )
    page.locator(".st-key-run-button button").click()
    panel = page.locator(".st-key-run-panel")
    panel.get_by_text(re.compile(r"[1-9]\d* of [\d,]+ requests")).wait_for()
    panel.get_by_role("button", name="Stop").click()
    page.get_by_text("was stopped before its end").wait_for()
    still(page)
    assert page.locator(WRONG).count() == 0
    assert "never made" in page.locator(".st-key-verdict").inner_text()
    ((status, calls),) = dashboard.rows(
        "SELECT status, (SELECT count(*) FROM load_calls WHERE load_calls.run_id = runs.run_id)"
        " FROM runs ORDER BY started_utc DESC LIMIT 1"
    )
    assert status == "interrupted" and calls > 0
