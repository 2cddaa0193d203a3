"""Arrivals, plays and levels: drawn beforehand, the same for the same seed, and as many as was
asked."""

import json
from itertools import pairwise
from statistics import fmean, pvariance

import pytest

from lab.load import arrivals_file, schedule
from lab.load.profile import Step
from lab.load.schedule import Plan
from lab.model import LabError

ONE = ((Step(0),),)
PAIR = (Step(1), Step(2, 3.0))


def gaps(at_s):
    return [late - early for early, late in pairwise(at_s)]


def test_constant_arrivals_are_a_gap_apart():
    assert schedule.instants(4, rate=4) == (0, 0.25, 0.5, 0.75)
    assert schedule.instants(1, rate=4) == (0,) and schedule.instants(0, rate=4) == ()


@pytest.mark.parametrize(
    ("arrivals", "shape", "variance"),
    [("poisson", 1, 1.0), ("gamma", 1, 1.0), ("gamma", 0.5, 2.0), ("gamma", 4, 0.25)],
)
def test_gaps_have_the_mean_of_their_rate_and_the_variance_of_their_shape(
    arrivals, shape, variance
):
    """At 10 a second the mean gap is 0.1 s; its variance is that squared, over the shape."""
    drawn = gaps(schedule.instants(40_001, 10, arrivals, shape, seed=1))
    assert fmean(drawn) == pytest.approx(0.1, rel=0.02)
    assert pvariance(drawn) == pytest.approx(variance * 0.01, rel=0.08)


def test_poisson_gaps_forget_how_long_they_have_waited():
    """A share of e⁻¹ of them is longer than the mean, and e⁻² than twice that."""
    drawn = gaps(schedule.instants(40_001, 1, "poisson", seed=2))
    for waited, share in ((1, 0.368), (2, 0.135)):
        assert fmean(gap > waited for gap in drawn) == pytest.approx(share, abs=0.01)


def test_one_seed_is_one_schedule():
    drawn = [schedule.instants(50, 5, "gamma", 0.5, seed) for seed in (7, 7, 8)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_rising_rate_is_integrated_exactly():
    """From 0 to 20 a second in 10 s: t² arrivals by the instant t, 100 in all."""
    at_s = schedule.rising(0, 20, 10)
    assert len(at_s) == 100 and at_s == pytest.approx([n**0.5 for n in range(100)])


@pytest.mark.parametrize(("low", "high"), [(2, 10), (10, 2), (5, 5)])
def test_a_ramp_has_as_many_arrivals_as_the_area_below_it(low, high):
    """60 in 10 s between 2 and 10 a second, wherever it begins; 50 at 5."""
    at_s = schedule.rising(low, high, 10)
    assert len(at_s) == (50 if low == high else 60) and max(at_s) < 10
    assert gaps(at_s)[0] == pytest.approx(1 / low, rel=0.2)
    assert gaps(at_s)[-1] == pytest.approx(1 / high, rel=0.25)
    counts = [len(schedule.rising(low, high, 10, "poisson", seed=seed)) for seed in range(200)]
    assert fmean(counts) == pytest.approx(len(at_s) + 1, abs=2)  # one more is due at the beginning


def test_every_play_is_dealt_as_often_as_the_others():
    known = tuple((Step(place),) for place in range(3))
    chosen = schedule.plays(known, 7, seed=1)
    assert sorted(chosen[:3]) == sorted(chosen[3:6]) == list(known) and len(chosen) == 7
    assert chosen == schedule.plays(known, 7, seed=1) != schedule.plays(known, 7, seed=3)


def test_a_conversation_is_never_cut_by_the_number_of_requests():
    assert schedule.plays((PAIR,), 3) == (PAIR, PAIR)


def test_nothing_to_ask_is_a_sentence():
    with pytest.raises(LabError, match="nothing to ask"):
        schedule.plays((), 3)


def test_a_closed_level_has_six_turns_a_stream_and_96_at_least():
    plan = Plan("closed", ONE)
    assert [plan.level(1, streams).requests for streams in (1, 16, 64)] == [96, 96, 384]
    level = plan.level(2, 64)
    assert (level.number, level.mode, level.target, level.at_s) == (2, "closed", 64, None)
    assert level.label == "64 streams" and plan.level(1, 1).label == "1 stream"
    assert level.over_s > 0 == plan.level(1, 1).over_s
    assert plan.level(3, 64, again=True).label == "64 streams, again"
    assert Plan("closed", ONE, requests=5).level(1, 64).requests == 5
    assert Plan("closed", ONE, least=368).level(1, 4).requests == 368


def test_a_closed_level_by_its_seconds_does_not_run_out_of_plays():
    """2 s at 4 streams, none of which gets more than 20 answers a second."""
    assert Plan("closed", ONE, seconds=2).level(1, 4).requests == 10_000
    assert Plan("closed", ONE, seconds=100).level(1, 8).requests == 16_000
    assert Plan("closed", ONE, seconds=86_400).level(1, 500).requests == 250_000


def test_an_open_level_is_as_long_as_its_seconds_or_its_requests():
    assert len(Plan("open", ONE, seconds=10).level(1, 4).at_s) == 40
    assert len(Plan("open", ONE, requests=12).level(1, 4).at_s) == 12
    assert len(Plan("open", ONE, requests=12, seconds=10).level(1, 4).at_s) == 12
    level = Plan("open", ONE).level(1, 2.5)
    assert level.requests == len(level.plays) == len(level.at_s) == 96
    assert level.label == "2.5 a second"


def test_a_schedule_of_too_many_requests_is_refused():
    with pytest.raises(LabError, match="fewer seconds or a lower load"):
        Plan("open", ONE, seconds=86_400).level(1, 500)


def test_an_arrival_of_an_open_loop_is_a_whole_conversation():
    level = Plan("open", (PAIR,), requests=10).level(1, 4)
    assert len(level.at_s) == len(level.plays) == 5 and level.requests == 10


def test_each_level_draws_its_own_gaps():
    plan = Plan("open", ONE, requests=10, arrivals="poisson", seed=3)
    assert plan.level(1, 4).at_s == plan.level(1, 4).at_s != plan.level(2, 4).at_s


def test_a_ramp_of_streams_begins_with_some_and_ends_with_all():
    level = Plan("closed", ONE).ramp(1, 2, 6, seconds=8)
    assert level.at_s == (0, 0, 2, 4, 6, 8) and level.target == 6
    assert level.label == "2 to 6 streams"
    with pytest.raises(LabError, match="rises"):
        Plan("closed", ONE).ramp(1, 6, 2, seconds=8)
    level = Plan("open", ONE).ramp(1, 0, 20, seconds=10)
    assert level.requests == 100 and level.label == "0 to 20 a second"


def written(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain.txt", "5\n5.5\n\n7\n"),
        ("heading.csv", "Timestamp,Model\n5,a\n5.5,b\n7,c\n"),
        ("unsorted.csv", "7;c\n5;a\n5.5;b\n"),
        ("list.json", "[5, 5.5, 7]"),
        ("trace.json", '[{"timestamp": 5000}, {"timestamp": 5500}, {"timestamp": 7000}]'),
        ("trace.jsonl", '{"timestamp": 0, "hash_ids": [1]}\n{"timestamp": 500}\n\n2.0\n'),
    ],
)
def test_a_schedule_of_ones_own_begins_with_its_first_arrival(tmp_path, name, text):
    assert arrivals_file.read(written(tmp_path, name, text)) == (0, 0.5, 2)


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("a.csv", "0\n1\nsoon\n", "a.csv, line 3: 'soon' is no instant"),
        ("a.csv", "0\n-1\n", "a.csv, line 2: -1.0 is no instant"),
        ("a.csv", "0\nnan\n", "line 2: nan"),
        ("a.csv", "", "no arrival"),
        ("a.csv", "only a heading\n", "no arrival"),
        ("a.json", "[0, true]", "entry 2: True is no instant"),
        ("a.json", "[0, 1e999]", "entry 2: inf"),
        ("a.json", '{"timestamp": 3}', "no list"),
        ("a.json", "[0,\n1", "a.json, line 2: this is no JSON"),
        ("a.jsonl", '{"timestamp": 3}\n{"time": 3}\n', "line 2: this object has no timestamp"),
        ("a.jsonl", "0\n{\n", "a.jsonl, line 2: this is no JSON"),
        ("a.jsonl", f"{'9' * 5000}\n", "line 1: a number here is too long"),
        ("a.jsonl", f"{'9' * 400}\n", "line 1"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.xlsx", "", "name a file that ends in .csv"),
    ],
)
def test_what_is_no_schedule_is_told_by_its_line(tmp_path, name, text, where):
    with pytest.raises(LabError) as refused:
        arrivals_file.read(written(tmp_path, name, text))
    assert where in str(refused.value) and len(str(refused.value)) < 200


def test_a_file_that_is_not_there_or_no_text_is_a_sentence(tmp_path):
    with pytest.raises(LabError, match="cannot be read"):
        arrivals_file.read(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabError, match="UTF-8"):
        arrivals_file.read(tmp_path / "bytes.csv")


def test_recorded_instants_keep_their_plays():
    known = tuple((Step(place),) for place in range(5))
    plan = Plan("open", known, at_s=(0, 1, 2, 3, 8), is_recorded=True)
    level = plan.level(1, 0.5)
    assert level.plays == known and level.at_s == (0, 1, 2, 3, 8)
    assert level.label == "as they began"
    assert plan.level(2, 1).label == "as they began, at 1 a second"


def test_a_schedule_of_ones_own_is_stretched_to_a_rate(tmp_path):
    at_s = arrivals_file.read(written(tmp_path, "a.json", json.dumps([0, 1, 4])))
    assert schedule.mean_rate(at_s) == 0.5
    plan = Plan("open", ONE, at_s=at_s)
    assert plan.level(1, 0.5).at_s == (0, 1, 4) and plan.level(2, 1).at_s == (0, 0.5, 2)
    assert Plan("open", ONE, at_s=at_s, seconds=3).level(1, 0.5).at_s == (0, 1)
    assert Plan("open", ONE, at_s=at_s, requests=1).level(1, 0.5).at_s == (0,)
