"""From paired differences to a judged comparison: an interval at its level, what it says, what
spoils it, how many more blocks it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from math import ceil, isfinite
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from lab import units
from lab.metrics import FEWEST_BLOCKS, METRICS, needed, words
from lab.stats.decompose import Parts, decompose, shorter_only
from lab.stats.drift import Drift, drift
from lab.stats.intervals import Interval, hodges_lehmann, nonpositive, ratio, signed_rank_p

Verdict = Literal[
    "faster",
    "slower",
    "no_difference",
    "not_enough_data",
    "faster_but_worse",
    "faster_only_shorter",
    "faster_when_it_answers",
    "fails_more",
]


HELD_UP = 0.1
"""The share of trials from which on this machine's own delays are a doubt, not a remark."""


OPPOSED = "times and failures point to different arms"
UNBORNE = "with each failure as the worst of its pair nothing is shown"


@dataclass(frozen=True)
class Rules:
    level: float = 0.95
    effect_share: float = 0.05
    effect_ms: float = 50.0
    """The smallest effect that matters: the larger of a share of the baseline and this many
    milliseconds …"""
    effect_cap: float = 0.20
    """… but never more than this share of the baseline, or a halved wait of 90 ms would count as
    nothing."""
    quality_margin: float = 0.10
    """How much quality (share of checks passed) may be lost before faster means worse."""
    instrument_ms: float | None = None
    """The instrument's own error, p95; a smaller effect is greyed."""

    @classmethod
    def of(cls, settings: Rules | Mapping[str, Any] | None) -> Rules:
        """From a run's settings: these names, at the top or under `statistics`; `instrument` may be
        a session's; the rest is ignored."""
        if isinstance(settings, Rules):
            return settings
        chosen = {**(settings or {}), **((settings or {}).get("statistics") or {})}
        chosen.setdefault("instrument_ms", (chosen.get("instrument") or {}).get("own_error_p95_ms"))
        names = [field.name for field in fields(cls) if chosen.get(field.name) is not None]
        return cls(**{name: float(chosen[name]) for name in names})

    def smallest_effect(self, baseline: float, is_time: bool = True) -> float:
        """In the baseline's unit: of a time max(5 %, 50 ms), at most 20 % of the baseline; of
        anything else 5 %."""
        share = self.effect_share * baseline
        return min(max(share, self.effect_ms), self.effect_cap * baseline) if is_time else share


class Losses(NamedTuple):
    """Blocks in which a trial was lost: it failed, or missed the cache that its arm is about."""

    arm: int = 0
    """The arm's only."""
    baseline: int = 0
    """The baseline's only."""
    both: int = 0
    missed: int = 0
    """Of the arm's, those that answered and missed the cache."""

    @property
    def excess(self) -> int:
        return self.arm - self.baseline


NO_LOSSES = Losses()


class Quality(NamedTuple):
    change: float
    low: float
    """One-sided 97.5 % bound."""
    high: float
    n: int
    same: int
    """Blocks in which both arms scored alike."""
    shown: Literal["not worse", "worse", "unclear"]
    best: float = 1.0
    """The best single score of either arm; at 0 no answer passed its check, and that both arms are
    alike says nothing of what speed costs."""


@dataclass(frozen=True)
class Comparison:
    """One arm against the baseline on one metric. `estimate`, `low`, `high`, `p50`, `baseline_p50`
    and `smallest_effect` are in the metric's own unit."""

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
    def blocks(self) -> int:
        """Those that can be compared: both ended well, or one of them was lost."""
        return self.n + self.losses.arm + self.losses.baseline + self.losses.both


def compare_run(
    pairs: pd.DataFrame,
    counts: pd.DataFrame | None,
    headline: Mapping[str, str],
    *,
    settings=None,
    losses: pd.DataFrame | None = None,
    summary: pd.DataFrame | None = None,
    own: Mapping[tuple[str, str], str] | None = None,
    names: Mapping[tuple[str, str], str] | None = None,
) -> list[Comparison]:
    """Every arm on the headline metric and on each that is judged, from the views pair_differences,
    arm_counts, pair_losses and arm_summary; the planned comparison comes first.

    The planned one has its own 95 %; the other arms share theirs by Holm (1979) on the headline
    metric, and an arm's other metrics have the arm's level. `settings` is a Rules or a run's
    settings. `own` is a metric that an arm is judged on even where the baseline has none of it;
    `names` are what a reader of the run calls its arms.
    """
    own, names = own or {}, names or {}
    rules, planned = Rules.of(settings), (headline["technique"], headline["arm"])
    by_arm = {key: rows for key, rows in pairs.groupby(["technique", "arm"], sort=False)}
    baseline = _baseline(pairs, settings)
    arms = sorted(
        dict.fromkeys([planned, *by_arm, *_counted(counts, baseline)]),
        key=lambda arm: arm != planned,
    )
    lost = {arm: _losses(losses, arm) for arm in arms}
    p = {
        arm: _p(by_arm.get(arm), headline["metric"], lost[arm], rules.level)
        for arm in arms
        if arm != planned
    }
    levels = {planned: rules.level} | holm(p, rules.level)
    comparisons = []
    for arm in arms:
        rows = by_arm.get(arm)
        seen = [] if rows is None else rows["metric"].unique()
        judged = [metric for metric in seen if METRICS[metric].judged]
        sides = Sides(arm, baseline, names.get(arm, arm[1]), names.get(baseline, baseline[1]))
        facts = _facts(rows, sides, counts, summary, lost[arm], rules)
        asked = [headline["metric"], *([own[arm]] if arm in own else [])]
        for metric in dict.fromkeys([*asked, *judged]):
            is_planned = (arm, metric) == (planned, headline["metric"])
            comparison = _judge(rows, sides, metric, levels[arm], rules, facts)
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


def quality_gate(rows: pd.DataFrame | None, margin: float) -> Quality | None:
    """Paired non-inferiority on the mean change of quality; None where nothing was checked.

    The bound is a t bound on blocks. Where no block differs it is zero, and a loss rarer than one
    in n blocks stays possible. Worse is a loss beyond the margin whose whole interval lies below
    zero: a few blocks that went wrong by chance accuse nobody. What is neither worse nor not worse
    is unclear, which withholds green; where a loss was seen, the headline says so.
    """
    changes = _of(rows, "quality")
    if changes is None or changes.empty:
        return None
    values = changes["difference"].to_numpy(float)
    mean, n = float(values.mean()), values.size
    spread = float(values.std(ddof=1) / np.sqrt(n) * t.ppf(0.975, n - 1)) if n > 1 else 0.0
    shown = (
        "not worse"
        if mean - spread >= -margin
        else "worse"
        if mean < -margin and mean + spread < 0
        else "unclear"
    )
    same = int(np.count_nonzero(values == 0))
    best = float(changes[["value", "baseline_value"]].to_numpy(float).max())
    return Quality(mean, mean - spread, mean + spread, n, same, shown, best)


class Sides(NamedTuple):
    """An arm and its baseline, each (technique, arm), and as a reader of the run calls them."""

    arm: tuple[str, str]
    baseline: tuple[str, str]
    name: str
    baseline_name: str

    @property
    def named(self) -> tuple[tuple[tuple[str, str], str], ...]:
        return (self.arm, self.name), (self.baseline, self.baseline_name)


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
    rows: pd.DataFrame | None,
    sides: Sides,
    counts: pd.DataFrame | None,
    summary: pd.DataFrame | None,
    losses: Losses,
    rules: Rules,
) -> _Facts:
    """What holds for an arm whatever the metric."""
    cost = _of(rows, "cost_usd")
    change = share = None
    if cost is not None:
        change = float(cost["difference"].mean())
        if before := cost["baseline_value"].sum():
            share = float(cost["value"].sum() / before - 1)
    quality = quality_gate(rows, rules.quality_margin)
    doubts, reasons = _left_out(counts, sides)
    return _Facts(
        quality=quality,
        cost_change=change,
        cost_share=share,
        parts=None if rows is None else decompose(rows),
        doubts=tuple(doubts),
        reasons=tuple(reasons),
        hopeless=_hopeless(counts, sides),
        losses=losses,
        lacks=_lacks(counts, summary, sides),
    )


def _losses(rows: pd.DataFrame | None, arm: tuple[str, str]) -> Losses:
    if rows is None or rows.empty:
        return NO_LOSSES
    mine = rows[(rows["technique"] == arm[0]) & (rows["arm"] == arm[1])]
    lost, base = mine["lost"].astype(bool), mine["baseline_lost"].astype(bool)
    missed = lost & (mine["outcome"] == "mismatch")
    return Losses(*(int(rows.sum()) for rows in (lost & ~base, base & ~lost, lost & base, missed)))


def _rows_of(counts: pd.DataFrame | None, sides: Sides) -> Iterator[dict]:
    """The arms' rows of arm_counts, what is missing as 0 or an empty text."""
    for (technique, arm), name in sides.named if counts is not None and not counts.empty else ():
        for row in counts[(counts.technique == technique) & (counts.arm == arm)].to_dict("records"):
            numbers = ("n", "failed", "mismatched", "client_caused")
            cause = row.get("left_out_because")
            yield {
                **{key: 0 if units.missing(row.get(key)) else int(row[key]) for key in numbers},
                "arm": name,
                "cause": cause if isinstance(cause, str) else "",
            }


def _hopeless(counts: pd.DataFrame | None, sides: Sides) -> str | None:
    """ "all 3 trials of cached were left out: the endpoint reported no cache use …"; None where
    each arm has a trial that counts."""
    for row in _rows_of(counts, sides):
        lost = row["failed"] + row["mismatched"]
        if row["n"] or not lost:
            continue
        trials = (
            f"the only trial of {row['arm']}" if lost == 1 else f"all {lost} trials of {row['arm']}"
        )
        was = "was" if lost == 1 else "were"
        became = f"{was} failed or left out"
        if not row["mismatched"]:
            became = "failed"
        elif not row["failed"]:
            became = f"{was} left out"
        return f"{trials} {became}" + (f": {row['cause']}" if row["cause"] else "")
    return None


def _lacks(
    counts: pd.DataFrame | None, summary: pd.DataFrame | None, sides: Sides
) -> dict[str, str]:
    """For each metric that none of an arm's trials has, though some ended well: "none of the 8
    trials of whole has a time to first token"."""
    lacks: dict[str, str] = {}
    if summary is None:
        return lacks
    for row, (arm, _) in zip(_rows_of(counts, sides), sides.named, strict=False):
        mine = summary[(summary["technique"] == arm[0]) & (summary["arm"] == arm[1])]
        for metric in METRICS.keys() - set(mine["metric"]) if row["n"] else ():
            none = "the only trial" if row["n"] == 1 else f"none of the {row['n']} trials"
            has = "has no" if row["n"] == 1 else "has a"
            lacks[metric] = f"{none} of {row['arm']} {has} {words(metric)}"
    return lacks


def _left_out(counts: pd.DataFrame | None, sides: Sides) -> tuple[list[str], list[str]]:
    """(doubts, other reasons): what became of the trials that have no time to compare, and how many
    of those that have one this machine itself held up."""
    rows, doubts, reasons = list(_rows_of(counts, sides)), [], []
    is_told = _hopeless(counts, sides) is not None  # it says of the last one why
    for row in rows:
        last = (
            f" (the last: {row['cause'].removesuffix('.')})" if row["cause"] and not is_told else ""
        )
        if row["failed"]:
            doubts.append(f"{row['arm']}: {row['failed']} failed{last}")
        if row["mismatched"]:
            trials = f"{row['mismatched']} in the wrong cache state"
            doubts.append(f"{row['arm']}: {trials}, left out{last}")
    held_up, n = (sum(row[name] for row in rows) for name in ("client_caused", "n"))
    if held_up:
        of_them = "the only trial" if n == 1 else f"{held_up} of {n} trials"
        was = "was" if held_up == 1 else "were"
        text = f"{of_them} {was} held up by this machine and kept in"
        (doubts if held_up > HELD_UP * n else reasons).append(
            f"{text} (late event loop or unexpected reconnect)"
        )
    return doubts, reasons


Side = Literal["faster", "slower"]


class Ranked(NamedTuple):
    side: Side
    """To which the ranks lean."""
    p: float
    """Two-sided."""
    blocks: int

    def shown(self, level: float) -> Side | None:
        return self.side if self.p <= (1 - level) * (1 + 1e-9) else None

    def more(self, side: Side, level: float) -> int | None:
        """Blocks until this side is shown, if more are like these: the z of a signed-rank sum grows
        with √n. None where the ranks lean the other way."""
        z, wanted = norm.isf([self.p / 2, (1 - level) / 2])
        if self.side != side or z <= 0:
            return None
        return max(ceil(self.blocks * (wanted / z) ** 2) - self.blocks, 1)


def worst_ranked(differences: np.ndarray, losses: Losses, sign: int) -> Ranked:
    """The signed-rank test with each lost trial as the worst outcome of its pair, beyond every
    difference that was seen (worst ranks, Lachin 1999, in the signed-rank form of Matsouaka &
    Betensky 2015).

    A trial that fails because it would have been slow makes the rest look fast; as a worst rank it
    counts for what it is. Worst ranks of the two arms tie and share their ranks. A block that both
    arms lost prefers neither and is left out, as a zero difference is by Wilcoxon (1945).
    `sign` is 1 where less is better, else −1. Without losses p is the interval's own.
    """
    worse = sign * differences
    beyond = 1 + 4 * float(np.abs(worse).max(initial=0.0))
    lost = [beyond] * losses.arm + [-beyond] * losses.baseline
    ranked = np.concatenate([worse, lost])
    tied = losses.arm * losses.baseline / 2
    faster, slower = nonpositive(-ranked) - tied, nonpositive(ranked) - tied
    p = signed_rank_p(ceil(min(faster, slower)), ranked.size)
    return Ranked("faster" if faster < slower else "slower", p, ranked.size + losses.both)


def _judge(
    rows: pd.DataFrame | None,
    sides: Sides,
    metric: str,
    level: float,
    rules: Rules,
    facts: _Facts,
) -> Comparison:
    comparison = Comparison(
        metric=metric,
        technique=sides.arm[0],
        arm=sides.arm[1],
        baseline=sides.baseline[1],
        names=(sides.name, sides.baseline_name),
        level=level,
        is_shared=level > rules.level + 1e-9,
        losses=facts.losses,
    )
    sign, losses = -1 if METRICS[metric].higher_is_better else 1, facts.losses
    part = _of(rows, metric)
    if part is None:
        fewest = f"no block has this metric in both arms; {FEWEST_BLOCKS} are the fewest"
        ranked = worst_ranked(np.empty(0), losses, sign)
        is_failing = losses.excess > 0 and ranked.shown(level) == "slower"
        fails_more = is_failing and not facts.hopeless
        hopeless = facts.hopeless or (None if fails_more else facts.lacks.get(metric))
        blocks = None if hopeless or is_failing else _of_all(FEWEST_BLOCKS, 0, losses)
        return replace(
            comparison,
            verdict="fails_more" if fails_more else "not_enough_data",
            needed_blocks=blocks,
            doubts=facts.doubts,
            reasons=(hopeless or fewest, *facts.doubts, *facts.reasons),
            hopeless=hopeless,
        )
    values, base = part["value"].to_numpy(float), part["baseline_value"].to_numpy(float)
    interval = hodges_lehmann(values - base, level)
    is_positive = (values > 0).all() and (base > 0).all()
    share = ratio(values, base, level) if is_positive else Interval(float("nan"), None, None, 0)
    ranked = worst_ranked(values - base, losses, sign)
    middle = float(np.median(base))
    smallest = rules.smallest_effect(middle, METRICS[metric].is_time)
    moved = drift(base, part["started_utc"]) if "started_utc" in part else None
    doubts, reasons = list(facts.doubts), list(facts.reasons)
    if moved is not None and moved.rivals(interval.estimate):
        change = units.value(metric, moved.change, sign=True)
        doubts.append(f"{sides.baseline_name} itself drifted by {change} between the run's halves")
    outcome, blocks = _decide(interval, sign, smallest, level)
    greyed = _within_instrument(metric, interval, outcome, rules.instrument_ms)
    doubts += [greyed] if greyed else []
    hopeless = doubt = None
    if not METRICS[metric].judged:
        outcome, blocks = "not_enough_data", None
        hopeless = f"there is no faster or slower in {words(metric)}"
        reasons.insert(0, hopeless)
    else:
        answered, outcome = outcome, _with_losses(outcome, ranked.shown(level), losses)
        if outcome != "not_enough_data":
            blocks = None
        elif answered != outcome:
            blocks = ranked.more(answered, level)
            reasons.insert(0, OPPOSED if blocks is None else UNBORNE)
        else:
            blocks = _of_all(blocks, interval.n, losses)
            seen = f"{interval.n} block{'s' if interval.n != 1 else ''}"
            few = f"{seen}; {needed(0.5, level)} are the fewest"
            wide = "the interval is too wide to decide"
            reasons.insert(0, few if interval.low is None else wide)
    if outcome in ("faster", "slower") and max(abs(interval.low), abs(interval.high)) < smallest:
        effect = units.value(metric, smallest)
        reasons.append(f"less than the smallest effect that matters here, {effect}")
    if outcome in ("faster", "faster_when_it_answers"):
        quality = facts.quality
        if outcome == "faster" and shorter_only(rows, metric, interval.estimate, level):
            outcome = "faster_only_shorter"
        if quality and quality.shown == "worse":
            outcome = "faster_but_worse"
        if quality and quality.shown == "unclear":
            change, low = units.points(quality.change), units.points(quality.low)
            doubt = f"quality not shown to be kept: {change}, perhaps {low}"
            reasons.append(doubt)
    return replace(
        comparison,
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        ratio=share.estimate if isfinite(share.estimate) else None,
        ratio_low=share.low,
        ratio_high=share.high,
        n=interval.n,
        p=max(interval.p, ranked.p),
        verdict=outcome,
        needed_blocks=blocks,
        doubts=tuple(doubts),
        reasons=(*doubts, *reasons),
        hopeless=hopeless,
        greyed=greyed,
        quality_doubt=doubt,
        p50=float(np.median(values)),
        baseline_p50=middle,
        favourable=int(np.count_nonzero(sign * (values - base) < 0)),
        smallest_effect=smallest,
        quality=facts.quality,
        cost_change_usd=facts.cost_change,
        cost_share=facts.cost_share,
        parts=facts.parts,
        drift=moved,
    )


def _with_losses(outcome: Verdict, shown: Side | None, losses: Losses) -> Verdict:
    """What the answered pairs say, as far as the worst ranks bear it: faster and slower must be
    shown by both, and an arm that fails more than its baseline is never simply faster."""
    if losses.excess > 0:
        if outcome == "faster":
            return "faster_when_it_answers" if shown == "faster" else "fails_more"
        return "fails_more" if outcome != "slower" and shown == "slower" else outcome
    return "not_enough_data" if outcome in ("faster", "slower") and shown != outcome else outcome


def _beside(interval: Interval, sign: int) -> Side | None:
    """Which of the two an interval that lies beside zero says."""
    if interval.low is None or interval.low <= 0 <= interval.high:
        return None
    return "faster" if sign * interval.high < 0 else "slower"


def _decide(
    interval: Interval, sign: int, smallest: float, level: float
) -> tuple[Verdict, int | None]:
    """The interval alone decides: beside zero, or within ± the smallest effect (two one-sided
    tests, Schuirmann 1987), or too wide."""
    if interval.low is None or interval.n < FEWEST_BLOCKS:
        return "not_enough_data", _more(interval, smallest, level)
    if side := _beside(interval, sign):
        return side, None
    if max(-interval.low, interval.high) <= smallest:
        return "no_difference", None
    return "not_enough_data", _more(interval, smallest, level)


def _more(interval: Interval, smallest: float, level: float) -> int:
    """Answered blocks still to run: the half-width shrinks with √n until it is under the effect
    seen, or fits within the smallest that matters."""
    n = interval.n
    if interval.low is None or n < FEWEST_BLOCKS:
        return max(needed(0.5, level) - n, 1)
    target = max(abs(interval.estimate), smallest - abs(interval.estimate))
    return max(ceil(n * (interval.half_width / target) ** 2) - n, 1) if target > 0 else n


def _of_all(answered: int | None, n: int, losses: Losses) -> int | None:
    """Blocks that it takes until so many more are answered in both arms, where only n of those run
    so far were."""
    if answered is None:
        return None
    lost = losses.arm + losses.baseline + losses.both
    return ceil(answered * (n + lost) / max(n, 1)) if lost else answered


def _within_instrument(
    metric: str, interval: Interval, outcome: Verdict, error_ms: float | None
) -> str | None:
    """An effect smaller than the instrument's error cannot be shown; that there is none above some
    size is shown where that size is larger."""
    size = abs(interval.estimate)
    if outcome == "no_difference":
        size = max(abs(interval.low), abs(interval.high))
    if error_ms is None or not METRICS[metric].is_time or size >= error_ms:
        return None
    return f"the effect is within the instrument's own error, {units.ms(error_ms)} at p95"


def _of(rows: pd.DataFrame | None, metric: str) -> pd.DataFrame | None:
    part = (
        None
        if rows is None
        else rows[rows["metric"] == metric].dropna(subset=["value", "baseline_value"])
    )
    return None if part is None or part.empty else part


def _p(rows: pd.DataFrame | None, metric: str, losses: Losses, level: float) -> float:
    part = _of(rows, metric)
    if part is None:
        return 1.0
    sign = -1 if METRICS[metric].higher_is_better else 1
    values = part["difference"].to_numpy(float)
    answered = hodges_lehmann(values, level)
    return max(answered.p, worst_ranked(values, losses, sign).p)


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
