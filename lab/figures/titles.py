"""Titles: what a frame shows, as a sentence. They say what was seen at the median; only a verdict says what may be believed."""

from __future__ import annotations

from lab import metrics
from lab.units import missing, percent, times

VERBS = {
    "wait_ms": ("shows text", "sooner", "later"),
    "ttft_ms": ("starts", "sooner", "later"),
    "headers_ms": ("answers", "sooner", "later"),
    "first_text_ms": ("shows text", "sooner", "later"),
    "first_sentence_ms": ("shows a whole sentence", "sooner", "later"),
    "last_token_ms": ("ends", "sooner", "later"),
    "total_ms": ("ends", "sooner", "later"),
    "tokens_per_s": ("writes", "slower", "faster"),
    "gap_ms": ("writes", "faster", "slower"),
    "cost_usd": ("costs", "less", "more"),
    "output_tokens": ("writes", "less", "more"),
}


def contrast(metric: str, arm: str, value: float | None, baseline: str, base: float | None) -> str:
    """ "cached starts 20× sooner than uncached": a factor from 1.5×, per cent below, and "alike" within 2 %."""
    if missing(value) or missing(base) or value <= 0 or base <= 0:
        return f"{metrics.words(metric).capitalize()} of each trial"
    verb, less, more = VERBS.get(metric, (f"has a {metrics.words(metric)}", "lower", "higher"))
    factor = max(value, base) / min(value, base)
    if factor < 1.02:
        return f"{arm} and {baseline} are alike in {metrics.words(metric)}"
    amount = times(factor) if factor >= 1.5 else percent(abs(value - base) / base)
    return f"{arm} {verb} {amount} {less if value < base else more} than {baseline}"


def widest(metric: str, values: dict[str, float]) -> str:
    """The contrast of the arm that differs most from the baseline, which is the first arm."""
    arms = [arm for arm, value in values.items() if not missing(value) and value > 0]
    if len(arms) < 2 or next(iter(values)) != arms[0]:
        return f"{metrics.words(metric).capitalize()} of each trial"
    base = values[arms[0]]
    arm = max(arms[1:], key=lambda name: max(values[name] / base, base / values[name]))
    return contrast(metric, arm, values[arm], arms[0], base)
