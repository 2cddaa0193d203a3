"""Parts of a whole, a row an arm: what a trial waited for, where requests were sent; and speed-up
against how much ran at once."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from lab.figures import layout, palette
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
    arms: list[str] | None = None,
    words: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
) -> go.Figure:
    """One bar an arm, its parts side by side: `parts` has arm, part, amount (in the metric's unit)
    and, for the label, endpoint columns."""
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
        x_title=layout.metric_axis(figure, metric),
        legend={words.get(name, name): shades[name] for name in present},
    )


def speed_up(points: pd.DataFrame, dark: bool = False, *, run_id: str | None = None) -> go.Figure:
    """Speed-up against n, a dot a run; the line is n times. Columns: run_id, arm, n, speed_up and,
    for the label, endpoint columns."""
    if points.empty:
        words = "Run the experiment: its speed-up stands here against n."
        return layout.empty(words, dark, "Speed-up")
    colours = palette.theme(dark)
    shown = points[points["run_id"] == run_id] if run_id else points
    figure = go.Figure()
    edge = max(float(points["n"].max()), float(points["speed_up"].max()), 2.0) + 0.5
    layout.line(figure, [1, edge], [1, edge], colours.zero, 1, "dot")
    for frame, colour, size in ((points, colours.ghost, 9), (shown, colours.arms[1], 13)):
        hover = [
            f"{layout.bold(run.arm)}: {times(run.speed_up)} with n = {run.n}<br>"
            f"{layout.safe(run.endpoint)}"
            for run in frame.itertuples()
        ]
        marker = {"color": colour, "size": size}
        layout.points(figure, frame["n"], frame["speed_up"], marker, hover)
    place = {"xanchor": "right", "yanchor": "top", "yshift": -10}
    layout.write(figure, "n times", edge, edge, colours.muted, **place)
    figure.update_xaxes(range=[0.5, edge + 0.2], dtick=1)
    figure.update_yaxes(range=[0, edge + 0.2], ticksuffix="×", nticks=6)
    runs = shown if len(shown) else points
    best = runs.loc[runs["speed_up"].idxmax()]
    faster = f"{times(best['speed_up'])} as fast with {int(best['n'])} at once"
    return layout.finish(
        figure,
        f"{best['arm']}: the whole trial is {faster}",
        "median total of the baseline ÷ that of the arm ·"
        f" {layout.count(len(points), 'runs')}, this one in colour",
        220,
        dark=dark,
        frame=points,
        x_title="how many tools or requests (n)",
        left=layout.AXIS_PX,
    )
