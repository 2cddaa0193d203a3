"""What the instrument can see: its own error against known times."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab import endpoint_kinds
from lab.figures import layout, palette
from lab.units import ms

SHADES = {"p50": "headers", "p95": "thinking", "p99": "tokens"}
"""Quantiles in steps of the phases' blue-grey."""


def noise_floor(points: pd.DataFrame, dark: bool = False) -> go.Figure:
    """The harness's own error by streams at once; `points` is long: streams, quantile ("p50", …),
    error_ms."""
    if points.empty:
        words = "Calibrate once: the lab then knows its own error on this machine."
        return layout.empty(words, dark, "What the instrument can see")
    colours = palette.theme(dark)
    shades = {name: colours.phases[phase] for name, phase in SHADES.items()}
    figure = go.Figure()
    for name, rows in points.groupby("quantile", sort=True):
        rows = rows.sort_values("streams")
        layout.points(
            figure,
            rows["streams"].astype(str),
            rows["error_ms"],
            {"size": 8},
            mode="lines+markers",
            name=str(name),
            line={"color": shades.get(str(name), colours.muted), "width": 2},
            hovertemplate=f"{name} at %{{x}} streams: %{{y:.3g}} ms<extra></extra>",
        )
    figure.update_xaxes(type="category")
    figure.update_yaxes(rangemode="tozero", ticksuffix=" ms")
    alone = points[points["streams"] == points["streams"].min()]
    worst = alone.loc[alone["quantile"] == "p95", "error_ms"]
    title = "The harness's own error"
    if len(worst):
        title = f"Alone, the harness is off by {ms(worst.iloc[0])} at p95"
    return layout.finish(
        figure,
        title,
        "ms, reported minus the simulated server's true time, by streams at once",
        200,
        dark=dark,
        kind=endpoint_kinds.SIMULATED,
        x_title="streams at once",
        left=layout.AXIS_PX,
        legend={name: shades[name] for name in shades if name in set(points["quantile"])},
    )
