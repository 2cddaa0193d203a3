"""A lost trial is the worst there is, also where more is better: it has no speed at all."""

import numpy as np
import pandas as pd

from lab import stats
from lab.stats.worst_ranks import losses_of
from tests.test_verdict import HEADLINE, around, lost, pairs, with_losses

SPEED = {"metric": "tokens_per_s", "technique": "caching", "arm": "cached"}


def judged(speed: float, answered: int = 10, **losses) -> str:
    """The arm writes so fast in the blocks that both arms answered, the baseline 100 tokens/s."""
    base, new = {"tokens_per_s": around(100, answered)}, {"tokens_per_s": around(speed, answered)}
    rows = pairs(base, {"cached": new})
    return stats.compare_run(rows, None, SPEED, losses=lost(**losses))[0].verdict


def test_one_failure_of_thirteen_is_enough_for_when_it_answers():
    """The worst rank is 13, and sums up to 17 of 91 show it; with one lost by each it is fair."""
    assert judged(150, 12, arm=1) == "faster_when_it_answers"
    assert judged(150, 12, arm=1, baseline=1) == "faster"


def test_failures_lead_whatever_the_verdict_is():
    """One of five failed, and four blocks are too few; ten were faster, and eight failed."""
    for new, answered, arm in ((50, 4, 1), (200, 10, 8)):
        rows = pairs(
            {"tokens_per_s": around(100, answered)},
            {"cached": {"tokens_per_s": around(new, answered)}},
        )
        one = stats.compare_run(rows, None, SPEED, losses=lost(arm=arm))[0]
        assert stats.verdict(one).headline.startswith(f"Cached: {arm} of {answered + arm} failed")


def test_less_of_a_speed_ranks_as_worse():
    """Ten of ten blocks slower, then ten faster: all 55 ranks on one side."""
    for gain, side in ((-10.0, "slower"), (10.0, "faster")):
        ranked = stats.worst_ranked(np.full(10, gain), stats.Losses(), sign=-1)
        assert (ranked.side, ranked.p) == (side, stats.intervals.signed_rank_p(0, 10))


def test_a_speed_of_answers_alone_is_no_finding_where_the_rest_failed():
    """Eight worst ranks of eighteen, 11 to 18, are 116 of 171 against the arm."""
    assert judged(150) == judged(150, baseline=8) == "faster"
    assert judged(150, arm=8) == "fails_more"


def test_a_lower_speed_and_failures_point_the_same_way():
    assert judged(50) == judged(50, arm=8) == "slower"
    assert judged(50, baseline=8) == "not_enough_data"


def test_losses_are_of_one_techniques_arm():
    """Two techniques of a mixed run may have an arm of one name."""
    rows = pd.concat([lost(arm=2), lost(arm=3).assign(technique="routing")])
    assert losses_of(rows, ("caching", "cached")) == stats.Losses(arm=2)


def test_what_missed_the_cache_is_the_arms_own_loss():
    assert losses_of(lost(both=6, missed=6), ("caching", "cached")).missed == 6
    assert losses_of(lost(baseline=3, missed=3), ("caching", "cached")).missed == 0


def test_blocks_that_both_lost_count_as_run():
    assert stats.worst_ranked(np.full(10, -1.0), stats.Losses(both=5), sign=1).blocks == 15
    one = with_losses(10, arm=1, both=2)
    assert one.blocks == 13
    assert stats.verdict(one).headline.startswith("Cached: 3 of 13 failed, uncached: 2")


def test_losses_make_the_p_of_a_gain_larger():
    assert with_losses(10, arm=4).p > with_losses(10).p


def test_as_fast_where_it_answers_and_often_silent_is_failing_more():
    """±40 ms in twelve blocks: ten worst ranks more, 13 to 22, leave 39 of 253 for the arm; one
    alone leaves 39 of 91."""
    rows = pairs(
        {"ttft_ms": [1000] * 12},
        {"cached": {"ttft_ms": [1000 + 40 * (-1) ** k for k in range(12)]}},
    )
    said = [
        stats.compare_run(rows, None, HEADLINE, losses=lost(arm=arm))[0].verdict
        for arm in (0, 1, 10)
    ]
    assert said == ["no_difference", "no_difference", "fails_more"]


def test_an_arm_that_fails_and_is_worse_is_not_faster_when_it_answers():
    rows = pairs(
        {"ttft_ms": around(2000, 18), "quality": [1.0] * 18},
        {"cached": {"ttft_ms": around(1000, 18), "quality": [0.0] * 18}},
    )
    one = stats.compare_run(rows, None, HEADLINE, losses=lost(arm=2))[0]
    assert one.verdict == "faster_but_worse"
    assert stats.verdict(one).headline.startswith("Cached: 2 of 20 failed")


def test_faster_in_a_speed_is_more_of_it_and_no_instrument_of_ms_greys_it():
    rows = pairs({"tokens_per_s": around(100, 10)}, {"cached": {"tokens_per_s": around(150, 10)}})
    one = stats.compare_run(rows, None, SPEED, settings={"instrument_ms": 60})[0]
    assert (one.favourable, one.greyed) == (10, None)
