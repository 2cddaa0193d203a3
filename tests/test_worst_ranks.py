"""Where more is better a lost trial is still the worst there is: it has no speed at all."""

import numpy as np

from lab import stats
from tests.test_verdict import around, lost, pairs

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
