"""Prove it: a finding of a recording, replayed with its fix, and the prediction beside what was
measured."""

from contextlib import suppress
from functools import partial

import streamlit as st

from lab import endpoint_kinds, recorded_tasks, techniques
from lab.endpoints import registry
from lab.harness.estimate import estimate
from lab.model import LabError
from lab.recording import fixes
from lab.recording.facts import Estimate, Miss, Worth
from lab.recordings import Recording
from lab.settings import BenchmarkConfig
from pages.parts import cached_queries, frame, run_panel, verdict_card
from pages.parts.frame import escape, guard

PARAM = "proof"
"""In the URL: the run that is shown beside its recording."""
OWN_WORK = "This is mended in your app itself; the lab has no change of a request for it."


def fix_of(finding: Miss | Worth) -> str | None:
    return finding.fix if isinstance(finding, Worth) else fixes.for_miss(finding)


def button(recording: Recording, finding: Miss | Worth) -> None:
    """Starts the replay of the finding's calls, where that costs nothing; else says its price
    first."""
    fix = fix_of(finding)
    reason = OWN_WORK if fix is None else "" if recording.keeps_text else recorded_tasks.NO_TEXT
    reason = reason or run_panel.busy()
    about = f"{fixes.FIXES[fix].title}. {fixes.FIXES[fix].description}." if fix else ""
    calls = [finding.call_id] if isinstance(finding, Miss) else list(finding.calls)
    priced = endpoint_kinds.kind(recording.run["endpoint_kind"]).priced
    start = partial(_config, recording, finding, calls)
    pressed = st.button(
        "Prove it",
        key=f"prove-{type(finding).__name__.lower()}-{fix}-{calls[0] if calls else ''}",
        disabled=bool(reason),
        help=escape(reason or about),
        on_click=None if priced else partial(_order, start),
    )
    if pressed and priced:
        _ask(start)


def _config(recording: Recording, finding: Miss | Worth, calls: list[str]) -> BenchmarkConfig:
    seconds = finding.seconds
    if seconds and isinstance(finding, Worth):  # of all its calls together
        share = 1 / max(1, len(calls))
        seconds = Estimate(*(end * share for end in (seconds.value, seconds.low, seconds.high)))
    bound = isinstance(finding, Worth) and finding.is_upper_bound
    return recorded_tasks.proof(recording, fix_of(finding), calls, seconds, bound)


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
            _card(linked)
    elif linked and (ended := run_panel.ending(linked)):
        st.error(escape(ended.get("text") or "The replay ended before its first trial."))
    elif mine and (result := cached_queries.judged(mine[0])).comparisons:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(escape(f"Last replay: {result.in_short}. {result.prediction}"))
            st.button("Show", key="show-proof", type="tertiary", on_click=_show, args=(mine[0],))


def _card(run_id: str) -> None:
    run = cached_queries.run_or_none(run_id)
    st.subheader(escape(_title(run)), anchor=False)
    with suppress(LabError):
        st.markdown(escape(cached_queries.told_fix(run)))
    verdict_card.show(run)
    if not cached_queries.judged(run_id).prediction:
        st.caption("No seconds were predicted: this recording has too few streamed calls for it.")
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
