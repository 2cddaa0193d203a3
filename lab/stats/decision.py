"""What an interval and the worst ranks decide: faster, slower, no difference, or that there is not
enough data; and how many more blocks it takes."""

from __future__ import annotations

from math import ceil
from typing import Literal, NamedTuple

from lab import units
from lab.metrics import FEWEST_BLOCKS, METRICS, needed, words
from lab.stats.intervals import Interval
from lab.stats.worst_ranks import Losses, Ranked, Side

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

OPPOSED = "times and failures point to different arms"
UNBORNE = "with each failure as the worst of its pair nothing is shown"


class Decision(NamedTuple):
    verdict: Verdict
    answered: Verdict
    """What the blocks that both arms answered say alone."""
    needed_blocks: int | None = None
    reason: str = ""
    """Why it is a refusal, where it is one."""
    hopeless: str | None = None
    """The reason, if no number of blocks would help."""


def decide(
    metric: str,
    interval: Interval,
    ranked: Ranked,
    losses: Losses,
    smallest: float,
    level: float,
    quantile: float | None = None,
) -> Decision:
    """Of the blocks that both arms answered, as far as the worst ranks bear it; `smallest` is the
    smallest effect that matters, in the metric's unit; `quantile` is whose difference the interval
    holds, where that is not the middle's."""
    fewest = needed(quantile or 0.5, level)
    answered, blocks = _of_answered(interval, sign_of(metric), smallest, fewest)
    if not METRICS[metric].judged:
        reason = f"there is no faster or slower in {words(metric)}"
        return Decision("not_enough_data", answered, None, reason, reason)
    verdict = _with_losses(answered, ranked.shown(level), losses)
    if verdict != "not_enough_data":
        return Decision(verdict, answered)
    if answered != verdict:
        blocks = ranked.more(answered, level)
        return Decision(verdict, answered, blocks, OPPOSED if blocks is None else UNBORNE)
    reason = "the interval is too wide to decide"
    if interval.low is None:
        seen = units.counted(interval.n, "block")
        reason = f"{seen}; {fewest} are the fewest"
        reason += f" for {units.quantile(quantile)}" if quantile else ""
    return Decision(verdict, answered, of_all(blocks, interval.n, losses), reason)


def sign_of(metric: str) -> int:
    """1 where less is better, −1 where more is."""
    return -1 if METRICS[metric].higher_is_better else 1


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


def _of_answered(
    interval: Interval, sign: int, smallest: float, fewest: int
) -> tuple[Verdict, int | None]:
    """The interval alone decides: beside zero, or within ± the smallest effect (two one-sided
    tests, Schuirmann 1987), or too wide."""
    if interval.low is None or interval.n < FEWEST_BLOCKS:
        return "not_enough_data", _more(interval, smallest, fewest)
    if side := _beside(interval, sign):
        return side, None
    if max(-interval.low, interval.high) <= smallest:
        return "no_difference", None
    return "not_enough_data", _more(interval, smallest, fewest)


def _more(interval: Interval, smallest: float, fewest: int) -> int:
    """Answered blocks still to run: the half-width shrinks with √n until it is under the effect
    seen, or fits within the smallest that matters."""
    n = interval.n
    if interval.low is None or n < FEWEST_BLOCKS:
        return max(fewest - n, 1)
    target = max(abs(interval.estimate), smallest - abs(interval.estimate))
    return max(ceil(n * (interval.half_width / target) ** 2) - n, 1) if target > 0 else n


def of_all(answered: int | None, n: int, losses: Losses) -> int | None:
    """Blocks that it takes until so many more are answered in both arms, where only n of those run
    so far were."""
    if answered is None:
        return None
    lost = losses.arm + losses.baseline + losses.both
    return ceil(answered * (n + lost) / max(n, 1)) if lost else answered


def within_instrument(
    metric: str, interval: Interval, answered: Verdict, error_ms: float | None
) -> str | None:
    """An effect smaller than the instrument's error cannot be shown; that there is none above some
    size is shown where that size is larger."""
    size = abs(interval.estimate)
    if answered == "no_difference":
        size = max(abs(interval.low), abs(interval.high))
    if error_ms is None or not METRICS[metric].is_time or size >= error_ms:
        return None
    return f"the effect is within the instrument's own error, {units.ms(error_ms)} at p95"
