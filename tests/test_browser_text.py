"""In a real browser: an arm named as a link is text in every figure, on every page that shows its
run, and in its report."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from test_browser import IDLE, WATERFALL, answers, free_port
from test_inert_text import LINK, named

from lab import paths, results
from lab.clock import pause_s
from lab.harness.reporters import html
from lab.store.store import Store

pytestmark = pytest.mark.browser
FOREIGN = (
    "[...document.querySelectorAll('a')].map(it => it.outerHTML).filter(it => it.includes('evil'))"
)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory) -> Iterator[tuple[str, Store, str]]:
    """(URL, store, run) of a dashboard whose one database holds the hostile run."""
    folder, port = tmp_path_factory.mktemp("text"), free_port()
    store = Store(folder / "lab.duckdb")
    run_id = named(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_DB", str(store.path))
        patch.setenv("LAB_RUNTIME", str(folder / "runtime"))
        command = [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            "app.py",
            "--server.port",
            str(port),
            "--server.headless",
            "true",
        ]
        with (folder / "dashboard.log").open("w") as log:
            process = subprocess.Popen(command, cwd=paths.ROOT, stdout=log, stderr=log)
        try:
            while not answers(port):
                assert process.poll() is None, (folder / "dashboard.log").read_text()
                pause_s(0.05)
            yield f"http://127.0.0.1:{port}", store, run_id
        finally:
            process.terminate()
            process.wait(20)


def links(page: Any) -> list[str]:
    return page.evaluate(FOREIGN)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "Prompt_caching?run={run}",
        "Prompt_caching?run={run}&view=Pairs",
        "Prompt_caching?run={run}&view=Race",
        "History?run={run}",
    ],
)
def test_no_page_makes_a_link_of_a_name(dashboard, browser, path):
    url, _, run_id = dashboard
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.goto(f"{url}/{path.format(run=run_id)}", wait_until="domcontentloaded", timeout=120_000)
    page.locator(IDLE).wait_for(timeout=120_000)
    page.locator(".js-plotly-plot .main-svg, [data-testid=stDataFrame]").first.wait_for(
        timeout=60_000
    )
    page.wait_for_timeout(500)
    assert links(page) == []
    assert page.locator("[data-testid=stException]").count() == 0
    if "caching" in path:
        page.locator(WATERFALL).wait_for(timeout=60_000)
        assert LINK in page.locator(WATERFALL).text_content()


def test_no_report_makes_a_link_of_a_name(dashboard, browser, tmp_path):
    _, store, run_id = dashboard
    (tmp_path / "report.html").write_text(html.page(results.read(run_id, store)), encoding="utf-8")
    page = browser.new_context(offline=True).new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=60_000)
    assert links(page) == []
    assert LINK in page.locator("body").inner_text()
