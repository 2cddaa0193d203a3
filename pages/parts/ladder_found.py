"""What a ladder found: the stack in words, its rungs, every stack that was tried, and the winner's
confirmation as any run is shown."""

import streamlit as st

from lab import ladder_results, units
from lab.endpoints.registry import Endpoint
from pages.parts import cached_queries
from pages.parts.frame import escape, guard


def show(endpoint: Endpoint, run: dict) -> None:
    result = cached_queries.ladder(run["run_id"])
    with guard(), st.container(border=True, key="verdict"):
        st.markdown(f"**{escape(result.sentence)}**")
    st.text("\n".join(ladder_results.told(result)))
