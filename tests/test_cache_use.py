"""What each call could have read from the cache, and the share of it that it did read."""

from __future__ import annotations

import pytest
from recorded_apps import App, answer, says, user

from lab.recording import cache_use, misses

MARK = {"type": "ephemeral"}
MARKED = [{"type": "text", "text": "Be kind", "cache_control": MARK}]


@pytest.fixture
def app() -> App:
    return App()


def usage(read: int = 0, written: int = 0, uncached: int = 0) -> dict[str, int]:
    return {
        "input_tokens": uncached,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": 1,
    }


def could(app: App) -> list[float | None]:
    use = app.recording().cache_use.loc[app.ids]
    return [None if tokens != tokens else tokens for tokens in use["could_read"]]


def share(app: App) -> float | None:
    return cache_use.hit_share(app.recording().cache_use)


def turns(count: int) -> list[dict]:
    """Messages of a conversation up to its `count`-th question, with a breakpoint there."""
    messages = []
    for turn in range(count):
        messages += [user(f"question {turn}"), answer(says(f"answer {turn}"))]
    last = {"type": "text", "text": f"question {count - 1}", "cache_control": MARK}
    return [*messages[:-2], {"role": "user", "content": [last]}]


def test_tokens_are_those_that_the_api_counted(app):
    app.call(turns(1), 0, 1, usage=usage(100, 20, 3))
    app.call(turns(1), 2, 3)
    use = app.recording().cache_use
    assert use.iloc[0].tolist()[:3] == [100, 20, 3]
    assert use.iloc[1].isna().all()


def test_first_use_and_new_tokens_count_against_nobody(app):
    for turn in range(3):
        read = 1000 * turn
        app.call(
            turns(turn + 1),
            10 * turn,
            10 * turn + 1,
            says(f"answer {turn}"),
            usage=usage(read, 1000, 5),
        )
    assert could(app) == [0, 1000, 2000]
    assert share(app) == 1.0


def test_a_read_keeps_what_it_read_for_another_five_minutes(app):
    """Read after 200 s, it lives until 500 s: the miss after 400 s counts."""
    for at, counts in ((0, usage(0, 1000)), (200, usage(1000)), (400, usage(0, 0, 1000))):
        app.call([user(f"at {at}")], at, at + 1, says("a"), usage=counts, system=MARKED)
    assert could(app) == [0, 1000, 1000]
    assert share(app) == 0.5


def test_what_was_not_read_though_it_was_there_lowers_the_share(app):
    app.call(turns(1), 0, 1, says("answer 0"), usage=usage(0, 1000))
    app.call(turns(2), 10, 11, says("answer 1"), usage=usage(0, 2000))
    app.call(turns(3), 20, 21, says("answer 2"), usage=usage(2000, 1000))
    assert could(app) == [0, 1000, 2000]
    assert share(app) == pytest.approx(2000 / 3000)


def test_a_system_prompt_that_changes_loses_what_the_call_before_had_cached(app):
    for turn in range(3):
        app.call(
            turns(turn + 1),
            10 * turn,
            10 * turn + 1,
            says(f"answer {turn}"),
            usage=usage(0, 1000 * (turn + 1)),
            system=f"It is 10:0{turn}",
        )
    assert could(app) == [0, 1000, 2000]
    assert share(app) == 0.0


@pytest.mark.parametrize(
    ("ttl", "pause", "there"),
    [
        ("5m", 299, 1000),
        ("5m", 301, 0),
        ("1h", 3599, 1000),
        ("1h", 3601, 0),
    ],
)
def test_an_entry_lives_from_the_start_of_the_request_that_wrote_it(app, ttl, pause, there):
    mark = {"type": "ephemeral", "ttl": ttl}
    system = [{"type": "text", "text": "Be kind", "cache_control": mark}]
    app.call([user("a")], 0, 60, usage=usage(0, 1000), system=system)
    app.call([user("b")], pause, pause + 1, usage=usage(0, 1000), system=system)
    assert could(app) == [0, there]


@pytest.mark.parametrize(("pause", "there"), [(299, 1000), (301, 0)])
def test_what_the_call_before_left_is_there_no_longer_than_that(app, pause, there):
    app.call(turns(1), 0, 1, says("answer 0"), usage=usage(0, 1000), system=MARKED)
    changed = [MARKED[0] | {"text": "Be brief"}]
    app.call(turns(2), pause, pause + 1, usage=usage(0, 1100), system=changed)
    assert could(app) == [0, there]


def test_reading_gives_it_a_new_life(app):
    for start in (0, 200, 400):
        read = 1000 if start else 0
        app.call(
            [user(f"at {start}")], start, start + 1, usage=usage(read, 1000 - read), system=MARKED
        )
    assert could(app) == [0, 1000, 1000]


def test_an_entry_can_be_read_once_its_answer_has_begun(app):
    app.call([user("a")], 0, 9, first=3, usage=usage(0, 1000), system=MARKED)
    app.call([user("b")], 2.9, 5, usage=usage(0, 1000), system=MARKED)
    app.call([user("c")], 3.1, 5, usage=usage(1000, 0), system=MARKED)
    assert could(app) == [0, 0, 1000]


def test_another_model_has_a_cache_of_its_own(app):
    app.call([user("a")], 0, 1, usage=usage(0, 1000), system=MARKED)
    app.call([user("b")], 2, 3, usage=usage(0, 1000), system=MARKED, model="claude-haiku-5-5")
    assert could(app) == [0, 0]


def test_what_no_usage_told_is_told_by_characters_until_a_read_tells_it(app):
    """Of 12 characters 7 are the system prompt: of 1,200 tokens 700."""
    app.call(turns(1), 0, 1, usage=usage(0, 1500), system=MARKED)
    app.call([user("other")], 2, 3, usage=usage(0, 0, 1200), system=MARKED)
    assert (could(app), share(app)) == ([0, 700], 0)
    use = app.recording().cache_use
    assert use["is_counted"].tolist() == [True, False] and not cache_use.is_counted(use)
    assert cache_use.doubt(use) == "what 1 call could have read is told by characters"
    app.call([user("third")], 4, 5, usage=usage(1000, 0, 200), system=MARKED)
    assert (could(app), share(app)) == ([0, 1000, 1000], 0.5)
    assert cache_use.is_counted(app.recording().cache_use)


def test_a_longer_prefix_that_is_read_brings_back_no_shorter_one_that_had_expired(app):
    """The system prompt was last used at 0 s. At 410 s something longer is read."""
    app.call([user("a")], 0, 1, usage=usage(0, 1000), system=MARKED)
    app.call(turns(1), 400, 401, usage=usage(0, 2000), system="Be kind")
    app.call(turns(1), 410, 411, usage=usage(2000), system="Be kind")
    app.call([user("c")], 420, 421, usage=usage(0, 1000), system=MARKED)
    assert could(app) == [0, 0, 2000, 0]
    recording = app.recording()
    last = misses.of(recording.asked, recording.pieces, None)[-1]
    assert (last.call_id, last.cause) == (app.ids[-1], "expired")


def test_a_read_that_leaves_nothing_to_write_ends_with_the_last_breakpoint(app):
    """The second call wrote 1,800 tokens and told no usage: they are not the system prompt's, which
    has 7 of 12 characters of the last call."""
    app.call(turns(1), 0, 1, usage=usage(0, 1500), system=MARKED)
    other = [{"role": "user", "content": [{"type": "text", "text": "o", "cache_control": MARK}]}]
    app.call(other, 2, 3, error="cancelled", system=MARKED)
    app.call(other, 10, 11, usage=usage(1800), system=MARKED)
    app.call([user("third")], 12, 13, usage=usage(0, 0, 1200), system=MARKED)
    assert could(app)[-1] == 700


def test_of_two_prefixes_the_longer_one_has_more_tokens(app):
    """What was read, 1,500 tokens, is longer than both system blocks, of 1,000: not the first."""
    both = [*MARKED, {"type": "text", "text": "Be brief", "cache_control": MARK}]
    app.call([user("a")], 0, 1, usage=usage(0, 1000), system=both)
    app.call(turns(1), 2, 3, usage=usage(1500, 100), system=both)
    app.call([user("third")], 4, 5, usage=usage(0, 0, 1200), system="Be kind")
    assert could(app)[-1] == 700


def test_of_two_counts_that_are_nearly_alike_the_one_that_was_read_is_the_nearest(app):
    """The question, 10 tokens behind the system prompt's 1,000, was last used at 0 s."""
    app.call(turns(1), 0, 1, usage=usage(0, 1010), system=MARKED)
    for at, count in ((200, 1), (310, 2), (320, 1)):
        messages = [user("a")] if at == 200 else turns(count)
        app.call(messages, at, at + 1, usage=usage(1000, 10 if at > 200 else 0), system=MARKED)
    assert could(app) == [0, 1000, 1000, 1000]


def test_a_breakpoint_that_may_be_below_the_minimum_counts_against_nobody(app):
    """About 600 tokens: above 512, but not for sure."""
    app.call(turns(1), 0, 1, usage=usage(0, 1500), system=MARKED)
    app.call([user("other")], 2, 3, usage=usage(0, 0, 1028), system=MARKED)
    assert could(app) == [0, 0]


def test_what_was_written_for_an_hour_ends_with_the_last_breakpoint_of_an_hour(app):
    hour = {"type": "ephemeral", "ttl": "1h"}
    system = [{"type": "text", "text": "Be kind", "cache_control": hour}]
    split = {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 1000}
    app.call(turns(1), 0, 1, usage=usage(0, 1500) | {"cache_creation": split}, system=system)
    app.call([user("other")], 2, 3, usage=usage(0, 1000), system=system)
    assert could(app) == [0, 1000]


def test_a_call_without_a_breakpoint_could_have_read_what_another_wrote(app):
    app.call([user("a")], 0, 1, usage=usage(0, 1000), system=MARKED)
    app.call([user("b")], 2, 3, usage=usage(0, 0, 1010), system="Be kind")
    assert could(app) == [0, 1000]


def test_automatic_caching_has_its_breakpoint_behind_the_last_block(app):
    for turn in range(2):
        app.call(
            [*turns(turn + 1)[:-1], user(f"question {turn}")],
            10 * turn,
            10 * turn + 1,
            says(f"answer {turn}"),
            usage=usage(1000 * turn, 1000),
            cache_control=MARK,
        )
    assert could(app) == [0, 1000]


def test_it_is_never_more_than_the_prompt(app):
    app.call(turns(1), 0, 1, says("answer 0"), usage=usage(0, 5000))
    app.call(turns(2), 2, 3, usage=usage(0, 900, 100), system="new")
    assert could(app) == [0, 1000]


def test_after_a_compaction_only_what_stayed_the_same_could_be_read(app):
    app.call(turns(3), 0, 1, usage=usage(0, 5000), conversation="red")
    app.call(turns(1), 2, 3, usage=usage(0, 6000), conversation="red")
    assert could(app)[1] == 0


def test_a_sub_agent_is_not_held_against_the_call_that_began_it(app):
    app.call(turns(1), 0, 1, usage=usage(0, 1000), conversation="red")
    app.call([user("Look")], 2, 3, usage=usage(0, 2000), conversation="red", agent="scout")
    assert could(app) == [0, 0]


def test_what_cannot_be_told_is_null(app):
    app.call(turns(1), 0, 1, usage=usage(500, 100), whole=False)
    app.call(None, 2, 3, usage=usage(700, 0, 100))
    app.call([user("by itself")], 4, 5, usage=usage(300, 0, 300))
    assert could(app) == [None, None, None]
    assert share(app) is None
    use = app.recording().cache_use
    assert cache_use.read_share(use) == 0.75
    assert cache_use.doubt(use) == "what 3 calls could have read is not known and left out"


def test_nothing_recorded_has_no_share(app):
    use = app.recording().cache_use
    assert (cache_use.hit_share(use), cache_use.read_share(use)) == (None, None)
