"""Prove it: a finding of a recording, replayed with its fix, and the prediction beside what was
measured."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial

import streamlit as st

from lab import endpoint_kinds, recorded_tasks, techniques
from lab.endpoints import registry
from lab.harness.estimate import estimate
from lab.model import LabError
from lab.recording import fixes, sums
from lab.recording.facts import Estimate, Worth
from lab.recording.sums import Cause
from lab.recordings import Recording
from lab.settings import BenchmarkConfig
from pages.parts import cached_queries, frame, run_panel, verdict_card
from pages.parts.frame import escape, guard

PARAM = "proof"
"""In the URL: the run that is shown beside its recording."""
OWN_WORK = "This is mended in your app itself; the lab has no change of a request for it."


def button(
    recording: Recording,
    fix: str | None,
    calls: Sequence[str],
    seconds: Estimate | None,
    key: str,
    is_upper_bound: bool = False,
) -> None:
    """Starts the replay of calls with a fix, where that costs nothing; else says its price first.
    `seconds` are what is foreseen of all these calls together."""
    reason = OWN_WORK if fix is None else "" if recording.keeps_text else recorded_tasks.NO_TEXT
    reason = reason or run_panel.busy()
    about = f"{fixes.FIXES[fix].title}. {fixes.FIXES[fix].description}." if fix else ""
    priced = endpoint_kinds.kind(recording.run["endpoint_kind"]).priced
    start = partial(_config, recording, fix, list(calls), seconds, is_upper_bound)
    pressed = st.button(
        "Prove it",
        key=f"prove-{key}",
        disabled=bool(reason),
        help=escape(reason or about),
        on_click=None if priced else partial(_order, start),
    )
    if pressed and priced:
        _ask(start)


def refusal(recording: Recording, rows: Iterable[Cause | Worth]) -> str:
    """Why none of these can be proven, for a caption; empty where one can, or none has a fix."""
    has_fix = any(row.fix for row in rows)
    return escape(recorded_tasks.NO_TEXT) if has_fix and not recording.keeps_text else ""


def _config(
    recording: Recording,
    fix: str,
    calls: list[str],
    seconds: Estimate | None,
    is_upper_bound: bool,
) -> BenchmarkConfig:
    if seconds:  # of a call
        share = 1 / max(1, len(calls))
        seconds = Estimate(*(end * share for end in (seconds.value, seconds.low, seconds.high)))
    return recorded_tasks.proof(recording, fix, calls, seconds, is_upper_bound)


def _order(config: partial) -> None:
    st.query_params.pop(PARAM, None)
    run_panel.order(techniques.of_recordings().slug, config)


@st.dialog("Prove it")
def _ask(start: partial) -> None:
    with guard():
        config = start()
        expected = estimate(cached_queries.resolved(config))
        for refusal in expected.refusals:
            st.error(escape(refusal))
        st.markdown(escape(f"{expected.text}."))
        if st.button("Start", type="primary", key="prove-start", disabled=bool(expected.refusals)):
            _order(start)
            st.rerun()


def results(recording: Recording) -> None:
    """The replay that goes on, or that the URL names; of an earlier one a line that opens it."""
    technique = techniques.of_recordings()
    arms = [arm.name for arm in technique.arms]
    if run_panel.watch(technique.slug, technique.headline, arms, PARAM):
        return
    mine = cached_queries.ask("runs_of_recording", recording.run_id, technique.slug)
    linked = st.query_params.get(PARAM)
    if linked in mine:
        with guard():
            _card(linked, recording)
    elif linked and (ended := run_panel.ending(linked)):
        st.error(escape(ended.get("text") or "The replay ended before its first trial."))
    elif mine and (result := cached_queries.judged(mine[0])).headlines:
        kind = endpoint_kinds.kind(result.run["endpoint_kind"]).name
        told = f"Last replay, {_title(result.run)}, {kind}: {result.in_short}."
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(escape(f"{told} {result.prediction}"))
            st.button("Show", key="show-proof", type="tertiary", on_click=_show, args=(mine[0],))


def _card(run_id: str, recording: Recording) -> None:
    run = cached_queries.run_or_none(run_id)
    st.subheader(escape(_title(run)), anchor=False)
    with suppress(LabError):
        st.markdown(escape(cached_queries.told_fix(run)))
    verdict_card.show(run)
    if not cached_queries.judged(run_id).prediction:
        why = sums.no_seconds(recording)
        reason = f": {why[:1].lower()}{why[1:]}" if why else " for these calls."
        st.caption(escape(f"No seconds were predicted{reason}"))
    with st.container(horizontal=True, vertical_alignment="center"):
        where = {"endpoint": run["endpoint"]} if run["endpoint"] in registry.names() else {}
        page = frame.page_of(run["technique"])
        frame.link(page, "Every trial of this replay", run=run_id, **where)
        st.button("Close", key="close-proof", type="tertiary", on_click=_show, args=(None,))


def _title(run: dict) -> str:
    fix = fixes.FIXES.get(str(run["settings"]["knobs"].get("fix")))
    return fix.title if fix else "A replay"


def _show(run_id: str | None) -> None:
    st.query_params.pop(PARAM, None)
    if run_id:
        st.query_params[PARAM] = run_id
