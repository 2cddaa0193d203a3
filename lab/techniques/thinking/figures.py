"""The silence before an answer: when its thinking begins, what shows of it, when the text comes;
with what the thinking cost and how good the answers were."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab.figures import layout, palette
from lab.techniques.thinking import findings
from lab.units import counted, missing, ms, percent, value
from lab.view_parts import COLUMNS, Column, Note, Part, RunData, Table

THOUGHT = "a piece of thinking, or an estimate"


def view(data: RunData, dark: bool) -> list[Part | go.Figure]:
    columns = ("role", "trial_id", "thinking_tokens", "stop_reason")
    found = data.in_order(findings.by_arm(data.trials(), data.calls(columns)))
    return [
        first_signs(data, found, dark),
        Table(
            found,
            {
                "first_sign_ms": Column("first sign, ms, p50", "localized"),
                "wait_ms": Column("first visible text, ms, p50", "localized"),
                "total_ms": Column("end, ms, p50", "localized"),
                "thinking_tokens": Column("thinking tokens, p50", "localized"),
                "output_tokens": Column("output tokens, p50", "localized"),
                "tokens_per_s": Column("tokens/s, p50", "localized"),
                "quality": COLUMNS["quality"],
                "cost_usd": COLUMNS["cost_usd"],
                "cut": "cut at the limit",
                "n": "n",
            },
        ),
        *map(Note, notes(found)),
    ]


def first_signs(data: RunData, found: pd.DataFrame, dark: bool) -> go.Figure:
    """A bar an arm of the median pair, from its trial's start, with an upright mark for each piece
    of its thinking that the stream shows; beside it quality and cost. `found` as by_arm gives
    it."""
    typical, finding = data.typical(), data.finding()
    events = data.ask("trial_events", tuple(trial["trial_id"] for trial in typical.values()))
    answers = events[events["role"] == "answer"]
    seen = {
        arm: findings.shown(answers[answers["trial_id"] == trial["trial_id"]], trial)
        for arm, trial in typical.items()
    }
    if not seen:
        return layout.empty("No block has a trial of each arm yet.", dark, "First signs")
    colours, figure = layout.arm_colours(data.places, list(seen), dark), go.Figure()
    beside = found.set_index("arm")
    shades = _bars(figure, {arm: seen[arm] for arm in colours}, dark)
    height = layout.arm_rows(figure, colours, [_note(seen[a], beside.loc[a]) for a in colours])
    return layout.finish(
        figure,
        finding.title,
        "ms, each arm's trial in the median pair; quality and cost are means of all",
        height,
        dark=dark,
        frame=pd.DataFrame([data.endpoint]),
        reason=finding.reason,
        x_title=layout.metric_axis(figure, "total_ms"),
        legend=shades | ({THOUGHT: palette.theme(dark).ink} if _thought(seen) else {}),
        marks={THOUGHT: "line"},
    )


def _thought(seen: dict[str, dict]) -> bool:
    return any(each["thoughts"] for each in seen.values())


def _bars(figure: go.Figure, seen: dict[str, dict], dark: bool) -> dict[str, str]:
    """The three stretches of each arm and the marks of its thinking; answers with the key."""
    theme = palette.theme(dark)
    stretches = {
        "until the model is at work": ("", "sign", theme.ghost, ""),
        "thinking": ("sign", "text", theme.phases["thinking"], palette.HATCHED["thinking"]),
        "the answer's text": ("text", "end", theme.phases["tokens"], ""),
    }
    for words, (first, last, shade, pattern) in stretches.items():
        starts = [each[first] if first else 0.0 for each in seen.values()]
        lengths = [each[last] - at for each, at in zip(seen.values(), starts, strict=True)]
        hover = [
            f"{layout.bold(arm)} {words}: {ms(length)}"
            for arm, length in zip(seen, lengths, strict=True)
        ]
        layout.bars(figure, range(len(seen)), starts, lengths, shade, hover, pattern)
    for row, each in enumerate(seen.values()):
        marker = {"symbol": "line-ns", "size": 11, "line": {"width": 1.5, "color": theme.ink}}
        y = [-row + layout.MIDDLE] * len(each["thoughts"])
        hover = [f"thinking shows at {ms(at)}" for at in each["thoughts"]]
        layout.points(figure, each["thoughts"], y, marker, hover)
    return {words: shade for words, (_, _, shade, _) in stretches.items()}


def _note(each: dict, arm: pd.Series) -> str:
    told = [f"silent {ms(each['silence'])}", f"text {ms(each['text'])}"]
    told += [] if missing(arm["quality"]) else [f"{percent(arm['quality'])} right"]
    told += [] if missing(arm["cost_usd"]) else [value("cost_usd", arm["cost_usd"])]
    return " · ".join(told)


def notes(found: pd.DataFrame) -> list[str]:
    """What thinking that is shown does not change, what is lost with the effort, and answers that
    have no text because the limit came first."""
    told = [
        "Shown thinking fills the wait and shortens nothing: its tokens are billed alike, shown or"
        " hidden, and the answer's text begins when the thinking ends. Silent is the longest time"
        " before the text in which nothing new can be shown to a reader; a first sign is that the"
        " stream says the model is at work: a thinking block begins, or the text does.",
        "Less effort also writes less, and may answer worse. In a conversation a changed effort or"
        " changed thinking loses what of its messages was cached: choose it once.",
    ]
    if cut := int(found["cut"].sum()):
        told.insert(
            0,
            f"{counted(cut, 'answer')} of {int(found['n'].sum())} ended at the limit of tokens, "
            "thinking included: raise it, or they are judged on what was cut.",
        )
    return told
