"""How long a quick run will take on this machine: as long as it took here, or by the estimate,
corrected by what other runs took here or by how busy the machine is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from statistics import median

from lab import machine
from lab.harness.estimate import estimate
from lab.model import LabError
from lab.settings import config_of
from lab.store import queries
from lab.store.store import Store

BEGIN_S = 6.0
"""Until a worker and the lab's own server measure, which is no part of a run's own time."""
NEWEST = 3
"""So many of the newest runs tell: a machine changes."""


def quick_s(store: Store, endpoint: str, techniques: Sequence[str]) -> Mapping[str, float]:
    """Seconds by technique, rounded up; one that cannot run there, or of which nothing can be known
    before, has none."""
    runs = queries.quick_runs(store, endpoint)
    took = {slug: list(mine["seconds"]) for slug, mine in runs.groupby("technique", sort=False)}
    likely = {slug: _estimate_s(slug, endpoint) for slug in {*techniques, *took}}
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


def _estimate_s(technique: str, endpoint: str) -> float:
    try:
        return estimate(config_of(technique=technique, endpoint=endpoint, quick=True)).seconds
    except LabError:
        return 0.0


def _rounded(seconds: float) -> float:
    """To the next 5 s, from half a minute on 10 s, from a minute and a half on minutes."""
    step = 5 if seconds <= 30 else 10 if seconds <= 80 else 60
    return float(step * ceil(seconds / step))
