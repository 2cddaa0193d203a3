"""What was found: the forest plot of all techniques, the interval under a verdict's number, and what the instrument can see."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.units import missing, ms, percent, usd, value


def _tone(find: pd.Series) -> str:
    if not missing(find.get("tone")):
        return str(find["tone"])
    return {
        "faster": "good",
        "slower": "bad",
        "faster_but_worse": "warn",
        "faster_only_shorter": "warn",
    }.get(str(find.get("verdict")), "neutral")


def _share(find: pd.Series) -> float:
    """The change as a share of the baseline, as the verdict says it: by the ratio within blocks, where that is known."""
    if not missing(find.get("ratio")):
        return float(find["ratio"]) - 1
    return float(find["estimate"]) / float(find["baseline_p50"])


def _beside(find: pd.Series) -> str:
    """Where the run was imported, and its change in cost and in quality; silent where it has neither price nor checker."""
    parts = ["imported"] if not missing(find.get("imported_from")) else []
    if not missing(change := find.get("cost_change_usd")):
        parts.append("cost equal" if change == 0 else f"cost {usd(change, sign=True)}")
    if not missing(change := find.get("quality_change")):
        parts.append(
            "quality equal"
            if abs(change) < 0.005
            else f"quality {value('points', change * 100, sign=True)} points"
        )
    return " · ".join(parts)


def forest(finds: pd.DataFrame, dark: bool = False) -> go.Figure:
    """One row a technique on one zero line: the change of its headline median in %, with its interval; no estimate makes a ghost row.

    Columns: technique, title, estimate, low, high, baseline_p50; where known ratio, arm, metric, n, tone or verdict,
    cost_change_usd, quality_change, run_id, endpoint, endpoint_kind, model.
    """
    if finds.empty:
        return layout.empty(
            "Run an experiment: its change in wait stands here, beside the others.",
            dark,
            "What was found",
        )
    colours = palette.theme(dark)
    finds = finds.reset_index(drop=True)
    figure, labels, notes, low_edge, high_edge, row_px = go.Figure(), [], [], -1.0, 0.25, 60
    known = [
        not missing(find.get("estimate"))
        and not missing(find.get("baseline_p50"))
        and find["baseline_p50"] > 0
        for _, find in finds.iterrows()
    ]
    for row, find in finds.iterrows():
        title, y = find.get("title") or find["technique"], -row - 24 / row_px
        if not known[row]:
            labels.append(f'<span style="color:{colours.muted}">{layout.safe(title)}</span>')
            said = "not tried yet" if missing(find.get("run_id")) else "no pair to compare yet"
            notes.append(f'<span style="color:{colours.muted}">{said}</span>')
            figure.add_shape(
                type="line",
                x0=-1,
                x1=0,
                y0=y,
                y1=y,
                line={"color": colours.ghost, "width": 1, "dash": "dot"},
            )
            continue
        base = float(find["baseline_p50"])
        low, high = (
            float(find[name]) / base if not missing(find.get(name)) else np.nan
            for name in ("low", "high")
        )
        middle = _share(find)
        low_edge, high_edge = min(low_edge, middle), max(high_edge, middle, np.nan_to_num(high))
        tone = palette.tone_colour(_tone(find), dark)
        arm = f" {layout.safe(find['arm'])}" if not missing(find.get("arm")) else ""
        labels.append(layout.bold(title))
        notes.append(f"<b>{ms(find['estimate'], sign=True)}</b> {percent(middle, sign=True)}")
        for x, text in ((0, arm.strip()), (1, _beside(find))):
            figure.add_annotation(
                x=x,
                xref="paper",
                y=-row - 6 / row_px,
                text=text,
                showarrow=False,
                xanchor="right" if x else "left",
                yanchor="middle",
                font={"color": colours.muted},
            )
        if not np.isnan(low):
            # No time falls by more than all of it; in ms, where the baseline scatters, the interval can.
            drawn = [max(low, -1.0), high]
            figure.add_scatter(
                x=drawn,
                y=[y, y],
                mode="lines",
                line={"color": tone, "width": 3},
                hoverinfo="skip",
                showlegend=False,
            )
        interval = (
            "" if np.isnan(low) else f" [{percent(low, sign=True)}, {percent(high, sign=True)}]"
        )
        figure.add_scatter(
            x=[middle],
            y=[y],
            mode="markers",
            marker={"color": tone, "size": 12},
            showlegend=False,
            customdata=[[str(find.get("run_id")), str(find["technique"])]],
            hovertext=[
                f"{layout.bold(title)}{arm}: {percent(middle, sign=True)}{interval}<br>"
                f"{metrics.words(str(find.get('metric', 'wait_ms')))}, baseline {ms(base)}"
                + (f", n = {int(find['n'])}" if not missing(find.get("n")) else "")
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    height = layout.rows(figure, labels, [None] * len(labels), notes=notes, row_px=row_px)
    figure.for_each_annotation(
        lambda label: label.update(bgcolor=colours.ground)
    )  # no line runs through a word
    figure.add_vline(x=0, line={"color": colours.zero, "width": 1})
    pad = 0.03 * (high_edge - low_edge)
    step = next(
        step
        for step in (0.25, 0.5, 1.0, 2.0)
        if (min(high_edge, 4) - low_edge) / step <= 7 or step == 2
    )
    ticks = [
        step * place
        for place in range(
            int(np.floor(low_edge / step)), int(np.ceil(min(high_edge, 4) / step)) + 1
        )
    ]
    figure.update_xaxes(
        range=[low_edge - pad, min(high_edge, 4) + pad],
        tickvals=ticks,
        ticktext=[percent(tick, sign=True) if tick else "0" for tick in ticks],
    )
    return layout.finish(
        figure,
        _finding(finds[known]),
        " · ".join(
            filter(
                None,
                (
                    "change of each technique's headline time, 95\u00a0% interval",
                    layout.where(finds[known]),
                ),
            )
        ),
        height,
        dark=dark,
        kind=layout.one_kind(finds[known]),
        x_title="left of zero: less waiting",
    )


def _finding(finds: pd.DataFrame) -> str:
    if finds.empty:
        return "No technique has been tried yet"
    shares = finds.apply(_share, axis=1)
    proven = shares[
        [find.get("verdict") == "faster" or _tone(find) == "good" for _, find in finds.iterrows()]
    ]
    if proven.empty:
        return "No technique has been shown to cut the wait yet"
    best = finds.loc[proven.idxmin()]
    return (
        f"{best.get('title') or best['technique']} cuts its wait most, by {percent(-proven.min())}"
    )


def interval_bar(
    estimate: float | None,
    low: float | None,
    high: float | None,
    dark: bool = False,
    tone: str = "neutral",
    metric: str = "wait_ms",
) -> go.Figure:
    """The interval drawn under the verdict's number, with zero in sight: 56 px high, no title of its own."""
    colours = palette.theme(dark)
    figure = go.Figure()
    ends = [float(v) for v in (estimate, low, high) if not missing(v) and np.isfinite(v)]
    spread = [*ends, 0.0]
    span = (max(spread) - min(spread)) or 1.0
    colour = palette.tone_colour(tone, dark)
    figure.add_vline(x=0, line={"color": colours.zero, "width": 1})
    if len(ends) == 3:
        figure.add_scatter(
            x=[low, high],
            y=[0, 0],
            mode="lines+markers",
            line={"color": colour, "width": 3},
            hoverinfo="skip",
            marker={"symbol": "line-ns", "size": 12, "line": {"color": colour, "width": 3}},
        )
    if not missing(estimate):
        figure.add_scatter(
            x=[estimate],
            y=[0],
            mode="markers",
            marker={"color": colour, "size": 14},
            hovertemplate=f"{value(metric, estimate, sign=True)}<extra></extra>",
        )
    figure.add_annotation(x=0, y=-0.9, text="0", showarrow=False, font={"color": colours.muted})
    if len(ends) == 3:
        words = f"{value(metric, low, sign=True)} … {value(metric, high, sign=True)}"
        near = ((low + high) / 2 - min(spread)) / span
        figure.add_annotation(
            x=low if near < 0.3 else high if near > 0.7 else (low + high) / 2,
            y=-0.9,
            text=words,
            showarrow=False,
            font={"color": colours.muted},
            xanchor="left" if near < 0.3 else "right" if near > 0.7 else "center",
            xshift=-4 if near < 0.3 else 4 if near > 0.7 else 0,
        )
    figure.update_xaxes(visible=False, range=[min(spread) - 0.06 * span, max(spread) + 0.06 * span])
    figure.update_yaxes(visible=False, range=[-1.5, 0.7])
    words = f"{value(metric, estimate, sign=True)}, 95 % interval {value(metric, low, sign=True)} to {value(metric, high, sign=True)}"
    return figure.update_layout(
        template=palette.template(dark),
        height=56,
        margin={"l": 4, "r": 4, "t": 0, "b": 0},
        showlegend=False,
        meta={"alt": words},
    )


def noise_floor(
    points: pd.DataFrame, dark: bool = False, *, reason: str | None = None
) -> go.Figure:
    """The harness's own error against known times; `points` is long: streams, quantile ("p50", …), error_ms."""
    if points.empty:
        return layout.empty(
            "Calibrate once: the lab then knows its own error on this machine.",
            dark,
            "What the instrument can see",
        )
    colours = palette.theme(dark)
    figure = go.Figure()
    steps = {
        "p50": colours.phases["headers"],
        "p95": colours.phases["thinking"],
        "p99": colours.phases["tokens"],
    }
    for name, rows in points.groupby("quantile", sort=True):
        rows = rows.sort_values("streams")
        figure.add_scatter(
            x=rows["streams"].astype(str),
            y=rows["error_ms"],
            mode="lines+markers",
            name=str(name),
            line={"color": steps.get(str(name), colours.muted), "width": 2},
            marker={"size": 8},
            hovertemplate=f"{name} at %{{x}} streams: %{{y:.3g}} ms<extra></extra>",
        )
    figure.update_xaxes(type="category")
    figure.update_yaxes(rangemode="tozero", ticksuffix=" ms")
    one = points[points["streams"] == points["streams"].min()]
    worst = one[one["quantile"] == "p95"]["error_ms"]
    title = (
        f"Alone, the harness is off by {ms(worst.iloc[0])} at p95"
        if len(worst)
        else "The harness's own error"
    )
    return layout.finish(
        figure,
        title,
        "ms, reported minus the simulated server's true time, by streams at once",
        200,
        dark=dark,
        kind="simulated",
        reason=reason,
        x_title="streams at once",
        left=layout.AXIS_PX,
        legend={name: steps[name] for name in steps if name in set(points["quantile"])},
    )
