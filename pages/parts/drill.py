"""From an arm to its trials, from a trial to its calls, spans and events; where the reader is
stands in the URL."""

from typing import Any

import pandas as pd
import streamlit as st

from lab import units
from lab.figures import palette, waterfall
from pages.parts import cached_queries, chart, controls
from pages.parts.frame import escape

CALL_COLUMNS = [
    "role",
    "model",
    "started_ms",
    "ttft_ms",
    "total_ms",
    "prompt_tokens",
    "cache_read_tokens",
    "output_tokens",
    "observed_cache",
    "stop_reason",
    "error_kind",
    "call_id",
]
SAID_COLUMNS = [
    "asked",
    "served_model",
    "speed",
    "service_tier",
    "inference_geo",
    "thread_id",
    "diagnosis",
    "cache_miss_reason",
    "missed_cache_tokens",
    "usage_note",
    "requests_left",
    "input_tokens_left",
    "output_tokens_left",
]
"""What the endpoint says of a call, beside what it asked: shown where any of a trial has it."""
SPAN_COLUMNS = ["kind", "name", "started_ms", "ended_ms", "span_id", "parent_id"]
EVENT_COLUMNS = ["at_ms", "role", "kind", "characters", "text", "call_id"]


def follow(points: list[dict[str, Any]], calls: pd.DataFrame) -> None:
    """A click on a row of the waterfall opens that arm, once: the chart keeps its selection and
    would bring the reader back each time."""
    trial = _trial_of(points)
    if trial == st.session_state.get("followed"):
        return
    st.session_state["followed"] = trial
    if trial and (calls["trial_id"] == trial).any():
        st.query_params["arm"] = str(calls.loc[calls["trial_id"] == trial, "arm"].iloc[0])
        st.query_params.pop("trial", None)


def show(run: dict[str, Any], has_bars: bool = True) -> None:
    """The arm and trial in the URL; where there is none, how to come to one, if bars are there."""
    names = cached_queries.places(run)
    arm, trial = st.query_params.get("arm"), st.query_params.get("trial")
    if arm not in names:
        if has_bars:
            st.caption(
                "Drag across the picture to move the race to that moment. Click a bar to open the"
                " trials of its arm."
            )
        return
    with st.container(border=True, key="drill"):
        left, right = st.columns([5, 1], vertical_alignment="center")
        left.markdown(
            f"**Trials of {escape(arm)}**"
            + (f" · trial {units.short_id(trial)}" if trial else ": click one to open its calls")
        )
        if right.button("Back" if trial else "Close", key="drill-back", width="stretch"):
            st.query_params.pop("trial" if trial else "arm", None)
            st.session_state["drill"] = st.session_state.get("drill", 0) + 1
            st.rerun()
        if trial:
            _trial(trial)
        else:
            calls = cached_queries.by_arm(run, "calls")
            calls = calls[(calls["arm"] == arm) & (calls["phase"] == "measured")]
            colour = palette.arm_colours(names, chart.dark())[arm]
            # A chart that comes back with the same key brings its old selection, which would open
            # the trial again.
            key = f"trials-{run['run_id']}-{arm}-{st.session_state.get('drill', 0)}"
            points = chart.show(
                waterfall.trial_rows(calls, chart.dark(), colour=colour), key=key, clicks=True
            )
            if chosen := _trial_of(points):
                st.query_params["trial"] = chosen
                st.rerun()


def _trial(trial: str) -> None:
    calls = cached_queries.ask("calls", None, trial)
    if calls.empty:
        st.caption("This trial made no call.")
    else:
        said = [name for name in SAID_COLUMNS if calls[name].notna().any()]
        columns = [*CALL_COLUMNS[:-1], *said, CALL_COLUMNS[-1]]
        st.dataframe(calls[columns], hide_index=True, key="trial-calls")
    if controls.segments("Within the trial", ["Spans", "Events"], "within") == "Spans":
        table, columns = cached_queries.ask("spans", trial), SPAN_COLUMNS
    else:
        table, columns = cached_queries.ask("trial_events", trial), EVENT_COLUMNS
    if table.empty:
        st.caption("Nothing arrived in this trial.")
    else:
        st.dataframe(table[columns], hide_index=True)


def _trial_of(points: list[dict[str, Any]]) -> str | None:
    data = points[0].get("customdata") if points else None
    return str(data[0]) if data else None
