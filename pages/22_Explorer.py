"""Explorer: the tables and views themselves, a query box that can only read, and files of any
result."""

import streamlit as st

from pages.parts import controls, explorer, frame, share

with frame.open_page(
    "Explorer", "Every timing row is yours: look it up, ask it in SQL, take it with you."
):
    tables = "Tables"
    with st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
    ):
        chosen = controls.segments("What", [tables, "SQL"], "what")
        share.everything()
    if chosen == tables:
        explorer.tables()
    else:
        explorer.query()
