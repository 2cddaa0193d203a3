"""What a recorded call would have cost with other tokens, by the price of its day."""

from __future__ import annotations

from typing import Any

from lab import pricing
from lab.units import missing

COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
)
MODES = ("service_tier", "speed", "inference_geo")
COLUMNS = (*COUNTS, *MODES, "model", "served_model", "cost_usd", "started_utc")
"""What `change_usd` asks of a call."""


def change_usd(call: Any, model: str | None = None, **more: float) -> float | None:
    """Dollars that a call (a row of Recording.calls) would cost more with so many more tokens of
    COUNTS (input_tokens=-500, …), or of another model. None where its cost is not known: without a
    price, or on a server of the lab's own."""
    if missing(call.cost_usd):
        return None
    counts = {name: 0 if missing(getattr(call, name)) else getattr(call, name) for name in COUNTS}
    now = _usd(call, priced_model(call), counts)
    then = _usd(
        call,
        model or priced_model(call),
        {name: max(count + more.get(name, 0), 0) for name, count in counts.items()},
    )
    return None if now is None or then is None else then - now


def priced_model(call: Any) -> str:
    served = None if missing(call.served_model) else call.served_model
    return pricing.priced_as(call.model, served, call.started_utc.date())


def _usd(call: Any, model: str, counts: dict[str, float]) -> float | None:
    usage = {
        "input_tokens": round(counts["input_tokens"]),
        "cache_read_input_tokens": round(counts["cache_read_tokens"]),
        "cache_creation": {
            "ephemeral_5m_input_tokens": round(counts["cache_write_5m_tokens"]),
            "ephemeral_1h_input_tokens": round(counts["cache_write_1h_tokens"]),
        },
        "output_tokens": round(counts["output_tokens"]),
    }
    modes = {name: getattr(call, name) for name in MODES if not missing(getattr(call, name))}
    return pricing.cost_usd(model, usage | modes, call.started_utc.date())
