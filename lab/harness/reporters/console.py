"""A run on a terminal or in a pipe, and tables of its frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import metrics, techniques, units, view_parts
from lab.endpoints import registry
from lab.harness.reporters import summary
from lab.view_parts import Choice, Note, Numbers, RunData, Slider

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from lab.results import RunResult

MOST_BLOCKS = 60
"""The trend shows the last so many blocks."""
TONES = {"good": "bold green", "bad": "bold red", "warn": "bold yellow", "unsure": "bold yellow"}
PIPE_WIDTH = 160
PLAIN = {"box": None, "pad_edge": False, "padding": (0, 2, 0, 0), "header_style": "dim"}


class ConsoleReporter:
    """the verdict, the percentiles, what it cost, and the headline metric block by block"""

    name = "console"

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self.console = console or Console()

    def report(self, result: RunResult) -> Path | None:
        from rich.table import Table
        from rich.text import Text

        say = self.console.print
        say(Text(summary.title(result), style="bold"), soft_wrap=True)
        say()
        for verdict in result.verdicts[:1]:
            self._verdict(verdict.doubtful, verdict.headline, TONES.get(verdict.tone, "bold"))
            for line in filter(None, (result.prediction, verdict.seen, verdict.detail)):
                self._indented(line, "dim")
        for doubts, headline in summary.each_arm(result):
            self._verdict(doubts, headline)
        for note in result.notes:
            self._indented(note, "dim")
        grid = Table(**PLAIN, show_edge=False)
        for place, column in enumerate(summary.COLUMNS):
            justify = "left" if place < 2 else "right"
            grid.add_column(column, justify=justify, no_wrap=place > 0, overflow="fold")
        rows = summary.table(result)
        for row in rows:
            grid.add_row(*(Text(cell.text, style="" if cell.supported else "dim") for cell in row))
        if not self.console.is_terminal:
            self._widen(grid)
        say("", grid, sep="\n", crop=False)
        if legend := summary.legend(rows):
            say(Text(legend, style="dim"))
        say()
        for line in summary.counts(result):
            say(Text(line))
        if result.why:
            say(Text(f"\n{result.why_title}"))
        for line in result.why:
            say(Text(f"  {line}", style="dim"), soft_wrap=not self.console.is_terminal)
        for line in trend(result):
            say(Text(line))
        for told in own_views(result):
            is_wide = not (isinstance(told, str) or self.console.is_terminal)
            if is_wide:
                self._widen(told)
            say("", told, sep="\n", markup=False, crop=False, soft_wrap=isinstance(told, str))
        return None

    def _widen(self, grid: Table) -> None:
        """A pipe has no edge at which an arm's name would have to break."""
        wide = self.console.options.update(width=PIPE_WIDTH)
        grid.width = self.console.measure(grid, options=wide).maximum

    def _verdict(self, doubts: str, headline: str, style: str = "") -> None:
        if doubts:
            self._indented(doubts, TONES["unsure"])
        self._indented(headline, style)

    def _indented(self, line: str, style: str) -> None:
        from rich.padding import Padding
        from rich.text import Text

        # A pipe gets whole lines, so that grep finds the verdict.
        if self.console.is_terminal:
            self.console.print(Padding(Text(line, style=style), (0, 0, 0, 2)))
        else:
            self.console.print(Text(f"  {line}"), soft_wrap=True)


def trend(result: RunResult) -> list[str]:
    """The headline metric block by block, all arms on one scale: drift and outliers show before any
    statistics."""
    metric, trials = result.headline, result.trials
    if metric not in trials.columns:
        return []
    trials = trials[trials["counts"]]
    blocks = sorted(trials["block"].unique())[-MOST_BLOCKS:]
    series = {}
    for technique, arm in result.arms():
        values = result.of_arm(trials, technique, arm).set_index("block")[metric]
        series[result.name(technique, arm)] = [units.plain(values.get(block)) for block in blocks]
    known = [value for values in series.values() for value in values if value is not None]
    if len(blocks) < 2 or not known:
        return []
    low, high, width = min(known), max(known), max(map(len, series))
    scale = f"from {units.value(metric, low)} to {units.value(metric, high)}"
    return [
        "",
        f"{metrics.words(metric)} by block, {scale}",
        *(f"{name:<{width}}  {sparkline(values, low, high)}" for name, values in series.items()),
    ]


def sparkline(values: Sequence[float | None], low: float, high: float) -> str:
    """One character a value on the scale low … high; a dot where there is none."""
    step = (high - low) / 7 or 1
    return "".join(
        "·" if value is None else "▁▂▃▄▅▆▇█"[round((value - low) / step)] for value in values
    )


def runs_table(results: Sequence[RunResult]) -> Table:
    """A line a run: what was compared, verdict, medians and quality; what `all` ends with."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(**PLAIN, title="All techniques", title_justify="left")
    for column in ("technique", "verdict", "baseline", "arm", "quality"):
        grid.add_column(column, justify="left" if column in ("technique", "verdict") else "right")
    for result in results:
        if not result.headlines:
            grid.add_row(result.run["technique"], result.run["status"], "", "", "")
            continue
        planned, verdict = result.headlines[0], result.verdicts[0]
        quality = result.counted(planned.technique, planned.arm).get("quality")
        grid.add_row(
            result.run["technique"],
            Text(verdict.headline, style=TONES.get(verdict.tone, "")),
            *(units.value(planned.metric, value) for value in planned.at),
            units.percent(quality),
        )
    return grid


def frame_table(frame: pd.DataFrame, title: str) -> Table:
    """Any frame for the console; numbers as they are, to four digits."""
    from rich.table import Table

    grid = Table(**PLAIN, title=title, title_justify="left")
    for name in frame.columns:
        grid.add_column(name, justify="left" if frame[name].dtype.kind in "OUT" else "right")
    for row in frame.itertuples(index=False):
        grid.add_row(*map(_written, row))
    return grid


def own_views(result: RunResult) -> Iterator[str | Table]:
    """The views that the run's technique has for a terminal, those with a table."""
    slug = techniques.slug_of(result.run["technique"])
    for technique in [techniques.find(slug)] if slug else []:
        standard = registry.LIVE_MODELS["large"]
        data = RunData(technique, result.run, result.ask, result.finding, standard)
        for view in technique.views:
            if getattr(view, "in_console", False):
                parts = techniques.draw(data, view)
                yield from told_parts(parts) if any(map(is_table, parts)) else ()


def is_table(part: Any) -> bool:
    return isinstance(part, view_parts.Table)


def told_parts(parts: Iterable[Any]) -> Iterator[str | Table]:
    """A technique's own view without its figures; a slider stands where it begins."""
    for part in parts:
        match part:
            case Slider(words, _, _, value, draw):
                yield f"{words.rstrip('?')}: {value}"
                yield from told_parts(draw(value))
            case Choice(words, options, value, draw):
                yield f"{words} {options[value]}"
                yield from told_parts(draw(value))
            case Numbers(numbers):
                yield from (f"  {number.words}: {number.text}" for number in numbers)
            case Note(text):
                yield text
            case view_parts.Table(rows, columns):
                heads = {name: getattr(column, "words", column) for name, column in columns.items()}
                yield frame_table(rows.rename(columns=heads), part.title)


def _written(value: object) -> str:
    value = units.plain(value)
    if value is None:
        return units.MISSING
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
