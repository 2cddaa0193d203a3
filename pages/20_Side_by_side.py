"""Side by side: stored runs beside each other, and arms of any techniques in one paired run."""

import streamlit as st

from pages.parts import frame, side_by_side

CLAIM = (
    "Runs, models and endpoints beside each other; or arms of any techniques in one run, block by"
    " block."
)

with frame.open_page("Side by side", CLAIM, endpoint=True) as endpoint:
    STORED, PAIRED = "Stored runs", "One paired run"
    what = st.segmented_control(
        "What",
        [STORED, PAIRED],
        default=STORED,
        required=True,
        key="what",
        bind="query-params",
        label_visibility="collapsed",
    )
    if what == STORED:
        side_by_side.stored()
    else:
        side_by_side.paired(endpoint)
