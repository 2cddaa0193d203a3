"""How the time to the first token grows with the prompt in one recording: by tokens that the server
had to read afresh, and by those that it had in its cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import scipy

from lab import units
from lab.recording.facts import Estimate
from lab.stats import robust
from lab.stats.intervals import at_rank

FEWEST = 10
"""Calls of a model from which on its relation is told."""
FEWEST_LENGTHS = 3
"""Different counts of uncached tokens, at least …"""
SMALLEST_SPREAD = 100
"""… so many tokens apart."""
LEVEL = 0.95
ENOUGH_PAIRS = 39
"""Pairs from which on the 2.5 % in each tail are counted, not taken from a normal curve: a further
pair falls below rank (n + 1)·0.025 with that probability, and 39 have such a rank (Wilks 1941)."""
MOST_CALLS, MOST_PAIRS = 20_000, 2_000
"""The last ones; more make no interval shorter that anybody reads."""


@dataclass(frozen=True, eq=False)
class Noise:
    """What two calls near in time do beside the relation, in ms: drift that takes hold of both at
    once cancels between them, as it does in a paired replay."""

    slow: np.ndarray
    quick: np.ndarray
    """Residuals over their scale, of pairs: a call read afresh, and the one nearest to it in time
    that was read from the cache."""
    base: float
    growth: float
    """The scale of a call is base + growth · (its uncached tokens)."""

    @property
    def spread(self) -> float:
        """The size of a residual over its scale, without the few that hung: one hung call is no
        part of what others would take."""
        return float(robust.TO_SD * np.median(np.abs(np.append(self.slow, self.quick))))

    def of_difference(self, less: float, more: float) -> tuple[float, float]:
        """How far the difference of two calls with so many uncached tokens strays, down and up."""
        slow, quick = (self.base + self.growth * tokens for tokens in (more, less))
        strays, pairs = np.sort(slow * self.slow - quick * self.quick), len(self.slow)
        if pairs >= ENOUGH_PAIRS:
            rank = (1 - LEVEL) / 2 * (pairs + 1)
            down, up = at_rank(strays, rank), at_rank(strays, pairs + 1 - rank)
            return max(-float(down), 0.0), max(float(up), 0.0)
        reach = float(scipy.special.stdtrit(max(pairs - 1, 1), (1 + LEVEL) / 2))
        spread = float(np.sqrt(np.mean(strays**2) * (1 + 1 / pairs)))
        return reach * spread, reach * spread


@dataclass(frozen=True, eq=False)
class Relation:
    """Of one model. Times count from the moment the request had left, where that is known: without
    the connection and the application's own work."""

    ms_per_1000_uncached: Estimate
    ms_per_1000_cached: Estimate | None
    """Of what was read from the cache; None where none was, or always as much."""
    ms_per_1000_missed: Estimate
    """What 1,000 tokens took longer read afresh than from the cache; where nothing was read from
    it, as if that took no time."""
    knows_reads: bool
    """Whether it has reads from a cache to hold the others against."""
    calls: int
    model: str
    usual_tokens: float
    """Uncached tokens of a call whose prompt was read, the median."""
    line: robust.Fit = field(repr=False)
    noise: Noise = field(repr=False)
    others: Mapping[str, Relation] = field(default_factory=dict, repr=False)
    """Of all models of the recording, by the name that served and by the one that was asked for."""

    def of_model(self, model: str) -> Relation | None:
        return self if model == self.model else self.others.get(model)

    def seconds(self, tokens: float, model: str | None = None) -> Estimate | None:
        """What so many tokens took longer in one call because they were read afresh and not from
        the cache, in seconds. The interval is that of one paired difference: two measurements'
        noise, and the slope's own uncertainty (each end squares and adds them, Zou & Donner 2008).

        None for a model of which too little is known; without `model` it is that of most calls.
        """
        relation = self if model is None else self.of_model(model)
        return relation and relation.seconds_together([tokens])

    def seconds_together(self, counts: Sequence[float]) -> Estimate:
        """What so many tokens each in several calls took longer, all calls together."""
        slope, thousands, n = self.ms_per_1000_missed, sum(counts) / 1000, len(counts)
        value = slope.value * thousands
        # Each call strays by itself: together by the root of n of a middling one.
        strays = self.noise.of_difference(self.usual_tokens, self.usual_tokens + sum(counts) / n)
        down = np.hypot(strays[0] * np.sqrt(n), value - slope.low * thousands)
        up = np.hypot(strays[1] * np.sqrt(n), slope.high * thousands - value)
        return Estimate(*(float(ms) / 1000 for ms in (value, value - down, value + up)))

    def first_tokens(self, uncached: Sequence[float], prompts: Sequence[float]) -> Estimate:
        """Seconds to the first token of calls with so many uncached tokens and prompts so long, all
        together."""
        sums = (len(uncached), sum(uncached) / 1000, sum(prompts) / 1000)
        value, low, high = self.line.interval(sums[: len(self.line.coefficients)])
        scales = self.noise.base + self.noise.growth * np.asarray(uncached, float)
        stray = 2 * self.noise.spread * float(np.sqrt((scales**2).sum()))
        low, high = value - np.hypot(value - low, stray), value + np.hypot(high - value, stray)
        return Estimate(*(float(ms) / 1000 for ms in (value, max(low, 0.0), high)))


def of(calls: pd.DataFrame) -> Relation | None:
    """Of the model with the most calls; None where the calls with a first-token time are too few or
    too alike (`missing` says it in words)."""
    timed = points(calls)
    fitted = [
        relation
        for model, rows in timed.groupby("model", sort=False)
        if (relation := _of_model(str(model), rows))
    ]
    if not fitted:
        return None
    fitted.sort(key=lambda relation: -relation.calls)
    others = {relation.model: relation for relation in reversed(fitted)}
    asked = timed.groupby("asked")["model"].agg(lambda names: names.mode().iloc[0])
    others = {name: others[served] for name, served in asked.items() if served in others} | others
    return replace(fitted[0], others=others)


def missing(calls: pd.DataFrame) -> str:
    """Why there is no relation, as a sentence; empty where there is one."""
    timed = points(calls)
    if timed.empty:
        return (
            "No call of this recording has both a first-token time and its tokens, so seconds "
            "cannot be told."
        )
    if of(calls):
        return ""
    most = int(timed.groupby("model").size().max())
    if most < FEWEST:
        have = f"{units.counted(most, 'call')} with a first-token time"
        return f"{have}; {FEWEST} of one model are needed to tell seconds."
    return (
        "The calls are too alike in what they read afresh to tell seconds: prompts of different "
        "lengths are needed."
    )


def points(calls: pd.DataFrame) -> pd.DataFrame:
    """The calls that streamed and ended well, in the order of their starts: call_id, model, asked
    (the model by the name in the request), started_ms, at_ms (to the first token, from the moment
    the request had left), ttft_ms, uncached, read, prompt, in tokens."""
    sent = calls["ttft_from_sent_ms"].astype(float)
    # A recorder stamps the sending; where nobody did, at least what is known of connecting goes.
    connecting = calls[["dns_ms", "connect_ms", "tls_ms"]].astype(float).fillna(0).sum(axis=1)
    whole = calls["ttft_ms"].astype(float)
    read = calls["cache_read_tokens"].astype(float).fillna(0)
    written = calls["cache_write_tokens"].astype(float).fillna(0)
    rows = pd.DataFrame(
        {
            "call_id": calls["call_id"],
            "model": calls["served_model"].fillna(calls["model"]),
            "asked": calls["model"],
            "started_ms": calls["started_ms"].astype(float),
            "at_ms": sent.fillna(whole - connecting),
            "ttft_ms": whole,
            "uncached": calls["input_tokens"].astype(float) + written,
            "read": read,
            "prompt": calls["prompt_tokens"].astype(float),
        }
    )
    # One that sampled several times counts the tokens of all: its first token waited for the first.
    is_single = (rows["uncached"] + read - rows["prompt"]).abs() < 1
    is_known = calls["error_kind"].isna() & rows["at_ms"].gt(0) & is_single
    return rows[is_known].sort_values("started_ms", kind="stable")


def _of_model(model: str, rows: pd.DataFrame) -> Relation | None:
    rows = rows.tail(MOST_CALLS)
    uncached, prompt, read = (rows[name].to_numpy() for name in ("uncached", "prompt", "read"))
    lengths = np.unique(uncached)
    if (
        len(rows) < FEWEST
        or len(lengths) < FEWEST_LENGTHS
        or lengths[-1] - lengths[0] < SMALLEST_SPREAD
    ):
        return None
    # Of what was not read and of the whole prompt: the first slope is then what a miss costs, and
    # it is known even where all prompts are about as long.
    x = np.column_stack([np.ones(len(rows)), uncached / 1000, prompt / 1000])
    reads = read > 0
    has_lengths = bool(reads.any()) and _is_apart(x)
    x = x if has_lengths else x[:, :2]
    fitted, base, growth = _fitted(x, rows["at_ms"].to_numpy(), uncached)
    strays = fitted.residuals / (base + growth * uncached)
    missed = Estimate(*fitted.interval((0, 1, 0)[: x.shape[1]]))
    return Relation(
        ms_per_1000_uncached=Estimate(*fitted.interval((0, 1, 1))) if has_lengths else missed,
        ms_per_1000_cached=Estimate(*fitted.interval((0, 0, 1))) if has_lengths else None,
        calls=len(rows),
        model=model,
        ms_per_1000_missed=missed,
        knows_reads=bool(reads.any()),
        noise=Noise(*_pairs(rows["started_ms"].to_numpy(), strays, read > uncached), base, growth),
        usual_tokens=float(np.median(uncached[reads]) if reads.any() else lengths[0]),
        line=fitted,
    )


def _pairs(at_ms: np.ndarray, strays: np.ndarray, is_read: np.ndarray) -> tuple[np.ndarray, ...]:
    """Each call read afresh with the one nearest in time that was not; of too few of either,
    all neighbours, both ways round."""
    afresh, read = np.flatnonzero(~is_read)[-MOST_PAIRS:], np.flatnonzero(is_read)
    if min(len(afresh), len(read)) < FEWEST:
        return np.append(strays[1:], strays[:-1]), np.append(strays[:-1], strays[1:])
    after = np.searchsorted(read, afresh).clip(1, len(read) - 1)
    before = after - 1
    is_nearer = at_ms[afresh] - at_ms[read[before]] < at_ms[read[after]] - at_ms[afresh]
    return strays[afresh], strays[read[np.where(is_nearer, before, after)]]


def _is_apart(x: np.ndarray) -> bool:
    """Whether prompts of as many uncached tokens differ in length."""
    rest = x[:, 2] - x[:, :2] @ np.linalg.lstsq(x[:, :2], x[:, 2], rcond=None)[0]
    return bool(np.ptp(rest) * 1000 >= SMALLEST_SPREAD)


def _fitted(x: np.ndarray, y: np.ndarray, tokens: np.ndarray) -> tuple[robust.Fit, float, float]:
    """The fit, and how its noise grows with the tokens: first all alike, then by what is left."""
    base, growth = 1.0, 0.0
    for _ in range(3):
        fitted = robust.fit(x, y, base + growth * tokens)
        rest = np.abs(fitted.residuals)
        rest = np.minimum(rest, 5 * np.median(rest))  # one that hung would decide it alone
        lines = np.column_stack([np.ones(len(tokens)), tokens])
        base, growth = scipy.optimize.nnls(lines, rest)[0]
        # Some noise is everywhere: where the shortest calls show none, a line alone would have it.
        base = max(base, float(rest.mean()) / 20, 1e-3)
    return fitted, float(base), float(growth)
