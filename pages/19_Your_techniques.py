"""Your techniques: the page of every technique that brings none of its own, one at a time."""

import streamlit as st

from lab import techniques
from lab.paths import COMMAND
from pages.parts import experiment, frame

CLAIM = "Techniques of your own, from the folder that LAB_TECHNIQUES names."

own = {technique.slug: technique for technique in techniques.own_techniques()}
slug = st.query_params.get("technique") or next(iter(own), None)
if slug not in own:
    with frame.open_page("Your techniques", CLAIM):
        st.info(
            "There is no such technique here. Set LAB_TECHNIQUES to a folder of your own: "
            f"`{COMMAND} new my-technique` then writes one there, and the dashboard shows it."
        )
    st.stop()
st.query_params["technique"] = slug
experiment.forget_other(own[slug])
experiment.page(own[slug])
