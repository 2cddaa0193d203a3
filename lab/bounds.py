"""A value with its interval against a limit: met, not met, or not decided yet, and in which words.
Failed is not fast: what was lost counts as the worst there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf, isnan
from typing import Literal

import numpy as np
import pandas as pd

from lab import metrics, stats, units
from lab.limit_words import LARGEST, limit_asked, quantile_asked
from lab.stats import Interval
from lab.stats.arms import LostTrials

LEVEL = 0.95

Verdict = Literal["pass", "fail", "not_enough_data"]
UNDECIDED: Verdict = "not_enough_data"


@dataclass(frozen=True)
class Outcome:
    """What came of one requirement for one arm; docs/result-format.md has the fields."""

    requirement: str
    arm: str
    verdict: Verdict
    seen: str
    """In words, with its interval and n."""
    estimate: float | None
    low: float | None
    high: float | None
    limit: float
    """In the unit of the estimate; a share where the requirement is one."""
    n: int
    """Trials of the arm, or blocks, that answered; of a percentile the lost ones too."""
    lost: int = 0
    """Trials of the arm that failed, or missed the cache that it is about."""
    needed: int | None = None
    """About how many more blocks, or of whatever `unit` says, a decision takes."""
    unit: str = "block"
    """What n counts in a recording: call, turn or conversation."""


def with_worst(values: pd.Series, lost: LostTrials, metric: str) -> np.ndarray:
    """The values, and for each lost trial the worst there is."""
    worst = 1 / LARGEST if metrics.find(metric).higher_is_better else LARGEST
    return np.concatenate([values.to_numpy(float), np.full(lost.n, worst)])


def beyond(interval: Interval, answered: pd.Series, metric: str) -> Interval:
    """An end that lies beyond all that answered lies among the lost: it is never, or no speed."""
    if metrics.find(metric).higher_is_better:
        least = answered.min() if len(answered) else inf
        ends = (0.0 if end is not None and end < least else end for end in interval[:3])
    else:
        most = answered.max() if len(answered) else -inf
        ends = (inf if end is not None and end > most else end for end in interval[:3])
    return Interval(*ends, *interval[3:])


def side(interval: Interval, limit: float, below: Verdict = "pass") -> Verdict:
    """Below the limit, above it, or around it."""
    above: Verdict = "fail" if below == "pass" else "pass"
    if interval.low is None or interval.high is None:
        return UNDECIDED
    return below if interval.high < limit else above if interval.low > limit else UNDECIDED


def met(interval: Interval, limit: float, sign: str) -> Verdict:
    """By `sign`: <, <=, > or >=."""
    if interval.low == interval.high == limit:  # a number that is the limit itself
        return "pass" if "=" in sign else "fail"
    return side(interval, limit, below="fail" if ">" in sign else "pass")


def percentile(
    answered: pd.Series, lost: LostTrials, match: re.Match
) -> tuple[Interval, str, int | None]:
    """What is asked for by OF_METRIC and AGAINST, each that was lost beyond every limit: its
    interval, that in words, and about how many more a decision takes."""
    quantile, metric = quantile_asked(match), match["metric"]
    ranked = stats.quantile(with_worst(answered, lost, metric), quantile, LEVEL)
    interval = beyond(ranked, answered, metric)
    needed = more_needed(ranked, limit_asked(match), ranked.n, metrics.needed(quantile))
    if interval != ranked and interval.low is not None:
        needed = None  # an interval that reaches among the lost has no width to go by
    return interval, seen_words(interval, partial(units.value, metric)), needed


def counted(n: int, lost: LostTrials, noun: str = "") -> str:
    """ "15, 3 of 15 failed", "40 calls"."""
    return ", ".join(filter(None, (units.counted(n, noun) if noun else f"{n}", lost.words)))


def more_needed(interval: Interval, limit: float, n: int, fewest: int) -> int | None:
    """How many more blocks it should take: at least those the percentile needs, else by the square
    root law."""
    if n < fewest or interval.low is None or interval.high is None:
        return max(fewest - n, 1)
    distance = abs(interval.estimate - limit)
    if not distance:
        return None
    return max(round(n * ((interval.high - interval.low) / 2 / distance) ** 2) - n, 1)


def seen_words(interval: Interval, written: Callable[[float], str]) -> str:
    if not interval.n:
        return "nothing measured"
    if isnan(interval.estimate):
        return "— (there is no share of 0)"
    estimate, low, high = (
        "never" if end == inf else end is not None and written(end) for end in interval[:3]
    )
    return f"{estimate} [{low}, {high}]" if low and high else f"{estimate} (no interval yet)"


def outcome(
    text: str,
    arm: str,
    verdict: Verdict,
    seen: str,
    interval: Interval,
    limit: float,
    n: int,
    needed: int | None,
    lost: int = 0,
    unit: str = "block",
) -> Outcome:
    return Outcome(
        requirement=text,
        arm=arm,
        verdict=verdict,
        seen=seen,
        estimate=units.plain(interval.estimate),
        low=units.plain(interval.low),
        high=units.plain(interval.high),
        limit=limit,
        n=n,
        lost=lost,
        needed=needed if verdict == UNDECIDED else None,
        unit=unit,
    )
