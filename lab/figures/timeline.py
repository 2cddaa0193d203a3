"""A conversation of the user's own application in time: a row a call, with its first token, its
writing and the tools after it; sub-agents as lanes, the critical path thick."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.figures import layout, palette
from lab.units import missing, ms, once, percent, stretch, values

WORDS = {
    "first_token": "first token",
    "writing": "writing",
    "answering": "answering",
    "tool": "tools",
    "idle": "nothing at all",
}
"""Kinds of bars, in the order in which they are drawn and told."""
LOOKS = {"tools": "hollow", "nothing at all": "line"}
"""Told apart by more than their grey."""
THIN, LINE = 5 / layout.ROW_PX, 2 / layout.ROW_PX
"""How high what nobody waited for is, and time in which nothing ran."""
SEEN = 1 / 250
"""Of the axis: what is shorter has no place in the legend."""
LONG_PAUSE_MS = 1_000


def shades(dark: bool = False) -> dict[str, str]:
    theme = palette.theme(dark)
    steps = theme.phases
    answering = dict.fromkeys(("writing", "answering"), steps["tokens"])
    rest = dict.fromkeys(("tool", "idle"), theme.muted)
    return {"first_token": steps["headers"], **answering, **rest}


def timeline(
    bars: pd.DataFrame,
    calls: pd.DataFrame,
    dark: bool = False,
    *,
    name: str = "The conversation",
    part: str = "",
    chosen: str | None = None,
    pauses: bool = True,
) -> go.Figure:
    """`bars` are rows of lab.recording.waiting's timeline, `calls` those of a recording with lane
    and turn, both of one conversation; `part` says in words which of its calls they are. Without
    `pauses` the time in which nothing at all ran is left out of the axis, and said."""
    bars = bars[bars["call_id"].isin(calls["call_id"])].dropna(subset=["started_ms", "ended_ms"])
    if bars.empty:
        return layout.empty("No call of it has ended yet.", dark, name)
    figure, colours = go.Figure(), shades(dark)
    calls = calls.sort_values(["started_ms", "lane"], kind="stable")
    rows = {call_id: row for row, call_id in enumerate(calls["call_id"])}
    spans = _busy(bars)
    at = _clock(spans, pauses)
    length = at([spans[-1][1]])[0]
    present = []
    for kind, colour in colours.items():
        mine = bars[bars["kind"] == kind]
        if mine.empty or (kind == "idle" and not pauses):
            continue
        longest = 0.0
        for is_critical, part_of in mine.groupby("is_critical"):
            starts, ends = at(part_of["started_ms"]), at(part_of["ended_ms"])
            longest = max(longest, (ends - starts).max())
            height = LINE if kind == "idle" else layout.BAR["width"] if is_critical else THIN
            layout.bars(
                figure,
                [rows[call_id] for call_id in part_of["call_id"]],
                starts,
                ends - starts,
                colour,
                [_hover(bar, bool(is_critical)) for bar in part_of.itertuples()],
                width=height,
                offset=layout.MIDDLE - height / 2,
                customdata=part_of[["call_id"]].astype(str).values,
            )
            if LOOKS.get(WORDS[kind]) == "hollow":
                outline = {"color": colour, "width": 1}
                figure.data[-1].marker.update(color=palette.CLEAR, line=outline)
        present += [kind] * bool(longest >= SEEN * length)
    left_out = _left_out(spans) if not pauses else {}
    for call in calls[calls["started_ms"].isin(left_out)].itertuples():
        _break(figure, float(at([call.started_ms])[0]), rows[call.call_id], dark)
    several = calls["model"].nunique() > 1
    height = layout.rows(
        figure,
        [_label(call, several, left_out, dark) for call in calls.itertuples()],
        [palette.theme(dark).accent if call == chosen else None for call in rows],
        notes=[_note(call) for call in calls.itertuples()],
    )
    layout.from_zero(figure)
    about = ["ms, critical path thick", part]
    if left_out:
        about.append(f"{stretch(sum(left_out.values()))} of nothing at all left out (dotted)")
    return layout.finish(
        figure,
        _title(name, bars, pauses),
        " · ".join(filter(None, about)),
        height,
        dark=dark,
        frame=calls,
        x_title="ms from its first call shown",
        legend={WORDS[kind]: colours[kind] for kind in present},
        marks=LOOKS,
    )


def idle_share(bars: pd.DataFrame) -> float:
    """Of the time from the first bar to the last, 0 to 1."""
    spans = _busy(bars.dropna(subset=["started_ms", "ended_ms"]))
    if not spans or spans[-1][1] <= spans[0][0]:
        return 0.0
    return sum(_left_out(spans).values()) / (spans[-1][1] - spans[0][0])


def _busy(bars: pd.DataFrame) -> list[tuple[float, float]]:
    """The spans in which anything ran, apart from each other and in order."""
    spans: list[tuple[float, float]] = []
    busy = bars[bars["kind"] != "idle"].sort_values("started_ms")
    for start, end in zip(busy["started_ms"], busy["ended_ms"], strict=True):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((start, end))
    return spans


def _left_out(spans: list[tuple[float, float]]) -> dict[float, float]:
    """By the instant at which it ended: how long nothing at all ran, where that is to be seen."""
    lengths = {after[0]: after[0] - before[1] for before, after in pairwise(spans)}
    return {end: length for end, length in lengths.items() if length >= LONG_PAUSE_MS}


def _clock(spans: list[tuple[float, float]], pauses: bool):
    """Instants of the recording as ms from the first bar; without `pauses` of what ran alone."""
    origin = spans[0][0]
    if pauses:
        return lambda instants: np.asarray(instants, float) - origin
    known = np.array([edge for span in spans for edge in span])
    left_out = _left_out(spans)
    gone = np.cumsum([left_out.get(start, 0.0) for start, _ in spans])
    placed = known - origin - np.repeat(gone, 2)
    return lambda instants: np.interp(np.asarray(instants, float), known, placed)


def _label(call, several: bool, left_out: Mapping[float, float], dark: bool) -> str:
    muted = palette.theme(dark).muted
    lane = f"sub-agent {call.lane:.0f}, " if call.lane else ""
    about = [str(call.model)] if several else []
    if pause := left_out.get(call.started_ms):
        about.append(f"pause {stretch(pause)}")
    words = layout.bold(f"{lane}turn {call.turn:.0f}")
    if about:
        words += f" {layout.tint(layout.safe(' · '.join(about)), muted)}"
    return f"{' ' * 4 * bool(call.lane)}{words}"


def _note(call) -> str:
    if not missing(call.error_kind):
        return f"{layout.safe(call.error_kind)} after {ms(call.total_ms)}"
    if missing(call.ttft_ms):
        return f"whole answer {ms(call.total_ms)}"
    first, whole = once(values("total_ms", call.ttft_ms, call.total_ms))
    return f"first token {first} of {whole}"


def _hover(bar, is_critical: bool) -> str:
    name = f" {layout.bold(bar.name)}" if bar.kind == "tool" and bar.name else ""
    waited = "" if is_critical else "<br>beside what was waited for"
    return f"{WORDS[bar.kind]}{name}: {ms(bar.ended_ms - bar.started_ms)}{waited}"


def _break(figure: go.Figure, x: float, row: int, dark: bool) -> None:
    """Where time is left out before the call of a row."""
    figure.add_shape(
        type="line",
        x0=x,
        x1=x,
        y0=1.3 * layout.MIDDLE - row,
        y1=min(0.0, -row + 1 + layout.MIDDLE),
        line={"color": palette.theme(dark).zero, "width": 2, "dash": "dot"},
    )


def _title(name: str, bars: pd.DataFrame, pauses: bool) -> str:
    """What most of its time was waited for; of the time that is drawn."""
    path = bars[bars["is_critical"].astype(bool)]
    waits = (path["ended_ms"] - path["started_ms"]).groupby(path["kind"]).sum()
    total = waits.sum() - (0 if pauses else waits.get("idle", 0))
    waits = waits.drop("idle", errors="ignore")
    if not total or waits.empty:
        return name
    words = {"first_token": "first tokens", "writing": "writing", "tool": "your tools"}
    kind = str(waits.idxmax())
    share = percent(waits[kind] / total)
    of = "of its" if pauses else "of the"
    return f"{name} waits {share} {of} {stretch(total)} for {words.get(kind, 'answers')}"
