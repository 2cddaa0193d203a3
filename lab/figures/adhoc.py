"""A quick chart of any query's result: bars where the axis has names, points where it has numbers
or times."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette

MOST_NAMES = 60
HOVER = "%{x}: %{y:,.4g}<extra></extra>"


def numeric(frame: pd.DataFrame) -> list[str]:
    return list(frame.select_dtypes("number", exclude="timedelta"))


def quick(
    frame: pd.DataFrame, x: str, y: str, by: str | None = None, dark: bool = False
) -> go.Figure:
    """`y` against `x`, a colour for each value of `by` (at most eight). A result that mixes
    endpoint kinds says so."""
    figure = go.Figure()
    groups = [("", frame)] if by is None else list(frame.groupby(by, sort=False, dropna=False))[:8]
    colours = palette.arm_colours([str(name) for name, _ in groups], dark)
    named = (
        x not in numeric(frame)
        and not pd.api.types.is_datetime64_any_dtype(frame[x])
        and frame[x].nunique() <= MOST_NAMES
    )
    for name, rows in groups:
        colour, up = colours[str(name)], rows[y].astype(float)
        if named:
            figure.add_bar(
                x=rows[x].map(layout.safe), y=up, marker={"color": colour}, hovertemplate=HOVER
            )
        else:
            marker = {"color": palette.fade(colour, 0.6), "size": 6}
            layout.points(figure, rows[x], up, marker, hovertemplate=HOVER)
    layout.from_zero(figure, "y")
    figure.update_xaxes(automargin=True)
    figure.update_layout(barmode="group")
    kinds = frame["endpoint_kind"].nunique() if "endpoint_kind" in frame.columns else 1
    mixed = kinds > 1 and by != "endpoint_kind"
    warning = " · several endpoint kinds: do not compare them" * mixed
    unit = metrics.unit(y) or "as the query gave it"
    return layout.finish(
        figure,
        f"{y} by {x}",
        f"{unit} · {layout.count(len(frame), 'rows')}{warning}",
        260,
        left=layout.AXIS_PX,
        dark=dark,
        legend=colours if by is not None else None,
    )
