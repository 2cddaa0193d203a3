"""A figure beside its words as HTML: text that breaks where the page's lines end, where a picture
has its own."""

from __future__ import annotations

import re

import plotly.graph_objects as go

from lab.figures import palette
from lab.figures.layout import WIDTH_PX, safe, title

STYLE = """
.lab-head { padding-top: 4px; box-sizing: border-box; }
.lab-head [role=heading] { font-size: 15px; font-weight: 600; line-height: 20px;
  text-wrap: balance; }
.lab-head p { font-size: 13px; line-height: 17px; margin: 0; max-width: none; text-wrap: pretty; }
.lab-head .lab-reason { width: fit-content; margin-top: 6px; padding: 3px 8px; border-radius: 4px;
  border: 1px solid currentColor; }
.lab-legend { display: flex; flex-wrap: wrap; gap: 0 20px; list-style: none;
  font-size: 13px; line-height: 20px; box-sizing: border-box; }
ul.lab-legend { padding: 0 !important; margin-left: 0 !important; margin-bottom: 0 !important; }
.lab-legend li { display: flex; align-items: center; margin: 0; padding: 0; font-size: 13px; }
.lab-swatch { width: 12px; height: 12px; border-radius: 2px; margin-right: 8px; flex: none;
  background: currentColor; }
.lab-swatch.hollow { background: none; border: 1px solid; box-sizing: border-box; }
.lab-swatch.line { height: 2px; border-radius: 0; }
:is(.lab-figure, [class*="st-key-figure-"]) .annotation:is([data-index="0"], [data-index="1"],
  [data-index="2"]) { visibility: hidden; }
"""
"""Where head() and key() stand, the figure's own words are only seen in its pictures."""


def head(figure: go.Figure) -> str:
    """Title and subtitle as HTML, to stand right above the figure. They cover the room that its
    picture has for them, and are never lower than it."""
    words = figure.layout.meta or {}
    if not words.get("title"):
        return ""
    px = words["head_px"]
    # A dot ends its line rather than beginning the next.
    subtitle = safe(words["subtitle"]).replace(" · ", "\u00a0· ")
    small = f'<p style="color:{words["muted"]}">{subtitle}</p>' if subtitle else ""
    doubt = f'<p class="lab-reason" style="color:{words["warn"]}">{safe(words["reason"])}</p>'
    return (
        f'<div class="lab-head" style="min-height:{px}px;margin-bottom:{-px}px">'
        f'<div role="heading" aria-level="3">{safe(words["title"])}</div>{small}'
        f"{doubt if words['reason'] else ''}</div>"
    )


def key(figure: go.Figure) -> str:
    """The legend as HTML, to stand right below the figure; empty where it has none."""
    words = figure.layout.meta or {}
    if not words.get("legend"):
        return ""
    px = words["key_px"]
    names = "".join(
        f'<li><span class="lab-swatch {words["marks"].get(name, "")}" style="color:{colour}">'
        f"</span>{safe(name)}</li>"
        for name, colour in words["legend"].items()
    )
    return (
        f'<ul class="lab-legend" style="color:{words["muted"]};min-height:{px}px;'
        f'margin-top:{-px}px">{names}</ul>'
    )


def config(name: str, picture: str = "png") -> dict:
    """plotly's config: the picture button makes a PNG (twice as sharp) or an SVG in the browser
    itself."""
    return {
        "displaylogo": False,
        "displayModeBar": "hover",
        "modeBarButtons": [["toImage"]],
        "toImageButtonOptions": {
            "format": picture,
            "filename": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
            "scale": 2,
            "width": WIDTH_PX,
        },
        "responsive": True,
    }


def block(figure: go.Figure, plotlyjs: bool | str = False) -> str:
    """The figure with its words, for an HTML page that has STYLE."""
    # A tag inside a string of a script would end the script: plotly escapes its JSON as the race's
    # is escaped.
    drawn = figure.to_html(full_html=False, include_plotlyjs=plotlyjs, config=config(title(figure)))
    return f'<div class="lab-figure">{head(figure)}{drawn}{key(figure)}</div>'


def interactive(figure: go.Figure, plotlyjs: bool | str = True) -> str:
    """One HTML file that works offline: plotly.js is inside, or beside it ("directory")."""
    font, paint = figure.layout.template.layout.font, palette.painted(figure.layout.template)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{safe(title(figure))}'
        '</title><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>body {{ max-width: {WIDTH_PX}px; margin: 24px auto; padding: 0 24px;"
        f" font-family: {font.family}; color: {font.color}; background: {paint}; }}{STYLE}</style>"
        f"</head><body>{block(figure, plotlyjs)}</body></html>"
    )
