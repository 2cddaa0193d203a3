"""The coordination tax: what each arm waited for, and the calls, tokens and money it took."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab.critical_path import waited_for
from lab.figures import layout, stacked
from lab.techniques.agent_topology import findings
from lab.units import number, whole
from lab.view_parts import COLUMNS, Column, Note, Part, RunData, Table

WAITS = {"model": "the model", "tool": "tools", "join": "joins", "own": "own work"}


def view(data: RunData, dark: bool) -> list[Part | go.Figure]:
    waits = pd.DataFrame(
        [
            {"arm": arm, **waited_for(data.spans(trial["trial_id"]))}
            for arm, trial in data.typical().items()
        ],
        columns=["arm", *WAITS],
    )
    calls = layout.timed(data.calls())
    means = data.in_order(findings.coordination(data.trials(), calls))
    figure = stacked.stacked(
        waits.melt("arm", var_name="part", value_name="amount").assign(**data.endpoint),
        stacked.waits_colours(dark),
        dark,
        title=_tax(data, means),
        subtitle="ms on the critical path of each arm's trial in the median pair, by what it waited"
        " for",
        arms=data.places,
        words=WAITS,
        reason=data.finding().reason,
    )
    columns = {kind: Column(f"{words}, ms", "localized") for kind, words in WAITS.items()}
    return [
        figure,
        Table(means.merge(waits, on="arm", how="left"), {**COLUMNS, **columns}),
        Note(
            "Calls, tokens, quality and cost are means of all trials. The waits are those of the "
            "arm's trial in the median pair and add up to its total."
        ),
    ]


def _tax(data: RunData, means: pd.DataFrame) -> str:
    by_arm = means.set_index("arm")
    base, team = data.baseline, data.headline_arm
    if base not in by_arm.index or team not in by_arm.index:
        return "What each arm waited for"
    calls, tokens = by_arm["calls"], by_arm["prompt_tokens"] + by_arm["output_tokens"]
    return (
        f"A trial of {team} takes {number(calls[team], 2)} calls and {whole(tokens[team])} tokens, "
        f"one of {base} {number(calls[base], 2)} and {whole(tokens[base])}"
    )
