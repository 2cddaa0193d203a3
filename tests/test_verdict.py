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
    assert said.detail.count("−30 points") == 1 and any(
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
    said = stats.verdict(one)
    assert (one.verdict, said.tone) == ("faster", "unsure")
    assert said.doubts == (one.doubts[0][:1].upper() + one.doubts[0][1:],)
    assert one.doubts[0].startswith("uncached itself drifted by +")


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
        "1 of 21 trials of cached was left out",
        "uncached: 2 failed",
        "3 of 40 trials were held up by this machine and kept in (late event loop or unexpected "
        "reconnect)",
    )
    assert one.doubts == one.reasons[:2], "3 of 40 is a remark"


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


# Failed is not fast


def lost(arm=0, baseline=0, both=0, missed=0) -> pd.DataFrame:
    """Rows of pair_losses: so many blocks that the arm, the baseline or both lost; the first
    `missed` of them missed the cache."""
    sides = [(True, False)] * arm + [(False, True)] * baseline + [(True, True)] * both
    rows = [
        {
            "technique": "caching",
            "arm": "cached",
            "lost": arm_lost,
            "baseline_lost": baseline_lost,
            "outcome": "mismatch" if place < missed else "failed" if arm_lost else "ok",
        }
        for place, (arm_lost, baseline_lost) in enumerate(sides)
    ]
    return pd.DataFrame(rows)


def with_losses(answered: int, old=2000, new=1000, **blocks) -> stats.Comparison:
    """So many blocks answered in both arms, the arm's TTFT `new` and the baseline's `old` ms."""
    rows = pairs({"ttft_ms": around(old, answered)}, {"cached": {"ttft_ms": around(new, answered)}})
    return stats.compare_run(rows, NO_COUNTS, HEADLINE, losses=lost(**blocks))[0]


def test_an_arm_whose_slow_half_fails_is_not_faster():
    """Six of twelve failed, and the six that answered are all faster: no time is claimed."""
    one = with_losses(6, arm=6)
    said = stats.verdict(one)
    assert (one.verdict, said.tone, said.seen) == ("fails_more", "unsure", "")
    assert said.headline == (
        "Cached: 6 of 12 failed, uncached: none; no time is claimed. Where both answered: cached "
        "faster in 6 of 6 blocks, 1,000 against 2,000 ms at the median."
    )
    assert said.title == "cached: 6 of 12 failed, uncached: none; no time is claimed"
    assert said.reason == "No time is claimed; cached: 6 of 12 failed, uncached: none"


def test_one_that_seldom_fails_is_faster_when_it_answers():
    """Two worst ranks of twenty, 19 + 20 = 39, are at most 52, the largest sum that shows it."""
    one = with_losses(18, arm=2)
    said = stats.verdict(one)
    assert one.verdict == "faster_when_it_answers" and said.tone == "warn"
    assert said.headline == (
        "Cached: 2 of 20 failed, uncached: none; faster when it answers: TTFT −1,000 ms [−1,000, "
        "−1,000], −50 %, n = 18"
    )
    assert said.title == ("cached starts 50 % sooner than uncached when it answers; 2 of 20 failed")


def test_three_worst_ranks_of_twenty_are_too_many():
    """18 + 19 + 20 = 57 is more than 52."""
    assert with_losses(17, arm=3).verdict == "fails_more"


def test_a_missed_cache_is_called_that():
    assert "6 of 12 missed the cache, " in stats.verdict(with_losses(6, arm=6, missed=6)).headline
    mixed = stats.verdict(with_losses(6, arm=6, missed=2)).headline
    assert "6 of 12 failed or missed the cache, " in mixed


def test_a_baseline_that_fails_takes_nothing_from_a_faster_arm():
    one = with_losses(10, baseline=10)
    assert (one.verdict, one.n, one.blocks) == ("faster", 10, 20)


def test_a_block_that_both_lost_prefers_neither():
    """Ten blocks in ten, whatever became of the ten that nobody answered."""
    assert with_losses(10, both=10).verdict == "faster"
    assert with_losses(10, both=10).p == with_losses(10).p


def test_worst_ranks_of_both_arms_share_their_ranks():
    """18 blocks: ten faster, four lost by each, which share the ranks 11 to 18, 14.5 each: against
    the arm speak 58 of 171, which shows nothing yet."""
    ranked = stats.worst_ranked(np.full(10, -1000.0), stats.Losses(arm=4, baseline=4), sign=1)
    assert (ranked.side, ranked.blocks) == ("faster", 18)
    assert ranked.p == stats.intervals.signed_rank_p(58, 18)
    one = with_losses(10, arm=4, baseline=4)
    assert one.verdict == "not_enough_data" and 20 < one.needed_blocks < 50


def test_many_losses_of_the_baseline_do_not_ask_for_one_block():
    """Six answered, all faster; eight lost by the arm, fourteen by the baseline."""
    one = with_losses(6, arm=8, baseline=14)
    assert one.verdict == "not_enough_data" and one.needed_blocks > 10


def test_slower_where_both_answered_and_a_baseline_that_fails_more_is_no_answer():
    one = with_losses(10, old=1000, new=2000, baseline=10)
    said = stats.verdict(one)
    assert (one.verdict, one.needed_blocks) == ("not_enough_data", None)
    assert said.headline.endswith("Not enough data: times and failures point to different arms.")
    assert said.reason == "Not enough data: times and failures point to different arms"


def test_two_answered_blocks_and_ten_lost_are_a_finding_about_failures():
    assert with_losses(2, arm=10).verdict == "fails_more"


def test_blocks_still_to_run_count_those_that_will_be_lost():
    """Three of twelve were answered and three more must be: twelve blocks."""
    assert with_losses(3, both=9).needed_blocks == 12
    assert with_losses(3).needed_blocks == 3


def test_without_losses_the_ranks_and_the_interval_agree():
    random = np.random.default_rng(4)
    for n in (6, 12, 40):
        for _ in range(40):
            differences = random.normal(-0.4, 1, n)
            interval = stats.hodges_lehmann(differences)
            ranked = stats.worst_ranked(differences, stats.Losses(), sign=1)
            side = "faster" if interval.high < 0 else "slower" if interval.low > 0 else None
            assert (ranked.shown(0.95), ranked.p) == (side, interval.p)


# Doubt leads


def counted(**columns) -> pd.DataFrame:
    row = {"n": 20, "failed": 0, "mismatched": 0, "client_caused": 0}
    sides = [{"technique": "caching", "arm": arm, **row} for arm in ("uncached", "cached")]
    return pd.DataFrame([sides[0], sides[1] | columns])


def doubted(**columns) -> stats.VerdictText:
    base, new = {"ttft_ms": around(2000, 20)}, {"cached": {"ttft_ms": around(1000, 20)}}
    settings = {"baseline": {"technique": "caching", "arm": "uncached"}}
    found = stats.compare_run(pairs(base, new), counted(**columns), HEADLINE, settings=settings)
    return stats.verdict(found[0])


def test_one_trial_in_ten_held_up_is_a_remark_and_more_are_a_doubt():
    """4 of 40 stay a remark, 5 of 40 lead."""
    remark, doubt = doubted(client_caused=4), doubted(client_caused=5)
    assert (remark.doubts, remark.tone, remark.reason) == ((), "good", None)
    assert "4 of 40 trials were held up" in remark.detail
    assert doubt.tone == "unsure" and doubt.doubts == (doubt.reason,)
    assert doubt.reason.startswith("5 of 40 trials were held up by this machine")
    assert "held up" not in doubt.detail


def test_a_single_trial_that_was_held_up_is_the_only_one():
    baseline = {"technique": "caching", "arm": "uncached"}
    counts = counted().assign(n=[0, 1], client_caused=[0, 1])
    rows = pairs({"ttft_ms": [2000.0]}, {"cached": {"ttft_ms": [1000.0]}})
    one = stats.compare_run(rows, counts, HEADLINE, settings={"baseline": baseline})[0]
    assert one.doubts[0].startswith("the only trial was held up by this machine")


def test_markdown_begins_with_the_doubt():
    text = doubted(failed=3).markdown
    assert text.startswith("Doubtful: Cached: 3 failed  \n**Cached is faster: ")
    assert doubted().markdown.startswith("**Cached is faster: ")


def test_quality_of_nothing_in_both_arms_withholds_green_and_greys_nothing():
    """The times were measured all the same; a slower arm stays slower."""
    nothing = ([0.0] * 10, [0.0] * 10)
    for base, arm, tone in ((2000, 1000, "warn"), (1000, 2000, "bad")):
        said = stats.verdict(planned(around(base, 10), around(arm, 10), quality=nothing))
        assert (said.tone, said.doubts, said.reason) == (tone, (), None)
        assert said.quality == "Quality 0 % in both arms: no answer passed its check"
        assert said.detail.startswith(said.quality) and "equal" not in said.detail


def test_one_answer_that_passed_makes_quality_a_comparison_again():
    one = planned(around(2000, 10), around(1000, 10), quality=([0.0] * 9 + [1.0],) * 2)
    said = stats.verdict(one)
    assert (said.tone, said.quality) == ("good", "Quality equal in 10 of 10 blocks")


def test_no_difference_is_not_greyed_by_an_instrument_that_would_have_seen_it():
    """±40 ms would have been seen, and the instrument errs by 1 ms."""
    base, new = [1000] * 20, [1000 + 40 * (-1) ** k for k in range(20)]
    for error, tone in ((1, "neutral"), (60, "unsure")):
        one = planned(base, new, settings={"instrument_ms": error})
        assert (one.verdict, stats.verdict(one).tone) == ("no_difference", tone)


# A finding for a figure


def test_the_title_is_the_verdict_in_a_line():
    titles = {
        "cached starts 50 % sooner than uncached": planned(around(2000, 20), around(1000, 20)),
        "cached starts 100 % later than uncached": planned(around(1000, 20), around(2000, 20)),
        "Not enough data: cached faster in 4 of 4 blocks": planned([2000] * 4, [1000] * 4),
        "No difference shown between cached and uncached in time to first token": planned(
            [1000] * 20, [1000 + 40 * (-1) ** k for k in range(20)]
        ),
    }
    for title, comparison in titles.items():
        found = stats.finding(comparison, "ttft_ms")
        assert (found.title, found.is_planned) == (title, True)
        assert found.reason == stats.verdict(comparison).reason


def test_a_metric_that_is_not_judged_claims_nothing():
    assert stats.finding(None, "cost_usd") == stats.Finding("Cost per trial", None, False)


def test_medians_that_say_the_opposite_of_the_pairs_are_left_out():
    """Eleven of twelve tasks are 100 ms sooner; a twelfth took the arm 2,000 ms, and lifts its
    median above the baseline's."""
    base = [900 + k for k in range(6)] + [1500 + k for k in range(6)]
    new = [2000] + [value - 100 for value in base[1:]]
    one = planned(base, new)
    assert one.verdict == "faster" and one.p50 > one.baseline_p50
    assert stats.verdict(one).seen == "Cached faster in 11 of 12 blocks."


# What is near a rule's edge


def test_an_interval_that_reaches_beyond_the_smallest_effect_is_no_proof_of_none():
    """±80 ms, and 50 ms matter."""
    one = planned([1000] * 20, [1000 + 80 * (-1) ** k for k in range(20)])
    assert one.verdict == "not_enough_data"


@pytest.mark.parametrize(("middle", "is_small"), [(-50, False), (-30, True)])
def test_a_gain_is_called_small_only_where_its_whole_interval_is(middle, is_small):
    """[−60, −40] and [−40, −20] ms, where 50 ms matter."""
    one = planned([1000] * 20, [1000 + middle + 10 * (-1) ** k for k in range(20)])
    assert one.verdict == "faster" and (one.low, one.high) == (middle - 10, middle + 10)
    assert any("less than the smallest effect" in reason for reason in one.reasons) is is_small


def test_a_share_that_points_the_other_way_is_not_said():
    """Short tasks take half of 100 ms, long ones 200 ms more than 10 s: later, by no share."""
    one = planned([100] * 6 + [10_000] * 6, [50] * 6 + [10_200] * 6)
    assert one.estimate > 0 and one.ratio < 1 and one.share is None


def test_doubts_stand_failures_first_then_drift_then_the_instrument():
    base = [1000.0 + 20 * k for k in range(20)]
    rows = pairs({"ttft_ms": base}, {"cached": {"ttft_ms": [value - 100 for value in base]}})
    baseline = {"technique": "caching", "arm": "uncached"}
    settings = {"baseline": baseline, "instrument_ms": 500}
    one = stats.compare_run(rows, counted(failed=1), HEADLINE, settings=settings)[0]
    assert [doubt[:14] for doubt in one.doubts] == [
        "cached: 1 fail",
        "uncached itsel",
        "the effect is ",
    ]


def test_drift_rivals_an_effect_from_half_of_it_on_and_is_the_baselines():
    moved = stats.Drift(50, 40, 60, 0.01, 20)
    assert moved.rivals(-100) and not moved.rivals(-101)
    one = planned(around(1000, 20), [500.0 + 20 * k for k in range(20)])
    assert (one.verdict, one.doubts) == ("faster", ())


def test_the_arm_without_a_metric_is_the_one_that_is_named():
    summary = pd.DataFrame(
        [("uncached", "total_ms"), ("cached", "total_ms"), ("cached", "ttft_ms")],
        columns=["arm", "metric"],
    ).assign(technique="caching")
    rows = pairs({"total_ms": around(2000, 20)}, {"cached": {"total_ms": around(1000, 20)}})
    settings = {"baseline": {"technique": "caching", "arm": "uncached"}}
    one = stats.compare_run(rows, counted(), HEADLINE, settings=settings, summary=summary)[0]
    assert one.hopeless == "none of the 20 trials of uncached has a time to first token"
