"""Paired differences, block by block."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette, titles
from lab.units import value

ROW_PX = 72


def pairs(
    differences: pd.DataFrame,
    metric: str,
    dark: bool = False,
    *,
    arms: list[str] | None = None,
    reason: str | None = None,
) -> go.Figure:
    """Each block's difference from the baseline as a point, the first block on top of its row.
    Columns of pair_differences."""
    differences = differences[differences["metric"] == metric].dropna(subset="difference")
    if differences.empty:
        words = "A pair needs a block in which both arms ended well."
        return layout.empty(words, dark, "Block by block")
    baseline = str(differences["baseline"].iloc[0])
    order = layout.order([arm for arm in arms or () if arm != baseline], differences["arm"])
    colours = palette.arm_colours([*(arms or [baseline]), *order], dark)
    sign = -1 if metrics.find(metric).higher_is_better else 1
    figure, notes, shares = go.Figure(), [], []
    for row, arm in enumerate(order):
        rows = differences[differences["arm"] == arm].sort_values("block")
        x = rows["difference"].astype(float).to_numpy()
        _points(figure, rows, x, row, arm, colours[arm], metric)
        middle, wins = float(np.median(x)), int((sign * x < 0).sum())
        layout.tick(figure, middle, row, colours[arm], above=6 / ROW_PX, below=48 / ROW_PX)
        notes.append(f"median {value(metric, middle, sign=True)} · {wins} of {len(x)} blocks")
        shares.append((wins / len(x), arm, wins, len(x)))
    labels = [layout.bold(arm, colours[arm]) for arm in order]
    height = layout.rows(figure, labels, notes=notes, row_px=ROW_PX)
    layout.zero(figure, dark)
    figure.update_yaxes(range=[-(len(order) - 1) - 50 / ROW_PX, 22 / ROW_PX])
    figure.update_xaxes(separatethousands=True, nticks=6)
    _, arm, wins, total = max(shares)
    unit = metrics.unit(metric)
    return layout.finish(
        figure,
        f"{titles.better(metric, arm, baseline)} in {wins} of {total} blocks",
        f"difference in {metrics.words(metric)} from {baseline}, {unit} · a dot a block, first"
        " block on top",
        height,
        dark=dark,
        frame=differences,
        reason=reason,
        x_title=f"{unit}, left of zero is less than {baseline}",
    )


def _points(figure, rows: pd.DataFrame, x, row: int, arm: str, colour: str, metric: str) -> None:
    top = 2 if len(x) > 1 else -18
    y = -row + top / ROW_PX - np.arange(len(x)) / max(len(x) - 1, 1) * 46 / ROW_PX
    hover = [
        f"{layout.bold(arm)} block {pair.block}: {value(metric, pair.difference, sign=True)}<br>"
        f"{value(metric, pair.value)} against {value(metric, pair.baseline_value)}"
        for pair in rows.itertuples()
    ]
    ids = rows[["trial_id", "baseline_trial_id"]].astype(str).values
    layout.points(figure, x, y, layout.crowd(colour, len(x)), hover, ids)
