"""The order of the page Ladder: what goes on now, what was found, and how to climb another."""

import streamlit as st

from lab.endpoints.registry import Endpoint
from lab.model import LADDER
from pages.parts import experiment, ladder_form, ladder_found, ladder_panel, run_panel

GHOSTS = (
    (
        "The stack",
        "The fastest combination that keeps your bar, in one sentence, with its interval.",
    ),
    (
        "The rungs",
        "What each technique gives on the way up, and why the others are not in it.",
    ),
    (
        "The frontier",
        "Speed, cost and quality of every stack that was tried, and the winner's code.",
    ),
)


def show(endpoint: Endpoint) -> None:
    going = ladder_panel.watch()
    run = experiment.chosen(LADDER, endpoint)
    if going is None:
        if run:
            # The page's address, passed on, opens this ladder and not a later one.
            st.query_params["run"] = run["run_id"]
        ladder_form.show(endpoint, opened=run is None)
        if run is None:
            experiment.ghosts(GHOSTS)
    if run and run_panel.leaves_in_view(going, run):
        ladder_found.show(endpoint, run)
