"""A run in a few lines of text: what the console and Markdown tell alike."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab import metrics, units
from lab.metrics import QUANTILES
from lab.stats.verdict import DOUBTFUL, REFUSALS

if TYPE_CHECKING:
    from lab.results import RunResult

COLUMNS = ("arm", "clock", *QUANTILES)
LEGEND = "(+N): a percentile that needs N more trials before it can be relied on."


@dataclass(frozen=True)
class Cell:
    text: str
    supported: bool = True
    """Whether n can carry it."""


def title(result: RunResult) -> str:
    run = result.run
    about = [units.short(run["technique"]), result.provenance, f"run {run['run_id']}"]
    if run["status"] != "finished":
        about.append(run["status"])
    return " · ".join(about)


def each_arm(result: RunResult) -> list[tuple[str, str]]:
    """(doubts, headline) of each verdict beside the planned one; "cached, total time: …" leads
    where the headline itself may not name both.

    Arms share their baseline's doubts: each is said once, before the first verdict that it spoils;
    a later one says that it is doubtful too.
    """
    told, lines = {doubt for verdict in result.verdicts[:1] for doubt in verdict.doubts}, []
    for comparison, text in itertools.chain.from_iterable(result.each_arm().values()):
        lead = f"{comparison.name}, {metrics.words(comparison.metric)}: "
        headline = text.headline
        if not comparison.verdict.startswith(("faster", "slower")):
            headline = f"{lead}{headline}"
        new = [doubt for doubt in text.doubts if doubt not in told]
        told.update(new)
        if text.doubts and not new and comparison.verdict not in REFUSALS:
            headline = f"Doubtful, as above: {headline}"
        lines.append((f"{DOUBTFUL}{'; '.join(new)}" if new else "", headline))
    return lines


def table(result: RunResult) -> list[list[Cell]]:
    """A row of COLUMNS for each arm and clock; a percentile that n cannot carry says how many more
    trials it takes: "2,130 ms (+52)"."""
    rows = []
    for technique, arm in result.arms():
        label = result.name(technique, arm)
        measured = result.metrics(technique, arm)
        for metric in dict.fromkeys((result.headline, *metrics.CLOCKS)):
            values = measured.get(metric)
            if values is None or values["p50"] is None:
                continue
            cells = [_cell(metric, values, quantile) for quantile in QUANTILES]
            rows.append([Cell(label), Cell(metrics.words(metric)), *cells])
            label = ""
        if label:
            nothing = [Cell(units.MISSING)] * len(QUANTILES)
            rows.append([Cell(label), Cell("no finished trial"), *nothing])
    return rows


def _cell(metric: str, values: dict, quantile: str) -> Cell:
    text = units.value(metric, values[quantile])
    if values["supported"][quantile]:
        return Cell(text)
    return Cell(f"{text} (+{metrics.needed(QUANTILES[quantile]) - values['n']})", supported=False)


def legend(rows: list[list[Cell]]) -> str | None:
    """What "(+N)" means, where a row has one."""
    return None if all(cell.supported for row in rows for cell in row) else LEGEND


def counts(result: RunResult) -> list[str]:
    """A line for each arm: trials, failures, quality, price."""
    lines = []
    for technique, arm in result.arms():
        counted = result.counted(technique, arm)
        parts = [f"n = {units.whole(counted.get('n') or 0)}"]
        for name in ("failed", "cancelled", "mismatched"):
            if counted.get(name):
                parts.append(f"{int(counted[name])} {name}")
        if counted.get("quality") is not None:
            parts.append(f"quality {units.percent(counted['quality'])}")
        cost = counted.get("cost_usd")
        parts.append("no price" if cost is None else f"{units.usd(cost)} a trial")
        lines.append(f"{result.name(technique, arm)}: {', '.join(parts)}")
    return lines
