"""The forest plot: all techniques on one zero line."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.units import missing, ms, percent, usd, value

ROW_PX = 60
MOST = 4
"""Changes beyond +400 % are drawn at the edge."""
NOTHING = "Run an experiment: its change in wait stands here, beside the others."


class Change(NamedTuple):
    """A technique's change as shares of its baseline; low and high are None without an interval."""

    middle: float
    low: float | None
    high: float | None


def change(find: pd.Series) -> Change | None:
    """All three on one scale: that of the ratio within blocks, which verdicts speak of, and where a
    value of zero allows no ratio, the difference over the baseline's median. None where nothing
    was compared."""
    ratios = [find.get(name) for name in ("ratio", "ratio_low", "ratio_high")]
    if not missing(ratios[0]):
        return Change(*(None if missing(ratio) else float(ratio) - 1 for ratio in ratios))
    estimate, base = find.get("estimate"), find.get("baseline_p50")
    if missing(estimate) or missing(base) or base <= 0:
        return None
    ends = (estimate, find.get("low"), find.get("high"))
    return Change(*(None if missing(end) else float(end) / float(base) for end in ends))


def forest(finds: pd.DataFrame, dark: bool = False) -> go.Figure:
    """One row a technique: the change of its headline median in %, with its interval; one without
    an estimate is a ghost row.

    Columns: technique, title, and of its Comparison ratio, ratio_low, ratio_high, estimate, low,
    high, baseline_p50; where known arm, metric, n, verdict, tone, cost_change_usd,
    quality, run_id, imported_from, endpoint, endpoint_kind, model.
    """
    if finds.empty:
        return layout.empty(NOTHING, dark, "What was found")
    finds = finds.reset_index(drop=True)
    changes = [change(find) for _, find in finds.iterrows()]
    figure, labels, notes = go.Figure(), [], []
    for (row, find), share in zip(finds.iterrows(), changes, strict=True):
        draw = _ghost if share is None else _row
        label, note = draw(figure, row, find, share, dark)
        labels.append(label)
        notes.append(note)
    height = layout.rows(figure, labels, notes=notes, row_px=ROW_PX)
    colours = palette.theme(dark)
    # No line runs through a word.
    figure.for_each_annotation(lambda words: words.update(bgcolor=colours.ground))
    layout.zero(figure, dark)
    _shares_across(figure, [share for share in changes if share])
    known = finds[[share is not None for share in changes]]
    return layout.finish(
        figure,
        _finding(known),
        "change of each technique's headline time, 95\u00a0% interval",
        height,
        dark=dark,
        frame=known,
        x_title="left of zero: less waiting",
    )


def _ghost(figure: go.Figure, row: int, find: pd.Series, _: None, dark: bool) -> tuple[str, str]:
    """A row without a change: a dotted line. Returns its label and note."""
    colours, y = palette.theme(dark), -row - 24 / ROW_PX
    line = {"color": colours.ghost, "width": 1, "dash": "dot"}
    figure.add_shape(type="line", x0=-1, x1=0, y0=y, y1=y, line=line)
    note = "not tried yet" if missing(find.get("run_id")) else "no pair to compare yet"
    title = layout.safe(find.get("title") or find["technique"])
    return layout.tint(title, colours.muted), layout.tint(note, colours.muted)


def _row(
    figure: go.Figure, row: int, find: pd.Series, share: Change, dark: bool
) -> tuple[str, str]:
    """A dot and its interval, the arm and what it costs above them. Returns label and note."""
    y, tone = -row - 24 / ROW_PX, palette.tone_colour(find.get("tone"), dark)
    label = layout.bold(find.get("title") or find["technique"])
    arm = "" if missing(find.get("arm")) else layout.safe(find["arm"])
    change = percent(share.middle, sign=True)
    for x, text, anchor in ((0, arm, "left"), (1, _price(find), "right")):
        place = {"xref": "paper", "xanchor": anchor, "yanchor": "middle"}
        layout.write(figure, text, x, -row - 6 / ROW_PX, palette.theme(dark).muted, **place)
    hover = f"{' '.join(filter(None, (label, arm)))}: {change}"
    if share.low is not None and share.high is not None:
        # No time falls by more than all of it; a difference can, where the baseline scatters.
        layout.line(figure, [max(share.low, -1.0), share.high], [y, y], tone)
        hover += f" [{percent(share.low, sign=True)}, {percent(share.high, sign=True)}]"
    words = metrics.words(str(find.get("metric", "wait_ms")))
    hover += f"<br>{words}, baseline {ms(find.get('baseline_p50'))}"
    hover += "" if missing(find.get("n")) else f", n = {int(find['n'])}"
    ids = [[str(find.get("run_id")), str(find["technique"])]]
    layout.points(figure, [share.middle], [y], {"color": tone, "size": 12}, [hover], ids)
    return label, f"<b>{ms(find.get('estimate'), sign=True)}</b> {change}"


def _price(find: pd.Series) -> str:
    """Where the run was imported, and its change in cost and in quality; silent where it has
    neither price nor checker."""
    parts = ["imported"] if not missing(find.get("imported_from")) else []
    if not missing(cost := find.get("cost_change_usd")):
        parts.append(f"cost {usd(cost, sign=True) if cost else 'equal'}")
    if not missing(quality := find.get("quality")):
        points = f"{value('points', quality.change * 100, sign=True)} points"
        parts.append(f"quality {'equal' if abs(quality.change) < 0.005 else points}")
    return " · ".join(parts)


def _shares_across(figure: go.Figure, changes: list[Change]) -> None:
    """From no wait at all to the largest change, in steps that leave at most seven ticks."""
    left = min([-1.0, *(share.middle for share in changes)])
    right = max([0.25, *(end for share in changes for end in (share.middle, share.high) if end)])
    pad, edge = 0.03 * (right - left), min(right, MOST)
    step = next(step for step in (0.25, 0.5, 1.0, 2.0) if (edge - left) / step <= 7 or step == 2)
    places = range(int(np.floor(left / step)), int(np.ceil(edge / step)) + 1)
    figure.update_xaxes(
        range=[left - pad, edge + pad],
        tickvals=[step * place for place in places],
        ticktext=[percent(step * place, sign=True) if place else "0" for place in places],
    )


def _finding(finds: pd.DataFrame) -> str:
    if finds.empty:
        return "No technique has been tried yet"
    proven = {
        str(find.get("title") or find["technique"]): change(find).middle
        for _, find in finds.iterrows()
        if find.get("verdict") == "faster"
    }
    if not proven:
        return "No technique has been shown to cut the wait yet"
    best = min(proven, key=proven.get)
    return f"{best} cuts its wait most, by {percent(-proven[best])}"
