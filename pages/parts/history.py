"""All runs: found by filters, seen as a trend, named, noted, deleted (and brought back), and
brought in from elsewhere."""

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from lab import load_answer, load_table, metrics, processes, techniques, units
from lab.figures import trends
from lab.model import LOAD, WATCH, LabError
from lab.rows import ROWS
from lab.store import importing
from lab.store.queries import METRICS
from lab.store.store import Store
from pages.parts import cached_queries, chart, controls, frame
from pages.parts.frame import escape

MOST_TRENDS, MOST_RUNS, LISTED = 4, 300, 20
COLUMNS = [
    "started_utc",
    "name",
    "technique",
    "endpoint",
    "status",
    "trials",
    "failed",
    "cost_usd",
    "imported_from",
    "note",
]
"""Of the list of runs: what a browser is not shown it is not sent."""


def filters() -> dict[str, Any]:
    """What to look at; it stands in the URL. Empty means all."""
    known = cached_queries.ask("run_facts")
    if known.empty:
        return {}
    options = {
        "technique": ("Technique", known["technique"], "technique"),
        "endpoint_kind": ("Endpoint kind", known["endpoint_kind"], "kind"),
        "model": (
            "Model",
            [str(model) for models in known["models"] for model in models.values()],
            "model",
        ),
    }
    *columns, last = st.columns(4)
    chosen = {
        name: controls.by_name(
            column.selectbox,
            label,
            sorted(set(values)),
            key,
            None,
            format_func=frame.title_of if name == "technique" else str,
            placeholder="all",
            index=None,
        )
        for column, (name, (label, values, key)) in zip(columns, options.items(), strict=True)
    }
    text = last.text_input("Name or note contains", key="text", bind="query-params")
    return chosen | {"text": text or None}


def table(chosen: dict[str, Any]) -> dict[str, Any] | None:
    """The runs, newest first; the one that is selected, else the one in the URL."""
    runs = cached_queries.ask("runs", **chosen, settings=False)
    if runs.empty:
        st.info("No run matches. Clear a filter above.")
        return None
    runs = runs.assign(
        technique=runs["technique"].map(frame.title_of),
        cost_usd=runs["cost_usd"].map(units.usd),
        **{name: runs[name].fillna("") for name in ("name", "note", "imported_from")},
    )
    picked = st.dataframe(
        runs[COLUMNS],
        column_config={
            "imported_from": st.column_config.TextColumn(
                "imported from", help="Empty where this lab measured the run."
            ),
            "started_utc": st.column_config.DatetimeColumn(
                "started, UTC", format="D MMM YYYY, HH:mm"
            ),
            "cost_usd": st.column_config.TextColumn("cost", alignment="right"),
        },
        hide_index=True,
        height=min(36 * (len(runs) + 1) + 4, 330),
        on_select="rerun",
        selection_mode="single-row",
        key="runs-table",
    )
    st.caption(
        f"{units.counted(len(runs), 'run')}. Select one to open it, name it, add a note, take its"
        " report or delete it."
    )
    if picked.selection.rows:
        st.query_params["run"] = runs["run_id"].iloc[picked.selection.rows[0]]
    return opened()


def opened() -> dict[str, Any] | None:
    """The run or the load in the URL; of anything else it is said where it is shown."""
    run = cached_queries.run_or_none(st.query_params.get("run"))
    return None if frame.is_elsewhere(run, LOAD) else run


def recordings() -> None:
    """Recordings stand apart: nothing in them was measured by the lab."""
    rows = cached_queries.ask("recordings", limit=LISTED)
    if rows.empty:
        return
    st.subheader("Recordings of your applications", anchor=False)
    with st.container(key="recordings"):
        for run in rows.to_dict("records"):
            left, right = st.columns([3, 7], vertical_alignment="center")
            with left:
                _link(run)
            about = (
                units.counted(run["calls"], "call"),
                units.short(run["endpoint"]),
                units.when(run["started_utc"]),
                "" if run["status"] == "finished" else run["status"],
                "keeps text" if run["keep_text"] else "",
                units.origin(run),
            )
            right.caption(escape(" · ".join(filter(None, about))))


def has_loads() -> bool:
    return not cached_queries.ask("loads", limit=1).empty


def loads() -> None:
    """Loads stand apart: nothing in them is paired."""
    rows = cached_queries.ask("loads", limit=LISTED)
    if rows.empty:
        return
    st.subheader("Loads", anchor=False)
    with st.container(key="loads"):
        for run in rows.to_dict("records"):
            left, middle, right = st.columns([3, 6, 1], vertical_alignment="center")
            with left:
                _link(run)
            about = (
                load_table.listed(run),
                units.short(run["endpoint"]),
                units.when(run["started_utc"]),
                units.origin(run),
            )
            middle.caption(escape(" · ".join(filter(None, about))))
            if right.button("Edit", key=f"edit-{run['run_id']}", help="Name, note or delete it."):
                st.query_params["run"] = run["run_id"]
                st.rerun()


def watches() -> None:
    """Watches stand apart: their trials are series in time."""
    rows = cached_queries.all_watches()
    if rows.empty:
        return
    st.subheader("Watches", anchor=False)
    with st.container(key="watches"):
        for run in rows.head(LISTED).to_dict("records"):
            left, right = st.columns([3, 7], vertical_alignment="center")
            with left:
                _link({**run, "technique": WATCH})
            found = units.counted(len(cached_queries.watched(run["run_id"]).changes), "change")
            about = (found, units.short(run["endpoint"]), units.when(run["started_utc"]))
            right.caption(escape(" · ".join(about)))


def _link(run: dict[str, Any]) -> None:
    name = units.when(run["started_utc"]) if units.missing(run["name"]) else run["name"]
    page = frame.page_of(run["technique"])
    frame.link(page, escape(units.short(name, 40)), run=run["run_id"])


def edit(run: dict[str, Any]) -> None:
    """Name, note, report and deletion of one run; deleting asks first and can be undone."""
    run_id, is_load = run["run_id"], run["technique"] == LOAD
    with st.container(border=True, key="one-run"):
        name = units.short(run.get("name") or frame.title_of(run["technique"]))
        about = [
            load_answer.in_short(cached_queries.load(run_id))
            if is_load
            else cached_queries.listed([run_id])[run_id].in_short,
            units.when(run["started_utc"]),
            f"run {units.short_id(run_id)}",
            units.origin(run),
        ]
        st.markdown(f"**{escape(name)}** · {escape(' · '.join(filter(None, about)))}")
        with st.form(key=f"words-{run_id}", border=False):
            name = st.text_input("Name", run.get("name") or "", max_chars=80)
            note = st.text_area("Note", run.get("note") or "", height=80, max_chars=4000)
            if st.form_submit_button("Save"):
                Store().rename(run_id, name.strip() or None)
                Store().set_note(run_id, note.strip() or None)
                st.rerun()
        with st.container(horizontal=True):
            if page := frame.page_of(run["technique"]):
                frame.link(page, "Open the run", run=run_id)
            controls.download(
                "Report",
                lambda: cached_queries.report_of(run_id),
                f"run-{units.short_id(run_id)}.html",
                "text/html",
                key="report",
            )
            with st.popover("Delete", key=f"delete-{run_id}"):  # shut again for the next run
                st.markdown(
                    "All rows of this run are deleted. The run deleted last can be brought back."
                )
                if st.button("Delete this run", type="primary", key="delete"):
                    going = processes.running()
                    if going and going.run_id == run_id:
                        raise LabError("This run is being measured. Stop it first.")
                    Store().delete_run(run_id)
                    st.session_state["deleted"] = run.get("name") or units.short_id(run_id)
                    st.query_params.pop("run", None)
                    st.rerun()


def undo() -> None:
    if gone := st.session_state.get("deleted"):
        left, right = st.columns([5, 1], vertical_alignment="center")
        left.info(f"Run {escape(gone)} was deleted.")
        if right.button("Undo", key="undo", width="stretch"):
            Store().undelete()
            st.session_state.pop("deleted")
            st.rerun()


def trend(chosen: dict[str, Any]) -> None:
    """One chart a technique and endpoint kind, where it was run twice: kinds never share one."""
    metric = controls.by_name(
        st.selectbox, "Metric", METRICS, "metric", next(iter(METRICS)), format_func=metrics.words
    )
    named = {name: chosen.get(name) for name in ("technique", "endpoint_kind", "model")}
    latest = _latest(named)
    points = cached_queries.ask("history", metric, **named, latest=latest)
    if points.empty:
        st.info(f"No run that matches has a {metrics.words(metric)}.")
        return
    groups = list(points.groupby(["run_technique", "endpoint_kind"], sort=False))
    several = [(name, mine) for name, mine in groups if mine["run_id"].nunique() > 1]
    several.sort(key=lambda group: -group[1]["run_id"].nunique())
    for (technique, kind), mine in several[:MOST_TRENDS]:
        st.caption(escape(f"{frame.title_of(technique)} · {kind}"))
        figure = trends.history_trend(_as_in_newest(mine), chart.dark(), metric=metric)
        chart.show(figure, key=f"trend-{technique}-{kind}")
    if (more := len(several) - MOST_TRENDS) > 0:
        st.caption(f"{units.counted(more, 'more group')} to see: choose a technique above.")
    if once := [
        f"{frame.title_of(technique)} on {kind}"
        for (technique, kind), mine in groups
        if mine["run_id"].nunique() == 1
    ]:
        st.caption(f"A trend needs two runs; run once so far: {escape(', '.join(once))}.")


def _latest(named: dict[str, Any]) -> int | None:
    """How many of the newest runs are drawn: a reader of thousands asks for all of them first."""
    facts = cached_queries.ask("run_facts")
    for name, value in named.items():
        if value is not None and name == "model":
            facts = facts[[value in models.values() for models in facts["models"]]]
        elif value is not None:
            facts = facts[facts[name] == value]
    if (total := int(facts["runs"].sum())) <= MOST_RUNS:
        return None
    words = f"All {total:,} runs, not the newest {MOST_RUNS} alone"
    return None if st.toggle(words, key="every-run", bind="query-params") else MOST_RUNS


def _as_in_newest(points: pd.DataFrame) -> pd.DataFrame:
    """Each arm in the order of the newest run and named as there, with its place: so it has the
    colour that it has on that run's page."""
    run_id = points.sort_values("started_utc")["run_id"].iloc[-1]
    newest = cached_queries.listed([run_id])[run_id]
    keys = list(zip(points["technique"], points["arm"], strict=True))
    order = {arm: at for at, arm in enumerate(dict.fromkeys([*newest.arms(), *keys]))}
    points = points.assign(order=[order[arm] for arm in keys], place=techniques.places(keys))
    return newest.named(points.sort_values("order", kind="stable"))


def drift(run: dict[str, Any]) -> None:
    result = cached_queries.listed([run["run_id"]])[run["run_id"]]
    steady = cached_queries.ask("drift", run["run_id"], result.headline).assign(
        endpoint=run["endpoint"], endpoint_kind=run["endpoint_kind"]
    )
    figure = trends.drift(steady, chart.dark(), metric=result.headline, effect=result.effect)
    chart.show(figure, key="drift")


def bring_in() -> None:
    """Import is idempotent: rows have ids that are unique across databases."""
    with st.popover("Import runs", key="import-open"):
        st.markdown(
            "Another lab's `lab.duckdb`, or a zip of its exported Parquet, CSV or JSON files, or"
            " those files themselves. Importing twice adds nothing."
        )
        files = st.file_uploader(
            "Files",
            type=["duckdb", "zip", *importing.FORMS],
            accept_multiple_files=True,
            key="import-files",
        )
        if files and st.button("Import", key="import"):
            with tempfile.TemporaryDirectory(prefix="lab-import-") as folder:
                source, name = _laid_out(files, Path(folder))
                added = Store().import_from(source, name)
            st.success(
                f"Added {units.counted(added.runs, 'run')}, {units.counted(added.trials, 'trial')},"
                f" {units.counted(added.calls, 'call')} and {units.counted(added.events, 'event')}."
            )
            if added.left_out:
                were = "was" if added.left_out == 1 else "were"
                st.caption(
                    f"{units.counted(added.left_out, 'row')} {were} left out: there twice, or"
                    " nothing that a lab writes."
                )


def _laid_out(files: list[Any], folder: Path) -> tuple[Path, str]:
    """The uploads as import_from wants them, and what they are called."""
    for file in files:
        name = Path(Path(file.name).name)
        if name.suffix in (".duckdb", ".zip"):
            source = folder / f"uploaded{name.suffix}"
            source.write_bytes(file.getbuffer())
            return source, file.name
        if name.stem in ROWS and name.suffix[1:] in importing.FORMS:
            (folder / name).write_bytes(file.getbuffer())
    return folder, files[0].name
