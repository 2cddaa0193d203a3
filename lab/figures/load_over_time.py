"""The calls of a load in the order in which they were due: a queue that grows is seen growing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.units import number, value

PLOT_PX = 280
SERIES = ("scheduled_latency_ms", "dispatch_delay_ms")
ACROSS, UP = 160, 60
"""Cells of a density."""
NARROW_PX, CHARACTER_PX = 300, 8
MEDIAN = "median of each moment"
FAILED = "failed"


def over_time(
    calls: pd.DataFrame,
    dark: bool = False,
    *,
    title: str,
    begins: Sequence[tuple[str, float]] = (),
) -> go.Figure:
    """Scheduled latency and dispatch delay of each call by the second at which it was due; past
    2,000 calls a density with the median of each moment. `begins` are what the levels are
    called, and the seconds at which they began. Columns: due_s, SERIES, error_kind, label, and
    endpoint columns."""
    calls = calls.dropna(subset=["due_s", SERIES[0]])
    if calls.empty:
        return layout.empty("No call of this run has ended.", dark, title)
    theme, figure = palette.theme(dark), go.Figure()
    colours = dict(zip(SERIES, (theme.arms[1], theme.arms[3]), strict=True))
    shown = [name for name in SERIES if name == SERIES[0] or _matters(calls)]
    is_dense, failed = len(calls) > layout.DENSE, calls["error_kind"].notna()
    well = calls[~failed]
    if is_dense:
        _density(figure, well["due_s"], well[SERIES[0]], theme)
    for name in shown:
        (_medians if is_dense else _points)(figure, well, name, colours[name])
    if failed.any():
        _failures(figure, calls[failed], theme.bad)
    _boundaries(figure, begins, float(calls["due_s"].max()) or 1.0, dark)
    layout.from_zero(figure)
    layout.from_zero(figure, "y", nticks=5)
    drawn = "density, and the median of each moment" if is_dense else "every call"
    legend = {metrics.words(name): colours[name] for name in shown}
    legend |= {FAILED: theme.bad} if failed.any() else {}
    dotted = "dotted: where a level begins" if len(begins) > 1 else ""
    parts = ("ms from when a call was due", drawn, dotted, layout.count(len(calls)))
    return layout.finish(
        figure,
        title,
        " · ".join(filter(None, parts)),
        PLOT_PX,
        dark=dark,
        frame=calls,
        x_title="seconds since the load began",
        legend=legend,
        marks=dict.fromkeys(legend, "line") if is_dense else {},
        left=layout.AXIS_PX,
    )


def _matters(calls: pd.DataFrame) -> bool:
    """Whether calls waited to be sent for as long as can be seen."""
    delays, latencies = (calls[name].to_numpy(float) for name in reversed(SERIES))
    return bool(np.nanmax(delays, initial=0) > 0.02 * np.nanmax(latencies, initial=1))


def _points(figure: go.Figure, calls: pd.DataFrame, name: str, colour: str) -> None:
    words = metrics.words(name)
    hover = [
        f"{layout.bold(label)} {words} {value(name, amount)}<br>due at {number(due)} s"
        for label, amount, due in zip(calls["label"], calls[name], calls["due_s"], strict=True)
    ]
    layout.points(figure, calls["due_s"], calls[name], layout.crowd(colour, len(calls)), hover)


def _failures(figure: go.Figure, calls: pd.DataFrame, colour: str) -> None:
    """The first of them, where they are very many: they only say when."""
    calls = calls.iloc[: layout.DENSE]
    hover = [
        f"{layout.bold(kind)} after {value(SERIES[0], amount)}<br>due at {number(due)} s"
        for kind, amount, due in zip(
            calls["error_kind"], calls[SERIES[0]], calls["due_s"], strict=True
        )
    ]
    look = {"color": colour, "symbol": "x-thin", "size": 8, "line": {"width": 2, "color": colour}}
    layout.points(figure, calls["due_s"], calls[SERIES[0]], look, hover)


def _density(figure: go.Figure, x: pd.Series, y: pd.Series, theme: palette.Palette) -> None:
    """How many calls stand in each cell, on a log scale: one call is seen beside thousands."""
    if x.empty:
        return
    counts, right, up = np.histogram2d(x.to_numpy(float), y.to_numpy(float), bins=(ACROSS, UP))
    shades = [[0, palette.CLEAR], [0.01, palette.fade(theme.arms[0], 0.2)], [1, theme.arms[0]]]
    figure.add_heatmap(
        x=(right[1:] + right[:-1]) / 2,
        y=(up[1:] + up[:-1]) / 2,
        z=np.log1p(counts.T),
        colorscale=shades,
        showscale=False,
        hoverinfo="skip",
    )


def _medians(figure: go.Figure, calls: pd.DataFrame, name: str, colour: str) -> None:
    if calls.empty:
        return
    cells = pd.cut(calls["due_s"], ACROSS, labels=False)
    middle = calls.groupby(cells)[["due_s", name]].median()
    layout.line(figure, middle["due_s"], middle[name], colour, 2.5)


def _boundaries(
    figure: go.Figure, begins: Sequence[tuple[str, float]], end: float, dark: bool
) -> None:
    """Each is named where its name has room, in a narrow window too."""
    colours = palette.theme(dark)
    if len(begins) < 2:
        return
    followers = [at for _, at in begins[1:]] + [1.1 * end]
    for (label, at), following in zip(begins, followers, strict=True):
        figure.add_vline(x=at, line={"color": colours.zero, "width": 1, "dash": "dot"})
        if (following - at) / end * NARROW_PX > CHARACTER_PX * len(label):
            place = {"yref": "paper", "xanchor": "left", "yanchor": "top", "xshift": 3}
            layout.write(figure, layout.safe(label), at, 1, colours.muted, **place)
