"""What a reader passes on: all of the lab as one file; of a run its report, and any figure of the
page as a picture or as a file that still answers to the mouse."""

import tempfile
from pathlib import Path
from typing import Any

import streamlit as st

from lab import units
from lab.figures import layout, markup, share_card
from lab.harness.reporters import figure_files
from lab.paths import COMMAND
from lab.store import export
from lab.store.store import Store
from pages.parts import cached_queries, chart, controls, copy_button
from pages.parts.frame import escape

_save = st.components.v2.component(
    "lab.card",
    html='<button type="button">Save as PNG</button>',
    css=copy_button.LOOK,
    # The browser itself makes the picture, by the figure's own camera.
    js="""
    export default function ({ parentElement }) {
        parentElement.querySelector("button").onclick = () => {
            const camera = ".st-key-share-card .modebar-btn";
            document.querySelector(camera)?.dispatchEvent(new MouseEvent("click"));
        };
    }
    """,
)
MIMES = {"duckdb": "application/octet-stream"}
"""Of the one file; what is no database is a zip."""


def everything() -> None:
    """All tables as one file. It is made when it is asked for, which takes a while, and can be
    imported again."""
    counts = cached_queries.ask("row_counts")
    with st.popover("Download everything", key="everything", disabled=not counts["runs"]):
        kind = controls.segments(
            "Kind of file",
            ["duckdb", "parquet", "csv", "json"],
            "everything-kind",
            format_func=lambda kind: controls.KINDS[kind][0],
        )
        rows = ", ".join(
            f"{units.whole(counts[table])} {table}" for table in ("runs", "trials", "calls")
        )
        made = "One database." if kind == "duckdb" else "One zip, a file for each table."
        st.caption(f"{rows}, and every event. {made} Import it here or in another lab.")
        wanted = (kind, Store().version())
        if st.button("Make the file", key="make-everything", type="primary"):
            bar = st.progress(0.0, "Starting")
            folder = tempfile.TemporaryDirectory(prefix="lab-download-")
            file = export.packed(
                Store(),
                Path(folder.name),
                kind,
                lambda text, share: bar.progress(share, f"Writing {text}"),
            )
            bar.empty()
            # The folder goes with the session that asked for it.
            st.session_state["everything-made"] = (wanted, file, folder)
        state, file, _ = st.session_state.get("everything-made", (None, None, None))
        if state == wanted:
            mime = MIMES.get(kind, "application/zip")
            controls.download(f"Save {file.name}", file.read_bytes, file.name, mime, "save-all")
        st.caption(f"In a terminal: `{COMMAND} export --format {kind}`")


def show(run: dict[str, Any]) -> None:
    """One quiet row under the results. The page's URL holds all of its state; these are for those
    who have no dashboard."""
    name = units.short_id(run["run_id"])
    with st.container(horizontal=True, vertical_alignment="center", key="share"):
        controls.download(
            "Report, one HTML file",
            lambda: cached_queries.report_of(run["run_id"]),
            f"report-{name}.html",
            "text/html",
            key="report",
            help="Verdict, figures, race, settings, machine and row counts; it opens offline.",
        )
        _card(run)
        with st.popover("Figures"):
            st.segmented_control(
                "The camera on a figure saves",
                ["png", "svg"],
                default="png",
                required=True,
                format_func=str.upper,
                key="picture",
                bind="query-params",
            )
            st.caption("Or one file that still answers to the mouse:")
            for key, figure in chart.drawn().items():
                controls.download(
                    escape(layout.title(figure)),
                    lambda figure=figure: markup.interactive(figure),
                    f"{key.split('-')[0]}-{name}.html",
                    "text/html",
                    key=f"save-{key}",
                    type="tertiary",
                )
        st.caption("This page's address opens the same view.")


def _card(run: dict[str, Any]) -> None:
    """The verdict as one picture for a chat or a slide, as it stands: doubts and endpoint too."""
    result = cached_queries.judged(run["run_id"])
    if not result.headlines:
        return
    card = st.popover("Share card", key="card-open", on_change="rerun")
    if not card.open:
        return
    figure = figure_files.share(result, chart.dark())
    with card:
        config = markup.config(f"share card {units.short_id(run['run_id'])}")
        size = {"width": share_card.WIDTH_PX, "height": share_card.HEIGHT_PX}
        config["toImageButtonOptions"] |= size | {"format": "png", "scale": share_card.SCALE}
        with st.container(key="share-card"):
            st.plotly_chart(
                figure,
                theme=None,
                key="card",
                **size,
                alt=figure.layout.meta["alt"],
                config=config | {"responsive": False},
            )
        _save(key="save-card", width="content")
