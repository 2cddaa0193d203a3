"""What all figures share: the finding as title, rows with their labels above the bars, the marks of doubt and simulation, pictures."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import palette
from lab.scrub import visible
from lab.units import short_id

ROW_PX = 36
TITLE_CHARS, SUBTITLE_CHARS = 50, 62  # what a 420 px wide window holds at 15 and 13 px
DENSE = 2_000
AXIS_PX = 60
"""Left margin of a figure with numbers up its side; known beforehand, so that its title stands where all others do."""


def safe(text: object) -> str:
    """Data as text, wherever a figure writes it: plotly would make a link or bold letters of tags in a name, and a page obey its marks.

    Titles, legends and axis titles pass here in finish(); labels, hovers, notes and ticks where they are made.
    """
    return escape(visible(str(text)), quote=False)


def bold(text: object, colour: str | None = None) -> str:
    inner = f"<b>{safe(text)}</b>"
    return f'<span style="color:{colour}">{inner}</span>' if colour else inner


def order(planned: Sequence[str] | None, present: Iterable[str]) -> list[str]:
    """The planned arms that have rows, in the plan's order; where it names none of them, those that have rows."""
    seen = list(dict.fromkeys(map(str, present)))
    return [arm for arm in planned or () if arm in seen] or seen


def one_kind(frame: pd.DataFrame) -> str | None:
    """The endpoint kind of a frame's rows. Live, local and simulated rows are never in one chart: ValueError."""
    if "endpoint_kind" not in frame.columns:
        return None
    kinds = frame["endpoint_kind"].dropna().unique().tolist()
    if len(kinds) > 1:
        raise ValueError(
            f"{', '.join(sorted(kinds))} results never share a chart; give one kind at a time."
        )
    return kinds[0] if kinds else None


def where(frame: pd.DataFrame) -> str:
    """The endpoint and model of a frame's rows in words, with the kind where it is not live."""
    parts = []
    for column in ("endpoint", "model"):
        # A row of several models names them in one cell.
        given = frame[column].dropna().unique() if column in frame.columns else ()
        if names := list(dict.fromkeys(name for cell in given for name in str(cell).split(", "))):
            parts.append(", ".join(names[:3]) + (" …" if len(names) > 3 else ""))
    kind = one_kind(frame)
    if kind in ("local", "simulated") and kind not in parts:
        parts.insert(0, kind)
    return " · ".join(parts)


def rows(
    figure: go.Figure,
    labels: list[str],
    colours: list[str | None],
    *,
    row_px: int = ROW_PX,
    notes: list[str] | None = None,
) -> int:
    """Row i stands at y = −i: a 4 px tab, its label above the bar at the left, a note at the right. Returns the plot's height in px."""
    count = max(len(labels), 1)
    share = 1 / row_px
    for index, label in enumerate(labels):
        figure.add_annotation(
            x=0,
            xref="paper",
            y=-index + 10 * share,
            yref="y",
            text=label,
            showarrow=False,
            xanchor="left",
            yanchor="middle",
        )
        if notes and notes[index]:
            figure.add_annotation(
                x=1,
                xref="paper",
                y=-index + 10 * share,
                yref="y",
                text=notes[index],
                showarrow=False,
                xanchor="right",
                yanchor="middle",
            )
        if colours[index]:
            figure.add_shape(
                type="rect",
                xref="paper",
                x0=-7,
                x1=-3,
                xanchor=0,
                xsizemode="pixel",
                y0=-index + 17 * share,
                y1=-index - 15 * share,
                yref="y",
                fillcolor=colours[index],
                line_width=0,
            )
    figure.update_yaxes(range=[-(count - 1) - 0.5, 0.5], visible=False)
    return count * row_px


BAR = {"orientation": "h", "width": 13 / ROW_PX, "offset": -14 / ROW_PX}
MIDDLE = -7.5 / ROW_PX
"""Where a row's marks stand: below its label."""


def finish(
    figure: go.Figure,
    title: str,
    subtitle: str,
    plot_px: int,
    *,
    dark: bool,
    kind: str | None = None,
    reason: str | None = None,
    x_title: str = "",
    legend: Mapping[str, str] | None = None,
    left: int = 8,
) -> go.Figure:
    """Margins, height and words. `legend` maps names to colours; `reason`, where given, greys the chart and stands on it."""
    colours = palette.theme(dark)
    head = textwrap.wrap(title, TITLE_CHARS) or [""]
    sub = textwrap.wrap(subtitle, SUBTITLE_CHARS)
    keys = _keys(legend or {})
    simulated = kind == "simulated"
    top = 4 + 20 * len(head) + 17 * len(sub) + 16 + (14 if simulated else 0)
    axis_px = (28 if figure.layout.xaxis.visible is not False else 4) + (22 if x_title else 0)
    bottom = axis_px + (19 * len(keys) + 6 if keys else 4)
    text = "<br>".join(f'<b style="font-size:15px">{safe(line)}</b>' for line in head)
    small = "".join(
        f'<br><span style="font-size:13px;color:{colours.muted}">{safe(line)}</span>'
        for line in sub
    )
    # A title of plotly's own is cut off at the top once it has several lines; an annotation is not.
    figure.add_annotation(
        text=text + small,
        x=0,
        xref="paper",
        xshift=-left,
        y=1,
        yref="paper",
        yshift=top - 2,
        xanchor="left",
        yanchor="top",
        align="left",
        showarrow=False,
        font={"size": 15},
        name="title",
    )
    if keys:
        figure.add_annotation(
            text="<br>".join(keys),
            x=0,
            xref="paper",
            xshift=-left,
            y=0,
            yref="paper",
            yshift=-axis_px - 4,
            xanchor="left",
            yanchor="top",
            align="left",
            showarrow=False,
            font={"color": colours.muted},
            name="legend",
        )
    figure.update_layout(
        template=palette.template(dark),
        height=top + plot_px + bottom,
        margin={"l": left, "r": 12, "t": top, "b": bottom},
        xaxis_title_text=safe(x_title) or None,
        yaxis_automargin=False,
        showlegend=False,
        meta={"title": title, "subtitle": subtitle},
    )
    if simulated:
        figure.add_layout_image(
            source=palette.hatch(dark),
            xref="paper",
            yref="paper",
            x=0,
            y=1 + 14 / plot_px,
            sizex=1,
            sizey=8 / plot_px,
            xanchor="left",
            yanchor="top",
            sizing="fill",
            layer="below",
        )
    if reason:
        doubt(figure, reason, dark)
    return figure


def _keys(legend: Mapping[str, str]) -> list[str]:
    """Lines of coloured squares with their names, broken where a 420 px window ends: plotly's own legend would be a tall list."""
    lines, room = [], 0
    for name, colour in legend.items():
        key = f'<span style="color:{colour}">■</span> {safe(name)}'
        if not lines or room < len(name) + 4:
            lines, room = [*lines, key], SUBTITLE_CHARS - len(name)
        else:
            lines[-1] += f"   {key}"
            room -= len(name) + 4
    return lines


def doubt(figure: go.Figure, reason: str, dark: bool) -> go.Figure:
    """Grey what cannot be trusted and say why, on it."""
    colours = palette.theme(dark)
    figure.update_traces(opacity=0.28)
    figure.update_shapes(opacity=0.4)
    figure.add_annotation(
        text="<br>".join(safe(line) for line in textwrap.wrap(reason, 44)),
        x=0.5,
        y=0.5,
        xref="paper",
        yref="paper",
        showarrow=False,
        bgcolor=colours.ground,
        bordercolor=colours.warn,
        borderwidth=1,
        borderpad=8,
        font={"size": 13, "color": colours.warn},
        name="reason",
    )
    return figure


def empty(
    words: str, dark: bool, title: str = "Nothing to draw yet", plot_px: int = 120
) -> go.Figure:
    """A figure that says what is missing, where a frame has no rows for it."""
    figure = go.Figure()
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    figure.add_annotation(
        text="<br>".join(safe(line) for line in textwrap.wrap(words, 48)),
        x=0,
        y=0.9,
        xref="paper",
        yref="paper",
        showarrow=False,
        xanchor="left",
        yanchor="top",
        align="left",
        font={"color": palette.theme(dark).muted},
    )
    return finish(figure, title, "", plot_px, dark=dark)


def metric_axis(figure: go.Figure, metric: str, *, log: bool = False, zero: bool = True) -> str:
    """Durations start at zero unless a log axis was chosen, and then the axis says so. Returns the axis title."""
    if log:
        figure.update_xaxes(type="log", dtick=1)
    elif zero:
        figure.update_xaxes(rangemode="tozero")
    figure.update_xaxes(separatethousands=True, nticks=6)
    return metrics.unit(metric) + (" (log scale)" if log else "")


def count(n: int, what: str = "n") -> str:
    return f"{what} = {n:,}"


def trial_words(trial_id: object) -> str:
    return f"trial {short_id(trial_id)}"


def config(name: str, picture: str = "png") -> dict:
    """plotly's config: the picture button makes a PNG (twice as sharp) or an SVG in the browser itself."""
    return {
        "displaylogo": False,
        "displayModeBar": "hover",
        "modeBarButtons": [["toImage"]],
        "toImageButtonOptions": {
            "format": picture,
            "filename": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
            "scale": 2,
        },
        "responsive": True,
    }


def alt(figure: go.Figure) -> str:
    """The figure in words, for those who cannot see it: its finding, and what was measured."""
    words = figure.layout.meta or {}
    return ". ".join(part for part in (words.get("title"), words.get("subtitle")) if part)


def title(figure: go.Figure) -> str:
    return (figure.layout.meta or {}).get("title", "")


def interactive(figure: go.Figure) -> str:
    """One HTML file that works offline: plotly.js is inside."""
    return figure.to_html(include_plotlyjs=True, full_html=True, config=config(title(figure)))


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Frames under each other."""
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
