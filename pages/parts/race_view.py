"""The race on a page: lanes of recorded arrivals, drawn by lab/figures/race.js in the browser
alone."""

from typing import Any

import streamlit as st

from lab.figures import race
from pages.parts import cached_queries, chart
from pages.parts.frame import escape

_component = st.components.v2.component(
    "lab.race",
    html=race.HTML,
    css=race.style(),
    js=race.script()
    + "\nexport default ({ data, parentElement }) => { race(parentElement.querySelector('.race'),"
    " data); };",
)


def show(run: dict[str, Any]) -> None:
    """The median pair with the other arms of its block, to the headline's finish line; nothing
    where the run has no pair."""
    result = cached_queries.judged(run["run_id"])
    if result.pair is None:
        return
    data = race.race_data(
        cached_queries.ask("trial_events", result.typical),
        result.named(result.typical_calls),
        result.typical_trials,
        chart.dark(),
        metric=result.headline,
        arms=result.places,
    )
    # Who watched the run sees its dots become the race.
    data["arrived"] = st.session_state.get("watched") == run["run_id"]
    words = race.words(result.comparison(), result.pair.value, result.pair.baseline_value)
    with st.container(gap=None, key=f"race-words-{run['run_id']}"):
        if words:
            st.markdown(f"**{escape(words)}**", width="stretch")
        st.caption(escape(f"{result.pair.lead}, {race.REPLAYED}"))
    _component(data=data, key=f"race-{run['run_id']}")
    st.caption(escape(race.about(data, result.places)))
