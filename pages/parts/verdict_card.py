"""The answer first: its number large, its interval drawn, then what was seen, quality and price,
and what to do next."""

from collections.abc import Sequence
from html import escape as html
from typing import Any

import streamlit as st

from lab import endpoint_kinds, metrics, resume, stats, techniques, units
from lab.endpoints import registry
from lab.figures import interval, palette
from lab.harness.estimate import estimate
from lab.model import LabError
from lab.results import RunResult
from lab.settings import LIVE_MAX_USD, BenchmarkConfig, config_of
from pages.parts import cached_queries, chart, copy_button, run_panel
from pages.parts.frame import escape

MORE = 10


def show(run: dict[str, Any]) -> None:
    result = cached_queries.judged(run["run_id"])
    if not result.headlines:
        st.caption("This run has one arm: there is nothing to compare it with.")
        return
    planned, verdict = result.headlines[0], result.verdicts[0]
    dark = chart.dark()
    with st.container(border=True, key="verdict"):
        doubts(verdict)
        st.markdown(f"**{escape(_lead(planned, verdict))}**")
        # Where no time is claimed, none is drawn.
        if planned.estimate is not None and planned.verdict != "fails_more":
            left, right = st.columns([2, 3], vertical_alignment="center")
            left.html(_number(planned, verdict, dark))
            tail = "" if planned.quantile is None else f"{units.quantile(planned.quantile)} "
            left.caption(f"change in {tail}{metrics.words(planned.metric)}, n = {planned.n}")
            with right:
                figure = interval.interval_bar(
                    planned.estimate,
                    planned.low,
                    planned.high,
                    dark,
                    verdict.tone,
                    planned.metric,
                )
                chart.show(figure, key="interval")
        if result.prediction:
            st.markdown(escape(result.prediction))
        st.caption("  \n".join(escape(line) for line in (verdict.seen, verdict.detail) if line))
        _where(run, result.notes)
        _next(run, result, verdict)


def doubts(verdict: stats.VerdictText) -> None:
    """What spoils a verdict, to stand before it."""
    if verdict.doubts:
        colour = palette.tone_colour("warn", chart.dark())
        lines = "<br>".join(f"{html(doubt)}." for doubt in verdict.doubts)
        st.html(f'<div class="lab-doubt" style="color:{colour}">{lines}</div>')


def _lead(planned: stats.Comparison, verdict: stats.VerdictText) -> str:
    """The headline less the number that is drawn below it."""
    if not planned.verdict.startswith(("faster", "slower")):
        return verdict.headline
    return verdict.headline.rpartition(": ")[0]


def _number(planned: stats.Comparison, verdict: stats.VerdictText, dark: bool) -> str:
    """Large only where nothing spoils it."""
    text = html(stats.interval(planned).partition(" [")[0])
    if planned.share is not None:
        text += f"<small>{units.percent(planned.share, sign=True)}</small>"
    colour = palette.tone_colour(verdict.tone, dark)
    return f'<div class="lab-number {verdict.tone}" style="color:{colour}">{text}</div>'


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


def _next(run: dict[str, Any], result: RunResult, verdict: stats.VerdictText) -> None:
    usd, seconds = result.block_cost
    needed = result.headlines[0].needed_blocks
    blocks = needed if stats.worthwhile(needed, seconds) else MORE
    unfinished = run["status"] != "finished" and cached_queries.missing_blocks(run["run_id"])
    if unfinished:
        blocks = run["settings"]["runs"]
    label = stats.more_blocks(blocks, seconds, usd).removeprefix("about ")
    busy = run_panel.busy()
    with st.container(horizontal=True, vertical_alignment="center"):
        # What the verdict says would not help is not offered beside it.
        if unfinished or not result.headlines[0].hopeless:
            st.button(
                "Resume" if unfinished else escape(label),
                key="more-blocks",
                disabled=bool(busy),
                help=escape(busy) or "They join this run, in the same seeded order.",
                on_click=run_panel.order,
                args=(run["technique"], lambda: resume.more(run, blocks)),
            )
        if not endpoint_kinds.kind(run["endpoint_kind"]).priced:
            _try_on_claude(run)
        copy_button.show("Copy as Markdown", verdict.markdown, key="copy-verdict")


def _try_on_claude(run: dict[str, Any]) -> None:
    """With a key the same run on the Claude API, with its price; without one, how to give it."""
    if "anthropic" not in registry.names():
        with st.popover("Try on Claude"):
            st.markdown(
                "Put `ANTHROPIC_API_KEY` into `.streamlit/secrets.toml`: it is there at the next"
                " click, without a restart. Or set it in the environment, and start the dashboard"
                " again. Then choose the endpoint **anthropic** above."
            )
        return
    try:
        live = {"endpoint": "anthropic", "models": {}, "max_usd": LIVE_MAX_USD}
        config = config_of(**resume.repeated(run) | live)
        expected = estimate(cached_queries.resolved(config))
    except LabError as error:
        st.button("Try on Claude", key="try-live", disabled=True, help=escape(str(error)))
        return
    price = f", at most {units.usd(expected.usd)}" if expected.usd is not None else ""
    reason = run_panel.busy() or "; ".join(expected.refusals)
    st.button(
        escape(f"Try on Claude{price}"),
        key="try-live",
        on_click=_go_live,
        args=(config,),
        disabled=bool(reason),
        help=escape(
            reason
            or f"The same settings on the Claude API; it stops before ${LIVE_MAX_USD:.2f} are"
            " spent."
        ),
    )


def _go_live(config: BenchmarkConfig) -> None:
    """The page moves to the run's endpoint; only before it is drawn may its choice be set."""
    st.session_state["endpoint"] = config.endpoint
    run_panel.order(config.technique, lambda: config)
