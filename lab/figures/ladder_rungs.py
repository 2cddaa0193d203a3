"""The rungs of a ladder: each lever's share on the way from today to the winner, and below them,
grey, what is not in the stack and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from lab.figures import layout, palette
from lab.units import counted, percent

ROW_PX = 52
NOTHING = "No lever was tried to its end, so there are no rungs."


def of(result: Any, dark: bool = False) -> go.Figure:
    """Of a lab.ladder_results.LadderResult."""
    return rungs(
        result.rungs,
        result.others,
        result.searched_words,
        dark,
        kind=result.run["endpoint_kind"],
        reason=result.why_grey,
    )


def rungs(
    helping: Sequence[Any],
    others: Sequence[Any],
    objective: str,
    dark: bool = False,
    *,
    kind: str | None = None,
    reason: str | None = None,
) -> go.Figure:
    """`helping` and `others` are lab.ladder_results.Rung: lever, title, words, change, low, high
    (shares; None without an interval) and reason. `objective` in words; `reason` greys all."""
    rows = [*helping, *others]
    if not rows:
        return layout.empty(NOTHING, dark, "The rungs")
    colours, figure = palette.theme(dark), go.Figure()
    labels, notes = [], []
    for place, rung in enumerate(rows):
        is_in = place < len(helping)
        # The stack's colour is that of the arm which it becomes.
        tone = colours.arms[1] if is_in and not reason else colours.muted
        _draw(figure, place, rung, tone)
        words = layout.bold(f"{rung.title}: {rung.words}")
        labels.append(words if is_in else layout.tint(words, colours.muted))
        notes.append(_note(rung, is_in, colours.muted))
    height = layout.rows(figure, labels, notes=notes, row_px=ROW_PX)
    # No line runs through a word.
    figure.for_each_annotation(lambda words: words.update(bgcolor=colours.ground))
    layout.zero(figure, dark)
    _across(figure, rows)
    return layout.finish(
        figure,
        f"What the search saw of {_levers(rows)}" if reason else _title(helping, rows),
        f"change in {objective} as each joins those above it, by the search, which is not quoted ·"
        " grey: not in the stack",
        height,
        dark=dark,
        kind=kind,
        reason=reason,
    )


def _draw(figure: go.Figure, place: int, rung: Any, tone: str) -> None:
    y, told = -place - 12 / ROW_PX, percent(rung.change, sign=True)
    if rung.low is not None and rung.high is not None:
        layout.line(figure, [rung.low, rung.high], [y, y], tone)
        told += f" [{percent(rung.low, sign=True)}, {percent(rung.high, sign=True)}]"
    elif rung.reason:
        return
    hover = f"{layout.bold(rung.title)}: {told}"
    if rung.reason:
        hover += f"<br>{layout.safe(rung.reason)}"
    layout.points(figure, [rung.change], [y], {"color": tone, "size": 12}, [hover])


def _note(rung: Any, is_in: bool, muted: str) -> str:
    if is_in:
        return layout.bold(percent(rung.change, sign=True))
    return layout.tint(layout.safe(rung.reason), muted)


def _title(helping: Sequence[Any], rows: Sequence[Any]) -> str:
    """ "2 of 5 levers are in the stack"."""
    if not helping:
        return f"None of {_levers(rows)} is in the stack"
    return f"{len(helping)} of {_levers(rows)} {'is' if len(helping) == 1 else 'are'} in the stack"


def _levers(rows: Sequence[Any]) -> str:
    """A lever with several levels has as many rows."""
    return counted(len({rung.lever for rung in rows}), "lever")


def _across(figure: go.Figure, rows: Sequence[Any]) -> None:
    ends = [end for rung in rows for end in (rung.change, rung.low, rung.high) if end is not None]
    left, right = min([-0.25, *ends]), max([0.05, *ends])
    pad = 0.04 * (right - left)
    step = 0.25 if right - left < 2 else 0.5
    marks = [step * place for place in range(int(left / step) - 1, int(right / step) + 2)]
    figure.update_xaxes(
        range=[left - pad, right + pad],
        tickvals=marks,
        ticktext=[percent(mark, sign=True) if mark else "0" for mark in marks],
    )
