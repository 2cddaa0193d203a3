"""A run's figures as files: interactive HTML always, PNG and SVG where a Chrome or Chromium is there."""

from __future__ import annotations

import os
import shutil
from html import escape
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
        "waterfall": waterfall.waterfall(frames[0], arms=order, n=int(counts.max()) if len(counts) else None, metric=metric),
        "distribution": trials.distribution(frames[1], metric, arms=order),
        "pairs": trials.pairs(frames[2], metric, arms=order),
    }


def _named(result: reporter.RunResult, frame):
    if frame.empty:
        return frame
    return frame.assign(arm=[result.name(*arm) for arm in frame[["technique", "arm"]].itertuples(index=False, name=None)])


class ChartReporter:
    """Writes a folder RUN_ID with index.html (verdict, table and figures) and each figure as a picture where a browser can draw it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def report(self, result: reporter.RunResult) -> Path | None:
        folder = self.folder / result.run["run_id"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text(page(result), encoding="utf-8")
        if chrome := browser():
            os.environ.setdefault("BROWSER_PATH", chrome)
            for name, figure in figures(result).items():
                for kind in ("png", "svg"):
                    figure.write_image(
                        folder / f"{name}.{kind}", width=WIDTH_PX, height=figure.layout.height, scale=2 if kind == "png" else 1
                    )
        return folder


def browser() -> str | None:
    """The Chrome or Chromium that draws pictures: BROWSER_PATH, else the first on PATH."""
    return os.environ.get("BROWSER_PATH") or next((path for name in BROWSERS if (path := shutil.which(name))), None)


def page(result: reporter.RunResult) -> str:
    """One HTML file that opens anywhere, offline: plotly.js is inside, once."""
    from lab.figures import palette, sheet

    colours = palette.theme()
    drawn = [
        figure.to_html(full_html=False, include_plotlyjs=place == 0, config=sheet.config(name))
        for place, (name, figure) in enumerate(figures(result).items())
    ]
    said = [f"<p class=verdict>{escape(words.headline)}</p>" for words in result.words[:1]]
    said += [f"<p>{escape(line)}</p>" for words in result.words[:1] for line in (words.seen, words.detail) if line]
    said += [f"<p>{escape(note)}</p>" for note in result.notes]
    head = "".join(f"<th>{escape(column)}</th>" for column in reporter.COLUMNS)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell.text)}</td>" for cell in row) + "</tr>" for row in reporter.table(result))
    counted = "".join(f"<li>{escape(line)}</li>" for line in reporter.counts(result))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(reporter.title(result))}</title>
<style>
body {{ margin: 32px auto; max-width: {WIDTH_PX}px; padding: 0 16px; font: 15px/1.5 system-ui, sans-serif; }}
body {{ background: {colours.ground}; color: {colours.ink}; }}
.verdict {{ font-size: 20px; font-weight: 600; }} p {{ max-width: 68ch; }}
td, th {{ text-align: right; padding: 4px 16px 4px 0; font-variant-numeric: tabular-nums; }}
td:first-child, th:first-child {{ text-align: left; }}
</style></head><body>
<h1>{escape(reporter.title(result))}</h1>
{"".join(said)}
{"".join(drawn)}
<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>
<ul>{counted}</ul>
</body></html>
"""
