"""Before a run: how long a quick one will take on this machine (as long as it took here, or by the
estimate, corrected by what other runs took here or by how busy the machine is), and how small a
difference can be seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil, sqrt
from statistics import median
from typing import NamedTuple

from lab import calibrate, machine, metrics
from lab.harness.estimate import estimate
from lab.model import LabError
from lab.results import RunResult
from lab.settings import config_of
from lab.store import queries
from lab.store.store import Store

BEGIN_S = 6.0
"""Until a worker and the lab's own server measure, which is no part of a run's own time."""
NEWEST = 3
"""So many of the newest runs tell: a machine changes."""


def quick_estimate_s(technique: str, endpoint: str) -> float:
    """0 where it cannot run there."""
    try:
        return estimate(config_of(technique=technique, endpoint=endpoint, quick=True)).seconds
    except LabError:
        return 0.0


def quick_s(
    store: Store,
    endpoint: str,
    techniques: Sequence[str],
    estimate_s: Callable[[str, str], float] = quick_estimate_s,
) -> Mapping[str, float]:
    """Seconds by technique, rounded up; one that cannot run there, or of which nothing can be known
    before, has none. `estimate_s` may be one that remembers."""
    runs = queries.quick_runs(store, endpoint)
    took = {slug: list(mine["seconds"]) for slug, mine in runs.groupby("technique", sort=False)}
    likely = {slug: estimate_s(slug, endpoint) for slug in {*techniques, *took}}
    ratios = [
        median(seconds[:NEWEST]) / likely[slug] for slug, seconds in took.items() if likely[slug]
    ]
    load = machine.load()
    slower = median(ratios) if ratios else 1 + load.processes / load.cores
    return {
        slug: _rounded(BEGIN_S + (median(took[slug][:NEWEST]) if slug in took else known * slower))
        for slug in techniques
        if (known := likely[slug])
    }


def _rounded(seconds: float) -> float:
    """To the next 5 s, from half a minute on 10 s, from a minute and a half on minutes."""
    step = 5 if seconds <= 30 else 10 if seconds <= 80 else 60
    return float(step * ceil(seconds / step))


class HalfWidth(NamedTuple):
    ms: float
    metric: str | None
    """In which a run has seen it; None where it is the calibration's."""


def half_width(newest: RunResult | None, blocks: int) -> HalfWidth | None:
    """Of the interval that so many blocks will give: by that of the newest run like this one, else
    by the calibration; it shrinks with the root of the number of blocks. None where nothing is
    known."""
    planned = newest.headlines[0] if newest and newest.headlines else None
    if planned and planned.quantile and not metrics.supported(blocks, planned.quantile):
        return None
    if planned and planned.low is not None and metrics.find(planned.metric).is_time:
        half = (planned.high - planned.low) / 2
        return HalfWidth(half * sqrt(planned.n / blocks), planned.metric)
    calibration = calibrate.last_calibration() or {}
    for count, size_ms in calibration.get("detectable_ms", {}).items():
        return HalfWidth(size_ms * sqrt(int(count) / blocks), None)
    return None
