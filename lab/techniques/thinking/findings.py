"""When an answer first shows anything, its text and its end, and what its thinking took: pure
functions of the views' frames."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd

INSTANTS = ("first_sign_ms", "wait_ms", "total_ms")


def by_arm(trials: pd.DataFrame, calls: pd.DataFrame) -> pd.DataFrame:
    """A row an arm: the medians of INSTANTS in ms from the trial's start, of thinking_tokens,
    output_tokens and tokens_per_s, unknown where no answer told them; mean quality and cost_usd; n,
    and `cut`, how many of their answers ended at max_tokens.

    `trials` are those that count, `calls` all answer calls of the run.
    """
    answers = calls[(calls["role"] == "answer") & calls["trial_id"].isin(trials["trial_id"])]
    told = answers.groupby("trial_id").agg(
        thinking_tokens=("thinking_tokens", lambda counts: counts.sum(min_count=1)),
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


def shown(events: pd.DataFrame, trial: pd.Series) -> dict[str, list[float] | float | None]:
    """Of one trial in ms from its start: `sign` (the stream shows that the model is at work),
    `text` (its first visible text) and `end`; `thoughts`, each piece or estimate of its thinking
    before the text; `silence`, the longest time before the text without anything new to be seen.

    `events` are the arrivals of its answer; one of thinking without a character is an estimate.
    """
    end = float(trial["total_ms"])
    text = _known(trial["wait_ms"], end)
    sign = _known(trial["first_sign_ms"], text)
    of_thinking = events[events["kind"] == "thinking_delta"]["at_ms"].astype(float)
    thoughts = [at for at in of_thinking if at < text]
    seen = [0.0, *thoughts, text]
    silence = max(after - before for before, after in pairwise(seen))
    return {"sign": sign, "text": text, "end": end, "thoughts": thoughts, "silence": silence}


def _known(value: float, otherwise: float) -> float:
    """An instant, no later than the one behind it."""
    return otherwise if pd.isna(value) else min(float(value), otherwise)
