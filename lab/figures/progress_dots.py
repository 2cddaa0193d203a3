"""A run as it goes, drawn from its progress file: nothing here asks the process that measures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette, titles
from lab.figures.trials import jitter, points, tick
from lab.units import value


def dots(
    trials: pd.DataFrame, arms: list[str] | None = None, metric: str = "wait_ms", dark: bool = False
) -> go.Figure:
    """A dot for each finished trial and a tick at each arm's running median; rows are a progress file's `trial` lines."""
    order = list(arms or (trials["arm"].unique() if "arm" in trials.columns else []))
    if not order:
        return layout.empty(
            "Each finished trial appears here as a dot.", dark, "Waiting for the first trial"
        )
    colours = palette.arm_colours(order, dark)
    figure, notes, medians = go.Figure(), [], {}
    measured = trials[trials["phase"] == "measured"] if "phase" in trials.columns else trials
    for row, arm in enumerate(order):
        mine = measured[measured["arm"] == arm] if len(measured) else measured
        good = (
            mine[(mine["outcome"] == "ok") & mine[metric].notna()]
            if len(mine) and metric in mine.columns
            else mine.iloc[:0]
        )
        lost = len(mine) - len(good)
        x = good[metric].astype(float).to_numpy() if len(good) else np.array([])
        points(
            figure,
            x,
            -row + layout.MIDDLE + jitter(len(x), 0.22),
            colours[arm],
            showlegend=False,
            hovertext=[f"{layout.bold(arm)} {value(metric, v)}" for v in x],
            hovertemplate="%{hovertext}<extra></extra>",
        )
        if len(x):
            medians[arm] = float(np.median(x))
            tick(figure, medians[arm], row, colours[arm])
        notes.append(
            (f"median {value(metric, medians[arm])} · n = {len(x)}" if len(x) else "no trial yet")
            + (f" · {lost} not counted" if lost else "")
        )
    height = layout.rows(
        figure,
        [layout.bold(arm, colours[arm]) for arm in order],
        [colours[arm] for arm in order],
        notes=notes,
    )
    x_title = layout.metric_axis(figure, metric)
    title = (
        f"So far, {titles.widest(metric, medians)}"
        if len(medians) > 1
        else "The first trials come in"
    )
    if not medians:
        figure.update_xaxes(range=[0, 1], showticklabels=False)
    return layout.finish(
        figure,
        title,
        f"{metrics.words(metric)}, {metrics.unit(metric)} · a dot a trial, a tick at the running median",
        height,
        dark=dark,
        kind=layout.one_kind(trials),
        x_title=x_title,
    ).update_layout(uirevision="live")
