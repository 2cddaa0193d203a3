"""Each formula against a published example, or against numbers one can check in the head."""

import math
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from lab import stats
from lab.stats import intervals, ranked_sums
from lab.stats.intervals import signed_rank_cdf

BEFORE = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
AFTER = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])


def test_the_depression_scores_of_hollander_and_wolfe():
    """Nonparametric Statistical Methods (1999), examples 3.1, 3.3 and 3.4: θ̂ = −0.46, interval
    (−0.786, −0.010), one-sided p = 0.0195."""
    found = stats.hodges_lehmann(AFTER - BEFORE)
    assert (round(found.estimate, 3), round(found.low, 3), round(found.high, 3)) == (
        -0.46,
        -0.786,
        -0.01,
    )
    assert found.p == pytest.approx(2 * 0.01953, abs=1e-4)
    assert found.p == pytest.approx(scipy_stats.wilcoxon(AFTER - BEFORE).pvalue)


def test_the_permeability_of_hollander_and_wolfe():
    """Examples 4.1 and 4.3: ten membranes at term, five earlier; the shift is 0.305."""
    at_term = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
    earlier = [1.15, 0.88, 0.90, 0.74, 1.21]
    found = stats.shift(earlier, at_term)
    assert found.estimate == pytest.approx(0.305)
    assert found.low < 0 < found.high


def test_the_sample_floors_of_each_percentile():
    assert [stats.needed(q) for q in (0.5, 0.9, 0.95, 0.99, 0.999)] == [6, 36, 72, 368, 3688]
    assert [stats.supported(n, 0.95) for n in (71, 72)] == [False, True]


def test_five_blocks_have_no_interval_and_six_have_one():
    assert stats.hodges_lehmann([1, 2, 3, 4, 5]).low is None
    six = stats.hodges_lehmann([1, 2, 3, 4, 5, 6])
    assert (six.low, six.high, six.p) == (1, 6, 2 / 64)


def test_ranks_of_three_blocks_are_counted():
    assert signed_rank_cdf(3).tolist() == [1 / 8, 2 / 8, 3 / 8, 5 / 8, 6 / 8, 7 / 8, 1]


def test_the_interval_excludes_zero_exactly_where_the_test_rejects():
    random = np.random.default_rng(1)
    for n in (6, 7, 20, 130):
        for _ in range(50):
            found = stats.hodges_lehmann(random.normal(0.5, 1, n).round(1))
            assert (found.low > 0 or found.high < 0) == (found.p <= 0.05)


def test_a_halved_latency_has_the_ratio_one_half_whatever_the_task():
    found = stats.ratio([50, 100, 500, 1000, 5, 7.5], [100, 200, 1000, 2000, 10, 15])
    assert (found.estimate, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_holm_by_hand():
    """p = 0.01, 0.03, 0.04 at 5 %: 0.01 ≤ 0.05/3 rejects; 0.03 > 0.025 stops, and all that follow
    stand at 0.025."""
    levels = stats.holm({"b": 0.03, "a": 0.01, "c": 0.04})
    assert {arm: round(1 - level, 4) for arm, level in levels.items()} == {
        "a": 0.0167,
        "b": 0.025,
        "c": 0.025,
    }


def test_a_regression_of_thirty_per_cent_is_found_and_the_same_data_twice_is_none():
    random = np.random.default_rng(2)
    base = random.lognormal(6, 0.15, 40)
    found = stats.unpaired(base, 1.3 * random.lognormal(6, 0.15, 40), 0.5).ratio
    assert found.low > 1.1 and found.low < 1.3 < found.high
    same = stats.unpaired(base, base, 0.5).ratio
    assert same.estimate == 1 and same.low < 1 < same.high
    assert stats.unpaired([1, 2, 3], [4, 5, 6], 0.5).difference.low is None


def test_a_p95_difference_needs_72_blocks():
    base = np.arange(1.0, 73)
    assert stats.paired_quantile(base[:71], base[:71] + 10, 0.95).low is None
    found = stats.paired_quantile(base, base + 10, 0.95)
    assert (found.estimate, found.low, found.high) == (10, 10, 10)


def test_drift_is_the_second_half_against_the_first():
    found = stats.drift([100] * 5 + [150] * 5, range(10))
    assert found.change == 50 and found.shown and found.rivals(-60) and not found.rivals(-500)
    assert stats.drift([1, 2, 3], range(3)) is None


def test_a_percentile_names_successes_and_failures_apart():
    trials = pd.DataFrame(
        {
            "phase": "measured",
            "outcome": ["ok"] * 9 + ["failed"],
            "total_ms": [100.0] * 9 + [None],
            "client_caused": [True] + [False] * 9,
        }
    )
    trials = trials.assign(technique="t", arm="a", error_kind=[None] * 9 + ["timeout"])
    trials = trials.assign(superseded=False, counts=trials["outcome"] == "ok")
    found = stats.tail(trials, "total_ms", 0.95, deadline_ms=5000)
    assert (found.successes, found.censored, found.n, found.failed, found.client_caused) == (
        100,
        5000,
        9,
        1,
        1,
    )
    assert math.isinf(stats.tail(trials, "total_ms", 0.95).censored)
    assert stats.failures(trials).values.tolist() == [["t", "a", "timeout", 1]]


def test_sums_ranked_by_halving_are_those_of_a_list(monkeypatch):
    random = np.random.default_rng(5)
    mixed = np.round(random.normal(-3, 10, 240), 1)  # with ties and zeros
    for sample in (mixed, np.zeros(60), np.repeat([1.0, 2.0], 40)):
        averages = np.sort([(a + b) / 2 for i, a in enumerate(sample) for b in sample[i:]])
        cut = intervals.signed_rank_cut(sample.size, 0.95)
        expected = (np.median(averages), averages[cut], averages[-1 - cut])
        shifted = np.median(sample[40:, None] - sample[None, :40])
        for few in (100_000, 10):
            monkeypatch.setattr(ranked_sums, "LISTED_UP_TO", few)
            found = intervals.hodges_lehmann(sample)
            assert (found.estimate, found.low, found.high) == pytest.approx(expected, abs=1e-9)
            moved = intervals.shift(sample[:40], sample[40:])
            assert moved.estimate == pytest.approx(shifted, abs=1e-9)


def test_the_ranks_of_three_hundred_million_sums_take_a_few_dozen_counts():
    """Of 25,000 values as they are, of 20 values many times, and of two heaps far apart."""
    random = np.random.default_rng(7)
    heaps = np.concatenate([random.normal(0, 1, 12_500), random.normal(1e6, 1, 12_500)])
    for sample in (random.lognormal(6, 0.3, 25_000), random.integers(0, 20, 25_000), heaps):
        ordered = np.sort(sample.astype(float))
        sums = ranked_sums._Sums(ordered, ordered, halves=True)
        assert sums.count == 312_512_500
        place = sums.count // 2
        median = sums.at(place)
        below, upto = (
            int(np.maximum(np.searchsorted(ordered, median - ordered, side) - sums.first, 0).sum())
            for side in ("left", "right")
        )
        assert below <= place < upto or abs(below - place) < 3  # the sum is rounded, its place not
        assert len(sums.bounds) < 80


def test_five_thousand_pairs_take_less_than_a_second():
    differences = np.random.default_rng(6).normal(-3, 10, 5000)
    began = time.process_time()
    stats.hodges_lehmann(differences)
    assert time.process_time() - began < 1


def test_drift_is_that_of_the_instants_in_whatever_order_they_come():
    """One ms more each second, one value unknown: the later half of 20 is ten ms above."""
    at = pd.Series(pd.date_range("2026-01-01", periods=21, freq="s", tz="UTC"))
    values = np.append(np.arange(20.0), np.nan)
    mixed = np.random.default_rng(7).permutation(21)
    steady, shuffled = stats.drift(values, at), stats.drift(values[mixed], at[mixed])
    assert steady == shuffled
    assert (steady.change, steady.n, steady.shown) == (10.0, 20, True)
