"""A run's figures: interactive HTML always, pictures where a Chrome or Chromium is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lab import metrics, techniques

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from lab.results import RunResult

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class ChartReporter:
    """a folder RUN with each figure as HTML that works offline, and as PNG and SVG, with a share
    card, where a Chrome or Chromium is there (BROWSER_PATH names one that is not on PATH)"""

    name = "chart"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def report(self, result: RunResult) -> Path | None:
        import plotly.io
        from plotly.offline import get_plotlyjs

        from lab.figures import layout, markup, share_card

        folder = self.folder / result.run_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
        pictures = []
        for name, figure in run_figures(result).items():
            page = markup.interactive(figure, plotlyjs="directory")
            (folder / f"{name}.html").write_text(page, encoding="utf-8")
            size = {"fig": figure, "width": layout.WIDTH_PX, "height": figure.layout.height}
            pictures.append({"file": folder / f"{name}.png", "scale": 2, **size})
            pictures.append({"file": folder / f"{name}.svg", "scale": 1, **size})
        if card := share(result):
            size = {"fig": card, "width": card.layout.width, "height": card.layout.height}
            file = folder / "share-card.png"
            pictures.append({"file": file, "scale": share_card.SCALE, **size})
        if chrome := browser():
            os.environ.setdefault("BROWSER_PATH", chrome)
            # One browser draws them all; each picture for itself would start its own.
            plotly.io.write_images(
                **{name: [picture[name] for picture in pictures] for name in pictures[0]}
            )
        return folder


def browser() -> str | None:
    """The Chrome or Chromium that draws pictures: BROWSER_PATH, else the first on PATH."""
    return os.environ.get("BROWSER_PATH") or next(
        (path for name in BROWSERS if (path := shutil.which(name))), None
    )


def share(result: RunResult, dark: bool = False) -> go.Figure | None:
    """The planned comparison as one picture to be passed on; None where nothing was compared."""
    from lab.figures import palette, share_card

    if not result.headlines:
        return None
    planned, colours = result.headlines[0], palette.arm_colours(result.places, dark)
    return share_card.share_card(
        planned,
        result.verdicts[0],
        result.provenance,
        (colours[planned.baseline_name], colours[planned.name]),
        kind=result.run["endpoint_kind"],
        dark=dark,
    )


def run_figures(result: RunResult, dark: bool = False) -> dict[str, go.Figure]:
    """Every figure of a run by its name, a technique's own among them; arms of several techniques
    are told apart by "technique.arm"."""
    import pandas as pd

    from lab.figures import clocks, distribution, ladder_rungs, pairs, pareto, trends, waterfall

    metric, counts, finding = result.headline, result.counts, result.finding()
    arms = result.places
    calls, pair = result.named(result.typical_calls), {}
    if result.pair:
        pair = {"pair": result.pair.words}
    own = techniques.figures_of(result.run, result.ask, result.finding, dark)
    if ladder := result.ladder:
        own.append(ladder_rungs.of(ladder, dark))
    where = {name: result.run[name] for name in ("endpoint", "endpoint_kind")}
    steady = result.ask("drift", result.run_id, metric).assign(**where)
    table = pareto.summary_table(result.summary, counts, pd.DataFrame([result.run]))
    return {
        "waterfall": waterfall.waterfall(
            calls,
            dark,
            spans=result.ask("spans", result.typical),
            arms=arms,
            finding=finding,
            **pair,
        ),
        "distribution": distribution.distribution(
            result.named(result.trials), metric, dark, finding=finding, arms=arms
        ),
        "pairs": pairs.pairs(
            result.named(result.pairs).assign(**where), metric, dark, finding=finding, arms=arms
        ),
        "clocks": clocks.clock_ladder(
            calls[calls["role"] == "answer"],
            dark,
            finding=finding,
            arms=arms,
            headline=metric,
            **pair,
        ),
        **{f"{result.run['technique']}-{n}": figure for n, figure in enumerate(own, 1)},
        "pareto": pareto.scatter_pareto(
            result.named(table),
            dark,
            metric=metric if metrics.unit(metric) == "ms" else metrics.CLOCKS[-1],
            arms=arms,
            reason=finding.reason,
        ),
        "drift": trends.drift(steady, dark, metric=metric, effect=result.effect),
    }
