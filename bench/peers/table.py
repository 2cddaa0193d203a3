"""All runs as tables, one for each figure: medians over rounds, a row for each client, a column for
each load, and last how the lab stands beside the best peer: of every figure less is better."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from bench.peers.catalogue import CLIENTS, OURS, PEERS

Run = dict[str, Any]


class Figure(NamedTuple):
    name: str
    values: Callable[[Run], tuple[float, ...] | None]
    """What is shown of one run, None where its client does not tell it."""
    digits: int
    judged: int = 0
    """Which of the values is compared."""


def quantiles(run: Run) -> tuple[float, ...] | None:
    bias = run.get("bias")
    return bias and (bias["p50"], bias["p95"], bias["p99"])


def mean_and_p95(key: str) -> Callable[[Run], tuple[float, ...] | None]:
    return lambda run: run.get(key) and (run[key]["mean"], run[key]["p95"])


def cpu(run: Run) -> tuple[float, ...] | None:
    return (run["cpu_load_s"] / run["tokens"] * 1000,) if run["tokens"] else None


def cpu_all(run: Run) -> tuple[float, ...] | None:
    parts = [run.get(f"cpu_{part}_s") for part in ("start", "load", "end")]
    return None if None in parts else (sum(parts) / run["tokens"] * 1000,)


def plain(*keys: str) -> Callable[[Run], tuple[float, ...] | None]:
    return lambda run: tuple(run[key] for key in keys) if all(key in run for key in keys) else None


PER_LOAD = (
    Figure("TTFT bias, ms: p50 / p95 / p99", quantiles, 2, judged=1),
    Figure("Error of a gap, ms: mean / p95", mean_and_p95("gap_error"), 3),
    Figure("Error of an answer's mean gap, ms: mean / p95", mean_and_p95("itl_error"), 3),
    Figure("CPU seconds per 1,000 tokens under load", cpu, 3),
    Figure("CPU seconds per 1,000 tokens, start and end counted", cpu_all, 3),
    Figure("Peak RSS, MB", plain("peak_rss_mb"), 0),
)
ONCE = (
    Figure("command to first request, s", plain("first_request_s"), 1),
    Figure("processes", plain("processes"), 0),
    Figure("installed, MB", plain("install_mb"), 0),
    Figure("packages", plain("package_count"), 0),
)
AGAINST = "this lab, beside the best peer"


MOST_FOREIGN, MOST_LATE_MS = 0.05, 1.0
"""Of the core's time, and of the server's p95: past these a run says little of its client."""


def is_disturbed(run: Run) -> bool:
    """Whether others worked on either core meanwhile."""
    return run["foreign_share"] > MOST_FOREIGN or run.get("server_late_ms", 0) > MOST_LATE_MS


def text(all_runs: list[Run]) -> str:
    """Every table, as Markdown; runs that were disturbed are left out, and counted."""
    runs = [run for run in all_runs if not is_disturbed(run)]
    names = [one.name for one in CLIENTS if any(run["client"] == one.name for run in runs)]
    loads = sorted({run["streams"] for run in runs})
    at = {streams: [run for run in runs if run["streams"] == streams] for streams in loads}
    parts = []
    for figure in PER_LOAD:
        columns = {f"{streams} streams": (figure, at[streams]) for streams in loads}
        parts.append(f"**{figure.name}**\n\n{table(columns, names)}")
    once = {figure.name: (figure, runs) for figure in ONCE}
    parts.append(f"**Around it**\n\n{table(once, names)}")
    counts = {streams: max(rounds(runs, streams, name) for name in names) for streams in loads}
    told = ", ".join(f"{count} at {streams}" for streams, count in counts.items())
    left_out = len(all_runs) - len(runs)
    words = f" {left_out} runs are left out: others used the cores." if left_out else ""
    return "\n\n".join([*parts, f"Rounds: {told}.{words}", *missing(runs)])


def table(columns: dict[str, tuple[Figure, list[Run]]], names: list[str]) -> str:
    medians = [
        {name: median(figure, runs, name) for name in names} for figure, runs in columns.values()
    ]
    digits = [figure.digits for figure, _ in columns.values()]
    lines = [row(["", *columns]), row(["---", *["--:"] * len(columns)])]
    for name in names:
        cells = [cell(of[name], n) for of, n in zip(medians, digits, strict=True)]
        lines.append(row([name, *cells]))
    places = [figure.judged for figure, _ in columns.values()]
    ends = [against(of, place) for of, place in zip(medians, places, strict=True)]
    return "\n".join([*lines, row([AGAINST, *ends])])


def cell(values: tuple[float, ...] | None, digits: int) -> str:
    return " / ".join(f"{value:,.{digits}f}" for value in values) if values else "–"


def median(figure: Figure, runs: Iterable[Run], client: str) -> tuple[float, ...] | None:
    """Of each value over the rounds; None where a round has none."""
    shown = [figure.values(run) for run in runs if run["client"] == client]
    if not shown or not all(shown):
        return None
    return tuple(statistics.median(values) for values in zip(*shown, strict=True))


def against(medians: dict[str, tuple[float, ...] | None], place: int) -> str:
    """The lab's value beside the least of the peers': "4 × less", or by how much it is not."""
    peers = [values[place] for one in PEERS if (values := medians.get(one.name))]
    ours = medians.get(OURS.name)
    if not peers or not ours:
        return "–"
    mine, best = max(ours[place], 1e-9), max(min(peers), 1e-9)
    if mine > best:
        return f"**{mine / best:.3g} × more**"
    return "the same" if mine == best else f"{best / mine:.3g} × less"


def rounds(runs: list[Run], streams: int, client: str) -> int:
    return sum(run["client"] == client and run["streams"] == streams for run in runs)


def missing(runs: list[Run]) -> list[str]:
    """Which rounds told fewer answers than they were asked for."""
    return [
        f"{run['client']} at {run['streams']} streams told {run['answered']} of"
        f" {run['requests']} answers (exit {run['exit']})."
        for run in runs
        if run["answered"] < run["requests"]
    ]


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def brief(run: Run) -> str:
    """One run, while the bench goes on."""
    shown = " / ".join(f"{value:.2f}" for value in quantiles(run) or ())
    return (
        f"{run['client']}, {run['streams']} streams: {run['answered']} of {run['requests']} told,"
        f" TTFT bias {shown or '–'} ms, {run['seconds']:.0f} s, others took"
        f" {run['foreign_share']:.1%} of the core, the server wrote"
        f" {run.get('server_late_ms', 0):.2f} ms late {run.get('failure', '')}"
    )
