"""The first-token time of recorded calls against their prompt or their turn: every call a dot, with
a straight line for those read from the cache and those read afresh."""

from __future__ import annotations

import plotly.graph_objects as go

from lab.figures import layout, palette
from lab.recording.growth import AFRESH, READ, Growth
from lab.units import ms, whole


def first_token(
    growth: Growth, dark: bool = False, *, title: str, x_title: str, kind: str | None = None
) -> go.Figure:
    """`growth` from lab.recording.growth; the lines tell their slopes."""
    points = growth.points
    if points.empty:
        return layout.empty("No streamed call that ended well has a first-token time.", dark, title)
    figure, theme = go.Figure(), palette.theme(dark)
    shades = {AFRESH: theme.phases["tokens"], READ: theme.phases["send"]}
    present = [group for group in shades if (points["group"] == group).any()]
    drawn = 0
    for group in present:
        mine = points[points["group"] == group]
        mine = mine.iloc[:: -(-len(mine) // layout.DENSE)]
        drawn += len(mine)
        look = layout.crowd(shades[group], len(mine))
        look |= {"symbol": "circle" if group == AFRESH else "diamond"}
        hover = [
            f"{layout.bold(ms(call.at_ms))}{_turn(call.turn)}<br>{whole(call.prompt)} tokens:"
            f" {whole(call.read)} read, {whole(call.uncached)} afresh"
            f"<br>{layout.safe(call.model)}"
            for call in mine.itertuples()
        ]
        ids = mine[["call_id"]].astype(str).values
        layout.points(figure, mine["x"], mine["at_ms"], look, hover, ids)
    for line in growth.lines:
        layout.line(figure, line.x, line.y, shades[line.group], 2)
    layout.from_zero(figure, "y", nticks=5)
    layout.from_zero(figure, "x", **layout.whole_steps(points["x"].max()))
    about = [line.words for line in growth.lines] or [layout.count(len(points))]
    if drawn < len(points):
        about.append(f"{drawn:,} of {len(points):,} calls drawn")
    return layout.finish(
        figure,
        title,
        " · ".join(["ms", *about]),
        240,
        dark=dark,
        kind=kind,
        x_title=x_title,
        left=layout.AXIS_PX,
        legend={group: shades[group] for group in present},
    )


def _turn(turn: float) -> str:
    return f", turn {turn:.0f}" if turn == turn else ""
