"""Objectives: what must hold of a level's requests, in the language of lab.requirements, and
whether it does. Failed is not fast: it counts as never answered.

"p95 ttft_ms < 800" holds where at least 95 % of the requests begin within 800 ms: the count of
those that miss it decides, and the percentile told is the value at that very place in their order,
so that the two cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from math import ceil, inf, nan
from typing import NamedTuple

from lab import limit_words, metrics, units
from lab.load.profile import CANCELLED, CallFact, Mode
from lab.model import LabError

RULE = re.compile(rf"{limit_words.OF_METRIC}{limit_words.AGAINST}")
SINCE_DUE = {"ttft_ms": "scheduled_ttft_ms", "total_ms": "scheduled_latency_ms"}
"""What an open loop is held to in their place: there the wait before a request is sent counts, or a
server that falls behind would seem to keep up."""
SIGNS = {"<": "under", "<=": "at most", ">": "over", ">=": "at least"}


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
    percentile: str
    """ "p95" or "median"."""
    quantile: float
    metric: str
    """As it was asked for; `judged` says what is measured."""
    sign: str
    limit: float
    """In the metric's own unit."""

    @property
    def is_upper(self) -> bool:
        return self.sign in ("<", "<=")

    @property
    def share(self) -> float:
        """How many of the requests must keep the limit, at least."""
        return self.quantile if self.is_upper else 1 - self.quantile

    @property
    def needed(self) -> int:
        """The fewest requests that can carry its percentile."""
        return metrics.needed(self.quantile)

    def judged(self, mode: Mode) -> str:
        return SINCE_DUE.get(self.metric, self.metric) if mode == "open" else self.metric

    def words(self, mode: Mode) -> str:
        """ "p95 time to first token under 800 ms"."""
        name = f"{self.percentile} {metrics.words(self.judged(mode))}"
        return f"{name} {SIGNS[self.sign]} {self.written(self.limit)}"

    def written(self, value: float) -> str:
        return "never" if value == inf else units.value(self.metric, value)

    def meets(self, value: float) -> bool:
        """Whether one request keeps the limit."""
        if self.is_upper:
            return value < self.limit or (self.sign == "<=" and value == self.limit)
        return value > self.limit or (self.sign == ">=" and value == self.limit)

    def allowed(self, n: int) -> int:
        """How many of n requests may miss it."""
        return n - ceil(self.share * n - 1e-9)

    def value_of(self, fact: CallFact, mode: Mode) -> float | None:
        """What it judges of a call: the worst where that failed, None where it says nothing."""
        if fact.error_kind == CANCELLED:
            return None
        if fact.error_kind is not None:
            return inf if self.is_upper else 0.0
        return FIGURES[self.judged(mode)](fact)


def objective(text: str) -> Objective:
    """LabError for what cannot be read, or is no figure of a request under load."""
    match = RULE.fullmatch(text.strip())
    if not match:
        raise LabError(f'Cannot read the objective {text!r:.80}: write "p95 ttft_ms < 800".')
    if match["metric"] not in FIGURES:
        raise LabError(
            f"There is no {match['metric']!r:.40} of a request under load; try"
            f" {', '.join(FIGURES)}."
        )
    if match["unit"] in ("%", "$"):
        raise LabError(f"{text!r:.80}: {match['metric']} has no limit in {match['unit']}.")
    return Objective(
        text.strip(),
        match["quantile"],
        limit_words.quantile_asked(match),
        match["metric"],
        match["sign"],
        limit_words.limit_asked(match),
    )


def objectives(texts: Iterable[str]) -> tuple[Objective, ...]:
    return tuple(map(objective, texts))


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
        if self.n >= self.objective.needed:
            return self.misses <= self.objective.allowed(self.n)
        if self.is_lost and self.planned >= self.objective.needed:
            return False
        return False if self._is_surely_missed() else None

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
    place = n - known.allowed(n) - 1
    return Held(known, n, misses, planned or n, ordered[place] if n else nan)


def held_by(known: Objective, facts: Iterable[CallFact], mode: Mode, planned: int = 0) -> Held:
    values = (known.value_of(fact, mode) for fact in facts)
    return held(known, [value for value in values if value is not None], planned)
