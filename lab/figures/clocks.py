"""All clocks of one recorded stream: when "it started" depends on which clock is meant."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.stats import Finding
from lab.units import missing, ms

SENT = "sent_at_ms"
CLOCKS = {SENT: "request sent", **metrics.CALL_CLOCKS}
FIRST_TOKENS = ("first_thinking_at_ms", "first_text_at_ms", "first_tool_at_ms")


def clock_ladder(
    calls: pd.DataFrame,
    dark: bool = False,
    *,
    finding: Finding | None = None,
    arms: layout.Arms | None = None,
    headline: str | None = None,
    pair: str = "one recorded call of each arm",
) -> go.Figure:
    """One rung a clock, one dot an arm; the headline's clock alone carries the planned verdict,
    whose `finding` is the title. Columns of call_metrics; the first call of an arm is drawn.
    `pair` says in words which calls they are."""
    if calls.empty:
        words = "When a run has a finished trial, its clocks stand here."
        return layout.empty(words, dark, "The clocks of one stream")
    calls = calls.drop_duplicates("arm")
    colours = layout.arm_colours(arms, calls["arm"], dark)
    calls = calls.set_index("arm").loc[list(colours)].copy()
    # An answer that does not stream can be read only once it is whole.
    streamed = calls["ttft_ms"].notna()
    calls["first_text_at_ms"] = calls["first_text_at_ms"].where(streamed, calls["ended_at_ms"])
    present = [clock for clock in CLOCKS if calls[clock].notna().any()]
    figure, notes, theme = go.Figure(), [], palette.theme(dark)
    for row, clock in enumerate(present):
        instants = calls[clock].dropna().astype(float)
        y = [-row + layout.MIDDLE] * 2
        layout.line(figure, [0, instants.max()], y, theme.grid, 6, showlegend=False)
        notes.append(" · ".join(layout.tint(ms(at), colours[arm]) for arm, at in instants.items()))
    for arm, colour in colours.items():
        _rungs(figure, arm, calls.loc[arm], present, colour)
    labels = _labels(present, headline, theme.muted)
    height = layout.rows(figure, labels, notes=notes)
    layout.from_zero(figure)
    title, reason = "Every clock of one stream", None
    if finding:
        title, reason = finding.title, finding.reason
    others = "" if headline is None else " · all but the verdict's clock are exploratory"
    return layout.finish(
        figure,
        title,
        f"ms from the call's start, {pair}{others}",
        height,
        dark=dark,
        frame=calls,
        reason=reason,
        x_title="ms from the call's start",
        legend=colours,
    )


def _rungs(figure: go.Figure, arm: str, call: pd.Series, present: list[str], colour: str) -> None:
    rungs = [(row, clock) for row, clock in enumerate(present) if not missing(call[clock])]
    layout.points(
        figure,
        [float(call[clock]) for _, clock in rungs],
        [-row + layout.MIDDLE for row, _ in rungs],
        {"color": colour, "size": 11},
        [f"{layout.bold(arm)}: {CLOCKS[clock]} at {ms(call[clock])}" for _, clock in rungs],
        [[str(call["trial_id"]), str(call["call_id"]), clock] for _, clock in rungs],
        name=layout.safe(arm),
    )


def _labels(present: list[str], headline: str | None, muted: str) -> list[str]:
    metric = metrics.find(headline or "")
    planned = metric.call_clock
    if metric.is_time and planned is None:  # first token: of whatever came first
        planned = next((clock for clock in FIRST_TOKENS if clock in present), None)
    verdict = layout.tint(" the verdict's clock", muted)
    return [
        layout.bold(CLOCKS[clock]) + verdict if clock == planned else CLOCKS[clock]
        for clock in present
    ]
