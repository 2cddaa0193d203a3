"""From paired differences to a judged comparison: an interval at its level, what it says, what spoils it, how many more blocks it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import ceil, isfinite
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from lab import units
from lab.stats.decompose import Parts, decompose, shorter_only
from lab.stats.drift import Drift, drift
from lab.stats.intervals import Interval, hodges_lehmann, needed, ratio

Verdict = Literal[
    "faster",
    "slower",
    "no_difference",
    "not_enough_data",
    "faster_but_worse",
    "faster_only_shorter",
]
FEWEST = needed(0.5)
HIGHER_IS_BETTER = frozenset({"tokens_per_s"})
FACTS = frozenset({"output_tokens", "prompt_tokens", "cached_share", "cost_usd", "quality"})
"""Metrics that explain a verdict and are not judged as faster or slower themselves."""


@dataclass(frozen=True)
class Rules:
    level: float = 0.95
    effect_share: float = 0.05
    effect_ms: float = 50.0
    """The smallest effect that matters: the larger of a share of the baseline and this many milliseconds …"""
    effect_cap: float = 0.20
    """… but never more than this share of the baseline, or a halved wait of 90 ms would count as nothing."""
    quality_margin: float = 0.10
    """How much quality (share of checks passed) may be lost before faster means worse."""
    instrument_ms: float | None = None
    """The instrument's own error, p95; a smaller effect is greyed."""

    @classmethod
    def of(cls, settings: Rules | Mapping[str, Any] | None) -> Rules:
        """From a run's settings: these names, at the top or under `statistics`; `instrument` may be a session's; the rest is ignored."""
        if isinstance(settings, Rules):
            return settings
        given = {**(settings or {}), **((settings or {}).get("statistics") or {})}
        given.setdefault("instrument_ms", (given.get("instrument") or {}).get("own_error_p95_ms"))
        return cls(
            **{
                field.name: float(given[field.name])
                for field in fields(cls)
                if given.get(field.name) is not None
            }
        )

    def smallest_effect(self, baseline: float) -> float:
        """In the baseline's unit: max(5 %, 50 ms), at most 20 % of the baseline."""
        return min(max(self.effect_share * baseline, self.effect_ms), self.effect_cap * baseline)


class Quality(NamedTuple):
    change: float
    low: float
    """One-sided 97.5 % bound."""
    high: float
    n: int
    same: int
    """Blocks in which both arms scored alike."""
    shown: Literal["not worse", "worse", "unclear"]


@dataclass(frozen=True)
class Comparison:
    """One arm against the baseline on one metric; `*_ms` are in the metric's own unit where that is not milliseconds."""

    metric: str
    technique: str
    arm: str
    baseline: str
    estimate: float | None
    low: float | None
    high: float | None
    ratio: float | None
    n: int
    verdict: Verdict
    needed_blocks: int | None = None
    reasons: tuple[str, ...] = ()
    planned: bool = False
    p50: float | None = None
    baseline_p50: float | None = None
    favourable: int = 0
    quality_change: float | None = None
    cost_change_usd: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    level: float = 0.95
    p: float = 1.0
    smallest_effect: float = 0.0
    greyed: str | None = None
    quality: Quality | None = None
    cost_share: float | None = None
    parts: Parts | None = None
    drift: Drift | None = None
    hopeless: str | None = None
    """Why no number of blocks would help: an arm of which no trial can be compared."""


def compare_run(
    pairs: pd.DataFrame, counts: pd.DataFrame | None, headline: Mapping[str, str], *, settings=None
) -> list[Comparison]:
    """Every arm on every clock, from the views pair_differences and arm_counts; the planned comparison comes first.

    The planned one has its own 95 %; the other arms share theirs by Holm (1979) on the headline metric, and an arm's other
    metrics have the arm's level. `settings` is a Rules or a run's settings.
    """
    rules, planned = Rules.of(settings), (headline["technique"], headline["arm"])
    by_arm = {key: rows for key, rows in pairs.groupby(["technique", "arm"], sort=False)}
    baseline = _baseline(pairs, settings)
    arms = sorted(
        dict.fromkeys([planned, *by_arm, *_counted(counts, baseline)]),
        key=lambda arm: arm != planned,
    )
    found = {arm: _difference(by_arm.get(arm), headline["metric"], rules.level) for arm in arms}
    levels = {planned: rules.level} | holm(
        {arm: found[arm].p for arm in arms if arm != planned}, rules.level
    )
    comparisons = []
    for arm in arms:
        rows = by_arm.get(arm)
        metrics = [
            headline["metric"],
            *([] if rows is None else [one for one in rows["metric"].unique() if one not in FACTS]),
        ]
        facts = _facts(rows, arm, baseline, counts, rules)
        for metric in dict.fromkeys(metrics):
            one = _judge(
                rows,
                arm,
                baseline[1],
                metric,
                levels[arm],
                rules,
                facts,
                planned=(arm, metric) == (planned, headline["metric"]),
            )
            comparisons.append(one)
    return sorted(comparisons, key=lambda one: (not one.planned, one.metric != headline["metric"]))


def holm(p: Mapping[Any, float], level: float = 0.95) -> dict[Any, float]:
    """Each arm's confidence level by Holm's step-down: an interval at it excludes zero exactly where Holm rejects (Holm 1979)."""
    levels, share = {}, None
    for place, arm in enumerate(sorted(p, key=lambda arm: p[arm])):
        step = (1 - level) / (len(p) - place)
        if share is None and p[arm] > step:
            share = step
        levels[arm] = 1 - (step if share is None else share)
    return levels


def differences(pairs: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Every metric and arm, described and not judged: estimate, low, high, ratio and n, in the metric's own unit."""
    rows = []
    for (technique, arm, metric), part in pairs.groupby(["technique", "arm", "metric"], sort=False):
        found = hodges_lehmann(part["difference"], level)
        share = (
            ratio(part["value"], part["baseline_value"], level)
            if (part["baseline_value"] > 0).all()
            else None
        )
        rows.append(
            (
                technique,
                arm,
                metric,
                found.estimate,
                found.low,
                found.high,
                share.estimate if share else None,
                found.n,
            )
        )
    return pd.DataFrame(
        rows, columns=["technique", "arm", "metric", "estimate", "low", "high", "ratio", "n"]
    )


def quality_gate(rows: pd.DataFrame | None, margin: float) -> Quality | None:
    """Paired non-inferiority on the mean change of quality; None where nothing was checked.

    The bound is a t bound on blocks. Where no block differs it is zero, and a loss rarer than one in n blocks stays possible.
    Worse is a loss beyond the margin whose whole interval lies below zero: a few blocks that went wrong by chance accuse nobody. What is
    neither worse nor not worse is unclear, which withholds green; where a loss was seen, the headline says so.
    """
    from scipy import stats

    changes = _of(rows, "quality")
    if changes is None or changes.empty:
        return None
    values = changes["difference"].to_numpy(float)
    mean, n = float(values.mean()), values.size
    spread = float(values.std(ddof=1) / np.sqrt(n) * stats.t.ppf(0.975, n - 1)) if n > 1 else 0.0
    shown = (
        "not worse"
        if mean - spread >= -margin
        else "worse"
        if mean < -margin and mean + spread < 0
        else "unclear"
    )
    return Quality(mean, mean - spread, mean + spread, n, int(np.count_nonzero(values == 0)), shown)


class _Facts(NamedTuple):
    quality: Quality | None
    cost_change: float | None
    cost_share: float | None
    parts: Parts | None
    reasons: tuple[str, ...]
    hopeless: str | None


def _facts(
    rows: pd.DataFrame | None,
    arm: tuple[str, str],
    baseline: tuple[str, str],
    counts: pd.DataFrame | None,
    rules: Rules,
) -> _Facts:
    """What holds for an arm whatever the metric."""
    cost = _of(rows, "cost_usd")
    change = None if cost is None else float(cost["difference"].mean())
    share = (
        None
        if cost is None or not cost["baseline_value"].sum()
        else float(cost["value"].sum() / cost["baseline_value"].sum() - 1)
    )
    reasons = _left_out(counts, (arm, baseline))
    parts = None if rows is None else decompose(rows)
    return _Facts(
        quality_gate(rows, rules.quality_margin),
        change,
        share,
        parts,
        tuple(reasons),
        _hopeless(counts, (arm, baseline)),
    )


def _hopeless(counts: pd.DataFrame | None, arms: Sequence[tuple[str, str]]) -> str | None:
    """ "all 3 trials of cached were left out: the endpoint reported no cache use …"; None where each arm has a trial that counts."""
    for technique, arm in arms if counts is not None and not counts.empty else ():
        for row in counts[(counts.technique == technique) & (counts.arm == arm)].to_dict("records"):
            n, failed, mismatched = (
                int(row.get(name) or 0) for name in ("n", "failed", "mismatched")
            )
            if n == 0 and (lost := failed + mismatched):
                became = (
                    "failed"
                    if not mismatched
                    else "left out"
                    if not failed
                    else "failed or left out"
                )
                trials = "the only trial" if lost == 1 else f"all {lost} trials"
                auxiliary = "" if became == "failed" else "was " if lost == 1 else "were "
                why = row.get("left_out_because")
                return f"{trials} of {arm} {auxiliary}{became}" + (
                    f": {why}" if isinstance(why, str) and why else ""
                )
    return None


def _left_out(counts: pd.DataFrame | None, arms: Sequence[tuple[str, str]]) -> list[str]:
    """What became of the trials that are not compared, and how many of those that are this machine itself held up."""
    if counts is None or counts.empty:
        return []
    reasons, n, held_up = [], 0, 0
    hopeless = _hopeless(counts, arms)  # which says of the last why it was
    for technique, arm in arms:
        for row in counts[(counts.technique == technique) & (counts.arm == arm)].to_dict("records"):
            for name, said in (
                ("failed", "failed, left out"),
                ("mismatched", "in the wrong cache state, left out"),
            ):
                if row.get(name) and row[name] == row[name]:
                    why = row.get("left_out_because") if not hopeless else None
                    reasons.append(
                        f"{arm}: {int(row[name])} {said}"
                        + (f" (the last: {why})" if isinstance(why, str) and why else "")
                    )
            n, held_up = n + int(row.get("n") or 0), held_up + int(row.get("client_caused") or 0)
    if held_up:
        were = "was" if held_up == 1 else "were"
        reasons.append(
            f"{held_up} of {n} trials {were} held up by this machine (late event loop or unexpected reconnect), kept in"
        )
    return reasons


def _judge(
    rows, arm, baseline, metric, level, rules: Rules, facts: _Facts, planned: bool
) -> Comparison:
    part = _of(rows, metric)
    if part is None:
        reasons = (
            f"no block has this metric in both arms; {FEWEST} are the fewest",
            *facts.reasons,
        )
        blocks, verdict = None if facts.hopeless else FEWEST, "not_enough_data"
        nothing = Comparison(
            metric,
            *arm,
            baseline,
            None,
            None,
            None,
            None,
            0,
            verdict,
            blocks,
            reasons,
            planned,
            level=level,
        )
        return replace(nothing, hopeless=facts.hopeless)
    values, base = part["value"].to_numpy(float), part["baseline_value"].to_numpy(float)
    found = hodges_lehmann(values - base, level)
    share = (
        ratio(values, base, level)
        if (values > 0).all() and (base > 0).all()
        else Interval(float("nan"), None, None, 0)
    )
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    middle = float(np.median(base))
    smallest = (
        rules.smallest_effect(middle) if metric.endswith("_ms") else rules.effect_share * middle
    )
    moved = drift(base, part["started_utc"]) if "started_utc" in part else None
    reasons = list(facts.reasons)
    if moved is not None and moved.rivals(found.estimate):
        reasons.append(
            f"{baseline} itself drifted by {units.value(metric, moved.change, sign=True)} between the run's halves"
        )
    greyed = _within_instrument(metric, found.estimate, rules.instrument_ms)
    reasons += [greyed] if greyed else []
    outcome, blocks = _decide(found, sign, smallest)
    if outcome in ("faster", "slower") and max(abs(found.low), abs(found.high)) < smallest:
        reasons.append(
            f"less than the smallest effect that matters here, {units.value(metric, smallest)}"
        )
    if outcome == "faster":
        if shorter_only(rows, metric, found.estimate, level):
            outcome = "faster_only_shorter"
        if facts.quality and facts.quality.shown == "worse":
            outcome = "faster_but_worse"
        if facts.quality and facts.quality.shown == "unclear":
            reasons.append(
                f"quality not shown to be kept: {two_decimals(facts.quality.change)}, perhaps {two_decimals(facts.quality.low)}"
            )
    if outcome == "not_enough_data":
        reasons.insert(
            0,
            f"{found.n} blocks; {_fewest(level)} are the fewest"
            if found.low is None
            else "the interval is too wide to decide",
        )
    return Comparison(
        metric,
        *arm,
        baseline,
        *(
            None if value is None else float(value)
            for value in (found.estimate, found.low, found.high)
        ),
        ratio=share.estimate if isfinite(share.estimate) else None,
        n=found.n,
        verdict=outcome,
        needed_blocks=blocks,
        reasons=tuple(reasons),
        planned=planned,
        p50=float(np.median(values)),
        baseline_p50=middle,
        favourable=int(np.count_nonzero(sign * (values - base) < 0)),
        quality_change=facts.quality.change if facts.quality else None,
        cost_change_usd=facts.cost_change,
        ratio_low=share.low,
        ratio_high=share.high,
        level=level,
        p=found.p,
        smallest_effect=smallest,
        greyed=greyed,
        quality=facts.quality,
        cost_share=facts.cost_share,
        parts=facts.parts,
        drift=moved,
    )


def _decide(found: Interval, sign: int, smallest: float) -> tuple[Verdict, int | None]:
    """The interval alone decides: beside zero, or within ± the smallest effect (two one-sided tests, Schuirmann 1987), or too wide."""
    if found.low is None or found.n < FEWEST:
        return "not_enough_data", _more(found, smallest)
    if found.low > 0 or found.high < 0:
        return ("faster" if sign * found.estimate < 0 else "slower"), None
    if max(-found.low, found.high) <= smallest:
        return "no_difference", None
    return "not_enough_data", _more(found, smallest)


def _more(found: Interval, smallest: float) -> int:
    """Blocks still to run: the half-width shrinks with √n until it is under the effect seen, or fits within the smallest that matters."""
    if found.low is None or found.n < FEWEST:
        return max(FEWEST - found.n, 1)
    target = max(abs(found.estimate), smallest - abs(found.estimate))
    return (
        max(ceil(found.n * (found.half_width / target) ** 2) - found.n, 1)
        if target > 0
        else found.n
    )


def _fewest(level: float) -> int:
    return needed(0.5, level)


def _within_instrument(metric: str, estimate: float, error_ms: float | None) -> str | None:
    if error_ms is None or not metric.endswith("_ms") or abs(estimate) >= error_ms:
        return None
    return f"the effect is within the instrument's own error, {units.ms(error_ms)} at p95"


def _of(rows: pd.DataFrame | None, metric: str) -> pd.DataFrame | None:
    part = (
        None
        if rows is None
        else rows[rows["metric"] == metric].dropna(subset=["value", "baseline_value"])
    )
    return None if part is None or part.empty else part


def _difference(rows: pd.DataFrame | None, metric: str, level: float) -> Interval:
    part = _of(rows, metric)
    return (
        Interval(float("nan"), None, None, 0)
        if part is None
        else hodges_lehmann(part["difference"], level)
    )


def _baseline(pairs: pd.DataFrame, settings) -> tuple[str, str]:
    if isinstance(settings, Mapping) and settings.get("baseline"):
        return settings["baseline"]["technique"], settings["baseline"]["arm"]
    return (
        ("", "baseline")
        if pairs.empty
        else (pairs["baseline_technique"].iloc[0], pairs["baseline"].iloc[0])
    )


def _counted(counts: pd.DataFrame | None, baseline: tuple[str, str]) -> list[tuple[str, str]]:
    """Arms that ran, so that one with no good trial is still reported as such."""
    if counts is None or counts.empty or not baseline[0]:
        return []
    return [
        arm
        for arm in counts[["technique", "arm"]].itertuples(index=False, name=None)
        if arm != baseline
    ]


def two_decimals(value: float) -> str:
    return "0" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "−")
