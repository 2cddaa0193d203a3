"""What a text of the lab claims of arms, read back from the sentences that the lab writes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from lab.metrics import METRICS
from lab.results import RunResult

CLAIMING = {
    "faster",
    "slower",
    "faster_but_worse",
    "faster_only_shorter",
    "faster_when_it_answers",
}
AMOUNT = r"[\d,.]+ (?:%|ms|s|tokens/s)"
WORDS = re.compile(r"\b(?:sooner|later|faster|slower|earlier|quicker|beats|wins)\b", re.IGNORECASE)
"""What no text says where the verdict refuses, but in a claim that is another arm's own."""
COUNTED = re.compile(
    r"(?:faster|sooner|later) in \d+ of \d+ blocks?|when it answers; \d+ of \d+ failed"
    r"|No technique has been shown to be faster yet"
)
"""Facts, not findings: blocks counted, the end of a title whose claim is read apart, and none."""
SINGLE = re.compile(r"in this pair; a single pair shows no difference\.")


class Claim(NamedTuple):
    text: str
    arm: str
    readings: tuple[tuple[str, bool], ...]
    """(metric, whether its number is less than the baseline's): several have the same verb."""
    baseline: str | None = None
    in_a_pair: bool = False


def claims(text: str, result: RunResult) -> list[Claim]:
    """Every claim in a text, in whichever of the lab's forms."""
    names = {result.name(*arm): None for arm in result.arms()}
    known = {spelling: name for name in names for spelling in (name, name[:1].upper() + name[1:])}
    arms = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    return [*_titles(text, arms, known), *_headlines(text, arms, known)]


def _titles(text: str, arms: str, known: dict[str, str]) -> Iterator[Claim]:
    """ "cached starts 95 % sooner than uncached", "… in this pair"."""
    forms: dict[tuple[str, str], list[tuple[str, bool]]] = {}
    for metric in METRICS.values():
        for change, less in ((metric.less, True), (metric.more, False)):
            forms.setdefault((metric.verb, change), []).append((metric.name, less))
    for (verb, change), readings in forms.items():
        pattern = (
            rf"(?<![\w.])(?P<arm>{arms}) {verb} {AMOUNT} {change} "
            rf"(?:than (?P<baseline>{arms})|(?P<pair>in this pair))"
        )
        for match in re.finditer(pattern, text):
            baseline = known[match["baseline"]] if match["baseline"] else None
            arm, is_of_a_pair = known[match["arm"]], bool(match["pair"])
            yield Claim(match[0], arm, tuple(readings), baseline, is_of_a_pair)


def _headlines(text: str, arms: str, known: dict[str, str]) -> Iterator[Claim]:
    """ "Cached is faster: TTFT −2,130 ms", "Cached: 2 of 20 failed, …; faster when it answers"."""
    words = {metric.short or metric.words: metric for metric in METRICS.values()}
    shorts = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    pattern = (
        rf"(?<![\w.])(?P<arm>{arms})(?: is|: \d+ of \d+ [^;\n]*;) (?P<word>faster|slower)"
        rf"[^:\n]*: (?P<metric>{shorts}) (?P<sign>[+−])"
    )
    for match in re.finditer(pattern, text):
        metric, less = words[match["metric"]], match["sign"] == "−"
        is_better = match["word"] == "faster"
        assert less is (is_better is not metric.higher_is_better), match[0]
        yield Claim(match[0], known[match["arm"]], ((metric.name, less),))


def contradictions(text: str, *results: RunResult) -> list[str]:
    """Claims that no comparison of these runs bears out, and words of a claim outside any."""
    read = {claim.text: False for result in results for claim in claims(text, result)}
    for result in results:
        for claim in claims(text, result):
            bears = _is_of_the_pair if claim.in_a_pair else _bears
            if any(bears(result, claim, *reading) for reading in claim.readings):
                read[claim.text] = True
    rest = text
    for words in sorted(read, key=len, reverse=True):
        rest = rest.replace(words, "")
    rest = COUNTED.sub("", SINGLE.sub("", rest))
    loose = [rest[max(match.start() - 60, 0) : match.end() + 40] for match in WORDS.finditer(rest)]
    return [words for words, is_borne in read.items() if not is_borne] + loose


def _bears(result: RunResult, claim: Claim, metric: str, less: bool) -> bool:
    for comparison in result.comparisons:
        if (comparison.name, comparison.metric) == (claim.arm, metric):
            is_of_it = claim.baseline in (None, comparison.baseline_name)
            is_less = comparison.estimate is not None and comparison.estimate < 0
            return is_of_it and comparison.verdict in CLAIMING and is_less is less
    return False


def _is_of_the_pair(result: RunResult, claim: Claim, metric: str, less: bool) -> bool:
    """The pair's own difference in the headline, told of the planned arm."""
    planned = result.comparisons[0]
    is_less = result.pair.value < result.pair.baseline_value
    return (claim.arm, metric, less) == (planned.name, planned.metric, is_less)
