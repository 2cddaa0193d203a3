"""The wait for the first token, turn by turn, with each arm's slope in words."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from lab.figures import layout, palette
from lab.stats import Finding, Interval
from lab.techniques.conversation import findings
from lab.techniques.conversation.findings import Slope
from lab.units import counted, estimated, ms, whole
from lab.view_parts import COLUMNS, Column, Note, Part, RunData, Table

PLOT_PX = 300
JITTER, MOST_TICKS = 0.25, 12
PER = "ms per 1,000 tokens"


def view(data: RunData, dark: bool) -> list[Part | go.Figure]:
    """The growth by turn; each arm's slope and what its conversation took; what went wrong."""
    trials = data.trials()
    calls = data.calls(findings.OF_A_CALL)
    calls = calls[calls["trial_id"].isin(trials["trial_id"])]
    turns = data.in_order(findings.turns(calls, trials))
    slopes = findings.slopes(turns, data.baseline)
    table = data.in_order(findings.by_arm(turns, calls))
    return [
        growth(turns, slopes, dark, arms=data.places, told=data.finding(), arm=data.headline_arm),
        Table(
            _rows(table, slopes),
            {
                "slope": f"grows by, {PER}",
                "less": f"less {data.baseline}, {PER}",
                "first_ms": Column("first turn, ms, p50", "localized"),
                "last_ms": Column("last turn, ms, p50", "localized"),
                "prompt_tokens": COLUMNS["prompt_tokens"],
                "cache_read_tokens": Column("tokens read", "localized"),
                "cache_write_tokens": Column("tokens written", "localized"),
                "cost_usd": Column("cost per conversation", "$%.6f"),
                "gone": Column("threads gone", "%d"),
            },
        ),
        *map(Note, _notes(data, table, turns)),
    ]


def growth(
    turns: pd.DataFrame,
    slopes: Sequence[Slope],
    dark: bool = False,
    *,
    arms: layout.Arms | None = None,
    told: Finding | None = None,
    arm: str = "",
) -> go.Figure:
    """Each turn's time to first token a dot, each arm's medians a line; `told` is the run's finding
    and `arm` the one that the title speaks of."""
    if turns.empty:
        words = "Each turn's first token stands here after a run."
        return layout.empty(words, dark, "Time to first token by turn")
    figure = go.Figure()
    colours = layout.arm_colours(arms, turns["arm"], dark)
    for place, (name, colour) in enumerate(colours.items()):
        beside = JITTER * (place - (len(colours) - 1) / 2) / len(colours)
        _line(figure, turns[turns["arm"] == name], colour, beside)
    layout.from_zero(figure, "y", nticks=5)
    most = int(turns["turn"].max())
    steps = layout.whole_steps(most) | ({"dtick": 1} if most <= MOST_TICKS else {})
    layout.from_zero(figure, range=[0.5, most + 0.5], **steps)
    known = {slope.arm: f"{slope.arm} {bare(slope.slope)}" for slope in slopes}
    return layout.finish(
        figure,
        _title(slopes, arm),
        f"time to first token of each turn, ms; below, its growth from the second on, {PER} ·"
        f" {counted(turns['trial_id'].nunique(), 'conversation')}",
        PLOT_PX,
        dark=dark,
        frame=turns,
        reason=told.reason if told else None,
        x_title="turn",
        left=layout.AXIS_PX,
        legend={known.get(name, name): colour for name, colour in colours.items()},
    )


def bare(slope: Interval) -> str:
    """ "+390 [370, 410]"; without an interval where the conversations are too few for one."""
    if slope.low is None:
        return estimated("last_ttft_ms", *[slope.estimate] * 3).partition(" ms")[0]
    return estimated("last_ttft_ms", *slope[:3]).replace(" ms ", " ", 1)


def _line(figure: go.Figure, mine: pd.DataFrame, colour: str, beside: float) -> None:
    """One arm's turns, a little beside those of the others."""
    medians = mine.groupby("turn")["ttft_ms"].median()
    layout.line(figure, medians.index + beside, medians, palette.fade(colour, 0.8), 2)
    hover = [
        f"{layout.bold(call.arm)} turn {call.turn}: {layout.bold(ms(call.ttft_ms))}<br>"
        f"{whole(call.prompt_tokens)} tokens, {whole(call.cache_read_tokens or 0)} read"
        for call in mine.itertuples()
    ]
    ids = mine[["trial_id", "call_id"]].astype(str).values
    look = layout.crowd(colour, len(mine))
    layout.points(figure, mine["turn"] + beside, mine["ttft_ms"], look, hover, ids)


def _title(slopes: Sequence[Slope], arm: str) -> str:
    """Who grows less, where the interval of the paired difference says so."""
    by_arm = {slope.arm: slope for slope in slopes}
    own, base = by_arm.get(arm), next((slope for slope in slopes if slope.less is None), None)
    if own is None or base is None or own.less is None or own.less.low is None:
        return "Time to first token by turn"
    if own.less.low <= 0 <= own.less.high:
        return f"{arm} grows with the conversation as {base.arm} does, as far as can be told"
    delays = [ms(slope.slope.estimate) for slope in (own, base)]
    return (
        f"Each 1,000 tokens of conversation delay {arm} by {delays[0]}, {base.arm} by {delays[1]}"
    )


def _rows(table: pd.DataFrame, slopes: Sequence[Slope]) -> pd.DataFrame:
    words = {slope.arm: bare(slope.slope) for slope in slopes}
    less = {slope.arm: bare(slope.less) for slope in slopes if slope.less}
    rows = table.assign(slope=table["arm"].map(words), less=table["arm"].map(less))
    rows["gone"] = rows["gone"].where(rows["gone"] > 0)
    return rows[["arm", "n", "slope", "less", *table.columns[2:]]]


def _notes(data: RunData, table: pd.DataFrame, turns: pd.DataFrame) -> list[str]:
    written = table["cache_write_tokens"].fillna(0) > 0
    missed = list(table.loc[written & ~(table["cache_read_tokens"].fillna(0) > 0), "arm"])
    notes = [
        "A slope is Huber's line through a conversation's turns from the second on, the first being"
        " read afresh in every arm; told is the middle of all conversations with its interval."
    ]
    if missed:
        notes.append(
            f"{', '.join(missed)} wrote the whole conversation every turn and read none of it: a"
            " mark looks 20 blocks back, and a turn brought more. A second mark on the turn before"
            " is found however long the last one is."
        )
    if gone := int(table["gone"].sum()):
        notes.append(
            f"{counted(gone, 'time')} a thread was gone, and the whole conversation was sent again:"
            " a thread is best effort, and an application has to keep its own copy."
        )
    return notes
