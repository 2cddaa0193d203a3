"""A quick chart of any query's result: bars where the axis has names, points where it has numbers or times."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette

MOST_NAMES = 60


def numeric(frame: pd.DataFrame) -> list[str]:
    return [
        name
        for name in frame.columns
        if pd.api.types.is_numeric_dtype(frame[name])
        and not pd.api.types.is_bool_dtype(frame[name])
    ]


def quick(
    frame: pd.DataFrame, x: str, y: str, by: str | None = None, dark: bool = False
) -> go.Figure:
    """`y` against `x`, a colour for each value of `by` (at most eight). A result that mixes endpoint kinds says so."""
    figure = go.Figure()
    groups = [("", frame)] if by is None else list(frame.groupby(by, sort=False, dropna=False))[:8]
    colours = palette.arm_colours([str(name) for name, _ in groups], dark)
    named = (
        x not in numeric(frame)
        and not pd.api.types.is_datetime64_any_dtype(frame[x])
        and frame[x].nunique() <= MOST_NAMES
    )
    for name, rows in groups:
        colour = colours[str(name)]
        across, up = rows[x].map(layout.safe) if named else rows[x], rows[y].astype(float)
        if named:
            figure.add_bar(
                x=across,
                y=up,
                marker={"color": colour},
                hovertemplate="%{x}: %{y:,.4g}<extra></extra>",
            )
        else:
            draw = figure.add_scattergl if len(rows) > 400 else figure.add_scatter
            draw(
                x=across,
                y=up,
                mode="markers",
                marker={"color": palette.fade(colour, 0.6), "size": 6},
                hovertemplate="%{x}: %{y:,.4g}<extra></extra>",
            )
    figure.update_yaxes(rangemode="tozero", separatethousands=True, nticks=6)
    figure.update_xaxes(automargin=True)
    figure.update_layout(barmode="group")
    kinds = frame["endpoint_kind"].nunique() if "endpoint_kind" in frame.columns else 1
    mixed = (
        " · several endpoint kinds: do not compare them"
        if kinds > 1 and by != "endpoint_kind"
        else ""
    )
    return layout.finish(
        figure,
        f"{y} by {x}",
        f"{metrics.unit(y) or 'as the query gave it'} · {layout.count(len(frame), 'rows')}{mixed}",
        260,
        left=layout.AXIS_PX,
        dark=dark,
        legend=colours if by is not None else None,
    )
