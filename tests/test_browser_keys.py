"""A link to a foreign address, and a foreign site around the dashboard, in a real browser with a
planted key."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from dashboards import IDLE, Dashboard, started

from bench.raw_server import Connection, RawServer
from lab import processes
from lab.clock import pause_s
from lab.endpoints.keys import PLACEHOLDER

pytestmark = pytest.mark.browser
KEY = "sk-ant-planted-7Qm2xR9vT4wLz8KpYb3N"
QUESTION = ".st-key-consent-1"


@pytest.fixture(scope="module")
def dashboard(browser, tmp_path_factory) -> Iterator[Dashboard]:
    """Started as a user starts it, with a key in its environment whose own address is port 9, where
    nobody listens."""
    folder = tmp_path_factory.mktemp("keys")
    own = {
        "LAB_SECRETS": str(folder / "none.toml"),
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
    }
    with started(folder, browser, without=["LAB_IGNORE_KEYS"], **own) as dashboard:
        yield dashboard


def endpoint_of(page) -> str:
    return parse_qs(urlsplit(page.url).query)["endpoint"][0]


def test_a_link_survives_reload_asks_and_then_goes_to_exactly_that_address(dashboard):
    with RawServer(Connection.good) as linked, RawServer(Connection.good) as typed:
        page = dashboard.opened(f"Streaming?endpoint={linked.url}&blocks=1&answer_tokens=16")
        for _ in range(2):
            page.locator(QUESTION).get_by_text(linked.url.removeprefix("http://")).wait_for()
            assert (
                page.locator(f"{QUESTION} a").count() == 0
                and page.locator(".st-key-run-button").count() == 0
            )
            assert linked.asked == [] and endpoint_of(page) == linked.url
            page.reload()
            page.locator(IDLE).wait_for()
        page.get_by_role("button", name="Yes, without a key").click()
        page.locator(".st-key-run-button button").first.click()
        page.locator(".st-key-verdict").wait_for()
        assert endpoint_of(page) == linked.url and page.locator(QUESTION).count() == 0
        assert {asked.key for asked in linked.asked if asked.path == "/v1/messages"} == {
            PLACEHOLDER
        }
        assert processes.running() is None and dashboard.rows(
            "SELECT endpoint, status FROM runs"
        ) == [(linked.url, "finished")]

        page.locator(".st-key-endpoint input").fill(typed.url)
        page.keyboard.press("Enter")
        page.locator(QUESTION).get_by_text(typed.url.removeprefix("http://")).wait_for()
        page.get_by_role("button", name="Yes, with my API key").click()
        page.locator(QUESTION).wait_for(state="detached")
        # Agreed to, it may be asked what its models can, and nothing else before a run.
        asked = {asked.path.partition("?")[0] for asked in typed.asked if asked.key}
        assert endpoint_of(page) == typed.url and asked <= {"/v1/models"}
        page.reload()
        page.locator(IDLE).wait_for()
        assert (
            endpoint_of(page) == page.locator(".st-key-endpoint input").input_value() == typed.url
        )
        assert page.locator(QUESTION).count() == 0


def test_no_other_site_can_show_the_dashboard_in_a_frame(dashboard, browser):
    for path in ("", "Streaming", "History", "_stcore/health"):
        with urllib.request.urlopen(f"{dashboard.url}/{path}", timeout=20) as reply:
            assert (
                reply.headers["X-Frame-Options"] == "DENY"
                and "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
            )
    around = f'<iframe src="{dashboard.url}/Streaming" width="900" height="600"></iframe>'.encode()
    with RawServer(lambda connection: connection.json(around, kind="text/html")) as site:
        page, refused = browser.new_context().new_page(), []
        page.on("console", lambda message: refused.append(message.text))
        page.goto(site.url)
        page.wait_for_function("document.querySelector('iframe') !== null")
        pause_s(1)
        assert all(frame.locator("[data-testid=stApp]").count() == 0 for frame in page.frames)
        assert any(re.search("frame-ancestors|X-Frame-Options|frame", text) for text in refused)
