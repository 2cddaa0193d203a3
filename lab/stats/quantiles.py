"""The difference of two quantiles over the same blocks."""

from __future__ import annotations

import numpy as np

from lab.stats.intervals import Interval, quantile
from lab.stats.unpaired import square_and_add


def paired_quantile(base, new, q: float, level: float = 0.95, tasks=None) -> Interval:
    """Quantile q of new minus that of base; ends are None below needed(q)."""
    base, new = np.asarray(base, float), np.asarray(new, float)
    one, other = quantile(base, q, level), quantile(new, q, level)
    both = float(np.mean((base > one.estimate) & (new > other.estimate)))
    correlation = float(np.clip((both - (1 - q) ** 2) / (q * (1 - q)), 0, 1))
    return square_and_add(one, other, correlation)
