"""Parts of a whole, a row an arm: what a trial waited for, where requests were sent; and speed-up against how much ran at once."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from lab.figures import layout, palette
from lab.units import times, value


def waits_colours(dark: bool = False) -> dict[str, str]:
    """What a trial waits for, in the steps that its spans are drawn in."""
    colours = palette.theme(dark)
    steps = colours.phases
    return {
        "model": steps["tokens"],
        "tool": steps["prefill"],
        "join": steps["send"],
        "own": colours.ghost,
    }


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
    reason: str | None = None,
) -> go.Figure:
    """One bar an arm, its parts side by side: `parts` has arm, part, amount (in the metric's unit) and, for the label, endpoint columns."""
    if parts.empty:
        return layout.empty("Run the experiment: the parts of each arm stand here.", dark, title)
    order = layout.order(arms, parts["arm"])
    colours, words = palette.arm_colours([*(arms or ()), *order], dark), words or {}
    amounts = (
        parts.pivot_table(index="arm", columns="part", values="amount", aggfunc="sum")
        .reindex(order)
        .fillna(0)
    )
    figure, base = go.Figure(), pd.Series(0.0, index=order)
    present = [name for name in shades if name in amounts and amounts[name].sum() > 0]
    for name in present:
        figure.add_bar(
            x=amounts[name],
            base=base,
            y=[-row for row in range(len(order))],
            marker={"color": shades[name], "line": {"width": 0}},
            hovertext=[
                f"{layout.bold(arm)} {layout.safe(words.get(name, name))}: {value(metric, amount)}"
                for arm, amount in amounts[name].items()
            ],
            hovertemplate="%{hovertext}<extra></extra>",
            **layout.BAR,
        )
        base = base + amounts[name]
    said = [(notes or {}).get(arm) or value(metric, base[arm]) for arm in order]
    height = layout.rows(
        figure,
        [layout.bold(arm, colours[arm]) for arm in order],
        [colours[arm] for arm in order],
        notes=said,
    )
    figure.update_layout(barmode="overlay")
    x_title = layout.metric_axis(figure, metric)
    return layout.finish(
        figure,
        title,
        subtitle,
        height,
        dark=dark,
        kind=layout.one_kind(parts),
        reason=reason,
        x_title=x_title,
        legend={words.get(name, name): shades[name] for name in present},
    )


def speed_up(points: pd.DataFrame, dark: bool = False, *, run_id: str | None = None) -> go.Figure:
    """Speed-up against n, a dot a run; the line is n times. Columns: run_id, arm, n, speed_up, and the most its critical path allows."""
    if points.empty:
        return layout.empty(
            "Run the experiment: its speed-up stands here against n.", dark, "Speed-up"
        )
    colours = palette.theme(dark)
    shown = points[points["run_id"] == run_id] if run_id else points
    figure = go.Figure()
    edge = max(float(points["n"].max()), float(points["speed_up"].max()), 2.0) + 0.5
    figure.add_scatter(
        x=[1, edge],
        y=[1, edge],
        mode="lines",
        line={"color": colours.zero, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )
    for frame, colour, size in ((points, colours.ghost, 9), (shown, colours.arms[1], 13)):
        figure.add_scatter(
            x=frame["n"],
            y=frame["speed_up"],
            mode="markers",
            marker={"color": colour, "size": size},
            hovertext=[
                f"{layout.bold(row.arm)}: {times(row.speed_up)} with n = {row.n}<br>{layout.safe(row.endpoint)}"
                for row in frame.itertuples()
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    figure.add_annotation(
        x=edge,
        y=edge,
        text="n times",
        showarrow=False,
        xanchor="right",
        yanchor="top",
        yshift=-10,
        font={"color": colours.muted},
    )
    figure.update_xaxes(range=[0.5, edge + 0.2], dtick=1)
    figure.update_yaxes(range=[0, edge + 0.2], ticksuffix="×", nticks=6)
    best = (
        shown.loc[shown["speed_up"].idxmax()]
        if len(shown)
        else points.loc[points["speed_up"].idxmax()]
    )
    return layout.finish(
        figure,
        f"{best['arm']}: the whole trial is {times(best['speed_up'])} as fast with {int(best['n'])} at once",
        f"median total of the baseline ÷ that of the arm · {layout.count(len(points), 'runs')}, this one in colour · {layout.where(points)}",
        220,
        dark=dark,
        kind=layout.one_kind(points),
        x_title="how many tools or requests (n)",
        left=layout.AXIS_PX,
    )
