"""What a run is judged by: the level, the smallest effect that matters, how much quality may be
lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Rules:
    level: float = 0.95
    effect_share: float = 0.05
    effect_ms: float = 50.0
    """The smallest effect that matters: the larger of a share of the baseline and this many
    milliseconds …"""
    effect_cap: float = 0.20
    """… but never more than this share of the baseline, or a halved wait of 90 ms would count as
    nothing."""
    quality_margin: float = 0.10
    """How much quality (share of checks passed) may be lost before faster means worse."""
    instrument_ms: float | None = None
    """The instrument's own error, p95; a smaller effect is greyed."""

    @classmethod
    def of(cls, settings: Rules | Mapping[str, Any] | None) -> Rules:
        """From a run's settings: these names, at the top or under `statistics`; `instrument` may be
        a session's; the rest is ignored."""
        if isinstance(settings, Rules):
            return settings
        chosen = {**(settings or {}), **((settings or {}).get("statistics") or {})}
        chosen.setdefault("instrument_ms", (chosen.get("instrument") or {}).get("own_error_p95_ms"))
        names = [field.name for field in fields(cls) if chosen.get(field.name) is not None]
        return cls(**{name: float(chosen[name]) for name in names})

    def smallest_effect(self, baseline: float, is_time: bool = True) -> float:
        """In the baseline's unit: of a time max(5 %, 50 ms), at most 20 % of the baseline; of
        anything else 5 %."""
        share = self.effect_share * baseline
        return min(max(share, self.effect_ms), self.effect_cap * baseline) if is_time else share
