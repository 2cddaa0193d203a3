"""Stored runs of one technique on one kind of endpoint beside each other: described, not compared,
since runs that share no blocks differ in more than the technique."""

import pandas as pd
import streamlit as st

from lab import metrics, units
from lab.figures import run_medians
from pages.parts import arm_rows, cached_queries, chart, controls, frame
from pages.parts.frame import escape

AT_FIRST, MOST_RUNS = 4, 8
OF_A_TRIAL = ("run_id", "technique", "arm", "endpoint", "endpoint_kind", "model")
DIFFERENT = {"machine": "on different machines", "tasks": "with different tasks"}


def show() -> None:
    """Choose a group, then runs of it; see their arms in one picture and one table."""
    runs = cached_queries.ask("runs", limit=1000)
    runs = runs[runs["trials"] > 0]
    if runs.empty:
        st.info(
            "No run has a finished trial yet. Run an experiment from the sidebar; runs of it can"
            " then stand beside each other."
        )
        return
    linked = [run for run in st.query_params.get_all("runs") if run in set(runs["run_id"])]
    left, right = st.columns([2, 5])
    with left:
        group = _group(runs, linked)
    mine = runs[_groups(runs) == group].set_index("run_id", drop=False)
    names = _names(mine)
    with right:
        chosen = st.multiselect(
            "Runs, the newest first",
            list(mine.index),
            default=[run for run in linked if run in mine.index] or list(mine.index)[:AT_FIRST],
            format_func=names.get,
            max_selections=MOST_RUNS,
            key=f"runs-{group}",
        )
    if not chosen:
        st.info("Choose at least one run above.")
        return
    st.query_params["runs"] = chosen
    _say_what_differs(chosen)
    metric = controls.segments("Metric", metrics.CLOCKS, "metric", format_func=metrics.words)
    results = cached_queries.listed(chosen)
    arms = {arm: place for each in results.values() for arm, place in each.places.items()}
    columns = (*OF_A_TRIAL, metric)
    trials = cached_queries.ask("counted_trials", tuple(chosen), columns=columns)
    trials = next(iter(results.values())).named(trials.assign(run=trials["run_id"].map(names)))
    figure = run_medians.run_medians(
        trials, metric, chart.dark(), runs=list(map(names.get, chosen)), arms=arms
    )
    chart.show(figure, key="run-medians")
    rows = [
        arm_rows.Row(each, arm, names[run]) for run, each in results.items() for arm in each.arms()
    ]
    arm_rows.draw(sorted(rows, key=lambda row: list(arms).index(row.result.name(*row.arm))), metric)
    _links(chosen, mine, names)


def _groups(runs: pd.DataFrame) -> pd.Series:
    return runs["technique"] + " " + runs["endpoint_kind"]


def _group(runs: pd.DataFrame, linked: list[str]) -> str:
    """The group with the newest run, or that of the runs in the link."""
    counts = _groups(runs).value_counts(sort=False)
    first = _groups(runs[runs["run_id"] == linked[0]]).iloc[0] if linked else counts.index[0]

    def words(group: str) -> str:
        slug, _, kind = group.rpartition(" ")
        return f"{frame.title_of(slug)}, {kind} ({units.counted(counts[group], 'run')})"

    return controls.by_name(
        st.selectbox,
        "Technique and endpoint kind",
        list(counts.index),
        "group",
        first,
        format_func=words,
    )


def _names(runs: pd.DataFrame) -> dict[str, str]:
    """By id what a run is called: its name, else when it began; its last digits too where two would
    be called the same."""
    names = {
        run["run_id"]: " · ".join(filter(None, (_name(run), units.origin(run))))
        for run in runs.to_dict("records")
    }
    again = [name for name in names.values() if list(names.values()).count(name) > 1]
    return {
        run: f"{name} · {units.short_id(run)}" if name in again else name
        for run, name in names.items()
    }


def _name(run: dict) -> str:
    name = units.when(run["started_utc"]) if units.missing(run["name"]) else run["name"]
    return units.short(name, 40)


def _say_what_differs(chosen: list[str]) -> None:
    """Before any number: what these runs do not share, and what would."""
    if len(chosen) < 2:
        return
    different = cached_queries.ask("setting_differences", tuple(chosen))
    also = [words for name, words in DIFFERENT.items() if name in different]
    st.warning(
        f"These runs were measured {' and '.join(['at different times', *also])}. Nothing is"
        " compared here: any of that may make a difference. For a verdict, measure the arms in one"
        " paired run."
    )


def _links(chosen: list[str], runs: pd.DataFrame, names: dict[str, str]) -> None:
    """Each run's own page has its verdict."""
    st.caption("Each run's verdict is on its own page:")
    with st.container(key="run-links"):
        for run in chosen:
            if page := frame.page_of(runs.at[run, "technique"]):
                frame.link(page, escape(names[run]), run=run)
