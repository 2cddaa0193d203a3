"""What a reader passes on: the run's report, and any figure of the page as a picture or as a file
that still answers to the mouse."""

from typing import Any

import streamlit as st

from lab import units
from lab.figures import layout
from pages.parts import cached_queries, chart, controls
from pages.parts.frame import escape


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
                    lambda figure=figure: layout.interactive(figure),
                    f"{key.split('-')[0]}-{name}.html",
                    "text/html",
                    key=f"save-{key}",
                    type="tertiary",
                )
        st.caption("This page's address opens the same view.")
