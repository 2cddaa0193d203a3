"""Every trial as a point, by arm, with its percentiles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette, titles
from lab.stats import Finding
from lab.units import value

ROW_PX = 44


def distribution(
    trials: pd.DataFrame,
    metric: str,
    dark: bool = False,
    *,
    finding: Finding | None = None,
    arms: layout.Arms | None = None,
    label: str = "arm",
    log: bool = False,
) -> go.Figure:
    """Every trial that counts as a point with its p50, p95, p99 (in brackets where n cannot carry
    it); past 2,000 points a density. Columns of trial_metrics; without `counts`, all of them do.
    `finding` is the run's on this metric; without one, nothing is claimed."""
    if "counts" in trials.columns:
        trials = trials[trials["counts"]]
    trials = trials[trials[metric].notna()]
    if trials.empty:
        return layout.empty(f"No trial of this run has a {metrics.words(metric)}.", dark)
    colours = layout.arm_colours(arms, trials[label], dark)
    figure, labels, notes, fewest = go.Figure(), [], [], len(trials)
    for row, (arm, colour) in enumerate(colours.items()):
        mine = trials[trials[label] == arm]
        x = mine[metric].astype(float).to_numpy()
        if len(x) > layout.DENSE:
            layout.density(figure, x, -row - 17 / ROW_PX, 20 / ROW_PX, colour, log)
        else:
            _points(figure, mine, x, row, arm, colour, metric)
        fewest = min(fewest, len(x))
        labels.append(f"{layout.bold(arm, colour)} n = {len(x):,}")
        notes.append(_quantiles(figure, x, row, colour, metric, palette.theme(dark).muted))
    height = layout.rows(figure, labels, list(colours.values()), notes=notes, row_px=ROW_PX)
    few = f"; p95 in brackets needs {metrics.needed(0.95)} trials"
    few *= not metrics.supported(fewest, 0.95)
    finding = titles.finding(finding, metric)
    return layout.finish(
        figure,
        finding.title,
        titles.subtitle(finding, metric, metrics.axis(metric), f"every measured trial{few}"),
        height,
        dark=dark,
        frame=trials,
        reason=finding.reason,
        x_title=layout.metric_axis(figure, metric, log=log),
    )


def _points(figure, trials, x, row: int, arm: str, colour: str, metric: str) -> None:
    hover = [
        f"{layout.bold(arm)} {value(metric, amount)}<br>"
        f"{'client-caused, ' * bool(trial.client_caused)}"
        f"block {trial.block}, {layout.trial_words(trial.trial_id)}"
        for amount, trial in zip(x, trials.itertuples(), strict=True)
    ]
    ids = trials[["trial_id", "block"]].astype(str).values
    y = -row + layout.MIDDLE + layout.jitter(len(x), 0.3)
    layout.points(figure, x, y, layout.crowd(colour, len(x)), hover, ids)


def _quantiles(figure, x: np.ndarray, row: int, colour: str, metric: str, muted: str) -> str:
    """Ticks at what n can carry; the same in words, p95 greyed in brackets where it cannot."""
    parts = []
    for name, q in metrics.QUANTILES.items():
        at, supported = float(np.quantile(x, q)), metrics.supported(len(x), q)
        median = q == 0.5
        if median or supported:
            layout.tick(figure, at, row, colour, width=3 if median else 2)
            parts.append(f"{name} {value(metric, at)}")
        elif name == "p95":
            parts.append(layout.tint(f"{name} ({value(metric, at)})", muted))
    return " · ".join(parts)
