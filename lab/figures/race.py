"""The recorded arrivals of the median pair, replayed at true speed in lanes beside each other: data
for race.js, which draws them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from lab import endpoint_kinds, metrics
from lab.figures import layout
from lab.stats import Comparison
from lab.stats.verdict import REFUSALS
from lab.units import missing, percent, plain, short_id, value

HERE = Path(__file__).parent
HTML = '<section class="race" tabindex="-1"></section>'
TEXT_KINDS = ("text_delta", "message")
TOTAL = metrics.CLOCKS[-1]
REPLAYED = (
    "replayed as it was recorded: never the best pair, but the one whose difference is nearest the"
    " median."
)
SILENT = (*REFUSALS, "no_difference")
"""Verdicts that claim no time."""


def race_data(
    events: pd.DataFrame,
    calls: pd.DataFrame,
    trials: pd.DataFrame,
    dark: bool = False,
    *,
    metric: str = TOTAL,
    arms: layout.Arms | None = None,
) -> dict[str, Any]:
    """JSON lanes in the arms' order. `arrivals` are [ms from the trial's start, text]; text not
    kept is its length. `finish` is the metric's instant of the trial, its end where the metric has
    none.

    `events` has at_ms (from the trial's start), call_id, kind, characters, text; `calls` the same
    trials' call_metrics, `trials` their trial_metrics. Answers only: what a router's classifier
    writes is no text that a reader waits for.
    """
    calls = layout.timed(calls)
    events = events[events["kind"].isin(TEXT_KINDS) & (events["characters"] > 0)]
    by_id, lanes = trials.set_index("trial_id"), []
    clock = metric if metrics.find(metric).is_instant else TOTAL
    for arm, colour in layout.arm_colours(arms, calls["arm"], dark).items():
        mine = calls[calls["arm"] == arm]
        trial = by_id.loc[mine["trial_id"].iloc[0]]
        # Of requests that raced, what the cancelled one wrote was shown to nobody.
        mine = mine[mine["error_kind"].ne("cancelled") | mine["error_kind"].eq("cancelled").all()]
        shown = mine[mine["role"].isin(["answer", "join"])]
        rows = events[events["call_id"].isin(shown["call_id"])].sort_values("at_ms", kind="stable")
        begins = ~rows["call_id"].duplicated()  # a further answer begins on a line of its own
        begins[:1] = False
        arrivals = [
            [
                round(float(row.at_ms), 3),
                "\n" * new + row.text if isinstance(row.text, str) else int(row.characters),
            ]
            for row, new in zip(rows.itertuples(), begins, strict=True)
        ]
        end = round(float(trial[TOTAL]), 3)
        finish = end if missing(trial[clock]) else round(float(trial[clock]), 3)
        lanes.append(
            {
                "arm": arm,
                "colour": colour,
                "finish": finish,
                "end": max(end, finish),
                "arrivals": arrivals,
                "trial": short_id(trial.name),
                "failed": plain(next(iter(mine["error_kind"].dropna()), None)),
            }
        )
    return {
        "lanes": lanes,
        "line": metrics.words(clock),
        "kind": layout.one_kind(calls),
        "key": " ".join([clock, *(lane["trial"] for lane in lanes)]),
    }


def words(comparison: Comparison | None, arm_value: float, baseline_value: float) -> str:
    """What the pair did by the comparison's metric, never more than "in this pair". Where the run's
    verdict does not say the same, or speaks of a tail, only its two values: one pair alone proves
    nothing."""
    if comparison is None:
        return ""
    arm, baseline, metric = comparison.name, comparison.baseline_name, comparison.metric
    known, difference = metrics.find(metric), arm_value - baseline_value
    agrees = comparison.estimate is not None and difference * comparison.estimate > 0
    if comparison.verdict in SILENT or not agrees or comparison.quantile is not None:
        values = f"{arm} {value(metric, arm_value)}, {baseline} {value(metric, baseline_value)}"
        return f"In this pair, {known.words}: {values}. One pair alone proves nothing."
    amount = value(metric, abs(difference))
    if not known.is_time and baseline_value:
        amount = percent(abs(difference / baseline_value))
    change = known.less if difference < 0 else known.more
    return f"{arm} {known.verb} {amount} {change} in this pair"


def about(data: dict[str, Any], arms: Iterable[str]) -> str:
    """What the lanes show, to stand below them; `arms` are all of the run."""
    lanes = [lane["arm"] for lane in data["lanes"]]
    absent = [arm for arm in arms if arm not in lanes]
    sentences = [
        f"Finish: {data['line']}; the flag is first text, and what follows the finish is grey.",
    ]
    if any(not isinstance(text, str) for lane in data["lanes"] for _, text in lane["arrivals"]):
        sentences.append("Text that was not kept shows as blocks of its length.")
    if absent:
        sentences.insert(0, f"No trial of {', '.join(absent)} ended well in this block.")
    return " ".join(sentences)


def on_its_clock(figure: go.Figure) -> go.Figure:
    """A figure whose axis is the trial's time: the race's moment stands on it as a line, and a drag
    across it moves the race."""
    return figure.update_layout(meta={**(figure.layout.meta or {}), "clock": "trial"})


def script() -> str:
    """race.js: one function `race(root, data)`, the same in the dashboard and in a report."""
    hatched = [name for name, kind in endpoint_kinds.KINDS.items() if kind.hatched]
    text = (HERE / "race.js").read_text(encoding="utf-8")
    return f"{text}race.hatched = {json.dumps(hatched)};\n"


def style() -> str:
    return (HERE / "race.css").read_text(encoding="utf-8")


def embedded(data: dict[str, Any]) -> str:
    """The race inside a page of one's own: model text travels as JSON in which no tag can begin."""
    text = json.dumps(data).replace("<", "\\u003c")
    return (
        f'<div>{HTML}<script type="application/json">{text}</script>'
        "<script>{const it=document.currentScript;race(it.parentElement.querySelector('.race'),"
        "JSON.parse(it.previousElementSibling.textContent))}</script></div>"
    )
