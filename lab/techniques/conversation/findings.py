"""How the wait grows with a conversation: pure functions of the views' frames."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from lab.stats import Interval, hodges_lehmann, robust

OF_A_CALL = (
    *("trial_id", "call_id", "arm", "block", "role", "error_kind", "started_ms", "ttft_ms"),
    *("prompt_tokens", "cache_read_tokens", "cache_write_tokens", "cost_usd", "http_status"),
    *("endpoint", "endpoint_kind", "model"),
)
"""What is looked at of a run's calls."""
FIRST_WITH_A_PAST = 2
"""The turn from which on there is something to remember: the first is read afresh in every arm."""
FEWEST_TURNS = 3


class Slope(NamedTuple):
    """Of one arm, in ms of time to first token per 1,000 tokens of prompt."""

    arm: str
    slope: Interval
    less: Interval | None
    """Its block's slope less the baseline's; None for the baseline itself."""


def turns(calls: pd.DataFrame, counted_trials: pd.DataFrame) -> pd.DataFrame:
    """The answers of trials that count, in their order, with `turn` from 1."""
    is_answer = (calls["role"] == "answer") & calls["error_kind"].isna() & calls["ttft_ms"].notna()
    rows = calls[is_answer & calls["trial_id"].isin(counted_trials["trial_id"])]
    rows = rows.sort_values(["trial_id", "started_ms"], kind="stable")
    return rows.assign(turn=rows.groupby("trial_id", sort=False).cumcount() + 1)


def slope_of(turns: pd.DataFrame) -> float:
    """Of one conversation: Huber's line through its turns from the second on, ms per 1,000 tokens;
    NaN where they are too few or all as long."""
    rows = turns[turns["turn"] >= FIRST_WITH_A_PAST].dropna(subset=["prompt_tokens", "ttft_ms"])
    tokens = rows["prompt_tokens"].to_numpy(float) / 1000
    if len(rows) < FEWEST_TURNS or np.ptp(tokens) == 0:
        return float("nan")
    line = robust.fit(
        np.column_stack([np.ones(len(rows)), tokens]), rows["ttft_ms"].to_numpy(float)
    )
    return float(line.coefficients[1])


def slopes(turns: pd.DataFrame, baseline: str) -> list[Slope]:
    """Of each arm: the median of its conversations' slopes, and of their differences to the
    baseline's of the same block, each with its signed-rank interval (lab.stats.intervals)."""
    each = {key: slope_of(rows) for key, rows in turns.groupby(["arm", "block"], sort=False)}
    if not each:
        return []
    table = pd.Series(each).rename_axis(["arm", "block"]).unstack("arm")
    told = []
    for arm in dict.fromkeys(turns["arm"]):
        own = table[arm].dropna()
        if own.empty:
            continue
        less = None
        if arm != baseline and baseline in table:
            less = hodges_lehmann((table[arm] - table[baseline]).dropna())
        told.append(Slope(str(arm), hodges_lehmann(own), less))
    return told


def by_arm(turns: pd.DataFrame, calls: pd.DataFrame) -> pd.DataFrame:
    """By arm: conversations, median ttft_ms of the first turn and of the last, tokens read and
    written and cost_usd of a whole conversation, and how often a thread was gone. `calls` are all
    those of the same trials, refused ones too; a judge's call is none of the conversation's."""
    calls = calls[calls["role"] != "check"]
    last = turns.groupby("trial_id")["turn"].transform("max")
    of_turn = {
        "first_ms": turns[turns["turn"] == 1].groupby("arm")["ttft_ms"].median(),
        "last_ms": turns[turns["turn"] == last].groupby("arm")["ttft_ms"].median(),
    }
    names = ["cache_read_tokens", "cache_write_tokens", "prompt_tokens", "cost_usd"]
    whole = calls.groupby(["arm", "trial_id"], sort=False)[names].sum(min_count=1).reset_index()
    means = whole.groupby("arm")[names].mean()
    gone = (calls["http_status"] == 404).groupby(calls["arm"]).sum()
    n = turns.groupby("arm")["trial_id"].nunique()
    table = pd.DataFrame({"n": n, **of_turn}).join(means).assign(gone=gone)
    return table.reset_index()
