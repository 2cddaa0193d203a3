"""Side by side: arms of any techniques in one paired run, and stored runs beside each other."""

import streamlit as st

from pages.parts import controls, frame, side_by_side, stored_runs

CLAIM = (
    "Which technique helps your workload, by how much and at what price? Arms of any techniques"
    " take turns on the same tasks."
)

with frame.open_page("Side by side", CLAIM, endpoint=True) as endpoint:
    paired, stored = "One paired run", "Stored runs"
    first = stored if "runs" in st.query_params else paired
    if controls.segments("What", [paired, stored], "what", first) == stored:
        stored_runs.show()
    else:
        st.query_params.pop("runs", None)
        side_by_side.paired(endpoint)
