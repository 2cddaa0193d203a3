"""A run's report is one file that opens anywhere."""

import json

import duckdb
import pytest

from lab import results
from lab.harness.reporters import html as html_report
from lab.store.store import Store
from tests.recorded_runs import record

HOSTILE = "</script><img src=x onerror=window.bad=1>"


def test_a_report_holds_the_run_and_loads_nothing(db):
    store = Store()
    run_id = record(store)
    html = html_report.page(results.read(run_id, store))
    assert "Cached is faster" in html and run_id in html and "machine" in html.lower()
    head, _, body = html.partition("</head>")
    assert "default-src 'none'" in head and 'src="http' not in body and 'href="http' not in body


def test_words_of_a_user_or_a_model_are_only_words(db):
    store = Store()
    run_id = record(store, text=HOSTILE)
    store.rename(run_id, HOSTILE)
    assert HOSTILE not in html_report.page(results.read(run_id, store))


def test_questions_of_the_users_own_are_in_a_report_only_where_the_run_keeps_text():
    settings = {
        "config": {"tasks": [{"prompt": "secret"}], "runs": 6},
        "knobs": {"bodies": "secret"},
    }
    assert html_report.without_text(settings, {"tasks", "bodies"}) == {
        "config": {"tasks": "not kept", "runs": 6}, "knobs": {"bodies": "not kept"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("technique", "knob"), [("ab", "bodies"), ("mine, not known here", "requests")]
)
def test_words_of_the_users_own_leave_by_no_knob(db, technique, knob):
    """Only the knob `bodies` was known, by its name."""
    run_id = record(Store(), technique=technique)
    with duckdb.connect(str(db)) as connection:
        connection.execute(
            "UPDATE runs SET keep_text = FALSE, settings = json_merge_patch(settings, ?)",
            [json.dumps({"knobs": {knob: "a secret"}, "config": {"knobs": {knob: "a secret"}}})],
        )
    page = html_report.page(results.read(run_id))
    assert "a secret" not in page and "not kept" in page


@pytest.mark.browser
def test_a_report_opens_from_a_file_without_a_network(db, tmp_path, browser):
    store = Store()
    file = tmp_path / "report.html"
    file.write_text(
        html_report.page(results.read(record(store, text=HOSTILE), store)), encoding="utf-8"
    )
    context = browser.new_context(offline=True, viewport={"width": 420, "height": 900})
    page, said = context.new_page(), []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda request: said.append(request.url) if request.url.startswith("http") else None,
    )
    page.goto(file.as_uri())
    page.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=60_000)
    assert page.locator(".lane").count() == 2
    assert page.evaluate("window.bad") is None
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert said == []
