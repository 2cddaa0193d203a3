"""When caching pays, and what each cache state took: pure functions of the views' frames."""

from __future__ import annotations

import math

import pandas as pd


def break_even_uses(input_price: float, write_price: float, read_price: float) -> int | None:
    """From how many uses of a prefix, the first one included, caching costs less than no caching;
    None if never.

    n uses cost write + (n - 1) read with it and n input without: less from the first n above (write
    - read) / (input - read).
    """
    if read_price >= input_price:
        return None
    uses = (write_price - read_price) / (input_price - read_price)
    return max(1, math.floor(round(uses, 9)) + 1)


def cache_states(calls: pd.DataFrame) -> pd.DataFrame:
    """By arm and observed state of its answers: n, median ttft_ms, tokens read and written, hit
    share, mean cost_usd, share as intended."""
    answers = calls[
        (calls["role"] == "answer") & calls["error_kind"].isna() & calls["observed_cache"].notna()
    ]
    # "any" was meant by nobody; a partial read is a read: the turn before was cached, and the new
    # one cannot have been.
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
