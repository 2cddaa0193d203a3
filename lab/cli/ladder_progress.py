"""What a ladder says on a terminal or in a pipe while it goes on."""

from __future__ import annotations

from typing import Any

from lab import units
from lab.harness.progress import Listener


class Climb(Listener):
    """A line when a stage begins, and one for each thing that the search settles."""

    def __init__(self, console: Any) -> None:
        super().__init__(console)
        self.stage = ""

    def _stage(self, entry: dict[str, Any]) -> None:
        words = place(entry)
        if self.bar is None and self.console.is_terminal:
            self.bar = self.console.status(words)
            self.bar.start()
        elif self.bar is not None:
            self.bar.update(words)
        if entry["stage"] != self.stage:
            self.stage = entry["stage"]
            self._say(words)

    def _decision(self, entry: dict[str, Any]) -> None:
        about = entry["lever"] or entry["stack"]
        words = f"{about}: {entry['reason']}" if about else entry["reason"]
        self._say(f"  {words} (after {units.counted(entry['block'], 'block')})")


def place(entry: dict[str, Any]) -> str:
    """ "Confirmation: block 3 of 40, 2 stacks · 4 min left · $0.12 left"."""
    of = f" of {entry['blocks']}" if entry["blocks"] else ""
    parts = [
        f"{entry['stage'].capitalize()}: block {entry['block']}{of}, "
        f"{units.counted(entry['stacks'], 'stack')}",
        f"{units.duration(entry['left_s'])} left",
    ]
    if entry["left_usd"] is not None:
        parts.append(f"{units.usd(entry['left_usd'])} left")
    return " · ".join(parts)
