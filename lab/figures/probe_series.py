"""One request of a watch in time: a point a probe, the levels between changes, and where nothing
was measured."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.units import value, when

PLOT_PX = 190
LABEL_SHARE = 0.14
"""Of the width: labels of changes that are nearer to each other would cover one another."""


class Mark(NamedTuple):
    at: datetime
    label: str
    is_worse: bool | None
    """None where it is neither slower nor faster for this request."""


def series(
    points: pd.DataFrame,
    dark: bool = False,
    *,
    arm: str,
    arms: dict[str, int],
    metric: str,
    title: str,
    marks: Sequence[Mark] = (),
    gaps: Sequence[tuple[datetime, datetime, str]] = (),
    ends: tuple[datetime, datetime] | None = None,
) -> go.Figure:
    """`points` are probes: at, value (median ms, null where none was answered), failed, and
    endpoint columns. Bars are each level's median, between the marks."""
    answered = points.dropna(subset="value")
    if answered.empty:
        return layout.empty("The first probe stands here.", dark, title)
    theme, figure = palette.theme(dark), go.Figure()
    colour = palette.arm_colours(arms, dark)[arm]
    for begin, end, _ in gaps:
        figure.add_vrect(x0=begin, x1=end, fillcolor=theme.grid, line_width=0, layer="below")
    hover = [
        f"{layout.bold(arm)} {value(metric, row.value)}<br>{when(row.at)} UTC"
        for row in answered.itertuples()
    ]
    times = answered["value"].astype(float)
    layout.points(figure, answered["at"], times, layout.crowd(colour, len(answered)), hover)
    _levels(figure, answered, marks, colour)
    _silences(figure, points[points["value"].isna() & (points["failed"] > 0)], theme.bad)
    ends = ends or span(points["at"], gaps)
    _marks(figure, marks, ends, theme)
    top = float(np.quantile(times, 0.995)) * 1.25
    layout.from_zero(figure, "y", nticks=4, range=[0, top])
    figure.update_xaxes(range=list(ends), nticks=6)
    above = int((times > top).sum())
    parts = (
        f"{metrics.words(metric)} of {arm}, {metrics.unit(metric)}",
        "a point a probe, bars: the levels' medians",
        "grey: nothing was measured" if gaps else "",
        f"{above} above the chart" if above else "",
        layout.count(len(answered), "probes"),
    )
    return layout.finish(
        figure,
        title,
        " · ".join(filter(None, parts)),
        PLOT_PX,
        dark=dark,
        frame=points,
        x_title="UTC",
        left=layout.AXIS_PX,
    )


def span(
    at: pd.Series, gaps: Sequence[tuple[datetime, datetime, str]] = ()
) -> tuple[datetime, datetime]:
    """From the first probe to the end of what came, or did not come, after it: a watch that ended
    long ago fills a quarter of its chart at least, one of a few minutes has an hour more."""
    first, last = (pd.to_datetime(end, utc=True) for end in (at.min(), at.max()))
    latest = max([last, *(pd.Timestamp(end) for _, end, _ in gaps)])
    last = min(latest, last + max(3 * (last - first), pd.Timedelta(hours=1)))
    pad = max((last - first) * 0.02, pd.Timedelta(seconds=30))
    return first - pad, last + pad


def _levels(figure: go.Figure, answered: pd.DataFrame, marks: Sequence[Mark], colour: str) -> None:
    ends = _ns(pd.Series([pd.Timestamp(mark.at) for mark in marks], dtype="datetime64[ns, UTC]"))
    places = np.searchsorted(ends, _ns(answered["at"]), "right")
    for _, rows in answered.groupby(places):
        middle = float(rows["value"].median())
        layout.line(figure, [rows["at"].min(), rows["at"].max()], [middle, middle], colour)


def _ns(at: pd.Series) -> np.ndarray:
    return pd.to_datetime(at, utc=True).dt.tz_localize(None).to_numpy("datetime64[ns]")


def _silences(figure: go.Figure, rows: pd.DataFrame, colour: str) -> None:
    look = {"color": colour, "symbol": "x-thin", "size": 8, "line": {"width": 2, "color": colour}}
    hover = [f"not answered as asked<br>{when(at)} UTC" for at in rows["at"]]
    layout.points(figure, rows["at"], [0.0] * len(rows), look, hover, cliponaxis=False)


def _marks(
    figure: go.Figure,
    marks: Sequence[Mark],
    span: tuple[datetime, datetime],
    theme: palette.Palette,
) -> None:
    """A line at each change, its words beside it where they have room."""
    width = max((span[1] - span[0]).total_seconds(), 1.0)
    last = -1.0
    for mark in marks:
        tone = {True: theme.bad, False: theme.good, None: theme.muted}[mark.is_worse]
        figure.add_vline(x=mark.at, line={"color": tone, "width": 1.5, "dash": "dash"})
        place = (pd.Timestamp(mark.at) - pd.Timestamp(span[0])).total_seconds() / width
        if place - last < LABEL_SHARE:
            continue
        last = place
        side = (
            {"xanchor": "right", "xshift": -4} if place > 0.8 else {"xanchor": "left", "xshift": 4}
        )
        where = {"yref": "paper", "yanchor": "top", **side}
        layout.write(figure, layout.safe(mark.label), mark.at, 1, palette.as_text(tone), **where)
