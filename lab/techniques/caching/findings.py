"""When caching pays, and what each cache state took: pure functions of the views' frames."""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

OF_A_CALL = (
    *("trial_id", "call_id", "arm", "role", "error_kind", "intended_cache", "observed_cache"),
    *("ttft_ms", "cache_read_tokens", "cache_write_tokens", "prompt_tokens", "cached_share"),
    *("cache_miss_reason", "cost_usd"),
    *("endpoint", "endpoint_kind", "model"),
)
"""What is looked at of a run's calls."""


class Uses(NamedTuple):
    """What a run saw of one prefix: median ttft_ms without a cache, of the calls that wrote it and
    of those that read it, how many calls each is of, and the tokens that were read."""

    without_ms: float
    write_ms: float
    read_ms: float
    tokens: float
    without_n: int
    write_n: int
    read_n: int


class Series(NamedTuple):
    """Sums after 1, 2, … uses of a prefix."""

    without: list[float]
    cached: list[float]

    @property
    def ahead_from(self) -> int | None:
        """The first use from which on the cached sum stays the smaller; None where it does not."""
        ahead = [cached < without for without, cached in zip(*self, strict=True)]
        behind = [place for place, is_ahead in enumerate(ahead, 1) if not is_ahead]
        first = max(behind, default=0) + 1
        return first if first <= len(ahead) else None


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


def over_uses(without: float, write: float, read: float, uses: int) -> Series:
    """Of `uses` uses: each like the first without a cache; one write and then reads with it."""
    counts = range(1, uses + 1)
    return Series([n * without for n in counts], [write + (n - 1) * read for n in counts])


def uses_seen(calls: pd.DataFrame, baseline: str, cached: str) -> Uses | None:
    """None where nothing was read, or nobody saw a write: what wrote the prefix is the call of an
    arm that did so, else the one that was made before the clock of the cached arm."""
    answered = calls[calls["error_kind"].isna() & calls["ttft_ms"].notna()]
    answers = answered[answered["role"] == "answer"]
    without = answers[answers["arm"] == baseline]
    read = answers[(answers["arm"] == cached) & (answers["observed_cache"] == "read")]
    written = answers[answers["observed_cache"] == "write"]
    if written.empty:
        written = answered[(answered["role"] == "prime") & (answered["observed_cache"] == "write")]
    if without.empty or read.empty or written.empty:
        return None
    medians = (float(part["ttft_ms"].median()) for part in (without, written, read))
    tokens = float(read["cache_read_tokens"].median())
    return Uses(*medians, tokens, len(without), len(written), len(read))


def cache_answers(calls: pd.DataFrame) -> pd.DataFrame:
    """The answers that say what the cache did."""
    is_answer = (calls["role"] == "answer") & calls["error_kind"].isna()
    return calls[is_answer & calls["observed_cache"].notna()]


def cache_states(calls: pd.DataFrame) -> pd.DataFrame:
    """By arm and observed state of its answers: n, median ttft_ms, tokens read and written, hit
    share, mean cost_usd, share as intended."""
    answers = cache_answers(calls)
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
