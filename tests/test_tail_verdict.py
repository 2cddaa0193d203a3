"""A verdict on a percentile: one place decides it, with the tail's own floor, and losses count as
the worst of the tail."""

import numpy as np
import pandas as pd

from lab import stats
from lab.figures.share_card import share_card
from lab.stats.quantiles import tail_ranked, tail_shift
from lab.stats.worst_ranks import Losses

BASE = np.array([100.0] * 85 + [1000.0] * 15)


def compared(base, new, lost: int = 0, cost: float = 1.06) -> stats.Comparison:
    """The arm "new" against "base", a block each; `lost` blocks more in which the arm failed."""
    names = {"technique": "t", "arm": "new"}
    n = len(base)
    rows = [
        pd.DataFrame({"block": range(n), "value": value, "baseline_value": before}).assign(
            metric=metric
        )
        for metric, value, before in (
            ("wait_ms", new, base),
            ("cost_usd", np.full(n, cost), np.ones(n)),
        )
    ]
    pairs = pd.concat(rows, ignore_index=True).assign(
        **names, baseline_technique="t", baseline="base", session_id="s", task_id="one"
    )
    pairs = pairs.assign(
        trial_id=pairs["block"],
        baseline_trial_id=-1 - pairs["block"],
        difference=pairs["value"] - pairs["baseline_value"],
    )
    losses = pd.DataFrame({"lost": [True] * lost, "baseline_lost": False}, index=range(lost))
    return stats.compare_run(
        pairs,
        None,
        {"metric": "wait_ms", "quantile": 0.95, **names},
        settings={"baseline": {"technique": "t", "arm": "base"}},
        losses=losses.assign(**names, outcome="failed") if lost else None,
    )[0]


def test_a_shorter_tail_is_faster_though_most_blocks_are_slower():
    """p95 goes from 1,000 to 110 ms, while 85 of 100 blocks take 10 ms longer."""
    found = compared(BASE, np.full(100, 110.0))
    assert found.verdict == "faster" and found.at == (1000, 110) and found.favourable == 15
    told = stats.verdict(found)
    assert "p95 perceived wait 1,000 → 110 ms, −890 ms" in told.headline
    assert "at +6.0 % cost, n = 100" in told.headline.replace("\u00a0", " ")
    assert told.title.startswith("At p95, new shows text 89")
    assert "110 against 1,000 ms at p95" in told.seen


def test_fewer_than_72_blocks_have_no_verdict_on_p95_and_say_what_was_seen():
    found = compared(BASE[-71:], np.full(71, 50.0))
    assert found.verdict == "not_enough_data" and found.needed_blocks == 1
    told = stats.verdict(found)
    assert "50.0 against 100 ms at the median" in told.headline
    assert "Not enough data for p95: about 1 more block" in told.headline
    assert any("72 are the fewest for p95" in reason for reason in found.reasons)
    assert told.title == "Not enough data for p95: new faster in 71 of 71 blocks"


def test_a_run_of_one_arm_twice_has_no_winner_at_p95():
    """The same hundred waits in another order."""
    rng = np.random.default_rng(2)
    waits = rng.lognormal(5, 0.6, 150)
    assert compared(waits, rng.permutation(waits)).verdict in ("no_difference", "not_enough_data")


def test_lost_trials_are_the_tail():
    """Ten of a hundred and ten fail: their p95 is no answer at all, however fast the others are."""
    fast = np.full(100, 50.0)
    assert compared(BASE, fast).verdict == "faster"
    assert compared(BASE, fast, lost=10).verdict == "fails_more"


def test_lost_trials_make_no_many_tasks_of_a_few():
    """Ten tasks are no clusters, however many trials beside them were lost."""
    rng = np.random.default_rng(4)
    base, new = rng.lognormal(5, 0.6, 400), rng.lognormal(5, 0.6, 400)
    tasks = [f"task {n // 40}" for n in range(400)]
    shift = tail_shift(base, new, 0.95)
    of_tasks, of_blocks = (
        tail_ranked(shift, base, new, 0.95, Losses(6, 6), 1, ids) for ids in (tasks, None)
    )
    assert of_tasks == of_blocks and 0 < of_blocks.p < 1


def test_a_card_names_the_percentile_that_its_bars_show():
    """1,000 and 110 ms are the p95s; the medians are 100 and 110."""
    found = compared(BASE, np.full(100, 110.0))
    card = share_card(found, stats.verdict(found), "somewhere", ("#111111", "#222222"))
    words = " ".join(each.text for each in card.layout.annotations)
    assert "p95 perceived wait · n = 100" in words and "Median" not in words
    assert round(card.data[0].x[0] / card.data[1].x[0], 1) == 9.1


def test_the_order_of_blocks_makes_no_difference_to_the_interval():
    rng = np.random.default_rng(3)
    base, new = rng.lognormal(5, 0.6, 100), rng.lognormal(5, 0.5, 100)
    order = rng.permutation(100)
    assert stats.paired_quantile(base, new, 0.95) == stats.paired_quantile(
        base[order], new[order], 0.95
    )
