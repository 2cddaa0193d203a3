"""Your techniques: the page of every technique that brings none of its own, one at a time."""

import streamlit as st

from lab import techniques
from lab.paths import COMMAND
from pages.parts import experiment, frame

CLAIM = "Techniques of your own, from the folder that LAB_TECHNIQUES names."

own = {technique.slug: technique for technique in techniques.own_techniques()}
broken = techniques.broken()
slug = st.query_params.get("technique") or next(iter((*own, *broken)), None)
if slug in broken:
    with frame.open_page("Your techniques", CLAIM):
        what = f"**{frame.escape(slug)}** cannot be loaded. " if slug else ""
        st.error(what + frame.escape(broken[slug]))
        st.caption("Mend the file and open this page again; nothing needs a restart.")
    st.stop()
if slug not in own:
    with frame.open_page("Your techniques", CLAIM):
        gone = f"There is no technique {frame.escape(slug)} here. " if slug else "None yet. "
        st.info(
            f"{gone}Start the dashboard with LAB_TECHNIQUES set to a folder of your own; with the "
            f"same setting `{COMMAND} new my-technique` writes a technique there, and its page "
            "stands here."
        )
    st.stop()
st.query_params["technique"] = slug
experiment.page(own[slug])
