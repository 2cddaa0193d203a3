"""One paired run: arms of any techniques share their blocks, so that every difference between them
is one of the same task at the same minute."""

from typing import Any

import streamlit as st

from lab import metrics, settings, techniques, units
from lab.endpoints.registry import Endpoint
from lab.figures import pareto
from lab.harness import plan
from lab.harness.plan import SIDE_BY_SIDE
from lab.model import Technique
from lab.results import RunResult
from lab.settings import BenchmarkConfig
from pages.parts import (
    arm_rows,
    cached_queries,
    chart,
    controls,
    experiment,
    frame,
    knob_form,
    run_panel,
    run_results,
    set_up,
    views,
)
from pages.parts.frame import escape

MOST_ARMS = 8
EARLIER = 6
FIRST = 3
"""Arms that stand in the form at first: the plainest request, and what two techniques make of
it."""
USUAL = "usual"
SHARED = ("Distribution", "Pairs", "Clocks", "Spans")


def paired(endpoint: Endpoint) -> None:
    """A run that goes on; the form of a new one; what the chosen one found, and those before it."""
    going = run_panel.watch(SIDE_BY_SIDE, metrics.CLOCKS[0])
    run = experiment.chosen(SIDE_BY_SIDE, endpoint)
    if going is None:
        if run:
            # The page's address, passed on, opens this run and not a later one.
            st.query_params["run"] = run["run_id"]
        if place := set_up.stand(opened=run is None):
            with place, frame.guard():
                _form(endpoint)
    if run and run_panel.leaves_in_view(going, run):
        st.subheader(escape(run_results.title(run)), anchor=False)
        run_results.show(endpoint, run, _views(), _arms)
    earlier(run)


def _arms(run: dict[str, Any]) -> None:
    arm_rows.verdicts(run)
    arm_rows.table(run)


def _views() -> dict[str, Any]:
    shared = {name: views.SHARED[name] for name in SHARED if name in views.SHARED}
    return {"Speed and cost": _pareto} | shared | views.LAST


def _pareto(run: dict[str, Any]) -> None:
    result = cached_queries.judged(run["run_id"])
    runs = cached_queries.ask("runs", limit=5000)
    runs = runs[runs["run_id"] == run["run_id"]]
    table = result.named(pareto.summary_table(result.summary, result.counts, runs))
    figure = pareto.scatter_pareto(
        table,
        chart.dark(),
        metric=result.headline,
        arms=cached_queries.places(run),
        reason=result.finding().reason,
    )
    chart.show(figure, key="pareto")


# The form


def _form(endpoint: Endpoint) -> None:
    arms = _chosen_arms(endpoint)
    if len(arms) < 2:
        st.info("Choose two arms or more. One is the baseline that the others are held against.")
        return
    members = [techniques.find(ref.partition(".")[0]) for ref in arms]
    tiers = tuple(
        tier
        for tier in plan.TIERS
        if any(tier in member.tiers_for(member.knobs()) for member in members)
    )
    left, middle, right = st.columns(3)
    with left:
        baseline = st.selectbox(
            "Baseline",
            arms,
            format_func=_title,
            key=f"baseline-{'-'.join(sorted(arms))}",
            help="Every other arm is held against this one, block by block.",
        )
    arms = [baseline, *(ref for ref in arms if ref != baseline)]
    st.query_params["arms"] = arms
    with middle:
        metric = _metric(members)
    with right:
        tokens = st.number_input(
            "Answer tokens",
            min_value=16,
            max_value=2000,
            value=plan.answer_tokens(members) or 48,
            key=f"tokens-{'-'.join(sorted({member.slug for member in members}))}",
            help="The most tokens an answer may have, the same in every arm.",
        )
    st.caption(
        f"Each block runs these {len(arms)} arms once, in random order, on the same task. Planned:"
        f" **{escape(_title(arms[1]))}** against **{escape(_title(baseline))}**; every other arm is"
        " judged too."
    )
    choices = set_up.options(techniques.find(baseline.partition(".")[0]), endpoint, tiers)
    knobs = {
        member.slug: {"answer_tokens": tokens}
        for member in members
        if "answer_tokens" in member.knobs.model_fields
    }
    chosen = {"technique": SIDE_BY_SIDE, "endpoint": endpoint.name, "arms": arms, "knobs": knobs}
    set_up.offer(knob_form.checked(BenchmarkConfig, choices | chosen | {"metric": metric}))


def _chosen_arms(endpoint: Endpoint) -> list[str]:
    """A row of arms for each technique, by its title; in the URL they stand by name, the baseline
    first."""
    offered = [
        technique
        for technique in techniques.all_techniques()
        if technique.in_all and endpoint.capabilities.issuperset(technique.needs)
    ]
    linked = st.query_params.get_all("arms") or _usual(offered)
    chosen: list[str] = []
    for place, technique in enumerate(offered):
        if place % 3 == 0:
            columns = st.columns(3)
        refs = [f"{technique.slug}.{arm.name}" for arm in technique.arms_for(technique.knobs())]
        with columns[place % 3]:
            chosen += st.pills(
                technique.title,
                refs,
                selection_mode="multi",
                default=[ref for ref in refs if ref in linked],
                format_func=lambda ref: escape(ref.partition(".")[2]),
                key=f"arms-{technique.slug}",
                wrap=True,
            )
    if len(chosen) > MOST_ARMS:
        st.warning(f"At most {MOST_ARMS} arms share a block; the last ones are left out.")
    # The linked baseline stays first.
    return sorted(chosen[:MOST_ARMS], key=lambda ref: ref != linked[0])


def _usual(offered: list[Technique]) -> list[str]:
    """The first technique's baseline, and the headline arms of the first two."""
    first = offered[: FIRST - 1]
    return [
        f"{first[0].slug}.{first[0].arms[0].name}",
        *(f"{technique.slug}.{technique.headline_arm}" for technique in first),
    ]


def _title(ref: str) -> str:
    slug, _, arm = ref.partition(".")
    return f"{techniques.find(slug).title}: {arm}"


def _metric(members: list[Technique]) -> str | None:
    """The clock that the verdict is planned on; None is the one that suits these arms."""
    setting, fits = settings.of(BenchmarkConfig)["metric"], plan.shared_metric(members)
    chosen = controls.by_name(
        st.selectbox,
        setting.title,
        [USUAL, *setting.choices],
        "judged-on",
        USUAL,
        format_func=lambda name: (
            metrics.words(name if name != USUAL else fits)
            + (", which fits these arms" if name == USUAL else "")
        ),
        help="What the verdict is planned on. Each arm is judged on its own headline too.",
    )
    return None if chosen == USUAL else chosen


# Those before


def earlier(shown: dict[str, Any] | None) -> None:
    """Paired runs but the one that is shown, each a link with what it found."""
    runs = cached_queries.ask("runs", technique=SIDE_BY_SIDE, limit=EARLIER + 1)
    others = [
        run
        for run in runs.to_dict("records")
        if run["trials"] and not (shown and run["run_id"] == shown["run_id"])
    ][:EARLIER]
    if not others:
        return
    found = cached_queries.listed(run["run_id"] for run in others)
    st.subheader("Earlier paired runs", anchor=False)
    with st.container(key="earlier-runs"):
        for run in others:
            left, right = st.columns([3, 7], vertical_alignment="center")
            with left:
                name = None if units.missing(run["name"]) else run["name"]
                label = escape(run_results.title(run | {"name": name}))
                frame.link(frame.page_of(SIDE_BY_SIDE), label, run=run["run_id"])
            right.caption(escape(_found(found[run["run_id"]])))


def _found(result: RunResult) -> str:
    arms = ", ".join(result.name(*arm) for arm in result.arms())
    told = [*result.verdicts[0].doubts, result.verdicts[0].headline] if result.verdicts else []
    return " · ".join([arms, units.short(". ".join(told), 240)]) if told else arms
