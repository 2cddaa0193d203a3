"""Speed, cost and quality of models beside each other, and what of them was served as asked."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from lab import endpoint_kinds
from lab.figures import pareto
from lab.stats import unconfirmed
from lab.techniques.models import findings
from lab.units import counted, ms, times
from lab.view_parts import COLUMNS, Column, Note, Part, RunData, Table

FAST = ", fast"


def view(data: RunData, dark: bool) -> list[Part | go.Figure]:
    trials = data.trials()
    found = data.in_order(findings.frontier(trials))
    return [
        pareto.scatter_pareto(
            found, dark, metric="wait_ms", arms=data.places, reason=data.finding().reason
        ),
        *map(Note, [*_left_out(data), *_fast(found)]),
        Table(
            found.drop(columns=["run_id", "endpoint", "endpoint_kind"]),
            {
                "model": "model",
                "ttft_ms": Column("first token, ms, p50", "localized"),
                "wait_ms": Column("first visible text, ms, p50", "localized"),
                "total_ms": COLUMNS["total_ms"],
                "tokens_per_s": Column("tokens/s, p50", "localized"),
                "output_tokens": Column("output tokens, p50", "localized"),
                "quality": COLUMNS["quality"],
                "cost_usd": COLUMNS["cost_usd"],
                "n": "n",
            },
        ),
    ]


def served(data: RunData, dark: bool) -> list[Part | go.Figure]:
    """Asked against served: an endpoint may answer with another model, or at another speed."""
    trials = data.ask("trials", data.run_id)
    trials = trials[(trials["phase"] == "measured") & ~trials["superseded"]]
    calls = data.calls(
        ("arm", "role", "error_kind", "model", "served_model", "speed", "service_tier")
    )
    columns = {
        "asked": "asked for",
        "served": "served by",
        "speed": "at speed",
        "service_tier": "service tier",
        "trials": "trials",
        "left_out": "left out: served otherwise",
        "why": "the last of them",
    }
    return [
        *map(Note, _left_out(data) or [_as_asked(data)]),
        Table(data.in_order(findings.served(trials, calls)), columns),
        Note(
            "As each answer's usage and message say it. A trial that was served by another model, "
            "or at another speed, than was asked is shown, counted and compared with nothing; what "
            "an endpoint does not say cannot be checked."
        ),
    ]


def _as_asked(data: RunData) -> str:
    """Of a run of which nothing was served otherwise: said only of what the answers name."""
    reports = data.ask("served_reports", data.run_id)
    if reports.empty:
        return "No call was answered: nothing says how these trials would have been served."
    own_server = endpoint_kinds.kind(data.endpoint["endpoint_kind"]).own_server
    silence = unconfirmed.sentence(reports, own_server)
    return silence or "Every answer was served as it was asked."


def _left_out(data: RunData) -> list[str]:
    """ "4 of 20 trials of opus, fast were left out: asked fast, served standard.", of each
    reason."""
    trials = data.ask("trials", data.run_id)
    trials = trials[(trials["phase"] == "measured") & ~trials["superseded"]]
    told = []
    for arm, mine in trials.groupby("arm", sort=False):
        reasons = mine.loc[mine["outcome"] == "mismatch", "error_text"].value_counts()
        for why, n in reasons.items():
            was = "was" if n == 1 else "were"
            told.append(
                f"{n} of {counted(len(mine), 'trial')} of {arm} {was} left out: "
                f"{why.removesuffix('.')}."
            )
    return told


def _fast(found) -> list[str]:
    """What fast mode raised, and what not: medians beside each other."""
    told = []
    for arm in found["arm"][found["arm"].str.endswith(FAST)]:
        both = findings.beside_standard(found, arm, arm.removesuffix(FAST))
        if both and math.isfinite(both["rate"]):
            price = f", at {times(both['price'])} the price" if both["price"] > 0 else ""
            told.append(
                f"At the medians {arm} writes {times(both['rate'])} as many tokens a second after"
                f" the first{price}; its first token comes at {ms(both['ttft_ms'])}, at standard"
                f" speed at {ms(both['standard_ttft_ms'])}."
            )
    return told
