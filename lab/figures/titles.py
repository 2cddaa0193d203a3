"""Titles: what a frame shows, as a sentence. They say what was seen at the median; only a verdict
says what may be believed."""

from __future__ import annotations

from lab import metrics
from lab.units import missing, percent, times


def contrast(metric: str, arm: str, value: float | None, baseline: str, base: float | None) -> str:
    """ "cached starts 20× sooner than uncached": a factor from 1.5×, per cent below, and "alike"
    within 2 %."""
    known = metrics.find(metric)
    if missing(value) or missing(base) or value <= 0 or base <= 0:
        return f"{known.words.capitalize()} of each trial"
    factor = max(value, base) / min(value, base)
    if factor < 1.02:
        return f"{arm} and {baseline} are alike in {known.words}"
    amount = times(factor) if factor >= 1.5 else percent(abs(value - base) / base)
    change = known.less if value < base else known.more
    return f"{arm} {known.verb} {amount} {change} than {baseline}"


def better(metric: str, arm: str, baseline: str) -> str:
    """What an arm did in the blocks that it won: "cached was sooner than uncached"."""
    known = metrics.find(metric)
    change = known.more if known.higher_is_better else known.less
    return f"{arm} {'was' if known.judged else known.verb} {change} than {baseline}"


def widest(metric: str, values: dict[str, float]) -> str:
    """The contrast of the arm that differs most from the baseline, which is the first arm."""
    arms = [arm for arm, value in values.items() if not missing(value) and value > 0]
    if len(arms) < 2 or next(iter(values)) != arms[0]:
        return f"{metrics.words(metric).capitalize()} of each trial"
    base = values[arms[0]]
    arm = max(arms[1:], key=lambda name: max(values[name] / base, base / values[name]))
    return contrast(metric, arm, values[arm], arms[0], base)
