"""Stored runs beside each other, and a new run in which arms of any techniques share their
blocks."""

import pandas as pd
import streamlit as st

from lab import endpoint_kinds, metrics, units
from lab.endpoints.registry import Endpoint
from lab.figures import distribution, pareto
from lab.harness.plan import SIDE_BY_SIDE
from lab.settings import config_of
from lab.techniques import all_techniques
from lab.view_parts import Column
from pages.parts import (
    cached_queries,
    chart,
    controls,
    knob_form,
    run_panel,
    run_results,
    set_up,
    tables,
    views,
)
from pages.parts.frame import escape

METRICS = ("wait_ms", "ttft_ms", "total_ms", "tokens_per_s", "output_tokens", "cost_usd")
WARNINGS = {"machine": "machines", "endpoint_kind": "endpoint kinds", "tasks": "prompts"}
SHOWN = (
    "label",
    "n",
    "failed",
    "ttft_ms",
    "wait_ms",
    "total_ms",
    "tokens_per_s",
    "cost_usd",
    "quality",
    "endpoint",
    "model",
    "started_utc",
    "imported_from",
)


def stored() -> None:
    """Choose runs; see them in one table, and of each endpoint kind on one chart."""
    runs = cached_queries.ask("runs", limit=200)
    runs = runs[runs["trials"] > 0]
    if runs.empty:
        st.info(
            "No run has a finished trial yet. Run an experiment from the sidebar; any two can then"
            " stand beside each other."
        )
        return
    by_id = runs.set_index("run_id")

    def title(run_id: str) -> str:
        run = by_id.loc[run_id]
        about = (
            units.short(run["technique"] if units.missing(run["name"]) else run["name"]),
            units.short(run["endpoint"]),
            units.when(run["started_utc"]),
            units.origin(run),
        )
        return " · ".join(filter(None, about))

    first = runs.drop_duplicates(["technique", "endpoint_kind"])
    first = first[first["endpoint_kind"] == runs["endpoint_kind"].iloc[0]]
    linked = [run_id for run_id in st.query_params.get_all("runs") if run_id in by_id.index]
    chosen = st.multiselect(
        "Runs",
        list(by_id.index),
        default=linked or list(first["run_id"])[:6],
        format_func=title,
        max_selections=12,
    )
    if chosen and chosen != linked:
        st.query_params["runs"] = chosen
    if not chosen:
        st.info("Choose at least one run above.")
        return
    _warn(chosen)
    summary, counts, trials = (
        cached_queries.ask(query, tuple(chosen))
        for query in ("arm_summary", "arm_counts", "counted_trials")
    )
    table = pareto.summary_table(summary, counts, runs)
    _table(table)
    metric = controls.segments("Metric", METRICS, "metric", "total_ms", format_func=metrics.words)
    arm = ["run_id", "technique", "arm"]
    trials = trials.merge(table[[*arm, "label"]], on=arm)
    for kind, mine in table.groupby("endpoint_kind", sort=False):
        if table["endpoint_kind"].nunique() > 1:
            st.subheader(escape(endpoint_kinds.kind(kind).words.capitalize()), anchor=False)
        figure = distribution.distribution(
            trials[trials["endpoint_kind"] == kind],
            metric,
            chart.dark(),
            arms=list(mine["label"]),
            label="label",
        )
        chart.show(figure, key=f"distribution-{kind}")
        speed = metric if metrics.find(metric).is_time else "total_ms"
        figure = pareto.scatter_pareto(mine, chart.dark(), metric=speed, label="label")
        chart.show(figure, key=f"pareto-{kind}")


def _warn(chosen: list[str]) -> None:
    if different := cached_queries.ask("setting_differences", tuple(chosen)):
        what = ", ".join(WARNINGS[name] for name in different)
        st.warning(
            f"These runs differ in {what}: a difference between them may not be the technique's. A"
            " paired run keeps all of it equal."
        )


def _table(table: pd.DataFrame) -> None:
    tables.show(
        table,
        "beside-table",
        {
            "label": "arm",
            **{
                name: Column(f"{metrics.words(name)}, {metrics.unit(name)}, p50", "localized")
                for name in ("ttft_ms", "wait_ms", "total_ms")
            },
            "tokens_per_s": Column("tokens/s, p50", "%.1f"),
            "cost_usd": Column("cost per trial", "$%.5f"),
            "quality": Column("quality", "percent"),
            "started_utc": st.column_config.DatetimeColumn(
                "started, UTC", format="D MMM YYYY, HH:mm"
            ),
            "imported_from": "imported from",
        },
        column_order=SHOWN if table["imported_from"].notna().any() else SHOWN[:-1],
    )


def paired(endpoint: Endpoint) -> None:
    """Arms of any techniques in one run: the same tasks, the same blocks, so that every difference
    is paired."""
    if going := run_panel.current(SIDE_BY_SIDE):
        run_panel.show(going, "wait_ms")
        return
    refs = [
        f"{technique.slug}.{arm.name}"
        for technique in all_techniques()
        for arm in technique.arms
        if technique.in_all
    ]
    arms = st.multiselect(
        "Arms, the baseline first",
        refs,
        default=refs[:2],
        key="arms",
        bind="query-params",
        max_selections=8,
        help="Each block runs every arm once, in random order.",
    )
    blocks = knob_form.run_setting("runs", key="blocks")
    if len(arms) < 2:
        st.info("Choose two arms or more; the first is the baseline.")
        return
    set_up.offer(config_of(technique=SIDE_BY_SIDE, endpoint=endpoint.name, arms=arms, runs=blocks))
    newest = cached_queries.run_or_none(
        st.query_params.get("run") or cached_queries.ask("last_run_id", SIDE_BY_SIDE)
    )
    if newest and newest["technique"] == SIDE_BY_SIDE:
        st.subheader(escape(run_results.title(newest)), anchor=False)
        shown = {name: views.SHARED[name] for name in ("Distribution", "Pairs", "Race")}
        run_results.show(endpoint, newest, shown | {"Rows": views.table})
