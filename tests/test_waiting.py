"""Where the time of a recording went."""

from __future__ import annotations

import pytest
from recorded_apps import App, answer, asks, results, says, user

from lab import units
from lab.recording.waiting import whole_percents


@pytest.fixture
def app() -> App:
    return App()


HELLO = [user("Hello")]
SECOND = [*HELLO, answer(says("Hi")), user("How are you?")]
FIND = [user("Find it")]
FOUND = [*FIND, answer(asks("toolu_1")), results("toolu_1")]


def parts(app: App) -> tuple[float | None, ...]:
    """Seconds: all, first tokens, writing, tools, nothing."""
    spent = app.recording().waiting
    times = (spent.total_ms, spent.first_token_ms, spent.writing_ms, spent.tools_ms, spent.idle_ms)
    return tuple(None if ms is None else ms / 1000 for ms in times)


def test_a_call_waits_for_its_first_token_and_then_for_the_writing(app):
    app.call(HELLO, 0, 10, says("Hi"), first=3)
    assert parts(app) == (10, 3, 7, 0, 0)
    sentence = "Of 10.0 s, Claude's first tokens took 30 %, its writing 70 %."
    assert app.recording().waiting.sentence == sentence


def test_between_a_tool_call_and_its_results_the_tools_ran_and_else_nothing(app):
    app.call(FIND, 0, 10, asks("toolu_1"), first=4)
    app.call(FOUND, 20, 30, says("Here"), first=21)
    app.call([*FOUND, answer(says("Here")), user("Thanks")], 70, 100, says("So"), first=75)
    assert parts(app) == (100, 10, 40, 10, 40)
    assert app.recording().waiting.sentence == (
        "Of 1 min 40 s, Claude's first tokens took 10 %, its writing 40 %, your tools 10 %, "
        "nothing at all 40 %."
    )


def test_where_the_source_knows_when_a_tool_ran_the_rest_of_the_gap_is_nothing(app):
    app.call(FIND, 0, 10, asks("toolu_1"), first=4, tools=[("search", 15, 18)])
    app.call(FOUND, 20, 30, says("Here"), first=24)
    assert parts(app) == (30, 8, 12, 3, 7)


def test_tools_at_the_same_time_are_waited_for_once(app):
    ran = [("search", 10, 16), ("fetch", 10, 20)]
    app.call(FIND, 0, 10, asks("toolu_1", "toolu_2"), first=4, tools=ran)
    app.call(FOUND, 20, 30, says("Here"), first=24)
    assert parts(app) == (30, 8, 12, 10, 0)


def test_sub_agents_side_by_side_are_never_more_than_their_wall_time(app):
    app.call(FIND, 0, 10, asks("toolu_1", name="agent"), first=4)
    app.call([user("One")], 11, 15, says("a"), first=12)
    app.call([user("Two")], 11, 19, says("b"), first=13)
    app.call(FOUND, 20, 30, says("Here"), first=24)
    # 4 + 4 of the main one, 2 of the slower sub-agent; 6 + 6 and 6; a second of tool on each side.
    assert parts(app) == (30, 10, 18, 2, 0)
    bars = app.recording().waiting.timeline
    critical = bars[bars["is_critical"]]
    assert (critical["ended_ms"] - critical["started_ms"]).sum() == 30_000
    assert set(critical["call_id"]) == {app.ids[0], app.ids[2], app.ids[3]}
    assert set(bars[~bars["is_critical"]]["kind"]) == {"first_token", "writing", "tool"}


def test_a_sub_agent_that_ran_on_in_the_background_is_waited_for_only_at_the_end(app):
    red = {"conversation": "red"}
    app.call(FIND, 0, 10, asks("toolu_1"), first=4, **red)
    app.call([user("Look")], 11, 35, says("a"), first=12, agent="scout", **red)
    app.call(FOUND, 20, 30, says("Here"), first=24, **red)
    total, *rest = parts(app)
    assert total == 35
    assert sum(rest) == 35


def test_conversations_at_the_same_time_add_up(app):
    app.call(HELLO, 0, 10, says("Hi"), first=5)
    app.call(FIND, 2, 12, says("No"), first=7)
    assert parts(app) == (20, 10, 10, 0, 0)
    assert app.recording().waiting.sentence == (
        "Of 20.0 s in 2 conversations, Claude's first tokens took 50 %, its writing 50 %."
    )


def test_calls_at_the_same_time_in_one_conversation_count_once(app):
    red = {"conversation": "red"}
    app.call(HELLO, 0, 10, says("Hi"), first=5, **red)
    app.call(FIND, 2, 8, says("No"), first=7, model="claude-haiku-5-5", **red)
    assert parts(app) == (10, 5, 5, 0, 0)


def test_without_first_token_times_it_says_what_the_answers_took(app):
    app.call(FIND, 0, 6, asks("toolu_1"))
    app.call(FOUND, 10, 13, says("Here"))
    assert parts(app) == (13, None, 9, 4, 0)
    sentence = "Of 13.0 s, Claude's answers took 69 %, your tools 31 %."
    assert app.recording().waiting.sentence == sentence


def test_answers_that_did_not_stream_stand_apart_where_others_did(app):
    app.call(HELLO, 0, 4, says("Hi"), first=1)
    app.call(SECOND, 4, 10, says("Fine"))
    assert parts(app) == (10, 1, 3, 0, 0)
    assert app.recording().waiting.whole_ms == 6000
    assert app.recording().waiting.sentence == (
        "Of 10.0 s, Claude's first tokens took 10 %, its writing 30 %, its answers that did not "
        "stream 60 %."
    )


def test_a_failed_call_is_waited_for_and_said(app):
    app.call(HELLO, 0, 2, error="overloaded")
    app.call(HELLO, 4, 10, says("Hi"), first=5)
    spent = app.recording().waiting
    assert (spent.total_ms, spent.failed_ms, spent.idle_ms) == (10_000, 2000, 2000)
    assert (spent.first_token_ms, spent.whole_ms) == (3000, 0)
    assert spent.sentence.endswith("nothing at all 20 %. Calls that failed took 20 % of it.")


def test_where_every_call_failed_no_answer_is_said_to_have_taken_time(app):
    app.call(HELLO, 0, 1, error="connection")
    app.call(HELLO, 9, 10, error="connection")
    spent = app.recording().waiting
    assert (spent.failed_ms, spent.idle_ms) == (2000, 8000)
    assert spent.sentence == "Of 10.0 s, calls that failed took 20 %, nothing at all 80 %."


def test_a_call_that_its_application_gave_up_is_no_failure(app):
    app.call(HELLO, 0, 2, error="cancelled")
    app.call(HELLO, 4, 10, says("Hi"), first=5)
    spent = app.recording().waiting
    assert (spent.total_ms, spent.failed_ms) == (10_000, 0) and "failed" not in spent.sentence


def test_a_call_whose_end_nobody_saw_takes_no_time(app):
    app.call(HELLO, 0, 4, says("Hi"), first=1)
    app.call(SECOND, 6, 9)
    app.trials[1].calls[0].ended_ns = None
    assert parts(app) == (6, 1, 3, 0, 2)


def test_nothing_recorded_says_so(app):
    spent = app.recording().waiting
    assert (spent.total_ms, spent.sentence) == (0, "No call was recorded.")
    assert spent.timeline.empty


def test_another_model_is_not_called_claude(app):
    app.call(HELLO, 0, 10, says("Hi"), model="small")
    assert app.recording().waiting.sentence == "Of 10.0 s, the model's answers took 100 %."


def test_shares_add_up_to_a_hundred_as_they_are_written():
    assert whole_percents([1, 1, 1]) == [34, 33, 33]
    assert whole_percents([999, 1, 0]) == [100, 0, 0]
    assert sum(whole_percents([1.5, 2.25, 3.1, 7, 11])) == 100


def test_how_long_a_recording_took_is_said_as_people_say_it():
    stretches = {0.0: "0 ms", 12_345: "12.3 s", 59_600: "1 min", 252_000: "4 min 12 s"}
    stretches |= {3_599_700: "1 h", 3_900_000: "1 h 5 min", 97_200_000: "1 d 3 h"}
    assert {ms: units.stretch(ms) for ms in stretches} == stretches
