"""A run as one HTML file that opens anywhere, offline: verdict, figures, the race, settings, machine and row counts."""

from __future__ import annotations

import json
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from lab import metrics, results, units
from lab.figures import clocks, layout, palette, pareto, race, trends, trials, waterfall
from lab.store import queries
from lab.store.store import Store
from lab.techniques.caching import figures as cache

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:">
<title>{title}</title>
<style>
:root {{ color-scheme: light; --st-text-color: {ink}; --st-primary-color: {accent}; }}
body {{ margin: 0 auto; max-width: 1120px; padding: 32px 24px 64px; background: {ground}; color: {ink};
       font: 15px/22px "Source Sans", "Source Sans Pro", system-ui, sans-serif; font-variant-numeric: tabular-nums; }}
h1 {{ font-size: 20px; line-height: 28px; margin: 0 0 4px; }} h2 {{ font-size: 15px; margin: 40px 0 8px; }}
p {{ max-width: 68ch; margin: 4px 0; }} .muted {{ color: {muted}; font-size: 13px; line-height: 18px; }}
.verdict {{ border: 1px solid {line}; border-left: 4px solid {tone}; border-radius: 6px; padding: 16px; margin: 16px 0 24px; }}
.verdict strong {{ font-size: 20px; line-height: 28px; color: {tone}; }}
.scroll {{ overflow-x: auto; }} table {{ border-collapse: collapse; font-size: 13px; line-height: 18px; }}
th, td {{ text-align: right; padding: 4px 12px 4px 0; white-space: nowrap; border-bottom: 1px solid {line}; }}
th:first-child, td:first-child {{ text-align: left; }} .figure {{ margin: 24px 0; }}
pre {{ font-size: 13px; white-space: pre-wrap; overflow-wrap: anywhere; }} details {{ margin: 8px 0; }} summary {{ cursor: pointer; }}
{style}
</style>
<script>{plotly}</script><script>{race}</script></head><body>
{body}
</body></html>
"""


def report(store: Store, run_id: str) -> str:
    """The whole file as text. Every name and every word of a model or a user is escaped; nothing is loaded from outside."""
    from plotly.offline import get_plotlyjs

    run_id = queries.resolve(store, run_id)
    found = results.read(run_id, store)
    run = dict(found.run)
    colours = palette.LIGHT
    said = found.words[0] if found.words else None
    title = f"{run.get('name') or run['technique']} · {run['endpoint']} · {units.when(run['started_utc'])}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="muted">{escape(_about(run))}</p>',
        _verdict(found),
        _summary(found),
        *(_drawn(figure) for figure in _figures(store, run)),
        _race(store, run),
        "<h2>Settings</h2>",
        f"<pre>{escape(json.dumps(_settings(run), indent=1, ensure_ascii=False, default=str))}</pre>",
        "<h2>Machine</h2>",
        *(_session(session) for session in run["sessions"]),
        "<h2>Rows behind this report</h2>",
        _table(
            ["table", "rows"],
            [[name, units.whole(n)] for name, n in queries.row_counts(store, run_id).items()],
        ),
        f'<p class="muted">run {escape(run_id)}</p>',
    ]
    return PAGE.format(
        title=escape(title),
        ink=colours.ink,
        muted=colours.muted,
        ground=colours.ground,
        line=colours.ghost,
        accent=colours.arms[1],
        tone=palette.tone_colour(said.tone if said else "neutral"),
        style=race.style(),
        plotly=get_plotlyjs(),
        race=race.script(),
        body="\n".join(part for part in parts if part),
    )


def _settings(run: dict[str, Any]) -> dict[str, Any]:
    """A report is made to be sent: the user's own questions and bodies are in it only where the run keeps text."""
    if run["keep_text"]:
        return run["settings"]
    hidden = {"tasks", "bodies"}

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: "not kept" if key in hidden and part else without(part)
                for key, part in value.items()
            }
        return value

    return without(run["settings"])


def _about(run: dict[str, Any]) -> str:
    said = {
        "live": "",
        "local": "local: the mechanism, not Claude's size",
        "simulated": "simulated: no model ran",
    }
    kind = said.get(run["endpoint_kind"], run["endpoint_kind"])
    models = ", ".join(f"{tier} {model}" for tier, model in run["models"].items())
    return " · ".join(
        part
        for part in (
            run["technique"],
            run["endpoint"],
            kind,
            models,
            run["status"],
            units.origin(run),
            run.get("note") or "",
        )
        if part
    )


def _verdict(found: Any) -> str:
    if not found.words:
        return '<div class="verdict"><strong>No verdict: no block has both arms finished.</strong></div>'
    said = found.words[0]
    lines = "".join(
        f"<p>{escape(line)}</p>" for line in (said.seen, said.detail, *found.notes) if line
    )
    return f'<div class="verdict"><strong>{escape(said.headline)}</strong>{lines}</div>'


def _summary(found: Any) -> str:
    lines = []
    for technique, arm in found.arms():
        counted, measured = found.counted(technique, arm), found.metrics(technique, arm)
        medians = [
            units.value(metric, (measured.get(metric) or {}).get("p50")) for metric in metrics.TABLE
        ]
        lines.append(
            [
                found.name(technique, arm),
                counted.get("n", 0),
                counted.get("failed", 0),
                *medians,
                units.usd(counted.get("cost_usd")),
                units.percent(counted.get("quality")),
            ]
        )
    return _table(
        ["arm (medians)", "n", "failed", *map(metrics.words, metrics.TABLE), "cost", "quality"],
        lines,
    )


def _figures(store: Store, run: dict[str, Any]) -> list[go.Figure]:
    run_id, metric = run["run_id"], run["settings"]["headline"]["metric"]
    arms = [arm["arm"] for arm in run["settings"]["arms"]]
    typical, calls = queries.median_trials(store, run_id, metric), queries.calls(store, run_id)
    counts, every = queries.arm_counts(store, run_id), queries.trials(store, run_id)
    chosen = calls[calls["trial_id"].isin(typical["trial_id"])]
    n = None if counts.empty else int(counts["n"].max())
    figures = [
        waterfall.waterfall(chosen, arms=arms, n=n, metric=metric),
        trials.distribution(every, metric, arms=arms),
    ]
    pairs = queries.pairs(store, run_id, metric)
    figures.append(trials.pairs(pairs, metric, arms=arms))
    figures.append(
        clocks.clock_ladder(chosen[chosen["role"] == "answer"], arms=arms, headline=metric)
    )
    if run["technique"] == "caching":
        points = queries.cache_points(store, run_id)
        figures += [cache.cache_hits(points), cache.cache_tokens(points, arms=arms)]
    table = pareto.summary_table(
        queries.arm_summary(store, run_id),
        counts,
        pd.DataFrame([{name: run[name] for name in _RUN}]),
    )
    figures.append(
        pareto.scatter_pareto(table, metric=metric if metric.endswith("_ms") else "total_ms")
    )
    steady = queries.drift(store, run_id, metric).assign(
        endpoint=run["endpoint"], endpoint_kind=run["endpoint_kind"]
    )
    return [*figures, trends.drift(steady, metric=metric)]


_RUN = (
    "run_id",
    "endpoint",
    "endpoint_kind",
    "models",
    "settings",
    "name",
    "started_utc",
    "imported_from",
)


def _drawn(figure: go.Figure) -> str:
    """Two buttons beside each figure make its picture in the browser; hovering works as on the page."""
    # A tag inside a string of a script would end the script: plotly's JSON is escaped like the race's.
    html = figure.to_html(
        full_html=False, include_plotlyjs=False, config=layout.config(layout.title(figure))
    )
    return f'<div class="figure" role="img" aria-label="{escape(layout.alt(figure))}">{html}</div>'


def _race(store: Store, run: dict[str, Any]) -> str:
    pair = queries.median_pair(store, run["run_id"])
    if pair.empty:
        return ""
    trials_ = [pair["baseline_trial_id"].iloc[0], pair["trial_id"].iloc[0]]
    calls = queries.calls(store, run["run_id"])
    events = layout.joined([queries.trial_events(store, trial) for trial in trials_])
    data = race.race_data(
        events,
        calls[calls["trial_id"].isin(trials_)],
        arms=[arm["arm"] for arm in run["settings"]["arms"]],
    )
    return f"<h2>The median pair, at the speed it was recorded</h2><p>{escape(race.words(data))}</p>{race.embedded(data)}"


def _session(session: dict[str, Any]) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in session["machine"].items())
    when = f"{units.when(session['started_utc'])} UTC, lab {session['lab_version']}"
    return (
        f"<p>{escape(machine)}</p><p class='muted'>{escape(when)} · {escape(session['worker'])}</p>"
    )


def _table(heads: list[str], lines: list[list[Any]]) -> str:
    head = "".join(f"<th>{escape(str(cell))}</th>" for cell in heads)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in line) + "</tr>"
        for line in lines
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'
