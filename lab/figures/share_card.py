"""A verdict as one picture to be passed on: the sentence, its interval, two bars, and where the
numbers are from."""

from __future__ import annotations

import textwrap

import plotly.graph_objects as go

from lab import endpoint_kinds, metrics
from lab.figures import layout, palette
from lab.stats import Comparison, VerdictText
from lab.stats.verdict import REFUSALS, change
from lab.units import missing, quantile, value

WIDTH_PX, HEIGHT_PX = 600, 315
"""The shape that chats and networks show whole."""
SCALE = 4
"""Of the picture, which is read on larger screens."""
SIDE_PX, BAR_PX, BARS_TOP_PX = 32, 26, 192
SIZES = {"sentence": 22, "small": 11, "bar": 13}
LINE = {"sentence": 38, "small": 92}
"""Characters that a line of each size holds."""


def share_card(
    comparison: Comparison,
    verdict: VerdictText,
    about: str,
    colours: tuple[str, str],
    *,
    kind: str | None = None,
    dark: bool = False,
) -> go.Figure:
    """What the planned comparison compares, medians or a percentile, in the `colours` of baseline
    and arm, under its verdict; `about` is the run's provenance. Greyed with the reason where the
    verdict has one, hatched where no model ran."""
    look = palette.theme(dark)
    figure = go.Figure(layout={"template": palette.template(dark)})
    title = f"{verdict.title[:1].upper()}{verdict.title[1:]}"
    y = _write(figure, [about], 20, "small", look.muted)
    y = _write(figure, textwrap.wrap(title, LINE["sentence"])[:3], y + 8, "sentence", look.ink)
    reason = textwrap.wrap(verdict.reason or "", LINE["small"])[:2]
    y = _write(figure, reason, y + 8, "small", look.warn)
    if comparison.verdict not in REFUSALS:
        numbers = change(comparison)
        tone = palette.tone_colour(verdict.tone, dark)
        y = _write(figure, textwrap.wrap(numbers, LINE["small"])[:2], y, "small", tone)
        # Speed never stands alone; where a reason greys it, that takes the place.
        quality = "" if verdict.reason else verdict.quality
        _write(figure, [quality], y, "small", look.muted)
    _bars(figure, comparison, colours, kind, bool(verdict.reason))
    which = "Median" if comparison.quantile is None else quantile(comparison.quantile)
    words = metrics.words(comparison.metric)
    foot = f"{which} {words} · n = {comparison.n} · LLM Latency Lab"
    _write(figure, [foot], HEIGHT_PX - 28, "small", look.muted)
    axis = {"visible": False, "fixedrange": True}
    return figure.update_layout(
        width=WIDTH_PX,
        height=HEIGHT_PX,
        margin={"l": 0, "r": 0, "t": 0, "b": 0, "pad": 0},
        xaxis=axis | {"range": [0, WIDTH_PX]},
        yaxis=axis | {"range": [HEIGHT_PX, 0]},
        paper_bgcolor=look.ground,
        plot_bgcolor=look.ground,
        showlegend=False,
        meta={"alt": f"{verdict.headline}. {about}"},
    )


def _bars(
    figure: go.Figure,
    comparison: Comparison,
    colours: tuple[str, str],
    kind: str | None,
    greyed: bool,
) -> None:
    longest = max((each for each in comparison.at if not missing(each)), default=0) or 1
    names = (comparison.baseline_name, comparison.name)
    for row, (name, at, colour) in enumerate(zip(names, comparison.at, colours, strict=True)):
        y = BARS_TOP_PX + row * 52
        words = f"{layout.bold(name, colour)}  {value(comparison.metric, at)}"
        place = {
            "xanchor": "left",
            "yanchor": "bottom",
            "align": "left",
            "font": {"size": SIZES["bar"]},
        }
        layout.write(figure, words, SIDE_PX, y, **place)
        if missing(at):
            continue
        pattern = {"shape": "/", "size": 6} if endpoint_kinds.kind(kind).hatched else {}
        figure.add_bar(
            x=[(WIDTH_PX - 2 * SIDE_PX) * at / longest],
            base=[SIDE_PX],
            y=[y + BAR_PX / 2],
            width=BAR_PX - 4,
            orientation="h",
            marker={"color": colour, "pattern": pattern, "line": {"width": 0}},
            opacity=0.3 if greyed else 1,
            hoverinfo="skip",
        )


def _write(figure: go.Figure, lines: list[str], y: float, size: str, colour: str) -> float:
    """Lines of text from y down, in px; where they end."""
    points = SIZES[size]
    for line in lines:
        words = f"<b>{layout.safe(line)}</b>" if size == "sentence" else layout.safe(line)
        place = {"xanchor": "left", "yanchor": "top", "align": "left"}
        layout.write(figure, words, SIDE_PX, y, **place, font={"size": points, "color": colour})
        y += round(1.25 * points)
    return y
