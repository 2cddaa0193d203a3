"""What a server gets done, and what its answers then take: a point a level of load."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.figures.pareto import label_places
from lab.units import number, value

PLOT_PX = 300
ACROSS = {"requests_per_s": "requests answered a second", "tokens_per_s": "tokens a second"}
QUANTILES = {"p50": 0.5, "p95": 0.95}
HOLLOW = "the client's own limit, not the server's"


def curve(
    levels: pd.DataFrame,
    metric: str,
    dark: bool = False,
    *,
    title: str,
    across: str = "requests_per_s",
    limits: Mapping[str, float] | None = None,
) -> go.Figure:
    """Median and p95 of a metric against throughput, joined in the order of the load. A level that
    is the client's limit is hollow, the knee ringed; `limits` are those of the metric by quantile
    ("p95": 800). Columns: label, target, n, p50, p95, the one across, is_client_limited, is_knee,
    and endpoint columns; of calls that were answered."""
    levels = levels.dropna(subset=["p50", across]).sort_values("target", kind="stable")
    if levels.empty:
        return layout.empty("No level of this run has an answered call.", dark, title)
    colours, figure = dict(zip(QUANTILES, palette.theme(dark).arms, strict=False)), go.Figure()
    for name, colour in colours.items():
        _joined(figure, levels, name, metric, across, colour, dark)
    _labels(figure, levels, across)
    for name, limit in (limits or {}).items():
        _limit(figure, f"{name} < {value(metric, limit)}", limit, dark)
    top = max(levels[["p50", "p95"]].max().max(), *(limits or {}).values(), 0.0)
    layout.from_zero(figure, range=[0, 1.12 * levels[across].max()])
    layout.from_zero(figure, "y", nticks=5, range=[0, 1.15 * top])
    is_limited = levels["is_client_limited"].astype(bool)
    return layout.finish(
        figure,
        title,
        _subtitle(metric, levels),
        PLOT_PX,
        dark=dark,
        frame=levels,
        x_title=ACROSS[across],
        legend=colours | ({HOLLOW: palette.theme(dark).muted} if is_limited.any() else {}),
        marks={HOLLOW: "hollow"},
        left=layout.AXIS_PX,
    )


def _subtitle(metric: str, levels: pd.DataFrame) -> str:
    fewest, most = int(levels["n"].min()), int(levels["n"].max())
    counts = layout.count(fewest) + (f" to {most:,} a level" if most > fewest else "")
    few = f"faint: p95 needs {metrics.needed(0.95)} calls" * (not metrics.supported(fewest, 0.95))
    return " · ".join(
        filter(None, (f"p50 and p95 of {metrics.axis(metric)}", "answered calls", few, counts))
    )


def _joined(
    figure: go.Figure,
    levels: pd.DataFrame,
    name: str,
    metric: str,
    across: str,
    colour: str,
    dark: bool,
) -> None:
    layout.line(figure, levels[across], levels[name], palette.fade(colour, 0.6), 2)
    hollow = [bool(limited) for limited in levels["is_client_limited"]]
    carried = [metrics.supported(int(n), QUANTILES[name]) for n in levels["n"]]
    told = [
        f"{layout.bold(level.label)} {name} {value(metric, getattr(level, name))}<br>"
        f"{number(getattr(level, across))} {ACROSS[across]}, n = {level.n:,}"
        f"{f'<br>{HOLLOW}' if level.is_client_limited else ''}"
        for level in levels.itertuples()
    ]
    look = {
        "color": colour,
        "size": 11,
        "symbol": ["circle-open" if limited else "circle" for limited in hollow],
        "opacity": [1.0 if enough else layout.GREYED for enough in carried],
        "line": {"width": 2},
    }
    layout.points(figure, levels[across], levels[name], look, told, levels["label"])
    knee = levels[levels["is_knee"].astype(bool)]
    ring = {"symbol": "circle-open", "size": 20, "line": {"width": 1.5}}
    ring |= {"color": palette.theme(dark).ink}
    layout.points(figure, knee[across], knee[name], ring, hoverinfo="skip", hovertemplate=None)


def _labels(figure: go.Figure, levels: pd.DataFrame, across: str) -> None:
    """Each level's load above its p95; "knee" beside the one at which throughput ends to grow."""
    # Where there is no room for all, the knee and the highest loads are named.
    levels = levels.sort_values(["is_knee", "target"], ascending=False, kind="stable")
    labels = [f"{level.label}{' · knee' if level.is_knee else ''}" for level in levels.itertuples()]
    right, top = levels[across].max() or 1, levels["p95"].max() or 1
    places = label_places(levels[across] / right, levels["p95"] / top, pd.Series(labels))
    for level, label, place in zip(levels.itertuples(), labels, places, strict=True):
        if place is None:
            continue
        up, side = place.split()
        layout.write(
            figure,
            layout.safe(label),
            getattr(level, across),
            level.p95,
            xanchor="left" if side == "right" else "right",
            yanchor="bottom" if up == "top" else "top",
            xshift=9 if side == "right" else -9,
        )


def _limit(figure: go.Figure, words: str, limit: float, dark: bool) -> None:
    colours = palette.theme(dark)
    figure.add_hline(y=limit, line={"color": colours.zero, "width": 1.5, "dash": "dash"})
    place = {"xref": "paper", "xanchor": "left", "yanchor": "bottom", "xshift": 3}
    layout.write(figure, layout.safe(words), 0, limit, colours.muted, **place)
