"""The first token against the turn and against the prompt, as points and straight lines to draw."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from lab import units
from lab.recording import relation
from lab.recording.facts import Estimate
from lab.stats import robust

READ, AFRESH = "mostly read from the cache", "mostly read afresh"
FEWEST = 6


class Line(NamedTuple):
    group: str
    """READ or AFRESH."""
    x: tuple[float, float]
    y: tuple[float, float]
    """Its two ends, in ms."""
    slope: Estimate
    """ms per 1,000 tokens, or ms per turn."""
    calls: int
    words: str
    """ "mostly read afresh: +390 ms per 1,000 tokens [370, 410], n = 24"."""


class Growth(NamedTuple):
    points: pd.DataFrame
    """call_id, model, x, at_ms, group, turn, prompt, uncached, read."""
    lines: list[Line]
    """Of each group with enough calls of different x; of the model with the most calls."""


def against_prompt(calls: pd.DataFrame, conversations: pd.DataFrame | None = None) -> Growth:
    """x is the whole prompt in tokens; conversations as in Recording, None where not known."""
    return _growth(calls, conversations, "prompt", 1000, "ms per 1,000 tokens")


def against_turn(calls: pd.DataFrame, conversations: pd.DataFrame) -> Growth:
    """x is the call's turn in its lane, from 1."""
    return _growth(calls, conversations, "turn", 1, "ms per turn")


def _growth(
    calls: pd.DataFrame, conversations: pd.DataFrame | None, x: str, unit: float, words: str
) -> Growth:
    rows = relation.points(calls)
    turns = {} if conversations is None else conversations["turn"]
    rows["turn"] = rows["call_id"].map(turns).astype(float)
    rows["group"] = np.where(rows["read"] > rows["prompt"] / 2, READ, AFRESH)
    rows["x"] = rows[x]
    rows = rows.dropna(subset="x")
    most = rows["model"].mode()
    lines = []
    for group in (AFRESH, READ):
        own = rows[(rows["group"] == group) & rows["model"].isin(most[:1])]
        if len(own) >= FEWEST and own["x"].nunique() >= relation.FEWEST_LENGTHS:
            lines.append(_line(group, own, unit, words))
    return Growth(rows, lines)


def _line(group: str, rows: pd.DataFrame, unit: float, words: str) -> Line:
    x, y = rows["x"].to_numpy(float), rows["at_ms"].to_numpy(float)
    fitted = robust.fit(np.column_stack([np.ones(len(x)), x / unit]), y)
    slope = Estimate(*fitted.interval((0, 1)))
    ends = (float(x.min()), float(x.max()))
    heights = tuple(float(fitted.coefficients @ (1, end / unit)) for end in ends)
    written = units.estimated("at_ms", slope.value, slope.low, slope.high).replace(" ms ", " ", 1)
    value, _, interval = written.partition(" ")
    text = f"{group}: {value} {words} {interval}, n = {len(rows):,}"
    return Line(group, ends, heights, slope, len(rows), text)
