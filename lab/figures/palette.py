"""Every colour of the lab, and the plotly template made of them: an arm has one colour on every
chart, in the race and in tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import plotly.graph_objects as go

FONT = '"Source Sans", "Source Sans Pro", system-ui, sans-serif'


@dataclass(frozen=True)
class Palette:
    ground: str
    surface: str
    ink: str
    muted: str
    grid: str
    zero: str
    ghost: str
    arms: tuple[str, ...]
    """Slate for the baseline, then the others in order; apart under the common colour blindnesses,
    contrast at least 3.4 on the ground."""
    phases: dict[str, str]
    """Lightness steps of one blue-grey; generation is the darkest."""
    good: str
    bad: str
    warn: str


PHASES = ("dns", "connect", "tls", "send", "headers", "prefill", "thinking", "tokens")


def _phases(colours: str) -> dict[str, str]:
    return dict(zip(PHASES, colours.split(), strict=True))


LIGHT = Palette(
    ground="#FBFAF7",
    surface="#F1EFE9",
    ink="#1C2430",
    muted="#5A6472",
    grid="rgba(28,36,48,0.06)",
    zero="rgba(28,36,48,0.38)",
    ghost="#C9CDD3",
    arms=("#5B6878", "#1B3FA0", "#0D94B2", "#A24BE6", "#6B1548"),
    phases=_phases("#E3E8EF #D3DBE5 #C3CDD9 #B1BDCC #9BAABD #8093AB #627894 #33455E"),
    good="#1B7A43",
    bad="#B3261E",
    warn="#96600A",
)
DARK = Palette(
    ground="#14171A",
    surface="#1D2126",
    ink="#E8EAED",
    muted="#A3ABB6",
    grid="rgba(232,234,237,0.07)",
    zero="rgba(232,234,237,0.42)",
    ghost="#3C434C",
    arms=("#A7B0BE", "#6E92E3", "#B5EFF7", "#A052E8", "#D13A8C"),
    phases=_phases("#F1F4F8 #DFE5ED #CBD4E0 #B7C3D2 #9FAFC3 #879AB2 #6E83A0 #536A8D"),
    good="#5CC489",
    bad="#F2857C",
    warn="#E0A94A",
)


def theme(dark: bool = False) -> Palette:
    return DARK if dark else LIGHT


def fade(colour: str, share: float) -> str:
    """`colour` (#RRGGBB) at an opacity of `share`, as rgba(): for areas and overlapping points."""
    red, green, blue = bytes.fromhex(colour[1:])
    return f"rgba({red},{green},{blue},{share:g})"


def arm_colours(arms: Iterable[str], dark: bool = False) -> dict[str, str]:
    """A colour for each arm; the first arm is the baseline, in slate. Past five arms the four
    colours come again, lighter."""
    colours = theme(dark).arms
    chosen = {}
    for place, arm in enumerate(dict.fromkeys(arms)):
        turn, index = divmod(place - 1, len(colours) - 1)
        chosen[arm] = colours[0] if place == 0 else _step(colours[index + 1], turn, dark)
    return chosen


def _step(colour: str, turn: int, dark: bool) -> str:
    if turn == 0:
        return colour
    share, towards = min(0.25 * turn, 0.5), theme(dark).muted
    parts = zip(bytes.fromhex(colour[1:]), bytes.fromhex(towards[1:]), strict=True)
    mixed = bytes(round(own * (1 - share) + other * share) for own, other in parts)
    return f"#{mixed.hex().upper()}"


def tone_colour(tone: str, dark: bool = False) -> str:
    """The colour of a verdict's tone: good, bad, warn; anything else is said in ink."""
    colours = theme(dark)
    return getattr(colours, tone) if tone in ("good", "bad", "warn") else colours.ink


def hatch(dark: bool = False) -> str:
    """A hatched band as a data URI: the mark of results that no model made. Wide enough to be
    cropped, never stretched."""
    stroke = theme(dark).muted.replace("#", "%23")
    lines = "".join(f"M{x} 8L{x + 8} 0" for x in range(-8, 2400, 8))
    return (
        "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='2400' height='8'"
        " viewBox='0 0 2400 8'>"
        f"<path d='{lines}' stroke='{stroke}' stroke-width='1.5' stroke-opacity='0.55'/></svg>"
    )


@cache
def template(dark: bool = False) -> go.layout.Template:
    """Transparent ground, gridlines at 6 %, the page's own font; nothing dims when a point is
    selected."""
    colours = theme(dark)
    clear, small = "rgba(0,0,0,0)", {"color": colours.muted, "size": 13}
    ink = {"family": FONT, "size": 13, "color": colours.ink}
    axis = {
        "gridcolor": colours.grid,
        "zeroline": False,
        "linecolor": colours.grid,
        "tickfont": small,
        "title": {"font": small, "standoff": 8},
        "fixedrange": True,
    }
    layout = go.Layout(
        font=ink,
        paper_bgcolor=clear,
        plot_bgcolor=clear,
        colorway=list(colours.arms),
        xaxis=axis,
        yaxis=axis,
        legend={
            "font": small,
            "bgcolor": clear,
            "itemclick": False,
            "itemdoubleclick": False,
        },
        hoverlabel={
            "bgcolor": colours.surface,
            "bordercolor": colours.zero,
            "font": ink,
            "align": "left",
            "namelength": 0,
        },
        modebar={"bgcolor": clear, "color": colours.muted, "activecolor": colours.ink},
        dragmode=False,
    )
    whole = {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 1}}}
    return go.layout.Template(
        layout=layout,
        data={kind: [whole] for kind in ("bar", "scatter", "scattergl")},
    )
