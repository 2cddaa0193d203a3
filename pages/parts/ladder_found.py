"""What a ladder found: the stack in words, its rungs, every stack that was tried, and the winner's
confirmation as any run is shown."""

from collections.abc import Callable
from html import escape as html
from typing import Any

import streamlit as st

from lab import endpoint_kinds, ladder_code, ladder_order, ladder_results, metrics, units
from lab.endpoints.registry import Endpoint
from lab.figures import interval, ladder_rungs, palette, pareto
from lab.ladder_results import LadderResult
from lab.model import LabError
from lab.paths import COMMAND
from lab.store.store import Store
from pages.parts import (
    cached_queries,
    chart,
    controls,
    copy_button,
    frame,
    ladder_form,
    race_view,
    run_panel,
    run_results,
    verdict_card,
    views,
)
from pages.parts.frame import escape, guard


def show(endpoint: Endpoint, run: dict[str, Any]) -> None:
    """Only what is chosen is computed; the view is in the URL."""
    result = cached_queries.ladder(run["run_id"])
    _state(result, endpoint)
    with guard():
        _answer(result)
    if result.rungs or result.others:
        with guard():
            _rungs(result)
    if len(result.pairs) and not result.refusal:
        with guard():
            race_view.show(run)
    offered = {
        name: view for name, view in VIEWS.items() if len(result.pairs) or name not in CONFIRMED
    }
    chosen = controls.segments("View", offered, "view")
    with guard(), st.container(key="chosen-view"):
        offered[chosen](run)


def _state(result: LadderResult, endpoint: Endpoint) -> None:
    run = result.run
    if run["endpoint"] != endpoint.name:
        say = st.caption if run["endpoint_kind"] == endpoint.kind else st.info
        say(
            f"This ladder was climbed on **{escape(run['endpoint'])}**. A new one goes to"
            f" **{escape(endpoint.name)}**, chosen above."
        )
    if run["status"] == "failed":
        text = (run_panel.ending(run["run_id"]) or {}).get("text") or ""
        st.error(
            f"This ladder failed{f': {escape(text)}'.rstrip('.') if text else ''}. What it"
            " measured is kept."
        )
    elif run["status"] == "interrupted" and not result.record["ended_with"]:  # else it is told
        st.warning(
            "This ladder was stopped before its end; what it measured is kept. It cannot be"
            " resumed, since its blocks depend on each other."
        )


def _answer(result: LadderResult) -> None:
    with st.container(border=True, key="verdict"):
        verdict = cached_queries.judged(result.run_id).verdicts[0]
        verdict_card.doubts(verdict)
        if result.quoted is not None and not result.refusal:
            st.markdown(f"**{escape(result.winner_words)}**")
            _number(result, verdict.tone)
        else:
            st.markdown(f"**{escape(result.sentence)}**")
        # What a refusal quotes stands in its sentence; what it rests on, below.
        seen = [verdict.seen, result.search_words] if result.refusal else []
        if lines := [*filter(None, seen), *_seen(result)]:
            st.caption("  \n".join(map(escape, lines)))
        ladder_form.say_not_tried(result.not_tried)
        _where(result)
        _next(result, verdict.markdown)


def _number(result: LadderResult, tone: str) -> None:
    quoted, dark = result.quoted, chart.dark()
    left, right = st.columns([2, 3], vertical_alignment="center")
    colour = palette.tone_colour(tone, dark)
    text = html(units.percent(quoted.change, sign=True))
    left.html(f'<div class="lab-number {tone}" style="color:{colour}">{text}</div>')
    left.caption(f"change in {result.objective_words}, n = {quoted.n} blocks")
    if quoted.low is not None and quoted.high is not None:
        ends = [units.percent(end, sign=True) for end in quoted[:3]]
        with right:
            chart.show(interval.interval_bar(*quoted[:3], dark, tone, written=ends), key="interval")


def _seen(result: LadderResult) -> list[str]:
    lines = []
    if result.quoted is not None and not result.refusal:
        cost = result.cost_change
        parts = [result.quality_words, cost is not None and f"{_signed(cost)} cost"]
        words = ", ".join(filter(None, parts))
        lines.append(f"{words[:1].upper()}{words[1:]}. Against today, in fresh blocks.")
    return lines + result.interactions


def _signed(share: float) -> str:
    return units.percent(share, sign=True)


def _where(result: LadderResult) -> None:
    run, kind = result.run, endpoint_kinds.kind(result.run["endpoint_kind"])
    about = [
        "" if run["endpoint"] == kind.name else run["endpoint"],
        ", ".join(dict.fromkeys(run["models"].values())),
        units.when(run["started_utc"]),
        units.origin(run),
    ]
    tag = f'<span class="lab-tag{" hatched" if kind.hatched else ""}">{html(kind.name)}</span>'
    note = f"<br>{html(kind.note)}" if kind.note else ""
    words = html(" · ".join(filter(None, about)))
    st.html(f'<div style="font-size:13px">{tag}&ensp;{words}{note}</div>')


def _next(result: LadderResult, lead: str) -> None:
    busy = run_panel.busy()
    with st.container(horizontal=True, vertical_alignment="center"):
        try:
            config = ladder_order.again(result.run, result.record)
        except LabError:  # its tasks are not kept
            config = None
        if config is not None:
            st.button(
                "Climb again",
                key="ladder-again",
                disabled=bool(busy),
                help=escape(busy) or "The same ladder once more, as a run of its own.",
                on_click=ladder_form.begin,
                args=(config,),
            )
        history = next(page for page in frame.page_files() if page.label == "History")
        frame.link(history, "Name, note or delete it", run=result.run_id)
        text = ladder_results.markdown(result, lead)
        copy_button.show("Copy as Markdown", text, key="copy-verdict")


def _rungs(result: LadderResult) -> None:
    chart.show(ladder_rungs.of(result, chart.dark()), key="rungs")


def _frontier(run: dict[str, Any]) -> None:
    """Every stack that the search tried."""
    result = cached_queries.ladder(run["run_id"])
    rows = ladder_results.frontier(result)
    if rows.empty:
        st.caption("No stack was tried to its end.")
        return
    metric = result.metric
    # Today and the winner in the colours that they have in the race; the rest after them.
    rest = rows.loc[~rows["is_today"] & ~rows["is_winner"], "arm"]
    named = [*rows.loc[rows["is_today"], "arm"], *rows.loc[rows["is_winner"], "arm"], *rest]
    arms = {arm: place for place, arm in enumerate(dict.fromkeys(named))}
    figure = pareto.scatter_pareto(rows, chart.dark(), metric=metric, label="arm", arms=arms)
    chart.show(figure, key="frontier")
    st.caption("By the search, whose tasks differ from stack to stack: to look at, not to quote.")
    table = rows[["arm", "n", "lost", metric, "quality", "cost_usd"]].dropna(axis=1, how="all")
    st.dataframe(
        table,
        hide_index=True,
        key="stacks",
        column_config={
            "arm": st.column_config.TextColumn("stack", pinned=True),
            metric: st.column_config.NumberColumn(f"median {metrics.axis(metric)}", format="%.0f"),
            "quality": st.column_config.NumberColumn("quality", format="percent"),
            "cost_usd": st.column_config.NumberColumn("mean $ a trial", format="%.5f"),
        },
    )


def _code(run: dict[str, Any]) -> None:
    result = cached_queries.ladder(run["run_id"])
    if result.refusal:
        st.caption("No stack was named, so there is no code of one to paste.")
        return
    try:
        st.code(ladder_code.winner(result, Store()), language="python")
    except LabError as error:  # tasks of the user's own, which were not kept
        st.caption(escape(str(error)))


def _terminal(run: dict[str, Any]) -> None:
    st.code(f"{COMMAND} show {run['run_id']}", language="bash")
    st.caption("The same ladder in a terminal; with `--json` as one object.")


CONFIRMED = ("Waterfall", *views.SHARED)
"""Views of the confirmation's pairs."""
VIEWS: dict[str, Callable[[dict[str, Any]], None]] = {
    "Frontier": _frontier,
    "Waterfall": run_results.waterfall_of,
    **{name: view for name, view in views.SHARED.items() if name != "Spans"},
    "Rows": views.table,
    "Use it in your app": _code,
    "In a terminal": _terminal,
}
