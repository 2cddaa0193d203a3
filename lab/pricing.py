"""What a call costs, by the price of its model on its day: data/prices.toml, and the user's own rows in a file that LAB_PRICES names."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lab import paths
from lab.model import LabError

BATCH = 0.5
US_ONLY = 1.1
DEAREST = 1e6
"""No rate in a price list is above it, so that no cost is infinite."""


class Rates(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0, le=DEAREST)
    output: float = Field(ge=0, le=DEAREST)
    write_5m: float = Field(ge=0, le=DEAREST)
    write_1h: float = Field(ge=0, le=DEAREST)
    read: float = Field(ge=0, le=DEAREST)


class Tier(Rates):
    """Rates of a request whose whole prompt is longer than `tokens`: they hold for every token of it, output included."""

    tokens: int = Field(gt=0)


class Price(Rates):
    """One row of the price list: holds from its day until the model's next row."""

    model: str
    from_day: date = Field(alias="from")
    fast: float | None = Field(None, ge=0, le=DEAREST)
    above: tuple[Tier, ...] = ()
    unverified: bool = False
    source: str = ""
    read_on: date | None = None

    def rates_for(self, prompt_tokens: int) -> Rates:
        """The rates by the whole prompt: input + cache read + cache write."""
        passed = [tier for tier in self.above if prompt_tokens > tier.tokens]
        return max(passed, key=lambda tier: tier.tokens) if passed else self


def prices() -> tuple[Price, ...]:
    """All rows, the user's own (LAB_PRICES) last, so that they win over a built-in row of the same model and day."""
    rows = _read(paths.ROOT / "data" / "prices.toml")
    if own := os.environ.get("LAB_PRICES"):
        rows += _read(Path(own).expanduser())
    return rows


def price(model: str, day: date, rows: Sequence[Price] | None = None) -> Price | None:
    """The row that holds for a model on a day; None for a model that has no price, or had none yet."""
    names = (model, re.sub(r"-\d{8}$", "", model))
    rows = prices() if rows is None else rows
    held = [(row.from_day, place, row) for place, row in enumerate(rows) if row.model in names and row.from_day <= day]
    return max(held, key=lambda entry: entry[:2])[2] if held else None


def cost_usd(
    model: str, usage: Mapping[str, Any], day: date, rows: Sequence[Price] | None = None, batch: bool = False, fast: bool = False
) -> float | None:
    """Dollars for one call, from the usage that the API reported; None where the model, or its fast mode, has no known price."""
    held = price(model, day, rows)
    if held is None:
        return None
    fresh, read = int(usage.get("input_tokens") or 0), int(usage.get("cache_read_input_tokens") or 0)
    written_5m, written_1h = (count or 0 for count in cache_writes(usage))
    rates = held.rates_for(fresh + read + written_5m + written_1h)
    micro_usd = (
        fresh * rates.input
        + read * rates.read
        + written_5m * rates.write_5m
        + written_1h * rates.write_1h
        + int(usage.get("output_tokens") or 0) * rates.output
    )
    if batch or usage.get("service_tier") == "batch":
        micro_usd *= BATCH
    if fast or usage.get("speed") == "fast":
        if held.fast is None:
            return None
        micro_usd *= held.fast
    if usage.get("inference_geo") == "us":
        micro_usd *= US_ONLY
    return micro_usd / 1e6


def cache_writes(usage: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Tokens written for five minutes and for an hour; None where the usage tells of none.

    Some endpoints give only the split and some only the sum; a write of unknown TTL is one of five minutes, the API's default.
    """
    split, total = usage.get("cache_creation") or {}, usage.get("cache_creation_input_tokens")
    short, long = split.get("ephemeral_5m_input_tokens"), split.get("ephemeral_1h_input_tokens")
    return short if total is None else max(total - (long or 0), short or 0), long


def ceiling_usd(usage: Mapping[str, Any], day: date, rows: Sequence[Price] | None = None) -> float:
    """Dollars for one call at the dearest listed price: what a budget counts for a model without one."""
    rows = prices() if rows is None else rows
    plain = {name: value for name, value in usage.items() if name != "speed"}
    return max((cost_usd(model, plain, day, rows) or 0.0 for model in {row.model for row in rows}), default=0.0)


def remark(models: Iterable[str], day: date, rows: Sequence[Price] | None = None) -> str | None:
    """A sentence on models without a price and on prices that are not verified; None when there is nothing to say."""
    rows = prices() if rows is None else rows
    found = {model: price(model, day, rows) for model in dict.fromkeys(models)}
    sentences = []
    if unknown := [model for model, row in found.items() if row is None]:
        sentences.append(
            f"No price is known for {', '.join(unknown)}: its cost is not shown, and its budget counts the dearest listed price; "
            "LAB_PRICES can name a file with one."
        )
    if unverified := [model for model, row in found.items() if row and row.unverified]:
        sentences.append(f"The price of {', '.join(unverified)} is unverified: part of it comes from third-party pages.")
    return " ".join(sentences) or None


def _read(path: Path) -> tuple[Price, ...]:
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        raise LabError(f"No price file at {path}; set LAB_PRICES to one that exists, or unset it.") from None
    return _parsed(path, stamp)


@cache
def _parsed(path: Path, _changed_ns: int) -> tuple[Price, ...]:
    try:
        return tuple(Price(**row) for row in tomllib.loads(path.read_text(encoding="utf-8"))["prices"])
    except (tomllib.TOMLDecodeError, KeyError, ValidationError, UnicodeDecodeError) as error:
        raise LabError(f"{path.name} is not a price list like data/prices.toml: {str(error).splitlines()[0]}.") from None
