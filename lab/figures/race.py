"""The recorded arrivals of the median pair, replayed at true speed in lanes beside each other: data
for race.js, which draws them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from lab import endpoint_kinds
from lab.figures import layout
from lab.units import ms, short_id

HERE = Path(__file__).parent
HTML = '<section class="race" tabindex="-1"></section>'
TEXT_KINDS = ("text_delta", "message")


def race_data(
    events: pd.DataFrame, calls: pd.DataFrame, dark: bool = False, *, arms: list[str] | None = None
) -> dict[str, Any]:
    """JSON lanes in the arms' order: `arrivals` are [ms from the trial's start, text]; text not
    kept is its length.

    `events` has at_ms (from the trial's start), call_id, kind, characters, text; `calls` the same
    trials' call_metrics. Answers only: what a router's classifier writes is no text that a reader
    waits for.
    """
    calls = layout.waited_for(calls)
    events = events[events["kind"].isin(TEXT_KINDS) & (events["characters"] > 0)]
    lanes = []
    for arm, colour in layout.arm_colours(arms, calls["arm"], dark).items():
        mine = calls[calls["arm"] == arm]
        end = float((mine["started_ms"].fillna(0) + mine["total_ms"].fillna(0)).max())
        shown = mine[mine["role"].isin(["answer", "join"])]
        rows = events[events["call_id"].isin(shown["call_id"])].sort_values("at_ms", kind="stable")
        arrivals = [
            [
                round(float(row.at_ms), 3),
                row.text if isinstance(row.text, str) else int(row.characters),
            ]
            for row in rows.itertuples()
        ]
        lanes.append(
            {
                "arm": arm,
                "colour": colour,
                "end": end,
                "arrivals": arrivals,
                "trial": short_id(mine["trial_id"].iloc[0]),
                "failed": next(iter(mine["error_kind"].dropna()), None),
            }
        )
    return {
        "lanes": lanes,
        "kind": layout.one_kind(calls),
        "key": " ".join(lane["trial"] for lane in lanes),
    }


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


def words(data: dict[str, Any]) -> str:
    """Who ended first, and by how much, for those who do not see the lanes."""
    lanes = sorted(data["lanes"], key=lambda lane: lane["end"])
    if len(lanes) < 2:
        return ""
    arm = lanes[0]["arm"].replace("*", "").replace("_", " ")
    return f"{arm} ends {ms(lanes[-1]['end'] - lanes[0]['end'])} before the last."
