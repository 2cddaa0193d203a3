"""What a run found, told four ways. A reporter is one method, `report(result)`, that answers with what it wrote, if it wrote a file.

Reporters get frames and judged comparisons; they read no database and start no run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lab import metrics, units
from lab.scrub import UNSEEN

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

VERSION = 1
"""The version of the JSON object; it grows when a field changes its meaning or goes, not when one is added."""

MOST_BLOCKS = 60
"""The console's trend shows the last so many blocks."""
LEGEND = "(+N): a percentile that needs N more trials before it can be relied on."
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
SHOWN = ("wait_ms", "ttft_ms", "total_ms")
COMPARISON = (
    "metric",
    "technique",
    "arm",
    "baseline",
    "estimate_ms",
    "low_ms",
    "high_ms",
    "ratio",
    "ratio_low",
    "ratio_high",
    "n",
    "verdict",
    "needed_blocks",
    "reasons",
)
TONES = {"good": "bold green", "bad": "bold red", "warn": "bold yellow", "unsure": "bold yellow"}


@dataclass(frozen=True)
class RunResult:
    """A stored run as its reporters see it; lab.results.read() makes one."""

    run: Mapping[str, Any]
    """The row of `runs`, JSON fields as dicts."""
    summary: pd.DataFrame
    """View arm_summary: a row for each arm and metric."""
    counts: pd.DataFrame
    """View arm_counts: a row for each arm."""
    trials: pd.DataFrame
    """View trial_metrics."""
    pairs: pd.DataFrame
    """View pair_differences."""
    calls: pd.DataFrame
    """View call_metrics, of each arm's median trial."""
    comparisons: Sequence[Any] = ()
    """lab.stats.Comparison, the planned one first."""
    words: Sequence[Any] = ()
    """lab.stats.VerdictText for each comparison on the headline metric, the planned one first."""
    notes: Sequence[str] = ()
    """What this endpoint cannot show, and what it did to the figures."""
    why: Sequence[str] = ()
    """In words: where the difference in total time comes from, what failed, and what that does to the tail."""

    @property
    def headline(self) -> str:
        return self.run["settings"].get("headline", {}).get("metric", "wait_ms")

    def arms(self) -> list[tuple[str, str]]:
        """(technique, arm) in the run's own order, the baseline first; arms that finished nothing are there too."""
        planned = [(arm["technique"], arm["arm"]) for arm in self.run["settings"].get("arms", [])]
        found = list(self.counts[["technique", "arm"]].itertuples(index=False, name=None))
        return planned + [arm for arm in found if arm not in planned]

    def name(self, technique: str, arm: str) -> str:
        """An arm needs its technique's name only where a run mixes techniques."""
        return arm if technique == self.run["technique"] else f"{technique}.{arm}"

    def counted(self, technique: str, arm: str) -> dict[str, Any]:
        rows = self.counts[(self.counts.technique == technique) & (self.counts.arm == arm)]
        return {} if rows.empty else {name: _plain(value) for name, value in rows.iloc[0].items()}

    def metrics(self, technique: str, arm: str) -> dict[str, dict[str, Any]]:
        """Each metric's p50, p95, p99, mean and n, None where there is no value, and how far n carries each percentile."""
        from lab.stats import supported

        rows = self.summary[(self.summary.technique == technique) & (self.summary.arm == arm)]
        found = {}
        for row in rows.to_dict("records"):
            n = int(_plain(row["n"]) or 0)
            values = {name: _plain(row[name]) for name in ("p50", "p95", "p99", "mean")}
            found[row["metric"]] = values | {
                "n": n,
                "supported": {name: bool(supported(n, q)) for name, q in QUANTILES.items()},
            }
        return found


class Reporter(Protocol):
    def report(self, result: RunResult) -> Path | None: ...


def as_object(result: RunResult) -> dict[str, Any]:
    """The object that `--json` prints; docs/result-format.md says what each field means."""
    from lab.stats import failures

    run, kinds, arms = result.run, failures(result.trials), []
    for technique, arm in result.arms():
        counted = result.counted(technique, arm)
        own = kinds[(kinds.technique == technique) & (kinds.arm == arm)]
        arms.append(
            {
                "technique": technique,
                "arm": arm,
                **{
                    name: int(counted.get(name) or 0)
                    for name in ("n", "failed", "cancelled", "mismatched")
                },
                "failures": dict(zip(own["error_kind"], map(int, own["n"]), strict=True)),
                "quality": counted.get("quality"),
                "cost_usd": counted.get("cost_usd"),
                "metrics": result.metrics(technique, arm),
            }
        )
    return {
        "version": VERSION,
        **{
            name: run[name]
            for name in (
                "run_id",
                "technique",
                "endpoint",
                "endpoint_kind",
                "status",
                "models",
                "seed",
                "settings",
            )
        },
        "started_utc": units.iso(run["started_utc"]),
        "imported_from": run.get("imported_from"),
        "verdict": _words(result.words[0]) if result.words else None,
        "arms": arms,
        "why": list(result.why),
        "notes": list(result.notes),
        "comparisons": [
            {name: _plain(getattr(one, name.removesuffix("_ms"))) for name in COMPARISON}
            for one in result.comparisons
        ],
    }


def as_text(found: Mapping[str, Any]) -> str:
    """One line of strict JSON: null for NaN and the infinities, and an escape for what a terminal would obey."""
    text = json.dumps(_finite(found), ensure_ascii=False, allow_nan=False, default=str)
    return UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else _plain(value)


class JSONReporter:
    """Writes RUN_ID.json, or prints to stdout where no folder is given."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder

    def report(self, result: RunResult) -> Path | None:
        text = as_text(as_object(result))
        if self.folder is None:
            print(text)
            return None
        return _write(self.folder / f"{result.run['run_id']}.json", text + "\n")


class MarkdownReporter:
    """Writes RUN_ID.md: the verdict and one table, for a pull request or a chat."""

    def __init__(self, folder: Path):
        self.folder = folder

    def report(self, result: RunResult) -> Path | None:
        return _write(self.folder / f"{result.run['run_id']}.md", markdown(result))


def markdown(result: RunResult) -> str:
    lines = [f"### {units.in_markdown(title(result))}", ""]
    lines += [f"{words.markdown}\n" for words in result.words[:1]]
    rows = [[cell.text for cell in row] for row in table(result)]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|---|---|" + "--:|" * (len(COLUMNS) - 2)]
    lines += ["| " + " | ".join(map(units.in_markdown, row)) + " |" for row in rows]
    if any(not cell.supported for row in table(result) for cell in row):
        lines += ["", LEGEND]
    lines += [
        "",
        *(f"- {units.in_markdown(line)}" for line in [*counts(result), *result.why, *result.notes]),
    ]
    return "\n".join(lines).rstrip() + "\n"


class ConsoleReporter:
    """The verdict first, then the table, then what it cost and where the rows are."""

    def __init__(self, console: Console | None = None):
        from rich.console import Console

        self.console = console or Console()

    def report(self, result: RunResult) -> Path | None:
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        say = self.console.print

        def indented(line: str, style: str) -> None:
            # A pipe gets whole lines, so that grep finds the verdict.
            if self.console.is_terminal:
                say(Padding(Text(line, style=style), (0, 0, 0, 2)))
            else:
                say(Text(f"  {line}"), soft_wrap=True)

        say(Text(title(result), style="bold"), soft_wrap=True)
        say()
        for place, words in enumerate(result.words):
            indented(words.headline, TONES.get(words.tone, "bold") if place == 0 else "")
            for line in (words.seen, words.detail) if place == 0 else ():
                if line:
                    indented(line, "dim")
        for note in result.notes:
            indented(note, "dim")
        grid = Table(
            box=None, pad_edge=False, padding=(1, 2, 0, 0), show_edge=False, header_style="dim"
        )
        for place, column in enumerate(COLUMNS):
            grid.add_column(column, justify="left" if place < 2 else "right", no_wrap=place > 0)
        grid.padding = (0, 2, 0, 0)
        for row in table(result):
            grid.add_row(*(Text(cell.text, style="" if cell.supported else "dim") for cell in row))
        say("", grid, sep="\n")
        if any(not cell.supported for row in table(result) for cell in row):
            say(Text(LEGEND, style="dim"))
        say()
        for line in counts(result):
            say(Text(line))
        if result.why:
            say(Text("\nWhere the difference comes from"))
        for line in result.why:
            say(Text(f"  {line}", style="dim"), soft_wrap=not self.console.is_terminal)
        for line in trend(result):
            say(Text(line))
        return None


COLUMNS = ("arm", "clock", "p50", "p95", "p99")


@dataclass(frozen=True)
class Cell:
    text: str
    supported: bool = True


def table(result: RunResult) -> Iterator[list[Cell]]:
    """A row for each arm and clock; a percentile that n cannot carry says how many more trials it takes: "2,130 ms (+52)"."""
    from lab.stats import needed

    for technique, arm in result.arms():
        label = result.name(technique, arm)
        measured = result.metrics(technique, arm)
        for metric in dict.fromkeys((result.headline, *SHOWN)):
            if metric not in measured or measured[metric]["p50"] is None:
                continue
            found, cells = measured[metric], []
            for name, q in QUANTILES.items():
                text = units.value(metric, found[name])
                carried = found["supported"][name]
                cells.append(
                    Cell(text if carried else f"{text} (+{needed(q) - found['n']})", carried)
                )
            yield [Cell(label), Cell(metrics.words(metric)), *cells]
            label = ""
        if label:
            yield [
                Cell(label),
                Cell("no finished trial"),
                *(Cell(units.MISSING) for _ in QUANTILES),
            ]


def title(result: RunResult) -> str:
    run = result.run
    models = ", ".join(dict.fromkeys(run["models"].values()))
    state = "" if run["status"] == "finished" else f" · {run['status']}"
    origin = f" · {units.origin(run)}" if run.get("imported_from") else ""
    about = " · ".join(units.short(text) for text in (run["technique"], run["endpoint"], models))
    return f"{about} · run {run['run_id']}{state}{origin}"


def counts(result: RunResult) -> list[str]:
    """A line for each arm: trials, failures, quality, price."""
    lines = []
    for technique, arm in result.arms():
        counted = result.counted(technique, arm)
        parts = [f"n = {units.whole(counted.get('n') or 0)}"]
        parts += [
            f"{int(counted[name])} {name}"
            for name in ("failed", "cancelled", "mismatched")
            if counted.get(name)
        ]
        if (quality := counted.get("quality")) is not None:
            parts.append(f"quality {units.percent(quality)}")
        parts.append(
            f"{units.usd(counted.get('cost_usd'))} a trial"
            if counted.get("cost_usd") is not None
            else "no price"
        )
        lines.append(f"{result.name(technique, arm)}: {', '.join(parts)}")
    return lines


def summary_table(results: Sequence[RunResult]):
    """A line a run: what was compared, the verdict, the medians, quality and price; what `all` ends with."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
        title="All techniques",
        title_justify="left",
    )
    for column, justify in (
        ("technique", "left"),
        ("verdict", "left"),
        ("baseline", "right"),
        ("arm", "right"),
        ("quality", "right"),
    ):
        grid.add_column(column, justify=justify)
    for result in results:
        if not result.comparisons:
            grid.add_row(result.run["technique"], result.run["status"], "", "", "")
            continue
        one, words = result.comparisons[0], result.words[0]
        quality = result.counted(one.technique, one.arm).get("quality")
        values = [units.value(one.metric, value) for value in (one.baseline_p50, one.p50)]
        grid.add_row(
            result.run["technique"],
            Text(words.headline, style=TONES.get(words.tone, "")),
            *values,
            units.percent(quality),
        )
    return grid


def frame_table(frame: pd.DataFrame, title: str):
    """Any frame for the console; numbers as they are, to four digits."""
    from rich.table import Table

    grid = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
        title=title,
        title_justify="left",
    )
    for name in frame.columns:
        grid.add_column(name, justify="left" if frame[name].dtype.kind in "OUT" else "right")
    for row in frame.itertuples(index=False):
        cells = (_plain(value) for value in row)
        grid.add_row(
            *(
                units.MISSING
                if cell is None
                else f"{cell:,.4g}"
                if isinstance(cell, float)
                else str(cell)
                for cell in cells
            )
        )
    return grid


def trend(result: RunResult) -> list[str]:
    """The headline metric block by block, all arms on one scale: drift and outliers show before any statistics."""
    metric = result.headline
    good = result.trials
    if good.empty or metric not in good.columns:
        return []
    good = good[(good.phase == "measured") & (good.outcome == "ok")]
    blocks = sorted(good.block.unique())[-MOST_BLOCKS:]
    series = {}
    for technique, arm in result.arms():
        rows = (
            good[(good.technique == technique) & (good.arm == arm)]
            .drop_duplicates("block", keep="last")
            .set_index("block")[metric]
        )
        series[result.name(technique, arm)] = [_plain(rows.get(block)) for block in blocks]
    known = [value for values in series.values() for value in values if value is not None]
    if len(blocks) < 2 or not known:
        return []
    width = max(map(len, series))
    lines = [
        f"{name:<{width}}  {sparkline(values, min(known), max(known))}"
        for name, values in series.items()
    ]
    return [
        "",
        f"{metrics.words(metric)} by block, from {units.value(metric, min(known))} to {units.value(metric, max(known))}",
        *lines,
    ]


def sparkline(values: Sequence[float | None], low: float, high: float) -> str:
    """One character a value on the scale low … high; a dot where there is none."""
    step = (high - low) / 7 or 1
    return "".join(
        "·" if value is None else "▁▂▃▄▅▆▇█"[round((value - low) / step)] for value in values
    )


def _words(words: Any) -> dict[str, Any]:
    fields = asdict(words) if is_dataclass(words) else words._asdict()
    return {name: fields[name] for name in ("headline", "seen", "detail", "tone") if name in fields}


def _plain(value: Any) -> Any:
    """A value as JSON knows it: numpy and pandas scalars unwrapped, NaN and NA as None."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "item"):
        value = value.item()
    if units.missing(value) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
