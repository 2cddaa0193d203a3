"""When an answer first shows anything, its text and its end, and what its thinking took: pure
functions of the views' frames."""

from __future__ import annotations

import pandas as pd

INSTANTS = ("first_sign_ms", "wait_ms", "total_ms")


def by_arm(trials: pd.DataFrame, calls: pd.DataFrame) -> pd.DataFrame:
    """A row an arm: the medians of INSTANTS in ms from the trial's start, of thinking_tokens,
    output_tokens and tokens_per_s; mean quality and cost_usd; n, and `cut`, how many of their
    answers ended at max_tokens.

    `trials` are those that count, `calls` all answer calls of the run.
    """
    answers = calls[(calls["role"] == "answer") & calls["trial_id"].isin(trials["trial_id"])]
    told = answers.groupby("trial_id").agg(
        thinking_tokens=("thinking_tokens", "sum"),
        cut=("stop_reason", lambda reasons: (reasons == "max_tokens").any()),
    )
    rows = trials.join(told, on="trial_id")
    medians = (*INSTANTS, "thinking_tokens", "output_tokens", "tokens_per_s")
    means = ("quality", "cost_usd")
    found = rows.groupby("arm", sort=False).agg(
        n=("trial_id", "count"),
        cut=("cut", "sum"),
        **{name: (name, "median") for name in medians},
        **{name: (name, "mean") for name in means},
    )
    return found.reset_index()


def parts(found: pd.DataFrame) -> pd.DataFrame:
    """Of each arm three lengths in ms that follow each other: until anything shows (silence), until
    the text begins (thinking), until the end (answer). Columns: arm, part, amount."""
    starts = found.set_index("arm")[list(INSTANTS)].astype(float)
    # An instant that the trials lack is no earlier than the one before it.
    starts["wait_ms"] = starts["wait_ms"].fillna(starts["total_ms"])
    starts["first_sign_ms"] = starts["first_sign_ms"].fillna(starts["wait_ms"])
    lengths = pd.DataFrame(
        {
            "silence": starts["first_sign_ms"],
            "thinking": starts["wait_ms"] - starts["first_sign_ms"],
            "answer": starts["total_ms"] - starts["wait_ms"],
        }
    ).clip(lower=0)
    return lengths.reset_index().melt("arm", var_name="part", value_name="amount")
