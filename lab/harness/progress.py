"""What a run says as it measures: a bar on a terminal, lines in a pipe, one output in notebooks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from lab import units

MOST_LINES = 20
"""A pipe gets about so many lines of progress, however long the run."""


class Listener:
    """Give it to a run as `on_progress`; it takes the progress file's entries, one dict each, and
    `_trial` is what it does with one of the kind "trial"."""

    def __init__(self, console: Any):
        self.console = console
        self.bar: Any = None
        self.task: Any = None

    def __call__(self, entry: dict[str, Any]) -> None:
        getattr(self, f"_{entry['kind']}", lambda entry: None)(entry)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _note(self, entry: dict[str, Any]) -> None:
        self._say(entry["text"])

    def _ended(self, entry: dict[str, Any]) -> None:
        self.close()

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)
        if not self.console.is_terminal:
            sys.stdout.flush()


class Progress(Listener):
    """Of a run of techniques."""

    def __init__(self, console: Any):
        super().__init__(console)
        self.run_id: str | None = None
        self.status: str | None = None
        self.text = ""
        self.lines = 0

    def _started(self, entry: dict[str, Any]) -> None:
        self.run_id = entry["run_id"]
        if not self.console.is_terminal:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self.bar = Bar(
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("trials · {task.fields[left]}{task.fields[last]}"),
            console=self.console,
        )
        self.task = self.bar.add_task("", total=entry.get("total"), left="starting", last="")
        self.bar.start()

    def _trial(self, entry: dict[str, Any]) -> None:
        done, total = entry.get("done") or 0, entry.get("total") or 0
        left = (
            "" if entry.get("left_s") is None else f"about {units.duration(entry['left_s'])} left"
        )
        seen = (
            units.ms(entry.get("wait_ms"))
            if entry.get("outcome") == "ok"
            else f"{entry.get('outcome')}: {entry.get('error_kind') or ''}"
        )
        last = f"{entry['arm']} {seen.rstrip(': ')}"
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=total, left=left, last=f" · {last}")
        elif not self.console.is_terminal and (
            done >= total
            or done * MOST_LINES >= self.lines * max(total, 1)
            or entry.get("outcome") == "failed"
        ):
            self.lines += 1
            self._step(f"{done}/{total} {last}" + (f" · {left}" if left else ""))

    def _ended(self, entry: dict[str, Any]) -> None:
        self.status, self.text = entry["status"], entry.get("text") or ""
        self.close()

    def _step(self, text: str) -> None:
        self._say(text)


class OneOutput(Progress):
    """For a notebook, where each line would be an output of its own: the notes so far and where the
    run is, in one that changes."""

    def __init__(self, console: Any, show: Callable[[str], None]):
        super().__init__(console)
        self.show = show
        self.notes: list[str] = []
        self._step("starting")

    def _step(self, text: str) -> None:
        self.show("\n".join([*self.notes, text]))

    def _say(self, text: str) -> None:
        self.notes.append(text)
        self._step("measuring")

    def _ended(self, entry: dict[str, Any]) -> None:
        super()._ended(entry)
        self._step(f"{self.status}. {self.text}".strip())
