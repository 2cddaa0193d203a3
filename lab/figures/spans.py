"""The spans of one trial as a waterfall, with the critical path: what the trial really waited for."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from lab.figures import palette, sheet
from lab.figures.format import ms, percent

KIND_WORDS = {"call": "model", "tool": "tool", "join": "join", "own": "own work"}


class Piece(NamedTuple):
    """A stretch of the critical path: the span waited for, its kind (trial time no child covers is `own`), from and to in ms."""

    span_id: str
    kind: str
    start: float
    end: float


def critical_path(spans: pd.DataFrame) -> list[Piece]:
    """From the root's end walk back through the child that finished last; the pieces touch and sum to the root's wall time."""
    ended = spans[spans["ended_ms"].notna()]
    roots = ended[ended["parent_id"].isna()]
    if roots.empty:
        return []
    children: dict[str, list] = {}
    for span in ended.itertuples():
        if isinstance(span.parent_id, str):
            children.setdefault(span.parent_id, []).append(span)
    pieces: list[Piece] = []

    def walk(span, until: float) -> None:
        kind = span.kind if span.kind in KIND_WORDS else "own"
        at, start = min(until, span.ended_ms), span.started_ms
        for child in sorted(children.get(span.span_id, []), key=lambda one: one.ended_ms, reverse=True):
            end = min(child.ended_ms, at)
            begun = max(child.started_ms, start)
            if end <= begun or child.started_ms >= at:
                continue
            if end < at:
                pieces.append(Piece(span.span_id, kind, end, at))
            walk(child, end)
            at = begun
        if at > start:
            pieces.append(Piece(span.span_id, kind, start, at))

    walk(next(roots.itertuples()), float(roots["ended_ms"].iloc[0]))
    return pieces[::-1]


def waits(pieces: list[Piece]) -> dict[str, float]:
    """Milliseconds of the critical path by what was waited for: call, tool, join, own."""
    found = dict.fromkeys(KIND_WORDS, 0.0)
    for piece in pieces:
        found[piece.kind] += piece.end - piece.start
    return found


def span_waterfall(
    spans: pd.DataFrame,
    path: list[Piece] | None = None,
    dark: bool = False,
    *,
    arm: str = "",
    colour: str | None = None,
    reason: str | None = None,
) -> go.Figure:
    """Every span of a trial in the order it began, indented by depth; solid where it lies on the critical path, pale where it does not."""
    spans = spans[spans["ended_ms"].notna()]
    if spans.empty:
        return sheet.empty("Choose a trial to see its spans.", dark, "The spans of a trial")
    path = critical_path(spans) if path is None else path
    colours = palette.theme(dark)
    shades = {"call": colours.phases["tokens"], "tool": colours.phases["prefill"], "join": colours.phases["send"], "own": colours.ghost}
    parents = dict(zip(spans["span_id"], spans["parent_id"], strict=True))

    def depth(span_id: str) -> int:
        deep, at = 0, parents.get(span_id)
        while isinstance(at, str) and deep < 20:
            deep, at = deep + 1, parents.get(at)
        return deep

    ordered = _tree(spans)
    place = {span.span_id: row for row, span in enumerate(ordered)}
    figure = go.Figure()

    def bars(rows: list[tuple[int, str, float, float, str]], pale: bool) -> None:
        figure.add_bar(
            x=[end - start for _, _, start, end, _ in rows],
            base=[start for _, _, start, _, _ in rows],
            y=[-row for row, *_ in rows],
            marker={"color": [shades[kind] for _, kind, *_ in rows], "line": {"width": 0}},
            opacity=0.35 if pale else 1,
            customdata=[[ordered[row].span_id] for row, *_ in rows],
            hovertext=[text for *_, text in rows],
            hovertemplate="%{hovertext}<extra></extra>",
            **sheet.BAR,
        )

    def kind_of(kind: str) -> str:
        return kind if kind in shades else "own"

    bars(
        [
            (row, kind_of(s.kind), s.started_ms, s.ended_ms, f"{sheet.bold(s.name)} {sheet.safe(s.kind)}: {ms(s.ended_ms - s.started_ms)}")
            for row, s in enumerate(ordered)
        ],
        pale=True,
    )
    bars(
        [
            (place[p.span_id], p.kind, p.start, p.end, f"waited {ms(p.end - p.start)} for {KIND_WORDS[p.kind]}")
            for p in path
            if p.span_id in place
        ],
        pale=False,
    )
    labels = ["\u2003" * depth(s.span_id) + sheet.bold(s.name) for s in ordered]
    notes = [ms(s.ended_ms - s.started_ms) if s.kind != "route" else sheet.safe("chosen") for s in ordered]
    height = sheet.rows(figure, labels, [colour if s.kind == "trial" else None for s in ordered], notes=notes)
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(rangemode="tozero", separatethousands=True, nticks=6)
    waited = waits(path)
    total = sum(waited.values()) or 1.0
    most = max(waited, key=waited.get)
    parts = " · ".join(f"{KIND_WORDS[kind]} {ms(length)}" for kind, length in waited.items() if length > 0)
    return sheet.finish(
        figure,
        f"{arm + ' waits' if arm else 'The trial waits'} {percent(waited[most] / total)} of its {ms(total)} for {KIND_WORDS[most]}",
        f"ms, critical path solid: {parts} · {sheet.trial_words(spans['trial_id'].iloc[0]) if 'trial_id' in spans.columns else ''}",
        height,
        dark=dark,
        kind=sheet.one_kind(spans),
        reason=reason,
        x_title="ms from the trial's start",
        legend={KIND_WORDS[kind]: shades[kind] for kind in KIND_WORDS},
    )


def _tree(spans: pd.DataFrame) -> list:
    """Parents before their children, siblings in the order they began."""
    rows = sorted(spans.itertuples(), key=lambda span: (span.started_ms, -span.ended_ms))
    known = {span.span_id for span in rows}
    found: list = []

    def add(parent: str | None) -> None:
        for span in rows:
            own = span.parent_id if isinstance(span.parent_id, str) and span.parent_id in known else None
            if own == parent:
                found.append(span)
                add(span.span_id)

    add(None)
    return found
