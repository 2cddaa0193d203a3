"""A run as it goes, drawn from its progress file: nothing here asks the process that measures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette, titles
from lab.units import value


def dots(trials: pd.DataFrame, arms: list[str], metric: str, dark: bool = False) -> go.Figure:
    """A dot for each finished trial and a tick at each arm's running median; rows are a progress
    file's `trial` lines."""
    if not arms:
        words = "Each finished trial appears here as a dot."
        return layout.empty(words, dark, "Waiting for the first trial")
    colours = palette.arm_colours(arms, dark)
    figure, notes, medians = go.Figure(), [], {}
    trials = trials.reindex(columns=["arm", "phase", "outcome", "endpoint_kind", metric])
    for row, arm in enumerate(arms):
        mine = trials[(trials["arm"] == arm) & (trials["phase"] == "measured")]
        x = mine.loc[mine["outcome"] == "ok", metric].dropna().astype(float).to_numpy()
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
    height = layout.arm_rows(figure, colours, notes)
    x_title = layout.metric_axis(figure, metric)
    title = "The first trials come in"
    if len(medians) > 1:
        title = f"So far, {titles.widest(metric, medians)}"
    if not medians:
        figure.update_xaxes(range=[0, 1], showticklabels=False)
    return layout.finish(
        figure,
        title,
        f"{metrics.axis(metric)} · a dot a trial, a tick at the running median",
        height,
        dark=dark,
        kind=layout.one_kind(trials),
        x_title=x_title,
    ).update_layout(uirevision="dots")
