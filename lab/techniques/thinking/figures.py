"""The silence before an answer: until anything shows, until its text, until its end; with what the
thinking cost and how good the answers were."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab.figures import palette, stacked
from lab.techniques.thinking import findings
from lab.units import counted, missing, percent, value
from lab.view_parts import COLUMNS, Column, Note, Part, RunData, Table

WORDS = {
    "silence": "until anything shows",
    "thinking": "thinking shows",
    "answer": "the answer's text",
}


def view(data: RunData, dark: bool) -> list[Part | go.Figure]:
    columns = ("role", "trial_id", "thinking_tokens", "stop_reason")
    found = data.in_order(findings.by_arm(data.trials(), data.calls(columns)))
    return [
        first_signs(found, data, dark),
        Table(
            found,
            {
                "first_sign_ms": Column("first sign, ms, p50", "localized"),
                "wait_ms": Column("first visible text, ms, p50", "localized"),
                "total_ms": Column("end, ms, p50", "localized"),
                "thinking_tokens": Column("thinking tokens, p50", "localized"),
                "output_tokens": Column("output tokens, p50", "localized"),
                "quality": COLUMNS["quality"],
                "cost_usd": COLUMNS["cost_usd"],
                "cut": "cut at the limit",
                "n": "n",
            },
        ),
        *map(Note, notes(found)),
    ]


def first_signs(found: pd.DataFrame, data: RunData, dark: bool) -> go.Figure:
    """A bar an arm from the trial's start; beside it quality and cost. Columns of by_arm."""
    steps, finding = palette.theme(dark).phases, data.finding()
    shades = {"silence": palette.theme(dark).ghost, "thinking": steps["thinking"]}
    return stacked.stacked(
        findings.parts(found).assign(**data.endpoint),
        shades | {"answer": steps["tokens"]},
        dark,
        title=finding.title,
        subtitle="median ms from the trial's start: first sign of life, first visible text, end",
        arms=data.places,
        words=WORDS,
        notes={row.arm: _beside(row) for row in found.itertuples()},
        reason=finding.reason,
    )


def _beside(row) -> str:
    told = [f"sign {value('first_sign_ms', row.first_sign_ms)}"]
    told += [f"text {value('wait_ms', row.wait_ms)}"]
    told += [] if missing(row.quality) else [f"{percent(row.quality)} right"]
    return " · ".join(told + ([] if missing(row.cost_usd) else [value("cost_usd", row.cost_usd)]))


def notes(found: pd.DataFrame) -> list[str]:
    """What thinking that is shown does not change, what is lost with the effort, and answers that
    have no text because the limit came first."""
    told = [
        "Shown thinking fills the wait and shortens nothing: its tokens are billed alike, shown or"
        " hidden, and the answer's text begins when the thinking ends. A sign of life is the first"
        " of thinking text, an estimate of hidden thinking, a signature, or the answer itself.",
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
