"""How the lab writes numbers, in one place: milliseconds under 10 s, seconds above, one unit in a
sentence; three significant figures, thousands separated; minus is "−", none is "—"; a share in per
cent, its change in points."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from lab import metrics

MISSING = "—"
LONG_MS = 9_995
"""What three figures round up to 10,000 ms is 10.0 s; from here on a duration is told in
seconds."""


def missing(value: object) -> bool:
    """None, NaN and pandas' NA alike."""
    return value is None or str(value) == "<NA>" or value != value


def plain(value: Any) -> Any:
    """A value as JSON knows it: numpy and pandas scalars unwrapped; None for NaN and infinity."""
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    if missing(value) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


def number(value: float | None, figures: int = 3) -> str:
    """Three significant figures, never in exponents: 2,130 · 12.3 · 0.042."""
    if missing(value):
        return MISSING
    if value == 0:
        return "0"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    # Of the rounded value: what rounds up to 10.0 has a decimal less than 9.99.
    exponent = int(f"{value:.{figures - 1}e}".partition("e")[2])
    decimals = figures - 1 - exponent
    return f"{round(float(value), decimals):,.{max(0, decimals)}f}".replace("-", "−")


def ms(value: float | None, sign: bool = False, *, seconds: bool | None = None) -> str:
    """A duration given in ms: "110 ms", from 10 s on "12.3 s", or as `seconds` says; with `sign` a
    gain or loss: "+85.0 ms"."""
    if missing(value):
        return MISSING
    # Clocks count nanoseconds: less is what sums of floats leave.
    value = round(value, 6) + 0.0
    seconds = abs(value) >= LONG_MS if seconds is None else seconds
    text = f"{number(value / 1000)} s" if seconds else f"{number(value)} ms"
    return f"+{text}" if sign and value > 0 else text


def duration(seconds: float) -> str:
    """About how long something takes: "12 s", from a minute and a half on "2 min"."""
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60):,} min"


def stretch(value: float) -> str:
    """How long something took as people say it, from ms: "12.3 s", "4 min 12 s", "1 h 5 min",
    "2 d 3 h"."""
    seconds = round(value / 1000)
    if seconds < 60:
        return ms(value)
    for long, short, size, per in (("d", "h", 3600, 24), ("h", "min", 60, 60), ("min", "s", 1, 60)):
        whole, rest = divmod(round(value / 1000 / size), per)
        if whole:
            return f"{whole:,} {long}" + (f" {rest} {short}" if rest else "")
    return ms(value)


def percent(share: float | None, sign: bool = False) -> str:
    """A share of 1 as whole per cent, with one decimal below 10 %: "−95 %", "2.5 %"."""
    if missing(share):
        return MISSING
    value = share * 100
    decimals = 1 if 0.05 <= abs(value) < 9.95 else 0
    text = f"{value:z,.{decimals}f}".replace("-", "−")
    return f"{'+' if sign and value >= 0.05 else ''}{text} %"


def quantile(q: float) -> str:
    """ "p95"."""
    return f"p{100 * q:g}"


def points(change: float | None, sign: bool = True) -> str:
    """A change of a share in points, as percent() writes a share: "+8.3 points", "−50 points"."""
    return percent(change, sign).replace("%", "points")


def usd(value: float | None, sign: bool = False) -> str:
    """Dollars with the figures that small sums need: "$0.0042", "$1.25"; an unpriced trial is
    "—"."""
    if missing(value):
        return MISSING
    amount = abs(value)
    # From 0.995 on two figures would round up to a whole dollar, which has cents.
    text = f"{amount:,.2f}" if amount >= 0.995 or amount == 0 else number(amount, 2)
    return ("−" if value < 0 else "+" if sign and value > 0 else "") + "$" + text


def times(ratio: float | None) -> str:
    """A ratio as a factor: "20×", "1.4×"."""
    return MISSING if missing(ratio) else f"{number(ratio, 2)}×"


def whole(value: float | None) -> str:
    """A count: "12,345"."""
    return MISSING if missing(value) else f"{int(value):,}"


def counted(n: int, noun: str, several: str = "") -> str:
    """ "1 call", "1,200 misses"; `several` where its plural is another: "2 retries"."""
    several = several or f"{noun}{'es' if noun.endswith('s') else 's'}"
    return f"{whole(n)} {noun if n == 1 else several}"


SHARES = ("share", "share right")


def value(metric: str, amount: float | None, sign: bool = False) -> str:
    """An amount of a metric, or of any column, in its unit; with `sign`, a change of it."""
    unit = metrics.unit(metric)
    if unit in SHARES:
        return points(amount) if sign else percent(amount)
    if unit in ("ms", "$"):
        return (ms if unit == "ms" else usd)(amount, sign)
    text = number(amount)
    return f"+{text}" if sign and not missing(amount) and amount > 0 else text


def values(metric: str, *amounts: float | None, sign: bool = False) -> list[str]:
    """Amounts that are read beside each other, in the unit of the largest: "2.75 s", "16.1 s"."""
    known = [abs(amount) for amount in amounts if not missing(amount)]
    if metrics.unit(metric) != "ms" or max(known, default=0) < LONG_MS:
        return [value(metric, amount, sign) for amount in amounts]
    return [ms(amount, sign, seconds=True) for amount in amounts]


def ends(metric: str, middle: float, low: float, high: float) -> list[str]:
    """An estimated change and its interval, signed, each with its unit: "−2,130 ms". All have three
    figures of the widest, or "−283 … −52.8" would claim more of one end than of the other."""
    unit, scale, front = metrics.unit(metric), 1.0, ""
    widest = max(map(abs, (middle, low, high)))
    if unit == "ms" and widest >= LONG_MS:
        unit, scale = "s", 1e-3
    elif unit in SHARES:
        unit, scale = "points", 100.0
    elif unit == "$":
        unit, front = "", "$"
    decimals = 2 - math.floor(math.log10(widest * scale)) if widest else 0
    shown = max(0, decimals)
    numbers = [round(end * scale, decimals) + 0.0 for end in (middle, low, high)]
    signs = ["−" if end < 0 else "+" if end > 0 else "" for end in numbers]
    texts = [f"{front}{abs(end):,.{shown}f}{f' {unit}' if unit else ''}" for end in numbers]
    return [f"{sign}{text}" for sign, text in zip(signs, texts, strict=True)]


def estimated(metric: str, middle: float, low: float, high: float) -> str:
    """ "−2,130 ms [−2,180, −2,090]": the ends bear the sign that they have, and no unit of their
    own."""
    written = ends(metric, middle, low, high)
    bare = [end.partition(" ")[0].removeprefix("+") for end in written[1:]]
    return f"{written[0]} [{', '.join(bare)}]"


def once(written: Sequence[str]) -> list[str]:
    """Values of values(), the unit only behind the last where all have the same."""
    units = {text.partition(" ")[2] for text in written}
    if len(units) != 1 or units == {""}:
        return list(written)
    return [*(text.partition(" ")[0] for text in written[:-1]), written[-1]]


def when(instant: datetime | None) -> str:
    """Wall clock, to the minute, UTC: "24 Nov 2026, 06:10"."""
    return MISSING if missing(instant) else f"{instant:%-d %b %Y, %H:%M}"


def iso(instant: datetime | None) -> str | None:
    """An instant as JSON has it; None where there is none."""
    return None if missing(instant) else instant.isoformat()


def short(text: str, most: int = 120) -> str:
    """A name in one line; a longer one is cut, and says so."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def origin(run: Mapping[str, Any]) -> str:
    """ "imported from their.duckdb"; empty for a run that was measured here."""
    name = run.get("imported_from")
    return "" if missing(name) else f"imported from {short(name)}"


def in_markdown(text: str) -> str:
    """Text as it is where Markdown is read: no link, no tag, no table; an address stays one that
    nobody can click."""
    escaped = re.sub(r"([\\`*_\[\]<>|~&])", r"\\\1", text)
    return re.sub(r"(?i)(https?|ftp|mailto|xmpp):|\bwww\.|@", "\\g<0>\u2060", escaped)


def short_id(identifier: str | None) -> str:
    """The last eight digits of a UUIDv7: the first ones are its time and alike within a run."""
    return MISSING if missing(identifier) else str(identifier)[-8:]
