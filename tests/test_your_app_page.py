"""The page *Your app* as a script: what it says of little, of much and of nothing, and what it does
not show."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace

import duckdb
import pandas as pd
import pytest
from recorded_apps import App, answer, asks, results, says, user
from test_pages import opened, well

from lab import machine, processes, recorder, recordings
from lab.figures import cache_by_call, first_token, timeline
from lab.model import LabError
from lab.recorder import demo
from lab.recording import growth, sums
from lab.recording.facts import Miss
from lab.store.store import Store
from pages.parts import your_app

PAGE = "pages/0_Your_app.py"
LONG = "Be kind. " * 900
CACHED = {"type": "ephemeral"}


def system(words: str) -> list[dict]:
    return [{"type": "text", "text": f"{words} {LONG}", "cache_control": CACHED}]


def broken(store: Store, conversations: int = 1, name: str | None = None) -> str:
    """Each conversation has three turns of two seconds, a second for the first token; the third
    says another time, so that it reads nothing of 2,000 tokens."""
    app = App(store)
    for number in range(conversations):
        at, messages = 60.0 * number, [user(f"question {number}")]
        for turn, (time, read) in enumerate((("10:00", 0), ("10:00", 2000), ("10:01", 0))):
            asked = asks(f"use {number}") if turn == 0 else says("done")
            app.call(
                messages,
                at,
                at + 2,
                asked,
                first=at + 1,
                usage={
                    "input_tokens": 10,
                    "cache_read_input_tokens": read,
                    "cache_creation_input_tokens": 0 if read else 2000,
                    "output_tokens": 20,
                },
                tools=[("search", at + 2, at + 3)] if turn == 0 else (),
                conversation=f"session {number}",
                system=system(f"It is {time}."),
                stream=True,
            )
            messages = [*messages, answer(asked)]
            messages += [results(f"use {number}")] if turn == 0 else [user("and then?")]
            at += 3
    recording = app.recording()
    if name:
        store.rename(recording.run_id, name)
    store.finish_run(recording.run_id, "finished")
    return recording.run_id


def words(app) -> str:
    """All that is told, as a reader sees it."""
    told = (*app.markdown, *app.caption, *app.info, *app.warning)
    return "\n".join([*(part.value for part in told), *html_of(app)]).replace("\\", "")


def html_of(app) -> list[str]:
    return [part.proto.body for part in app.get("html")]


def test_nothing_yet_shows_three_ways_in_and_a_demo(db):
    app = opened(PAGE)
    well(app)
    for way in ("**Record**", "**Import**", "**In code**", "No app at hand?"):
        assert way in words(app)


def test_the_sentence_stands_first_and_the_miss_has_its_evidence(db):
    broken(Store())
    app = opened(PAGE)
    well(app)
    told = words(app)
    # Six seconds of answers and one of the tool, and one in which nothing ran.
    assert "Of 8,000 ms, Claude's first tokens took 38" in told
    assert "A block of the system prompt differs" in told
    assert "look like a time" in told
    assert "2,000 tokens" in told


def test_a_link_opens_its_recording_and_not_the_newest(db):
    first = broken(Store(), name="the first")
    broken(Store(), name="the second")
    app = opened(PAGE, run=first)
    well(app)
    assert app.selectbox(key="recording").value == first
    gone = opened(PAGE, run="01a216d2-72fd-76bc-bfce-d5652eb152ae")
    assert "not in this database" in gone.warning[0].value


def test_a_call_in_the_link_is_open_and_shows_sizes_and_no_text(db):
    run_id = broken(Store())
    recording = recordings.read(Store(), run_id)
    app = opened(PAGE, run=run_id, call=str(recording.calls["call_id"].iloc[2]))
    well(app)
    blocks = app.dataframe[0].value
    assert blocks["before"].tolist()[0] == "differs"
    assert blocks["characters"].tolist()[0] == len(f"It is 10:01. {LONG}")
    assert "Be kind" not in words(app) + app.dataframe[0].value.to_string()


def every_view(app) -> None:
    for view in app.button_group(key="view").options:
        well(app.button_group(key="view").set_value(str(getattr(view, "content", view))).run())


def test_every_view_of_a_recording(db):
    broken(Store(), 3)
    every_view(opened(PAGE))


def test_every_view_of_a_source_that_knows_less_and_what_it_cannot_answer(db):
    app = App(Store(), "claude_code")
    app.call([user("q")], 0, 2, says("a"), usage={"input_tokens": 5, "output_tokens": 2})
    app.call(None, 3, 4)
    app.recording()
    page = opened(PAGE)
    assert "Transcripts have no first-token time" in words(page)
    every_view(page)


def test_where_every_call_failed_nothing_is_said_to_have_been_read(db):
    app = App(Store())
    app.call([user("q")], 0, 1, error="connection")
    app.call([user("q")], 2, 3, error="connection")
    app.recording()
    page = opened(PAGE)
    well(page.button_group(key="view").set_value("Misses").run())
    assert "No answer said what it read from the cache" in words(page)


PLANTED = "[a link](http://elsewhere.example) <b>bold</b> :red[red]"


def test_whatever_a_recording_says_is_text_and_no_markup(db):
    run_id = broken(Store(), name=PLANTED)
    with duckdb.connect(str(db)) as connection:
        connection.execute(
            "UPDATE calls SET model = $1, served_model = $1, stop_reason = $1,"
            " cache_miss_reason = $1",
            [PLANTED],
        )
        connection.execute(
            "UPDATE runs SET note = $1, endpoint = $1, imported_from = $1", [PLANTED]
        )
        last, *_ = connection.execute("SELECT max(call_id)::VARCHAR FROM calls").fetchone()
        settings = json.dumps({PLANTED: PLANTED})
        connection.execute("UPDATE recorded_calls SET settings = ?", [settings])
        error = "UPDATE calls SET error_kind = ? WHERE call_id = ?::UUID"
        connection.execute(error, [PLANTED, last])
    app = opened(PAGE, run=run_id, call=last)
    for view in ("Misses", "Calls", "First token"):
        well(app.button_group(key="view").set_value(view).run())
        marked = [part.value for part in (*app.markdown, *app.caption, *app.info, *app.warning)]
        assert not [text for text in marked if "<b>" in text or "](" in text or ":red[" in text]
        assert "<b>bold" not in "".join(html_of(app))
    assert sum("bold" in text for text in marked) >= 3


def test_a_recording_that_ended_empty_says_so_and_is_not_opened_in_place_of_one_with_calls(db):
    full, empty = broken(Store()), App(Store()).run["run_id"]
    Store().finish_run(empty, "finished")
    assert opened(PAGE).selectbox(key="recording").value == full
    app = opened(PAGE, run=empty)
    well(app)
    assert "This recording ended before a call came. Give your app the line" in words(app)


def test_calls_that_a_recorder_lost_are_said_with_why(db):
    run_id = broken(Store())
    for calls, text in ((2, "they were too large"), (1, "they were too large")):
        processes.add_progress(run_id, {"kind": "lost", "calls": calls, "text": text})
    app = opened(PAGE)
    well(app)
    assert "3 calls were not recorded: they were too large." in words(app)


def test_forget_takes_the_recording_and_leaves_the_page(db):
    run_id = broken(Store())
    app = opened(PAGE)
    app.button(key="forget").click().run()
    well(app)
    assert "**Record**" in words(app)
    assert Store().frame("SELECT count(*) AS n FROM recorded_calls")["n"].tolist() == [0]
    assert run_id not in words(app)


def test_another_conversation_begins_with_its_first_calls(db):
    app = App(Store())
    for session, count in (("long", 45), ("short", 25)):
        for at in range(count):
            app.call([user(session)], at, at + 0.5, says("a"), conversation=session)
    app.recording()
    page = opened(PAGE, conversation="1", calls="40", view="Calls")
    well(page)
    assert page.selectbox(key="calls").value == 40 and len(page.dataframe[0].value) == 45
    well(page.selectbox(key="conversation").set_value(2).run())
    assert page.selectbox(key="calls").value == 0 and len(page.dataframe[0].value) == 25


def test_calls_that_came_since_the_page_was_drawn_are_offered(db):
    run_id, own = broken(Store()), os.getpid()
    card = recorder.Card(run_id, 1, own, machine.born(own), "anthropic", "live", "", False, "")
    with recorder.announced(card):
        app = opened(PAGE)
        assert "3 calls recorded." in words(app) and f"look-{run_id}" not in keys_of(app)
        app.session_state[your_app.SHOWN] = (run_id, 1)
        app.run()
    well(app)
    assert app.button(key=f"look-{run_id}").label == "Show what is in the 3 calls so far"
    assert app.button(key="start-recorder").disabled


def keys_of(app) -> list[str]:
    return [button.key for button in app.button]


def test_misses_of_one_cause_at_one_place_are_one_row_that_unfolds(db):
    broken(Store(), 9)
    app = opened(PAGE)
    well(app)
    # The third call of each; and the first of each but one, which the one before had written and
    # which nothing in it keeps from being read.
    assert "17 misses left 34,000 tokens unread: $0.082." in words(app)
    assert "Why seconds are not known: the calls are too alike" in words(app)
    title = "**9 × a block of the system prompt differs: looks like a time**"
    assert words(app).count("of the system prompt differs") == 1 and title in words(app)
    keys = [key for key in keys_of(app) if key.startswith("open-miss-")]
    assert keys == ["open-miss-0", "open-miss-1"] and "**8 × cause not known**" in words(app)
    assert not app.dataframe, "what is shut is not sent"
    app.session_state["calls-of-miss-0"] = True
    (table,) = (frame.value for frame in app.run().dataframe)
    assert len(table) == 9 and "cause" not in table and "api" not in table


def test_misses_that_look_alike_elsewhere_are_rows_of_their_own(db):
    def miss(call: str, section: str, place: int, look: str = "time") -> Miss:
        return Miss(
            call,
            f"{section[:-1] if section == 'messages' else section}_differs",
            "",
            10,
            section=section,
            place=place,
            look=look,
        )

    misses = [miss("a", "system", 0), miss("b", "system", 0), miss("c", "system", 1)]
    misses += [miss("d", "system", 0, "id"), miss("e", "messages", 4), miss("f", "messages", 6)]
    misses.append(Miss("g", "first_use", "", 0))
    recording = SimpleNamespace(
        misses=misses,
        calls=pd.DataFrame({"call_id": list("abcdefg"), "served_model": "m", "model": "m"}),
        relation=None,
    )
    found = [[each.call_id for each in group.misses] for group in sums.by_place(recording)]
    assert found == [["a", "b"], ["e", "f"], ["c"], ["d"]]
    assert [group.look for group in sums.by_place(recording)][3] == "looks like an id"


def test_the_timeline_leaves_pauses_out_and_says_so(db):
    run_id = broken(Store(), 2)
    recording = recordings.read(Store(), run_id)
    calls = recording.calls.drop(columns="conversation").join(recording.conversations, on="call_id")
    bars = recording.waiting.timeline
    one = bars[bars["conversation"] == 1]
    # 1 s of nothing between the second call and the third, of 8.
    assert timeline.idle_share(one) == pytest.approx(1 / 8)
    mine = calls[calls["conversation"] == 1]
    whole = timeline.timeline(one, mine, pauses=True)
    short = timeline.timeline(one, mine, pauses=False)
    assert "1,000 ms of nothing at all left out" in short.layout.meta["subtitle"]
    ends = [
        max(b + x for t in f.data for b, x in zip(t.base, t.x, strict=True)) for f in (whole, short)
    ]
    assert ends == pytest.approx([8000, 7000])


def test_the_timeline_tells_its_kinds_apart_by_more_than_grey_and_names_those_it_shows(db):
    recording = recordings.read(Store(), broken(Store()))
    calls = recording.calls.drop(columns="conversation").join(recording.conversations, on="call_id")
    bars = recording.waiting.timeline
    meta = timeline.timeline(bars, calls).layout.meta
    assert list(meta["legend"]) == ["first token", "writing", "tools", "nothing at all"]
    assert meta["marks"] == {"tools": "hollow", "nothing at all": "line"}
    # A gap of 4 ms in a conversation of 7 s is no wider than a hair.
    idle = bars["kind"] == "idle"
    bars.loc[idle, "ended_ms"] = bars.loc[idle, "started_ms"] + 4
    assert "nothing at all" not in timeline.timeline(bars, calls).layout.meta["legend"]


def test_of_many_calls_a_picture_shows_some_thousand_dots_and_says_so():
    count = 5000
    points = pd.DataFrame({name: range(count) for name in ("x", "at_ms", "prompt", "read")})
    points = points.assign(call_id="c", model="m", turn=1.0, uncached=5, group=growth.AFRESH)
    figure = first_token.first_token(growth.Growth(points, []), title="", x_title="turn")
    assert len(figure.data[0].x) == 1667  # every third
    assert figure.layout.xaxis.dtick is None
    few = first_token.first_token(growth.Growth(points[:3], []), title="", x_title="turn")
    assert few.layout.xaxis.dtick == 1, "no turn is written twice"
    assert "1,667 of 5,000 calls drawn" in figure.layout.meta["subtitle"]


def test_a_bar_of_the_cache_says_what_could_have_been_read(db):
    recording = recordings.read(Store(), broken(Store()))
    calls = recording.calls.drop(columns="conversation").join(recording.conversations, on="call_id")
    figure = cache_by_call.cache_by_call(
        calls.join(recording.cache_use, on="call_id"), title="Half of it"
    )
    read, written, uncached = figure.data[:3]
    assert list(read.y) == [0, 2000, 0] and list(written.y) == [2000, 0, 2000]
    assert list(uncached.y) == [10, 10, 10]


def test_the_demo_agent_comes_with_the_lab():
    from lab import paths

    assert paths.shipped(demo.AGENT).is_file()
    assert demo.arguments()[0] == "record" and recorder.current() is None


def test_a_demo_agent_that_ends_at_once_is_said_with_its_log(db, monkeypatch):
    ended = [sys.executable, "-c", "raise SystemExit(1)"]
    monkeypatch.setattr(demo, "arguments", list)
    popen = demo.subprocess.Popen
    monkeypatch.setattr(demo.subprocess, "Popen", lambda _, **given: popen(ended, **given))
    with pytest.raises(LabError, match="did not start; its log is"):
        demo.start()


def test_what_is_imported_beside_a_recording_is_shown_at_once(db):
    first = broken(Store(), name="the first")
    line = {
        "type": "assistant",
        "uuid": "u",
        "sessionId": "a session",
        "requestId": "req",
        "timestamp": "2026-11-20T10:00:00.000Z",
        "message": {
            "id": "msg",
            "role": "assistant",
            "model": "claude-sonnet-4-5",
            "content": [{"type": "text", "text": "Yes"}],
            "usage": {"input_tokens": 5, "output_tokens": 2},
        },
    }
    app = opened(PAGE, run=first)
    app.file_uploader(key="app-files").upload("s.jsonl", json.dumps(line).encode(), "text/plain")
    app.run()
    well(app.button(key="import-app").click().run())
    assert app.selectbox(key="recording").value != first
    assert "Transcripts have no first-token time" in words(app)
