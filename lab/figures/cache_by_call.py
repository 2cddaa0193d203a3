"""What each call of a recording read from the cache, wrote to it and paid in full."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab.figures import layout, palette
from lab.units import missing, whole

WORDS = {"read": "read", "written": "written", "uncached": "neither"}
COULD = "could have been read"


def shades(dark: bool = False) -> dict[str, str]:
    steps = palette.theme(dark).phases
    return {"read": steps["send"], "written": steps["headers"], "uncached": steps["tokens"]}


def cache_by_call(
    use: pd.DataFrame, dark: bool = False, *, title: str, part: str = ""
) -> go.Figure:
    """A bar a call in the order of the calls. `use` has call_id, turn, lane, read, written,
    uncached and could_read in tokens, and for the label endpoint columns."""
    if use[list(WORDS)].isna().all(axis=None):
        return layout.empty("No call of it said its tokens.", dark, title)
    figure, colours = go.Figure(), shades(dark)
    hover = [_hover(call) for call in use.itertuples()]
    numbers = list(range(1, len(use) + 1))
    for kind, colour in colours.items():
        figure.add_bar(
            x=numbers,
            y=use[kind],
            marker={"color": colour, "line": {"width": 0}},
            hovertext=hover,
            hovertemplate=layout.HOVER,
            customdata=use[["call_id"]].astype(str).values,
        )
    legend = {WORDS[kind]: colour for kind, colour in colours.items()}
    missed = use["could_read"].notna() & (use["could_read"] > use["read"].fillna(0) + 0.5)
    if missed.any():
        warn = palette.theme(dark).warn
        ticks = {
            "symbol": "line-ew",
            "size": max(4, min(28, 700 // len(use))),
            "line": {"color": warn, "width": 3},
        }
        shown = use[missed]
        layout.points(
            figure,
            [numbers[place] for place, is_missed in enumerate(missed) if is_missed],
            shown["could_read"],
            ticks,
            [_hover(call) for call in shown.itertuples()],
            shown[["call_id"]].astype(str).values,
        )
        legend[COULD] = warn
    figure.update_layout(barmode="stack", bargap=0.25 if len(use) < 100 else 0)
    layout.from_zero(figure, "y", nticks=5)
    figure.update_xaxes(range=[0.4, len(use) + 0.6], nticks=8, **layout.whole_steps(len(use)))
    return layout.finish(
        figure,
        title,
        " · ".join(filter(None, ("prompt tokens of each call", part))),
        240,
        dark=dark,
        frame=use,
        x_title="call",
        left=layout.AXIS_PX,
        legend=legend,
        marks={COULD: "line"},
    )


def _hover(call) -> str:
    lane = f"sub-agent {call.lane:.0f}, " if call.lane else ""
    lines = [layout.bold(f"{lane}turn {call.turn:.0f}")]
    lines += [f"{word} {whole(getattr(call, kind))}" for kind, word in WORDS.items()]
    if not missing(call.could_read):
        lines.append(f"{COULD} {whole(call.could_read)}")
    return "<br>".join(lines)
