"""The order of every technique's page: what goes on now, what was found, and how to measure it
again."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from lab.endpoints.registry import Endpoint
from lab.model import Technique
from pages.parts import cached_queries, frame, run_panel, run_results, set_up, views
from pages.parts.frame import escape

GHOSTS = (
    (
        "The verdict",
        "How much sooner, with its interval, in words you can paste into a pull request.",
    ),
    (
        "The waterfall",
        "Where the time of the median trial goes, one row an arm; a click opens every call.",
    ),
    (
        "The rows",
        "Every trial with its clocks, tokens, cost and quality, to look through or download.",
    ),
)


def page(technique: Technique, form: set_up.Form | None = None) -> None:
    """A technique's whole page; `form` replaces the knobs where a page has widgets of its own."""
    with frame.open_page(technique.title, technique.claim, endpoint=True) as endpoint:
        _show(technique, endpoint, form)


def _show(technique: Technique, endpoint: Endpoint, form: set_up.Form | None) -> None:
    arms = [arm.name for arm in technique.arms]
    going = run_panel.watch(technique.slug, technique.headline, arms)
    run = chosen(technique.slug, endpoint)
    if going is None:
        if run:
            # The page's address, passed on, opens this run and not a later one.
            st.query_params["run"] = run["run_id"]
        set_up.show(technique, endpoint, opened=run is None, form=form)
        if run is None:
            views.proposal(technique)
            ghosts(GHOSTS)
    if run and run_panel.leaves_in_view(going, run):
        run_results.show(endpoint, run, views.of(technique))


def chosen(slug: str, endpoint: Endpoint) -> dict[str, Any] | None:
    """Of a technique, of the paired runs or of loads: the run in the URL, else the newest on the
    chosen endpoint, else the newest anywhere."""
    if linked := st.query_params.get("run"):
        run = cached_queries.run_or_none(linked)
        if run and run["technique"] == slug:
            return run
        if ended := run_panel.ending(linked):
            st.error(escape(ended.get("text") or "The run ended before its first trial."))
        elif not frame.is_elsewhere(run, slug) and run_panel.current(slug) != linked:
            st.warning(
                "The run in this link is not in this database; the newest one is shown instead."
            )
    newest = cached_queries.ask("last_run_id", slug, endpoint.kind) or cached_queries.ask(
        "last_run_id", slug
    )
    return cached_queries.run_or_none(newest)


def ghosts(shown: Sequence[tuple[str, str]]) -> None:
    """What will stand here, by title and text."""
    st.caption("After a run, this page shows:")
    for column, (title, text) in zip(st.columns(len(shown)), shown, strict=True):
        column.html(f'<div class="lab-ghost"><b>{title}</b>{text}</div>')
