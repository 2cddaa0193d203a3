"""Paired differences, block by block."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, titles
from lab.stats import Finding
from lab.units import value

ROW_PX = 76
FIRST_PX, LAST_PX = 8, 52
"""From a row's middle down to its first and its last dot: all stand clear of the words above."""

DOTS, CURVE = "a dot a block, the first on top", "the curve: how many blocks differ so much"


def pairs(
    differences: pd.DataFrame,
    metric: str,
    dark: bool = False,
    *,
    finding: Finding | None = None,
    arms: layout.Arms | None = None,
) -> go.Figure:
    """Each block's difference from the baseline as a point, the first block on top of its row; past
    layout.DENSE a density. Columns of pair_differences, and endpoint columns; `finding` is the
    run's on this metric."""
    differences = differences[differences["metric"] == metric].dropna(subset="difference")
    if differences.empty:
        words = "A pair needs a block in which both arms ended well."
        return layout.empty(words, dark, "Block by block")
    baseline = str(differences["baseline"].iloc[0])
    order = layout.order([arm for arm in arms or () if arm != baseline], differences["arm"])
    colours = layout.arm_colours(arms, [baseline, *order], dark)
    known = metrics.find(metric)
    sign, better = (-1, known.more) if known.higher_is_better else (1, known.less)
    figure, notes, are_dense = go.Figure(), [], False
    for row, arm in enumerate(order):
        rows = differences[differences["arm"] == arm].sort_values("block")
        x = rows["difference"].astype(float).to_numpy()
        if is_dense := len(x) > layout.DENSE:
            floor, height = -row - LAST_PX / ROW_PX, (LAST_PX - FIRST_PX) / ROW_PX
            layout.density(figure, x, floor, height, colours[arm])
        else:
            _points(figure, rows, x, row, arm, colours[arm], metric)
        are_dense |= is_dense
        middle, wins = float(np.median(x)), int((sign * x < 0).sum())
        ends = {"above": -(FIRST_PX - 4) / ROW_PX, "below": (LAST_PX + 4) / ROW_PX}
        layout.tick(figure, middle, row, colours[arm], **ends)
        blocks = f"{better} in {wins} of {len(x)} block{'s' * (len(x) != 1)}"
        notes.append(f"median {value(metric, middle, sign=True)} · {blocks}")
    labels = [layout.bold(arm, colours[arm]) for arm in order]
    height = layout.rows(figure, labels, notes=notes, row_px=ROW_PX)
    layout.zero(figure, dark)
    figure.update_yaxes(range=[-(len(order) - 1) - (LAST_PX + 6) / ROW_PX, 18 / ROW_PX])
    figure.update_xaxes(separatethousands=True, nticks=6)
    unit, finding = metrics.unit(metric), titles.finding(finding, metric)
    drawn = f"difference in {known.words} from {baseline}, {unit}"
    return layout.finish(
        figure,
        finding.title,
        titles.subtitle(finding, metric, drawn, CURVE if are_dense else DOTS),
        height,
        dark=dark,
        frame=differences,
        reason=finding.reason,
        x_title=f"{unit}, left of zero is less than {baseline}",
    )


def _points(figure, rows: pd.DataFrame, x, row: int, arm: str, colour: str, metric: str) -> None:
    first = FIRST_PX if len(x) > 1 else (FIRST_PX + LAST_PX) / 2
    down = first + np.arange(len(x)) / max(len(x) - 1, 1) * (LAST_PX - FIRST_PX)
    y = -row - down / ROW_PX
    hover = [
        f"{layout.bold(arm)} block {pair.block}: {value(metric, pair.difference, sign=True)}<br>"
        f"{value(metric, pair.value)} against {value(metric, pair.baseline_value)}"
        for pair in rows.itertuples()
    ]
    ids = rows[["trial_id", "baseline_trial_id"]].astype(str).values
    layout.points(figure, x, y, layout.crowd(colour, len(x)), hover, ids)
