"""A recording's conversations as what users do under load: in order, with their own pauses."""

from dataclasses import replace

import pytest

from lab import load_estimate, load_order, load_sessions
from lab.load.load_settings import load_config_of
from lab.load.profile import Step
from lab.model import LabError
from lab.store.store import Store
from tests import app_recordings
from tests.app_recordings import STABLE, body
from tests.recorded_apps import App, answer, asks, results, says, user


def steps(lane):
    """Of a play: the places of its calls and its pauses."""
    return [(step.template, step.pause_s) for step in lane]


def lanes_of(app, left=()):
    kept = set(app.ids) - {app.ids[place] for place in left}
    return load_sessions._lanes(app.recording(), kept)


def test_a_conversation_keeps_its_order_and_its_pauses():
    """Asked at 0, answered at 2; the user reads until 7; asked again, answered at 8, and at 10."""
    app = App()
    said = [user("hello")]
    app.call(said, 0, 2, says("hi"))
    said += [answer(says("hi")), user("more")]
    app.call(said, 7, 8, says("yes"))
    app.call([*said, answer(says("yes")), user("less")], 10, 11, says("no"))
    (lane,) = lanes_of(app)
    assert list(lane.calls) == app.ids and list(lane.pauses_s) == [0, 5, 2]
    assert not lane.is_agent and lane.left == 0


def test_a_tool_that_ran_is_a_pause():
    app = App()
    first = [user("find it")]
    app.call(first, 0, 2, asks("u1"), tools=[("search", 2, 5)])
    app.call([*first, answer(asks("u1")), results("u1")], 5.5, 6, says("found"))
    assert lanes_of(app)[0].pauses_s[1] == 3.5


def test_the_time_of_a_call_that_cannot_be_asked_again_is_no_pause():
    """It failed from 3 to 5, and was asked again at 6: 1 s before it and 1 s after it."""
    app = App()
    first = [user("hello")]
    app.call(first, 0, 2, says("hi"))
    again = [*first, answer(says("hi")), user("more")]
    app.call(again, 3, 5, error="overloaded_error")
    app.call(again, 6, 7, says("yes"))
    (lane,) = lanes_of(app, left=[1])
    assert list(lane.calls) == [app.ids[0], app.ids[2]] and lane.left == 1
    assert list(lane.pauses_s) == [0, 2]


def test_a_sub_agent_is_a_user_of_its_own_and_its_conversation_waits_for_it_as_recorded():
    app = App()
    first = [user("delegate")]
    app.call(first, 0, 1, asks("u1", name="agent"))
    app.call([user("you search")], 2, 4, says("done"), agent="searcher")
    app.call([*first, answer(asks("u1", name="agent")), results("u1")], 5, 6, says("fine"))
    main, agent = lanes_of(app)
    assert (main.is_agent, agent.is_agent) == (False, True)
    assert list(main.pauses_s) == [0, 4] and list(agent.pauses_s) == [0]
    assert agent.began_s - main.began_s == 2


@pytest.fixture
def recorded(db):
    """Two conversations: the first of two requests, the second of one; a call begins every 10 s
    and takes 1.5 s."""
    bodies = [body(STABLE, "one"), body(STABLE, "one", "Yes.", "two"), body(STABLE, "other")]
    return app_recordings.record(Store(), bodies)


def config(run_id, **more):
    return load_config_of(**{"scenario": f"recording:{run_id}", "warmup": 0, "seed": 1} | more)


def test_the_load_asks_what_was_recorded(recorded):
    known = load_sessions.sessions(config(recorded))
    assert known.plays == ((Step(0, 0), Step(1, 8.5)), (Step(2, 0),))
    assert known.at_s == (0, 20) and known.endpoint.name == "simulated"
    assert [len(task.body["messages"]) for task in known.tasks] == [1, 3, 1]
    assert [task.task_id for task in known.tasks] == ["call-1", "call-2", "call-3"]
    assert known.about == ("2 conversations of the recording, 3 requests, with their own pauses.")


def test_an_order_of_a_recording_has_its_conversations_as_plays(recorded):
    order = load_order.resolve(config(recorded, warmup=1, concurrency=[2]))
    assert order.plays == ((Step(1, 0), Step(2, 8.5)), (Step(3, 0),))  # 0 is the warm-up's
    assert order.about.startswith("2 conversations") and len(order.bodies) == 4
    level = order.plan.level(1, 2)
    assert level.requests >= 96 and {len(play) for play in level.plays} == {1, 2}


def test_an_estimate_counts_the_pauses(recorded):
    """One user takes the 8.5 s too; two at once need half as long for it all."""
    order = load_order.resolve(config(recorded, concurrency=[1], requests=3))
    hasty = replace(order, plays=((Step(0), Step(1)), (Step(2),)))
    assert seconds_of(order) - seconds_of(hasty) == pytest.approx(8.5)
    two = replace(order, config=config(recorded, concurrency=[2], requests=3))
    assert seconds_of(two) == pytest.approx(seconds_of(order) / 2)


def seconds_of(order):
    return load_estimate.of_order(order).seconds


def test_conversations_begin_when_they_did(recorded):
    order = load_order.resolve(config(recorded, arrivals="recorded"))
    level = order.plan.level(1, order.targets[0])
    assert level.plays == ((Step(0, 0), Step(1, 8.5)), (Step(2, 0),)) and level.at_s == (0, 20)


def test_a_long_pause_is_shortened_and_said(recorded, monkeypatch):
    monkeypatch.setattr(load_sessions, "LONGEST_PAUSE_S", 5.0)
    known = load_sessions.sessions(config(recorded))
    assert steps(known.plays[0]) == [(0, 0), (1, 5.0)]
    assert "1 pause shortened to 5 s" in known.about


def test_calls_that_are_named_are_asked_alone(recorded):
    known = load_sessions.sessions(config(f"{recorded}:2,3"))
    assert known.plays == ((Step(0, 0),), (Step(1, 0),)) and known.at_s == (0, 20)
    assert "1 call left out" in known.about


def test_a_large_recording_is_cut_between_conversations_and_says_so(recorded, monkeypatch):
    monkeypatch.setattr(load_sessions, "MOST_CALLS", 2)
    known = load_sessions.sessions(config(recorded))
    assert [len(play) for play in known.plays] == [2]
    assert "1 later conversation left out" in known.about
    monkeypatch.setattr(load_sessions, "MOST_CALLS", 1)
    assert [len(play) for play in load_sessions.sessions(config(recorded)).plays] == [1]


def test_a_recording_without_text_is_a_sentence(db):
    run_id = app_recordings.record(Store(), [body(STABLE, "one")], keep_text=False)
    with pytest.raises(LabError, match="kept no text, so it cannot be replayed"):
        load_sessions.sessions(config(run_id))
