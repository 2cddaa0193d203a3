"""The spans of one trial as a waterfall, with the critical path: what the trial really waited
for."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab.figures import layout
from lab.figures.stacked import waits_colours
from lab.units import ms, percent

KIND_WORDS = {"model": "the model", "tool": "tools", "join": "joins", "own": "its own work"}
OF_SPAN = {"call": "model", "tool": "tool", "join": "join"}


def span_waterfall(
    spans: pd.DataFrame,
    path: pd.DataFrame,
    dark: bool = False,
    *,
    arm: str = "",
    colour: str | None = None,
) -> go.Figure:
    """Every span of a trial, indented by depth: solid where it lies on the critical path
    (lab.critical_path), pale where it does not."""
    spans = spans[spans["ended_ms"].notna()]
    if spans.empty:
        return layout.empty("Choose a trial to see its spans.", dark, "The spans of a trial")
    shades, ordered, figure = waits_colours(dark), _tree(spans), go.Figure()
    rows = {span.span_id: row for row, span in enumerate(ordered)}
    _bars(
        figure,
        shades,
        [(span, OF_SPAN.get(span.kind, "own"), _about(span)) for span in ordered],
        rows,
        opacity=0.35,
    )
    _bars(
        figure,
        shades,
        [
            (part, part.kind, f"waited {ms(part.ms)} for {KIND_WORDS[part.kind]}")
            for part in path.itertuples()
            if part.span_id in rows
        ],
        rows,
        opacity=1,
    )
    parents = dict(zip(spans["span_id"], spans["parent_id"], strict=True))
    labels = [" " * _depth(span.span_id, parents) + layout.bold(span.name) for span in ordered]
    notes = [
        "chosen" if span.kind == "route" else ms(span.ended_ms - span.started_ms)
        for span in ordered
    ]
    tabs = [colour if span.kind == "trial" else None for span in ordered]
    height = layout.rows(figure, labels, tabs, notes=notes)
    layout.from_zero(figure)
    waits = {kind: float(path.loc[path["kind"] == kind, "ms"].sum()) for kind in KIND_WORDS}
    total, most = sum(waits.values()) or 1.0, max(waits, key=waits.get)
    parts = " · ".join(f"{KIND_WORDS[kind]} {ms(wait)}" for kind, wait in waits.items() if wait > 0)
    trial = layout.trial_words(spans["trial_id"].iloc[0]) if "trial_id" in spans.columns else ""
    return layout.finish(
        figure,
        f"{arm or 'The trial'} waits {percent(waits[most] / total)} of its {ms(total)} for"
        f" {KIND_WORDS[most]}",
        f"ms, critical path solid: {parts} · {trial}",
        height,
        dark=dark,
        kind=layout.one_kind(spans),
        x_title="ms from the trial's start",
        legend={KIND_WORDS[kind]: shades[kind] for kind in KIND_WORDS},
    )


def _bars(
    figure, shades: dict[str, str], parts: list, rows: dict[str, int], opacity: float
) -> None:
    """Parts are (a span or a piece of the path, the kind of its shade, what is read over it)."""
    layout.bars(
        figure,
        [rows[part.span_id] for part, _, _ in parts],
        [part.started_ms for part, _, _ in parts],
        [part.ended_ms - part.started_ms for part, _, _ in parts],
        [shades[kind] for _, kind, _ in parts],
        [hover for *_, hover in parts],
        opacity=opacity,
        customdata=[[part.span_id] for part, _, _ in parts],
    )


def _about(span) -> str:
    length = ms(span.ended_ms - span.started_ms)
    return f"{layout.bold(span.name)} {layout.safe(span.kind)}: {length}"


def _depth(span_id: str, parents: dict[str, str | None]) -> int:
    deep, parent = 0, parents.get(span_id)
    while isinstance(parent, str) and deep < 20:
        deep, parent = deep + 1, parents.get(parent)
    return deep


def _tree(spans: pd.DataFrame) -> list:
    """Parents before their children, siblings in the order they began."""
    rows = sorted(spans.itertuples(), key=lambda span: (span.started_ms, -span.ended_ms))
    known = {span.span_id for span in rows}
    ordered: list = []

    def add(parent: str | None) -> None:
        for span in rows:
            above = span.parent_id
            if (above if isinstance(above, str) and above in known else None) == parent:
                ordered.append(span)
                add(span.span_id)

    add(None)
    return ordered
