"""E-divisive: where a series of independent points changed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lab.figures import trends
from lab.stats.change_points import _split, change_points


def test_the_divergence_is_the_one_of_the_paper_on_numbers_one_can_check():
    """Two zeros before two ones: between them 1, within nothing: 2·2/(2+2) · (2·1 − 0 − 0) = 2."""
    values = np.array([0.0, 0.0, 1.0, 1.0])
    assert _split(np.abs(values[:, None] - values), 2) == (2.0, 2)


def test_a_step_is_found_where_it_is():
    values = np.random.default_rng(1).lognormal(6, 0.05, 30)
    values[15:] *= 1.2
    assert change_points(values) == [15]


def test_two_steps_are_two_places():
    values = np.random.default_rng(2).lognormal(6, 0.05, 45)
    values[15:] *= 1.3
    values[30:] *= 1.3
    assert change_points(values) == [15, 30]


def test_of_flat_series_no_more_have_a_change_than_the_level_says():
    """200 series at 1 %: 2 are expected, 7 or more come once in 200."""
    found = [
        change_points(np.random.default_rng(seed).lognormal(6, 0.1, 20)) for seed in range(200)
    ]
    assert sum(map(bool, found)) < 7


def test_too_few_points_and_equal_ones_have_none():
    assert change_points([1, 2, 3, 100, 200, 300, 400, 500, 600]) == []
    assert change_points([5.0] * 40) == []
    assert change_points([]) == []


def runs_of(medians: list[float]) -> pd.DataFrame:
    began = pd.date_range("2026-11-01", periods=len(medians), freq="D")
    about = {"arm": "whole", "is_baseline": True, "model": "m", "n": 10, "run_id": "r"}
    where = {"endpoint": "simulated", "endpoint_kind": "simulated"}
    return pd.DataFrame({"started_utc": began, "p50": medians, **about, **where})


def test_history_draws_where_the_level_changed_and_by_how_much():
    figure = trends.history_trend(runs_of([400.0, 404.0, 396.0] * 4 + [600.0, 606.0, 594.0] * 4))
    (line,) = figure.layout.shapes
    assert pd.Timestamp(line.x0) == pd.Timestamp("2026-11-13")
    assert "+50 %" in [note.text for note in figure.layout.annotations]
    assert "has another level" in figure.layout.meta["subtitle"]


def test_history_draws_nothing_where_the_level_stood():
    figure = trends.history_trend(runs_of([400.0, 404.0, 396.0] * 8))
    assert not figure.layout.shapes and "another level" not in figure.layout.meta["subtitle"]
