"""What all figures share: the finding as title, rows with their labels above the bars, marks and
axes, the signs of doubt and of an endpoint's kind, pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import endpoint_kinds, metrics
from lab.figures import palette
from lab.figures.long_axis import in_seconds
from lab.model import NOT_TIMED
from lab.scrub import visible
from lab.units import short_id

ROW_PX = 36
WIDTH_PX = 1120
"""What a picture is wide; a page's words break where its own lines end."""
TITLE_CHARS, SUBTITLE_CHARS = 130, 160  # what WIDTH_PX hold at 15 and 13 px
TITLE_PX, SUBTITLE_PX, KEY_PX = 20, 17, 20  # heights of their lines
REASON_PX = 20  # what a reason needs around its lines
GREYED = 0.4  # the opacity of what cannot be trusted
DENSE = 2_000
"""Points of a row, or of a trace, past which it is drawn as how densely they lie: density() along a
row, band() over time."""
SLICES = 120
"""The steps of a density or a band, at most."""
MANY = 400
"""Points from which on a trace is drawn by the graphics card."""
AXIS_PX = 60
"""Left margin of a figure with numbers up its side; known beforehand, so that its title stands
where all others do."""
BAR = {"orientation": "h", "width": 13 / ROW_PX, "offset": -14 / ROW_PX}
MIDDLE = -7.5 / ROW_PX
"""Where a row's marks stand: below its label."""
PAPER = {"xref": "paper", "yref": "paper"}
TOP_LEFT = PAPER | {"xanchor": "left", "yanchor": "top", "align": "left"}
HOVER = "%{hovertext}<extra></extra>"


def safe(text: object) -> str:
    """Data as text, wherever a figure writes it: plotly would make a link or bold letters of tags
    in a name, and a page obey its marks.

    Titles, legends and axis titles pass here in finish(); labels, hovers, notes and ticks where
    they are made.
    """
    return escape(visible(str(text)), quote=False)


def tint(markup: str, colour: str) -> str:
    return f'<span style="color:{palette.as_text(colour)}">{markup}</span>'


def bold(text: object, colour: str | None = None) -> str:
    inner = f"<b>{safe(text)}</b>"
    return tint(inner, colour) if colour else inner


def order(planned: Iterable[str] | None, present: Iterable[str]) -> list[str]:
    """The planned arms that have rows, in the plan's order; where it names none of them, those that
    have rows."""
    seen = list(dict.fromkeys(map(str, present)))
    return [arm for arm in planned or () if arm in seen] or seen


Arms = Mapping[str, int] | Sequence[str]
"""A run's arms in its order, the baseline first: RunResult.places, so that each has its own colour
in whatever run; or names alone, coloured by their order."""


def arm_colours(planned: Arms | None, present: Iterable[str], dark: bool) -> dict[str, str]:
    """The arms of order(), each with its colour: the planned ones keep theirs where some have no
    rows."""
    shown = order(planned, present)
    named = {arm: place for place, arm in enumerate(dict.fromkeys(planned or ()))}
    known = dict(planned) if isinstance(planned, Mapping) else named
    for arm in shown:
        known.setdefault(arm, len(known))
    colours = palette.arm_colours(known, dark)
    return {arm: colours[arm] for arm in shown}


def one_kind(frame: pd.DataFrame) -> str | None:
    """The endpoint kind of a frame's rows. Rows of several kinds are never in one chart:
    ValueError."""
    kinds = frame.get("endpoint_kind", pd.Series(dtype=object)).dropna().unique().tolist()
    if len(kinds) > 1:
        names = ", ".join(sorted(kinds))
        raise ValueError(f"{names} results never share a chart; give one kind at a time.")
    return kinds[0] if kinds else None


def timed(calls: pd.DataFrame) -> pd.DataFrame:
    """What a trial's clock saw: neither primes nor a judge's calls."""
    return calls[~calls["role"].isin(NOT_TIMED)]


def where(frame: pd.DataFrame) -> str:
    """The endpoint and model of a frame's rows in words, with the kind where it must be marked."""
    parts = []
    for column in ("endpoint", "model"):
        # A row of several models names them in one cell.
        cells = frame[column].dropna().unique() if column in frame.columns else ()
        if names := list(dict.fromkeys(name for cell in cells for name in str(cell).split(", "))):
            parts.append(", ".join(names[:3]) + (" …" if len(names) > 3 else ""))
    kind = one_kind(frame)
    if kind and endpoint_kinds.kind(kind).marked and kind not in parts:
        parts.insert(0, kind)
    return " · ".join(parts)


def rows(
    figure: go.Figure,
    labels: Sequence[str],
    colours: Sequence[str | None] | None = None,
    *,
    row_px: int = ROW_PX,
    notes: Sequence[str] | None = None,
) -> int:
    """Row i stands at y = −i: its label above the bar at the left, a note at the right and, where
    it has a colour, a 4 px tab. Returns the plot's height in px."""
    count, written = max(len(labels), 1), []
    for row, label in enumerate(labels):
        place = {"y": -row + 10 / row_px, "xref": "paper", "yref": "y", "yanchor": "middle"}
        written.append(note(label, 0, xanchor="left", **place))
        if notes and notes[row]:
            written.append(note(notes[row], 1, xanchor="right", **place))
        if colours and colours[row]:
            _tab(figure, row, colours[row], row_px)
    figure.layout.annotations = (*figure.layout.annotations, *written)
    figure.update_yaxes(range=[-(count - 1) - 0.5, 0.5], visible=False)
    return count * row_px


def _tab(figure: go.Figure, row: int, colour: str, row_px: int) -> None:
    """Left of a row, in its arm's colour; broken where that colour is another arm's too."""
    pieces = [(17, 8), (5, -4), (-7, -15)] if palette.is_again(colour) else [(17, -15)]
    for top, bottom in pieces:
        figure.add_shape(
            type="rect",
            xref="paper",
            x0=-7,
            x1=-3,
            xanchor=0,
            xsizemode="pixel",
            y0=-row + top / row_px,
            y1=-row + bottom / row_px,
            yref="y",
            fillcolor=colour,
            line_width=0,
        )


def arm_rows(figure: go.Figure, colours: Mapping[str, str], notes: Sequence[str]) -> int:
    """A row an arm, in its colour."""
    labels = [bold(arm, colour) for arm, colour in colours.items()]
    return rows(figure, labels, list(colours.values()), notes=notes)


def zero(figure: go.Figure, dark: bool) -> None:
    """The line between a gain and a loss."""
    figure.add_vline(x=0, line={"color": palette.theme(dark).zero, "width": 1})


def write(
    figure: go.Figure, markup: str, x: float, y: float, colour: str | None = None, **more: Any
) -> None:
    """Words on a figure; what comes from data in them is safe() already."""
    figure.add_annotation(note(markup, x, y, colour, **more))


def note(markup: str, x: float, y: float, colour: str | None = None, **more: Any) -> dict:
    """What `write` writes, for those who have many: with each set of annotations plotly checks
    every one."""
    font = {"font": {"color": colour}} if colour else {}
    return {"text": markup, "x": x, "y": y, "showarrow": False, **font, **more}


def points(
    figure: go.Figure,
    x: Sequence,
    y: Sequence,
    marker: Mapping[str, Any],
    hover: Sequence[str] | None = None,
    ids: Any = None,
    **more: Any,
) -> None:
    """A mark for each row: `hover` is read over it, `ids` are what a click on it gives."""
    draw = figure.add_scattergl if len(x) > MANY else figure.add_scatter
    look = {"mode": "markers", "hovertext": hover, "hovertemplate": HOVER, "customdata": ids}
    draw(x=x, y=y, marker=marker, **(look | more))


def crowd(colour: str, n: int) -> dict[str, Any]:
    """The marker of n points that may cover each other; hollow where another arm has their colour
    too."""
    look = {"color": palette.fade(colour, 0.55 if n > 12 else 0.9), "size": 8 if n < 200 else 5}
    return look | ({"symbol": "circle-open"} if palette.is_again(colour) else {})


def density(
    figure: go.Figure, x: np.ndarray, floor: float, height: float, colour: str, log: bool = False
) -> None:
    """How densely values lie along a row, from `floor` up, the tallest step `height` high."""
    bins = min(SLICES, max(20, int(len(x) ** 0.5)))
    heights, edges = np.histogram(np.log10(x[x > 0]) if log else x, bins=bins)
    middle = (edges[1:] + edges[:-1]) / 2
    middle = 10**middle if log else middle
    line(
        figure,
        [middle[0], *middle, middle[-1]],
        [floor, *(floor + heights / heights.max() * height), floor],
        colour,
        1.5,
        fill="toself",
        fillcolor=palette.fade(colour, 0.25),
    )


def band(figure: go.Figure, x: np.ndarray, y: np.ndarray, colour: str) -> None:
    """Values in the order of x as what 9 of 10 of them are between, slice by slice, with their
    medians as a line."""
    slices = [part for part in np.array_split(np.arange(len(x)), SLICES) if len(part)]
    at = [float(np.median(x[part])) for part in slices]
    low, middle, high = np.array([np.quantile(y[part], [0.05, 0.5, 0.95]) for part in slices]).T
    shape = {"fill": "toself", "fillcolor": palette.fade(colour, 0.25)}
    line(figure, [*at, *at[::-1]], [*low, *high[::-1]], palette.fade(colour, 0.25), 0, **shape)
    line(figure, at, middle, palette.fade(colour, 0.7), 1.5)


def jitter(n: int, spread: float) -> np.ndarray:
    """Offsets by the golden ratio: even, and the same at every redraw."""
    return (np.arange(1, n + 1) * 0.618034 % 1 - 0.5) * spread


def line(
    figure: go.Figure,
    x: Sequence,
    y: Sequence,
    colour: str,
    width: float = 3,
    dash: str | None = None,
    **more: Any,
) -> None:
    """A line that the mouse passes over."""
    look = {"color": colour, "width": width, "dash": dash}
    figure.add_scatter(x=x, y=y, mode="lines", line=look, hoverinfo="skip", **more)


def tick(
    figure: go.Figure,
    x: float,
    row: int,
    colour: str,
    width: float = 3,
    above: float = 1 / ROW_PX,
    below: float = 16 / ROW_PX,
) -> None:
    """An upright mark in a row; `above` and `below` its middle in rows."""
    figure.add_shape(
        type="line",
        x0=x,
        x1=x,
        y0=-row + above,
        y1=-row - below,
        line={"color": colour, "width": width},
    )


def bars(
    figure: go.Figure,
    rows: Iterable[int],
    starts: Sequence[float],
    lengths: Sequence[float],
    colour: str | Sequence[str],
    hover: Sequence[str],
    pattern: str = "",
    **more: Any,
) -> None:
    """A bar below the label of each row, from its start; `pattern` as in palette.HATCHED."""
    figure.add_bar(
        x=lengths,
        base=starts,
        y=[-row for row in rows],
        marker={"color": colour, "line": {"width": 0}, "pattern": {"shape": pattern}},
        hovertext=hover,
        hovertemplate=HOVER,
        **(BAR | more),
    )
    figure.update_layout(barmode="overlay")


def from_zero(figure: go.Figure, side: str = "x", **more: Any) -> None:
    """An axis of numbers, x or y."""
    look = {"rangemode": "tozero", "separatethousands": True, "nticks": 6} | more
    figure.update_layout({f"{side}axis": look})


def whole_steps(most: float) -> dict[str, Any]:
    """Of an axis of whole numbers up to `most`: where they are few each has its tick, since halves
    would be written as whole ones."""
    return {"tickformat": ",d"} | ({"dtick": 1} if most < 6 else {})


def metric_axis(figure: go.Figure, metric: str, *, log: bool = False) -> str:
    """Across, from zero unless a log axis was chosen, and then it says so. Returns its title."""
    from_zero(figure, **({"type": "log", "dtick": 1, "rangemode": None} if log else {}))
    return metrics.unit(metric) + (" (log scale)" if log else "")


def finish(
    figure: go.Figure,
    title: str,
    subtitle: str,
    plot_px: int,
    *,
    dark: bool,
    frame: pd.DataFrame | None = None,
    kind: str | None = None,
    reason: str | None = None,
    x_title: str = "",
    legend: Mapping[str, str] | None = None,
    marks: Mapping[str, str] | None = None,
    left: int = 8,
) -> go.Figure:
    """Margins, height and words. Where a `frame` is given, the subtitle ends with its endpoint, and
    its kind is the figure's `kind`. `legend` maps names to colours, `marks` those of them that are
    no filled squares to "hollow" or "line"; `reason` greys the chart and stands over its rows,
    where it hides none. An axis of ms that passes 10 s is told in seconds.

    Title and subtitle, legend and reason are the figure's first annotations, for its pictures; on a
    page lab/figures/markup.py says the same as text.
    """
    colours = palette.theme(dark)
    x_title, subtitle = in_seconds(figure, x_title, subtitle, up=left == AXIS_PX)
    if frame is not None:
        kind = one_kind(frame)
        subtitle = " · ".join(filter(None, (subtitle, where(frame))))
    subtitle = subtitle.strip(" ·")
    hatched = endpoint_kinds.kind(kind).hatched
    words = _words(title, subtitle, colours.muted)
    if reason:  # the key of what is greyed
        legend = {name: palette.fade(colour, GREYED) for name, colour in (legend or {}).items()}
    keys = _keys(legend or {}, marks or {})
    doubt = textwrap.wrap(reason or "", SUBTITLE_CHARS)
    head_px = words.height + (REASON_PX + SUBTITLE_PX * len(doubt) if doubt else 0)
    top = head_px + 16 + (14 if hatched else 0)
    axis_px = (28 if figure.layout.xaxis.visible is not False else 4) + (22 if x_title else 0)
    bottom = axis_px + (keys.height if legend else 4)
    where_px = {"title": top - 2, "legend": -axis_px - 4, "reason": top - 12 - words.height}
    _write_first(figure, words, keys, doubt, where_px, left, colours)
    figure.update_layout(
        template=palette.template(dark),
        height=top + plot_px + bottom,
        margin={"l": left, "r": 12, "t": top, "b": bottom},
        xaxis_title_text=safe(x_title) or None,
        yaxis_automargin=False,
        showlegend=False,
        meta={
            "title": title,
            "subtitle": subtitle,
            "legend": dict(legend or {}),
            "marks": dict(marks or {}),
            "reason": reason or "",
            "muted": colours.muted,
            "warn": colours.warn,
            "head_px": head_px,
            "key_px": keys.height if legend else 0,
        },
    )
    if hatched:
        _hatch(figure, plot_px, dark)
    if reason:
        _doubt(figure)
    return figure


class _Words(NamedTuple):
    markup: str
    height: int
    """In px."""


def _words(title: str, subtitle: str, muted: str) -> _Words:
    """Title and subtitle as a picture has them."""
    head = textwrap.wrap(title, TITLE_CHARS) or [""]
    sub = textwrap.wrap(subtitle, SUBTITLE_CHARS)
    lines = [f'<b style="font-size:15px">{safe(line)}</b>' for line in head]
    small = f"font-size:13px;color:{muted}"
    lines += [f'<span style="{small}">{safe(line)}</span>' for line in sub]
    return _Words("<br>".join(lines), 4 + TITLE_PX * len(head) + SUBTITLE_PX * len(sub))


def _keys(legend: Mapping[str, str], marks: Mapping[str, str]) -> _Words:
    """Coloured marks with their names, in as few lines as a picture needs: plotly's own legend
    would be a tall list."""
    lines, room = [], 0
    for name, colour in legend.items():
        mark = {"hollow": "□", "line": "━"}.get(marks.get(name), "■")
        key = f'<span style="font-size:18px;color:{colour}">{mark}</span> {safe(name)}'
        if not lines or room < len(name) + 4:
            lines, room = [*lines, key], SUBTITLE_CHARS - len(name)
        else:
            lines[-1] += f"   {key}"
            room -= len(name) + 4
    return _Words("<br>".join(lines), KEY_PX * len(lines) + 6)


def _write_first(
    figure: go.Figure,
    words: _Words,
    keys: _Words,
    doubt: Sequence[str],
    where_px: Mapping[str, float],
    left: int,
    colours: palette.Palette,
) -> None:
    """Title, legend and reason before the annotations that are drawn already; what there is none
    of is not seen. `where_px` is each one's shift up from its corner of the plot."""
    corner = TOP_LEFT | {"xshift": -left}
    # A title of plotly's own is cut off at the top once it has several lines; an annotation is not.
    place = {"yshift": where_px["title"], "font": {"size": 15}, "name": "title"}
    title = note(words.markup, 0, 1, **place, **corner)
    place = {"yshift": where_px["legend"], "name": "legend", "visible": bool(keys.markup)}
    legend = note(keys.markup, 0, 0, colours.muted, **place, **corner)
    # No box: a picture is drawn in another font than it was measured in.
    place = {"yshift": where_px["reason"], "name": "reason", "visible": bool(doubt)}
    look = {"font": {"size": 13, "color": colours.warn}}
    reason = note("<br>".join(map(safe, doubt)), 0, 1, **(corner | place | look))
    figure.layout.annotations = (title, legend, reason, *figure.layout.annotations)


def _hatch(figure: go.Figure, plot_px: int, dark: bool) -> None:
    """The band above the plot that marks what no model made."""
    figure.add_layout_image(
        source=palette.hatch(dark),
        **PAPER,
        x=0,
        y=1 + 14 / plot_px,
        sizex=1,
        sizey=8 / plot_px,
        xanchor="left",
        yanchor="top",
        sizing="fill",
        layer="below",
    )


def _doubt(figure: go.Figure) -> None:
    """Grey what cannot be trusted; names stay as they can be read."""
    for trace in figure.data:
        (trace.marker if "text" in (getattr(trace, "mode", None) or "") else trace).opacity = GREYED
    figure.update_shapes(opacity=GREYED)


def _wrapped(text: str, width: int) -> str:
    return "<br>".join(safe(line) for line in textwrap.wrap(text, width))


def empty(words: str, dark: bool, title: str = "Nothing to draw yet") -> go.Figure:
    """A figure that says what is missing, where a frame has no rows for it."""
    figure = go.Figure()
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    write(figure, _wrapped(words, 48), 0, 0.9, palette.theme(dark).muted, **TOP_LEFT)
    return finish(figure, title, "", 120, dark=dark)


def count(n: int, what: str = "n") -> str:
    return f"{what} = {n:,}"


def trial_words(trial_id: object) -> str:
    return f"trial {short_id(trial_id)}"


def alt(figure: go.Figure) -> str:
    """The figure in words, for those who cannot see it: its finding, and what was measured."""
    words = figure.layout.meta or {}
    return ". ".join(filter(None, (words.get("title"), words.get("subtitle"))))


def title(figure: go.Figure) -> str:
    return (figure.layout.meta or {}).get("title", "")
