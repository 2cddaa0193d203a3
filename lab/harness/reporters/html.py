"""A run as one HTML file that opens anywhere, offline."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import endpoint_kinds, metrics, units
from lab.harness.reporters import figure_files, summary, write

if TYPE_CHECKING:
    from jinja2 import Template

    from lab.results import RunResult

ALSO = ("cost", "quality")


class HTMLReporter:
    """RUN.html, one page that opens offline: verdict, figures, the race, settings and machine"""

    name = "html"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def report(self, result: RunResult) -> Path | None:
        return write(self.folder / f"{result.run_id}.html", page(result))


def page(result: RunResult) -> str:
    """The whole file as text. Every name and every word of a model or a user is escaped; nothing is
    loaded from outside."""
    from plotly.offline import get_plotlyjs

    from lab.figures import markup, palette, race

    run, verdict = result.run, result.verdicts[0] if result.verdicts else None
    row_counts = result.ask("row_counts", result.run_id)
    settings = run["settings"] if run["keep_text"] else without_text(run["settings"], _own(result))
    # The knobs stand beside the config, filled in; once is enough.
    asked = {name: value for name, value in settings["config"].items() if name != "knobs"}
    settings = {**settings, "config": asked}
    return template("report.html.jinja").render(
        title=f"{run.get('name') or run['technique']} · {run['endpoint']} · "
        f"{units.when(run['started_utc'])}",
        about=about(run),
        result=result,
        verdict=verdict,
        each_arm=summary.each_arm(result),
        heads=["arm (medians)", "n", "failed", *map(metrics.words, metrics.TABLE), *ALSO],
        arms=[_arm(result, *arm) for arm in result.arms()],
        figures=[drawn(figure) for figure in figure_files.run_figures(result).values()],
        race=race,
        lanes=_lanes(result),
        chosen=_in_words(result, settings),
        settings=json.dumps(settings, indent=1, ensure_ascii=False, default=str),
        rows=[
            [name, units.whole(n)]
            for name, n in row_counts.items()
            if n or not name.startswith(("recorded_", "load_"))  # no paired run has any
        ],
        colours=palette.LIGHT,
        figure_style=markup.STYLE,
        tone=palette.tone_colour(verdict.tone if verdict else "neutral"),
        plotly=get_plotlyjs(),
        units=units,
    )


def template(name: str) -> Template:
    """One of this folder's; it escapes all that it is given, but for what is marked safe."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def about(run: Mapping[str, Any]) -> str:
    kind = endpoint_kinds.kind(run["endpoint_kind"])
    parts = (
        run["technique"],
        run["endpoint"],
        kind.caveat if kind.name else run["endpoint_kind"],
        ", ".join(f"{tier} {model}" for tier, model in run["models"].items()),
        run["status"],
        units.origin(run),
        run.get("note"),
    )
    return " · ".join(part for part in parts if part)


def _arm(result: RunResult, technique: str, arm: str) -> list[Any]:
    counted, measured = result.counted(technique, arm), result.metrics(technique, arm)
    return [
        result.name(technique, arm),
        counted.get("n", 0),
        counted.get("failed", 0),
        *(units.value(name, measured.get(name, {}).get("p50")) for name in metrics.TABLE),
        units.usd(counted.get("cost_usd")),
        units.percent(counted.get("quality")),
    ]


def _in_words(result: RunResult, settings: Mapping[str, Any]) -> list[list[str]]:
    """What was compared and how much of it; a longer value stands in the raw settings alone."""
    knobs = settings.get("knobs")
    rows = {
        "arms, the baseline first": ", ".join(result.name(*arm) for arm in result.arms()),
        "verdict planned on": result.headline_words,
        "blocks": f"{settings.get('runs')}, after {settings.get('warmup') or 0} to warm up",
        "tasks": settings.get("scenario"),
        "seed": result.run["seed"],
        "text": "kept" if result.run["keep_text"] else "not kept",
    }
    for name, value in knobs.items() if isinstance(knobs, Mapping) else ():
        if isinstance(value, (str, int, float)) and units.short(str(value)) == str(value):
            rows[name.replace("_", " ")] = value
    return [[name, units.short(str(value))] for name, value in rows.items() if value is not None]


def _own(result: RunResult) -> set[str]:
    """Settings that hold words of the user's own; all knobs where a technique is not known here."""
    known = result.techniques()
    asked = {arm["technique"] for arm in result.run["settings"].get("arms", [])}
    unknown = ["knobs"] if len(known) < len(asked) else []
    return {"tasks", *(technique.files for technique in known), *unknown}


def without_text(settings: dict[str, Any], hidden: Collection[str]) -> dict[str, Any]:
    """A report is made to be sent: the user's own questions and bodies, which are the settings
    named in `hidden`, are in it only where the run keeps text."""
    shown = {}
    for name, value in settings.items():
        if name in hidden and value:
            value = "not kept"
        shown[name] = without_text(value, hidden) if isinstance(value, dict) else value
    return shown


def drawn(figure: Any) -> dict[str, str]:
    from lab.figures import layout, markup

    return {"html": markup.block(figure), "alt": layout.alt(figure)}


def _lanes(result: RunResult) -> dict[str, Any] | None:
    """What the race replays, None where the run has no pair; with its words."""
    from lab.figures import race

    pair = result.pair
    if pair is None or result.names_no_stack:
        return None
    data = race.race_data(
        result.ask("trial_events", result.typical),
        result.named(result.typical_calls),
        result.typical_trials,
        metric=result.headline,
        arms=result.places,
    )
    words = race.words(result.comparison(), pair.value, pair.baseline_value)
    return {"data": data, "lead": pair.lead, "words": words}
