"""What is told of a ladder, from blocks whose numbers are known; no server, no clock."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import ladder_order, ladder_record
from lab.ladder.ladder_settings import ladder_config_of
from lab.ladder_results import LadderResult
from tests.test_ladder import climb

LEVERS = ["streamed", "cache", "model"]


def told(search, rows=(), status="finished", levers=LEVERS, **named) -> LadderResult:
    """A ladder of these levers whose search was this, with these trials."""
    config = ladder_config_of(endpoint="simulated", levers=levers, minutes=600, **named)
    record = ladder_record.record(ladder_order.resolve(config), search, [], "")
    return LadderResult({"run_id": "x", "status": status}, record, frame(rows))


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
