"""How a percentile and its limit are written, "p95 ttft_ms < 800", and read; no more of pandas than
of the rest is needed for it, so that a command that only reads one starts at once."""

from __future__ import annotations

import re

from lab.model import LabError

LARGEST = 1e15
"""What the views count as no number of this world; a lost trial is as bad as this."""
NUMBER, UNIT = r"(?P<amount>\d+(?:\.\d+)?)", r"\s*(?P<unit>ms|s|%|\$)?"
QUANTILE = r"(?P<quantile>p\d{1,2}(?:\.\d+)?|median)"
OF_METRIC = rf"{QUANTILE}\s+(?P<metric>\w+)"
AGAINST = rf"\s*(?P<sign><=|>=|<|>)\s*{NUMBER}{UNIT}"
WORSE_BY = rf"\s+worse\s+by\s+{NUMBER}{UNIT}"


def quantile_asked(match: re.Match) -> float:
    quantile = 0.5 if match["quantile"] == "median" else float(match["quantile"][1:]) / 100
    if not quantile:
        raise LabError(f"Trials cannot bound the percentile {match['quantile']}; try p50 or p95.")
    return quantile


def limit_asked(match: re.Match) -> float:
    """In the metric's own unit: seconds become milliseconds, per cent a share."""
    amount = float(match["amount"] or 0)
    if amount > LARGEST:
        raise LabError(
            f"No trial comes near a limit of {match['amount'][:20]}…; give one below 10^15."
        )
    if match["unit"] == "%":
        return amount / 100
    return amount * 1000 if match["unit"] == "s" else amount
