"""Instants as files write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

YEARS = range(2000, 2200)


def read(text: Any) -> datetime:
    """ISO 8601 as an instant; one without a zone is UTC. Raises ValueError or TypeError."""
    at = datetime.fromisoformat(text)
    if at.year not in YEARS:
        raise ValueError(f"{text} is no time of a call")
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
