"""Failed is not fast: a trial that was lost is the worst outcome of its pair."""

from __future__ import annotations

from math import ceil
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri

from lab.model import SERVED_OTHERWISE
from lab.stats.intervals import nonpositive, signed_rank_p

Side = Literal["faster", "slower"]


class Losses(NamedTuple):
    """Blocks in which a trial was lost: it failed, or its arm did not get what it is about."""

    arm: int = 0
    """The arm's only."""
    baseline: int = 0
    """The baseline's only."""
    both: int = 0
    missed: int = 0
    """Of the arm's, those that answered and missed the cache, …"""
    otherwise: int = 0
    """… and those that were served otherwise than asked."""

    @property
    def excess(self) -> int:
        return self.arm - self.baseline


NO_LOSSES = Losses()


def losses_of(rows: pd.DataFrame | None, arm: tuple[str, str]) -> Losses:
    if rows is None or rows.empty:
        return NO_LOSSES
    mine = rows[(rows["technique"] == arm[0]) & (rows["arm"] == arm[1])]
    lost, base = mine["lost"].astype(bool), mine["baseline_lost"].astype(bool)
    answered = lost & (mine["outcome"] == "mismatch")
    otherwise = answered & is_otherwise(mine)
    parts = (lost & ~base, base & ~lost, lost & base, answered & ~otherwise, otherwise)
    return Losses(*(int(rows.sum()) for rows in parts))


def is_otherwise(rows: pd.DataFrame) -> pd.Series:
    """Which of the lost were served otherwise than asked."""
    kinds = rows.get("error_kind", pd.Series(index=rows.index, dtype=object))
    return kinds == SERVED_OTHERWISE


class Ranked(NamedTuple):
    side: Side
    """To which the ranks lean."""
    p: float
    """Two-sided."""
    blocks: int

    def shown(self, level: float) -> Side | None:
        return self.side if self.p <= (1 - level) * (1 + 1e-9) else None

    def more(self, side: Side, level: float) -> int | None:
        """Blocks until this side is shown, if more are like these: the z of a signed-rank sum grows
        with √n. None where the ranks lean the other way."""
        z, wanted = -ndtri([self.p / 2, (1 - level) / 2])
        if self.side != side or z <= 0:
            return None
        return max(ceil(self.blocks * (wanted / z) ** 2) - self.blocks, 1)


def worst_ranked(differences: np.ndarray, losses: Losses, sign: int) -> Ranked:
    """The signed-rank test with each lost trial as the worst outcome of its pair, beyond every
    difference that was seen (worst ranks, Lachin 1999, in the signed-rank form of Matsouaka &
    Betensky 2015).

    A trial that fails because it would have been slow makes the rest look fast; as a worst rank it
    counts for what it is. Worst ranks of the two arms tie and share their ranks. A block that both
    arms lost prefers neither and is left out, as a zero difference is by Wilcoxon (1945).
    `sign` is 1 where less is better, else −1. Without losses p is the interval's own.
    """
    worse = sign * differences
    beyond = 1 + 4 * float(np.abs(worse).max(initial=0.0))
    lost = [beyond] * losses.arm + [-beyond] * losses.baseline
    ranked = np.concatenate([worse, lost])
    tied = losses.arm * losses.baseline / 2
    faster, slower = nonpositive(-ranked) - tied, nonpositive(ranked) - tied
    p = signed_rank_p(ceil(min(faster, slower)), ranked.size)
    return Ranked("faster" if faster < slower else "slower", p, ranked.size + losses.both)
