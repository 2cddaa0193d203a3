"""What each arm asked for, what served it, and what came of it: pure functions of the views'
frames."""

from __future__ import annotations

import pandas as pd

TIMES = ("ttft_ms", "wait_ms", "total_ms", "tokens_per_s", "output_tokens")


def frontier(trials: pd.DataFrame) -> pd.DataFrame:
    """A row an arm of the trials that count: medians of TIMES, mean cost_usd and quality, n, and
    run_id, model and endpoint columns."""
    first = ("run_id", "model", "endpoint", "endpoint_kind")
    return (
        trials.groupby("arm", sort=False)
        .agg(
            n=("trial_id", "count"),
            **{name: (name, "median") for name in TIMES},
            **{name: (name, "mean") for name in ("cost_usd", "quality")},
            **{name: (name, "first") for name in first},
        )
        .reset_index()
    )


def served(trials: pd.DataFrame, calls: pd.DataFrame) -> pd.DataFrame:
    """A row an arm of every measured trial: asked (the model), served, speeds and service_tiers
    with the number of answers of each, trials, left_out (served otherwise than asked) and why.
    What an endpoint does not say is "not said"."""
    answers = calls[(calls["role"] == "answer") & calls["error_kind"].isna()]
    rows = []
    for arm, mine in trials.groupby("arm", sort=False):
        own = answers[answers["arm"] == arm]
        otherwise = mine[mine["outcome"] == "mismatch"]
        reasons = otherwise["error_text"].dropna()
        rows.append(
            {
                "arm": arm,
                "asked": ", ".join(own["model"].dropna().unique()),
                "served": counts(own["served_model"]),
                "speed": counts(own["speed"]),
                "service_tier": counts(own["service_tier"]),
                "trials": len(mine),
                "left_out": len(otherwise),
                "why": reasons.iloc[-1] if len(reasons) else "",
            }
        )
    return pd.DataFrame(rows)


def counts(said: pd.Series) -> str:
    """ "fast", or "standard (4), fast (16)" where answers differ."""
    number = said.fillna("not said").value_counts(sort=False)
    if len(number) < 2:
        return "".join(map(str, number.index))
    return ", ".join(f"{word} ({n})" for word, n in number.items())


def beside_standard(found: pd.DataFrame, fast: str, plain: str) -> dict[str, float] | None:
    """Of an arm in fast mode and the same model's at standard speed, how many times the output
    tokens per second after the first, the milliseconds to the first token of both, and the price;
    None where one of them has no row. Columns of frontier."""
    by_arm = found.set_index("arm")
    if not {fast, plain} <= set(by_arm.index):
        return None
    mine, other = by_arm.loc[fast], by_arm.loc[plain]
    rates = [row["output_tokens"] / (row["total_ms"] - row["ttft_ms"]) for row in (mine, other)]
    return {
        "rate": rates[0] / rates[1],
        "ttft_ms": mine["ttft_ms"],
        "standard_ttft_ms": other["ttft_ms"],
        "price": mine["cost_usd"] / other["cost_usd"],
    }
