"""The rows of all runs as a table: medians over rounds, a row for each figure, a column for each
client, and by how much the lab is ahead of the nearest peer or behind it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from bench.peers.catalogue import CLIENTS, OURS, PEERS

Run = dict[str, Any]


class Figure(NamedTuple):
    """One line of the table. Of all of them less is better."""

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
    Figure("TTFT bias p50 / p95 / p99, ms", quantiles, 2, judged=1),
    Figure("error of a gap, mean / p95, ms", mean_and_p95("gap_error"), 3),
    Figure("error of the mean gap, mean / p95, ms", mean_and_p95("itl_error"), 3),
    Figure("CPU s per 1,000 tokens under load", cpu, 3),
    Figure("CPU s per 1,000 tokens, start and end counted", cpu_all, 3),
    Figure("peak RSS, MB", plain("peak_rss_mb"), 0),
)
ONCE = (
    Figure("command to first request, s", plain("first_request_s"), 1),
    Figure("processes", plain("processes"), 0),
    Figure("installed, MB", plain("install_mb"), 0),
    Figure("packages", plain("package_count"), 0),
)


def text(runs: list[Run]) -> str:
    """All tables, as Markdown."""
    names = [one.name for one in CLIENTS if any(run["client"] == one.name for run in runs)]
    head = ["", *names, "against the best peer"]
    lines = [row(head), row(["---", *["--:"] * len(names), "---"])]
    loads = sorted({run["streams"] for run in runs})
    for figure in PER_LOAD:
        for streams in loads:
            of_load = [run for run in runs if run["streams"] == streams]
            lines.append(line(f"{figure.name}, {streams} streams", figure, of_load, names))
    lines += [line(figure.name, figure, runs, names) for figure in ONCE]
    counts = {streams: max(rounds(runs, streams, name) for name in names) for streams in loads}
    told = ", ".join(f"{count} at {streams}" for streams, count in counts.items())
    return "\n".join([*lines, "", f"Rounds: {told}.", *missing(runs)])


def line(name: str, figure: Figure, runs: list[Run], clients: list[str]) -> str:
    medians = {client: median(figure, runs, client) for client in clients}
    cells = [
        " / ".join(f"{value:,.{figure.digits}f}" for value in values) if values else "–"
        for values in medians.values()
    ]
    judged = {client: values[figure.judged] for client, values in medians.items() if values}
    return row([name, *cells, against(judged)])


def median(figure: Figure, runs: Iterable[Run], client: str) -> tuple[float, ...] | None:
    """Of each value over the rounds; None where a round has none."""
    shown = [figure.values(run) for run in runs if run["client"] == client]
    if not shown or not all(shown):
        return None
    return tuple(statistics.median(values) for values in zip(*shown, strict=True))


def against(judged: dict[str, float]) -> str:
    """The lab's value by the least of the peers': "ahead 4.0 times", or by how much not."""
    peers = [judged[one.name] for one in PEERS if one.name in judged]
    if not peers or OURS.name not in judged:
        return "–"
    ours, best = max(judged[OURS.name], 1e-9), max(min(peers), 1e-9)
    if ours > best:
        return f"**behind {ours / best:,.1f} times**"
    return "even" if ours == best else f"ahead {best / ours:,.1f} times"


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
        f" TTFT bias {shown or '–'} ms, {run['seconds']:.0f} s {run.get('failure', '')}"
    )
