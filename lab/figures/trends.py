"""Change over time: a metric from run to run, and the control arm within one run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.units import percent, value, when


def history_trend(
    frame: pd.DataFrame, dark: bool = False, *, metric: str = "wait_ms", reason: str | None = None
) -> go.Figure:
    """The median of each arm (and model, where there are several) run after run. Columns: started_utc, arm, model, p50, n, run_id."""
    frame = frame[frame["p50"].notna()] if "p50" in frame.columns else frame
    if frame.empty:
        return layout.empty(
            "With two runs of a technique, its trend stands here.", dark, "From run to run"
        )
    if "is_baseline" in frame.columns:
        frame = frame.sort_values("is_baseline", ascending=False, kind="stable")
    several = frame["model"].nunique() > 1
    line = frame["arm"].astype(str) + (" · " + frame["model"].astype(str) if several else "")
    names = list(dict.fromkeys(line))
    colours = palette.arm_colours(names, dark)
    figure = go.Figure()
    for name in names:
        rows = frame[line == name].sort_values("started_utc")
        draw = figure.add_scattergl if len(rows) > 400 else figure.add_scatter
        draw(
            x=rows["started_utc"],
            y=rows["p50"].astype(float),
            mode="lines+markers",
            line={"color": colours[name], "width": 2},
            marker={"size": 8 if len(rows) < 100 else 4},
            customdata=rows[["run_id"]].astype(str).values,
            hovertext=[
                f"{layout.bold(name)} {value(metric, row.p50)}<br>n = {row.n}, {when(row.started_utc)}"
                for row in rows.itertuples()
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    figure.update_yaxes(rangemode="tozero", separatethousands=True, nticks=6)
    first_day, last_day = frame["started_utc"].min(), frame["started_utc"].max()
    pad = max(
        (last_day - first_day) * 0.04,
        pd.Timedelta(hours=6) if first_day == last_day else pd.Timedelta(0),
    )
    figure.update_xaxes(range=[first_day - pad, last_day + pad], nticks=5)
    first = frame[line == names[0]].sort_values("started_utc")
    change = (
        first["p50"].iloc[-1] / first["p50"].iloc[0] - 1
        if len(first) > 1 and first["p50"].iloc[0]
        else None
    )
    runs = frame["run_id"].nunique()
    title = (
        f"{names[0]}: {percent(change, sign=True)} from the first run to the last"
        if change is not None
        else f"{runs} run so far"
    )
    return layout.finish(
        figure,
        title,
        f"median {metrics.words(metric)}, {metrics.unit(metric)}, of each run · {layout.count(runs, 'runs')} · {layout.where(frame)}",
        260,
        dark=dark,
        kind=layout.one_kind(frame),
        reason=reason,
        x_title="run started, UTC",
        legend=colours if len(colours) <= 8 else None,
        left=layout.AXIS_PX,
    )


def drift(
    frame: pd.DataFrame,
    dark: bool = False,
    *,
    metric: str = "wait_ms",
    effect_ms: float | None = None,
    reason: str | None = None,
) -> go.Figure:
    """The control over a run's minutes, with the medians of both halves: a trend here is the endpoint's, not a technique's."""
    frame = (
        frame[frame["value"].notna()].sort_values("minutes") if "value" in frame.columns else frame
    )
    if len(frame) < 2:
        return layout.empty("Drift needs at least two blocks.", dark, "The control over time")
    colours = palette.theme(dark)
    x, y = frame["minutes"].astype(float).to_numpy(), frame["value"].astype(float).to_numpy()
    half = len(y) // 2
    before, after = float(np.median(y[:half])), float(np.median(y[half:]))
    figure = go.Figure()
    draw = figure.add_scattergl if len(x) > 400 else figure.add_scatter
    draw(
        x=x,
        y=y,
        mode="markers",
        marker={"color": palette.fade(colours.arms[0], 0.7), "size": 8 if len(x) < 200 else 5},
        customdata=frame[["trial_id"]].astype(str).values if "trial_id" in frame.columns else None,
        hovertext=[
            f"{value(metric, v)} at {minute:.1f} min" for minute, v in zip(x, y, strict=True)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    for level, start, end in ((before, x[0], x[half - 1]), (after, x[half], x[-1])):
        figure.add_scatter(
            x=[start, end],
            y=[level, level],
            mode="lines",
            line={"color": colours.arms[0], "width": 3},
            hoverinfo="skip",
        )
    figure.update_yaxes(rangemode="tozero", separatethousands=True, nticks=5)
    figure.update_xaxes(rangemode="tozero", nticks=6)
    moved = value(metric, after - before, sign=True)
    beside = (
        f"; the effect is {value(metric, effect_ms, sign=True)}" if effect_ms is not None else ""
    )
    return layout.finish(
        figure,
        f"The control moved by {moved} from the first half to the second{beside}",
        f"{metrics.words(metric)} of the baseline, {metrics.unit(metric)} · bars: each half's median · {layout.count(len(y))} · {layout.where(frame)}",
        200,
        dark=dark,
        kind=layout.one_kind(frame),
        reason=reason,
        x_title="minutes since the run began",
        left=layout.AXIS_PX,
    )
