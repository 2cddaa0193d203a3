"""A run while it goes: tailed from the worker's progress file, so that any tab, reload or other
dashboard shows the same run."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from lab import processes, units
from lab.figures import progress_dots
from lab.processes import RunCard
from pages.parts import chart
from pages.parts.frame import escape, guard

EVERY_S = 0.5


def current(technique: str) -> str | None:
    """The id of this technique's run that is being measured now, whoever started it."""
    card = processes.running()
    return card.run_id if card and card.technique == technique else None


@st.fragment(run_every=EVERY_S)
def show(run_id: str, headline: str, arms: Sequence[str] = ()) -> None:
    """Progress, a dot per finished trial, time and money left, and Stop; when the run ends the
    whole page is drawn again, once. `arms` are those expected until the run names its own."""
    with guard():
        card = processes.running()
        if card is None or card.run_id != run_id:
            st.rerun()
        _draw(card, headline, arms)


def ending(run_id: str) -> dict[str, Any] | None:
    """How a run ended, {"status", "text"}, if its progress file is still there."""
    entries, _ = processes.read_progress(run_id)
    return next((entry for entry in reversed(entries) if entry["kind"] == "ended"), None)


def _entries(card: RunCard) -> list[dict[str, Any]]:
    """All that a run's process has said so far; each look reads only what was added since the
    last. A process that goes on with a run begins its file anew."""
    key = ("progress", card.run_id, card.pid)
    seen, offset = st.session_state.get(key, ([], 0))
    added, offset = processes.read_progress(card.run_id, offset)
    st.session_state[key] = (seen + added, offset)
    return seen + added


def _draw(card: RunCard, headline: str, arms: Sequence[str]) -> None:
    entries = _entries(card)
    started = next((entry for entry in entries if entry["kind"] == "started"), None)
    trials = [entry for entry in entries if entry["kind"] == "trial"]
    notes = [entry["text"] for entry in entries if entry["kind"] == "note"]
    with st.container(border=True, key="run-panel"):
        left, right = st.columns([6, 1], vertical_alignment="center")
        with left:
            if trials:
                last = trials[-1]
                share = last["done"] / max(1, last["total"])
                st.progress(min(1.0, share), _state(last))
            elif started:
                st.progress(0.0, f"Trial 1 of {started['total']}")
            else:
                st.progress(0.0, "Preparing: the endpoint starts and warms up")
        with right:
            stopping = processes.stop_asked(card.run_id)
            if st.button(
                "Stopping" if stopping else "Stop", disabled=stopping, key="stop", width="stretch"
            ):
                processes.stop(card.run_id)
                st.rerun(scope="fragment")
        arms = started["arms"] if started else list(arms)
        figure = progress_dots.dots(pd.DataFrame(trials), arms, headline, chart.dark())
        chart.show(figure, key="live-dots")
        if notes:
            st.caption(escape(notes[-1]))


def _state(last: dict[str, Any]) -> str:
    parts = [f"{last['done']} of {last['total']} trials"]
    if last.get("left_s") is not None:
        parts.append(f"about {units.duration(last['left_s'])} left")
    if last.get("spent_usd"):
        parts.append(f"{units.usd(last['spent_usd'])} spent")
    return " · ".join(parts)
