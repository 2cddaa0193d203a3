"""The only source of verdict words: pages, console, Markdown and JSON all say what verdict() says."""

from __future__ import annotations

from math import floor, isfinite, log10
from typing import Literal, NamedTuple

from lab import metrics, units
from lab.stats.compare import Comparison, two_decimals
from lab.stats.decompose import Parts
from lab.stats.drift import Tail

Tone = Literal["good", "bad", "warn", "neutral", "unsure"]
CLOCKS = {"ttft_ms": "TTFT"}


class VerdictText(NamedTuple):
    headline: str
    """The answer in one line, with the number and its interval."""
    seen: str
    """What was seen, before any judgement."""
    detail: str
    """Quality, price, and what spoils the comparison."""
    markdown: str
    """All of it for a chat or a pull request."""
    tone: Tone
    """good only where the gain is certain, quality is not worse and nothing greys it."""


def verdict(
    one: Comparison, *, seconds_per_block: float | None = None, usd_per_block: float | None = None
) -> VerdictText:
    """`seconds_per_block` and `usd_per_block` price the blocks that are still needed."""
    headline = _headline(one, seconds_per_block, usd_per_block)
    # The line on quality says with its interval what the reason says without.
    reasons = [reason for reason in one.reasons if not reason.startswith("quality not shown")]
    details = [*_quality(one), *_price(one), *_only_shorter(one), *reasons]
    if one.level > 0.9501 and one.low is not None:
        details.append(f"{100 * one.level:.3g} % interval, since several arms are compared (Holm)")
    # A refusal says in its headline what was seen; twice would be once too often.
    seen, detail = "" if one.verdict == "not_enough_data" else _seen(one), "; ".join(details)
    detail = detail[:1].upper() + detail[1:]
    return VerdictText(headline, seen, detail, _markdown(headline, seen, detail), _tone(one))


def _markdown(headline: str, *lines: str) -> str:
    return f"**{units.in_markdown(headline)}**" + "".join(
        f"  \n{units.in_markdown(line)}" for line in lines if line
    )


def _headline(one: Comparison, seconds: float | None, usd: float | None) -> str:
    arm, clock = _capital(one.arm), CLOCKS.get(one.metric, metrics.words(one.metric))
    if one.hopeless:
        return f"Not enough data, and more blocks would not help: {one.hopeless.removesuffix('.')}."
    if one.verdict == "not_enough_data":
        return f"{_seen(one).removesuffix('.')}. Not enough data: {more_blocks(one.needed_blocks, seconds, usd)}."
    change = f"{clock} {interval(one)}{_share(one)}, n = {one.n}"
    if one.verdict == "no_difference":
        seeable = units.value(one.metric, max(abs(one.low), abs(one.high)))
        return f"No difference shown; anything above {seeable} would have been seen ({change})"
    if one.verdict == "faster_but_worse":
        return f"{arm} is faster but worse: {change}, quality {two_decimals(one.quality.change)}"
    if one.verdict == "faster_only_shorter":
        return f"{arm} is faster only because its answers are shorter: {change}"
    unclear = (
        one.verdict == "faster"
        and one.quality is not None
        and one.quality.shown == "unclear"
        and one.quality.change < 0
    )
    return f"{arm} is {one.verdict}: {change}" + (
        f"; quality unclear, {two_decimals(one.quality.change)}" if unclear else ""
    )


def _seen(one: Comparison) -> str:
    if one.n == 0:
        return f"No block has {one.arm} and {one.baseline} both finished."
    better, n, arm = one.favourable, one.n, _capital(one.arm)
    blocks = f"{arm} faster in {better} of {n} block{'s' if n != 1 else ''}"
    return f"{blocks}, {_pair(one)} at the median."


def _pair(one: Comparison) -> str:
    """ "110 against 2,260 ms": the unit once, where both sides have the same."""
    new, old = units.value(one.metric, one.p50), units.value(one.metric, one.baseline_p50)
    number, _, unit = new.partition(" ")
    return (
        f"{number} against {old}" if unit and old.endswith(f" {unit}") else f"{new} against {old}"
    )


def more_blocks(blocks: int | None, seconds: float | None = None, usd: float | None = None) -> str:
    """ "about 14 more blocks (≈ $0.08, 3 min)"."""
    if blocks is None:
        return "more blocks"
    cost = [] if not usd else [units.usd(usd * blocks)]
    cost += [] if not seconds else [_duration(seconds * blocks)]
    return f"about {blocks:,} more block{'s' if blocks != 1 else ''}" + (
        f" (≈ {', '.join(cost)})" if cost else ""
    )


def interval(one: Comparison) -> str:
    """ "−2,130 ms [−2,180, −2,090]": the estimate signed, the unit once; seconds from 10 s on."""
    metric, in_seconds = one.metric, one.metric.endswith("_ms") and abs(one.estimate) >= 9_999.5
    estimate = units.value(metric, one.estimate, sign=True)
    if one.low is None:
        return estimate
    ends = [end / 1000 if in_seconds else end for end in (one.estimate, one.low, one.high)]
    # All three carry the decimals of the widest, or "[−283, −52.8]" would claim more of one end than of the other.
    decimals = max(0, 2 - floor(log10(max(map(abs, ends)) or 1)))
    middle, low, high = (f"{end:,.{decimals}f}".replace("-", "−") for end in ends)
    unit = estimate.partition(" ")[2]
    plus = "+" if one.estimate > 0 else ""
    return f"{plus}{middle}{f' {unit}' if unit else ''} [{low}, {high}]"


def _share(one: Comparison) -> str:
    return "" if one.ratio is None else f", {units.percent(one.ratio - 1, sign=True)}"


def _quality(one: Comparison) -> list[str]:
    found = one.quality
    if one.n == 0:
        return []
    if found is None:
        return ["quality not checked"]
    if found.same == found.n:
        return [f"quality equal in {found.n} of {found.n} blocks"]
    return [
        f"quality {two_decimals(found.change)} [{two_decimals(found.low)}, {two_decimals(found.high)}], {found.shown}"
    ]


def _price(one: Comparison) -> list[str]:
    if one.cost_change_usd is None:
        return []
    if one.cost_change_usd == 0:
        return ["price per trial unchanged"]
    share = "" if one.cost_share is None else f" ({units.percent(one.cost_share, sign=True)})"
    return [f"price per trial {units.usd(one.cost_change_usd, sign=True)}{share}"]


def _only_shorter(one: Comparison) -> list[str]:
    return [] if one.verdict != "faster_only_shorter" or one.parts is None else [origin(one.parts)]


def origin(parts: Parts) -> str:
    """ "mean change in total time −600 ms = wait −20.0 ms, number of tokens −570 ms, time per token −10.0 ms"."""
    known = {
        "connection": parts.connection,
        "wait": parts.wait,
        "number of tokens": parts.tokens,
        "time per token": parts.gap,
    }
    shown = [
        f"{name} {units.ms(ms, sign=True)}"
        for name, ms in known.items()
        if name != "connection" or round(ms, 1)
    ]
    return f"mean change in total time {units.ms(parts.total, sign=True)} = {', '.join(shown)}"


def tail_said(metric: str, percentile: str, found: Tail) -> str:
    """Both percentiles of an arm with failures: of its successes, and with every failure counted as at least the deadline."""
    good, all_of_them = (
        units.value(metric, value) if isfinite(value) else "never"
        for value in (found.successes, found.censored)
    )
    return f"{percentile} {good} where it went well, {all_of_them} with the failed counted as at least the deadline"


def _tone(one: Comparison) -> Tone:
    if one.greyed or one.verdict == "not_enough_data":
        return "unsure"
    if one.verdict == "slower":
        return "bad"
    if one.verdict == "no_difference":
        return "neutral"
    if (
        one.verdict != "faster"
        or (one.quality and one.quality.shown != "not worse")
        or (one.drift and one.drift.rivals(one.estimate))
    ):
        return "warn"
    return "good"


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60):,} min"


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
