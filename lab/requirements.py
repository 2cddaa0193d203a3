"""The language of requirements: what a run has to show to pass, and whether it does.

A requirement is met, not met, or not decided yet by the interval, never by two bare numbers; and
failed is not fast: a lost trial counts as the worst there is.
"""

from __future__ import annotations

import re
from functools import partial
from math import isnan
from typing import NamedTuple

import pandas as pd

from lab import bounds, limit_words, metrics, stats, units
from lab.bounds import LEVEL, UNDECIDED, Outcome, Verdict
from lab.model import LabError
from lab.paths import COMMAND
from lab.results import RunResult
from lab.stats import Interval
from lab.stats.arms import LostTrials, lost_trials

WHICH = rf"(?:(?P<arm>.+?)\s+)?{limit_words.OF_METRIC}"
BOUND = re.compile(rf"{WHICH}{limit_words.AGAINST}")
FASTER = re.compile(
    r"(?P<arm>.+?)\s+(?P<claim>faster|not slower)\s+than\s+(?P<other>.+?)"
    rf"(?:\s+by\s+{limit_words.NUMBER}{limit_words.UNIT})?(?:\s+on\s+(?P<metric>\w+))?"
)
WORSE = re.compile(rf"{WHICH}{limit_words.WORSE_BY}")


class Which(NamedTuple):
    technique: str
    arm: str


def judge(result: RunResult, text: str) -> Outcome:
    """One requirement on one run: a quantile against a limit, or one arm against another in the
    same blocks. LabError for what cannot be read."""
    if match := BOUND.fullmatch(text.strip()):
        return _bound(result, text, match)
    if match := FASTER.fullmatch(text.strip()):
        return _faster(result, text, match)
    raise LabError(
        f'Cannot read the requirement {text!r}: write "ARM p95 ttft_ms < 400" or "ARM faster than '
        'ARM by 50%".'
    )


def _bound(result: RunResult, text: str, match: re.Match) -> Outcome:
    arm, metric, limit = (
        find_arm(result, match["arm"]),
        match["metric"],
        limit_words.limit_asked(match),
    )
    answered, lost = measured(result, arm, metric), _lost(result, arm, metric)
    interval, seen, needed = bounds.percentile(answered, lost, match)
    n = len(answered) + lost.n
    seen = f"{result.name(*arm)} {metric} {seen}, n = {bounds.counted(n, lost)}"
    verdict = bounds.met(interval, limit, match["sign"])
    return bounds.outcome(text, arm.arm, verdict, seen, interval, limit, n, needed, lost.n)


def _faster(result: RunResult, text: str, match: re.Match) -> Outcome:
    """Faster by 50 % means: value − 0.5 × baseline lies below zero, as a paired difference with its
    interval, and with each lost trial as the worst of its block."""
    metric = match["metric"] or result.headline
    if metrics.unit(metric) != "ms":
        raise LabError(
            f"{text!r}: faster and slower need a duration, such as ttft_ms; {metric} is not one."
        )
    arm, other = find_arm(result, match["arm"]), find_arm(result, match["other"])
    values, others = (_by_block(result, which, metric) for which in (arm, other))
    both = values.to_frame("value").join(others.to_frame("baseline"), how="inner").dropna()
    limit = limit_words.limit_asked(match)
    limit = 0.0 - limit if match["claim"] == "faster" else limit
    share, offset = (limit, 0.0) if match["unit"] == "%" else (0.0, limit)
    # What decides is what is left of the difference once the claim is taken off it.
    left = (both["value"] - (1 + share) * both["baseline"] - offset).to_numpy()
    rest = stats.hodges_lehmann(left, LEVEL)
    change = stats.hodges_lehmann(both["value"] - both["baseline"], LEVEL)
    losses = _losses(result, arm, other)
    ranked = stats.worst_ranked(left, losses, sign=1)
    answered, n = bounds.side(rest, 0.0), len(both)
    verdict = _ranked_side(answered, ranked.shown(LEVEL), losses)
    seen = f"{result.name(*arm)} {metric} {_changed(change, metric)}, n = {n}"
    for which in (arm, other):
        if words := _lost(result, which, metric).words:
            seen += f"; {result.name(*which)}: {words}"
    needed = bounds.more_needed(rest, 0.0, n, metrics.FEWEST_BLOCKS)
    if not n and any(losses):
        needed = None  # every block so far lost one of the two: more would not help
    if answered != UNDECIDED:
        needed = ranked.more("faster" if answered == "pass" else "slower", LEVEL)
    lost = _lost(result, arm, metric)
    return bounds.outcome(text, arm.arm, verdict, seen, change, limit, n, needed, lost.n)


def _ranked_side(answered: Verdict, shown: str | None, losses: stats.Losses) -> Verdict:
    """What the blocks that both arms answered say, as far as the worst ranks bear it: an arm that
    fails more than the other can lose by that alone, and gain nothing."""
    if shown == "slower" and (losses.excess > 0 or answered == "fail"):
        return "fail"
    return "pass" if answered == "pass" and shown == "faster" else UNDECIDED


def _losses(result: RunResult, arm: Which, other: Which) -> stats.Losses:
    """Blocks of the two that one of them, or both, lost."""
    lost, counts = {}, {}
    for which in (arm, other):
        trials = result.of_arm(result.trials, *which)
        lost[which] = set(trials.loc[trials["lost"], "block"])
        counts[which] = set(trials.loc[trials["counts"], "block"])
    return stats.Losses(
        arm=len(lost[arm] & counts[other]),
        baseline=len(counts[arm] & lost[other]),
        both=len(lost[arm] & lost[other]),
    )


def regressions(base: RunResult, new: RunResult, text: str) -> list[Outcome]:
    """`worse by 10%`, an outcome for each arm asked for: the interval of new/base (or new − base)
    must lie wholly on one side of the limit to decide. LabError for runs of different kinds."""
    match = WORSE.fullmatch(text.strip())
    if match is None:
        raise LabError(
            f'Cannot read {text!r}: write "p95 ttft_ms worse by 10%" or "ARM p50 total_ms worse '
            'by 50 ms".'
        )
    if base.run["endpoint_kind"] != new.run["endpoint_kind"]:
        raise LabError(
            f"BASE ran on {base.run['endpoint_kind']} and NEW on {new.run['endpoint_kind']}: such "
            "times are not comparable."
        )
    shared = [Which(*arm) for arm in new.arms() if arm in base.arms()]
    arms = [find_arm(new, match["arm"])] if match["arm"] else shared
    if not arms:
        raise LabError("The two runs have no arm in common.")
    return [_worse(base, new, text, match, arm) for arm in arms]


def _worse(base: RunResult, new: RunResult, text: str, match: re.Match, arm: Which) -> Outcome:
    quantile, metric, limit = (
        limit_words.quantile_asked(match),
        match["metric"],
        limit_words.limit_asked(match),
    )
    old, now = measured(base, arm, metric), measured(new, arm, metric)
    lost_before, lost = _lost(base, arm, metric), _lost(new, arm, metric)
    worse = -1 if metrics.METRICS[metric].higher_is_better else 1
    limit = 1 + worse * limit if match["unit"] == "%" else worse * limit
    below: Verdict = "pass" if worse > 0 else "fail"

    def change(old: pd.Series, now: pd.Series) -> Interval:
        changes = stats.unpaired(old, now, quantile, LEVEL)
        return changes.ratio if match["unit"] == "%" else changes.difference

    answered, n = change(old, now), min(len(old), len(now))
    verdict = bounds.side(answered, limit, below)
    if lost_before.n or lost.n:
        both = (bounds.with_worst(old, lost_before, metric), bounds.with_worst(now, lost, metric))
        ranked = bounds.side(change(*both), limit, below)
        is_failing = lost.share > lost_before.share
        if ranked != verdict:
            verdict = "fail" if ranked == "fail" and is_failing else UNDECIDED
    changed = _changed(answered, metric)
    if match["unit"] == "%":
        changed = bounds.seen_words(answered, _change_written)
    seen = f"{new.name(*arm)} {match['quantile']} {metric} {changed}"
    seen += f", n = {bounds.counted(len(old), lost_before)} and {bounds.counted(len(now), lost)}"
    # The interval speaks of other runs like these two; the very same values cannot be worse than
    # themselves.
    is_same = sorted(old) == sorted(now) and lost.share == lost_before.share
    if n >= metrics.needed(quantile) and is_same:
        verdict, seen = "pass", f"{seen}: the same values in both"
    needed = bounds.more_needed(answered, limit, n, metrics.needed(quantile))
    if n and isnan(answered.estimate):
        needed = None
    if bounds.side(answered, limit, below) != UNDECIDED:
        needed = None  # the failures leave it open, and no width says for how long
    return bounds.outcome(text, arm.arm, verdict, seen, answered, limit, n, needed, lost.n)


def _change_written(ratio: float) -> str:
    return f"{ratio - 1:+.1%}".replace("-", "−")


def _lost(result: RunResult, arm: Which, metric: str) -> LostTrials:
    """Of a metric that is not judged, such as cost, no trial is lost: there is no worst of it."""
    trials = result.of_arm(result.trials, *arm)
    if not metrics.METRICS[metric].judged:
        trials = trials[trials["counts"]]
    return lost_trials(trials)


def find_arm(result: RunResult, name: str | None) -> Which:
    """An arm by "arm" or "technique.arm"; the headline arm where none is named."""
    arms = [Which(*arm) for arm in result.arms()]
    if name is None:
        headline = result.run["settings"].get("headline", {})
        if headline.get("arm"):
            return Which(headline["technique"], headline["arm"])
        if arms:
            return arms[-1]
        raise LabError(f"This run has no arm that can be read; `{COMMAND} show` says what it has.")
    hits = [arm for arm in arms if name in (arm.arm, f"{arm.technique}.{arm.arm}")]
    if len(hits) == 1:
        return hits[0]
    listed = ", ".join(f"{arm.technique}.{arm.arm}" for arm in arms)
    raise LabError(
        f"{'Several arms are' if hits else 'No arm of this run is'} called {name!r}; it has "
        f"{listed}."
    )


def measured(result: RunResult, arm: Which, metric: str) -> pd.Series:
    """The arm's values that count and are known, by block; LabError for what is no metric."""
    return _by_block(result, arm, metric).dropna()


def _by_block(result: RunResult, arm: Which, metric: str) -> pd.Series:
    if metric not in metrics.METRICS:
        names = ", ".join(metrics.CLOCKS[:-1])
        raise LabError(f"There is no metric {metric!r}; try {names} or {metrics.CLOCKS[-1]}.")
    trials = result.of_arm(result.trials, *arm)
    return trials[trials["counts"]].set_index("block")[metric].astype(float)


def _changed(interval: Interval, metric: str) -> str:
    """A difference with its interval, as the verdict writes it."""
    if interval.low is None or interval.high is None:
        return bounds.seen_words(interval, partial(units.value, metric, sign=True))
    return units.estimated(metric, *interval[:3])
