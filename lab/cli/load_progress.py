"""What a load says on a terminal or in a pipe while it goes on."""

from __future__ import annotations

from typing import Any

from lab import units
from lab.harness.progress import Listener

LINE_S = 5.0
"""A pipe gets a line so often within a level, and one at its end."""


class Progress(Listener):
    """Of a load."""

    def __init__(self, console: Any) -> None:
        super().__init__(console)
        self.line_s = 0.0

    def _level(self, entry: dict[str, Any]) -> None:
        self.line_s = LINE_S
        if not self.console.is_terminal:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar
        from rich.table import Column

        # In a narrow window it is shortened; a level's last line stands where the bar was.
        gives_way = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[seen]}", table_column=gives_way, markup=False),
            console=self.console,
            expand=True,
            transient=True,
        )
        self.task = self.bar.add_task(place(entry), total=entry["planned"], seen="")
        self.bar.start()

    def _load(self, entry: dict[str, Any]) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=entry["done"], seen=seen(entry))
        elif not self.console.is_terminal and entry["elapsed_s"] >= self.line_s:
            self.line_s = entry["elapsed_s"] + LINE_S
            self._say(f"{place(entry)}: {entry['done']:,}/{entry['planned']:,} {seen(entry)}")

    def _level_ended(self, entry: dict[str, Any]) -> None:
        self.close()
        reason = f" ({entry['reason']})" if entry["reason"] else ""
        self._say(
            f"{place(entry)}: {units.counted(entry['done'], 'request')} {seen(entry)}{reason}"
        )


def place(entry: dict[str, Any]) -> str:
    """ "2/5 16 streams"; of a search nobody knows how many there will be."""
    of = f"/{entry['of']}" if entry["of"] else ""
    return f"{entry['level']}{of} {entry['label']}"


def seen(entry: dict[str, Any]) -> str:
    parts = []
    if entry["ttft_p50_ms"] is not None:
        ends = units.values("ttft_ms", entry["ttft_p50_ms"], entry["ttft_p95_ms"])
        parts.append(f"first token {ends[0]}, p95 {ends[1]}")
    parts.append(f"{units.number(entry['requests_per_s'])} requests/s")
    if entry["tokens_per_s"]:
        parts.append(f"{units.number(entry['tokens_per_s'])} tokens/s")
    if entry["failed"]:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in entry["errors"].items())
        parts.append(f"failed: {kinds}")
    if entry.get("spent_usd"):
        parts.append(f"{units.usd(entry['spent_usd'])} spent")
    if entry["kind"] == "load" and entry["left_s"] is not None:
        parts.append(f"about {units.duration(entry['left_s'])} left")
    return "· " + " · ".join(parts)
