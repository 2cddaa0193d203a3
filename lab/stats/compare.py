"""From paired differences to a judged comparison: an interval at its level, what it says, and what
spoils it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lab import units
from lab.metrics import FEWEST_BLOCKS, METRICS
from lab.stats.decision import Verdict, decide, of_all, sign_of, within_instrument
from lab.stats.decompose import Parts, decompose, shorter_only
from lab.stats.drift import Drift, drift
from lab.stats.intervals import Interval, hodges_lehmann, ratio
from lab.stats.left_out import Sides, all_left_out, lacking, left_out
from lab.stats.paired_rows import ArmPairs, by_arm, of_metric
from lab.stats.quality import Quality, quality_gate
from lab.stats.quantiles import tail_ranked, tail_shift
from lab.stats.rules import Rules
from lab.stats.worst_ranks import NO_LOSSES, Losses, Ranked, losses_of, worst_ranked


@dataclass(frozen=True)
class Comparison:
    """One arm against the baseline on one metric. `estimate`, `low`, `high`, `p50`, `baseline_p50`,
    `tail`, `baseline_tail` and `smallest_effect` are in the metric's own unit."""

    metric: str
    technique: str
    arm: str
    baseline: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    n: int = 0
    verdict: Verdict = "not_enough_data"
    needed_blocks: int | None = None
    reasons: tuple[str, ...] = ()
    planned: bool = False
    p50: float | None = None
    baseline_p50: float | None = None
    favourable: int = 0
    losses: Losses = NO_LOSSES
    doubts: tuple[str, ...] = ()
    """Those of the reasons for which the number is not to be taken at its word."""
    cost_change_usd: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    level: float = 0.95
    is_shared: bool = False
    """Whether the level is above the rules' own, since several arms share theirs (Holm)."""
    p: float = 1.0
    smallest_effect: float = 0.0
    greyed: str | None = None
    """The reason, if it is one, that the instrument cannot show this effect."""
    quality_doubt: str | None = None
    """The reason, if it is one, that quality was not shown to be kept."""
    quality: Quality | None = None
    cost_share: float | None = None
    parts: Parts | None = None
    drift: Drift | None = None
    hopeless: str | None = None
    """Why no number of blocks would help: an arm of which no trial can be compared, or a metric
    that is not judged."""
    quantile: float | None = None
    """Whose difference `estimate` is, where it is a tail's (0.95); None: of the pairs' middle."""
    tail: float | None = None
    """The arm's value at that quantile."""
    baseline_tail: float | None = None
    names: tuple[str, str] | None = None
    """Arm and baseline as a reader of the run calls them, where that is more than `arm` and
    `baseline`."""

    @property
    def name(self) -> str:
        return self.names[0] if self.names else self.arm

    @property
    def baseline_name(self) -> str:
        return self.names[1] if self.names else self.baseline

    @property
    def share(self) -> float | None:
        """The ratio as a change: −0.3 is 30 % less. None also where it points the other way than
        the estimate, as where short tasks gain a large share and long ones lose a small one."""
        if self.ratio is None or (self.ratio - 1) * self.estimate < 0:
            return None
        return self.ratio - 1

    @property
    def at(self) -> tuple[float | None, float | None]:
        """What is compared, the baseline's first: both at the quantile, else both medians."""
        if self.quantile is None:
            return self.baseline_p50, self.p50
        return self.baseline_tail, self.tail

    @property
    def blocks(self) -> int:
        """Those that can be compared: both ended well, or one of them was lost."""
        return self.n + self.losses.arm + self.losses.baseline + self.losses.both


def compare_run(
    pairs: pd.DataFrame | Mapping[tuple[str, str], ArmPairs],
    counts: pd.DataFrame | None,
    headline: Mapping[str, str],
    *,
    settings=None,
    losses: pd.DataFrame | None = None,
    summary: pd.DataFrame | None = None,
    own: Mapping[tuple[str, str], str] | None = None,
    names: Mapping[tuple[str, str], str] | None = None,
    only_headlines: bool = False,
) -> list[Comparison]:
    """Every arm on the headline metric and, unless `only_headlines`, on each that is judged, from
    the views pair_differences (or what by_arm() makes of it or of paired_trials), arm_counts,
    pair_losses and arm_summary; the planned comparison comes first.

    The planned one has its own 95 %; the other arms share theirs by Holm (1979) on the headline
    metric, and an arm's other metrics have the arm's level. `settings` is a Rules or a run's
    settings. Where `headline` names a quantile, arms are compared there on its metric. `own` is a
    metric that an arm is judged on even where the baseline has none of it;
    `names` are what a reader of the run calls its arms.
    """
    own, names = own or {}, names or {}
    rules, planned = Rules.of(settings), (headline["technique"], headline["arm"])
    baseline = _baseline(pairs, settings)
    paired = by_arm(pairs) if isinstance(pairs, pd.DataFrame) else pairs
    arms = sorted(
        dict.fromkeys([planned, *paired, *_counted(counts, baseline)]),
        key=lambda arm: arm != planned,
    )
    lost = {arm: losses_of(losses, arm) for arm in arms}
    asked_of = {headline["metric"]: headline.get("quantile")}
    p = {
        arm: _p(paired.get(arm), headline, lost[arm], rules.level) for arm in arms if arm != planned
    }
    levels = {planned: rules.level} | holm(p, rules.level)
    comparisons = []
    for arm in arms:
        rows = paired.get(arm)
        seen = [] if rows is None or only_headlines else rows.metrics
        judged = [metric for metric in seen if METRICS[metric].judged]
        sides = Sides(arm, baseline, names.get(arm, arm[1]), names.get(baseline, baseline[1]))
        facts = _facts(rows, sides, counts, summary, lost[arm], rules)
        asked = [headline["metric"], *([own[arm]] if arm in own else [])]
        for metric in dict.fromkeys([*asked, *judged]):
            is_planned = (arm, metric) == (planned, headline["metric"])
            quantile = asked_of.get(metric)
            comparison = _judge(rows, sides, metric, quantile, levels[arm], rules, facts)
            comparisons.append(replace(comparison, planned=is_planned))
    return sorted(comparisons, key=lambda c: (not c.planned, c.metric != headline["metric"]))


def holm(p: Mapping[Any, float], level: float = 0.95) -> dict[Any, float]:
    """Each arm's confidence level by Holm's step-down: an interval at it excludes zero exactly
    where Holm rejects (Holm 1979)."""
    levels, share = {}, None
    for place, arm in enumerate(sorted(p, key=lambda arm: p[arm])):
        step = (1 - level) / (len(p) - place)
        if share is None and p[arm] > step:
            share = step
        levels[arm] = 1 - (step if share is None else share)
    return levels


def differences(pairs: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Every metric and arm, described and not judged: technique, arm, metric, estimate, low, high,
    ratio and n, in the metric's own unit."""
    rows = []
    for (technique, arm, metric), part in pairs.groupby(["technique", "arm", "metric"], sort=False):
        interval = hodges_lehmann(part["difference"], level)
        positive = (part["baseline_value"] > 0).all()
        rows.append(
            {
                "technique": technique,
                "arm": arm,
                "metric": metric,
                "estimate": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "ratio": ratio(part["value"], part["baseline_value"], level).estimate
                if positive
                else None,
                "n": interval.n,
            }
        )
    columns = ["technique", "arm", "metric", "estimate", "low", "high", "ratio", "n"]
    return pd.DataFrame(rows, columns=columns)


class _Facts(NamedTuple):
    quality: Quality | None
    cost_change: float | None
    cost_share: float | None
    parts: Parts | None
    doubts: tuple[str, ...]
    reasons: tuple[str, ...]
    hopeless: str | None
    losses: Losses
    lacks: Mapping[str, str]
    """By metric, why no number of blocks would bring it."""


def _facts(
    rows: ArmPairs | None,
    sides: Sides,
    counts: pd.DataFrame | None,
    summary: pd.DataFrame | None,
    losses: Losses,
    rules: Rules,
) -> _Facts:
    """What holds for an arm whatever the metric."""
    cost = of_metric(rows, "cost_usd")
    change = share = None
    if cost is not None:
        change = float(cost["difference"].mean())
        if before := cost["baseline_value"].sum():
            share = float(cost["value"].sum() / before - 1)
    quality = quality_gate(rows, rules.quality_margin)
    doubts, reasons = left_out(counts, sides)
    return _Facts(
        quality=quality,
        cost_change=change,
        cost_share=share,
        parts=None if rows is None else decompose(rows),
        doubts=tuple(doubts),
        reasons=tuple(reasons),
        hopeless=all_left_out(counts, sides),
        losses=losses,
        lacks=lacking(counts, summary, sides),
    )


def _judge(
    rows: ArmPairs | None,
    sides: Sides,
    metric: str,
    quantile: float | None,
    level: float,
    rules: Rules,
    facts: _Facts,
) -> Comparison:
    comparison = Comparison(
        metric=metric,
        quantile=quantile,
        technique=sides.arm[0],
        arm=sides.arm[1],
        baseline=sides.baseline[1],
        names=(sides.name, sides.baseline_name),
        level=level,
        is_shared=level > rules.level + 1e-9,
        losses=facts.losses,
    )
    part = of_metric(rows, metric)
    if part is None:
        return _without_pairs(comparison, facts)
    return _of_pairs(comparison, rows, part, rules, facts)


def _without_pairs(comparison: Comparison, facts: _Facts) -> Comparison:
    """No block has this metric in both arms: the losses alone may say something."""
    losses, level = facts.losses, comparison.level
    ranked = worst_ranked(np.empty(0), losses, sign_of(comparison.metric))
    is_failing = losses.excess > 0 and ranked.shown(level) == "slower"
    fails_more = is_failing and not facts.hopeless
    hopeless = facts.hopeless or (None if fails_more else facts.lacks.get(comparison.metric))
    fewest = f"no block has this metric in both arms; {FEWEST_BLOCKS} are the fewest"
    return replace(
        comparison,
        verdict="fails_more" if fails_more else "not_enough_data",
        needed_blocks=None if hopeless or is_failing else of_all(FEWEST_BLOCKS, 0, losses),
        doubts=facts.doubts,
        reasons=(hopeless or fewest, *facts.doubts, *facts.reasons),
        hopeless=hopeless,
    )


def _of_pairs(
    comparison: Comparison, rows: ArmPairs, part: pd.DataFrame, rules: Rules, facts: _Facts
) -> Comparison:
    """`rows` are the arm's of every metric, `part` those of the comparison's own."""
    metric, level, quantile = comparison.metric, comparison.level, comparison.quantile
    values, base = part["value"].to_numpy(float), part["baseline_value"].to_numpy(float)
    seen = _measured(part, metric, quantile, facts.losses, level)
    interval, share, at = seen.difference, seen.ratio, seen.baseline_value
    smallest = rules.smallest_effect(at, METRICS[metric].is_time)
    decision = decide(metric, interval, seen.ranked, facts.losses, smallest, level, quantile)
    verdict, quality_doubt = _at_what_price(comparison, decision.verdict, interval, rows, facts)
    moved = drift(base, part["started_utc"]) if "started_utc" in part else None
    greyed = within_instrument(metric, interval, decision.answered, rules.instrument_ms)
    drifted = small = None
    if moved is not None and moved.rivals(interval.estimate):
        by = units.value(metric, moved.change, sign=True)
        drifted = f"{comparison.baseline_name} itself drifted by {by} between the run's halves"
    is_beside = decision.verdict in ("faster", "slower")
    if is_beside and max(abs(interval.low), abs(interval.high)) < smallest:
        effect = units.value(metric, smallest)
        small = f"less than the smallest effect that matters here, {effect}"
    doubts = tuple(filter(None, (*facts.doubts, drifted, greyed)))
    reasons = (*doubts, decision.reason, *facts.reasons, small, quality_doubt)
    return replace(
        comparison,
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        ratio=share.estimate if isfinite(share.estimate) else None,
        ratio_low=share.low,
        ratio_high=share.high,
        n=interval.n,
        p=max(interval.p, seen.ranked.p),
        verdict=verdict,
        needed_blocks=decision.needed_blocks,
        doubts=doubts,
        reasons=tuple(filter(None, reasons)),
        hopeless=decision.hopeless,
        greyed=greyed,
        quality_doubt=quality_doubt,
        p50=float(np.median(values)),
        baseline_p50=float(np.median(base)),
        tail=None if quantile is None else seen.value,
        baseline_tail=None if quantile is None else seen.baseline_value,
        favourable=int(np.count_nonzero(sign_of(metric) * (values - base) < 0)),
        smallest_effect=smallest,
        quality=facts.quality,
        cost_change_usd=facts.cost_change,
        cost_share=facts.cost_share,
        parts=facts.parts,
        drift=moved,
    )


def _at_what_price(
    comparison: Comparison, verdict: Verdict, interval: Interval, rows: ArmPairs, facts: _Facts
) -> tuple[Verdict, str | None]:
    """Whether what is faster is so only because it is shorter, or is worse; and the doubt, where
    quality was not shown to be kept."""
    if verdict not in ("faster", "faster_when_it_answers"):
        return verdict, None
    metric, level, quality = comparison.metric, comparison.level, facts.quality
    if verdict == "faster" and shorter_only(rows, metric, interval.estimate, level):
        verdict = "faster_only_shorter"
    if quality and quality.shown == "worse":
        verdict = "faster_but_worse"
    if quality and quality.shown == "unclear":
        change, low = units.points(quality.change), units.points(quality.low)
        return verdict, f"quality not shown to be kept: {change}, perhaps {low}"
    return verdict, None


def _p(rows: ArmPairs | None, headline: Mapping[str, Any], losses: Losses, level: float) -> float:
    part = of_metric(rows, headline["metric"])
    if part is None:
        return 1.0
    seen = _measured(part, headline["metric"], headline.get("quantile"), losses, level)
    return max(seen.difference.p, seen.ranked.p)


class _Measured(NamedTuple):
    difference: Interval
    ratio: Interval
    value: float
    baseline_value: float
    ranked: Ranked
    """What the blocks say with each lost trial as the worst."""


def _measured(
    part: pd.DataFrame, metric: str, quantile: float | None, losses: Losses, level: float
) -> _Measured:
    """The difference of the middle (Hodges & Lehmann) or of a quantile (bootstrap of blocks)."""
    values, base = part["value"].to_numpy(float), part["baseline_value"].to_numpy(float)
    sign = sign_of(metric)
    if quantile is not None:
        tasks = part.get("task_id")
        shift = tail_shift(base, values, quantile, level, tasks)
        return _Measured(*shift, tail_ranked(shift, base, values, quantile, losses, sign, tasks))
    is_positive = (values > 0).all() and (base > 0).all()
    share = ratio(values, base, level) if is_positive else Interval(float("nan"), None, None, 0)
    ranked = worst_ranked(values - base, losses, sign)
    middles = float(np.median(values)), float(np.median(base))
    return _Measured(hodges_lehmann(values - base, level), share, *middles, ranked)


def _baseline(pairs: pd.DataFrame | Mapping, settings) -> tuple[str, str]:
    if isinstance(settings, Mapping) and settings.get("baseline"):
        return settings["baseline"]["technique"], settings["baseline"]["arm"]
    return (
        ("", "baseline")
        if not isinstance(pairs, pd.DataFrame) or pairs.empty
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
