"""An axis of ms that is told in seconds, where it passes 10 s."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.units import LONG_MS


def in_seconds(figure: go.Figure, x_title: str, subtitle: str, up: bool) -> tuple[str, str]:
    """The axis of ms, across or `up`, told in seconds where it passes 10 s; so are the words that
    name its unit."""
    unit = re.compile(r"(^|, )ms\b")
    across = unit.match(x_title) is not None
    if not across and not (up and unit.search(subtitle)):
        return x_title, subtitle
    side = "x" if across else "y"
    low, high = _reach(figure, side)
    if max(abs(low), abs(high)) < LONG_MS:
        return x_title, subtitle
    axis = figure.layout[f"{side}axis"]
    if axis.type == "log":
        at = [10.0**power for power in range(-1, 8)]
    else:
        step = next(step for step in _steps() if (high - low) / step <= 6)
        at = [step * n for n in range(int(low // step), int(high // step) + 2)]
    axis.update(tickvals=at, ticktext=[f"{ms / 1000:,g}".replace("-", "−") for ms in at])
    return unit.sub(r"\1s", x_title), unit.sub(r"\1s", subtitle)


def _steps() -> Iterator[float]:
    return (base * 10.0**power for power in range(3, 308) for base in (1, 2, 5))


def _reach(figure: go.Figure, side: str) -> tuple[float, float]:
    """The ends of what stands along an axis: its range where one was set, else from zero on."""
    axis = figure.layout[f"{side}axis"]
    if axis.range and axis.type != "log":
        return float(min(axis.range)), float(max(axis.range))
    ends = [0.0]
    for trace in figure.data:
        along = getattr(trace, side)
        if along is None or not len(along):
            continue
        along = pd.to_numeric(pd.Series(list(along)), errors="coerce").to_numpy(float)
        if trace.type == "bar" and side == "x" and trace.base is not None:
            along = along + np.asarray(trace.base, dtype=float)
        known = along[np.isfinite(along)]
        ends += [float(known.min()), float(known.max())] if len(known) else []
    return min(ends), max(ends)
