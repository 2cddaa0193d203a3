"""A run from beginning to end without a mouse: Tab finds every control, and shows where it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dashboards import Dashboard, started

pytestmark = pytest.mark.browser
FOCUSED = """() => {
    const it = document.activeElement, look = getComputedStyle(it);
    const key = it.closest('[class*="st-key-"]');
    return {tag: it.tagName, text: it.innerText || it.getAttribute("aria-label") || "",
            key: key ? key.className.match(/st-key-(\\S+)/)[1] : "",
            ring: look.outlineStyle !== "none" && parseFloat(look.outlineWidth) >= 2,
            ground: look.backgroundColor};
}"""


@pytest.fixture(scope="module")
def dashboard(browser, tmp_path_factory) -> Iterator[Dashboard]:
    with started(tmp_path_factory.mktemp("keyboard"), browser) as dashboard:
        yield dashboard


def tabbed(page: Any, key: str, most: int = 200) -> dict[str, Any]:
    """Press Tab until something inside the element with this key has the focus; `most` is more
    than the page has: wherever the focus begins, it comes round."""
    passed = []
    for _ in range(most):
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUSED)
        if focus["key"] == key:
            return focus
        passed.append(focus["key"] or focus["text"][:30])
    raise AssertionError(f"{most} times Tab passed {passed}")


def test_a_whole_run_needs_no_mouse(dashboard):
    page = dashboard.opened("Same_thing_twice?endpoint=simulated&blocks=6&set-up-open=true")
    page.locator(".st-key-run-button button:not([disabled])").first.wait_for()
    run = tabbed(page, "run-button")
    assert run["tag"] == "BUTTON" and run["ring"], "the focus is seen"
    page.keyboard.press("Enter")
    page.locator(".st-key-verdict").wait_for(timeout=180_000)
    page.locator(".st-key-more-blocks button:not([disabled])").first.wait_for()
    more = tabbed(page, "more-blocks")
    assert "more blocks" in more["text"] and more["ring"]
    counted = dashboard.rows("SELECT count(*) FROM trials WHERE phase = 'measured'")
    assert counted == [(12,)], "six blocks of two arms"


def test_focus_in_the_sidebar_is_a_ring_and_does_not_look_like_the_page_that_is_open(dashboard):
    page = dashboard.opened("History")
    here = page.locator("[data-testid=stSidebar] a", has_text="History")
    chosen = here.evaluate("it => getComputedStyle(it).backgroundColor")
    for _ in range(200):
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUSED)
        if focus["tag"] == "A" and focus["text"] != "History":
            assert focus["ring"] and focus["ground"] != chosen
            return
    raise AssertionError("Tab never came to a link of the sidebar")
