"""Parts of a whole, a row an arm: what a trial waited for, where requests were sent; and speed-up
against how much ran at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from lab.figures import layout, palette, titles
from lab.stats import Finding
from lab.units import times, value


def waits_colours(dark: bool = False) -> dict[str, str]:
    """What a trial waits for, in the steps that its spans are drawn in."""
    steps = palette.theme(dark).phases
    shades = {"model": steps["tokens"], "tool": steps["prefill"], "join": steps["send"]}
    return shades | {"own": palette.theme(dark).ghost}


def tier_colours(dark: bool = False) -> dict[str, str]:
    steps = palette.theme(dark).phases
    return {"small": steps["headers"], "large": steps["tokens"]}


def stacked(
    parts: pd.DataFrame,
    shades: Mapping[str, str],
    dark: bool = False,
    *,
    title: str,
    subtitle: str,
    metric: str = "total_ms",
    arms: layout.Arms | None = None,
    words: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    reason: str | None = None,
) -> go.Figure:
    """One bar an arm, its parts side by side: `parts` has arm, part, amount (in the metric's unit)
    and, for the label, endpoint columns. `reason` is why its times cannot be trusted."""
    if parts.empty:
        return layout.empty("Run the experiment: the parts of each arm stand here.", dark, title)
    colours, words = layout.arm_colours(arms, parts["arm"], dark), words or {}
    amounts = parts.pivot_table(index="arm", columns="part", values="amount", aggfunc="sum")
    amounts = amounts.reindex(list(colours)).fillna(0)
    figure, starts = go.Figure(), pd.Series(0.0, index=amounts.index)
    present = [name for name in shades if name in amounts and amounts[name].sum() > 0]
    for name in present:
        lengths, word = amounts[name], layout.safe(words.get(name, name))
        hover = [
            f"{layout.bold(arm)} {word}: {value(metric, amount)}" for arm, amount in lengths.items()
        ]
        layout.bars(figure, range(len(colours)), starts, lengths, shades[name], hover)
        starts = starts + lengths
    totals = [(notes or {}).get(arm) or value(metric, starts[arm]) for arm in colours]
    height = layout.arm_rows(figure, colours, totals)
    return layout.finish(
        figure,
        title,
        subtitle,
        height,
        dark=dark,
        frame=parts,
        reason=reason,
        x_title=layout.metric_axis(figure, metric),
        legend={words.get(name, name): shades[name] for name in present},
    )


def speed_up(
    points: pd.DataFrame,
    dark: bool = False,
    *,
    finding: Finding | None = None,
    arms: layout.Arms | None = None,
    run_id: str | None = None,
) -> go.Figure:
    """Speed-up against n, a dot for each arm of a run, in the arm's colour where the run is this
    one; the line is n times. Columns: run_id, arm, n, speed_up and, for the label, endpoint
    columns. `finding` is this run's on the total time."""
    if points.empty:
        words = "Run the experiment: its speed-up stands here against n."
        return layout.empty(words, dark, "Speed-up")
    colours, figure = palette.theme(dark), go.Figure()
    edge = max(float(points["n"].max()), float(points["speed_up"].max()), 2.0) + 0.5
    layout.line(figure, [1, edge], [1, edge], colours.zero, 1, "dot")
    _dots(figure, points, {"color": colours.ghost, "size": 9})
    shown = points[points["run_id"] == run_id] if run_id else points
    names = layout.arm_colours(arms, points["arm"], dark)
    for arm, rows in shown.groupby("arm", sort=False):
        _dots(figure, rows, {"color": names[str(arm)], "size": 13})
    place = {"xanchor": "right", "yanchor": "top", "yshift": -10}
    layout.write(figure, "n times", edge, edge, colours.muted, **place)
    figure.update_xaxes(range=[0.5, edge + 0.2], dtick=1)
    figure.update_yaxes(range=[0, edge + 0.2], ticksuffix="×", nticks=6)
    metric, runs = "total_ms", points["run_id"].nunique()
    finding = finding or Finding("Speed-up against how much runs at once")
    drawn = "median total of the baseline ÷ that of the arm"
    counted = f"{runs} run{'s' * (runs != 1)}{', this one in colour' if run_id else ''}"
    return layout.finish(
        figure,
        finding.title,
        titles.subtitle(finding, metric, drawn, counted),
        220,
        dark=dark,
        frame=points,
        reason=finding.reason,
        x_title="how many tools or requests (n)",
        left=layout.AXIS_PX,
        legend={arm: names[arm] for arm in names if arm in set(shown["arm"])},
    )


def _dots(figure: go.Figure, runs: pd.DataFrame, marker: Mapping[str, Any]) -> None:
    hover = [
        f"{layout.bold(run.arm)}: {times(run.speed_up)} with n = {run.n}<br>"
        f"{layout.safe(run.endpoint)}"
        for run in runs.itertuples()
    ]
    layout.points(figure, runs["n"], runs["speed_up"], marker, hover)
