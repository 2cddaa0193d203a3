"""Runs of one technique beside each other, each described by itself: they share no blocks, so
nothing is compared."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.stats import quantile
from lab.units import value


def run_medians(
    trials: pd.DataFrame,
    metric: str,
    dark: bool = False,
    *,
    runs: Sequence[str],
    arms: layout.Arms,
) -> go.Figure:
    """A row for each run of an arm, its median as a dot and the 95 % interval of it as a line, the
    runs of an arm under each other in its colour. Columns: arm, run (as in `runs`), the metric, and
    endpoint columns."""
    colours, figure = palette.arm_colours(arms, dark), go.Figure()
    labels, notes, tabs, ends = [], [], [], []
    for arm in arms:
        for run in runs:
            mine = trials[(trials["arm"] == arm) & (trials["run"] == run)]
            median = quantile(mine[metric].astype(float), 0.5)
            if not median.n:
                continue
            y = layout.MIDDLE - len(labels)
            if median.low is not None:
                layout.line(figure, [median.low, median.high], [y, y], colours[arm], 3)
            words = value(metric, median.estimate)
            hover = f"{layout.bold(arm)} {words}<br>{layout.safe(run)}, n = {median.n}"
            marker = {"color": colours[arm], "size": 11}
            layout.points(figure, [median.estimate], [y], marker, [hover])
            ends.append(median.estimate if median.high is None else median.high)
            labels.append(f"{layout.bold(arm, colours[arm])} {layout.safe(run)}")
            notes.append(words if median.low is not None else f"{words} (n = {median.n})")
            tabs.append(colours[arm])
    if not labels:
        return layout.empty(f"No trial of these runs has a {metrics.words(metric)}.", dark)
    height = layout.rows(figure, labels, tabs, notes=notes)
    x_title = layout.metric_axis(figure, metric)
    figure.update_xaxes(range=[0, 1.04 * max(ends)] if max(ends) > 0 else None)
    return layout.finish(
        figure,
        f"{metrics.words(metric).capitalize()} of each arm, run by run",
        f"{metrics.axis(metric)} · medians with their 95 % intervals, described, not compared",
        height,
        dark=dark,
        frame=trials,
        x_title=x_title,
    )
