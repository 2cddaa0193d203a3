"""What is told of a ladder, from blocks whose numbers are known; no server, no clock."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import ladder_order, ladder_record, ladder_results
from lab.figures import ladder_rungs
from lab.ladder.kept import Kept
from lab.ladder.ladder_settings import ladder_config_of
from lab.ladder.search import Outcome, Search
from lab.ladder_results import LadderResult
from tests.test_ladder import climb

LEVERS = ["streamed", "cache", "model"]


def told(search, rows=(), status="finished", levers=LEVERS, **named) -> LadderResult:
    """A ladder of these levers whose search was this, with these trials."""
    config = ladder_config_of(endpoint="simulated", levers=levers, minutes=600, **named)
    record = ladder_record.record(ladder_order.resolve(config), search, [], "")
    run = {"run_id": "x", "status": status, "endpoint": "simulated", "endpoint_kind": "simulated"}
    return LadderResult(run, record, frame(rows))


def frame(rows) -> pd.DataFrame:
    names = ["block", "arm", "outcome", "value"]
    usual = {"phase": "measured", "task_id": "a", "quality": 1.0, "served_usd": 0.01}
    return pd.DataFrame(rows, columns=names).assign(**usual)


def blocks(today, winner, first=1):
    """Each block's two times, ms."""
    return [
        (block, arm, "ok", value)
        for block, pair in enumerate(zip(today, winner, strict=True), first)
        for arm, value in zip(("today", "winner"), pair, strict=True)
    ]


@pytest.fixture(scope="module")
def halves():
    """A search whose first lever halves."""
    return climb(lambda c: 500 if c[0] else 1000)


# What is quoted


def tail(halves, today, winner):
    return told(halves, blocks(today, winner), objective="wait_ms:p95").quoted


def test_a_p95_of_half_the_time_is_quoted_as_half_of_it(halves):
    today = [1000 + n for n in range(100)]
    quoted = tail(halves, today, [value / 2 for value in today])
    assert quoted[:3] == pytest.approx((-0.5, -0.5, -0.5)) and quoted.n == 100


def test_the_interval_of_a_p95_holds_as_often_as_it_says(halves):
    """Half the time, both with tails of their own: of 40 ladders all but a few cover −50 %."""
    random = np.random.default_rng(1)
    seen = [
        tail(halves, *(mean * np.exp(random.normal(0, 0.8, 100)) for mean in (1000, 500)))
        for _ in range(40)
    ]
    assert sum(one.low <= -0.5 <= one.high for one in seen) >= 35
    assert min(one.low for one in seen) > -1


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(0, 3), st.floats(0, 3))
def test_nothing_gets_faster_by_more_than_all_of_its_time(halves, seed, before, after):
    random = np.random.default_rng(seed)
    quoted = tail(halves, *(np.exp(random.normal(7, spread, 80)) for spread in (before, after)))
    assert -1 <= quoted.low <= quoted.high and quoted.change >= -1


# What was lost


def stopped(halves, *last):
    """Twelve whole blocks, and what became of the thirteenth's trials."""
    rows = blocks([1000 + n for n in range(12)], [500 + n for n in range(12)])
    rows += [(13, arm, outcome, None) for arm, outcome in last]
    return told(halves, rows, status="interrupted")


def test_a_trial_of_the_winner_that_a_stop_cuts_short_is_no_loss(halves):
    result = stopped(halves, ("winner", "cancelled"))
    assert result.refusal == "" and result.lost == (0, 0) and result.quoted.n == 12


def test_a_trial_of_today_that_a_stop_cuts_short_hides_no_loss_of_the_winner(halves):
    result = stopped(halves, ("winner", "failed"), ("today", "cancelled"))
    assert result.lost == (1, 0)
    assert "1 of its trials did not end well, 0 of today's" in result.refusal


def test_a_stack_that_a_stop_cuts_short_has_lost_no_trial_in_the_search(halves):
    rows = [(1, "today", "ok", 1000), (1, "streamed", "ok", 500)]
    rows = frame([*rows, (2, "today", "failed", None), (2, "streamed", "cancelled", None)])
    result = dataclasses.replace(told(halves), trials=rows.assign(phase="screened"))
    counts = result.candidates.set_index("arm")[["n", "lost"]].loc[["today", "streamed"]]
    assert counts.to_numpy().tolist() == [[1, 1], [1, 0]]


# What two levers do together


def together(of, today=None, **named) -> list[str]:
    """What is told where two levers, both at their first level or at their second, take these
    shares of today's time."""
    search = climb(lambda c: 1000 * of[c], levels=(2, 2), noise=0.1, **named)
    objective = "wait_ms:p95" if named.get("is_tail") else "wait_ms:p50"
    levers = ["cache", "model"]
    return told(search, levers=levers, objective=objective, today=today or {}).interactions


def of_two(first, second, both):
    return {(0, 0): 1, (1, 0): first, (0, 1): second, (1, 1): both}


@pytest.mark.parametrize("is_tail", [False, True])
def test_levers_that_touch_each_other_do_not_add(is_tail):
    """A cached prefix saves 40 %, the small model 20 %; with a cached prefix it only writes
    slower."""
    (words,) = together(of_two(0.6, 0.8, 0.75), is_tail=is_tail)
    start = "Cached prefix and small model do not add: −40 % and −20 % alone, −25 % together (+"
    assert words.startswith(start)


def test_a_level_is_told_by_the_same_words_everywhere():
    """Today asks the small model: the large one is a level that has no words of its own."""
    (words,) = together(of_two(0.6, 0.8, 0.75), today={"model": "small"})
    assert words.startswith("Cached prefix and model: large do not add: ")


@pytest.mark.parametrize("is_tail", [False, True])
@pytest.mark.parametrize("both", [0.2, 0.36, 0.28])
def test_levers_that_add_in_ms_or_multiply_are_not_said_to_touch_each_other(is_tail, both):
    """Each saves 400 of 1,000 ms: both 800 where they add, 640 where they multiply."""
    assert together(of_two(0.6, 0.6, both), is_tail=is_tail) == []


def test_levers_that_save_more_together_say_so():
    (words,) = together(of_two(0.8, 0.8, 0.3))
    assert "save more together than one by one: −20 % and −20 % alone, −70 % together" in words


def test_levers_that_slow_are_never_said_to_save():
    """Each takes 20 % longer, both 70 %."""
    (words,) = together(of_two(1.2, 1.2, 1.7))
    assert "save" not in words
    assert "take longer together than one by one: +20 % and +20 % alone, +70 % together" in words


def test_an_interaction_of_an_earlier_version_is_read_and_not_told(halves):
    old = {"levers": ["cache", "model"], "change": 0.5, "low": 0.4, "high": 0.6, "p": 0.0}
    record = Kept.model_validate({**told(halves).record, "together": [old]}).model_dump()
    assert dataclasses.replace(told(halves), record=record).interactions == []


# What is not in the stack


def test_a_lever_whose_first_level_always_fails_may_be_in_the_stack_by_its_second():
    def takes(c):
        return None if c[0] == 1 else 1000 * (0.4 if c[0] else 1) * (0.8 if c[1] else 1)

    result = told(climb(takes, levels=(3, 2)), levers=["model", "cache"])
    assert result.winner["model"] == "routed"
    assert {(rung.lever, rung.words) for rung in result.rungs} == {
        ("model", "small model for easy questions"),
        ("cache", "cached prefix"),
    }
    (left,) = result.others
    assert (left.words, left.reason) == ("small model", "left out: no fast mode")


def test_the_second_level_of_a_lever_whose_first_always_fails_stays_visible():
    def takes(c):
        return None if c[0] == 1 else 1000 * (1.5 if c[0] else 1) * (0.8 if c[1] else 1)

    result = told(climb(takes, levels=(3, 2)), levers=["model", "cache"])
    assert [(rung.words, rung.reason) for rung in result.others] == [
        ("small model for easy questions", "makes it slower"),
        ("small model", "left out: no fast mode"),
    ]


# How it is kept and drawn


def test_every_stack_that_eight_levers_try_is_kept_the_winner_among_them():
    """Small effects in noise: more than a hundred stacks are tried, the winner late."""
    noise = np.random.default_rng(5)
    search = Search([2] * 8, most_screened=400)
    shares = np.array([-0.3, -0.1, -0.1, -0.05, -0.05, -0.02, -0.02, 0])
    while ask := search.next():
        times = {c: 1000 * float(np.exp(shares @ c + noise.normal(0, 0.25))) for c in ask.stacks}
        search.add({c: Outcome(ms) for c, ms in times.items()})
    result = told(search, levers=[], scenario="tools")
    stacks = {c for _, block in search.blocks for c in block}
    assert len(result.record["tried"]) == len(stacks) > 100
    assert result.candidates["is_winner"].sum() == 1


@pytest.fixture(scope="module")
def two_of_three_levels():
    """Two levers of three levels each; a stack has the first one's last level."""
    return climb(lambda c: 1000 * (1, 0.9, 0.5)[c[0]] * (1, 1.3, 1.6)[c[1]], levels=(3, 3))


def drawn(search, rows=(), objective="wait_ms:p50"):
    result = told(search, rows, levers=["model", "effort"], objective=objective)
    return result, str(ladder_rungs.of(result).to_dict())


def test_levers_are_counted_and_not_their_levels(two_of_three_levels):
    confirmed = blocks([1000 + n for n in range(12)], [500 + n for n in range(12)])
    result, figure = drawn(two_of_three_levels, confirmed)
    assert len(result.rungs) == 1 and len(result.others) == 3
    assert "1 of 2 levers is in the stack" in figure
    assert "What the search saw of 2 levers" in drawn(two_of_three_levels)[1]


def test_what_a_search_for_p95_says_is_about_the_mean(two_of_three_levels):
    result, figure = drawn(two_of_three_levels, objective="wait_ms:p95")
    lines = "\n".join(ladder_results.told(result)), ladder_results.markdown(result)
    assert "change in perceived wait, mean as each joins" in figure
    for text in lines:
        assert "The rungs, by the search (perceived wait, mean):" in text
    assert "(perceived wait, p50)" in "\n".join(ladder_results.told(drawn(two_of_three_levels)[0]))
