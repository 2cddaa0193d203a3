"""Whether quality was kept: faster is no gain where answers are worse."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from lab.stats.paired_rows import ArmPairs, of_metric


class Quality(NamedTuple):
    change: float
    low: float
    """One-sided 97.5 % bound."""
    high: float
    n: int
    same: int
    """Blocks in which both arms scored alike."""
    shown: Literal["not worse", "worse", "unclear"]
    best: float = 1.0
    """The best single score of either arm; at 0 no answer passed its check, and that both arms are
    alike says nothing of what speed costs."""


def quality_gate(rows: pd.DataFrame | ArmPairs | None, margin: float) -> Quality | None:
    """Paired non-inferiority on the mean change of quality; None where nothing was checked.

    The bound is a t bound on blocks. Where no block differs it is zero, and a loss rarer than one
    in n blocks stays possible. Worse is a loss beyond the margin whose whole interval lies below
    zero: a few blocks that went wrong by chance accuse nobody. What is neither worse nor not worse
    is unclear, which withholds green; where a loss was seen, the headline says so.
    """
    changes = of_metric(rows, "quality")
    if changes is None:
        return None
    values = changes["difference"].to_numpy(float)
    mean, n = float(values.mean()), values.size
    spread = float(values.std(ddof=1) / np.sqrt(n) * stdtrit(n - 1, 0.975)) if n > 1 else 0.0
    shown = (
        "not worse"
        if mean - spread >= -margin
        else "worse"
        if mean < -margin and mean + spread < 0
        else "unclear"
    )
    same = int(np.count_nonzero(values == 0))
    best = float(changes[["value", "baseline_value"]].to_numpy(float).max())
    return Quality(mean, mean - spread, mean + spread, n, same, shown, best)
