"""Your requests: what is pasted becomes a body, what to compare it with is proposed, and a mistake
takes nothing away."""

from __future__ import annotations

import json

import pytest
from recorded_runs import record

from lab.store.store import Store
from tests import dashboards
from tests.test_pages import opened, well

KEY = "sk-ant-api03-0123456789abcdef"
CURL = f"""curl https://api.anthropic.com/v1/messages \\
  -H 'x-api-key: {KEY}' -H 'anthropic-version: 2023-06-01' \\
  -d '{{"model": "claude-any", "max_tokens": 9, "system": "Long.",
       "messages": [{{"role": "user", "content": "Hello"}}]}}'"""


@pytest.fixture
def page(db):
    app = opened("pages/6_Your_requests.py", endpoint="simulated")
    well(app)
    return app


def body(app, place: int) -> dict:
    return json.loads(app.text_area(key=f"body-{place}").value)


def paste(app, text: str, place: int = 0):
    app.text_area(key=f"body-{place}").set_value(text).run()
    return app


def captions(app) -> str:
    return " ".join(caption.value for caption in app.caption).replace("\\", "")


def test_a_first_press_compares_a_request_with_itself_streamed(page):
    assert body(page, 0)["stream"] is False
    assert body(page, 1) == {**body(page, 0), "name": "a streamed", "stream": True}
    assert not page.button(key="run-button").disabled


def test_a_curl_becomes_a_body_and_its_key_goes(page):
    paste(page, CURL)
    well(page)
    assert body(page, 0)["system"] == "Long." and body(page, 0)["stream"] is False
    assert body(page, 1)["name"] == "a streamed" and body(page, 1)["system"] == "Long."
    assert "Left out: the key in x-api-key." in captions(page)
    assert "simulated has no claude-any" in captions(page)
    kept = [page.session_state[name] for name in ("body-0", "body-1", "left-out-0")]
    assert KEY not in str([kept, page.main])


def test_a_python_call_becomes_one_too(page):
    paste(
        page, "client.messages.create(max_tokens=9, messages=[{'role': 'user', 'content': 'Hi'}])"
    )
    assert body(page, 0)["messages"][0]["content"] == "Hi"


def test_what_to_compare_with_is_proposed_until_it_is_ones_own(page):
    paste(page, CURL)
    page.button_group(key="against").set_value("itself cached").run()
    assert body(page, 1)["system"][0]["cache_control"] and body(page, 1)["primed"] is True
    paste(page, json.dumps({**body(page, 1), "max_tokens": 7}), 1)
    assert page.button_group(key="against").value == "my own"
    paste(page, json.dumps({**body(page, 0), "system": "Longer."}))
    assert body(page, 1)["max_tokens"] == 7  # what is one's own stays


def test_a_smaller_model_is_proposed_where_there_is_one(page):
    options = page.button_group(key="against").options
    assert "smaller model" not in options
    paste(page, json.dumps({**body(page, 0), "model": "simulated-large"}))
    page.button_group(key="against").set_value("smaller model").run()
    assert body(page, 1)["model"] == "simulated-small"


def test_a_mistake_is_shown_in_its_line_and_leaves_the_button(page):
    """A mistake in JSON took all that stood below it, and the button."""
    fields = [box.label for box in page.selectbox]
    wrong = '{"max_tokens": 9,\n "messages" []}'
    paste(page, wrong)
    assert [error.value.replace("\\", "") for error in page.error] == [
        "Request a, line 2, column 13: a colon is missing here."
    ]
    assert page.code[0].value.split("\n") == [' "messages" []}', " " * 12 + "^"]
    assert page.button(key="run-button").disabled
    assert "line 2, column 13" in page.button(key="run-button").help.replace("\\", "")
    assert [box.label for box in page.selectbox] == fields
    assert page.text_area(key="body-0").value == wrong
    paste(page, CURL)
    assert not page.button(key="run-button").disabled and not page.error


def test_a_key_does_not_stay_in_a_command_that_cannot_be_read(page):
    paste(page, CURL[:-4])
    assert page.error and KEY not in page.text_area(key="body-0").value
    assert "claude-any" in page.text_area(key="body-0").value


def test_tasks_are_asked_for_only_where_a_body_has_none(page):
    assert "Tasks" not in [box.label for box in page.selectbox]
    paste(page, '{"system": "Be brief."}')
    assert "Tasks" in [box.label for box in page.selectbox]


def test_the_page_says_what_is_kept(page):
    assert "keeps the shape of your requests" in captions(page)


def test_code_to_take_away_asks_claude(db):
    """It named the embedded model, which nobody's app has."""
    run_id = record(Store())
    app = opened(
        "pages/2_Prompt_caching.py", run=run_id, endpoint="local", view="Use it in your app"
    )
    assert '"model": "claude-' in app.code[0].value and "smollm2" not in app.code[0].value
    assert '"model": "smollm2' in app.code[1].value  # as it was sent


@pytest.mark.browser
def test_bodies_are_written_in_one_width_and_run_as_they_stand(tmp_path, browser):
    with dashboards.started(tmp_path, browser) as dashboard:
        page = dashboard.opened("Your_requests?endpoint=simulated")
        dashboards.still(page)
        area = page.locator("textarea").first
        assert "mono" in area.evaluate("area => getComputedStyle(area).fontFamily").lower()
        area.fill(CURL)
        area.press("Control+Enter")
        page.get_by_text("Left out: the key in x-api-key.").wait_for()
        assert KEY not in page.content() and KEY not in area.input_value()
        blocks = page.get_by_role("spinbutton", name="Blocks")
        blocks.fill("1")
        blocks.press("Enter")
        page.get_by_role("button", name="Run 1 block").click()
        page.locator(".st-key-verdict").wait_for()
        kept = dashboard.rows("SELECT keep_text, settings FROM runs")
        assert kept[0][0] is False and "Hello" not in str(kept) and KEY not in str(kept)
