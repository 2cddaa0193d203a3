"""A load drawn: what page and report show of it, with titles that say what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from lab import metrics, units
from lab.figures import load_by_level, load_curve, load_over_time
from lab.load.slo import CANCELLED

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from lab.load_levels import LevelResult
    from lab.load_results import LoadResult

SPACIOUS, BEHIND = 3, 0.9


def curve(
    result: LoadResult, dark: bool = False, across: str = "requests_per_s"
) -> go.Figure | None:
    """None where fewer than two levels have an answered call."""
    rows = [
        {
            "label": level.label,
            "target": level.target,
            "n": level.times[result.metric]["n"],
            "p50": level.time(result.metric, "p50"),
            "p95": level.time(result.metric, "p95"),
            "requests_per_s": level.requests_per_s,
            "tokens_per_s": level.tokens_per_s,
            "is_client_limited": bool(level.client_limit),
            "is_knee": level.is_knee,
        }
        for level in result.in_order
    ]
    levels = pd.DataFrame(rows).dropna(subset=["p50"]) if rows else pd.DataFrame()
    if len(levels) < 2:
        return None
    limits = {
        asked.percentile: asked.limit
        for asked in result.objectives
        if asked.judged(result.mode) == result.metric
    }
    return load_curve.curve(
        _placed(result, levels),
        result.metric,
        dark,
        title=_curve_title(result),
        across=across,
        limits=limits,
    )


def _curve_title(result: LoadResult) -> str:
    knee = next((level for level in result.in_order if level.is_knee), None)
    if knee:
        rate = units.number(knee.requests_per_s)
        return f"Beyond {knee.label} throughput grows no more: about {rate} requests a second"
    levels = [level for level in result.in_order if level.requests_per_s]
    behind = next((level for level in levels if _is_behind(result, level)), None)
    if behind:
        rate = units.number(behind.requests_per_s)
        return f"At {behind.label} only {rate} are answered"
    last = levels[-1] if levels else None
    most = f": {units.number(last.requests_per_s)} requests a second" if last else ""
    return f"Throughput grows up to {last.label if last else 'the end'}{most}"


def _is_behind(result: LoadResult, level: LevelResult) -> bool:
    """Open loop: they were answered more slowly than they were due, or many failed."""
    if level.mode != "open":
        return False
    calls = _ended(result)
    calls = calls[(calls["level"] == level.number) & calls["error_kind"].isna()]
    ended_s = calls["due_s"] + calls["scheduled_latency_ms"] / 1e3
    # Of the middle ones, as the level's own rate: that of the last is not the server's pace.
    due, took = (at.quantile(0.9) - at.quantile(0.1) for at in (calls["due_s"], ended_s))
    return (1 - level.failed_share) * due < BEHIND * took


def over_time(result: LoadResult, dark: bool = False) -> go.Figure:
    calls = _ended(result)
    # A level is named by its load alone where several stand beside each other.
    levels = [level for level in result.levels if level.n]
    short = len(levels) > SPACIOUS
    begins = [
        (
            f"{level.target:g}" if short else level.label,
            float(calls.loc[calls["level"] == level.number, "due_s"].min()),
        )
        for level in levels
    ]
    return load_over_time.over_time(
        _placed(result, calls), dark, title=_time_title(result), begins=begins
    )


def _time_title(result: LoadResult) -> str:
    """Whether the queue grew: the last tenth of the longest level against its first tenth."""
    levels = [level for level in result.levels if level.n]
    if not levels:
        return "The load in time"
    last = max(levels, key=lambda level: (level.target, level.number))
    calls = _ended(result)
    calls = calls[(calls["level"] == last.number) & calls["error_kind"].isna()].sort_values("due_s")
    tenth = max(1, len(calls) // 10)
    ends = [part["scheduled_latency_ms"].median() for part in (calls[:tenth], calls[-tenth:])]
    first, now = units.values("scheduled_latency_ms", *ends)
    where = f" at {last.label}" if len(levels) > 1 else ""
    return f"Scheduled latency{where}: {first} at the beginning, {now} at the end"


def by_level(result: LoadResult, metric: str, dark: bool = False, log: bool = False) -> go.Figure:
    order = {level.number: at for at, level in enumerate(result.in_order)}
    calls = _ended(result)
    calls = calls[calls["level"].isin(order)]
    calls = calls.sort_values("level", key=lambda numbers: numbers.map(order), kind="stable")
    title = metrics.words(metric).capitalize()
    last = next((level for level in reversed(result.in_order) if level.n), None)
    if last:
        at = load_by_level.reached(calls.loc[calls["level"] == last.number, metric])
        p95 = "is never reached" if at is None else f"is {units.value(metric, at)}"
        title += f": p95 {p95} at {last.label}"
    return load_by_level.by_level(_placed(result, calls), metric, dark, title=title, log=log)


def _ended(result: LoadResult) -> pd.DataFrame:
    """Without the calls that the load itself gave up: they say nothing of the server."""
    return result.calls[result.calls["error_kind"].ne(CANCELLED)]


def _placed(result: LoadResult, rows: pd.DataFrame) -> pd.DataFrame:
    """With what says where they come from."""
    run = result.run
    model = ", ".join(dict.fromkeys(run["models"].values()))
    about = {"endpoint": run["endpoint"], "endpoint_kind": run["endpoint_kind"], "model": model}
    return rows.assign(**about)
