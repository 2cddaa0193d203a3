"""A run as it goes, drawn from its progress file: nothing here asks the process that measures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette, titles
from lab.units import value


def dots(
    trials: pd.DataFrame, arms: list[str] | None = None, metric: str = "wait_ms", dark: bool = False
) -> go.Figure:
    """A dot for each finished trial and a tick at each arm's running median; rows are a progress
    file's `trial` lines."""
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
        good = mine[mine["outcome"] == "ok"] if len(mine) and metric in mine.columns else mine[:0]
        x = good[metric].dropna().astype(float).to_numpy() if len(good) else np.array([])
        layout.points(
            figure,
            x,
            -row + layout.MIDDLE + layout.jitter(len(x), 0.22),
            layout.crowd(colours[arm], len(x)),
            [f"{layout.bold(arm)} {value(metric, amount)}" for amount in x],
        )
        note = "no trial yet"
        if len(x):
            medians[arm] = float(np.median(x))
            layout.tick(figure, medians[arm], row, colours[arm])
            note = f"median {value(metric, medians[arm])} · n = {len(x)}"
        lost = len(mine) - len(x)
        notes.append(f"{note} · {lost} not counted" if lost else note)
    labels = [layout.bold(arm, colours[arm]) for arm in order]
    height = layout.rows(figure, labels, [colours[arm] for arm in order], notes=notes)
    x_title = layout.metric_axis(figure, metric)
    title = "The first trials come in"
    if len(medians) > 1:
        title = f"So far, {titles.widest(metric, medians)}"
    if not medians:
        figure.update_xaxes(range=[0, 1], showticklabels=False)
    unit = f"{metrics.words(metric)}, {metrics.unit(metric)}"
    return layout.finish(
        figure,
        title,
        f"{unit} · a dot a trial, a tick at the running median",
        height,
        dark=dark,
        kind=layout.one_kind(trials),
        x_title=x_title,
    ).update_layout(uirevision="dots")
