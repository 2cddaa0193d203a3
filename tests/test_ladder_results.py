"""What is told of a ladder, from blocks whose numbers are known; no server, no clock."""

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
