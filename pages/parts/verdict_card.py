"""The answer first: its number large, its interval drawn, then what was seen, quality and price,
and what to do next."""

from collections.abc import Sequence
from html import escape as html
from typing import Any

import streamlit as st

from lab import endpoint_kinds, metrics, processes, resume, stats, techniques, units
from lab.endpoints import registry
from lab.figures import interval, palette
from lab.harness.estimate import estimate
from lab.model import LabError
from lab.settings import LIVE_MAX_USD, BenchmarkConfig, config_of
from pages.parts import cached_queries, chart, copy_button, set_up
from pages.parts.frame import escape

MORE = 10


def show(run: dict[str, Any]) -> None:
    result = cached_queries.judged(run["run_id"])
    if not result.comparisons:
        st.caption("This run has one arm: there is nothing to compare it with.")
        return
    planned, verdict = result.comparisons[0], result.verdicts[0]
    with st.container(border=True, key="verdict"):
        lead, _, rest = verdict.headline.partition(": ")
        st.markdown(f"**{escape(lead if rest else verdict.headline)}**")
        if planned.estimate is not None:
            left, right = st.columns([2, 3], vertical_alignment="center")
            colour = palette.tone_colour(verdict.tone, chart.dark())
            text = html(units.value(planned.metric, planned.estimate, sign=True))
            if planned.ratio is not None:
                text += f"<small>{units.percent(planned.ratio - 1, sign=True)}</small>"
            left.html(f'<div class="lab-number" style="color:{colour}">{text}</div>')
            left.caption(f"change in {metrics.words(planned.metric)}, n = {planned.n}")
            with right:
                figure = interval.interval_bar(
                    planned.estimate,
                    planned.low,
                    planned.high,
                    chart.dark(),
                    verdict.tone,
                    planned.metric,
                )
                chart.show(figure, key="interval")
        st.caption("  \n".join(escape(line) for line in (verdict.seen, verdict.detail) if line))
        _where(run, result.notes)
        _next(run, planned, verdict)


def doubt(run: dict[str, Any]) -> str | None:
    """Why the run's planned comparison cannot be trusted, to stand on its figures; None where it
    can."""
    comparisons = cached_queries.judged(run["run_id"]).comparisons
    return comparisons[0].greyed if comparisons else None


def _where(run: dict[str, Any], notes: Sequence[str]) -> None:
    kind = endpoint_kinds.kind(run["endpoint_kind"])
    lines = list(notes)
    slug = techniques.slug_of(run["technique"])
    if published := techniques.find(slug).published if slug else "":
        claim = "" if kind.priced else ", a claim to be tested on Claude"
        lines.append(f"Published{claim}: {published}.")
    about = [
        "" if run["endpoint"] == kind.name else run["endpoint"],
        ", ".join(dict.fromkeys(run["models"].values())),
        units.when(run["started_utc"]),
        units.origin(run),
    ]
    tag = f'<span class="lab-tag{" hatched" if kind.hatched else ""}">{html(kind.name)}</span>'
    st.html(
        f'<div style="font-size:13px">{tag}&ensp;{html(" · ".join(filter(None, about)))}'
        f"{'<br>' + html(' '.join(lines)) if lines else ''}</div>"
    )


def _next(run: dict[str, Any], planned: stats.Comparison, verdict: stats.VerdictText) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        busy = processes.running() is not None
        unfinished = run["status"] != "finished" and cached_queries.missing_blocks(run["run_id"])
        blocks = planned.needed_blocks or MORE
        if st.button(
            "Resume" if unfinished else f"{blocks} more blocks",
            key="more-blocks",
            disabled=busy,
            help="They join this run, in the same seeded order.",
        ):
            set_up.begin(resume.more(run, run["settings"]["runs"] if unfinished else blocks))
        if not endpoint_kinds.kind(run["endpoint_kind"]).priced:
            _try_on_claude(run)
        copy_button.show("Copy as Markdown", verdict.markdown, key="copy-verdict")


def _try_on_claude(run: dict[str, Any]) -> None:
    """With a key the same run on the Claude API, with its price; without one, how to give it."""
    if "anthropic" not in registry.names():
        with st.popover("Try on Claude"):
            st.markdown(
                "Set `ANTHROPIC_API_KEY` in the environment or in `.streamlit/secrets.toml`, then"
                " choose the endpoint **anthropic** above."
            )
        return
    try:
        live = {"endpoint": "anthropic", "models": {}, "max_usd": LIVE_MAX_USD}
        config = config_of(**resume.repeated(run) | live)
        expected = estimate(config)
    except LabError as error:
        st.button("Try on Claude", key="try-live", disabled=True, help=escape(str(error)))
        return
    price = f", at most {units.usd(expected.usd)}" if expected.usd is not None else ""
    st.button(
        f"Try on Claude{price}",
        key="try-live",
        on_click=_go_live,
        args=(config,),
        disabled=processes.running() is not None or bool(expected.refusals),
        help="; ".join(expected.refusals)
        or f"The same settings on the Claude API; it stops before ${LIVE_MAX_USD:.2f} are spent.",
    )
    if failed := st.session_state.pop("not_started", None):
        st.error(escape(failed))


def _go_live(config: BenchmarkConfig) -> None:
    """Start the run and move the page to its endpoint; only before the page is drawn may its choice
    be set."""
    try:
        st.query_params["run"] = processes.start_run(config)
        st.session_state["endpoint"] = "anthropic"
    except LabError as error:
        st.session_state["not_started"] = str(error)
