"""Trials as points: by arm, and as paired differences block by block."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette, titles
from lab.units import value

FLOORS = {50: 6, 90: 36, 95: 72, 99: 368}
"""Trials that a two-sided 95 % bound of a percentile needs (distribution-free: 1 − q^n − (1 − q)^n ≥ 0.95)."""


def jitter(n: int, spread: float) -> np.ndarray:
    """Offsets by the golden ratio: even, and the same at every redraw."""
    return (np.arange(1, n + 1) * 0.618034 % 1 - 0.5) * spread


def points(figure: go.Figure, x: np.ndarray, y: np.ndarray, colour: str, **more) -> None:
    kind = figure.add_scattergl if len(x) > 400 else figure.add_scatter
    kind(
        x=x,
        y=y,
        mode="markers",
        marker={
            "color": palette.fade(colour, 0.55 if len(x) > 12 else 0.9),
            "size": 8 if len(x) < 200 else 5,
        },
        **more,
    )


def tick(
    figure: go.Figure, x: float, row: int, colour: str, width: int = 3, dash: str | None = None
) -> None:
    figure.add_shape(
        type="line",
        x0=x,
        x1=x,
        y0=-row + 1 / 36,
        y1=-row - 16 / 36,
        line={"color": colour, "width": width, "dash": dash},
    )


def distribution(
    trials: pd.DataFrame,
    metric: str,
    dark: bool = False,
    *,
    arms: list[str] | None = None,
    label: str = "arm",
    log: bool = False,
    reason: str | None = None,
) -> go.Figure:
    """Every measured trial as a point with its p50, p95, p99 (in brackets where n cannot carry it); past 2,000 points a density."""
    good = (
        trials[(trials["outcome"] == "ok") & (trials["phase"] == "measured")]
        if {"outcome", "phase"} <= set(trials.columns)
        else trials
    )
    good = good[good[metric].notna()]
    if good.empty:
        return layout.empty(f"No trial of this run has a {metrics.words(metric)}.", dark)
    order = layout.order(arms, good[label])
    colours = palette.arm_colours([*(arms or ()), *order], dark)
    muted = palette.theme(dark).muted
    figure, notes, medians = go.Figure(), [], {}
    for row, name in enumerate(order):
        mine = good[good[label] == name]
        x = mine[metric].astype(float).to_numpy()
        if len(x) > layout.DENSE:
            _density(figure, x, row, colours[name], log)
        else:
            ids = (
                mine[["trial_id", "block"]].astype(str).values
                if {"trial_id", "block"} <= set(mine.columns)
                else None
            )
            marks = [
                "client-caused, " if "client_caused" in mine.columns and bool(flag) else ""
                for flag in mine.get("client_caused", [False] * len(x))
            ]
            points(
                figure,
                x,
                -row + layout.MIDDLE + jitter(len(x), 0.3),
                colours[name],
                showlegend=False,
                customdata=ids,
                hovertext=[
                    f"{layout.bold(name)} {value(metric, v)}<br>{mark}"
                    + ("" if ids is None else f"block {ids[i][1]}, {layout.trial_words(ids[i][0])}")
                    for i, (v, mark) in enumerate(zip(x, marks, strict=True))
                ],
                hovertemplate="%{hovertext}<extra></extra>",
            )
        medians[name] = float(np.median(x))
        parts = []
        for q in (50, 95, 99):
            supported = len(x) >= FLOORS[q]
            at = float(np.quantile(x, q / 100))
            if q == 50 or supported:
                tick(figure, at, row, colours[name], width=3 if q == 50 else 2)
            if q == 50:
                parts.append(f"p50 {value(metric, at)}")
            elif q == 95 or supported:
                parts.append(
                    f"p{q} {value(metric, at)}"
                    if supported
                    else f'<span style="color:{muted}">p95 ({value(metric, at)})</span>'
                )
        notes.append(" · ".join(parts))
    labels = [
        f"{layout.bold(name, colours[name])} n = {int((good[label] == name).sum()):,}"
        for name in order
    ]
    height = layout.rows(figure, labels, [colours[name] for name in order], notes=notes, row_px=44)
    few = (
        "; p95 in brackets needs 72 trials"
        if any((good[label] == name).sum() < FLOORS[95] for name in order)
        else ""
    )
    return layout.finish(
        figure,
        _headed(metric, medians),
        f"{metrics.words(metric)}, {metrics.unit(metric)} · every measured trial{few} · {layout.where(good)}",
        height,
        dark=dark,
        kind=layout.one_kind(good),
        reason=reason,
        x_title=layout.metric_axis(figure, metric, log=log),
    )


def _headed(metric: str, medians: dict[str, float]) -> str:
    if len(medians) == 1:
        name, median = next(iter(medians.items()))
        return f"Half of {name}'s trials stay below {value(metric, median)}"
    return f"At the median, {titles.widest(metric, medians)}"


def _density(figure: go.Figure, x: np.ndarray, row: int, colour: str, log: bool) -> None:
    heights, edges = np.histogram(
        np.log10(x[x > 0]) if log else x, bins=min(120, max(20, int(len(x) ** 0.5)))
    )
    middle = (edges[1:] + edges[:-1]) / 2
    middle = 10**middle if log else middle
    floor = -row - 17 / 44
    figure.add_scatter(
        x=[middle[0], *middle, middle[-1]],
        y=[floor, *(floor + heights / heights.max() * 20 / 44), floor],
        mode="lines",
        line={"color": colour, "width": 1.5},
        fill="toself",
        fillcolor=palette.fade(colour, 0.25),
        hoverinfo="skip",
    )


def pairs(
    differences: pd.DataFrame,
    metric: str,
    dark: bool = False,
    *,
    arms: list[str] | None = None,
    reason: str | None = None,
) -> go.Figure:
    """Each block's difference from the baseline as a point, the first block on top of its row (pair_differences' columns)."""
    mine = (
        differences[differences["metric"] == metric]
        if "metric" in differences.columns
        else differences
    )
    mine = mine[mine["difference"].notna()]
    if mine.empty:
        return layout.empty(
            "A pair needs a block in which both arms ended well.", dark, "Block by block"
        )
    baseline = str(mine["baseline"].iloc[0])
    order = layout.order([arm for arm in arms or () if arm != baseline], mine["arm"])
    colours = palette.arm_colours([*(arms or [baseline]), *order], dark)
    lower = metric not in ("tokens_per_s", "quality")
    row_px = 72
    figure, notes, titles = go.Figure(), [], []
    for row, arm in enumerate(order):
        rows = mine[mine["arm"] == arm].sort_values("block")
        x = rows["difference"].astype(float).to_numpy()
        y = (
            -row
            + 2 / row_px
            - np.arange(len(x)) / max(len(x) - 1, 1) * 46 / row_px
            - (0 if len(x) > 1 else 20 / row_px)
        )
        wins = int(((x < 0) if lower else (x > 0)).sum())
        points(
            figure,
            x,
            y,
            colours[arm],
            showlegend=False,
            customdata=rows[["trial_id", "baseline_trial_id"]].astype(str).values,
            hovertext=[
                f"{layout.bold(arm)} block {pair.block}: {value(metric, pair.difference, sign=True)}<br>"
                f"{value(metric, pair.value)} against {value(metric, pair.baseline_value)}"
                for pair in rows.itertuples()
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
        middle = float(np.median(x))
        figure.add_shape(
            type="line",
            x0=middle,
            x1=middle,
            y0=-row + 6 / row_px,
            y1=-row - 48 / row_px,
            line={"color": colours[arm], "width": 3},
        )
        notes.append(f"median {value(metric, middle, sign=True)} · {wins} of {len(x)} blocks")
        titles.append((wins / len(x), arm, wins, len(x)))
    height = layout.rows(
        figure,
        [layout.bold(arm, colours[arm]) for arm in order],
        [None] * len(order),
        notes=notes,
        row_px=row_px,
    )
    figure.add_vline(x=0, line={"color": palette.theme(dark).zero, "width": 1})
    figure.update_yaxes(range=[-(len(order) - 1) - 50 / row_px, 22 / row_px])
    figure.update_xaxes(separatethousands=True, nticks=6)
    _, arm, wins, total = max(titles)
    better = {"tokens_per_s": "faster", "cost_usd": "cheaper", "quality": "better"}.get(
        metric, "sooner" if metric.endswith("_ms") else "lower"
    )
    return layout.finish(
        figure,
        f"{arm} was {better} than {baseline} in {wins} of {total} blocks",
        f"difference in {metrics.words(metric)} from {baseline}, {metrics.unit(metric)} · a dot a block, first block on top · {layout.where(mine)}",
        height,
        dark=dark,
        kind=layout.one_kind(mine),
        reason=reason,
        x_title=f"{metrics.unit(metric)}, left of zero is less than {baseline}",
    )
