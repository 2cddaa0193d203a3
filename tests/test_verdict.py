"""From paired blocks to words: what is said, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from lab import stats

HEADLINE = {"metric": "ttft_ms", "technique": "caching", "arm": "cached"}
NO_COUNTS = pd.DataFrame()


def pairs(base, arms: dict[str, dict[str, list]], start="2026-01-01") -> pd.DataFrame:
    """Rows of pair_differences; `base` and each arm: metric → a value for each block."""
    rows = []
    for arm, metrics in arms.items():
        for metric, values in metrics.items():
            for block, (value, old) in enumerate(zip(values, base[metric], strict=True)):
                at = pd.Timestamp(start, tz="UTC") + pd.Timedelta(seconds=block)
                ids = {
                    "trial_id": f"{arm}-{block}",
                    "baseline_trial_id": f"base-{block}",
                    "session_id": "s",
                    "task_id": f"task-{block}",
                }
                names = {
                    "technique": "caching",
                    "arm": arm,
                    "baseline_technique": "caching",
                    "baseline": "uncached",
                    "metric": metric,
                }
                rows.append(
                    {
                        "run_id": "r",
                        "block": block,
                        **ids,
                        **names,
                        "value": value,
                        "baseline_value": old,
                        "difference": value - old,
                        "started_utc": at,
                    }
                )
    return pd.DataFrame(rows)


def planned(base, new, **more) -> stats.Comparison:
    extra = {metric: sides for metric, sides in more.items() if metric != "settings"}
    old = {"ttft_ms": base} | {metric: sides[0] for metric, sides in extra.items()}
    arm = {"ttft_ms": new} | {metric: sides[1] for metric, sides in extra.items()}
    return stats.compare_run(
        pairs(old, {"cached": arm}), NO_COUNTS, HEADLINE, settings=more.get("settings")
    )[0]


def around(middle: float, n: int, step: float = 1.0) -> list[float]:
    return [middle + step * (k * 7 % n - (n - 1) / 2) for k in range(n)]


def test_a_clear_gain_is_faster():
    one = planned(around(2260, 20, 8), around(130, 20))
    said = stats.verdict(one)
    assert (one.verdict, one.favourable, one.n, said.tone) == ("faster", 20, 20, "good")
    assert said.headline.startswith(
        "Cached is faster: TTFT −2,130 ms [−2,1"
    ) and said.headline.endswith("−94 %, n = 20")


def test_a_clear_loss_is_slower():
    said = stats.verdict(planned(around(100, 20), around(300, 20)))
    assert said.tone == "bad" and said.headline.startswith("Cached is slower: TTFT +200 ms [")


def test_below_six_blocks_it_is_never_decided_and_says_first_what_was_seen():
    one = planned([2260] * 5, [110] * 5)
    said = stats.verdict(one, seconds_per_block=30, usd_per_block=0.02)
    assert (one.verdict, one.low, one.needed_blocks, said.tone) == (
        "not_enough_data",
        None,
        1,
        "unsure",
    )
    assert said.headline == (
        "Cached faster in 5 of 5 blocks, 110 against 2,260 ms at the median. "
        "Not enough data: about 1 more block (≈ $0.020, 30 s)."
    )


def test_nothing_measured_is_said_as_well():
    one = stats.compare_run(
        pairs({}, {}).reindex(columns=["technique", "arm", "metric"]),
        NO_COUNTS,
        HEADLINE,
        settings={"baseline": {"technique": "caching", "arm": "uncached"}},
    )[0]
    assert one.verdict == "not_enough_data" and stats.verdict(one).headline.startswith(
        "No block has cached and uncached both finished."
    )


def test_no_difference_says_what_would_have_been_seen():
    one = planned([1000] * 20, [1000 + 40 * (-1) ** k for k in range(20)])
    assert one.verdict == "no_difference" and one.smallest_effect == 50
    assert stats.verdict(one).headline.startswith(
        "No difference shown; anything above 40.0 ms would have been seen"
    )


def test_an_interval_too_wide_for_either_answer_asks_for_more():
    one = planned([1000] * 8, [1000 + 300 * (-1) ** k for k in range(8)])
    assert one.verdict == "not_enough_data" and one.needed_blocks > 8


@pytest.mark.parametrize(("baseline", "smallest"), [(90, 18), (400, 50), (1000, 50), (4000, 200)])
def test_the_smallest_effect_that_matters(baseline, smallest):
    """The larger of 5 % and 50 ms, at most 20 % of the baseline."""
    assert stats.Rules().smallest_effect(baseline) == smallest


def test_faster_at_the_cost_of_quality_is_not_green():
    one = planned(around(2000, 10), around(1000, 10), quality=([1.0] * 10, [1.0] * 5 + [0.0] * 5))
    said = stats.verdict(one)
    assert (
        one.verdict == "faster_but_worse"
        and said.tone == "warn"
        and "quality −50 points" in said.headline
    )


def test_a_few_wrong_answers_in_a_few_blocks_accuse_nobody_and_are_not_green():
    """3 of 10 fell from right to wrong: a mean of −0.30, whose interval reaches above zero."""
    one = planned(around(2000, 10), around(1000, 10), quality=([1.0] * 10, [1.0] * 7 + [0.0] * 3))
    said = stats.verdict(one)
    assert (
        one.verdict == "faster"
        and said.tone == "warn"
        and said.headline.endswith("n = 10; quality unclear, −30 points")
    )
    assert said.detail.count("−0.30") == 1 and any(
        "not shown to be kept" in reason for reason in one.reasons
    )


def test_quality_that_is_not_shown_to_be_kept_withholds_green():
    one = planned(around(2000, 20), around(1000, 20), quality=([1.0] * 20, [1.0] * 19 + [0.0]))
    assert (
        one.verdict == "faster"
        and one.quality.shown == "unclear"
        and stats.verdict(one).tone == "warn"
    )


def test_faster_only_because_shorter():
    """400 ms of wait in both; 100 tokens against 40 at 10 ms: the 600 ms are all tokens."""
    headline = {"metric": "total_ms", "technique": "caching", "arm": "cached"}
    base = {"total_ms": around(1400, 12), "ttft_ms": [400] * 12, "output_tokens": [100] * 12}
    arm = {"total_ms": around(800, 12), "ttft_ms": [400] * 12, "output_tokens": [40] * 12}
    one = stats.compare_run(pairs(base, {"cached": arm}), NO_COUNTS, headline)[0]
    assert one.verdict == "faster_only_shorter" and stats.verdict(one).tone == "warn"


def test_the_parts_sum_to_the_whole():
    random = np.random.default_rng(3)
    base = {
        "total_ms": random.uniform(1000, 2000, 9),
        "ttft_ms": random.uniform(100, 900, 9),
        "output_tokens": random.integers(10, 90, 9),
    }
    arm = {metric: values * 0.8 for metric, values in base.items()}
    rows = pairs(base, {"cached": arm})
    connections = pd.DataFrame(
        {"trial_id": [f"cached-{k}" for k in range(9)], "connection_ms": 12.0}
    )
    parts = stats.decompose(rows, connections)
    assert (
        parts.connection == 12
        and parts.connection + parts.wait + parts.tokens + parts.gap
        == pytest.approx(parts.total, abs=1e-9)
    )


def test_the_planned_comparison_stands_outside_holm():
    arms = {
        name: {"ttft_ms": around(middle, 20)}
        for name, middle in (("cached", 900), ("b", 950), ("c", 1001))
    }
    found = {
        one.arm: one
        for one in stats.compare_run(
            pairs({"ttft_ms": around(1000, 20)}, arms), NO_COUNTS, HEADLINE
        )
    }
    assert (found["cached"].planned, found["cached"].level) == (True, 0.95)
    assert round(found["b"].level, 3) == 0.975 and found["c"].level == 0.95


def test_an_effect_within_the_instruments_error_is_greyed():
    one = planned(
        around(100, 20, 0.001),
        around(99.9, 20, 0.001),
        settings={"instrument": {"own_error_p95_ms": 0.3}},
    )
    assert one.greyed and stats.verdict(one).tone == "unsure" and one.greyed in one.reasons


def test_a_drift_as_large_as_the_effect_is_said():
    """The baseline goes from 1,000 to 1,380 ms within the run; the arm is 100 ms faster
    throughout."""
    base = [1000.0 + 20 * k for k in range(20)]
    one = planned(base, [value - 100 - k % 3 for k, value in enumerate(base)])
    assert (
        one.verdict == "faster"
        and any("drifted" in reason for reason in one.reasons)
        and stats.verdict(one).tone == "warn"
    )


def test_trials_that_this_machine_held_up_are_counted_and_stay_in():
    counts = pd.DataFrame(
        {
            "technique": "caching",
            "arm": ["uncached", "cached"],
            "n": [20, 20],
            "failed": [2, 0],
            "mismatched": [0, 1],
            "client_caused": [1, 2],
        }
    )
    base, new = around(1000, 20), around(900, 20)
    baseline = {"technique": "caching", "arm": "uncached"}
    one = stats.compare_run(
        pairs({"ttft_ms": base}, {"cached": {"ttft_ms": new}}),
        counts,
        HEADLINE,
        settings={"baseline": baseline},
    )[0]
    assert one.n == 20 and one.reasons == (
        "cached: 1 in the wrong cache state, left out",
        "uncached: 2 failed, left out",
        "3 of 40 trials were held up by this machine (late event loop or unexpected reconnect), "
        "kept in",
    )


def test_where_a_difference_comes_from_in_words():
    assert stats.origin(stats.Parts(0, -20, -570, -10, -600, 12)) == (
        "mean change in total time −600 ms = wait −20.0 ms, number of tokens −570 ms, "
        "time per token −10.0 ms"
    )


def test_the_blocks_asked_for_are_about_as_many_as_it_takes():
    """Runs of 8 blocks that could not decide, with as many more as each asked for: most then can,
    and few asked for thousands."""
    random, asked, decided = np.random.default_rng(5), [], []
    for _ in range(200):
        differences = random.normal(-60, 100, 8)
        one = planned([1000.0] * 8, list(1000 + differences))
        if one.verdict == "not_enough_data" and one.needed_blocks < 500:
            asked.append(one.needed_blocks)
            more = np.concatenate([differences, random.normal(-60, 100, one.needed_blocks)])
            decided.append(
                planned([1000.0] * more.size, list(1000 + more)).verdict != "not_enough_data"
            )
    assert len(asked) > 60 and np.mean(decided) > 0.5 and np.median(asked) < 40


def test_a_level_is_explained_where_it_is_shared_alone():
    """At 99 % of one's own choosing nothing is Holm's doing."""
    base, arms = (
        around(1000, 20),
        {name: {"ttft_ms": around(900, 20)} for name in ("cached", "b", "c")},
    )
    for level in (0.95, 0.99):
        judged = stats.compare_run(
            pairs({"ttft_ms": base}, arms), NO_COUNTS, HEADLINE, settings={"level": level}
        )
        assert [c.is_shared for c in judged if c.arm == "cached"] == [False]
        assert any(c.is_shared for c in judged)
        for comparison in judged:
            assert ("(Holm)" in stats.verdict(comparison).detail) is comparison.is_shared
