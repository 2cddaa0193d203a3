"""How the calls of each level of load are distributed; one that failed is never there."""

from __future__ import annotations

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
P95 = 0.95


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
    figure.add_hline(y=P95, line={"color": palette.theme(dark).zero, "width": 1, "dash": "dot"})
    shares = [0, 0.25, 0.5, 0.75, P95]
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


def reached(values: pd.Series, share: float = P95) -> float | None:
    """The value that so many of all calls have reached; None where more than the rest failed."""
    ordered = np.sort(values.dropna().to_numpy(float))
    rank = int(np.ceil(share * len(values) - 1e-9))
    return float(ordered[rank - 1]) if 0 < rank <= len(ordered) else None


def _line(figure: go.Figure, label: str, values: pd.Series, metric: str, colour: str) -> None:
    ordered, n = np.sort(values.dropna().to_numpy(float)), len(values)
    ranks = np.unique(np.linspace(1, len(ordered), min(len(ordered), STEPS)).astype(int))
    layout.line(figure, ordered[ranks - 1], ranks / n, colour, 2, line_shape="hv")
    if (at := reached(values)) is not None:
        told = f"{layout.bold(label)} p95 {value(metric, at)}<br>n = {n:,}"
        opacity = 1 if metrics.supported(n, P95) else layout.GREYED
        look = {"color": colour, "size": 9, "opacity": opacity}
        layout.points(figure, [at], [P95], look, [told])
