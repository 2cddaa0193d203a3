"""When a level moved in two series, and whose move it was."""

from __future__ import annotations

import numpy as np
import pytest

from lab.stats import level_shifts
from lab.stats.level_shifts import long_run, look, moved

LOOKS = 2880
"""A probe every 15 minutes."""
HOURS = np.arange(96 * 4) / 4


def noise(seed: int, n: int = len(HOURS), sd: float = 0.1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sd, n)


def wave(height: float) -> np.ndarray:
    return height * np.sin(2 * np.pi * HOURS / 24)


def told(control: np.ndarray, yours: np.ndarray, first: int = 12) -> list[tuple[int, str]]:
    """(the look, whose) of the first shift, looking after every point."""
    for end in range(first, len(control) + 1):
        if shift := look(control[:end], yours[:end], HOURS[:end], LOOKS):
            return [(end, shift.whose)]
    return []


def stepped(series: np.ndarray, at: int, percent: float) -> np.ndarray:
    moved = series.copy()
    moved[at:] += np.log1p(percent / 100)
    return moved


@pytest.mark.parametrize(
    ("of_control", "of_yours", "whose"),
    [(20, 20, "service"), (0, 20, "yours"), (20, 0, "control"), (-20, -20, "service")],
)
def test_a_step_is_found_within_a_day_and_is_whose_it_is(of_control, of_yours, whose):
    control = stepped(noise(1) + wave(0.15), 200, of_control)
    yours = stepped(noise(2) + wave(0.15), 200, of_yours)
    ((end, said),) = told(control, yours)
    assert said == whose
    assert 200 < end < 296


def test_its_size_is_told_with_an_interval():
    control, yours = stepped(noise(3), 200, 20), stepped(noise(4), 200, 20)
    shift = moved(control, yours, HOURS, 200)
    for size in (shift.control, shift.yours):
        assert size.low < np.log(1.2) < size.high
        assert size.high - size.low < 0.1
    assert shift.apart.low < 0 < shift.apart.high


def test_steps_of_different_sizes_are_both_each_its_own_way():
    control, yours = stepped(noise(5), 200, 20), stepped(noise(6), 200, 100)
    assert moved(control, yours, HOURS, 200).whose == "both"


def by_ms(control: float, yours: float, *ms: float, seed: int = 17):
    """Two series around these many ms, from point 200 on so many ms longer each."""
    series = []
    for place, (middle, more) in enumerate(zip((control, yours), ms, strict=True)):
        times = middle * np.exp(noise(seed + place))
        times[200:] += more
        series.append(np.log(times))
    return series


def test_as_many_ms_for_both_are_one_step_of_both():
    """A slower network: +30 % of a control of 500 ms, and +10 % of 1,500 ms."""
    shift = moved(*by_ms(500, 1500, 150, 150), HOURS, 200)
    assert shift.whose == "service"
    assert 130 < shift.added_ms < 170
    assert shift.apart.high < 0


def test_ms_that_could_as_well_be_others_are_not_said():
    """+60 of 300 ms and +120 of 3,000 ms: by ten per cent of noise, 60 ms in yours are not seen."""
    shift = moved(*by_ms(300, 3000, 60, 120, seed=31), HOURS, 200)
    assert (shift.whose, shift.added_ms) == ("service", None)


def test_some_ms_and_some_per_cent_for_both_are_one_step_too():
    """+20 % and +13 %: more ms for yours, and a smaller share."""
    shift = moved(*by_ms(500, 1500, 100, 200), HOURS, 200)
    assert (shift.whose, shift.added_ms) == ("service", None)


@pytest.mark.parametrize(("ms", "whose"), [((100, 0), "control"), ((0, 300), "yours")])
def test_one_that_stood_in_ms_and_in_per_cent_stood(ms, whose):
    assert moved(*by_ms(500, 1500, *ms), HOURS, 200).whose == whose


def test_ms_that_are_too_few_to_be_seen_in_yours_leave_it_standing():
    """100 ms of 10 s are 1 %, with the noise of 200 points no more than two standard errors."""
    assert moved(*by_ms(500, 10_000, 100, 0), HOURS, 200).whose == "control"


def test_the_few_points_of_a_new_level_are_no_outliers():
    """20 % are ten times the noise of 2 %, and four points of the new level have been seen."""
    control, yours = (stepped(noise(seed, sd=0.02), 200, 20) for seed in (21, 22))
    shift = look(control[:204], yours[:204], HOURS[:204], LOOKS)
    assert shift.at == 200
    for size in (shift.control, shift.yours):
        assert abs(size.value - np.log(1.2)) < 0.04


@pytest.mark.parametrize("height", [0.0, 0.15, 0.3])
def test_the_hours_of_a_day_are_no_change(height):
    """Four days, looked at after every point: the rising half of the first day too."""
    assert told(noise(7) + wave(height), noise(8) + wave(height)) == []


def test_a_single_outlier_is_no_change():
    control, yours = noise(9), noise(10)
    yours[[60, 61, 150]] += 3.0
    assert told(control, yours) == []


def test_eleven_points_say_nothing():
    steps = np.repeat([0.0, 2.0], [6, 5])
    assert look(steps, steps, HOURS[:11], LOOKS) is None


def test_more_looks_a_month_ask_for_more_certainty():
    control, yours = stepped(noise(11), 200, 20), stepped(noise(12), 200, 20)
    ends = {looks: told_after(control, yours, looks) for looks in (30, 3_000_000)}
    assert ends[30] < ends[3_000_000]


def told_after(control, yours, looks: float) -> int:
    return next(end for end in range(205, 384) if look(control[:end], yours[:end], HOURS[:end],
                                                       looks))  # fmt: skip


def test_a_look_goes_back_no_further_than_its_points():
    n = level_shifts.MOST + 100
    hours = np.arange(n) / 4
    control, yours = noise(13, n), noise(14, n)
    control[-30:] += 0.3
    yours[-30:] += 0.3
    assert abs(look(control, yours, hours, LOOKS).at - (n - 30)) <= 2


@pytest.mark.parametrize(("keeps", "times"), [(0.0, 1.0), (0.5, 3.0), (0.8, 9.0)])
def test_the_long_run_variance_is_that_of_an_autoregression(keeps, times):
    """Of one that keeps k of each point it is (1 + k)/(1 − k) times a point's variance."""
    pushes, level = np.random.default_rng(15).normal(size=4000), np.zeros(4000)
    for place in range(1, 4000):
        level[place] = keeps * level[place - 1] + pushes[place]
    variance, _ = long_run(level)
    assert variance / level.var() == pytest.approx(times, rel=0.25)
