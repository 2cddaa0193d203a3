"""History: every run, how a metric moved between runs, and how steady the control stood in one."""

import streamlit as st

from lab.model import LOAD
from pages.parts import frame, history, share

with frame.open_page("History", "Every run that was measured here, and how its times moved since."):
    with st.container(horizontal=True):
        share.everything()
        history.bring_in()
    history.undo()
    chosen = history.filters()
    run = history.table(chosen) if chosen else history.opened()
    if not chosen and not history.has_loads():
        st.info(
            "No run yet. Run an experiment from the sidebar, or import another lab's runs here."
        )
    if run:
        history.edit(run)
    if chosen:
        if run and run["technique"] != LOAD:
            history.drift(run)
        history.trend(chosen)
    history.loads()
    history.watches()
    history.recordings()
