"""A usage as columns of `calls`: tokens as the API reported them, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab import pricing

ITERATION = (
    "type",
    "model",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
)


def usage_columns(usage: Mapping[str, Any]) -> dict[str, Any]:
    short, long = pricing.cache_writes(usage)
    columns = {
        "input_tokens": usage.get("input_tokens"),
        "output_tokens": usage.get("output_tokens"),
        "cache_read_tokens": usage.get("cache_read_input_tokens"),
        "cache_write_5m_tokens": short,
        "cache_write_1h_tokens": long,
        "thinking_tokens": (usage.get("output_tokens_details") or {}).get("thinking_tokens"),
        "speed": usage.get("speed"),
        "service_tier": usage.get("service_tier"),
        "inference_geo": usage.get("inference_geo"),
    }
    if listed := usage.get("iterations"):
        columns["iterations"] = [
            {name: entry[name] for name in ITERATION if entry.get(name) is not None}
            | ({"declined": True} if pricing.is_declined(entry, listed) else {})
            for entry in listed
        ]
    return columns
