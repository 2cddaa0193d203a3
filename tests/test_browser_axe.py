"""Every page opened cold by its address, in a wide window and a narrow one, and as axe-core sees
it: words have contrast, controls have names. In the light, and then in the dark as when the
reader's system turns dark under an open page."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from dashboards import WRONG, Dashboard, started, still
from recorded_runs import record
from test_your_app_page import broken

from lab.figures import palette
from lab.store.store import Store
from pages.parts import frame

pytestmark = pytest.mark.browser
AXE = importlib.resources.files("axe_playwright_python") / "axe.min.js"
"""axe-core as that package ships it; nothing is loaded from outside."""
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
}
IS_GROUND = """wanted => {
    const one = document.createElement("i");
    one.style.color = wanted;
    const ground = getComputedStyle(document.querySelector("[data-testid=stApp]")).backgroundColor;
    return ground === one.style.color;
}"""
"""Whether the page has taken the colour of its ground, and so all others of its scheme."""
HAS_RULES = """wanted => [...document.querySelectorAll("style")]
    .some(one => one.textContent.includes(wanted))"""
"""Whether the page has the rules of a scheme, which come with its figures from the server."""
STREAMLITS_OWN: dict[str, str] = {}
"""Violations in markup that only Streamlit writes: a selector, and why it is left."""
STREAMLITS_SEARCH = re.compile(r"/[^/]+/_stcore/(health|host-config)$")
"""Its client first looks for its server below the page's path, and finds it at the root."""
URLS = [
    "",
    *(
        page.path.removeprefix("pages/").removesuffix(".py").split("_", 1)[1]
        for page in frame.page_files()
    ),
]


@pytest.fixture(scope="module")
def dashboard(browser, tmp_path_factory) -> Iterator[Dashboard]:
    """With runs recorded for several pages, so that they show all that they can."""
    with started(tmp_path_factory.mktemp("axe"), browser) as dashboard:
        for technique in ("caching", "streaming", "aa"):
            record(Store(), technique=technique)
        broken(Store(), 2)
        yield dashboard


def violations(page: Any) -> list[str]:
    """One line a node: the rule, where, and what axe says of it."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    answer = page.evaluate("rules => axe.run(document, rules)", RULES)
    return [
        f"{rule['id']}: {' '.join(map(str, node['target']))}: "
        + "; ".join(check["message"] for check in node["any"] + node["all"])[:160]
        for rule in answer["violations"]
        for node in rule["nodes"]
        if not any(own in node["html"] for own in STREAMLITS_OWN)
    ]


def sideways(page: Any, width: int) -> list[str]:
    """One line where the page is wider than a window of this many pixels."""
    page.set_viewport_size({"width": width, "height": 900})
    still(page)
    over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return [f"{over} px of sideways scroll at {width} px"] if over > 0 else []


def is_a_fault(line: Any) -> bool:
    """Whether a console line is an error, and not Streamlit's search for its server."""
    search = "404" in line.text and STREAMLITS_SEARCH.search(urlsplit(line.location["url"]).path)
    return line.type == "error" and not search


@pytest.mark.parametrize("url", URLS, ids=lambda url: url or "Home")
def test_a_page_opens_cold_and_all_its_words_and_controls_can_be_read(dashboard, url):
    window = {"color_scheme": "light", "viewport": {"width": 1440, "height": 900}}
    page, wrong = dashboard.browser.new_context(**window).new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if is_a_fault(line) else None)
    dashboard.goto(page, url)
    page.locator("[data-testid=stHeading]").first.wait_for()
    for scheme, ground in (("light", palette.LIGHT.ground), ("dark", palette.DARK.ground)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(IS_GROUND, arg=ground)
        # Some time after it has turned, the page asks for its figures again.
        page.wait_for_function(HAS_RULES, arg=palette.variables(scheme == "dark"))
        still(page, 1_000)
        wrong += [f"{scheme}: {line}" for line in violations(page)]
    wrong += sideways(page, 1440) + sideways(page, 420)
    assert wrong + page.locator(WRONG).all_inner_texts() == []


def test_the_big_number_never_breaks_and_a_title_only_where_its_lines_end(dashboard):
    page = dashboard.opened("Prompt_caching")
    for width in (1440, 900, 420):
        page.set_viewport_size({"width": width, "height": 900})
        still(page)
        number = page.locator(".lab-number").first
        lines = number.evaluate(
            "it => it.getBoundingClientRect().height / parseFloat(getComputedStyle(it).lineHeight)"
        )
        assert round(lines) == 1, width
        assert number.evaluate("it => it.scrollWidth <= it.parentElement.clientWidth + 1"), width
        title = page.locator(".lab-head [role=heading]").first
        title.wait_for()
        if width > 500:
            assert title.evaluate("it => it.getBoundingClientRect().height") == 20, "one line"
        hidden = page.locator('[class*="st-key-figure-"] .annotation[data-index="0"]').first
        assert hidden.evaluate("it => getComputedStyle(it).visibility") == "hidden", "said once"
