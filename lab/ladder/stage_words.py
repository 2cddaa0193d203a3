"""Where a ladder is, in words: the same on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab import units


def place(entry: Mapping[str, Any]) -> str:
    """Of an entry `stage` of its progress: "Confirmation: block 3 of 40, 2 stacks · 4 min left ·
    $0.12 left"."""
    of = f" of {entry['blocks']}" if entry["blocks"] else ""
    parts = [
        f"{entry['stage'].capitalize()}: block {entry['block']}{of}, "
        f"{units.counted(entry['stacks'], 'stack')}",
        f"{units.duration(entry['left_s'])} left",
    ]
    if entry["left_usd"] is not None:
        parts.append(f"{units.usd(entry['left_usd'])} left")
    return " · ".join(parts)


def settled(entry: Mapping[str, Any]) -> str:
    """Of an entry `decision`: "Streamed: settled, it helps (after 4 blocks)"."""
    about = entry["lever"] or entry["stack"]
    words = f"{about}: {entry['reason']}" if about else entry["reason"]
    return f"{words} (after {units.counted(entry['block'], 'block')})"
