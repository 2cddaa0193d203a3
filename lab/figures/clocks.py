"""All clocks of one recorded stream: when "it started" depends on which clock is meant."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab.figures import layout, palette
from lab.units import missing, ms, short_id

CLOCKS = {
    "sent_at_ms": "request sent",
    "headers_at_ms": "headers",
    "message_start_at_ms": "message_start",
    "first_thinking_at_ms": "first thinking",
    "first_text_at_ms": "first visible text",
    "first_tool_at_ms": "first tool input",
    "first_sentence_at_ms": "first full sentence",
    "last_token_at_ms": "last token",
    "ended_at_ms": "end",
}
OF_METRIC = {
    "headers_ms": "headers_at_ms",
    "message_start_ms": "message_start_at_ms",
    "first_text_ms": "first_text_at_ms",
    "wait_ms": "first_text_at_ms",
    "first_sentence_ms": "first_sentence_at_ms",
    "last_token_ms": "last_token_at_ms",
    "total_ms": "ended_at_ms",
}


def clock_ladder(
    calls: pd.DataFrame,
    dark: bool = False,
    *,
    arms: list[str] | None = None,
    headline: str | None = None,
    reason: str | None = None,
) -> go.Figure:
    """One rung a clock, one dot an arm; the headline's clock alone carries the planned verdict, the others say "exploratory"."""
    if calls.empty:
        return layout.empty(
            "When a run has a finished trial, its clocks stand here.",
            dark,
            "The clocks of one stream",
        )
    calls = calls.drop_duplicates("arm")
    order = layout.order(arms, calls["arm"])
    colours = palette.arm_colours([*(arms or ()), *order], dark)
    calls = calls.set_index("arm").loc[order].copy()
    # An answer that does not stream can be read only once it is whole.
    whole = (
        calls["ttft_ms"].isna() if "ttft_ms" in calls.columns else calls["first_text_at_ms"].isna()
    )
    calls["first_text_at_ms"] = calls["first_text_at_ms"].where(~whole, calls["ended_at_ms"])
    present = [name for name in CLOCKS if name in calls.columns and calls[name].notna().any()]
    planned = OF_METRIC.get(headline or "")
    figure = go.Figure()
    muted = palette.theme(dark).muted
    labels = []
    for clock in present:
        note = (
            "" if headline is None else " planned verdict" if clock == planned else " exploratory"
        )
        labels.append(
            f'{layout.bold(CLOCKS[clock]) if clock == planned else CLOCKS[clock]}<span style="color:{muted}">{note}</span>'
        )
    for row, clock in enumerate(present):
        values = calls[clock].dropna().astype(float)
        figure.add_scatter(
            x=[0, values.max()],
            y=[-row + layout.MIDDLE] * 2,
            mode="lines",
            line={"color": palette.theme(dark).grid, "width": 6},
            hoverinfo="skip",
            showlegend=False,
        )
    for arm in order:
        rungs = [
            (row, float(calls.at[arm, clock]))
            for row, clock in enumerate(present)
            if not missing(calls.at[arm, clock])
        ]
        figure.add_scatter(
            x=[at for _, at in rungs],
            y=[-row + layout.MIDDLE for row, _ in rungs],
            mode="markers",
            marker={"color": colours[arm], "size": 11},
            name=layout.safe(arm),
            customdata=[
                [str(calls.at[arm, "trial_id"]), str(calls.at[arm, "call_id"]), present[row]]
                for row, _ in rungs
            ],
            hovertext=[
                f"{layout.bold(arm)}: {CLOCKS[present[row]]} at {ms(at)}" for row, at in rungs
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    notes = [
        " · ".join(
            f'<span style="color:{colours[arm]}">{ms(calls.at[arm, clock])}</span>'
            for arm in order
            if not missing(calls.at[arm, clock])
        )
        for clock in present
    ]
    height = layout.rows(figure, labels, [None] * len(present), notes=notes)
    figure.update_xaxes(rangemode="tozero", separatethousands=True, nticks=6)
    trials = ", ".join(f"{arm} {short_id(calls.at[arm, 'trial_id'])}" for arm in order)
    return layout.finish(
        figure,
        _title(calls, order, present),
        f"ms from the call's start, one recorded call of each arm ({trials}) · {layout.where(calls)}",
        height,
        dark=dark,
        kind=layout.one_kind(calls),
        reason=reason,
        x_title="ms from the call's start",
        legend={arm: colours[arm] for arm in order},
    )


def _title(calls: pd.DataFrame, order: list[str], present: list[str]) -> str:
    arm = max(order, key=lambda name: calls.loc[name, present].notna().sum())
    times = calls.loc[arm, present].dropna().astype(float)
    between = times.drop(labels=[name for name in ("sent_at_ms",) if name in times.index])
    if len(between) < 2 or between.iloc[-1] <= between.iloc[0]:
        return "Every clock of one stream"
    return f"{arm}: {ms(between.iloc[-1] - between.iloc[0])} lie between {CLOCKS[between.index[0]]} and {CLOCKS[between.index[-1]]}"
