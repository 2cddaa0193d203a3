"""The spans of one trial as a waterfall, with the critical path: what the trial really waited for."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab.figures import layout, palette
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
    reason: str | None = None,
) -> go.Figure:
    """Every span of a trial, indented by depth: solid where it lies on the critical path (lab.critical_path), pale where it does not."""
    spans = spans[spans["ended_ms"].notna()]
    if spans.empty:
        return layout.empty("Choose a trial to see its spans.", dark, "The spans of a trial")
    colours = palette.theme(dark)
    shades = {
        "model": colours.phases["tokens"],
        "tool": colours.phases["prefill"],
        "join": colours.phases["send"],
        "own": colours.ghost,
    }
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
            **layout.BAR,
        )

    def kind_of(kind: str) -> str:
        return OF_SPAN.get(kind, "own")

    bars(
        [
            (
                row,
                kind_of(s.kind),
                s.started_ms,
                s.ended_ms,
                f"{layout.bold(s.name)} {layout.safe(s.kind)}: {ms(s.ended_ms - s.started_ms)}",
            )
            for row, s in enumerate(ordered)
        ],
        pale=True,
    )
    bars(
        [
            (
                place[p.span_id],
                p.kind,
                p.started_ms,
                p.ended_ms,
                f"waited {ms(p.ms)} for {KIND_WORDS[p.kind]}",
            )
            for p in path.itertuples()
            if p.span_id in place
        ],
        pale=False,
    )
    labels = ["\u2003" * depth(s.span_id) + layout.bold(s.name) for s in ordered]
    notes = [
        ms(s.ended_ms - s.started_ms) if s.kind != "route" else layout.safe("chosen")
        for s in ordered
    ]
    height = layout.rows(
        figure, labels, [colour if s.kind == "trial" else None for s in ordered], notes=notes
    )
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(rangemode="tozero", separatethousands=True, nticks=6)
    waited = {kind: float(path.loc[path["kind"] == kind, "ms"].sum()) for kind in KIND_WORDS}
    total = sum(waited.values()) or 1.0
    most = max(waited, key=waited.get)
    parts = " · ".join(
        f"{KIND_WORDS[kind]} {ms(length)}" for kind, length in waited.items() if length > 0
    )
    return layout.finish(
        figure,
        f"{arm + ' waits' if arm else 'The trial waits'} {percent(waited[most] / total)} of its {ms(total)} for {KIND_WORDS[most]}",
        f"ms, critical path solid: {parts} · {layout.trial_words(spans['trial_id'].iloc[0]) if 'trial_id' in spans.columns else ''}",
        height,
        dark=dark,
        kind=layout.one_kind(spans),
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
            own = (
                span.parent_id
                if isinstance(span.parent_id, str) and span.parent_id in known
                else None
            )
            if own == parent:
                found.append(span)
                add(span.span_id)

    add(None)
    return found
