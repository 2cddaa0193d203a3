"""A run's figures as files: interactive HTML always, PNG and SVG where a Chrome or Chromium is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lab.harness import reporter

if TYPE_CHECKING:
    import plotly.graph_objects as go

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH_PX = 1120


def figures(result: reporter.RunResult) -> dict[str, go.Figure]:
    """By file name; arms of several techniques are told apart by "technique.arm"."""
    from lab.figures import trials, waterfall

    metric = result.headline
    order = [result.name(*arm) for arm in result.arms()]
    frames = [_named(result, frame) for frame in (result.calls, result.trials, result.pairs)]
    counts = result.counts["n"]
    return {
        "waterfall": waterfall.waterfall(
            frames[0], arms=order, n=int(counts.max()) if len(counts) else None, metric=metric
        ),
        "distribution": trials.distribution(frames[1], metric, arms=order),
        "pairs": trials.pairs(frames[2], metric, arms=order),
    }


def _named(result: reporter.RunResult, frame):
    if frame.empty:
        return frame
    return frame.assign(
        arm=[
            result.name(*arm)
            for arm in frame[["technique", "arm"]].itertuples(index=False, name=None)
        ]
    )


class ChartReporter:
    """Writes a folder RUN_ID: each figure as HTML that works offline (plotly.js beside it) and, where a browser is there, as pictures."""

    def __init__(self, folder: Path):
        self.folder = folder

    def report(self, result: reporter.RunResult) -> Path | None:
        from lab.figures import layout

        folder = self.folder / result.run["run_id"]
        folder.mkdir(parents=True, exist_ok=True)
        chrome = browser()
        if chrome:
            os.environ.setdefault("BROWSER_PATH", chrome)
        for name, figure in figures(result).items():
            figure.write_html(
                folder / f"{name}.html", include_plotlyjs="directory", config=layout.config(name)
            )
            for kind in ("png", "svg") if chrome else ():
                figure.write_image(
                    folder / f"{name}.{kind}",
                    width=WIDTH_PX,
                    height=figure.layout.height,
                    scale=2 if kind == "png" else 1,
                )
        return folder


def browser() -> str | None:
    """The Chrome or Chromium that draws pictures: BROWSER_PATH, else the first on PATH."""
    return os.environ.get("BROWSER_PATH") or next(
        (path for name in BROWSERS if (path := shutil.which(name))), None
    )
