"""A load on a terminal or in a pipe: the answer, its levels, its errors, what is not claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab import load_answer, load_table
from lab.harness.reporters.console import PIPE_WIDTH, PLAIN, TONES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from lab.load_results import LoadResult

WORDS = ("load", "objective", "limit", "error")
"""Columns of words."""


def tell(result: LoadResult, console: Console) -> None:
    from rich.text import Text

    def say(line: str = "", style: str = "") -> None:
        # A pipe gets whole lines, so that grep finds them.
        console.print(Text(line, style=style), soft_wrap=not console.is_terminal)

    told = load_answer.answer(result)
    say(load_answer.title(result), "bold")
    say()
    for doubt in told.doubts:
        say(f"  {doubt}.", TONES["unsure"])
    say(f"  {told.lead}", TONES.get(told.tone, "bold"))
    say(f"  {load_table.counts(result)}", "dim")
    rows = load_table.table(result)
    if rows:
        _print(console, "", rows)
        if legend := load_table.legend(rows):
            say(legend, "dim")
    if errors := load_table.errors(result):
        _print(console, "What failed", errors)
    if told.notes:
        say()
    for note in told.notes:
        say(note, "dim")


def _print(console: Console, title: str, rows: Sequence[load_table.Row]) -> None:
    """Words to the left, numbers to the right; no cell is cut: a terminal that is too narrow breaks
    the line."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(**PLAIN, show_edge=False)
    for name in rows[0]:
        grid.add_column(name, justify="left" if name in WORDS else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*map(Text, row.values()))
    wide = console.options.update(width=2 * PIPE_WIDTH)
    grid.width = console.measure(grid, options=wide).maximum
    console.print(title, grid, sep="\n", crop=False, soft_wrap=True)
