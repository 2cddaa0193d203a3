"""When each tool could start, and what a trial then waited for."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab.critical_path import waited_for
from lab.figures import stacked
from lab.techniques.tool_input import findings
from lab.units import counted, ms
from lab.view_parts import Column, Note, Part, RunData, Table

WAITS = {"model": "the model", "tool": "tools", "own": "own work"}
MOST_TRIALS = 300
"""Of which every arrival is looked at."""


def view(data: RunData, dark: bool) -> list[Part | go.Figure]:
    trials = data.trials().tail(MOST_TRIALS)
    ids = tuple(trials["trial_id"])
    spans = data.spans()
    means = data.in_order(
        findings.by_arm(trials, data.ask("trial_events", ids), spans[spans["trial_id"].isin(ids)])
    )
    waits = pd.DataFrame(
        [
            {"arm": arm, **waited_for(data.spans(trial["trial_id"]))}
            for arm, trial in data.typical().items()
        ],
        columns=["arm", *WAITS],
    )
    return [
        stacked.stacked(
            waits.melt("arm", var_name="part", value_name="amount").assign(**data.endpoint),
            stacked.waits_colours(dark),
            dark,
            title=_title(data, means),
            subtitle="ms on the critical path of each arm's trial in the median pair, by what it"
            " waited for",
            arms=data.places,
            words=WAITS,
            reason=data.finding().reason,
        ),
        Table(
            means,
            {
                "first_piece_ms": Column("first piece of an input, ms", "localized"),
                "tool_input_ms": Column("first whole input, ms", "localized"),
                "overlap_ms": Column("tools beside the model, ms", "localized"),
                "total_ms": Column("total, ms, p50", "localized"),
            },
        ),
        Note(
            f"Medians of {counted(len(trials), 'trial')}. A tool needs its whole input: a first"
            " piece that comes sooner starts no tool sooner by itself. What can be won is the time"
            " that the inputs after the first take to write; where tools run at once and take"
            " equally long, the last input decides, and nothing is won."
        ),
        Note(
            "eager_input_streaming sends an input as it is written, without a check. Where "
            "max_tokens falls inside it, what has come is no JSON, and the tool must not run: such "
            "a trial is left out, and its row says so."
        ),
    ]


def _title(data: RunData, means: pd.DataFrame) -> str:
    beside = means.set_index("arm")["overlap_ms"]
    if data.headline_arm not in beside.index:
        return "What each arm waited for"
    return f"Tools ran {ms(beside[data.headline_arm])} beside the model in {data.headline_arm}"
