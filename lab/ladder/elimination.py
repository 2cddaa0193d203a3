"""Successive elimination: stacks share blocks, and leave when their interval says so (Maron & Moore
1997; Even-Dar, Mannor & Mansour 2006). Differences are paired within blocks, so that what a task
and a moment have in common counts for nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from lab.ladder.design import Configuration

FEWEST = 4
"""Blocks before anybody may leave."""


class Leaves(NamedTuple):
    configuration: Configuration
    leader: Configuration
    estimate: float
    """Of the leaver less the leader, in the model's unit."""
    low: float
    high: float
    is_tie: bool
    """Whether it leaves because the two are alike, and the leader pulls fewer levers."""


def leaving(
    blocks: Sequence[Mapping[Configuration, float]],
    alive: Sequence[Configuration],
    tolerance: float,
    error: float = 0.05,
) -> list[Leaves]:
    """Who leaves after the latest of these blocks: each compared with the one in front, on the
    blocks that both are in.

    `error` is spent over all rivals and all looks (1/t² of it at look t, as Even-Dar et al. do), so
    that with probability 1 − error the best never leaves.
    """
    if len(alive) < 2 or len(blocks) < FEWEST:
        return []
    look = len(blocks) - FEWEST + 1
    share = error / (len(alive) - 1) / (look * (look + 1))
    leader = min(alive, key=lambda c: (_mean(blocks, c), _pulled(c)))
    gone = []
    for rival in alive:
        if rival == leader:
            continue
        values = np.array([b[rival] - b[leader] for b in blocks if rival in b and leader in b])
        if len(values) < FEWEST:
            continue
        half = float(
            values.std(ddof=1) / np.sqrt(len(values)) * stdtrit(len(values) - 1, 1 - share / 2)
        )
        mean = float(values.mean())
        if mean - half > 0:
            gone.append(Leaves(rival, leader, mean, mean - half, mean + half, False))
        elif -tolerance < mean - half and mean + half < tolerance:
            # Alike: the one with fewer levers stays, whichever of the two is in front.
            out, front = (rival, leader) if _pulled(rival) >= _pulled(leader) else (leader, rival)
            gone.append(Leaves(out, front, mean, mean - half, mean + half, True))
            if out == leader:
                break
    return gone


def _mean(blocks: Sequence[Mapping[Configuration, float]], configuration: Configuration) -> float:
    values = [block[configuration] for block in blocks if configuration in block]
    return float(np.mean(values)) if values else np.inf


def _pulled(configuration: Configuration) -> int:
    return sum(level > 0 for level in configuration)
