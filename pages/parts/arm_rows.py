"""All arms of a run: each one's verdicts in words, and a table of what was measured."""

from collections.abc import Iterable
from html import escape as html
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from lab import metrics, units
from lab.figures import palette
from lab.results import RunResult
from lab.stats import Comparison, Interval, VerdictText
from lab.stats.arms import arm_row
from pages.parts import cached_queries, chart

REACH = 1.0
"""How much more than the baseline an interval is drawn to; less ends at nothing, which is −1."""


def verdicts(run: dict[str, Any]) -> None:
    """Under the card of the planned comparison: every arm against the baseline on its own
    technique's headline and on the metric chosen for all."""
    result = cached_queries.judged(run["run_id"])
    colours = palette.arm_colours(result.places, chart.dark())
    rows = []
    for arm, lines in result.each_arm().items():
        name = result.name(*arm)
        rows.append(
            f"<section><h4>{_swatch(colours[name])}{html(name)}</h4>{_told(lines)}</section>"
        )
    if rows:
        st.html(f'<div class="lab-arms">{"".join(rows)}</div>')


def _told(lines: list[tuple[Comparison, VerdictText]]) -> str:
    """The doubts first, those of every line once for all of them."""
    shared = [
        doubt for doubt in lines[0][1].doubts if all(doubt in told.doubts for _, told in lines)
    ]
    body = "".join(_line(comparison, told, shared) for comparison, told in lines)
    return f"{_doubts(shared)}<dl>{body}</dl>"


def _doubts(doubts: list[str]) -> str:
    if not doubts:
        return ""
    colour = palette.tone_colour("warn", chart.dark())
    return f'<p style="color:{colour}">{html(". ".join(doubts))}.</p>'


def _line(comparison: Comparison, told: VerdictText, shared: list[str]) -> str:
    words = html(metrics.words(comparison.metric))
    lead, colon, rest = told.headline.partition(": ")
    is_plain = told.tone not in ("good", "bad", "warn")
    colour = (
        palette.theme(chart.dark()).muted
        if is_plain
        else palette.tone_colour(told.tone, chart.dark())
    )
    answer = html(told.headline)
    if colon and not is_plain:
        answer = f'<b style="color:{colour}">{html(lead)}</b>{html(colon + rest)}'
    own = _doubts([doubt for doubt in told.doubts if doubt not in shared])
    return f"<dt>{words}</dt><dd>{_drawn(comparison, colour)}</dd><dd>{own}{answer}</dd>"


def _drawn(comparison: Comparison, colour: str) -> str:
    """The interval of the change, on one scale for all arms: from nothing left, by no change in the
    middle, to twice the baseline."""
    if None in (comparison.ratio, comparison.ratio_low, comparison.ratio_high):
        return ""
    ends = (comparison.ratio_low, comparison.ratio, comparison.ratio_high)
    low, middle, high = (50 * min(end, 1 + REACH) for end in ends)
    is_beyond = ' class="beyond"' if comparison.ratio > 1 + REACH else ""
    return (
        '<span class="lab-change" aria-hidden="true">'
        f'<i style="left:{low:.1f}%;width:{max(high - low, 1):.1f}%;background:{colour}"></i>'
        f'<i{is_beyond} style="left:{middle:.1f}%;background:{colour}"></i></span>'
    )


def table(run: dict[str, Any]) -> None:
    """The arms of a run beside each other, each described by itself."""
    result = cached_queries.judged(run["run_id"])
    draw(Row(result, arm) for arm in result.arms())
    st.caption(
        "Medians with their 95 % intervals, each arm by itself; whether two arms differ is told by"
        " their pairs, above."
    )


class Row(NamedTuple):
    """A row of the table: an arm of a run, and what is said of it beside its n."""

    result: RunResult
    arm: tuple[str, str]
    about: str = ""


def draw(rows: Iterable[Row], metric: str = "") -> None:
    """Arms × clocks, tail, cost, quality and cache; the tail is the metric's, the headline's where
    none is named."""
    rows = list(rows)
    metric = metric or rows[0].result.headline
    heads = [
        "Arm",
        *(metrics.words(name).capitalize() for name in metrics.CLOCKS),
        f"p95 of the {metrics.words(metric)}",
        "Cost a trial",
        "Quality",
        "Read from cache",
    ]
    head = "".join(f'<th scope="col">{html(words)}</th>' for words in heads)
    body = "".join(_row(row, metric) for row in rows)
    st.html(
        '<div class="lab-scroll" tabindex="0" role="region" aria-label="Arms beside each other">'
        f'<table class="lab-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
    if "<td>(" in body:
        floor = metrics.needed(metrics.QUANTILES["p95"])
        st.caption(f"In brackets: a p95 that can be relied on takes {floor} trials.")


def _row(row: Row, metric: str) -> str:
    result, arm, about = row
    name = result.name(*arm)
    seen = arm_row(*arm, result.of_arm(_trials(result, metric), *arm), metric)
    colour = palette.arm_colours(result.places, chart.dark())[name]
    p95 = units.value(metric, seen.p95.estimate)
    hits = units.MISSING if seen.hits is None else f"{seen.hits} of {seen.n}"
    medians = seen.medians.items()
    cells = [
        *((units.value(clock, median.estimate), _ends(clock, median)) for clock, median in medians),
        (p95 if seen.carries_p95 or not seen.p95.n else f"({p95})", _ends(metric, seen.p95)),
        (units.usd(seen.cost_usd), ""),
        (units.percent(seen.quality and seen.quality.estimate), _ends("quality", seen.quality)),
        (hits, f"{units.percent(seen.cached_share)} of the prompt" if seen.hits else ""),
    ]
    n = ", ".join(filter(None, (f"n = {seen.n:,}", seen.lost.words)))
    small = html(" · ".join(filter(None, (about, n))))
    first = f'<th scope="row">{_swatch(colour)}{html(name)}<small>{small}</small></th>'
    return f"<tr>{first}{''.join(map(_cell, cells))}</tr>"


def _trials(result: RunResult, metric: str) -> pd.DataFrame:
    """With the metric, which is read only where it is none that every result has."""
    return result.outcomes if metric in result.outcomes else result.trials


def _cell(texts: tuple[str, str]) -> str:
    text, small = map(html, texts)
    return f"<td>{text}{f'<small>{small}</small>' if small else ''}</td>"


def _ends(metric: str, interval: Interval | None) -> str:
    """ "282 … 304 ms": the unit once, where both ends have the same; empty where n carries none."""
    if interval is None or interval.low is None:
        return ""
    low, high = units.value(metric, interval.low), units.value(metric, interval.high)
    number, _, unit = low.rpartition(" ")
    return f"{number if unit and high.endswith(f' {unit}') else low} … {high}"


def _swatch(colour: str) -> str:
    return f'<span class="lab-key" style="background:{colour}"></span>'
