"""The race on a page: lanes of recorded arrivals, drawn by lab/figures/race.js in the browser
alone."""

from typing import Any

import streamlit as st

from lab.figures import layout as drawn
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
    """The median pair of a run, by its headline metric; other arms run in their
    own median trials."""
    pair = cached_queries.by_arm(run, "median_pair")
    trials = [] if pair.empty else [pair["baseline_trial_id"].iloc[0], pair["trial_id"].iloc[0]]
    typical = cached_queries.by_arm(run, "typical_trials", cached_queries.headline(run))
    paired = set() if pair.empty else {pair["baseline"].iloc[0], pair["arm"].iloc[0]}
    trials += list(typical.loc[~typical["arm"].isin(paired), "trial_id"])[: max(0, 4 - len(trials))]
    if not trials:
        st.info("The race replays a recorded pair. Run at least one block that ends well.")
        return
    calls = cached_queries.by_arm(run, "calls")
    events = drawn.joined([cached_queries.ask("trial_events", trial) for trial in trials])
    calls = calls[calls["trial_id"].isin(trials)]
    data = race.race_data(events, calls, chart.dark(), arms=cached_queries.arms(run))
    st.markdown(
        f"**The median pair, replayed at the speed it was recorded.** {escape(race.words(data))}"
    )
    _component(data=data, key=f"race-{run['run_id']}")
    st.caption(
        "Never the best pair: the block whose difference is nearest the median. Text that was not"
        " kept shows as blocks of its length."
    )
