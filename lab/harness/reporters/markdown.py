"""A run for a pull request or a chat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab.harness.reporters import summary, write
from lab.units import in_markdown

if TYPE_CHECKING:
    from lab.results import RunResult


class MarkdownReporter:
    """RUN.md, the verdict and one table, for a pull request"""

    name = "markdown"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def report(self, result: RunResult) -> Path | None:
        return write(self.folder / f"{result.run_id}.md", markdown(result))


def markdown(result: RunResult) -> str:
    """The text; nothing in it that a model or a user wrote is more than text."""
    rows, columns = summary.table(result), summary.COLUMNS
    legend = summary.legend(rows)
    predicted = [result.prediction] if result.prediction else []
    bullets = [*predicted, *summary.counts(result), *result.why, *result.notes]
    lines = [
        f"### {in_markdown(summary.title(result))}",
        "",
        *(f"{verdict.markdown}\n" for verdict in result.verdicts[:1]),
        *_each_arm(result),
        "| " + " | ".join(columns) + " |",
        "|---|---|" + "--:|" * (len(columns) - 2),
        *("| " + " | ".join(in_markdown(cell.text) for cell in row) + " |" for row in rows),
        *(["", legend] if legend else []),
        "",
        *(f"- {in_markdown(line)}" for line in bullets),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _each_arm(result: RunResult) -> list[str]:
    """A bullet for each other verdict, its doubts first."""
    bullets = [
        f"- {in_markdown('. '.join(filter(None, line)))}" for line in summary.each_arm(result)
    ]
    return [*bullets, ""] if bullets else []
