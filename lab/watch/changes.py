"""A change that a watch has found, as it is stored and told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from lab import units
from lab.endpoints import keys
from lab.endpoints.registry import Endpoint
from lab.stats.level_shifts import Moved, Shift

WHOSE = ("service", "yours", "control", "both")
SILENT, ANSWERS = "silent", "answers"
AS_ASKED = "answered as asked"
"""A request that neither failed nor was served otherwise than asked."""
MINUS = "−"


@dataclass(frozen=True)
class Size:
    """A change of a share, with its 95 % interval: 0.12 is 12 % longer."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        ends = ", ".join(_percent(end) for end in (self.low, self.high))
        return f"{_percent(self.value)} % [{ends}]"

    @property
    def is_none(self) -> bool:
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Change:
    """`kind` is level, silent (a request stopped being answered as asked) or
    answers (it is again)."""

    kind: str
    whose: str
    at_utc: datetime
    seen_utc: datetime
    probes: int
    """That it took to be seen."""
    endpoint: str
    control: Size | None = None
    yours: Size | None = None
    added_ms: float | None = None
    """What both took longer alike, where it is as many ms and not as many per cent."""

    @property
    def is_silence(self) -> bool:
        return self.kind != "level"

    def by(self, shift: Shift) -> Change:
        """What a shift says of it: whose, and how much."""
        sizes = {"control": _size(shift.control), "yours": _size(shift.yours)}
        return replace(self, whose=shift.whose, added_ms=shift.added_ms, **sizes)

    @property
    def is_slower(self) -> bool:
        sizes = {"yours": self.yours, "control": self.control}
        leading = sizes.get(self.whose) or self.yours
        return leading is None or leading.value > 0

    @property
    def words(self) -> str:
        """One sentence, without its full stop."""
        at = f"at {units.when(self.at_utc)} UTC"
        if self.is_silence:
            every = f"On {self.named} every request"
            who = {"yours": "Your request", "service": every}.get(self.whose, "The control")
            verb = "stopped being {}" if self.kind == SILENT else "is {} again"
            return f"{who} {verb.format(AS_ASKED)} {at}"
        became = "slower" if self.is_slower else "faster"
        sizes = f"your request {self.yours.text}, the control {self.control.text}"
        if self.whose == "service":
            alike = f", both by about {units.ms(abs(self.added_ms))}" if self.added_ms else ""
            return f"{self.named} got {became} {at}: {sizes}{alike}"
        if self.whose == "yours":
            other = f"the control {_beside(self.control)}"
            return f"Your request got {became} {at}: {self.yours.text}, {other}"
        if self.whose == "control":
            who = "The control alone" if self.yours.is_none else "The control"
            other = f"your request {_beside(self.yours)}"
            return f"{who} got {became} {at}: {self.control.text}, {other}"
        return f"Both requests changed {at}, each its own way: {sizes}"

    @property
    def named(self) -> str:
        """Who answers: Claude, or an endpoint as `answering` names it."""
        return "Claude" if self.endpoint == "anthropic" else self.endpoint

    @property
    def label(self) -> str:
        """For a chart: who and how much."""
        if self.is_silence:
            return f"not {AS_ASKED}" if self.kind == SILENT else f"{AS_ASKED} again"
        size = self.control if self.whose == "control" else self.yours
        who = {"service": self.named, "yours": "yours", "control": "control"}.get(
            self.whose, "both"
        )
        return f"{who} {_percent(size.value)} %"

    def stored(self) -> dict[str, Any]:
        words = asdict(self)
        return words | {name: words[name].isoformat() for name in ("at_utc", "seen_utc")}

    def told(self) -> dict[str, Any]:
        """For a command's input and for --json."""
        return self.stored() | {"words": self.words}


def change_of(stored: Mapping[str, Any]) -> Change:
    sizes = {
        name: Size(**stored[name]) if stored.get(name) else None for name in ("control", "yours")
    }
    at = {name: datetime.fromisoformat(stored[name]) for name in ("at_utc", "seen_utc")}
    plain = {name: stored[name] for name in ("kind", "whose", "probes", "endpoint")}
    added_ms = stored.get("added_ms")
    return Change(**plain, **at, **sizes, added_ms=None if added_ms is None else float(added_ms))


def of_shift(
    shift: Shift, at_utc: datetime, seen_utc: datetime, probes: int, endpoint: str
) -> Change:
    return Change("level", shift.whose, at_utc, seen_utc, probes, endpoint).by(shift)


def answering(endpoint: Endpoint) -> str:
    """Its name, but `anthropic` only at Anthropic's own address, where it is Claude that answers: a
    gateway that ANTHROPIC_BASE_URL names is told by its address."""
    origin = keys.origin(endpoint.base_url) if endpoint.name == "anthropic" else None
    return origin if origin not in (None, keys.CLAUDE_URL) else endpoint.name


def _size(moved: Moved) -> Size:
    return Size(*(math.expm1(end) for end in (moved.value, moved.low, moved.high)))


def _beside(size: Size) -> str:
    """Of the request whose step it is not."""
    return f"stood ({size.text})" if size.is_none else f"moved by {size.text}"


def _percent(share: float) -> str:
    points = 100 * share
    text = f"{points:+.1f}" if abs(points) < 9.95 else f"{points:+.0f}"
    return text.replace("-", MINUS)
