"""What each technique would be worth in a recording: seconds, dollars, and on what they rest."""

import pytest

from lab import techniques
from lab.recording import worth
from lab.recording.facts import Estimate
from lab.store.store import Store
from tests.recorded_apps import App, answer, asks, results, says, user

LONG = "Answer in one short and friendly sentence, whatever you are asked. " * 400
SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-5-5"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """One for all: a recording does not see another."""
    return Store(tmp_path_factory.mktemp("recordings") / "lab.duckdb")


@pytest.fixture
def app(store) -> App:
    return App(store)


def gain(app: App, words: str):
    """The one row whose title has these words; None where there is none."""
    rows = [row for row in app.recording().worth if words in row.title]
    assert len(rows) <= 1
    return rows[0] if rows else None


def usage(fresh: int, read: int = 0, written: int = 0, out: int = 100) -> dict:
    return {
        "input_tokens": fresh,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": out,
    }


def whole(app: App, at: float, took: float, out: int = 100, reply=None, **body) -> int:
    """An answer that came whole."""
    return app.call(
        [user(f"q {at}")],
        at,
        at + took,
        reply or says("a"),
        usage=usage(500, out=out),
        stream=False,
        **body,
    )


def streamed(app: App) -> None:
    """Twenty answers whose first token comes after 1 s, and 1 ms for each of their tokens."""
    for n in range(20):
        at, tokens = 1000 + 10 * n, 200 + 100 * (n % 5)
        first = at + 1 + tokens / 1000
        app.call([user(f"s {n}")], at, at + 5, says("a"), first=first, usage=usage(tokens),
                 stream=True)  # fmt: skip


def test_a_whole_answer_could_have_been_read_from_its_first_token_on(app):
    streamed(app)
    first, second = whole(app, 0, 4.5), whole(app, 10, 6.5)
    row = gain(app, "Stream 2 answers")
    assert set(row.calls) == {app.ids[first], app.ids[second]}
    assert round(row.seconds.value, 3) == 8.0, "each would have begun after 1.5 s"
    assert (row.fix, row.technique, row.usd, row.is_upper_bound) == (
        "stream",
        "streaming",
        0,
        False,
    )


def test_without_streamed_calls_the_lengths_of_answers_tell_how_long_writing_took(app):
    for n in range(10):
        tokens = 101 + 100 * (n % 3)
        whole(app, 10 * n, 1 + tokens / 100, out=tokens)
    assert round(gain(app, "Stream 10 answers").seconds.value, 3) == 19.0


def test_where_neither_is_known_no_seconds_are_told(app):
    whole(app, 0, 4.5)
    assert gain(app, "Stream 1 answer that").seconds is None


def test_nobody_waits_for_a_tool_call_a_sub_agent_a_word_or_a_form(app):
    whole(app, 0, 4, reply=asks("t1"))
    whole(app, 10, 4, out=2)
    whole(app, 20, 4, output_config={"format": {"type": "json_schema", "schema": {}}})
    app.call([user("failed")], 30, 34, None, error="overloaded_error", stream=False)
    app.call([user("a transcript's")], 40, 44, says("a"), usage=usage(9), whole=False)
    assert gain(app, "Stream") is None


def test_tool_calls_of_one_message_one_after_the_other(app):
    """Of 2 s, 3 s and 1 s the 3 s remain."""
    spans = [("a", 5, 7), ("b", 7, 10), ("c", 10, 11)]
    app.call([user("q")], 0, 5, asks("1", "2", "3"), tools=spans)
    row = gain(app, "Run the tool calls of 1 message at the same time")
    assert row.seconds == Estimate(3, 3, 3) and not row.is_upper_bound
    assert row.technique == "parallelism"


def test_tool_calls_that_ran_at_the_same_time_save_nothing(app):
    app.call([user("q")], 0, 5, asks("1", "2"), tools=[("a", 5, 7), ("b", 5, 8)])
    assert gain(app, "tool calls") is None


def test_where_nobody_timed_the_tools_it_is_at_most_what_equal_ones_would_save(app):
    """Three tools in 6 s: one alone takes 2 s, if they are equal and went one by one."""
    app.call([user("q")], 0, 5, asks("1", "2", "3"))
    app.call([user("q"), answer(asks("1", "2", "3")), results("1", "2", "3")], 11, 12, says("a"))
    row = gain(app, "tool calls of 1 message")
    assert row.seconds == Estimate(4, 0, 4) and row.is_upper_bound
    assert "At most" in row.assumption


def test_a_connection_is_opened_once(app):
    """Three calls one after the other, each on a connection of its own that took 200 ms: the first
    had to open one. A fourth that ran beside the third had to as well."""
    for at in (0, 10, 20, 20.5):
        place = app.call([user(f"q {at}")], at, at + 2, says("a"), usage=usage(9))
        call = app.trials[place].calls[0]
        call.connection_reused, call.connected_ns = False, call.started_ns + 200_000_000
    row = gain(app, "Keep connections open")
    assert list(row.calls) == app.ids[1:3] and round(row.seconds.value, 3) == 0.4
    assert row.is_upper_bound and row.technique is None


def test_what_every_prompt_begins_with_is_marked_once_and_read_after(app):
    """Three calls a minute apart share 26,800 of some 26,810 characters, 5,000 tokens: written once
    for 1.25 times the price and read twice for a twentieth."""
    for n in range(3):
        app.call([user(f"question {n}")], 60 * n, 60 * n + 2, says("a"), first=60 * n + 1,
                 usage=usage(5000), system=LONG, stream=True)  # fmt: skip
    row = gain(app, "Mark the beginning that 2 calls share")
    assert list(row.calls) == app.ids[1:] and row.fix == "add_breakpoint"
    price = 2.00 / 1e6
    shared = 5000 * 26_800 / 26_810
    assert row.usd == pytest.approx(price * shared * (2 * 0.95 - 0.25), rel=0.02)
    assert row.seconds is None, "three calls tell no seconds"
    assert row.is_upper_bound and "estimated from its characters" in row.assumption


@pytest.mark.parametrize(
    "change", [{"apart": 400}, {"model": HAIKU}, {"system": "Be brief."}, {"marked": True}]
)
def test_what_could_not_be_read_is_not_counted(app, change):
    """A pause longer than five minutes, another model, a prompt below the minimum, one marked."""
    for n in range(2):
        at = n * change.get("apart", 60)
        system = [{"type": "text", "text": change.get("system", LONG)}]
        if change.get("marked"):
            system[0]["cache_control"] = {"type": "ephemeral"}
        model = change.get("model", SONNET) if n else SONNET
        tokens = 100 if "system" in change else 5000
        app.call([user(f"question {n}")], at, at + 2, says("a"), usage=usage(tokens), model=model,
                 system=system, stream=True)  # fmt: skip
    assert gain(app, "Mark the beginning") is None


def test_a_pause_of_ten_minutes_is_bridged_by_an_hour_which_costs_more_to_write(app):
    marked = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    messages = []
    for n, at in enumerate((0, 600)):
        messages = [*messages, user(f"question {n}")]
        app.call(messages, at, at + 2, says(f"a {n}"), usage=usage(10, written=5000),
                 system=marked, stream=True)  # fmt: skip
        messages = [*messages, answer(says(f"a {n}"))]
    row = gain(app, "Keep the cache for an hour: 1 pause")
    assert list(row.calls) == app.ids[1:] and row.fix == "ttl_1h"
    written_more, read_instead = 5000 * (4.00 - 2.50) / 1e6, 5000 * (2.50 - 0.10) / 1e6
    assert row.usd == pytest.approx(read_instead - written_more)


def test_a_pause_of_two_hours_is_nothing_to_bridge(app):
    marked = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    for at in (0, 7200):
        app.call([user("q")], at, at + 2, says("a"), usage=usage(10, written=5000), system=marked)
    assert gain(app, "Keep the cache for an hour") is None


def test_misses_are_told_together_by_their_cause(app):
    """A clock in the system prompt, three times."""
    for n in range(4):
        system = [
            {"type": "text", "text": f"It is 09:0{n}:00."},
            {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}},
        ]
        app.call([user("q")], 60 * n, 60 * n + 2, says("a"), usage=usage(10, written=5000),
                 system=system, stream=True)  # fmt: skip
    row = gain(app, "Mend 3 cache misses: a block of the system prompt differs")
    assert list(row.calls) == app.ids[1:] and row.fix == "move_changing"
    assert row.usd == pytest.approx(3 * 5000 * (2.50 - 0.10) / 1e6, rel=0.01)
    assert row.technique == "caching"


def test_what_a_conversation_says_again_behind_its_last_mark_is_told_once(app):
    """The system prompt is marked, the long question is not: nobody else tells of that."""
    marked = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    messages = [user(LONG)]
    for n in range(2):
        app.call(messages, 60 * n, 60 * n + 2, says("a"), system=marked, stream=True,
                 usage=usage(5000, read=5000 * n, written=5000 * (1 - n)))  # fmt: skip
        messages = [*messages, answer(says("a")), user("And?")]
    row = gain(app, "cache miss")
    assert row.title == "Mend 1 cache miss: no breakpoint" and list(row.calls) == app.ids[1:]
    assert row.is_upper_bound and "At most" in row.assumption
    assert gain(app, "Mark the beginning") is None


def test_a_large_model_that_writes_a_word(app):
    whole(app, 0, 3, out=1)
    whole(app, 10, 2, max_tokens=1)
    whole(app, 20, 2, out=1, model=HAIKU)
    row = gain(app, "Ask a small model in 2 calls")
    assert row.seconds == Estimate(5, 0, 5) and row.is_upper_bound
    assert row.usd > 0 and HAIKU in row.assumption and row.technique == "routing"


def test_the_most_seconds_come_first_and_what_is_unknown_last(app):
    spans = [("a", 5, 7), ("b", 7, 10)]
    app.call([user("q")], 0, 5, asks("1", "2"), tools=spans)
    whole(app, 20, 3, out=1)
    whole(app, 30, 3)
    titles = [row.title for row in app.recording().worth]
    assert [title.split()[0] for title in titles] == ["Ask", "Run", "Stream"]


def test_an_empty_recording_has_nothing_to_gain(app):
    assert app.recording().worth == []


def test_a_recording_of_one_call_without_anything_known_has_nothing_to_gain(app):
    app.call(None, 0, 1)
    assert app.recording().worth == []


def test_every_subject_has_a_page_that_shows_it():
    assert techniques.shown().keys() == {"streams", "reads", "tools_together", "small_models"}
    assert worth.A_WORD == 3
