"""Explorer: the tables and views themselves, a query box that can only read, and files of any
result."""

import streamlit as st

from pages.parts import explorer, frame

with frame.open_page(
    "Explorer", "Every timing row is yours: look it up, ask it in SQL, take it with you."
):
    TABLES, QUERY = "Tables", "SQL"
    what = st.segmented_control(
        "What",
        [TABLES, QUERY],
        default=TABLES,
        required=True,
        key="what",
        bind="query-params",
        label_visibility="collapsed",
    )
    if what == TABLES:
        explorer.tables()
    else:
        explorer.query()
