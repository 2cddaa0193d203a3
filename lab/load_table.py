"""A load in numbers: its levels as a table, its errors, and both as Markdown, for page, console and
report alike."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab import metrics, settings, units
from lab.load.load_settings import LoadConfig
from lab.load_answer import answer, title
from lab.model import LOAD
from lab.paths import COMMAND

if TYPE_CHECKING:
    from lab.load_levels import LevelResult
    from lab.load_results import LoadResult

KEPT = {True: "kept", False: "not kept", None: "cannot be told"}
Row = dict[str, str]
"""A table's row by the heads of its columns."""


def counts(result: LoadResult) -> str:
    """ "448 calls, 2 failed · 28,672 output tokens · $0.12"."""
    calls = sum(level.n for level in result.levels)
    failed = sum(level.failed for level in result.levels)
    parts = [units.counted(calls, "call") + (f", {failed:,} failed" if failed else "")]
    parts.append(f"{units.whole(result.sum_tokens)} output tokens")
    if result.cost_usd is not None:
        parts.append(units.usd(result.cost_usd))
    return " · ".join(parts)


def listed(run: Mapping[str, Any]) -> str:
    """Of a row of queries.loads, for a list: "7 levels, 700 calls, 10 failed". What came of it
    would have to be read from its calls."""
    parts = [units.counted(run["levels"], "level"), units.counted(run["calls"], "call")]
    parts += [f"{units.whole(run['failed'])} failed"] if run["failed"] else []
    return ", ".join(parts if run["status"] == "finished" else [*parts, run["status"]])


def table(result: LoadResult) -> list[Row]:
    """A row a level, by load. A percentile in brackets needs more calls before it can be relied on;
    a column in which nothing is known is left out."""
    rows = [_row(result, level) for level in result.in_order]
    empty = (units.MISSING, "", "0")
    names = list(rows[0]) if rows else []
    known = [name for name in names if any(row[name] not in empty for row in rows)]
    shown = [name for name in names if name in known or name == "failed"]
    return [{name: row[name] for name in shown} for row in rows]


def _row(result: LoadResult, level: LevelResult) -> Row:
    row = {
        "load": level.label,
        "objective": KEPT[level.tried.is_kept] if level.held else "",
        "limit": "client" if level.client_limit else "knee" if level.is_knee else "",
        "n": f"{level.n:,}",
        "failed": f"{level.failed:,}",
        "requests/s": units.number(level.requests_per_s),
        "tokens/s": units.number(level.tokens_per_s),
        "goodput/s": units.number(level.goodput_per_s),
    }
    clocks = [("TTFT", "ttft_ms", "p50"), ("TTFT", "ttft_ms", "p95"), ("TTFT", "ttft_ms", "p99")]
    if result.is_open:
        clocks += [
            ("due to first token", "scheduled_ttft_ms", "p95"),
            ("scheduled latency", "scheduled_latency_ms", "p95"),
            ("dispatch delay", "dispatch_delay_ms", "p95"),
        ]
    clocks += [
        ("second token", "second_token_ms", "p50"),
        ("gap", "gap_ms", "p50"),
        ("gap", "gap_ms", "p95"),
        ("total", "total_ms", "p50"),
        ("total", "total_ms", "p95"),
        ("tokens/s a stream", "tokens_per_s", "p50"),
    ]
    row |= {f"{words} {quantile}": _cell(level, name, quantile) for words, name, quantile in clocks}
    return row


def _cell(level: LevelResult, metric: str, quantile: str) -> str:
    text = units.value(metric, level.time(metric, quantile))
    is_carried = text == units.MISSING or level.supported(metric, quantile)
    return text if is_carried else f"({text})"


ANSWERED = "Times are of the calls that were answered."
LEGEND = (
    f"In brackets: more calls are needed before this percentile can be relied on (p95 from"
    f" {metrics.needed(0.95)}, p99 from {metrics.needed(0.99)})."
)


def legend(rows: Sequence[Row]) -> str:
    has_few = any(text.startswith("(") for row in rows for text in row.values())
    return f"{ANSWERED} {LEGEND}" if has_few else ANSWERED


def markdown(result: LoadResult) -> str:
    """The answer and its table for a pull request; what a user wrote in it is no more than text."""
    told, rows = answer(result), table(result)
    lines = [f"### {units.in_markdown(title(result))}", ""]
    lines += [f"{units.in_markdown(doubt)}." for doubt in told.doubts]
    lines += [f"**{units.in_markdown(told.lead)}**", "", counts(result), ""]
    if rows:
        lines.append("| " + " | ".join(rows[0]) + " |")
        lines.append("|---|" + "--:|" * (len(rows[0]) - 1))
        lines += ["| " + " | ".join(map(units.in_markdown, row.values())) + " |" for row in rows]
        lines += ["", *filter(None, [legend(rows)])]
    lines += [f"- {units.in_markdown(note)}" for note in told.notes]
    return "\n".join(lines).rstrip() + "\n"


def errors(result: LoadResult) -> list[Row]:
    """A row for each kind of error at each level, the most frequent first."""
    return [
        {
            "load": level.label,
            "error": kind,
            "calls": f"{n:,}",
            "share": units.percent(n / level.n),
        }
        for level in result.in_order
        for kind, n in sorted(level.errors.items(), key=lambda item: -item[1])
    ]


def command(result: LoadResult) -> str:
    """The command line that puts the same load on again."""
    parts = [COMMAND, LOAD]
    for name, setting in settings.of(LoadConfig).items():
        value = result.config.get(name)
        if setting.flag is None or value in (None, setting.default, [], {}):
            continue
        if isinstance(value, bool):
            parts.append(setting.option if value else setting.option.replace("--", "--no-", 1))
        elif isinstance(value, dict):
            for model in dict.fromkeys(value.values()):
                parts += [setting.option, shlex.quote(str(model))]
        elif setting.flag.repeated:
            for each in value:
                parts += [setting.option, shlex.quote(str(each))]
        else:
            many = isinstance(value, list | tuple)
            text = ",".join(f"{each:g}" for each in value) if many else str(value)
            parts += [setting.option, shlex.quote(text)]
    return " ".join(parts)
