"""In words: what a run's calls asked for and no answer of the endpoint says anything of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from lab import pricing

DEFAULTS = {
    "speed": ("standard",),
    "service_tier": ("auto",),
    # Of one that thinks between tools alone, no answer without tools can say whether it would.
    "thinking": ("disabled", "between_tools"),
}
"""What is served where nobody asks, or need not show: nothing hangs on its being confirmed."""


def sentence(reports: pd.DataFrame, own_server: bool) -> str | None:
    """ "Not confirmed by the endpoint: effort low. …", of queries.served_reports; None where each
    factor that was asked for is named by some answer.

    `own_server`: the lab's own, which refuses what it cannot honour.
    """
    told: dict[str, bool] = {}
    for row in reports.to_dict("records"):
        for words, is_confirmed in _factors(row, own_server):
            told[words] = told.get(words, False) or is_confirmed
    if open_ones := [words for words, is_confirmed in told.items() if not is_confirmed]:
        return (
            f"Not confirmed by the endpoint: {', '.join(open_ones)}. Its answers do not say it, so"
            " that nothing would show if another had been served."
        )
    return None


def _factors(row: Mapping[str, Any], own_server: bool) -> Iterator[tuple[str, bool]]:
    asked = json.loads(row["asked"])
    served = row["served_model"] if isinstance(row["served_model"], str) else None
    model = asked.get("model", "")
    is_same = served is not None and pricing.same_model(served, model)
    called = f" (answered as {served})" if served else ""
    yield f"model {model}{called}", own_server or is_same
    says = {
        "speed": bool(row["says_speed"]),
        "service_tier": bool(row["says_tier"]),
        "effort": own_server,
        "thinking": bool(row["thought"]),
    }
    for name, is_confirmed in says.items():
        if name in asked and asked[name] not in DEFAULTS.get(name, ()):
            yield f"{name.replace('_', ' ')} {asked[name]}", is_confirmed
