"""The order of the page Load: what goes on now, what was found, and how to put a load on again."""

import streamlit as st

from lab.endpoints.registry import Endpoint
from lab.model import LOAD
from pages.parts import experiment, load_form, load_found, load_panel, run_panel

GHOSTS = (
    (
        "The answer",
        "Up to which load the endpoint keeps what you ask of it, in one sentence.",
    ),
    (
        "Throughput and first tokens",
        "A point a level: what gets done, what it takes, and the knee between the two.",
    ),
    (
        "The load in time",
        "Every call from the instant at which it was due: a queue is seen growing.",
    ),
)


def show(endpoint: Endpoint) -> None:
    going = load_panel.watch()
    run = experiment.chosen(LOAD, endpoint)
    if going is None:
        if run:
            # The page's address, passed on, opens this load and not a later one.
            st.query_params["run"] = run["run_id"]
        load_form.show(endpoint, opened=run is None)
        if run is None:
            experiment.ghosts(GHOSTS)
    if run and run_panel.leaves_in_view(going, run):
        load_found.show(endpoint, run)
