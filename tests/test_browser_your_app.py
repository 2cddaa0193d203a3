"""The way through *Your app* in a real browser, from nothing: record the demo agent, open a miss,
prove its fix."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from dashboards import ROOT, Dashboard, started, still

from lab import recorder
from tests.measured import FAST

pytestmark = pytest.mark.browser
AGENT = "bench.demo_agent.agent"


@pytest.fixture(scope="module")
def dashboard(browser, tmp_path_factory) -> Iterator[Dashboard]:
    with started(tmp_path_factory.mktemp("app"), browser) as dashboard:
        dashboard.knobs(**FAST)
        yield dashboard
        for card in recorder.cards():
            recorder.stop(card.run_id)


def choose(page: Any, key: str, option: str) -> None:
    page.locator(f".st-key-{key} input").click()
    page.get_by_role("option", name=option, exact=True).click()
    still(page)


def test_record_watch_open_a_miss_and_prove_it(dashboard):
    page = dashboard.opened("Your_app")
    choose(page, "upstream", "simulated")
    page.locator(".st-key-keep-recorded label").click()
    still(page)
    page.locator(".st-key-start-recorder button").click()

    panel = page.locator('[class*="st-key-recorder-"]')
    panel.get_by_text("Waiting for the first call").wait_for()
    line = panel.locator("[data-testid=stCode] code").inner_text()
    variables = dict(word.split("=", 1) for word in shlex.split(line)[1:])
    agent = [sys.executable, "-m", AGENT, "--break", "time", "--conversations", "2"]
    done = subprocess.run(
        agent, cwd=ROOT, env=dict(variables, PATH="/usr/bin:/bin"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    panel.get_by_text(re.compile(r"\d+ calls recorded")).wait_for()
    panel.get_by_role("button", name="Stop").click()

    sentence = page.locator(".st-key-sentence p")
    sentence.wait_for()
    assert re.match(r"Of .+, the model's first tokens took \d", sentence.inner_text())
    miss = page.locator(".st-key-miss-0")
    miss.wait_for()
    assert "looks like a time" in miss.inner_text()
    miss.get_by_role("button", name="Open the costliest").click()
    page.locator(".st-key-one-call").get_by_text("differs").first.wait_for()
    assert dashboard.rows("SELECT DISTINCT phase FROM trials") == [("observed",)]

    page.locator(".st-key-miss-0").get_by_role("button", name="Prove it").click()
    page.locator(".st-key-verdict .lab-number").wait_for()
    verdict = page.locator(".st-key-verdict").inner_text()
    assert "fixed is faster" in verdict.lower() or "sooner" in verdict.lower(), verdict
