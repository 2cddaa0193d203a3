"""A run while it goes: tailed from the worker's progress file, so that any tab, reload or other
dashboard shows the same run."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from lab import processes, units
from lab.figures import progress_dots
from lab.model import Technique
from pages.parts import chart
from pages.parts.frame import escape, guard

EVERY_S = 0.5


def current(technique: Technique) -> str | None:
    """The id of this technique's run that is being measured now, whoever started it."""
    card = processes.running()
    return card.run_id if card and card.technique == technique.slug else None


def show(technique: Technique, run_id: str) -> None:
    """Progress, a dot per finished trial, time and money left, and Stop; when the run ends the
    whole page is drawn again, once."""
    st.fragment(_panel, run_every=EVERY_S)(technique, run_id)


def ending(run_id: str) -> dict[str, Any] | None:
    """How a run ended, {"status", "text"}, if its progress file is still there."""
    return next((entry for entry in reversed(_entries(run_id)) if entry["kind"] == "ended"), None)


def show_ending(ended: dict[str, Any]) -> None:
    """Why a run left no rows: one sentence."""
    st.error(escape(ended.get("text") or "The run ended before its first trial."))


def _entries(run_id: str) -> list[dict[str, Any]]:
    """All of a run's progress so far; each look reads only what was added since the last."""
    seen, offset = st.session_state.get(("progress", run_id), ([], 0))
    added, offset = processes.read_progress(run_id, offset)
    seen = seen + added
    st.session_state[("progress", run_id)] = (seen, offset)
    return seen


def _panel(technique: Technique, run_id: str) -> None:
    with guard():
        entries = _entries(run_id)
        ended = any(entry["kind"] == "ended" for entry in entries)
        card = processes.running()
        if ended or card is None or card.run_id != run_id:
            st.rerun()
        _draw(technique, run_id, entries)


def _draw(technique: Technique, run_id: str, entries: list[dict[str, Any]]) -> None:
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
            else:
                st.progress(
                    0.0,
                    "Preparing: the endpoint starts and warms up"
                    if started is None
                    else f"Trial 1 of {started['total']}",
                )
        with right:
            stopping = st.session_state.get(("stopping", run_id), False)
            if st.button(
                "Stopping" if stopping else "Stop", disabled=stopping, key="stop", width="stretch"
            ):
                processes.stop(run_id)
                st.session_state[("stopping", run_id)] = True
                st.rerun(scope="fragment")
        arms = started["arms"] if started else [arm.name for arm in technique.arms]
        frame = pd.DataFrame(trials)
        chart.show(
            progress_dots.dots(frame, arms, technique.headline, chart.dark()), key="live-dots"
        )
        if notes:
            st.caption(escape(notes[-1]))


def _state(last: dict[str, Any]) -> str:
    parts = [f"{last['done']} of {last['total']} trials"]
    if last.get("left_s") is not None:
        parts.append(f"about {units.duration(last['left_s'])} left")
    if last.get("spent_usd"):
        parts.append(f"{units.usd(last['spent_usd'])} spent")
    return " · ".join(parts)
