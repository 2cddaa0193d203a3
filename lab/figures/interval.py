"""The interval under a verdict's number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from lab.figures import layout, palette
from lab.units import ends, missing, value

ABOVE, BELOW = 0.95, -0.95


def interval_bar(
    estimate: float | None,
    low: float | None,
    high: float | None,
    dark: bool = False,
    tone: str = "neutral",
    metric: str = "wait_ms",
    written: Sequence[str] = (),
) -> go.Figure:
    """The interval with zero in sight: 72 px high, no title of its own. What zero is called stands
    above the line and the interval's ends below it, so that they never meet. `written` says the
    three where they are not in the metric's unit."""
    colours, colour = palette.theme(dark), palette.tone_colour(tone, dark)
    figure = go.Figure()
    known = [float(end) for end in (estimate, low, high) if not missing(end) and np.isfinite(end)]
    written = written or (
        ends(metric, *known)
        if len(known) == 3
        else [value(metric, end, sign=True) for end in (estimate, low, high)]
    )
    left, right = min([*known, 0.0]), max([*known, 0.0])
    width = (right - left) or 1.0
    # It ends above the words below, which may stand across zero.
    figure.add_shape(
        type="line", x0=0, x1=0, y0=-0.5, y1=1.3, line={"color": colours.zero, "width": 1}
    )
    place = {"xanchor": "left", "xshift": 3} if left > -0.2 * width else {"xanchor": "right"}
    layout.write(figure, "0", 0, ABOVE, colours.muted, **({"xshift": -3} | place))
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
        text = " … ".join(written[1:])
        layout.write(figure, text, x, BELOW, colours.muted, xanchor=anchor, xshift=shift)
    if not missing(estimate):
        hover = f"{written[0]}<extra></extra>"
        layout.points(figure, [estimate], [0], {"color": colour, "size": 14}, hovertemplate=hover)
    figure.update_xaxes(visible=False, range=[left - 0.06 * width, right + 0.06 * width])
    figure.update_yaxes(visible=False, range=[-1.5, 1.3])
    words = f"{written[0]}, 95 % interval {' to '.join(written[1:])}"
    return figure.update_layout(
        template=palette.template(dark),
        height=72,
        margin={"l": 4, "r": 4, "t": 0, "b": 0},
        showlegend=False,
        meta={"alt": words},
    )
