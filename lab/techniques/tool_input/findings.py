"""When a tool's input came, and what ran while the model still wrote: pure functions of frames."""

from __future__ import annotations

import pandas as pd


def first_pieces(events: pd.DataFrame) -> pd.Series:
    """By trial_id: when the first piece of a tool's input came, in ms from the trial's start."""
    pieces = events[(events["kind"] == "input_json_delta") & (events["characters"] > 0)]
    return pieces.groupby("trial_id")["at_ms"].min()


def overlaps(spans: pd.DataFrame) -> pd.Series:
    """By trial_id: for how many ms a tool ran while the turn that asked for it was still coming.

    `spans` have kind, name, trial_id, started_ms and ended_ms; tools at the same time count once.
    """
    return pd.Series(
        {trial_id: _overlap(rows) for trial_id, rows in spans.groupby("trial_id")}, dtype=float
    )


def _overlap(spans: pd.DataFrame) -> float:
    turns = spans[(spans["kind"] == "call") & (spans["name"] == "tool_turn")]
    tools = spans[spans["kind"] == "tool"].sort_values("started_ms")
    if turns.empty:
        return 0.0
    ends, covered, total = float(turns["ended_ms"].max()), float("-inf"), 0.0
    for begin, end in zip(tools["started_ms"], tools["ended_ms"].clip(upper=ends), strict=True):
        begin = max(float(begin), covered)
        if end > begin:
            total, covered = total + float(end) - begin, float(end)
    return total


def by_arm(trials: pd.DataFrame, events: pd.DataFrame, spans: pd.DataFrame) -> pd.DataFrame:
    """Of each arm the medians in ms: arm, first_piece_ms, tool_input_ms, overlap_ms, total_ms."""
    rows = trials.set_index("trial_id")
    rows = rows.assign(first_piece_ms=first_pieces(events), overlap_ms=overlaps(spans))
    columns = ["first_piece_ms", "tool_input_ms", "overlap_ms", "total_ms"]
    return rows.groupby("arm", sort=False)[columns].median().reset_index()
