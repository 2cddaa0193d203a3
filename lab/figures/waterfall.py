"""Where the time of a call goes: connection, sending, waiting for headers, to the first token, hidden thinking, tokens to the end."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab.figures import layout, palette, titles
from lab.units import missing, ms, short_id

PHASE_WORDS = {
    "dns": "DNS",
    "connect": "TCP",
    "tls": "TLS",
    "send": "sending",
    "headers": "waiting for headers",
    "prefill": "headers to first token",
    "thinking": "hidden thinking",
    "tokens": "tokens to the end",
}


def phases(call: pd.Series) -> list[tuple[str, float, float]]:
    """A call's phases in order as (name, start, length) in ms from its own start; they touch, and end with the call."""

    def clock(*names: str) -> float | None:
        found = [float(call[name]) for name in names if name in call and not missing(call[name])]
        return min(found) if found else None

    end = clock("ended_at_ms", "total_ms") or 0.0
    text = clock("first_text_at_ms", "first_tool_at_ms")
    marks: list[tuple[str, float | None]] = []
    at = 0.0
    for name in ("dns", "connect", "tls"):
        length = clock(f"{name}_ms")
        if length:
            at += length
            marks.append((name, at))
    marks.append(("send", clock("sent_at_ms")))
    marks.append(("headers", clock("headers_at_ms")))
    marks.append(("prefill", clock("first_thinking_at_ms", "first_text_at_ms", "first_tool_at_ms")))
    if not missing(call.get("first_thinking_at_ms")):
        marks.append(("thinking", text or end))
    marks.append(("tokens", end))
    bars, start = [], 0.0
    for name, stop in marks:
        if stop is not None and stop > start:
            bars.append((name, start, stop - start))
            start = stop
    return bars


def _hover(call: pd.Series) -> str:
    lines = [f"{PHASE_WORDS[name]}: {ms(length)}" for name, _, length in phases(call)]
    if not missing(call.get("connection_reused")) and bool(call["connection_reused"]):
        lines.insert(0, "connection reused")
    for part in ("queue", "prefill", "decode"):
        if not missing(call.get(f"server_{part}_ms")):
            lines.append(f"server's own {part}: {ms(call[f'server_{part}_ms'])}")
    if not missing(call.get("error_kind")):
        lines.append(f"error: {layout.safe(call['error_kind'])}")
    return "<br>".join(lines)


def _draw(
    figure: go.Figure,
    calls: pd.DataFrame,
    colours: dict[str, str],
    labels: list[str],
    notes: list[str],
    dark: bool,
) -> tuple[int, dict[str, str]]:
    """One row a call; a trace for each phase, so that the legend names each once. Returns (plot height in px, the legend)."""
    drawn = [phases(call) for _, call in calls.iterrows()]
    start = [
        0.0 if missing(call.get("started_ms")) else float(call["started_ms"])
        for _, call in calls.iterrows()
    ]
    hover = [_hover(call) for _, call in calls.iterrows()]
    ids = calls[["trial_id", "call_id"]].astype(str).values.tolist()
    present = [
        phase
        for phase in palette.PHASES
        if any(name == phase for bars in drawn for name, _, _ in bars)
    ]
    for phase in present:
        at = [
            (row, begun, length)
            for row, bars in enumerate(drawn)
            for name, begun, length in bars
            if name == phase
        ]
        figure.add_bar(
            x=[length for _, _, length in at],
            base=[start[row] + begun for row, begun, _ in at],
            y=[-row for row, _, _ in at],
            name=PHASE_WORDS[phase],
            marker={"color": palette.theme(dark).phases[phase], "line": {"width": 0}},
            customdata=[ids[row] for row, _, _ in at],
            hovertext=[f"{labels[row]}<br>{hover[row]}" for row, _, _ in at],
            hovertemplate="%{hovertext}<extra></extra>",
            **layout.BAR,
        )
    height = layout.rows(figure, labels, [colours.get(arm) for arm in calls["arm"]], notes=notes)
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(rangemode="tozero", separatethousands=True, nticks=6)
    return height, {PHASE_WORDS[phase]: palette.theme(dark).phases[phase] for phase in present}


def _first_token(call: pd.Series) -> float | None:
    return None if missing(call.get("ttft_ms")) else float(call["ttft_ms"])


def _note(call: pd.Series) -> str:
    first, end = _first_token(call), call.get("total_ms", call.get("ended_at_ms"))
    return (
        f"first token {ms(first)} · end {ms(end)}"
        if first is not None
        else f"whole answer {ms(end)}"
    )


def waterfall(
    calls: pd.DataFrame,
    dark: bool = False,
    *,
    arms: list[str] | None = None,
    n: int | None = None,
    metric: str = "ttft_ms",
    reason: str | None = None,
) -> go.Figure:
    """The median trial of each arm, call by call, from that trial's start (call_metrics' columns); n trials lie behind each median."""
    calls = calls[~calls["role"].isin(["prime", "check"])] if "role" in calls.columns else calls
    if calls.empty:
        return layout.empty(
            "When a run has a finished trial, its phases stand here.", dark, "Where the time goes"
        )
    order = layout.order(arms, calls["arm"])
    calls = calls[calls["arm"].isin(order)]
    calls = (
        calls.assign(place=calls["arm"].map(order.index))
        .sort_values(["place", "started_ms"], kind="stable")
        .reset_index(drop=True)
    )
    colours = palette.arm_colours([*(arms or ()), *order], dark)
    muted = palette.theme(dark).muted
    several = calls.groupby("arm")["call_id"].transform("size") > 1
    labels = [
        layout.bold(call["arm"], colours[call["arm"]])
        + f' <span style="color:{muted}">{layout.safe(call["role"]) if several[row] else short_id(call["trial_id"])}</span>'
        for row, call in calls.iterrows()
    ]
    figure = go.Figure()
    height, present = _draw(
        figure, calls, colours, labels, [_note(call) for _, call in calls.iterrows()], dark
    )
    value = {"ttft_ms": "ttft_ms", "wait_ms": "first_text_at_ms"}.get(metric)
    firsts = calls.groupby("arm", sort=False)
    if value:
        values = {
            arm: rows.iloc[0][value]
            if not missing(rows.iloc[0].get(value))
            else rows.iloc[0]["total_ms"]
            for arm, rows in firsts
        }
    else:
        values = {arm: (rows["started_ms"] + rows["total_ms"]).max() for arm, rows in firsts}
    subtitle = " · ".join(
        part
        for part in (
            "ms, the median trial of each arm and its id",
            layout.count(n) if n else "",
            layout.where(calls),
        )
        if part
    )
    return layout.finish(
        figure,
        f"In the median trials, {titles.widest(metric, values)}",
        subtitle,
        height,
        dark=dark,
        kind=layout.one_kind(calls),
        reason=reason,
        x_title="ms from the trial's start",
        legend=present,
    )


def trial_rows(
    calls: pd.DataFrame,
    dark: bool = False,
    *,
    colour: str | None = None,
    limit: int = 60,
    reason: str | None = None,
) -> go.Figure:
    """Every trial of one arm as a waterfall row, in the order they ran; past `limit` trials an even spread from fastest to slowest."""
    calls = calls[~calls["role"].isin(["prime", "check"])] if "role" in calls.columns else calls
    if calls.empty:
        return layout.empty("Choose an arm with finished trials.", dark, "The trials of one arm")
    ends = (
        (calls["started_ms"].fillna(0) + calls["total_ms"].fillna(0))
        .groupby(calls["trial_id"])
        .max()
        .sort_values()
    )
    chosen = list(ends.index)
    if len(chosen) > limit:
        chosen = [chosen[round(place * (len(chosen) - 1) / (limit - 1))] for place in range(limit)]
    shown = (
        calls[calls["trial_id"].isin(chosen)]
        .sort_values(["block", "trial_id", "started_ms"], kind="stable")
        .reset_index(drop=True)
    )
    arm = str(shown["arm"].iloc[0])
    colour = colour or palette.theme(dark).arms[0]
    labels = [
        f"block {call['block']} {layout.trial_words(call['trial_id'])}"
        for _, call in shown.iterrows()
    ]
    figure = go.Figure()
    height, present = _draw(
        figure, shown, {arm: colour}, labels, [_note(call) for _, call in shown.iterrows()], dark
    )
    low, high = ends.min(), ends.max()
    part = (
        f"{len(chosen)} of {len(ends)} trials, spread from fastest to slowest"
        if len(chosen) < len(ends)
        else f"n = {len(ends)}"
    )
    return layout.finish(
        figure,
        f"{arm}: trials end between {ms(low)} and {ms(high)}",
        f"ms, one row a call · {part} · {layout.where(shown)}",
        height,
        dark=dark,
        kind=layout.one_kind(shown),
        reason=reason,
        x_title="ms from the trial's start",
        legend=present,
    )
