"""Where the time of a trial goes, from its start on: each call by its phases (connection, sending,
waiting for headers, to the first token, hidden thinking, tokens to the end), and beside the calls
its tools, joins and routes, and what lies between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from lab.figures import layout, palette, race
from lab.figures.spans import tree
from lab.stats import Finding
from lab.units import missing, ms, values

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
GAP = "between calls"
SEEN = 0.004
"""Of the whole axis: what is shorter would be no wider than its own line."""
WHERE = "Where the time of each arm goes"


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


class Row(NamedTuple):
    """One line of the picture; instants are ms from its trial's start."""

    arm: str
    trial_id: str
    label: str
    """Markup."""
    note: str
    kind: str
    """trial, call, tool, join or route."""
    start: float
    end: float
    call: pd.Series | None = None
    gaps: tuple[tuple[float, float], ...] = ()
    """Of a trial: (start, end) of each time in which nothing else of it ran."""


def waterfall(
    calls: pd.DataFrame,
    dark: bool = False,
    *,
    spans: pd.DataFrame | None = None,
    arms: layout.Arms | None = None,
    finding: Finding | None = None,
    pair: str = "the typical trial of each arm",
) -> go.Figure:
    """One trial of each arm, every span of it, all from the trial's start.

    `calls` has the columns of call_metrics, `spans` those of queries.spans; trials without spans
    are drawn from their calls. `pair` says in words which trials they are, and `finding` what the
    run found.
    """
    calls = layout.timed(calls)
    if calls.empty:
        words = "When a run has a finished trial, its phases stand here."
        return layout.empty(words, dark, WHERE)
    colours = layout.arm_colours(arms, calls["arm"], dark)
    rows = [
        row
        for arm in colours
        for trial_id, mine in calls[calls["arm"] == arm].groupby("trial_id", sort=False)
        for row in _rows_of(str(arm), str(trial_id), mine, spans, colours[arm], dark)
    ]
    figure = go.Figure()
    height, legend = _draw(figure, rows, colours, dark)
    absent = [arm for arm in arms or () if arm not in colours]
    about = [f"ms, {pair}"]
    if absent:
        about.append(f"no trial of {', '.join(absent)} ended well in it")
    layout.finish(
        figure,
        finding.title if finding else WHERE,
        " · ".join(about),
        height,
        dark=dark,
        frame=calls,
        reason=finding.reason if finding else None,
        x_title="ms from the trial's start",
        legend=legend,
    )
    return race.on_its_clock(figure)


def _rows_of(
    arm: str,
    trial_id: str,
    calls: pd.DataFrame,
    spans: pd.DataFrame | None,
    colour: str,
    dark: bool,
) -> Iterator[Row]:
    """A trial of one call is one row; of several spans, a row of its own with what lies between
    them, and a row for each."""
    muted = palette.theme(dark).muted
    head = f"{layout.bold(arm, colour)} {layout.tint(layout.trial_words(trial_id), muted)}"
    calls = calls.sort_values("started_ms", kind="stable")
    parts, end = _parts(calls, spans, trial_id)
    if len(parts) == 1:
        _, _, name, start, stop, call = parts[0]
        gaps = _gaps([(start, stop)], end)
        yield Row(arm, trial_id, head, _note(call), "call", start, stop, call, gaps)
        return
    gaps = _gaps([(start, stop) for *_, start, stop, _ in parts], end)
    yield Row(arm, trial_id, head, f"end {ms(end)}", "trial", 0.0, end, gaps=gaps)
    for depth, kind, name, start, stop, call in parts:
        words = layout.safe(name if call is None else str(name).replace("_", " "))
        if call is not None:
            several = calls["model"].nunique() > 1 if "model" in calls else False
            words += f" {layout.tint(layout.safe(call['model']), muted)}" if several else ""
        else:
            words = f"{layout.tint(kind, muted)} {words}"
        note = f"at {ms(round(start, 1))}" if kind == "route" else f"end {ms(stop)}"
        yield Row(
            arm,
            trial_id,
            " " * (4 * depth) + words,
            note if call is None else _note(call),
            kind,
            start,
            stop,
            call,
        )


def _parts(
    calls: pd.DataFrame, spans: pd.DataFrame | None, trial_id: str
) -> tuple[list[tuple[int, str, str, float, float, pd.Series | None]], float]:
    """What a trial is made of, parents first, as (depth, kind, name, start, end, its call), and the
    trial's end."""
    own = pd.DataFrame() if spans is None else spans[spans["trial_id"].astype(str) == trial_id]
    own = own if own.empty else own[own["ended_ms"].notna()]
    trial = own if own.empty else own[own["kind"] == "trial"]
    ends = [_started(call) + _length(call) for _, call in calls.iterrows()]
    end = float(trial["ended_ms"].iloc[0]) if len(trial) else max(ends)
    if own.empty:
        rows = [
            (1, "call", call["role"], _started(call), stop, call)
            for (_, call), stop in zip(calls.iterrows(), ends, strict=True)
        ]
        return rows, end
    by_span = {str(call["span_id"]): call for _, call in calls.iterrows()}
    parts = []
    for span, depth in tree(own):
        call = by_span.get(str(span.span_id))
        # A prime's and a judge's calls lie outside the trial's clock.
        if span.kind == "trial" or (span.kind == "call" and call is None):
            continue
        start, stop = float(span.started_ms), float(span.ended_ms)
        if call is not None:
            start, stop = _started(call), _started(call) + _length(call)
        parts.append((depth, span.kind, span.name, start, stop, call))
    return parts, end


def _started(call: pd.Series) -> float:
    return 0.0 if missing(call.get("started_ms")) else float(call["started_ms"])


def _length(call: pd.Series) -> float:
    return 0.0 if missing(call.get("total_ms")) else float(call["total_ms"])


def _gaps(parts: Iterable[tuple[float, float]], end: float) -> tuple[tuple[float, float], ...]:
    gaps, cursor = [], 0.0
    for start, stop in sorted(parts):
        if start > cursor:
            gaps.append((cursor, start))
        cursor = max(cursor, stop)
    return (*gaps, (cursor, end)) if end > cursor else tuple(gaps)


def _note(call: pd.Series) -> str:
    """Both instants from the trial's start, like the axis below them."""
    start, first = _started(call), call["ttft_ms"]
    end = start + _length(call)
    if not missing(call["error_kind"]):
        return f"{layout.safe(call['error_kind'])} {ms(end)}"
    if missing(first):
        return f"whole answer {ms(end)}"
    token, ended = values("total_ms", start + first, end)
    return f"first token {token} · end {ended}"


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
    figure: go.Figure, rows: list[Row], colours: dict[str, str], dark: bool
) -> tuple[int, dict[str, str]]:
    """Returns (plot height in px, the legend)."""
    theme = palette.theme(dark)
    seen = SEEN * max((row.end for row in rows), default=0.0)
    legend = _draw_calls(figure, rows, theme) | _draw_work(figure, rows, theme, seen)
    for place, row in enumerate(rows):
        if row.kind == "trial":
            layout.line(figure, [0, row.end], [layout.MIDDLE - place] * 2, theme.ghost, 2)
    legend |= _draw_gaps(figure, rows, theme, seen)
    height = layout.rows(
        figure,
        [row.label for row in rows],
        [colours.get(row.arm) for row in rows],
        notes=[row.note for row in rows],
    )
    layout.from_zero(figure)
    return height, legend


Bar = tuple[int, float, float]
"""(row, start, length)."""


def _draw_calls(figure: go.Figure, rows: list[Row], theme: palette.Palette) -> dict[str, str]:
    """A trace for each phase, so that the legend names each once. Returns its legend."""
    legend: dict[str, str] = {}
    by_phase: dict[str, list[Bar]] = {}
    for place, row in enumerate(rows):
        for phase, start, length in phases(row.call) if row.call is not None else ():
            by_phase.setdefault(phase, []).append((place, row.start + start, length))
    hovers = {
        place: f"{row.label}<br>{_hover(row.call)}"
        for place, row in enumerate(rows)
        if row.call is not None
    }
    for phase in palette.PHASES:
        if bars := by_phase.get(phase):
            colour = legend[PHASE_WORDS[phase]] = theme.phases[phase]
            read = [hovers[place] for place, *_ in bars]
            _bars(figure, rows, bars, colour, PHASE_WORDS[phase], read)
    return legend


def _draw_work(
    figure: go.Figure, rows: list[Row], theme: palette.Palette, seen: float
) -> dict[str, str]:
    """Tools, routes and joins, none narrower than `seen` ms. Returns its legend."""
    work = [(place, row) for place, row in enumerate(rows) if row.kind not in ("trial", "call")]
    if not work:
        return {}
    *others, last = dict.fromkeys(f"{row.kind}s" for _, row in work)
    name = " and ".join(filter(None, (", ".join(others), last)))
    bars = [(place, row.start, max(row.end - row.start, seen)) for place, row in work]
    hovers = [f"{row.label}<br>from {ms(row.start)} to {ms(row.end)}" for _, row in work]
    _bars(figure, rows, bars, theme.ghost, name, hovers, line=theme.muted)
    return {name: theme.ghost}


def _draw_gaps(
    figure: go.Figure, rows: list[Row], theme: palette.Palette, seen: float
) -> dict[str, str]:
    """Those of `seen` ms and more. Returns its legend."""
    bars = [
        (place, start, stop - start)
        for place, row in enumerate(rows)
        for start, stop in row.gaps
        if stop - start >= seen
    ]
    if not bars:
        return {}
    hovers = [f"{GAP}: {ms(length)}, from {ms(start)}" for _, start, length in bars]
    _bars(figure, rows, bars, theme.zero, GAP, hovers)
    return {GAP: theme.zero}


def _bars(
    figure: go.Figure,
    rows: list[Row],
    parts: list[Bar],
    colour: str,
    name: str,
    hovers: list[str],
    line: str | None = None,
) -> None:
    """One trace; a click on a part gives its trial and, where it is of one, its call. `hovers` has
    one a part."""
    owners = [rows[place] for place, *_ in parts]
    layout.bars(
        figure,
        [place for place, *_ in parts],
        [start for _, start, _ in parts],
        [length for *_, length in parts],
        colour,
        hovers,
        name=name,
        customdata=[
            [row.trial_id, "" if row.call is None else str(row.call["call_id"])] for row in owners
        ],
    )
    if line:
        figure.update_traces(marker_line={"color": line, "width": 1}, selector={"name": name})


def trial_rows(
    calls: pd.DataFrame,
    dark: bool = False,
    *,
    colour: str | None = None,
    limit: int = 60,
) -> go.Figure:
    """Every trial of one arm, a row a call, in the order they ran; past `limit` trials an even
    spread from fastest to slowest."""
    calls = layout.timed(calls)
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
    arm, figure = str(shown["arm"].iloc[0]), go.Figure()
    rows = [
        Row(
            arm,
            str(call["trial_id"]),
            f"block {call['block']} {layout.trial_words(call['trial_id'])}",
            _note(call),
            "call",
            _started(call),
            _started(call) + _length(call),
            call,
        )
        for _, call in shown.iterrows()
    ]
    height, legend = _draw(figure, rows, {arm: colour or palette.theme(dark).arms[0]}, dark)
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
