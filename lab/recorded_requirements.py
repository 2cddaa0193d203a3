"""Requirements on a recording of the user's application: `check` reads them like those on a run."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd

from lab import bounds, limit_words, metrics, units
from lab.bounds import LEVEL, Outcome
from lab.limit_words import AGAINST
from lab.model import LabError
from lab.recording import cache_use
from lab.recording.facts import NO_FAULT
from lab.recording.scribe import ARM
from lab.recordings import Recording
from lab.stats import shares
from lab.stats.arms import LostTrials
from lab.stats.intervals import Interval
from lab.stats.quantiles import ENOUGH_TASKS

KINDS = {
    "first tokens": ("first_token",),
    "writing": ("writing", "answering"),
    "tools": ("tool",),
    "nothing": ("idle",),
}
"""What time of a recording went to, and the bars of Waiting.timeline that it is."""
STREAMED = ("ttft_ms", "gap_ms")
"""What no call has that is not streamed, whether it fails or not."""
QUANTILE = re.compile(rf"{limit_words.OF_METRIC}{AGAINST}")
HITS = re.compile(rf"hit share{AGAINST}")
WAITS = re.compile(rf"wait share of (?P<kind>{'|'.join(KINDS)}){AGAINST}")
FAILED = re.compile(rf"failed share{AGAINST}")
MISSES = re.compile(rf"misses{AGAINST}")
LANGUAGE = (
    '"hit share > 60 %", "p95 ttft_ms < 2 s", "misses < 5", "failed share < 1 %" or "wait share of '
    'tools < 40 %"'
)


def judge(recording: Recording, text: str) -> Outcome:
    """One requirement on a recording. A share or a percentile is met where its whole interval is:
    it speaks of more use like this one; a number of misses is what was recorded. LabError for what
    cannot be read."""
    words = text.strip()
    for pattern, judged in (
        (QUANTILE, _quantile),
        (HITS, _hits),
        (WAITS, _waits),
        (FAILED, _failed),
        (MISSES, _misses),
    ):
        if match := pattern.fullmatch(words):
            return judged(recording, text, match)
    raise LabError(f"Cannot read the requirement {text!r} of a recording: write {LANGUAGE}.")


def _quantile(recording: Recording, text: str, match: re.Match) -> Outcome:
    """Of calls; one that failed is in the percentile, beyond every limit."""
    answered, lost = calls_of(recording, match["metric"])
    interval, seen, needed = bounds.percentile(answered, lost, match)
    counted = bounds.counted(len(answered) + lost.n, lost, "call")
    seen = f"{match['quantile']} {match['metric']} {seen}, n = {counted}"
    return _outcome(text, match, seen, interval, limit_words.limit_asked(match), needed, lost.n)


def calls_of(recording: Recording, metric: str) -> tuple[pd.Series, LostTrials]:
    """A metric of the calls that ended well and have it, and how many failed of those that would
    have had it; of what is not judged there is no worst, and none counts as lost. LabError for what
    is no metric of a call."""
    calls = recording.calls
    known = [name for name in metrics.METRICS if name in calls]
    if metric not in known:
        raise LabError(f"A recording has no metric {metric!r}; it has {', '.join(known)}.")
    if metric in STREAMED:
        calls = calls[~calls["call_id"].isin(_not_streamed(recording))]
    ended = calls.loc[calls["error_kind"].isna(), metric]
    answered = ended.dropna().astype(float)
    is_told = len(answered) > 0 or ended.empty  # some sources know no first token of any call
    failed = int(_is_failed(calls).sum()) if is_told and metrics.METRICS[metric].judged else 0
    return answered, LostTrials(failed, len(answered) + failed, 0)


def _not_streamed(recording: Recording) -> list[str]:
    prompts = recording.prompts.items()
    return [call_id for call_id, prompt in prompts if prompt.settings.get("stream") is False]


def _hits(recording: Recording, text: str, match: re.Match) -> Outcome:
    interval, noun = hit_share(recording)
    outcome = _share(text, match, "hit share", interval, noun)
    doubt = cache_use.doubt(recording.cache_use)
    return replace(outcome, seen="; ".join(filter(None, (outcome.seen, doubt))))


def hit_share(recording: Recording) -> tuple[Interval, str]:
    """Tokens read of those that could have been, and what it is resampled by."""
    use = recording.cache_use
    use = use[use["could_read"] > 0]
    lanes = recording.conversations["conversation"].reindex(use.index)
    units_, noun = _units(lanes, pd.Series(np.arange(len(use)), use.index), "call")
    sums = use[["read", "could_read"]].groupby(units_.to_numpy()).sum()
    return shares.share(sums["read"], sums["could_read"], LEVEL), noun


def _waits(recording: Recording, text: str, match: re.Match) -> Outcome:
    bars = recording.waiting.timeline
    bars = bars[bars["is_critical"].astype(bool)]
    took = bars["ended_ms"] - bars["started_ms"]
    turns = bars["conversation"].astype(str) + " " + bars["turn"].astype(str)
    units_, noun = _units(bars["conversation"], turns, "turn")
    own = took.where(bars["kind"].isin(KINDS[match["kind"]]), 0.0)
    sums = pd.DataFrame({"own": own, "all": took}).groupby(units_.to_numpy()).sum()
    interval = shares.share(sums["own"], sums["all"], LEVEL)
    return _share(text, match, f"wait share of {match['kind']}", interval, noun)


def _failed(recording: Recording, text: str, match: re.Match) -> Outcome:
    failed = _is_failed(recording.calls)
    interval = shares.proportion(int(failed.sum()), len(failed), LEVEL)
    return _share(text, match, "failed share", interval, "call")


def _misses(recording: Recording, text: str, match: re.Match) -> Outcome:
    """What was recorded, so that it decides at once; first uses are no misses."""
    if match["unit"]:
        raise LabError(f'{text!r}: misses are a number, as in "misses < 5".')
    limit, misses = limit_words.limit_asked(match), recording.misses
    count = float(sum(miss.cause != NO_FAULT for miss in misses))
    interval = Interval(count, count, count, len(recording.calls))
    seen = f"{units.counted(count, 'cache miss')} in {units.counted(len(recording.calls), 'call')}"
    return _outcome(text, match, seen, interval, limit, None)


def _units(conversations: pd.Series, smaller: pd.Series, noun: str) -> tuple[pd.Series, str]:
    """Conversations where there are enough; so few cannot tell of others, and what is in them is
    then taken for itself."""
    if conversations.nunique() >= ENOUGH_TASKS:
        return conversations, "conversation"
    return smaller, noun


def _is_failed(calls: pd.DataFrame) -> pd.Series:
    """A call that its application gave up is no failure of the server."""
    return calls["error_kind"].notna() & calls["error_kind"].ne("cancelled")


def _share(text: str, match: re.Match, words: str, interval: Interval, noun: str) -> Outcome:
    if match["unit"] != "%":
        raise LabError(f'{text!r}: a share is in per cent, as in "{words} > 60 %".')
    limit = limit_words.limit_asked(match)
    needed = bounds.more_needed(interval, limit, interval.n, metrics.FEWEST_BLOCKS)
    seen = bounds.seen_words(interval, units.percent)
    seen = f"{words} {seen}, n = {units.counted(interval.n, noun)}"
    return _outcome(text, match, seen, interval, limit, needed, unit=noun)


def _outcome(
    text: str,
    match: re.Match,
    seen: str,
    interval: Interval,
    limit: float,
    needed: int | None,
    lost: int = 0,
    unit: str = "call",
) -> Outcome:
    verdict = bounds.met(interval, limit, match["sign"])
    return bounds.outcome(text, ARM, verdict, seen, interval, limit, interval.n, needed, lost, unit)
