"""Objectives: what a load is to keep, in the language of `check`, and whether its requests do.
Failed is not fast: it counts as never answered.

"p95 ttft_ms < 800" holds where at least 95 % of the requests begin within 800 ms: the count of
those that miss it decides, and the percentile told is the value at that very place in their order,
so that the two cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from math import ceil, floor, inf, nan
from typing import NamedTuple

from lab import limit_words, metrics, units
from lab.limit_words import AGAINST, OF_METRIC
from lab.load.profile import CallFact
from lab.model import LabError

WHICH = r"(?:(?P<level>\d.*?)\s+)?"
QUANTILE = re.compile(rf"{WHICH}{OF_METRIC}{AGAINST}")
FAILED = re.compile(rf"{WHICH}failed share{AGAINST}")
LANGUAGE = '"p95 ttft_ms < 800", "16 streams p95 total_ms < 2 s" or "failed share < 1 %"'
SINCE_DUE = {"ttft_ms": "scheduled_ttft_ms", "total_ms": "scheduled_latency_ms"}
"""What an open loop is held to in their place: there the wait before a request is sent counts, or a
server that falls behind would seem to keep up."""
SIGNS = {"<": "under", "<=": "at most", ">": "over", ">=": "at least"}
CANCELLED = "cancelled"
"""The error of a call that the load itself gave up: it says nothing of the server."""


def _ms(later: int | None, earlier: int | None) -> float | None:
    return None if later is None or earlier is None else (later - earlier) / 1e6


def _tokens_per_s(fact: CallFact) -> float | None:
    ms = _ms(fact.last_token_ns, fact.first_token_ns)
    return (fact.output_tokens - 1) / ms * 1000 if ms and fact.output_tokens else None


FIGURES: dict[str, Callable[[CallFact], float | None]] = {
    "ttft_ms": lambda fact: _ms(fact.first_token_ns, fact.started_ns),
    "scheduled_ttft_ms": lambda fact: _ms(fact.first_token_ns, fact.scheduled_ns),
    "ttft_sent_ms": lambda fact: _ms(fact.first_token_ns, fact.sent_ns),
    "second_token_ms": lambda fact: _ms(fact.second_token_ns, fact.first_token_ns),
    "total_ms": lambda fact: _ms(fact.ended_ns, fact.started_ns),
    "scheduled_latency_ms": lambda fact: _ms(fact.ended_ns, fact.scheduled_ns),
    "dispatch_delay_ms": lambda fact: _ms(fact.started_ns, fact.scheduled_ns),
    "tokens_per_s": _tokens_per_s,
}
"""metrics.OF_LOAD of one call, before it is stored; the view load_calls has the definitions, and a
test holds these to it. None where it is not known."""


class Objective(NamedTuple):
    text: str
    level: str | None
    """The label of the one level that it is about; None is about each."""
    match: re.Match
    is_open: bool = False
    """Whether the load is an open loop: times then count from when a request was due."""

    @property
    def metric(self) -> str | None:
        """What is measured; None where it is about the share that failed."""
        asked = self.match.groupdict().get("metric")
        return SINCE_DUE.get(asked, asked) if self.is_open else asked

    @property
    def limit(self) -> float:
        return limit_words.limit_asked(self.match)

    @property
    def sign(self) -> str:
        return self.match["sign"]

    @property
    def is_upper(self) -> bool:
        return self.sign in ("<", "<=")

    @property
    def quantile(self) -> float:
        """Of a share that may fail, the share that must not."""
        return limit_words.quantile_asked(self.match) if self.metric else 1 - self.limit

    @property
    def share(self) -> float:
        """How many of the requests must keep the limit, at least."""
        return self.quantile if self.is_upper else 1 - self.quantile

    @property
    def needed(self) -> int:
        """The fewest requests that can carry its percentile."""
        return metrics.needed(self.quantile) if self.quantile < 1 else metrics.FEWEST_BLOCKS

    @property
    def words(self) -> str:
        """ "p95 time to first token under 800 ms"."""
        if self.metric is None:
            return f"failed share {SIGNS[self.sign]} {self.written(self.limit)}"
        name = f"{self.match['quantile']} {metrics.words(self.metric)}"
        return f"{name} {SIGNS[self.sign]} {self.written(self.limit)}"

    def written(self, value: float) -> str:
        if self.metric is None:
            return units.percent(value)
        return "never" if value == inf else units.value(self.metric, value)

    def meets(self, value: float) -> bool:
        """Whether one request keeps the limit."""
        limit = self.limit if self.metric else 1.0  # of a share: the request did not fail
        if self.is_upper:
            return value < limit or (self.sign == "<=" and value == limit)
        return value > limit or (self.sign == ">=" and value == limit)

    def allowed(self, n: int) -> int:
        """How many of n requests may miss it; −1 where none may be asked at all."""
        if self.metric is None and self.sign == "<":
            return ceil(self.limit * n - 1e-9) - 1
        return floor((1 - self.share) * n + 1e-9)

    def value_of(self, fact: CallFact) -> float | None:
        """What it judges of a call: the worst where that failed, None where it says nothing."""
        if fact.error_kind == CANCELLED:
            return None
        if fact.error_kind is not None:
            return inf if self.is_upper else 0.0
        return FIGURES[self.metric](fact) if self.metric else 0.0


def read(text: str, is_open: bool = False) -> Objective:
    """LabError for what cannot be read, or is no figure of a request under load."""
    words = text.strip()
    match = FAILED.fullmatch(words) or QUANTILE.fullmatch(words)
    if match is None:
        raise LabError(f"Cannot read the requirement {text!r:.80} of a load: write {LANGUAGE}.")
    objective = Objective(words, match["level"], match, is_open)
    if objective.metric is None:
        if match["unit"] != "%" or not objective.is_upper or objective.limit > 1:
            raise LabError(
                f'{text!r:.80}: write a share that may fail, as in "failed share < 1 %".'
            )
        return objective
    if objective.metric not in metrics.OF_LOAD:
        known = ", ".join(metrics.OF_LOAD)
        raise LabError(f"A load has no metric {objective.metric!r:.40}; it has {known}.")
    if match["unit"] in ("%", "$") or not 0 < objective.quantile < 1:
        raise LabError(f"{text!r:.80} says nothing of {objective.metric}: write {LANGUAGE}.")
    return objective


def fewest(known: Iterable[Objective]) -> int:
    """Requests that a level needs so that each of them can be judged at all."""
    return max((each.needed for each in known), default=0)


class Held(NamedTuple):
    """One objective at one level."""

    objective: Objective
    n: int
    """Requests that were judged; failed ones too."""
    misses: int
    planned: int
    value: float
    """The percentile; infinite where so many failed, nan where nothing was measured."""

    @property
    def is_lost(self) -> bool:
        """Whether it is missed whatever becomes of the requests that are left."""
        return self.misses > self.objective.allowed(max(self.n, self.planned))

    @property
    def is_kept(self) -> bool | None:
        """None is not enough data."""
        if max(self.n, self.planned) < self.objective.needed:
            return False if self._is_surely_missed() else None
        if self.is_lost:
            return False
        if self.n < self.objective.needed:
            return None
        return self.misses <= self.objective.allowed(self.n)

    def _is_surely_missed(self) -> bool:
        """Few requests can show that a share is too small, though not that it is large enough."""
        from lab.stats.shares import proportion

        within = proportion(self.n - self.misses, self.n)
        return within.high is not None and within.high < self.objective.share


def held(known: Objective, values: Sequence[float], planned: int = 0) -> Held:
    """`values` as value_of gives them, without None; `planned` requests were to be judged."""
    ordered = sorted(values, reverse=not known.is_upper)
    n = len(ordered)
    misses = sum(not known.meets(value) for value in ordered)
    if not n:
        value = nan
    elif known.metric is None:
        value = misses / n
    else:
        value = ordered[n - known.allowed(n) - 1]
    return Held(known, n, misses, planned or n, value)


def held_by(known: Objective, facts: Iterable[CallFact], planned: int = 0) -> Held:
    values = map(known.value_of, facts)
    return held(known, [value for value in values if value is not None], planned)
