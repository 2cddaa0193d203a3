"""A quick chart of any query's result: bars where each name has one row, points where it has
several and where the axis has numbers or times."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette

MOST_NAMES = 60
COUNTS = ("n", "runs", "sessions", "trials", "calls", "spans", "events", "rows", "failed")
"""Columns of whole numbers that may be added up; whatever begins with "count" is one too."""
HOVER = "%{x}: %{y:,.4g}<extra></extra>"


def numeric(frame: pd.DataFrame) -> list[str]:
    return list(frame.select_dtypes("number", exclude="timedelta"))


def is_count(frame: pd.DataFrame, column: str) -> bool:
    known = column in COUNTS or column.startswith("count")
    return known and pd.api.types.is_integer_dtype(frame[column])


def quick(
    frame: pd.DataFrame, x: str, y: str, by: str | None = None, dark: bool = False
) -> go.Figure:
    """`y` against `x`, a colour for each value of `by` (at most eight). Of names that have several
    rows only counts are added up; of anything else each row is a point, with their median. Rows of
    several endpoint kinds are a ValueError."""
    figure, kind = go.Figure(), layout.one_kind(frame)
    groups = [("", frame)] if by is None else list(frame.groupby(by, sort=False, dropna=False))[:8]
    colours = palette.arm_colours([str(name) for name, _ in groups], dark)
    is_words = x not in numeric(frame) and not pd.api.types.is_datetime64_any_dtype(frame[x])
    is_named = is_words and frame[x].nunique() <= MOST_NAMES
    adds_up = is_named and is_count(frame, y)
    is_crowded = is_named and not adds_up and any(rows[x].duplicated().any() for _, rows in groups)
    for place, (name, rows) in enumerate(groups):
        colour, up = colours[str(name)], rows[y].astype(float)
        across = rows[x].map(layout.safe) if is_words else rows[x]
        marker = {"color": palette.fade(colour, 0.6), "size": 6}
        if is_named and not is_crowded:
            heights = up.groupby(across, sort=False).sum()
            figure.add_bar(
                x=list(heights.index),
                y=heights,
                offsetgroup=str(place),
                marker={"color": colour},
                hovertemplate=HOVER,
            )
            continue
        apart = {"offsetgroup": str(place)} if is_crowded and by is not None else {}
        layout.points(figure, across, up, marker, hovertemplate=HOVER, **apart)
        if is_crowded:
            middle = up.groupby(across, sort=False).median()
            dash = {"symbol": "line-ew", "size": 28, "line": {"color": colour, "width": 3}}
            hover = "%{x}: median %{y:,.4g}<extra></extra>"
            names = list(middle.index)
            layout.points(figure, names, middle, dash, hovertemplate=hover, **apart)
    layout.from_zero(figure, "y")
    figure.update_xaxes(automargin=True)
    figure.update_layout(barmode="group", scattermode="group")
    about = [metrics.unit(y) or "as the query gave it", layout.count(len(frame), "rows")]
    if is_crowded:
        about.append("each row a point, the dash their median")
    elif adds_up and frame[x].duplicated().any():
        about.append("rows of one name added up")
    return layout.finish(
        figure,
        f"{y} by {x}",
        " · ".join(about),
        260,
        left=layout.AXIS_PX,
        dark=dark,
        kind=kind,
        legend=colours if by is not None else None,
    )
