"""What a token that was not read from the cache costs in time, and how sure that is."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lab.recording import growth, relation
from lab.recording.facts import Estimate
from lab.stats import robust


def frame(
    uncached, read=0, *, at_ms=None, noise=0.0, model="m", connect_ms=None, seed=0
) -> pd.DataFrame:
    """Calls a second apart whose first token comes 100 ms after the sending, 2 ms later for each
    token read afresh and 0.1 ms for each from the cache; `noise` is a share of that."""
    uncached = np.asarray(uncached, float)
    read = np.broadcast_to(np.asarray(read, float), uncached.shape)
    exact = 100 + 2 * uncached + 0.1 * read
    stray = np.random.default_rng(seed).normal(1, noise, len(uncached)) if noise else 1
    sent = (exact * stray) if at_ms is None else np.asarray(at_ms, float)
    return pd.DataFrame(
        {
            "call_id": [f"{model}-{n}" for n in range(len(uncached))],
            "model": "asked",
            "served_model": model,
            "started_ms": np.arange(len(uncached)) * 1000.0,
            "ttft_from_sent_ms": sent if connect_ms is None else np.nan,
            "ttft_ms": sent + (5 if connect_ms is None else connect_ms),
            "dns_ms": np.nan,
            "connect_ms": np.nan if connect_ms is None else connect_ms,
            "tls_ms": np.nan,
            "input_tokens": uncached,
            "cache_read_tokens": read,
            "cache_write_tokens": 0.0,
            "prompt_tokens": uncached + read,
            "error_kind": None,
        }
    )


LENGTHS = [100, 900, 300, 700, 500] * 4
HALF_READ = {"uncached": [1000, 50, 600, 80] * 5, "read": [0, 950, 0, 520] * 5}
PROMPTS = {
    "uncached": [1000, 50, 600, 80, 1500, 20] * 4,
    "read": [0, 950, 0, 520, 0, 1480] * 4,
}


def test_each_uncached_token_costs_what_it_took():
    slope = relation.of(frame(LENGTHS)).ms_per_1000_uncached
    assert (round(slope.value), round(slope.low), round(slope.high)) == (2000, 2000, 2000)


def test_cached_tokens_have_a_slope_of_their_own():
    seen = relation.of(frame(**PROMPTS))
    assert round(seen.ms_per_1000_uncached.value) == 2000
    assert round(seen.ms_per_1000_cached.value) == 100
    assert round(seen.ms_per_1000_missed.value) == 1900, "a miss is read afresh, not from the cache"
    assert round(seen.seconds(1000).value, 3) == 1.9


def test_prompts_that_are_all_as_long_still_tell_what_a_miss_costs():
    uncached = np.array([1000, 100, 1000, 300, 100] * 4)
    seen = relation.of(frame(uncached, 1000 - uncached))
    assert seen.ms_per_1000_cached is None
    assert round(seen.seconds(1000).value, 3) == 1.9


def test_without_any_read_a_cached_token_is_taken_to_cost_no_time():
    seen = relation.of(frame(LENGTHS))
    assert not seen.knows_reads and seen.ms_per_1000_cached is None
    assert round(seen.seconds(1000).value, 3) == 2.0


def test_a_few_calls_that_hung_move_nothing():
    at_ms = 100 + 2 * np.array(LENGTHS, float)
    at_ms[[3, 11]] += 60_000
    assert round(relation.of(frame(LENGTHS, at_ms=at_ms)).ms_per_1000_uncached.value) == 2000


def test_connecting_is_no_part_of_it():
    connect = np.array([0, 400, 0, 0, 300] * 4, float)
    seen = relation.of(frame(LENGTHS, connect_ms=connect))
    assert round(seen.ms_per_1000_uncached.value) == 2000


def test_failed_calls_and_calls_that_sampled_several_times_are_left_out():
    calls = frame(LENGTHS)
    calls.loc[0, "error_kind"] = "overloaded"
    calls.loc[1, "prompt_tokens"] = 450  # its tokens are those of two samplings
    assert relation.of(calls).calls == 18


def test_models_are_apart():
    calls = pd.concat([frame(LENGTHS), frame(LENGTHS[:10], at_ms=[7] * 10, model="quick")])
    seen = relation.of(calls)
    assert (seen.model, seen.calls) == ("m", 20)
    assert round(seen.seconds(1000, "quick").value, 3) == 0
    assert seen.seconds(1000, "asked").value == seen.seconds(1000, "m").value
    assert seen.seconds(1000, "unheard") is None


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        (frame(LENGTHS[:9]), "9 calls with a first-token time; 10 of one model are needed"),
        (frame(LENGTHS[:1]), "1 call with a first-token time"),
        (frame([500] * 20), "too alike"),
        (frame([500, 540, 580, 550] * 5), "too alike"),
        (frame(LENGTHS).assign(ttft_ms=None, ttft_from_sent_ms=None), "No call of this recording"),
        (frame([]), "No call of this recording"),
    ],
)
def test_where_too_little_is_known_there_is_none_and_a_sentence_says_why(calls, words):
    assert relation.of(calls) is None
    assert words in relation.missing(calls)


def test_where_there_is_one_nothing_is_missing():
    assert relation.missing(frame(LENGTHS)) == ""


def test_several_calls_together_stray_less_than_each_by_itself():
    seen = relation.of(frame(**PROMPTS, noise=0.05))
    one, four = seen.seconds(1000), seen.seconds_together([1000] * 4)
    assert four.value == pytest.approx(4 * one.value)
    assert one.high - one.low < four.high - four.low < 4 * (one.high - one.low)
    # With nothing in doubt but what each call strays by, four stray as far as two would in step.
    exact = replace(seen, ms_per_1000_missed=Estimate(2000, 2000, 2000))
    one, four = exact.seconds(1000), exact.seconds_together([1000] * 4)
    assert (four.value, four.high - four.value, four.value - four.low) == pytest.approx(
        (8, 2 * (one.high - one.value), 2 * (one.value - one.low))
    )


@pytest.mark.parametrize("hung", [0.0, 0.02])
def test_the_interval_covers_one_measured_difference_in_95_of_100(hung):
    """40 recordings of 120 calls with noise of 5 %, of which some calls hang; 50 pairs each."""
    inside = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        prefix, question = random.integers(300, 900, 120), random.integers(20, 60, 120)
        is_miss = random.random(120) < 0.5

        def took(uncached, read, random=random):
            hangs = random.random(len(uncached)) < hung
            exact = 100 + 2 * uncached + 0.1 * read
            late = random.exponential(500, len(uncached)) * hangs
            return exact * random.lognormal(0, 0.05, len(uncached)) + late

        uncached = np.where(is_miss, prefix + question, question)
        read = np.where(is_miss, 0, prefix)
        seen = relation.of(frame(uncached, read, at_ms=took(uncached, read)))
        tokens, rest = random.integers(300, 900, 50), random.integers(20, 60, 50)
        measured = (took(tokens + rest, 0 * rest) - took(rest, tokens)) / 1000
        told = [seen.seconds(count) for count in tokens]
        inside += [
            span.low <= value <= span.high for span, value in zip(told, measured, strict=True)
        ]
    assert 0.93 <= np.mean(inside) <= 0.97


def test_of_calls_that_drift_together_the_difference_strays_less():
    """The machine halves and doubles its speed every 40 calls: neighbours feel it alike."""
    load = np.repeat([1.0, 2.0] * 3, 40)
    uncached, read = np.tile([800, 40], 120), np.tile([0, 760], 120)
    uncached = uncached + np.tile([0, 0, 90, 0, 40, 10], 40)
    exact = (100 + 2 * uncached + 0.1 * read) * load
    together = relation.of(frame(uncached, read, at_ms=exact)).seconds(800)
    shuffled = np.random.default_rng(0).permutation(120).repeat(2) * 2 + np.tile([0, 1], 120)
    loads = load[shuffled]
    loads[1::2] = loads[::2][np.random.default_rng(1).permutation(120)]
    apart = relation.of(frame(uncached, read, at_ms=exact / load * loads)).seconds(800)
    assert together.high - together.low <= apart.high - apart.low


def test_first_tokens_of_calls_that_did_not_stream_are_told_by_those_that_did():
    seen = relation.of(frame(**PROMPTS))
    assert round(seen.first_tokens([1000, 50], [1000, 1000]).value, 3) == 2.1 + 0.295


def test_lines_to_draw_have_their_slope_and_say_it():
    reads = frame([50] * 10, [900, 200, 400, 700, 1900] * 2, model="m")
    lines = growth.against_prompt(pd.concat([frame(LENGTHS), reads])).lines
    assert [line.words for line in lines] == [
        "mostly read afresh: +2,000 ms per 1,000 tokens [2,000, 2,000], n = 20",
        "mostly read from the cache: +100 ms per 1,000 tokens [100, 100], n = 10",
    ]
    assert lines[0].x == (100, 900) and [round(y) for y in lines[0].y] == [300, 1900]


def test_points_against_the_turn():
    calls = frame(LENGTHS)
    turns = pd.DataFrame({"turn": list(range(1, 11)) * 2}, index=calls["call_id"])
    seen = growth.against_turn(calls, turns)
    assert seen.points["x"].tolist() == turns["turn"].tolist()
    assert seen.points["group"].unique().tolist() == [growth.AFRESH]
    assert "ms per turn" in seen.lines[0].words and seen.lines[0].calls == 20


def test_a_robust_line_is_the_plain_one_where_nothing_strays():
    x = np.arange(20.0)
    fitted = robust.fit(np.column_stack([np.ones(20), x]), 3 + 4 * x)
    assert Estimate(*(round(end, 6) for end in fitted.interval((0, 1)))) == Estimate(4, 4, 4)


def test_a_robust_line_covers_its_slope_where_noise_grows_with_x():
    x, inside = np.linspace(1, 10, 40), []
    for seed in range(300):
        y = 3 + 4 * x + np.random.default_rng(seed).normal(0, x)
        _, low, high = robust.fit(np.column_stack([np.ones(40), x]), y).interval((0, 1))
        inside.append(low <= 4 <= high)
    assert 0.92 <= np.mean(inside) <= 0.98
