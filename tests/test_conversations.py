"""Which calls of a recording belong together."""

from __future__ import annotations

import pytest
from recorded_apps import App, answer, asks, results, says, user


@pytest.fixture
def app() -> App:
    return App()


HELLO = [user("Hello")]
SECOND = [*HELLO, answer(says("Hi")), user("How are you?")]
THIRD = [*SECOND, answer(says("Fine")), user("Good")]


def test_each_call_goes_on_from_the_one_whose_answer_it_brings_back(app):
    app.call(HELLO, 0, 1, says("Hi"))
    app.call(SECOND, 2, 3, says("Fine"))
    app.call(THIRD, 4, 5, says("Bye"))
    assert app.places() == [(1, 0, 1, None), (1, 0, 2, 0), (1, 0, 3, 1)]


def test_a_system_prompt_that_changes_with_every_call_leaves_it_one_conversation(app):
    app.call(HELLO, 0, 1, says("Hi"), system="It is 10:00")
    app.call(SECOND, 2, 3, says("Fine"), system="It is 10:01")
    assert app.places() == [(1, 0, 1, None), (1, 0, 2, 0)]


def test_another_first_message_is_another_conversation(app):
    app.call(HELLO, 0, 1, says("Hi"), system="Be kind")
    app.call([user("Good day")], 2, 3, says("Hi"), system="Be kind")
    assert app.places() == [(1, 0, 1, None), (2, 0, 1, None)]


def test_the_same_first_message_once_more_is_another_conversation(app):
    app.call(HELLO, 0, 1, says("Hi"))
    app.call(HELLO, 2, 3, says("Hi"))
    app.call(SECOND, 4, 5, says("Fine"))
    app.call(SECOND, 6, 7, says("Fine"))
    assert app.places() == [(1, 0, 1, None), (2, 0, 1, None), (2, 0, 2, 1), (1, 0, 2, 0)]


def test_conversations_at_the_same_time_are_told_apart_by_their_answers(app):
    for at, name in enumerate("abc"):
        app.call(HELLO, at / 10, 1, says(f"Hi from {name}"), system="Be kind")
    for at, name in enumerate("cab"):
        told = [*HELLO, answer(says(f"Hi from {name}")), user("Go on")]
        app.call(told, 2 + at / 10, 3, says("So"), system="Be kind")
    assert [place[:3] for place in app.places()] == [
        (1, 0, 1),
        (2, 0, 1),
        (3, 0, 1),
        (3, 0, 2),
        (1, 0, 2),
        (2, 0, 2),
    ]


def test_a_retry_of_a_failed_call_is_the_same_turn(app):
    app.call(HELLO, 0, 1, error="overloaded")
    app.call(HELLO, 2, 3, error="overloaded")
    app.call(HELLO, 4, 5, says("Hi"))
    app.call(SECOND, 6, 7, error="overloaded")
    app.call(SECOND, 8, 9, says("Fine"))
    app.call(HELLO, 10, 11, says("Hi"))
    assert app.places() == [
        (1, 0, 1, None),
        (1, 0, 1, 0),
        (1, 0, 1, 1),
        (1, 0, 2, 2),
        (1, 0, 2, 3),
        (2, 0, 1, None),
    ]


def test_an_edited_turn_is_a_branch_of_its_conversation(app):
    app.call(HELLO, 0, 1, says("Hi"))
    app.call(SECOND, 2, 3, says("Fine"))
    app.call([*SECOND[:2], user("Who are you?")], 4, 5, says("Claude"))
    assert app.places() == [(1, 0, 1, None), (1, 0, 2, 0), (1, 0, 2, 0)]


def test_two_answers_to_one_question_at_once_are_one_turn(app):
    app.call(HELLO, 0, 1, says("Hi"))
    app.call(SECOND, 2, 4, says("Fine"))
    app.call(SECOND, 2.5, 3, says("Well"))
    app.call([*SECOND, answer(says("Well")), user("Good")], 5, 6, says("Bye"))
    assert app.places() == [(1, 0, 1, None), (1, 0, 2, 0), (1, 0, 2, 1), (1, 0, 3, 2)]


def test_few_shot_examples_alike_make_no_conversation(app):
    shown = [user("2 + 2"), answer(says("4")), user("3 + 3"), answer(says("6"))]
    for question in ("4 + 4", "5 + 5", "5 + 5"):
        app.call([*shown, user(question)], int(question[0]), 6, says("8"))
    assert [place[0] for place in app.places()] == [1, 2, 3]


def test_tool_results_bring_a_call_back_even_where_the_first_message_has_changed(app):
    app.call([user("Find it, now 10:00")], 0, 1, asks("toolu_1"))
    app.call([user("Find it"), answer(asks("toolu_1")), results("toolu_1")], 2, 3, says("Here"))
    assert app.places() == [(1, 0, 1, None), (1, 0, 2, 0)]


def test_a_beginning_put_into_the_models_mouth_comes_back_as_a_part_of_the_answer(app):
    app.call([*HELLO, answer(says("{"))], 0, 1, says('"hi": 1}'))
    app.call([*HELLO, answer(says('{"hi": 1}')), user("Go on")], 2, 3, says("So"))
    assert app.places() == [(1, 0, 1, None), (1, 0, 2, 0)]


def test_a_paused_answer_that_is_sent_back_alone_goes_on(app):
    app.call(HELLO, 0, 1, says("Let me look"))
    app.call([*HELLO, answer(says("Let me look"))], 2, 3, says("Found"))
    assert app.places() == [(1, 0, 1, None), (1, 0, 2, 0)]


FIND = [user("Find both")]
BOTH = asks("toolu_1", "toolu_2", name="agent")
FOUND = [*FIND, answer(BOTH), results("toolu_1", "toolu_2")]


def test_what_ran_inside_an_open_tool_call_is_a_sub_agent(app):
    app.call(FIND, 0, 1, BOTH)
    app.call([user("First")], 2, 3, asks("toolu_3"))
    app.call([user("Second")], 2.1, 5, says("Two"))
    app.call([user("First"), answer(asks("toolu_3")), results("toolu_3")], 4, 5, says("One"))
    app.call(FOUND, 6, 7, says("Both"))
    assert app.places() == [
        (1, 0, 1, None),
        (1, 1, 1, 0),
        (1, 2, 1, 0),
        (1, 1, 2, 1),
        (1, 0, 2, 0),
    ]


def test_what_went_on_after_the_tool_call_was_answered_is_no_sub_agent(app):
    app.call(FIND, 0, 1, BOTH)
    app.call(HELLO, 2, 7, says("Hi"))
    app.call(FOUND, 6, 7, says("Both"))
    assert [place[0] for place in app.places()] == [1, 2, 1]


def test_what_could_be_the_sub_agent_of_two_conversations_is_one_by_itself(app):
    other = [user("Find another")]
    app.call(FIND, 0, 1, BOTH)
    app.call(other, 0.1, 1, asks("toolu_9"))
    app.call(HELLO, 2, 3, says("Hi"))
    app.call(FOUND, 6, 7, says("Both"))
    app.call([*other, answer(asks("toolu_9")), results("toolu_9")], 6.1, 7, says("It"))
    assert [place[0] for place in app.places()] == [1, 2, 3, 1, 2]


def test_a_short_conversation_beside_others_of_its_kind_is_nobodys_sub_agent(app):
    other = [user("Find another")]
    app.call(FIND, 0, 1, BOTH)
    app.call(other, 0.5, 4, asks("toolu_9"))
    app.call(HELLO, 2, 3, says("Hi"))
    app.call(FOUND, 6, 7, says("Both"))
    app.call([*other, answer(asks("toolu_9")), results("toolu_9")], 8, 9, says("It"))
    assert [place[0] for place in app.places()] == [1, 2, 3, 1, 2]


def test_the_sources_own_names_count_first(app):
    app.call(HELLO, 0, 1, says("Hi"), conversation="red")
    app.call(SECOND, 2, 3, says("Fine"), conversation="blue")
    app.call([user("Look")], 2, 3, says("There"), conversation="red", agent="scout")
    app.call([user("Look again")], 4, 5, says("There"), conversation="red", agent="scout")
    assert app.places() == [(1, 0, 1, None), (2, 0, 1, None), (1, 1, 1, None), (1, 1, 2, 2)]


def test_after_a_compaction_a_named_conversation_goes_on(app):
    app.call(HELLO, 0, 1, says("Hi"), conversation="red")
    app.call(SECOND, 2, 3, says("Fine"), conversation="red")
    app.call([user("So far: greetings")], 4, 5, says("Yes"), conversation="red")
    assert app.places() == [(1, 0, 1, None), (1, 0, 2, 0), (1, 0, 3, 1)]


def test_a_side_call_of_another_model_is_a_lane_of_its_own(app):
    app.call(HELLO, 0, 3, says("Hi"), conversation="red")
    app.call([user("A title?")], 1, 2, says("T"), conversation="red", model="claude-haiku-5-5")
    app.call(SECOND, 4, 5, says("Fine"), conversation="red")
    assert app.places() == [(1, 0, 1, None), (1, 1, 1, None), (1, 0, 2, 0)]


def test_calls_without_their_prompts_go_by_name_and_stand_alone_without_one(app):
    app.call(None, 0, 1, conversation="red")
    app.call(None, 2, 3, conversation="red")
    app.call(None, 4, 5, conversation="red", agent="scout")
    app.call(None, 6, 7)
    app.call(None, 8, 9)
    assert app.places() == [
        (1, 0, 1, None),
        (1, 0, 2, 0),
        (1, 1, 1, None),
        (2, 0, 1, None),
        (3, 0, 1, None),
    ]


def test_a_recording_without_calls_has_no_conversations(app):
    placed = app.recording().conversations
    assert placed.empty
    assert list(placed) == ["conversation", "lane", "turn", "parent"]
