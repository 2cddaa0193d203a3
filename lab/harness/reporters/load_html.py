"""A load as one HTML file that opens anywhere, offline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lab import load_answer, load_figures, load_table, units
from lab.harness.reporters import html

if TYPE_CHECKING:
    from lab.load_results import LoadResult


def page(result: LoadResult) -> str:
    """The whole file as text: what html.page is of a run. Nothing is loaded from outside."""
    from plotly.offline import get_plotlyjs

    from lab.figures import markup, palette

    run, told = result.run, load_answer.answer(result)
    rows = load_table.table(result)
    config = {name: value for name, value in result.config.items() if name != "db"}
    figures = (
        load_figures.curve(result),
        load_figures.over_time(result),
        load_figures.by_level(result, result.metric),
    )
    return html.template("load_report.html.jinja").render(
        title=f"{run.get('name') or 'Load'} · {run['endpoint']} · {units.when(run['started_utc'])}",
        about=html.about(run),
        result=result,
        told=told,
        counts=load_table.counts(result),
        levels=_table(rows),
        legend=load_table.legend(rows),
        errors=_table(load_table.errors(result)),
        figures=[html.drawn(figure) for figure in figures if figure is not None],
        chosen=[
            [name.replace("_", " "), units.short(str(value))]
            for name, value in config.items()
            if value not in (None, [], {}, "")
        ],
        settings=json.dumps(config, indent=1, ensure_ascii=False, default=str),
        rows=[["calls", units.whole(len(result.calls))]],
        colours=palette.LIGHT,
        figure_style=markup.STYLE,
        tone=palette.tone_colour("unsure" if told.doubts else told.tone),
        plotly=get_plotlyjs(),
        units=units,
    )


def _table(rows: Sequence[load_table.Row]) -> dict[str, list[Any]] | None:
    if not rows:
        return None
    return {"heads": list(rows[0]), "rows": [list(row.values()) for row in rows]}
