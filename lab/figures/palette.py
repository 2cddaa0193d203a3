"""Every colour of the lab, and the plotly template made of them: an arm has one colour on every
chart, in the race and in tables."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping
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
    accent: str
    """Primary buttons and chips, with white words on them."""
    arms: tuple[str, ...]
    """Slate for the baseline, then the others in order; apart under the common colour blindnesses,
    contrast at least 3.4 on the ground. Words in them are written in as_text()."""
    phases: dict[str, str]
    """Lightness steps of one blue-grey, 3:1 from the ground and 1.6:1 from the phase before:
    connecting and sending in one, then headers, prefill, tokens, the darkest. Between the ground
    and black is no room for a fifth; hidden thinking is the first again, hatched."""
    good: str
    bad: str
    warn: str


PHASES = ("dns", "connect", "tls", "send", "headers", "prefill", "thinking", "tokens")
HATCHED = {"thinking": "/"}
"""Phases drawn with a pattern over their colour, as plotly names it."""
CLEAR = "rgba(0,0,0,0)"
READABLE = 4.5
"""Contrast that words need (WCAG 2, 1.4.3); a mark needs 3 (1.4.11)."""


def _phases(colours: str) -> dict[str, str]:
    sent, headers, prefill, tokens = colours.split()
    steps = (*[sent] * 4, headers, prefill, sent, tokens)
    return dict(zip(PHASES, steps, strict=True))


LIGHT = Palette(
    ground="#FBFAF7",
    surface="#F1EFE9",
    ink="#1C2430",
    muted="#5A6472",
    grid="rgba(28,36,48,0.06)",
    zero="rgba(28,36,48,0.38)",
    ghost="#C9CDD3",
    accent="#1B3FA0",
    arms=("#5B6878", "#1B3FA0", "#0D94B2", "#A24BE6", "#6B1548"),
    phases=_phases("#7590B2 #506D8F #394C65 #202B39"),
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
    accent="#4A6FC8",
    arms=("#A7B0BE", "#6E92E3", "#B5EFF7", "#A052E8", "#D13A8C"),
    phases=_phases("#DFE5ED #A3B5CB #708CAF #4D6889"),
    good="#5CC489",
    bad="#F2857C",
    warn="#E0A94A",
)


def theme(dark: bool = False) -> Palette:
    return DARK if dark else LIGHT


def fade(colour: str, share: float) -> str:
    """`colour` (#RRGGBB, or one faded before) at an opacity of `share`, as rgba(): for areas and
    overlapping points."""
    if colour.startswith("rgba("):
        red, green, blue, before = colour[5:-1].split(",")
        return f"rgba({red},{green},{blue},{float(before) * share:g})"
    red, green, blue = bytes.fromhex(colour[1:])
    return f"rgba({red},{green},{blue},{share:g})"


def arm_colours(arms: Mapping[str, int] | Iterable[str], dark: bool = False) -> dict[str, str]:
    """A colour for each arm by its place among its technique's arms (RunResult.places), so that it
    is the same whichever of them a run has; the first is slate. Names alone have their own order.

    Where arms of several techniques meet, each has its own colour if it is free, else the next that
    is; past five arms the four colours come again, lighter, and is_again() is true of them: such an
    arm's tab is broken and its points are hollow.
    """
    colours = theme(dark).arms
    names = list(dict.fromkeys(arms))
    places = arms if isinstance(arms, Mapping) else {name: at for at, name in enumerate(names)}
    chosen: dict[str, str] = {}
    for name in names:
        if places[name] < len(colours) and colours[places[name]] not in chosen.values():
            chosen[name] = colours[places[name]]
    again = 0
    for name in names:
        if name in chosen:
            continue
        if places[name] >= len(colours):
            turn, index = divmod(places[name] - 1, len(colours) - 1)
            own = _step(colours[index + 1], turn, dark)
            if own not in chosen.values():
                chosen[name] = own
                continue
        turned = [*colours[places[name] % len(colours) :], *colours]
        free = [colour for colour in turned if colour not in (colours[0], *chosen.values())]
        turn, index = divmod(again, len(colours) - 1)
        chosen[name] = free[0] if free else _step(colours[index + 1], turn + 1, dark)
        again += not free
    return {name: chosen[name] for name in names}


AGAIN = (0.25, 0.5, 0.65, 0.8)
"""How far towards the muted ink a colour goes each time that it comes again."""


def _step(colour: str, turn: int, dark: bool) -> str:
    share, towards = AGAIN[min(turn, len(AGAIN)) - 1], theme(dark).muted
    parts = zip(bytes.fromhex(colour[1:]), bytes.fromhex(towards[1:]), strict=True)
    mixed = bytes(round(own * (1 - share) + other * share) for own, other in parts)
    return f"#{mixed.hex().upper()}"


def steps(n: int, dark: bool = False) -> list[str]:
    """n colours from one end of a scale to the other: of what has an order, as levels of load."""
    ends = [bytes.fromhex(colour[1:]) for colour in (theme(dark).arms[2], theme(dark).arms[4])]
    if n == 1:
        return [theme(dark).arms[1]]
    shares = [place / (n - 1) for place in range(n)]
    mixed = [
        bytes(round(a * (1 - share) + b * share) for a, b in zip(*ends, strict=True))
        for share in shares
    ]
    return [f"#{colour.hex().upper()}" for colour in mixed]


@cache
def _grounds() -> dict[str, tuple[str, bool]]:
    """Each arm colour with the surface that it is read on, and whether it has come again."""
    known = {}
    for dark in (False, True):
        own = theme(dark)
        steps = [_step(colour, turn, dark) for colour in own.arms[1:] for turn in (1, 2, 3, 4)]
        known |= {colour: (own.surface, True) for colour in steps}
        known |= {colour: (own.surface, False) for colour in own.arms}
    return known


def is_again(colour: str) -> bool:
    """Whether an arm has this colour because those of its own were taken."""
    return colour in _grounds() and _grounds()[colour][1]


@cache
def as_text(colour: str) -> str:
    """An arm's colour as words are written in it: the same hue, darker or lighter until it can be
    read; any other colour as it is."""
    if colour not in _grounds():
        return colour
    surface = _grounds()[colour][0]
    towards = -0.005 if luminance(surface) > 0.5 else 0.005
    hue, light, strength = colorsys.rgb_to_hls(*(part / 255 for part in bytes.fromhex(colour[1:])))
    while contrast(colour, surface) < READABLE:
        light += towards
        parts = colorsys.hls_to_rgb(hue, light, strength)
        colour = f"#{bytes(round(255 * part) for part in parts).hex().upper()}"
    return colour


def luminance(colour: str) -> float:
    """Relative luminance of #RRGGBB (WCAG 2)."""
    parts = [part / 255 for part in bytes.fromhex(colour[1:])]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """From 1 to 21 (WCAG 2)."""
    dim, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dim + 0.05)


def tone_colour(tone: str, dark: bool = False) -> str:
    """The colour of a verdict's tone: good, bad, warn, grey where it is unsure; anything else is
    said in ink."""
    colours = theme(dark)
    if tone == "unsure":
        return colours.muted
    return getattr(colours, tone) if tone in ("good", "bad", "warn") else colours.ink


def variables(dark: bool = False) -> str:
    """The colours that a page's own rules need, as CSS."""
    colours = theme(dark)
    return f":root {{ --lab-ink: {colours.ink}; --lab-muted: {colours.muted}; }}"


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


def painted(made: go.layout.Template) -> str:
    """The ground that a figure of this template was drawn for."""
    return DARK.ground if made.layout.font.color == DARK.ink else LIGHT.ground


@cache
def template(dark: bool = False) -> go.layout.Template:
    """Transparent ground, gridlines at 6 %, the page's own font; nothing dims when a point is
    selected."""
    colours = theme(dark)
    small = {"color": colours.muted, "size": 13}
    ink = {"family": FONT, "size": 13, "color": colours.ink}
    axis = {
        "gridcolor": colours.grid,
        "zeroline": False,
        "linecolor": colours.grid,
        "tickfont": small,
        "exponentformat": "none",
        "title": {"font": small, "standoff": 8},
        "fixedrange": True,
    }
    layout = go.Layout(
        font=ink,
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        colorway=list(colours.arms),
        xaxis=axis,
        yaxis=axis,
        legend={
            "font": small,
            "bgcolor": CLEAR,
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
        modebar={"bgcolor": CLEAR, "color": colours.muted, "activecolor": colours.ink},
        dragmode=False,
    )
    whole = {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 1}}}
    return go.layout.Template(
        layout=layout,
        data={kind: [whole] for kind in ("bar", "scatter", "scattergl")},
    )
