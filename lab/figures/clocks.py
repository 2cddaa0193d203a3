"""All clocks of one recorded stream: when "it started" depends on which clock is meant."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.units import missing, ms, short_id

SENT = "sent_at_ms"
CLOCKS = {SENT: "request sent", **metrics.CALL_CLOCKS}


def clock_ladder(
    calls: pd.DataFrame,
    dark: bool = False,
    *,
    arms: list[str] | None = None,
    headline: str | None = None,
) -> go.Figure:
    """One rung a clock, one dot an arm; the headline's clock alone carries the planned verdict, the
    others say "exploratory". Columns of call_metrics; the first call of an arm is drawn."""
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
    trials = ", ".join(f"{arm} {short_id(calls.at[arm, 'trial_id'])}" for arm in colours)
    return layout.finish(
        figure,
        _title(calls, present),
        f"ms from the call's start, one recorded call of each arm ({trials})",
        height,
        dark=dark,
        frame=calls,
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
    planned = metrics.find(headline or "").call_clock
    labels = []
    for clock in present:
        name, note = CLOCKS[clock], "" if headline is None else " exploratory"
        if clock == planned:
            name, note = layout.bold(name), " planned verdict"
        labels.append(name + layout.tint(note, muted))
    return labels


def _title(calls: pd.DataFrame, present: list[str]) -> str:
    arm = calls[present].notna().sum(axis=1).idxmax()
    instants = calls.loc[arm, present].dropna().astype(float).drop(SENT, errors="ignore")
    if len(instants) < 2 or instants.iloc[-1] <= instants.iloc[0]:
        return "Every clock of one stream"
    apart = ms(instants.iloc[-1] - instants.iloc[0])
    first, last = CLOCKS[instants.index[0]], CLOCKS[instants.index[-1]]
    return f"{arm}: {apart} lie between {first} and {last}"
