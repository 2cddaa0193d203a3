"""The segments under the waterfall; each is drawn only when it is chosen."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from lab import code_samples, endpoint_kinds, metrics, techniques, units
from lab.critical_path import critical_path
from lab.endpoints import registry
from lab.figures import clocks, palette
from lab.figures import distribution as distribution_figures
from lab.figures import pairs as pair_figures
from lab.figures import spans as span_figures
from lab.harness import own_text, plan
from lab.model import LabError, Technique, Tier, View
from lab.paths import COMMAND
from lab.scenarios import definitions
from lab.scenarios.definitions import Task
from lab.settings import config_of
from lab.stats import Finding
from lab.store import export, queries
from lab.store.store import Store
from lab.view_parts import Choice, Note, Numbers, RunData, Slider, Table
from pages.parts import cached_queries, chart, controls, tables
from pages.parts.cached_queries import places
from pages.parts.frame import escape

ROW_COLUMNS = (
    "block",
    "position",
    "arm",
    "phase",
    "outcome",
    "wait_ms",
    "ttft_ms",
    "total_ms",
    "tokens_per_s",
    "prompt_tokens",
    "cached_share",
    "output_tokens",
    "quality",
    "cost_usd",
    "observed_cache",
    "connection_reused",
    "loop_lag_ms",
    "error_kind",
    "task_id",
    "started_utc",
    "trial_id",
)

OF_A_POINT = ("trial_id", "block", "technique", "arm", "model", "counts", "client_caused")


def distribution(run: dict[str, Any]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = _metric(run)
        log = st.toggle("Logarithmic axis", key="log", bind="query-params")
    result = cached_queries.judged(run["run_id"])
    if metric in result.outcomes:  # the verdict has read them
        trials = result.named(result.outcomes)
    else:
        trials = cached_queries.by_arm(run, "trials", columns=(*OF_A_POINT, metric))
    figure = distribution_figures.distribution(
        trials.assign(endpoint=run["endpoint"], endpoint_kind=run["endpoint_kind"]),
        metric,
        chart.dark(),
        finding=result.finding(metric),
        arms=places(run),
        log=log,
    )
    chart.show(figure, key="distribution")
    _summary(run, metric)


def pairs(run: dict[str, Any]) -> None:
    metric = _metric(run)
    figure = pair_figures.pairs(
        cached_queries.by_arm(run, "pairs", metric).assign(
            endpoint=run["endpoint"], endpoint_kind=run["endpoint_kind"]
        ),
        metric,
        chart.dark(),
        finding=cached_queries.judged(run["run_id"]).finding(metric),
        arms=places(run),
    )
    chart.show(figure, key="pairs")


def ladder(run: dict[str, Any]) -> None:
    result = cached_queries.judged(run["run_id"])
    calls = result.named(result.typical_calls)
    figure = clocks.clock_ladder(
        calls[calls["role"] == "answer"],
        chart.dark(),
        finding=result.finding(),
        arms=places(run),
        headline=result.headline,
        **({"pair": result.pair.words} if result.pair else {}),
    )
    chart.show(figure, key="clocks")


def table(run: dict[str, Any]) -> None:
    """Every trial, whatever came of it, a thousand at a time; and files with all of their
    columns."""
    total, most = cached_queries.ask("row_counts", run["run_id"])["trials"], tables.MOST_ROWS
    first = tables.first_of(total, "trial")
    frame = cached_queries.ask(
        "trials", run["run_id"], columns=ROW_COLUMNS, first=first, limit=most
    )
    st.dataframe(frame, hide_index=True, key="rows", height=420)
    name = f"trials-{units.short_id(run['run_id'])}"

    def content(kind: str) -> bytes:
        return export.frame_bytes(queries.trials(Store(), run["run_id"]), kind, name)

    controls.row(name, content, ("csv", "parquet", "json"))
    shown = f" The table has {len(frame):,} of them, a file all." if total > most else ""
    st.caption(
        f"{units.counted(total, 'trial')}, warm-up and failed ones included.{shown} Times in ms;"
        " data/README.md says what each column is."
    )


def use_it(run: dict[str, Any]) -> None:
    """The arm's own requests, found by rehearsing the trial on the run's own task, and Python that
    makes them."""
    arms_by_ref = {f"{arm['technique']}.{arm['arm']}": arm for arm in run["settings"]["arms"]}
    first = run["settings"]["headline"]
    ref = controls.segments(
        "Arm",
        arms_by_ref,
        "use-arm",
        f"{first['technique']}.{first['arm']}",
        format_func=lambda ref: escape(arms_by_ref[ref]["arm"]),
    )
    technique, arm = techniques.find(arms_by_ref[ref]["technique"]), arms_by_ref[ref]["arm"]
    values = run["settings"]["knobs"]
    if run["technique"] != technique.slug:  # side by side
        values = values.get(technique.slug, {})
    knobs = plan.knobs_of(technique, values)
    if arm not in {known.name for known in technique.arms_for(knobs)}:
        raise LabError(f"{technique.title} has no arm {arm} here, so its requests cannot be shown.")
    endpoint = _endpoint(run)
    endpoint = replace(endpoint, models={**endpoint.models, **run["models"]})
    task = _task(run, technique)
    requests = code_samples.requests(technique, arm, knobs, task, endpoint)
    written = requests
    where = f"To try it on this machine, start `{COMMAND} serve` and set what it prints."
    if endpoint.traits.own_server:
        choices = ("Claude", f"{endpoint.kind} models")
        if controls.segments("Models", choices, "use-models") == choices[0]:
            # As on Claude: its models, and its own way of not thinking first.
            there = registry.Endpoint("anthropic", endpoint_kinds.LIVE, "", models=_claude())
            written = code_samples.requests(technique, arm, knobs, task, there)
            where = "To try it on this machine, choose its models instead."
    st.caption(
        f"Python for the task {escape(task.task_id)} of this run. Set ANTHROPIC_API_KEY. {where}"
    )
    if own_text.MARK in run["settings"]:
        st.caption("This run kept no word of your requests: their lengths stand in their place.")
    st.code(code_samples.python(technique, arm, knobs, written), height=420)
    st.caption("The requests that one trial sent, in order, less what told it from other trials.")
    for number, request in enumerate(requests, 1):
        with st.expander(
            f"Request {number} of {len(requests)}:"
            f" {request.role}{', streamed' if request.stream else ''}"
        ):
            body = request.body | ({"stream": True} if request.stream else {})
            st.code(json.dumps(body, indent=2, ensure_ascii=False), language="json", height=320)


def _claude() -> Mapping[Tier, str]:
    """The models that the user has for Claude: those of their last run there, else the usual."""
    last = cached_queries.run_or_none(cached_queries.ask("last_run_id", None, endpoint_kinds.LIVE))
    known = last["models"] if last and last["endpoint"] == "anthropic" else {}
    return {**registry.LIVE_MODELS, **known}


def _endpoint(run: dict[str, Any]) -> registry.Endpoint:
    """The run's endpoint; a run that came from elsewhere may name one that is not known here, or
    whose key is not."""
    try:
        return registry.find(run["endpoint"])
    except LabError:
        return registry.Endpoint(run["endpoint"], run["endpoint_kind"], "", models=run["models"])


def _task(run: dict[str, Any], technique: Technique) -> Task:
    """The task of the median pair, where the run's tasks can still be read; else the first of the
    technique's own."""
    config = run["settings"]["config"]
    try:
        recorded = str(config.get("scenario")).startswith(definitions.RECORDING)
        asked = cached_queries.resolved(config_of(**config)).tasks if recorded else None
        tasks = (
            asked
            or [Task(**task) for task in config.get("tasks") or []]
            or definitions.load(config.get("scenario") or technique.category, run["endpoint_kind"])
        )
    except (LabError, TypeError, ValueError):
        tasks = definitions.load(technique.category, run["endpoint_kind"])
    result, first = cached_queries.judged(run["run_id"]), run["settings"]["headline"]
    typical = result.of_arm(result.typical_calls, first["technique"], first["arm"])
    wanted = set(typical["task_id"])
    return next((task for task in tasks if task.task_id in wanted), tasks[0])


def _metric(run: dict[str, Any]) -> str:
    return controls.by_name(
        st.selectbox,
        "Metric",
        metrics.METRICS,
        "metric",
        cached_queries.judged(run["run_id"]).headline,
        format_func=metrics.words,
        width=280,
        help="The verdict is planned on the headline metric alone; any other is exploratory.",
    )


def _summary(run: dict[str, Any], metric: str) -> None:
    """p50, p95, p99 by arm; a percentile that n cannot carry is in brackets."""
    result = cached_queries.judged(run["run_id"])
    rows = []
    for technique, arm in result.arms():
        measured = result.metrics(technique, arm).get(metric)
        if not measured:
            continue
        counted = result.counted(technique, arm)
        texts = {name: units.value(metric, measured[name]) for name in metrics.QUANTILES}
        row = {
            "arm": result.name(technique, arm),
            "n": measured["n"],
            "failed": counted.get("failed"),
            **{
                name: text if measured["supported"][name] else f"({text})"
                for name, text in texts.items()
            },
            "quality": units.percent(counted.get("quality")),
            "cost per trial": units.usd(counted.get("cost_usd")),
        }
        rows.append(row)
    if not rows:
        return
    st.dataframe(rows, hide_index=True, key="summary")
    floors = ", ".join(
        f"{name} from {metrics.needed(q)}" for name, q in metrics.QUANTILES.items() if q > 0.5
    )
    st.caption(
        f"In brackets: more trials are needed before this percentile can be relied on ({floors})."
    )


def span_tree(run: dict[str, Any]) -> None:
    """The spans of an arm's trial in the median pair's block, with its critical path solid."""
    result = cached_queries.judged(run["run_id"])
    calls = result.named(result.typical_calls)
    trials = dict(zip(calls["arm"], calls["trial_id"], strict=True)) if len(calls) else {}
    typical = [arm for arm in result.places if arm in trials]
    if not typical:
        st.info("No trial finished well, so there is no typical one to draw.")
        return
    arm = controls.segments("Arm", typical, "span-arm", typical[-1], format_func=escape)
    spans = cached_queries.ask("spans", trials[arm], run["run_id"])
    figure = span_figures.span_waterfall(
        spans,
        critical_path(spans),
        chart.dark(),
        arm=arm,
        colour=palette.arm_colours(result.places, chart.dark())[arm],
        pair=result.pair.words if result.pair else "",
    )
    chart.show(figure, key="spans")


def own(technique: Technique, view: View, run: dict[str, Any]) -> None:
    """A view of the technique's own: figures, tables, notes and numbers, in the order it gives."""
    judged = cached_queries.judged(run["run_id"]).finding
    priced_as, control = registry.LIVE_MODELS["large"], techniques.control().slug
    data = RunData(technique, run, cached_queries.ask, judged, priced_as, control)
    _draw(techniques.draw(data, view, chart.dark()), view.name.lower().replace(" ", "-"))


def proposal(technique: Technique) -> None:
    """What a technique proposes for its knobs before it has a run: from waits that are there."""
    newest = technique.proposes and cached_queries.ask("last_run_id", recorded=True)
    if run := cached_queries.run_or_none(newest) if newest else None:
        control = techniques.control().slug
        unjudged = partial(RunData, judged=lambda metric, arm: Finding(""), control=control)
        data = unjudged(technique, run, cached_queries.ask)
        with st.expander(f"{technique.proposes.name}: from waits that you have", expanded=True):
            _draw(techniques.draw(data, technique.proposes, chart.dark()), "proposal")


def _draw(parts: Iterable[Any], name: str) -> None:
    """Each part with a key of its own, by its place."""
    for place, part in enumerate(parts):
        key = f"{name}-{place}"
        match part:
            case Slider(words, low, high, value, draw):
                chosen = st.slider(
                    words, low, high, value, key=key, help=part.help or None, width=420
                )
                _draw(draw(chosen), key)
            case Choice(words, options, value, draw):
                chosen = st.selectbox(
                    words,
                    options,
                    [*options].index(value),
                    format_func=lambda key, options=options: options[key],  # which is no Markdown
                    key=key,
                    help=part.help or None,
                )
                _draw(draw(chosen), key)
            case Table(rows, columns, title):
                if title:
                    st.markdown(f"**{escape(title)}**")
                tables.show(rows.dropna(axis="columns", how="all"), key, columns)
            case Note(text):
                st.caption(escape(text))
            case Numbers(numbers):
                for column, number in zip(st.columns(len(numbers)), numbers, strict=True):
                    column.metric(number.words, number.text, help=number.help or None)
            case figure:
                chart.show(figure, key=key)


SHARED = {
    "Distribution": distribution,
    "Pairs": pairs,
    "Clocks": ladder,
    "Spans": span_tree,
}
ALWAYS = ("Race", "Rows", "Use it in your app")
"""What every page shows in its own place, whether a technique names it or not."""
LAST = {"Rows": table, "Use it in your app": use_it}


def of(technique: Technique) -> dict[str, Callable[[dict[str, Any]], None]]:
    """The segments of a technique's page in its order, closed by those that every page has."""
    views: dict[str, Callable[[dict[str, Any]], None]] = {}
    for view in technique.views:
        if isinstance(view, View):
            views[view.name] = partial(own, technique, view)
        elif view in SHARED:
            views[view] = SHARED[view]
        elif view not in ALWAYS:
            raise LabError(f"There is no view {view!r}; there are {', '.join(SHARED)}.")
    return views | LAST
