"""What the techniques' pages say in numbers beside the verdict: pure functions of the views' frames, in milliseconds and dollars."""

from __future__ import annotations

import math

import pandas as pd


def break_even_uses(input_price: float, write_price: float, read_price: float) -> int | None:
    """From how many uses of a prefix, the first one included, caching costs less than no caching; None if never.

    n uses cost write + (n - 1) read with it and n input without: less from the first n above (write - read) / (input - read).
    """
    if read_price >= input_price:
        return None
    uses = (write_price - read_price) / (input_price - read_price)
    return max(1, math.floor(round(uses, 9)) + 1)


def cache_states(calls: pd.DataFrame) -> pd.DataFrame:
    """By arm and observed state of its answers: n, median ttft_ms, tokens read and written, hit share, mean cost_usd, share as intended."""
    answers = calls[
        (calls["role"] == "answer") & calls["error_kind"].isna() & calls["observed_cache"].notna()
    ]
    # "any" was meant by nobody; a partial read is a read: the turn before was cached, and the new one cannot have been.
    as_intended = answers["intended_cache"].eq(
        answers["observed_cache"].replace("partial", "read")
    ) | answers["intended_cache"].eq("any")
    answers = answers.assign(as_intended=as_intended)
    made = answers.groupby(["arm", "observed_cache"], sort=False).agg(
        n=("call_id", "count"),
        ttft_ms=("ttft_ms", "median"),
        read_tokens=("cache_read_tokens", "sum"),
        written_tokens=("cache_write_tokens", "sum"),
        prompt_tokens=("prompt_tokens", "sum"),
        cost_usd=("cost_usd", "mean"),
        as_intended=("as_intended", "mean"),
    )
    made["hit_share"] = made["read_tokens"] / made["prompt_tokens"].where(made["prompt_tokens"] > 0)
    return made.reset_index()


def routing_overhead_ms(calls: pd.DataFrame) -> float | None:
    """The median time of the router's own calls (role classify); None where nothing was classified."""
    times = calls.loc[
        (calls["role"] == "classify") & calls["error_kind"].isna(), "total_ms"
    ].dropna()
    return float(times.median()) if len(times) else None


def routes(spans: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """One row per routed trial: trial_id, arm, task_id, and the tier chosen (the name of its route span)."""
    chosen = spans.loc[spans["kind"] == "route", ["trial_id", "name"]].rename(
        columns={"name": "chosen"}
    )
    return trials[["trial_id", "arm", "task_id"]].merge(chosen, on="trial_id")


def routing_shares(routed: pd.DataFrame) -> pd.DataFrame:
    """By arm: how many trials went to each tier and which share that is."""
    counted = routed.groupby(["arm", "chosen"], sort=False).size().rename("n").reset_index()
    counted["share"] = counted["n"] / counted.groupby("arm")["n"].transform("sum")
    return counted


def confusion(routed: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """By arm: trials counted by the task's label (easy, hard) and the tier chosen; `agrees` where easy met small or hard met large."""
    known = routed.assign(label=routed["task_id"].map(labels)).dropna(subset=["label"])
    counted = known.groupby(["arm", "label", "chosen"], sort=False).size().rename("n").reset_index()
    counted["agrees"] = counted["chosen"].eq(
        counted["label"].map({"easy": "small", "hard": "large"})
    )
    return counted


def speed_up(trials: pd.DataFrame, baseline: str, arm: str) -> float | None:
    """Median of total_ms of the baseline over that of the arm, of the trials that ended well."""
    medians = trials[trials["outcome"] == "ok"].groupby("arm")["total_ms"].median()
    return (
        float(medians[baseline] / medians[arm])
        if baseline in medians and arm in medians and medians[arm] > 0
        else None
    )


def fan_out(spans: pd.DataFrame) -> dict[str, float] | None:
    """Of one trial's tools, or its calls where it has none: n, their sum, the slowest, and from the first start to the last end, in ms.

    `sum_ms / took_ms` is the speed-up they had, `sum_ms / slowest_ms` the most they could have.
    """
    done = spans.dropna(subset=["ended_ns"])
    pieces = done[done["kind"] == "tool"]
    if pieces.empty:
        trial = done[done["kind"] == "trial"]
        within = done["started_ns"].between(
            trial["started_ns"].min(), trial["ended_ns"].max()
        )  # no prime, and no judge
        pieces = done[within & (done["kind"] == "call")]
    if pieces.empty:
        return None
    each = (
        pieces["ended_ns"].astype(float) - pieces["started_ns"].astype(float)
    ) / 1e6  # no difference of instants is beyond a float
    took = (float(pieces["ended_ns"].max()) - float(pieces["started_ns"].min())) / 1e6
    return {
        "n": len(each),
        "sum_ms": float(each.sum()),
        "slowest_ms": float(each.max()),
        "took_ms": float(took),
    }


def per_request(calls: pd.DataFrame) -> pd.DataFrame:
    """What concurrency costs each single request: by arm the median and longest total_ms of its answer calls, and their n."""
    answers = calls[(calls["role"] == "answer") & calls["error_kind"].isna()]
    return (
        answers.groupby("arm", sort=False)["total_ms"]
        .agg(n="count", median_ms="median", longest_ms="max")
        .reset_index()
    )


def coordination(trials: pd.DataFrame, calls: pd.DataFrame) -> pd.DataFrame:
    """By arm of a topology: mean calls, tokens, cost and quality, and median total_ms: what working as a team takes."""
    good = trials[trials["outcome"] == "ok"]
    tokens = (
        calls[~calls["role"].isin(["prime", "check"])]
        .groupby("trial_id")[["prompt_tokens", "output_tokens"]]
        .sum()
    )
    merged = good[["trial_id", "arm", "total_ms", "calls", "cost_usd", "quality"]].merge(
        tokens, left_on="trial_id", right_index=True, how="left"
    )
    return (
        merged.groupby("arm", sort=False)
        .agg(
            n=("trial_id", "count"),
            total_ms=("total_ms", "median"),
            calls=("calls", "mean"),
            prompt_tokens=("prompt_tokens", "mean"),
            output_tokens=("output_tokens", "mean"),
            cost_usd=("cost_usd", "mean"),
            quality=("quality", "mean"),
        )
        .reset_index()
    )
