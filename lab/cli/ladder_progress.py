"""What a ladder says on a terminal or in a pipe while it goes on."""

from __future__ import annotations

from typing import Any

from lab.harness.progress import Listener
from lab.ladder import stage_words


class Climb(Listener):
    """A line when a stage begins, and one for each thing that the search settles."""

    def __init__(self, console: Any) -> None:
        super().__init__(console)
        self.stage = ""

    def _stage(self, entry: dict[str, Any]) -> None:
        words = stage_words.place(entry)
        if self.bar is None and self.console.is_terminal:
            self.bar = self.console.status(words)
            self.bar.start()
        elif self.bar is not None:
            self.bar.update(words)
        if entry["stage"] != self.stage:
            self.stage = entry["stage"]
            self._say(words)

    def _decision(self, entry: dict[str, Any]) -> None:
        self._say(f"  {stage_words.settled(entry)}")
