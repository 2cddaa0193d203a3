"""What a load found: the answer in words, throughput against first tokens, its levels in numbers,
and one chosen view below."""

from collections.abc import Callable
from html import escape as html
from typing import Any

import streamlit as st

from lab import endpoint_kinds, load_answer, load_table, units
from lab.endpoints.registry import Endpoint
from lab.figures import palette
from lab.load.load_settings import LoadConfig
from lab.load_answer import Answer
from lab.load_results import LoadResult
from lab.model import LabError
from lab.paths import COMMAND
from lab.settings import build
from pages.parts import (
    cached_queries,
    chart,
    controls,
    copy_button,
    frame,
    load_form,
    load_views,
    run_panel,
)
from pages.parts.frame import escape, guard


def show(endpoint: Endpoint, run: dict[str, Any]) -> None:
    """Only what is chosen is computed; the view is in the URL."""
    result = cached_queries.load(run["run_id"])
    _state(result, endpoint)
    if not result.levels:
        st.info("This load has no level: it ended before its first. New run sets another one up.")
        return
    with guard():
        _answer(result)
    with guard():
        load_views.curve(result)
    with guard():
        load_views.levels(result)
    chosen = controls.segments("View", VIEWS, "view")
    with guard(), st.container(key="chosen-view"):
        VIEWS[chosen](result)


def _state(result: LoadResult, endpoint: Endpoint) -> None:
    run = result.run
    if run["endpoint"] != endpoint.name:
        say = st.caption if run["endpoint_kind"] == endpoint.kind else st.info
        say(
            f"This load was put on **{escape(run['endpoint'])}**. A new one goes to"
            f" **{escape(endpoint.name)}**, chosen above."
        )
    if origin := units.origin(run):
        st.caption(f"This load was not measured here: it, or a part of it, is {escape(origin)}.")
    text = (run_panel.ending(run["run_id"]) or {}).get("text") or ""
    because = f": {escape(text).rstrip('.')}" if text else ""
    if run["status"] == "failed":
        st.error(f"This load failed{because}. What it measured is kept.")
    elif run["status"] == "interrupted":
        st.warning("This load was stopped before its end; what it measured is kept.")


def _answer(result: LoadResult) -> None:
    told = load_answer.answer(result)
    with st.container(border=True, key="verdict"):
        if told.doubts:
            colour = palette.tone_colour("warn", chart.dark())
            lines = "<br>".join(f"{html(doubt)}." for doubt in told.doubts)
            st.html(f'<div class="lab-doubt" style="color:{colour}">{lines}</div>')
        if number := load_answer.number(result):
            tone = "unsure" if told.doubts else told.tone
            colour = palette.tone_colour(tone, chart.dark())
            st.html(f'<div class="lab-number {tone}" style="color:{colour}">{html(number)}</div>')
        st.markdown(f"**{escape(told.lead)}**")
        lines = (load_table.counts(result), *told.notes)
        st.caption("  \n".join(map(escape, lines)))
        _where(result)
        _next(result, told)


def _where(result: LoadResult) -> None:
    run, kind = result.run, endpoint_kinds.kind(result.run["endpoint_kind"])
    about = [
        "" if run["endpoint"] == kind.name else run["endpoint"],
        ", ".join(dict.fromkeys(run["models"].values())),
        units.when(run["started_utc"]),
        units.origin(run),
    ]
    tag = f'<span class="lab-tag{" hatched" if kind.hatched else ""}">{html(kind.name)}</span>'
    words = html(" · ".join(filter(None, about)))
    note = f"<br>{html(kind.note)}" if kind.note else ""
    st.html(f'<div style="font-size:13px">{tag}&ensp;{words}{note}</div>')


def _next(result: LoadResult, told: Answer) -> None:
    busy = run_panel.busy()
    with st.container(horizontal=True, vertical_alignment="center"):
        try:
            config = build(LoadConfig, dict(result.config) | {"db": None})
        except LabError:  # of another version
            config = None
        if config is not None:
            st.button(
                "Run again",
                key="load-again",
                disabled=bool(busy),
                help=escape(busy) or "The same load once more, as a run of its own.",
                on_click=load_form.again,
                args=(config,),
            )
        history = next(page for page in frame.page_files() if page.label == "History")
        frame.link(history, "Name, note or delete it", run=result.run_id)
        copy_button.show("Copy as Markdown", load_table.markdown(result), key="copy-verdict")


def _terminal(result: LoadResult) -> None:
    st.code(load_table.command(result), language="bash")
    st.caption(
        f"The same load in a terminal. `{COMMAND} show {escape(result.run_id)}` tells this one"
        " there, and with `--json` as one object."
    )


VIEWS: dict[str, Callable[[LoadResult], None]] = {
    "In time": load_views.over_time,
    "Distribution": load_views.distribution,
    "Errors": load_views.errors,
    "Rows": load_views.rows,
    "In a terminal": _terminal,
}
