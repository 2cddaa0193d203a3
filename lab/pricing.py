"""What a call costs, by the price of its model on its day: data/prices.toml, and the user's own
rows in a file that LAB_PRICES names."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lab import paths
from lab.model import LabError, sentence

BATCH = 0.5
US_ONLY = 1.1
Rate = Annotated[float, Field(ge=0, le=1e6)]
"""Bounded, so that no cost is infinite."""


class Rates(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Rate
    output: Rate
    write_5m: Rate
    write_1h: Rate
    read: Rate


class Tier(Rates):
    """Rates of a request whose whole prompt is longer than `tokens`: they hold for every token of
    it, output included."""

    tokens: int = Field(gt=0)


class Price(Rates):
    """One row of the price list: holds from its day until the model's next row."""

    model: str
    from_day: date = Field(alias="from")
    fast: Rate | None = None
    above: tuple[Tier, ...] = ()
    unverified: bool = False
    source: str = ""
    read_on: date | None = None

    def rates_for(self, prompt_tokens: int) -> Rates:
        """The rates by the whole prompt: input + cache read + cache write."""
        passed = [tier for tier in self.above if prompt_tokens > tier.tokens]
        return max(passed, key=lambda tier: tier.tokens) if passed else self


def prices() -> tuple[Price, ...]:
    """All rows, the user's own (LAB_PRICES) last, so that they win over a built-in row of the same
    model and day."""
    rows = _read(paths.shipped("data/prices.toml"))
    if own := os.environ.get("LAB_PRICES"):
        rows += _read(Path(own).expanduser())
    return rows


def family(model: str) -> str:
    """The API's name, without its day, of a model that Bedrock (us.anthropic.claude-…-v1:0), Google
    (publishers/anthropic/models/claude-…@20250929) or a gateway (anthropic/claude-…) calls
    otherwise."""
    name = model.rpartition("/")[2]
    if "anthropic." in name:
        name = re.sub(r"-v\d+(:\w+)*$", "", name.rpartition("anthropic.")[2])
    return re.sub(r"[-@](\d{8}|latest|default|0)$", "", name)


def same_model(one: str, other: str) -> bool:
    """Whether two names are of one model: gateways write 4.5 for 4-5 and 4-5-sonnet for sonnet-4-5,
    and put what they add behind it (:thinking, [1m])."""
    return _plain(one) == _plain(other)


def _plain(model: str) -> tuple[list[str], list[str]]:
    bare = re.sub(r"(\[[^]]*\]|:[a-z]+)+$", "", model)
    words = family(bare).replace(".", "-").split("-")
    numbers = [word for word in words if word.isdigit()]
    return sorted(set(words).difference(numbers)), numbers


SOLD_ELSEWHERE = re.compile(r"@|publishers/|vertex|(?<!global\.)\banthropic\.")
"""Names of Google's and of Bedrock's, where a region costs more than the list and the name does not
say which one it is; Bedrock's `global.` costs what the list says
(platform.claude.com/docs/en/about-claude/pricing, read 2026-11-26)."""


def priced_as(asked: str, served: str | None, day: date) -> str:
    """The name by which a call is paid: that of the model which served it; the one asked where no
    list knows the other, which may be a gateway's own, or where it was bought elsewhere."""
    is_known = served and price(served, day) and not SOLD_ELSEWHERE.search(asked)
    return served if is_known else asked


def price(model: str, day: date) -> Price | None:
    """The row that holds for a model on a day; None for a model that has no price, or had none
    yet."""
    is_listed = "/" not in model and not SOLD_ELSEWHERE.search(model)
    names = (model, family(model)) if is_listed else (model,)
    begun = [row for row in prices() if row.model in names and row.from_day <= day]
    # Of two rows of one day, the later in the list: max() would take the first.
    return max(reversed(begun), key=lambda row: row.from_day, default=None)


def cost_usd(model: str, usage: Mapping[str, Any], day: date) -> float | None:
    """Dollars for one call, from the usage that the API reported; None where the model, or its fast
    mode, has no known price.

    A call that sampled several times (`usage.iterations`: compaction, an advisor, a fallback) costs
    the sum of what each billed at its own model's price.
    """
    mode = {name: usage.get(name) for name in ("service_tier", "inference_geo", "speed")}
    costs = [_cost_usd(_paid_as(model, own), mode | counts, day) for own, counts in billed(usage)]
    return None if None in costs else sum(costs)


def usage_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """The usage that the columns of a stored call tell."""
    names = ("input_tokens", "output_tokens", "speed", "service_tier", "inference_geo")
    return {name: call[name] for name in names} | {
        "cache_read_input_tokens": call["cache_read_tokens"],
        "cache_creation": {
            f"ephemeral_{ttl}_input_tokens": call[f"cache_write_{ttl}_tokens"]
            for ttl in ("5m", "1h")
        },
        "iterations": call.get("iterations"),
    }


def _paid_as(model: str, own: str | None) -> str | None:
    """The name by which one sampling of a call is paid. Where the call was bought elsewhere that is
    the call's, and None of another model: its plain name does not say what it costs there."""
    if own is None or not SOLD_ELSEWHERE.search(model):
        return own or model
    return model if family(own) == family(model) else None


def billed(usage: Mapping[str, Any]) -> list[tuple[str | None, dict[str, Any]]]:
    """(model, or None for the call's own, and its counts) of each sampling that is paid for. The
    counts at the top stand in where no `message` or `fallback_message` iteration is listed."""
    listed = usage.get("iterations") or ()
    parts = [
        (entry.get("model"), dict(entry)) for entry in listed if not is_declined(entry, listed)
    ]
    if not any(entry.get("type") in ANSWERING for _, entry in parts):
        parts.append((None, {name: value for name, value in usage.items() if name != "iterations"}))
    return parts


def is_declined(iteration: Mapping[str, Any], iterations: Iterable[Mapping[str, Any]]) -> bool:
    """Whether another model answered in its place, in a `fallback_message`: then it is not
    billed."""
    answered = {
        family(entry.get("model") or "")
        for entry in iterations
        if entry.get("type") == "fallback_message"
    }
    own = family(iteration.get("model") or "")
    is_message = iteration.get("type") == "message"
    return bool(answered and is_message and own) and own not in answered


ANSWERING = ("message", "fallback_message")


def _cost_usd(model: str | None, usage: Mapping[str, Any], day: date) -> float | None:
    row = price(model, day) if model else None
    if row is None:
        return None
    fresh = int(usage.get("input_tokens") or 0)
    read = int(usage.get("cache_read_input_tokens") or 0)
    written_5m, written_1h = (count or 0 for count in cache_writes(usage))
    rates = row.rates_for(fresh + read + written_5m + written_1h)
    micro_usd = (
        fresh * rates.input
        + read * rates.read
        + written_5m * rates.write_5m
        + written_1h * rates.write_1h
        + int(usage.get("output_tokens") or 0) * rates.output
    )
    if usage.get("service_tier") == "batch":
        micro_usd *= BATCH
    if usage.get("speed") == "fast":
        if row.fast is None and usage.get("type") not in OTHERS:
            return None
        micro_usd *= row.fast or 1
    if usage.get("inference_geo") == "us":
        micro_usd *= US_ONLY
    return micro_usd / 1e6


OTHERS = ("compaction", "advisor_message")
"""Iterations that need not run in the mode that was asked for the answer."""


def cache_writes(usage: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Tokens written for five minutes and for an hour; None where the usage tells of none.

    Some endpoints give only the split and some only the sum; a write of unknown TTL is one of five
    minutes, the API's default.
    """
    split, total = usage.get("cache_creation") or {}, usage.get("cache_creation_input_tokens")
    short, long = split.get("ephemeral_5m_input_tokens"), split.get("ephemeral_1h_input_tokens")
    return short if total is None else max(total - (long or 0), short or 0), long


def ceiling_usd(model: str, usage: Mapping[str, Any], day: date) -> float:
    """Dollars for one call with each part that has no price at the dearest listed one: what a
    budget counts."""
    mode = {name: usage.get(name) for name in ("service_tier", "inference_geo", "speed")}
    models = {row.model for row in prices()}
    fast = max((row.fast or 1 for row in prices()), default=1)
    total = 0.0
    for own, counts in billed(usage):
        cost = _cost_usd(_paid_as(model, own), mode | counts, day)
        if cost is None:
            usage_of = mode | counts
            plain = usage_of | {"speed": None}
            cost = max((_cost_usd(name, plain, day) or 0.0 for name in models), default=0.0)
            cost *= fast if usage_of["speed"] == "fast" else 1
        total += cost
    return total


def remark(models: Iterable[str], day: date) -> str | None:
    """On models without a price and prices that are not verified; None when there are none."""
    listed = {model: price(model, day) for model in dict.fromkeys(models)}
    sentences = []
    if unknown := [model for model, row in listed.items() if row is None]:
        sentences.append(
            f"No price is known for {', '.join(unknown)}: its cost is not shown, and its budget"
            " counts the highest listed price; LAB_PRICES can name a file with one."
        )
    if unverified := [model for model, row in listed.items() if row and row.unverified]:
        sentences.append(
            f"The price of {', '.join(unverified)} is unverified: part of it comes from"
            " third-party pages."
        )
    return " ".join(sentences) or None


def _read(path: Path) -> tuple[Price, ...]:
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        raise LabError(
            f"No price file at {path}; set LAB_PRICES to one that exists, or unset it."
        ) from None
    return _parsed(path, stamp)


@cache
def _parsed(path: Path, _changed_ns: int) -> tuple[Price, ...]:
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("prices")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("it has no [[prices]]")
        return tuple(Price(**row) for row in rows)
    except ValidationError as error:
        reason = sentence(error)
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error)
    raise LabError(f"{path.name} is not a price list like data/prices.toml: {reason}.")
