"""Where requests were sent, what deciding took, and how often the route met the task's label."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab.figures import stacked
from lab.techniques.model_routing import findings
from lab.units import ms, percent
from lab.view_parts import COLUMNS, Note, Number, Numbers, Part, RunData, Table

FIXED = ("large only", "small only")
"""The arms that choose nothing."""


def view(data: RunData, dark: bool) -> list[Part | go.Figure]:
    trials = data.trials()
    routed = findings.routes(data.spans(), trials)
    labels = {task.task_id: task.difficulty for task in data.tasks() if task.difficulty}
    counted = findings.confusion(routed, labels)
    router, shares = data.headline_arm, findings.routing_shares(routed)
    by_arm = shares[shares["chosen"] == "small"].set_index("arm")["share"]
    small = {arm: percent(by_arm.get(arm, 0.0)) for arm in {*data.arms, router}}
    own = counted[counted["arm"] == router]
    agreed = own.loc[own["agrees"], "n"].sum() / own["n"].sum() if len(own) else None
    numbers = Numbers(
        (
            Number(
                "Deciding takes, p50",
                ms(findings.routing_overhead_ms(data.calls())),
                "The time of the small model's classifying call; it is inside the total.",
            ),
            Number("Sent to the small model", small[router]),
            Number(
                "Agrees with the label",
                percent(agreed),
                "Easy tasks to the small model, hard ones to the large.",
            ),
        )
    )
    figure = stacked.stacked(
        shares.rename(columns={"chosen": "part", "n": "amount"}).assign(**data.endpoint),
        stacked.tier_colours(dark),
        dark,
        title=f"{router} sends {small[router]} of its trials to the small model",
        subtitle="trials by the model that answered",
        metric="trials",
        arms=data.places,
        words={"small": "small model", "large": "large model"},
        notes={arm: f"{small[arm]} small" for arm in data.arms},
    )
    shown = {"n": ("trial_id", "count"), "total_ms": ("total_ms", "median")}
    means = {name: (name, "mean") for name in ("calls", "quality", "cost_usd")}
    arms = trials.groupby("arm", sort=False).agg(**shown, **means).reset_index()
    return [numbers, figure, *_met(data, counted), Table(data.in_order(arms), COLUMNS)]


def _met(data: RunData, counted: pd.DataFrame) -> list[Part]:
    counted = counted[~counted["arm"].isin(FIXED)]
    if counted.empty:
        return []
    rows = counted.pivot_table(
        index=["arm", "label"], columns="chosen", values="n", aggfunc="sum", fill_value=0
    ).reset_index()
    return [
        Table(data.in_order(rows), {"label": "task's label"}),
        Note(
            "Trials by the task's label and the model that answered. A router sees no label; "
            "the oracle arm does."
        ),
    ]
