"""Requirements on a load: `check` reads them like those on a run, level by level.

A level is judged by intervals as a run's arm is; the objectives of the load itself are judged by
lab.load.slo, on what was counted.
"""

from __future__ import annotations

import re

import pandas as pd

from lab import bounds, metrics, units
from lab.bounds import LEVEL, Outcome
from lab.limit_words import AGAINST, limit_asked
from lab.load import slo
from lab.load_levels import LevelResult
from lab.load_results import LoadResult
from lab.model import LabError
from lab.stats import shares
from lab.stats.arms import LostTrials

AT = re.compile(r"(?P<rest>.+?)\s+at\s+(?P<level>.+)")
FAILED = re.compile(rf"failed share{AGAINST}")
LANGUAGE = '"p95 ttft_ms < 800", "p95 total_ms < 2 s at 16 streams" or "failed share < 1 %"'


def judge(result: LoadResult, text: str) -> list[Outcome]:
    """One requirement at every level, or at the one that it names. LabError for what cannot be
    read."""
    words, levels = text.strip(), result.in_order
    if not levels:
        raise LabError("This load has no level: it ended before its first.")
    if match := AT.fullmatch(words):
        words, label = match["rest"], match["level"]
        levels = [level for level in levels if level.label == label]
        if not levels:
            known = ", ".join(level.label for level in result.in_order)
            raise LabError(f"This load has no level {label!r:.60}; it has {known}.")
    if match := FAILED.fullmatch(words):
        if match["unit"] != "%":
            raise LabError(f'{text!r:.80}: a share is in per cent, as in "failed share < 1 %".')
        return [_failed(level, text, match) for level in levels]
    if not slo.RULE.fullmatch(words):
        raise LabError(f"Cannot read the requirement {text!r:.80} of a load: write {LANGUAGE}.")
    asked = slo.objective(words)
    return [_percentile(result, level, text, asked) for level in levels]


def _failed(level: LevelResult, text: str, match: re.Match) -> Outcome:
    interval, limit = shares.proportion(level.failed, level.n, LEVEL), limit_asked(match)
    needed = bounds.more_needed(interval, limit, level.n, metrics.FEWEST_BLOCKS)
    seen = bounds.seen_words(interval, units.percent)
    seen = f"{level.label}: failed share {seen}, n = {units.counted(level.n, 'call')}"
    verdict = bounds.met(interval, limit, match["sign"])
    return bounds.outcome(
        text, level.label, verdict, seen, interval, limit, level.n, needed, unit="call"
    )


def _percentile(result: LoadResult, level: LevelResult, text: str, asked: slo.Objective) -> Outcome:
    """Of calls; one that failed is beyond every limit."""
    metric = asked.judged(level.mode)
    answered, lost = _answered(result, level, metric)
    match = slo.RULE.fullmatch(f"{asked.percentile} {metric} {asked.sign} {asked.limit:f}")
    interval, seen, needed = bounds.percentile(answered, lost, match)
    counted = bounds.counted(len(answered) + lost.n, lost, "call")
    seen = f"{level.label}: {asked.percentile} {metric} {seen}, n = {counted}"
    verdict = bounds.met(interval, asked.limit, asked.sign)
    return bounds.outcome(
        text, level.label, verdict, seen, interval, asked.limit, interval.n, needed, lost.n, "call"
    )


def _answered(result: LoadResult, level: LevelResult, metric: str) -> tuple[pd.Series, LostTrials]:
    calls = result.calls[result.calls["level"] == level.number]
    calls = calls[calls["error_kind"].ne(slo.CANCELLED)]
    is_well = calls["error_kind"].isna()
    answered = calls.loc[is_well, metric].dropna().astype(float)
    failed = int((~is_well).sum())
    return answered, LostTrials(failed, len(answered) + failed, 0)
