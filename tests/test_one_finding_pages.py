"""A technique's page, Home and History say one thing of a run: read back, whatever the verdict.

Each technique and each verdict kind is there once at least; tests/test_one_finding.py walks through
the rest without pages.
"""

import json
import re
from html import unescape
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from lab import results, techniques
from lab.store.store import Store
from tests.claims import claims, contradictions
from tests.verdict_runs import KINDS, record

ROOT = Path(__file__).parent.parent
FIRST = {
    "streaming": "fails more",
    "caching": "not enough",
    "parallelism": "faster only shorter",
    "routing": "faster when it answers",
    "topology": "slower",
    "ab": "faster but worse",
    "aa": "no difference",
    "side-by-side": "faster",
}
SECOND = {"streaming": "doubtful", "caching": "against the medians", "ab": "all wrong"}
SIDE_BY_SIDE = "20_Side_by_side"
TAG = re.compile(r"<style>.*?</style>|<[^>]+>", re.DOTALL)
WORDS = ("body", "label", "text", "title", "subtitle")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The runs of FIRST and of SECOND in one database, by technique and kind."""
    path = tmp_path_factory.mktemp("pages") / "lab.duckdb"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LAB_DB", str(path))
        st.cache_data.clear()
        store = Store(path)
        ids = record(store, *FIRST.items(), *SECOND.items())
        yield {pair: results.read(run, store) for pair, run in ids.items()}


def opened(page: str, **query) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    for name, value in query.items():
        app.query_params[name] = value
    return app.switch_page(f"pages/{page}.py").run() if page else app.run()


def page_of(technique: str) -> str:
    if technique == "side-by-side":
        return SIDE_BY_SIDE
    return techniques.find(technique).page.removesuffix(".py")


def words(app: AppTest) -> str:
    """What a page says in its main part, figures' words among it; not what a technique's authors
    and others have published, which is no finding."""
    lines = []
    _read(app.main, lines)
    text = unescape(TAG.sub(" ", "\n".join(lines)))
    for known in techniques.all_techniques():
        for claim in (known.claim, known.published):
            text = text.replace(claim, "") if claim else text
    return " ".join(text.replace("\\", "").split())


def _read(node, lines: list[str]) -> None:
    children = getattr(node, "children", {})
    for child in children.values():
        if getattr(child, "type", "") == "plotly_chart":
            layout = json.loads(child.proto.spec)["layout"]
            lines += [note.get("text", "") for note in layout.get("annotations", ())]
        elif getattr(child, "type", "") == "arrow_data_frame":
            lines += map(str, child.value.to_numpy().ravel())
        elif hasattr(child, "proto"):
            lines += [str(getattr(child.proto, name, "")) for name in WORDS]
        _read(child, lines)


def titles(app: AppTest) -> list[str]:
    """Of the figures: each is a heading above it."""
    texts = [element.proto.body for element in app.get("html")]
    return [text.partition('role="heading"')[2] for text in texts if 'role="heading"' in text]


def views_of(app: AppTest) -> list[str]:
    groups = [group for group in app.get("button_group") if group.proto.label == "View"]
    return [option.content for group in groups for option in group.proto.options]


def test_every_view_of_a_page_says_what_the_verdict_says(recorded):
    wrong = []
    for (technique, kind), result in recorded.items():
        app = opened(page_of(technique), run=result.run_id)
        views = views_of(app)
        assert views or technique == "side-by-side"
        for view in views or [None]:
            if view not in (None, views[0]):
                app = opened(page_of(technique), run=result.run_id, view=view)
            found = [str(error.value) for error in (*app.exception, *app.error)]
            found += wrong_on(app, result, KINDS[kind].less)
            wrong += [(technique, kind, view, words) for words in found]
    assert wrong == []


def wrong_on(app: AppTest, result: results.RunResult, less: bool | None) -> list[str]:
    text, verdict, wrong = words(app), result.verdicts[0], []
    for title in titles(app):
        arms = {claim.arm for claim in claims(title, result)}
        if not arms <= ({result.comparisons[0].name} if less is not None else set()):
            wrong.append(title)
    if verdict.title not in text:
        wrong.append(f"no figure is called {verdict.title!r}")
    # The card draws a claim's number apart from its words.
    lead = verdict.headline if less is None else verdict.headline.rpartition(": ")[0]
    for doubt in verdict.doubts:
        if doubt not in text[: text.index(lead)]:
            wrong.append(f"not first: {doubt}")
    rest = text.replace(lead, "", 1) if less is not None else text
    return contradictions(rest, result) + wrong


@pytest.mark.parametrize("page", ["", "21_History"])
def test_pages_of_many_runs_say_of_each_what_its_verdict_says(recorded, page):
    app = opened(page)
    assert not app.exception and not app.error
    text = words(app)
    if not page:  # of two techniques the newest run is faster, and nothing greys it
        proven = "Prompt caching and Your requests are shown to be faster"
        assert proven in text
        text = text.replace(proven, "")
    assert contradictions(text, *recorded.values()) == []
