"""The interval under a verdict's number."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from lab.figures import layout, palette
from lab.units import missing, value


def interval_bar(
    estimate: float | None,
    low: float | None,
    high: float | None,
    dark: bool = False,
    tone: str = "neutral",
    metric: str = "wait_ms",
) -> go.Figure:
    """The interval with zero in sight: 56 px high, no title of its own."""
    colours, colour = palette.theme(dark), palette.tone_colour(tone, dark)
    figure, ends = go.Figure(), [value(metric, end, sign=True) for end in (low, high)]
    known = [float(end) for end in (estimate, low, high) if not missing(end) and np.isfinite(end)]
    left, right = min([*known, 0.0]), max([*known, 0.0])
    width = (right - left) or 1.0
    layout.zero(figure, dark)
    layout.write(figure, "0", 0, -0.9, colours.muted)
    if len(known) == 3:
        caps = {"symbol": "line-ns", "size": 12, "line": {"color": colour, "width": 3}}
        layout.line(figure, [low, high], [0, 0], colour, marker=caps)
        figure.data[-1].mode = "lines+markers"
        x, anchor, shift = (low + high) / 2, "center", 0
        place = (x - left) / width
        if place < 0.3:
            x, anchor, shift = low, "left", -4
        elif place > 0.7:
            x, anchor, shift = high, "right", 4
        text = " … ".join(ends)
        layout.write(figure, text, x, -0.9, colours.muted, xanchor=anchor, xshift=shift)
    if not missing(estimate):
        hover = f"{value(metric, estimate, sign=True)}<extra></extra>"
        layout.points(figure, [estimate], [0], {"color": colour, "size": 14}, hovertemplate=hover)
    figure.update_xaxes(visible=False, range=[left - 0.06 * width, right + 0.06 * width])
    figure.update_yaxes(visible=False, range=[-1.5, 0.7])
    words = f"{value(metric, estimate, sign=True)}, 95 % interval {' to '.join(ends)}"
    return figure.update_layout(
        template=palette.template(dark),
        height=56,
        margin={"l": 4, "r": 4, "t": 0, "b": 0},
        showlegend=False,
        meta={"alt": words},
    )
