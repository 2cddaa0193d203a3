"""Change over time: a metric from run to run, and the control arm within one run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics, stats
from lab.figures import layout, palette
from lab.stats.change_points import change_points
from lab.units import percent, value, when


def history_trend(frame: pd.DataFrame, dark: bool = False, *, metric: str = "wait_ms") -> go.Figure:
    """The median of each arm (and model, where there are several) run after run. Columns:
    started_utc, arm, is_baseline, model, p50, n, run_id; place (of each arm among its technique's,
    by which it is coloured, in the order of the rows)."""
    frame = frame.dropna(subset="p50")
    if frame.empty:
        words = "With two runs of a technique, its trend stands here."
        return layout.empty(words, dark, "From run to run")
    if "place" not in frame:
        frame = frame.sort_values("is_baseline", ascending=False, kind="stable")
    several = frame["model"].nunique() > 1
    line = frame["arm"].astype(str) + (" · " + frame["model"].astype(str) if several else "")
    names = dict(zip(line, frame["place"], strict=True)) if "place" in frame else list(line)
    colours, figure = palette.arm_colours(names, dark), go.Figure()
    for name in colours:
        rows = frame[line == name].sort_values("started_utc")
        hover = [
            f"{layout.bold(name)} {value(metric, run.p50)}<br>n = {run.n}, {when(run.started_utc)}"
            for run in rows.itertuples()
        ]
        layout.points(
            figure,
            rows["started_utc"],
            rows["p50"].astype(float),
            {"size": 8 if len(rows) < 100 else 4},
            hover,
            rows[["run_id"]].astype(str).values,
            mode="lines+markers",
            line={"color": colours[name], "width": 2},
        )
    has_changes = _changes(figure, {colours[name]: frame[line == name] for name in colours})
    layout.from_zero(figure, "y")
    first, last = frame["started_utc"].min(), frame["started_utc"].max()
    pad = max((last - first) * 0.04, pd.Timedelta(hours=6 if first == last else 0))
    figure.update_xaxes(range=[first - pad, last + pad], nticks=5)
    runs = frame["run_id"].nunique()
    return layout.finish(
        figure,
        # Runs are not paired: what lies between two of them may be the hour's, or the machine's.
        f"Median {metrics.words(metric)}, run by run",
        f"{metrics.unit(metric)} · runs are not paired, so nothing is judged here · "
        f"{'dashed: from there on an arm has another level · ' * has_changes}"
        f"{runs} run{'s' * (runs != 1)}",
        260,
        dark=dark,
        frame=frame,
        x_title="run started, UTC",
        legend=colours if len(colours) <= 8 else None,
        left=layout.AXIS_PX,
    )


def _changes(figure: go.Figure, lines: dict[str, pd.DataFrame]) -> bool:
    """A dashed line where the medians of an arm change (E-divisive, of ten runs or more), with how
    much; whether there is any. `lines` are runs by their colour. Arms that change at one run have
    one line: the first one's."""
    seen = set()
    for colour, runs in lines.items():
        rows = runs.sort_values("started_utc")
        medians = rows["p50"].to_numpy(float)
        ends = [0, *change_points(medians), len(medians)]
        for place, at in enumerate(ends[1:-1], 1):
            began = rows["started_utc"].iloc[at]
            if began in seen:
                continue
            seen.add(began)
            before = np.median(medians[ends[place - 1] : at])
            share = np.median(medians[at : ends[place + 1]]) / before - 1
            figure.add_vline(x=began, line={"color": colour, "width": 1.5, "dash": "dash"})
            where = {"yref": "paper", "yanchor": "top", "xanchor": "left", "xshift": 4}
            words = percent(share, sign=True)
            layout.write(figure, words, began, 1, palette.as_text(colour), **where)
    return bool(seen)


def drift(
    frame: pd.DataFrame,
    dark: bool = False,
    *,
    metric: str = "wait_ms",
    effect: float | None = None,
) -> go.Figure:
    """The control over a run's minutes, with the medians of both halves: a trend here is the
    endpoint's, not a technique's. Columns: minutes, value, trial_id.

    `effect` is the planned comparison's, in the metric's unit. How far the control moved is said as
    the verdict's doubt says it; of fewer trials than that takes, by the medians.
    """
    frame = frame.dropna(subset="value").sort_values("minutes")
    if len(frame) < 2:
        return layout.empty("Drift needs at least two blocks.", dark, "The control over time")
    colour, figure = palette.theme(dark).arms[0], go.Figure()
    x, y = frame["minutes"].astype(float).to_numpy(), frame["value"].astype(float).to_numpy()
    half = len(y) // 2
    before, after = float(np.median(y[:half])), float(np.median(y[half:]))
    if is_dense := len(x) > layout.DENSE:
        layout.band(figure, x, y, colour)
    else:
        marker = layout.crowd(colour, len(x)) | {"color": palette.fade(colour, 0.7)}
        hover = [
            f"{value(metric, at)} at {minute:.1f} min" for minute, at in zip(x, y, strict=True)
        ]
        layout.points(figure, x, y, marker, hover, frame[["trial_id"]].astype(str).values)
    layout.line(figure, [x[0], x[half - 1]], [before, before], colour)
    layout.line(figure, [x[half], x[-1]], [after, after], colour)
    layout.from_zero(figure, "y", nticks=5)
    figure.update_xaxes(rangemode="tozero", nticks=6)
    known = stats.drift(y, x)
    drawn = f"bars: each half's median{', band: 9 of 10 trials' * is_dense}"
    moved = value(metric, known.change if known else after - before, sign=True)
    beside = "" if effect is None else f"; the effect is {value(metric, effect, sign=True)}"
    unit = f"{metrics.words(metric)} of the baseline, {metrics.unit(metric)}"
    return layout.finish(
        figure,
        f"The control moved by {moved} from the first half to the second{beside}",
        f"{unit} · {drawn} · {layout.count(len(y))}",
        200,
        dark=dark,
        frame=frame,
        x_title="minutes since the run began",
        left=layout.AXIS_PX,
    )
