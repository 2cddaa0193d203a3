"""The spans of one trial as a waterfall, with the critical path: what the trial really waited
for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pandas as pd
import plotly.graph_objects as go

from lab.critical_path import WAITS, by_kind
from lab.figures import layout, race
from lab.figures.stacked import waits_colours
from lab.units import ms, percent

KIND_WORDS = {"model": "the model", "tool": "tools", "join": "joins", "own": "its own work"}


def span_waterfall(
    spans: pd.DataFrame,
    path: pd.DataFrame,
    dark: bool = False,
    *,
    arm: str = "",
    colour: str | None = None,
    pair: str = "",
) -> go.Figure:
    """Every span of a trial, indented by depth: solid where it lies on the critical path
    (lab.critical_path), pale where it does not. `pair` says in words which trial it is."""
    spans = spans[spans["ended_ms"].notna()]
    if spans.empty:
        return layout.empty("Choose a trial to see its spans.", dark, "The spans of a trial")
    shades, placed, figure = waits_colours(dark), tree(spans), go.Figure()
    ordered = [span for span, _ in placed]
    rows = {span.span_id: row for row, span in enumerate(ordered)}
    _bars(
        figure,
        shades,
        [(span, WAITS.get(span.kind, "own"), _about(span)) for span in ordered],
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
    labels = [" " * depth + layout.bold(span.name) for span, depth in placed]
    notes = [
        "chosen" if span.kind == "route" else ms(span.ended_ms - span.started_ms)
        for span in ordered
    ]
    tabs = [colour if span.kind == "trial" else None for span in ordered]
    height = layout.rows(figure, labels, tabs, notes=notes)
    layout.from_zero(figure)
    waits = by_kind(path)
    total, most = sum(waits.values()) or 1.0, max(waits, key=waits.get)
    parts = " · ".join(f"{KIND_WORDS[kind]} {ms(wait)}" for kind, wait in waits.items() if wait > 0)
    trial = ", ".join(filter(None, (pair, layout.trial_words(spans["trial_id"].iloc[0]))))
    layout.finish(
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
    return race.on_its_clock(figure)


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


def tree(spans: pd.DataFrame) -> list:
    """Spans with their depth: parents before their children, siblings in the order they began."""
    rows = sorted(spans.itertuples(), key=lambda span: (span.started_ms, -span.ended_ms))
    known, children = set(spans["span_id"]), defaultdict(list)
    for span in rows:
        children[span.parent_id if span.parent_id in known else None].append(span)

    def below(parent: str | None, depth: int) -> Iterator:
        for span in children[parent]:
            yield span, depth
            yield from below(span.span_id, depth + 1)

    return list(below(None, 0))
