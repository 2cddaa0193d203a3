"""The only source of verdict words: pages, console, Markdown and JSON all say what verdict()
says."""

from __future__ import annotations

from math import isfinite
from typing import Literal, NamedTuple

from lab import units
from lab.metrics import METRICS
from lab.stats.compare import Comparison
from lab.stats.decision import OPPOSED
from lab.stats.decompose import Parts
from lab.stats.drift import Tail

Tone = Literal["good", "bad", "warn", "neutral", "unsure"]
REFUSALS = ("not_enough_data", "fails_more")
MOST_MORE = 1_000
LONGEST_S = 3_600
"""More blocks, or a longer wait, than these are not advised."""


DOUBTFUL = "Doubtful: "
"""What leads the doubts wherever they stand as one line before the headline."""


class VerdictText(NamedTuple):
    headline: str
    """The answer in one line, with the number and its interval; failures first."""
    doubts: tuple[str, ...]
    """What spoils the number, to be said before it."""
    seen: str
    """What was seen, before any judgement."""
    detail: str
    """Quality, price, and what else there is to know."""
    quality: str
    """The first of these alone; empty where nothing was compared."""
    title: str
    """The same finding as a figure's title: arm, sign and metric are the headline's."""
    reason: str | None
    """Why a figure of it is greyed, to stand on it; None where nothing spoils it."""
    markdown: str
    """All of it for a chat or a pull request."""
    tone: Tone
    """good only where the gain is certain, quality is not worse and nothing greys it."""

    @property
    def doubtful(self) -> str:
        """The doubts as one line, to stand before the headline; empty where there are none."""
        return f"{DOUBTFUL}{'. '.join(self.doubts)}" if self.doubts else ""


class Finding(NamedTuple):
    """What a figure of some metric may say."""

    title: str
    """In a sentence: arm, sign and words are the verdict's."""
    reason: str | None = None
    """Why the figure is greyed, to stand on it; None where nothing spoils it."""
    is_planned: bool = True
    """Whether it is of the comparison that was planned; any other is exploratory."""


def finding(comparison: Comparison | None, metric: str) -> Finding:
    """Of the comparison on this metric; a metric that is not judged is named and claims nothing."""
    if comparison is None or not METRICS[metric].judged:
        words = METRICS[metric].words if metric in METRICS else metric
        of_each = "" if words.endswith(" per trial") else " of each trial"
        return Finding(f"{_capital(words)}{of_each}", is_planned=False)
    return Finding(title(comparison), _reason(comparison), comparison.planned)


def verdict(
    comparison: Comparison,
    *,
    seconds_per_block: float | None = None,
    usd_per_block: float | None = None,
) -> VerdictText:
    """`seconds_per_block` and `usd_per_block` price the blocks that are still needed."""
    headline = _headline(comparison, seconds_per_block, usd_per_block)
    # The line on quality says with its interval what that reason says without; the headline why
    # nothing can be compared.
    told = (comparison.quality_doubt, comparison.hopeless, *comparison.doubts)
    quality = _quality(comparison)
    details = [
        *quality,
        *_price(comparison),
        *_only_shorter(comparison),
        *(reason for reason in comparison.reasons if reason not in told),
    ]
    if comparison.is_shared and comparison.low is not None:
        level = f"{100 * comparison.level:.3g} % interval"
        details.append(f"{level}, since several arms are compared (Holm)")
    # A refusal says in its headline what was seen; twice would be once too often.
    seen = "" if comparison.verdict in REFUSALS else _capital(_seen(comparison))
    detail, doubts = _capital("; ".join(details)), tuple(map(_capital, comparison.doubts))
    return VerdictText(
        headline=headline,
        doubts=doubts,
        seen=seen,
        detail=detail,
        quality=_capital("".join(quality)),
        title=title(comparison),
        reason=_reason(comparison),
        markdown=_markdown(headline, ". ".join(doubts), seen, detail),
        tone=_tone(comparison),
    )


def _markdown(headline: str, doubt: str, *lines: str) -> str:
    first = f"{DOUBTFUL}{units.in_markdown(doubt)}  \n" if doubt else ""
    return f"{first}**{units.in_markdown(headline)}**" + "".join(
        f"  \n{units.in_markdown(line)}" for line in lines if line
    )


def title(comparison: Comparison) -> str:
    """ "cached starts 95 % sooner than uncached"; where the verdict refuses, so does this."""
    arm, baseline, metric = comparison.name, comparison.baseline_name, METRICS[comparison.metric]
    if comparison.verdict == "fails_more":
        return f"{_failing(comparison)}; no time is claimed"
    if comparison.hopeless or comparison.n == 0:
        return f"{_capital(metric.words)} of each trial: nothing to compare"
    if comparison.verdict == "not_enough_data":
        blocks = units.counted(comparison.n, "block")
        return f"{_too_few(comparison)}: {arm} faster in {comparison.favourable} of {blocks}"
    tail = units.quantile(comparison.quantile) if comparison.quantile else ""
    if comparison.verdict == "no_difference":
        words = f"{tail} {metric.words}".strip()
        return f"No difference shown between {arm} and {baseline} in {words}"
    share = comparison.share
    if share is None:
        amount = units.value(metric.name, abs(comparison.estimate))
    else:
        amount = units.percent(abs(share))
    change = metric.less if comparison.estimate < 0 else metric.more
    lead = f"At {tail}, {arm}" if tail else arm
    return f"{lead} {metric.verb} {amount} {change} than {baseline}" + {
        "faster_but_worse": ", but its answers are worse",
        "faster_only_shorter": ", only because its answers are shorter",
        "faster_when_it_answers": f" when it answers; {_lost(comparison)}",
    }.get(comparison.verdict, "")


def _too_few(comparison: Comparison) -> str:
    of = f" for {units.quantile(comparison.quantile)}" if comparison.quantile else ""
    return f"Not enough data{of}"


def _reason(comparison: Comparison) -> str | None:
    if comparison.hopeless:
        return f"Nothing to compare: {comparison.hopeless.removesuffix('.')}"
    if comparison.verdict == "not_enough_data":
        return f"{_too_few(comparison)}: {_missing(comparison)}"
    if comparison.verdict == "fails_more":
        return f"No time is claimed; {_failing(comparison)}"
    return _capital(comparison.doubts[0]) if comparison.doubts else None


def lost(losses: int, trials: int, missed: int = 0, otherwise: int = 0) -> str:
    """ "6 of 12 failed"; `missed` of the losses answered and missed the cache, `otherwise` were
    served otherwise than asked."""
    parts = {
        "failed": losses - missed - otherwise,
        "missed the cache": missed,
        "were served otherwise than asked": otherwise,
    }
    what = " or ".join(words for words, count in parts.items() if count > 0)
    return f"{losses} of {trials} {what or 'failed'}"


def _lost(comparison: Comparison) -> str:
    losses = comparison.losses
    n = losses.arm + losses.both
    return lost(n, comparison.blocks, losses.missed, losses.otherwise)


def _failing(comparison: Comparison) -> str:
    """ "cached: 6 of 12 failed, uncached: 1"; empty where the arm loses no more than the
    baseline."""
    losses = comparison.losses
    if losses.excess <= 0:
        return ""
    base = losses.baseline + losses.both
    return f"{comparison.name}: {_lost(comparison)}, {comparison.baseline_name}: {base or 'none'}"


def _headline(comparison: Comparison, seconds: float | None, usd: float | None) -> str:
    failing, rest = _capital(_failing(comparison)), _answer(comparison, seconds, usd)
    if not failing or comparison.hopeless:
        return rest
    if comparison.verdict in ("faster_when_it_answers", "fails_more"):
        return f"{failing}; {rest}"
    return f"{failing}. {rest}"


def _answer(comparison: Comparison, seconds: float | None, usd: float | None) -> str:
    arm, metric = _capital(comparison.name), METRICS[comparison.metric]
    quality = comparison.quality
    if comparison.hopeless:
        cause = comparison.hopeless.removesuffix(".")
        return f"Not enough data, and more blocks would not help: {cause}."
    if comparison.verdict == "not_enough_data":
        missing = _missing(comparison, seconds, usd)
        return f"{_capital(_seen(comparison))} {_too_few(comparison)}: {missing}."
    if comparison.verdict == "fails_more":
        seen = _seen(comparison)
        return f"no time is claimed. {f'Where both answered: {seen}' if comparison.n else seen}"
    number = change(comparison)
    if comparison.verdict == "no_difference":
        largest = max(abs(comparison.low), abs(comparison.high))
        seeable = units.value(metric.name, largest)
        return f"No difference shown; anything above {seeable} would have been seen ({number})"
    if comparison.verdict == "faster_but_worse":
        return f"{arm} is faster but worse: {number}, quality {units.points(quality.change)}"
    if comparison.verdict == "faster_only_shorter":
        return f"{arm} is faster only because its answers are shorter: {number}"
    if comparison.verdict == "faster_when_it_answers":
        return f"faster when it answers: {number}"
    is_lost = quality is not None and quality.shown == "unclear" and quality.change < 0
    unclear = f"; quality unclear, {units.points(quality.change)}" if is_lost else ""
    is_faster = comparison.verdict == "faster"
    return f"{arm} is {comparison.verdict}: {number}{unclear if is_faster else ''}"


def _seen(comparison: Comparison) -> str:
    better, n, arm = comparison.favourable, comparison.n, comparison.name
    if n == 0:
        return f"No block has {arm} and {comparison.baseline_name} both finished."
    medians = f", {_pair(comparison)} at the median"
    # Where tasks differ more than arms do, each arm's own median may say the opposite of the pairs.
    opposed = (comparison.p50 - comparison.baseline_p50) * comparison.estimate < 0
    if opposed and comparison.quantile is None:
        medians = ""
    if comparison.quantile is not None and comparison.low is not None:
        base, arm_value = comparison.at
        both = units.once(units.values(comparison.metric, arm_value, base))
        medians += f", {' against '.join(both)} at {units.quantile(comparison.quantile)}"
    return f"{arm} faster in {better} of {units.counted(n, 'block')}{medians}."


def _pair(comparison: Comparison) -> str:
    """ "110 against 2,260 ms": the unit once, where both sides have the same."""
    medians = comparison.p50, comparison.baseline_p50
    return " against ".join(units.once(units.values(comparison.metric, *medians)))


def _missing(comparison: Comparison, seconds: float | None = None, usd: float | None = None) -> str:
    if comparison.needed_blocks is None:
        return OPPOSED if OPPOSED in comparison.reasons else "more blocks"
    return more_blocks(comparison.needed_blocks, seconds, usd)


def worthwhile(blocks: int | None, seconds: float | None = None) -> bool:
    """Whether somebody would wait for so many blocks; `seconds` is what one takes."""
    return blocks is not None and blocks <= MOST_MORE and blocks * (seconds or 0) <= LONGEST_S


def more_blocks(blocks: int | None, seconds: float | None = None, usd: float | None = None) -> str:
    """ "about 14 more blocks (≈ $0.08, 3 min)"; what nobody would wait for is called so."""
    if blocks is None:
        return "more blocks"
    if blocks > MOST_MORE:
        return f"it would take more than {MOST_MORE:,} more blocks, which is hardly worth it"
    cost = [] if not usd else [units.usd(usd * blocks)]
    cost += [] if not seconds else [units.duration(seconds * blocks)]
    return (
        f"about {units.counted(blocks, 'more block')}"
        + (f" (≈ {', '.join(cost)})" if cost else "")
        + ("" if worthwhile(blocks, seconds) else ", which is hardly worth it")
    )


def interval(comparison: Comparison) -> str:
    """ "−2,130 ms [−2,180, −2,090]": the estimate signed, the unit once; seconds where one of
    the three passes 10 s."""
    if comparison.low is None:
        return units.value(comparison.metric, comparison.estimate, sign=True)
    return units.estimated(comparison.metric, comparison.estimate, comparison.low, comparison.high)


def change(comparison: Comparison) -> str:
    """ "TTFT −2,130 ms [−2,180, −2,090], −94 %, n = 20": the number of a verdict's headline. Of a
    tail with both values and the price, which is what it is bought with: "p95 perceived wait 1,240
    → 610 ms, −630 ms [−900, −410], −51 % at +6 % cost, n = 150"."""
    metric, share = METRICS[comparison.metric], comparison.share
    relative = "" if share is None else f", {units.percent(share, sign=True)}"
    text = f"{metric.short or metric.words} {interval(comparison)}{relative}"
    if comparison.quantile is not None:
        both = " → ".join(units.once(units.values(metric.name, *comparison.at)))
        text = f"{units.quantile(comparison.quantile)} {metric.short or metric.words} {both}, "
        text += f"{interval(comparison)}{relative}"
        if comparison.cost_share is not None:
            text += f" at {units.percent(comparison.cost_share, sign=True)} cost"
    return f"{text}, n = {comparison.n}"


def _quality(comparison: Comparison) -> list[str]:
    quality = comparison.quality
    if comparison.n == 0:
        return []
    if quality is None:
        return ["quality not checked"]
    if quality.best == 0:
        return [f"quality {units.percent(0)} in both arms: no answer passed its check"]
    if quality.same == quality.n:
        return [f"quality equal in {quality.n} of {quality.n} blocks"]
    change = units.points(quality.change)
    low, high = (units.points(end).partition(" ")[0] for end in (quality.low, quality.high))
    return [f"quality {change} [{low}, {high}], {quality.shown}"]


def _price(comparison: Comparison) -> list[str]:
    change, share = comparison.cost_change_usd, comparison.cost_share
    if change is None:
        return []
    if change == 0:
        return ["price per trial unchanged"]
    percent = "" if share is None else f" ({units.percent(share, sign=True)})"
    return [f"price per trial {units.usd(change, sign=True)}{percent}"]


def _only_shorter(comparison: Comparison) -> list[str]:
    is_shorter = comparison.verdict == "faster_only_shorter" and comparison.parts is not None
    return [origin(comparison.parts)] if is_shorter else []


def origin(parts: Parts) -> str:
    """ "mean change in total time −600 ms = wait −20.0 ms, number of tokens −570 ms, time per token
    −10.0 ms"."""
    known = {
        "mean change in total time": parts.total,
        "connection": parts.connection,
        "wait": parts.wait,
        "number of tokens": parts.tokens,
        "time per token": parts.gap,
    }
    written = units.values("total_ms", *known.values(), sign=True)
    total, *shown = [
        f"{name} {text}"
        for (name, ms), text in zip(known.items(), written, strict=True)
        if name != "connection" or round(ms, 1)
    ]
    return f"{total} = {', '.join(shown)}"


def tail_said(metric: str, percentile: str, tail: Tail) -> str:
    """Both percentiles of an arm with failures: of its successes, and with every failure counted as
    at least the deadline."""
    both = [value if isfinite(value) else None for value in (tail.successes, tail.censored)]
    written = zip(both, units.values(metric, *both), strict=True)
    good, all_of_them = ("never" if value is None else text for value, text in written)
    return (
        f"{percentile} {good} where it went well, {all_of_them} with the failed counted as at least"
        " the deadline"
    )


def _tone(comparison: Comparison) -> Tone:
    if comparison.doubts or comparison.verdict in REFUSALS:
        return "unsure"
    if comparison.verdict == "slower":
        return "bad"
    if comparison.verdict == "no_difference":
        return "neutral"
    quality, drift = comparison.quality, comparison.drift
    if (
        comparison.verdict != "faster"
        or (quality and (quality.shown != "not worse" or quality.best == 0))
        or (drift and drift.rivals(comparison.estimate))
    ):
        return "warn"
    return "good"


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
