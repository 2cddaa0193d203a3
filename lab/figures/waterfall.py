"""Where the time of a call goes: connection, sending, waiting for headers, to the first token,
hidden thinking, tokens to the end."""

from __future__ import annotations

from itertools import accumulate

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
    """A call's phases in order as (name, start, length) in ms from its own start; they touch, and
    end with the call."""

    def clock(*names: str) -> float | None:
        instants = [float(call[name]) for name in names if not missing(call.get(name))]
        return min(instants, default=None)

    end = clock("ended_at_ms", "total_ms") or 0.0
    text = clock("first_text_at_ms", "first_tool_at_ms")
    thought = clock("first_thinking_at_ms") is not None
    stops = [
        *accumulate(clock(name) or 0.0 for name in ("dns_ms", "connect_ms", "tls_ms")),
        clock("sent_at_ms"),
        clock("headers_at_ms"),
        clock("first_thinking_at_ms", "first_text_at_ms", "first_tool_at_ms"),
        text or end if thought else None,
        end,
    ]
    bars, start = [], 0.0
    for name, stop in zip(palette.PHASES, stops, strict=True):
        if stop is not None and stop > start:
            bars.append((name, start, stop - start))
            start = stop
    return bars


def _hover(call: pd.Series) -> str:
    lines = [f"{PHASE_WORDS[name]}: {ms(length)}" for name, _, length in phases(call)]
    if not missing(call["connection_reused"]) and call["connection_reused"]:
        lines.insert(0, "connection reused")
    for part in ("queue", "prefill", "decode"):
        if not missing(call.get(f"server_{part}_ms")):
            lines.append(f"server's own {part}: {ms(call[f'server_{part}_ms'])}")
    if not missing(call["error_kind"]):
        lines.append(f"error: {layout.safe(call['error_kind'])}")
    return "<br>".join(lines)


def _draw(
    figure: go.Figure,
    calls: pd.DataFrame,
    colours: dict[str, str],
    labels: list[str],
    dark: bool,
) -> tuple[int, dict[str, str]]:
    """One row a call; a trace for each phase, so that the legend names each once. Returns (plot
    height in px, the legend)."""
    rows = [call for _, call in calls.iterrows()]
    parts = [
        (row, 0.0 if missing(call.get("started_ms")) else float(call["started_ms"]), *part)
        for row, call in enumerate(rows)
        for part in phases(call)
    ]
    hover = [f"{label}<br>{_hover(call)}" for label, call in zip(labels, rows, strict=True)]
    ids = calls[["trial_id", "call_id"]].astype(str).values.tolist()
    legend = {}
    for phase in palette.PHASES:
        mine = [part for part in parts if part[2] == phase]
        if not mine:
            continue
        colour = legend[PHASE_WORDS[phase]] = palette.theme(dark).phases[phase]
        layout.bars(
            figure,
            [row for row, *_ in mine],
            [begun + start for _, begun, _, start, _ in mine],
            [length for *_, length in mine],
            colour,
            [hover[row] for row, *_ in mine],
            name=PHASE_WORDS[phase],
            customdata=[ids[row] for row, *_ in mine],
        )
    tabs = [colours.get(arm) for arm in calls["arm"]]
    height = layout.rows(figure, labels, tabs, notes=[_note(call) for call in rows])
    layout.from_zero(figure)
    return height, legend


def _note(call: pd.Series) -> str:
    first, end = call["ttft_ms"], ms(call["total_ms"])
    return f"whole answer {end}" if missing(first) else f"first token {ms(first)} · end {end}"


def waterfall(
    calls: pd.DataFrame,
    dark: bool = False,
    *,
    arms: list[str] | None = None,
    n: int | None = None,
    metric: str = "ttft_ms",
    reason: str | None = None,
) -> go.Figure:
    """The median trial of each arm, call by call, from that trial's start (call_metrics' columns);
    n trials lie behind each median."""
    calls = layout.waited_for(calls)
    if calls.empty:
        words = "When a run has a finished trial, its phases stand here."
        return layout.empty(words, dark, "Where the time goes")
    colours = layout.arm_colours(arms, calls["arm"], dark)
    calls = calls[calls["arm"].isin(colours)]
    calls = calls.assign(place=calls["arm"].map(list(colours).index))
    calls = calls.sort_values(["place", "started_ms"], kind="stable").reset_index(drop=True)
    several = calls.groupby("arm")["call_id"].transform("size") > 1
    muted, figure = palette.theme(dark).muted, go.Figure()
    labels = []
    for row, call in calls.iterrows():
        name = layout.safe(call["role"]) if several[row] else short_id(call["trial_id"])
        label = layout.bold(call["arm"], colours[call["arm"]])
        labels.append(f"{label} {layout.tint(name, muted)}")
    height, legend = _draw(figure, calls, colours, labels, dark)
    values = {arm: _clock(rows, metric) for arm, rows in calls.groupby("arm", sort=False)}
    n_words = f" · {layout.count(n)}" if n else ""
    return layout.finish(
        figure,
        f"In the median trials, {titles.widest(metric, values)}",
        f"ms, the median trial of each arm and its id{n_words}",
        height,
        dark=dark,
        frame=calls,
        reason=reason,
        x_title="ms from the trial's start",
        legend=legend,
    )


def _clock(calls: pd.DataFrame, metric: str) -> float:
    """What a trial took by the headline's clock; an answer that did not stream, until its end."""
    column = {"ttft_ms": "ttft_ms", "wait_ms": "first_text_at_ms"}.get(metric)
    if column is None:
        return (calls["started_ms"] + calls["total_ms"]).max()
    first = calls.iloc[0]
    return first["total_ms"] if missing(first.get(column)) else first[column]


def trial_rows(
    calls: pd.DataFrame,
    dark: bool = False,
    *,
    colour: str | None = None,
    limit: int = 60,
) -> go.Figure:
    """Every trial of one arm as a waterfall row, in the order they ran; past `limit` trials an even
    spread from fastest to slowest."""
    calls = layout.waited_for(calls)
    if calls.empty:
        return layout.empty("Choose an arm with finished trials.", dark, "The trials of one arm")
    ends = calls["started_ms"].fillna(0) + calls["total_ms"].fillna(0)
    ends = ends.groupby(calls["trial_id"]).max().sort_values()
    chosen, part = list(ends.index), f"n = {len(ends)}"
    if len(chosen) > limit:
        chosen = [chosen[round(place * (len(chosen) - 1) / (limit - 1))] for place in range(limit)]
        part = f"{limit} of {len(ends)} trials, spread from fastest to slowest"
    shown = calls[calls["trial_id"].isin(chosen)]
    shown = shown.sort_values(["block", "trial_id", "started_ms"], kind="stable")
    shown = shown.reset_index(drop=True)
    arm, figure = str(shown["arm"].iloc[0]), go.Figure()
    labels = [
        f"block {call.block} {layout.trial_words(call.trial_id)}" for call in shown.itertuples()
    ]
    colours = {arm: colour or palette.theme(dark).arms[0]}
    height, legend = _draw(figure, shown, colours, labels, dark)
    return layout.finish(
        figure,
        f"{arm}: trials end between {ms(ends.min())} and {ms(ends.max())}",
        f"ms, one row a call · {part}",
        height,
        dark=dark,
        frame=shown,
        x_title="ms from the trial's start",
        legend=legend,
    )
