"""The forest plot: all techniques on one zero line."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import metrics, units
from lab.figures import layout, palette
from lab.stats import Finding
from lab.stats.verdict import REFUSALS
from lab.units import missing, percent, quantile, usd, value

ROW_PX = 60
HEAD_PX, FOOT_PX = 20, 6
"""Above the first row, which side of zero is which; below the last, room for its dot."""
MOST = 4
"""What goes on past ±400 % ends in an arrow."""
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
    an estimate is a ghost row, one whose verdict refuses or has doubts is grey and says so.

    Columns: technique, title, and of its Comparison ratio, ratio_low, ratio_high, estimate, low,
    high, baseline_p50; where known arm, metric, n, verdict, cost_change_usd, quality, the
    verdict's tone, the run's finding, run_id, imported_from, endpoint, endpoint_kind, model.
    """
    if finds.empty:
        return layout.empty(NOTHING, dark, "What was found")
    finds = finds.reset_index(drop=True)
    changes = [change(find) for _, find in finds.iterrows()]
    figure, labels, notes = go.Figure(), [], []
    ends = _shares_across(figure, [share for share in changes if share])
    for (row, find), share in zip(finds.iterrows(), changes, strict=True):
        if share is None:
            label, note = _ghost(figure, row, find, dark)
        else:
            label, note = _row(figure, row, find, share, ends, dark)
        labels.append(label)
        notes.append(note)
    height = layout.rows(figure, labels, notes=notes, row_px=ROW_PX)
    colours = palette.theme(dark)
    # No line runs through a word.
    figure.for_each_annotation(lambda words: words.update(bgcolor=colours.ground))
    layout.zero(figure, dark)
    known = finds[[share is not None for share in changes]]
    if len(known):
        _directions(figure, known, len(labels), colours.muted)
        height += HEAD_PX + FOOT_PX
    return layout.finish(
        figure,
        _finding(known),
        "change in each technique's headline metric, 95\u00a0% interval",
        height,
        dark=dark,
        frame=known,
    )


def _ghost(figure: go.Figure, row: int, find: pd.Series, dark: bool) -> tuple[str, str]:
    """A row without a change: a dotted line. Returns its label and note."""
    colours, y = palette.theme(dark), -row - 24 / ROW_PX
    line = {"color": colours.ghost, "width": 1, "dash": "dot"}
    figure.add_shape(type="line", x0=-1, x1=0, y0=y, y1=y, line=line)
    known = _doubt(find)
    note = "not tried yet" if missing(find.get("run_id")) else "no pair to compare yet"
    if known:
        note = _short(find, known)
    title = layout.safe(find.get("title") or find["technique"])
    return layout.tint(title, colours.muted), layout.tint(layout.safe(note), colours.muted)


def _row(
    figure: go.Figure,
    row: int,
    find: pd.Series,
    share: Change,
    ends: tuple[float, float],
    dark: bool,
) -> tuple[str, str]:
    """A dot and its interval, what it is of and what it costs above them. Returns label and
    note."""
    y, doubt, muted = -row - 24 / ROW_PX, _doubt(find), palette.theme(dark).muted
    tone = muted if doubt else palette.tone_colour(find.get("tone"), dark)
    label = layout.bold(find.get("title") or find["technique"])
    arm = "" if missing(find.get("arm")) else layout.safe(find["arm"])
    metric = str(find.get("metric", "wait_ms"))
    change = percent(share.middle, sign=True)
    tail = find.get("quantile")
    words = metrics.words(metric) if missing(tail) else f"{quantile(tail)} {metrics.words(metric)}"
    for x, text, anchor in ((0, words, "left"), (1, _price(find), "right")):
        place = {"xref": "paper", "xanchor": anchor, "yanchor": "middle"}
        layout.write(figure, layout.safe(text), x, -row - 6 / ROW_PX, muted, **place)
    hover = f"{' '.join(filter(None, (label, arm)))}: {change}"
    if share.low is not None and share.high is not None:
        low, high = max(share.low, ends[0]), min(share.high, ends[1])
        if low < high:
            layout.line(figure, [low, high], [y, y], tone)
        hover += f" [{percent(share.low, sign=True)}, {percent(share.high, sign=True)}]"
    base = find.get("baseline_p50" if missing(tail) else "baseline_tail")
    hover += f"<br>{words}, baseline {value(metric, base)}"
    hover += "" if missing(find.get("n")) else f", n = {int(find['n'])}"
    hover += f"<br>{layout.safe(doubt)}" if doubt else ""
    ids = [[str(find.get("run_id")), str(find["technique"])]]
    dot = {"color": tone, "size": 12}
    middle = min(max(share.middle, ends[0]), ends[1])
    layout.points(figure, [middle], [y], dot, [hover], ids)
    for end, symbol, beyond in zip(ends, ("left", "right"), _beyond(share, ends), strict=True):
        if beyond:
            arrow = {"color": tone, "size": 12, "symbol": f"triangle-{symbol}"}
            layout.points(figure, [end], [y], arrow, [hover], ids, cliponaxis=False)
    label = f"{label} {layout.tint(arm, muted)}"
    if doubt:
        return label, layout.tint(layout.safe(_short(find, doubt)), muted)
    return label, f"<b>{_amount(metric, find)}</b> {change}"


def _amount(metric: str, find: pd.Series) -> str:
    """The estimate as the verdict's card writes it: with the figures of its interval."""
    known = [find.get(name) for name in ("estimate", "low", "high")]
    if any(missing(end) for end in known):
        return value(metric, known[0], sign=True)
    return units.ends(metric, *known)[0]


def _beyond(share: Change, ends: tuple[float, float]) -> tuple[bool, bool]:
    """Whether a change or its interval goes on past the left end, and past the right one."""
    known = [end for end in share if end is not None]
    return min(known) < ends[0], max(known) > ends[1]


def _doubt(find: pd.Series) -> str | None:
    """Why its number is not to be taken at its word, as the verdict says it."""
    known = find.get("finding")
    return known.reason if isinstance(known, Finding) else None


def _short(find: pd.Series, doubt: str) -> str:
    """What a refusal begins with; a doubt is long, and stands in the hover."""
    if find.get("verdict") in REFUSALS:
        first = re.split("[:;]", doubt, maxsplit=1)[0]
        return f"{first[:1].lower()}{first[1:]}"
    return f"doubtful: {percent(change(find).middle, sign=True)}"


def _price(find: pd.Series) -> str:
    """Where the run was imported, and its change in cost and in quality; silent where it has
    neither price nor checker."""
    parts = ["imported"] if not missing(find.get("imported_from")) else []
    if not missing(cost := find.get("cost_change_usd")):
        parts.append(f"cost {usd(cost, sign=True) if cost else 'equal'}")
    if not missing(quality := find.get("quality")):
        change = value("quality", quality.change, sign=True)
        change = "equal" if abs(quality.change) < 0.005 else change
        parts.append(f"quality {change if quality.best else '0 % in both'}")
    return " · ".join(parts)


def _shares_across(figure: go.Figure, changes: list[Change]) -> tuple[float, float]:
    """From no wait at all to the largest change, in steps that leave at most seven ticks. Returns
    where the axis ends: what goes on past it has an arrow."""
    left = max(-MOST, min([-1.0, *(share.middle for share in changes)]))
    right = max([0.25, *(end for share in changes for end in (share.middle, share.high) if end)])
    edge = min(right, MOST)
    pad = 0.03 * (edge - left)
    step = next(step for step in (0.25, 0.5, 1.0, 2.0) if (edge - left) / step <= 7 or step == 2)
    places = range(int(np.floor(left / step)), int(np.ceil(edge / step)) + 1)
    figure.update_xaxes(
        range=[left - pad, edge + pad],
        tickvals=[step * place for place in places],
        ticktext=[percent(step * place, sign=True) if place else "0" for place in places],
    )
    return left, edge


def _directions(figure: go.Figure, finds: pd.DataFrame, rows: int, muted: str) -> None:
    """What left and right of zero mean, above the first row and on either side of the line."""
    names = finds["metric"] if "metric" in finds else pd.Series(["wait_ms"])
    is_time = all(metrics.find(str(name)).is_time for name in names)
    top = 0.5 + HEAD_PX / ROW_PX
    for text, anchor, shift in (
        ("← less waiting" if is_time else "← less", "right", -6),
        ("more →", "left", 6),
    ):
        place = {"xanchor": anchor, "yanchor": "middle", "xshift": shift}
        layout.write(figure, text, 0, top - HEAD_PX / 2 / ROW_PX, muted, **place)
    figure.update_yaxes(range=[-(rows - 1) - 0.5 - FOOT_PX / ROW_PX, top])


def _finding(finds: pd.DataFrame) -> str:
    """Which verdicts say faster, without a doubt, quality apart: each row says what became of it.
    Rows have metrics of their own, so none of them is the best."""
    if finds.empty:
        return "No technique has been tried yet"
    proven = [
        find for _, find in finds.iterrows() if find.get("verdict") == "faster" and not _doubt(find)
    ]
    names = [str(find.get("title") or find["technique"]) for find in proven]
    if not proven:
        return "No technique has been shown to be faster yet"
    if len(proven) == 1:
        known = proven[0].get("finding")
        return (
            f"{names[0]}: {known.title}"
            if isinstance(known, Finding)
            else f"{names[0]} is shown to be faster"
        )
    if len(proven) < 4:
        return f"{', '.join(names[:-1])} and {names[-1]} are shown to be faster"
    return f"{len(proven)} of the {len(finds)} techniques tried are shown to be faster"
