"""How the calls of each level of load are distributed; one that failed is never there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.units import percent, value

PLOT_PX = 300
STEPS = 400
"""Corners of a line; more could not be told apart."""
MOST_LEVELS = 12


def by_level(
    calls: pd.DataFrame, metric: str, dark: bool = False, *, title: str, log: bool = False
) -> go.Figure:
    """A line a level: the share of its calls that had a metric's value by then, p95 marked. A call
    that failed never had it, so that a level with failures ends below 100 %. Columns: label (in
    the order of the load), the metric, and endpoint columns."""
    labels = list(dict.fromkeys(calls["label"]))[-MOST_LEVELS:]
    known = {label: calls.loc[calls["label"] == label, metric] for label in labels}
    known = {label: values for label, values in known.items() if values.notna().any()}
    if not known:
        return layout.empty(f"No call of this run has a {metrics.words(metric)}.", dark, title)
    figure, colours = go.Figure(), dict(zip(known, palette.steps(len(known), dark), strict=True))
    for label, values in known.items():
        _line(figure, label, values, metric, colours[label])
    figure.add_hline(y=0.95, line={"color": palette.theme(dark).zero, "width": 1, "dash": "dot"})
    shares = [0, 0.25, 0.5, 0.75, 0.95]
    ticks = {"tickvals": shares, "ticktext": [percent(share) for share in shares]}
    figure.update_yaxes(range=[0, 1.02], **ticks)
    x_title = layout.metric_axis(figure, metric, log=log)
    fewest, most = (int(f(map(len, known.values()))) for f in (min, max))
    counts = layout.count(fewest) + (f" to {most:,} a level" if most > fewest else "")
    what = f"share of calls by {metrics.axis(metric)}"
    return layout.finish(
        figure,
        title,
        f"{what} · a failed call never has it · dots: p95 · {counts}",
        PLOT_PX,
        dark=dark,
        frame=calls,
        x_title=x_title,
        legend=colours,
        marks=dict.fromkeys(colours, "line"),
        left=layout.AXIS_PX,
    )


def _line(figure: go.Figure, label: str, values: pd.Series, metric: str, colour: str) -> None:
    ordered, n = np.sort(values.dropna().to_numpy(float)), len(values)
    ranks = np.unique(np.linspace(1, len(ordered), min(len(ordered), STEPS)).astype(int))
    layout.line(figure, ordered[ranks - 1], ranks / n, colour, 2, line_shape="hv")
    _mark(figure, label, ordered, n, metric, colour)


def _mark(
    figure: go.Figure, label: str, ordered: np.ndarray, n: int, metric: str, colour: str
) -> None:
    """A dot at p95 of all calls; none where more than that failed."""
    rank = int(np.ceil(0.95 * n))
    if rank > len(ordered):
        return
    told = f"{layout.bold(label)} p95 {value(metric, ordered[rank - 1])}<br>n = {n:,}"
    carries = metrics.supported(n, 0.95)
    look: Mapping = {"color": colour, "size": 9, "opacity": 1 if carries else layout.GREYED}
    layout.points(figure, [ordered[rank - 1]], [0.95], look, [told])
