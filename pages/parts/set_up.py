"""Set up a run: knobs and the usual options in rows, what it will cost, and one button."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import streamlit as st

from lab import endpoint_kinds, units
from lab.endpoints.consent import ConsentNeeded
from lab.endpoints.registry import Endpoint
from lab.harness.estimate import estimate
from lab.harness.plan import abilities, lacking
from lab.model import Arm, LabError, Technique, Tier
from lab.scenarios import definitions
from lab.scenarios.definitions import Task
from lab.settings import LIVE_MAX_USD, BenchmarkConfig, usual_blocks
from pages.parts import cached_queries, controls, frame, knob_form, machine_now, run_panel
from pages.parts.frame import escape, guard

OPEN = "set-up-open"
"""In the URL while the form stands open above results."""
PASTE, UPLOAD = "paste my own", "upload a JSONL file"
OWN_CALLS = "calls of my app: "
"""Before the name of a recording that kept its text."""
MORE_OPTIONS = {
    "seed": {},
    "warmup": {},
    "target_half_width_ms": {"key": "precision", "step": 1.0, "format": "%g"},
    "keep_text": {},
}


class Filled(NamedTuple):
    """What stands in a form: the knobs' values, and why they cannot be run, where they cannot."""

    values: dict[str, Any]
    problem: str = ""


Form = Callable[[Endpoint], Filled]
"""A page's own widgets in place of the knobs."""


def show(
    technique: Technique, endpoint: Endpoint, *, opened: bool, form: Form | None = None
) -> None:
    """The form of a technique."""
    if place := stand(opened):
        with place:
            _form(technique, endpoint, form)


def stand(opened: bool) -> Any:
    """Where a form stands: open where there is no run yet, else in place above the results, by a
    button; None while it is shut."""
    is_wanted = opened or OPEN in st.query_params
    if not opened:
        with st.container(horizontal=True, horizontal_alignment="right"):
            st.button(
                "Close" if is_wanted else "New run",
                key="new-run",
                on_click=_turn,
                help=None if is_wanted else "Set one up here; the results below stay.",
            )
    if not is_wanted:
        return None
    place = st.container(border=True, key="set-up")
    place.subheader("Set up a run", anchor=False)
    return place


def _turn() -> None:
    if st.query_params.pop(OPEN, None) is None:
        st.query_params[OPEN] = "true"


def _form(technique: Technique, endpoint: Endpoint, form: Form | None) -> None:
    with guard():
        if words := lacking("this experiment", technique.needs, endpoint):
            st.info(escape(f"{words} Choose another endpoint above."))
            return
        if technique.of_recordings and not recorded():
            st.info(
                "Nothing can be replayed yet: a recording that keeps its text is needed. Record"
                " your app under **Your app**, and keep its text."
            )
            return
        filled = form(endpoint) if form else Filled(knob_form.show(technique.knobs))
        knobs = knob_form.checked(technique.knobs, filled.values)
        _say_arms(technique.arms_for(knobs, abilities(endpoint)))
        tiers, asks_tasks = technique.tiers_for(knobs), technique.asks_tasks(knobs)
        choices = options(technique, endpoint, tiers, asks_tasks)
        values = choices | {
            "technique": technique.slug,
            "endpoint": endpoint.name,
            "knobs": knobs.model_dump(exclude_defaults=True),
        }
        offer(knob_form.checked(BenchmarkConfig, values), filled.problem)


def _say_arms(arms: Sequence[Arm]) -> None:
    names = [f"**{escape(arm.name)}**" for arm in arms]
    told = [f"{arm.name}: {arm.description}" for arm in arms if arm.description]
    st.caption(
        f"Each block runs {', '.join(names[:-1])} and {names[-1]} once, in random order;"
        f" {names[0]} is the baseline.",
        help="  \n".join(map(escape, told)) or None,
    )


def options(
    technique: Technique, endpoint: Endpoint, tiers: tuple[Tier, ...], asks_tasks: bool = True
) -> dict[str, Any]:
    """What every technique asks: how many blocks, which models, which tasks, and where requests
    cost money how much of it."""
    columns = st.columns(4)
    with columns[0]:
        usual = usual_blocks(technique.headline_quantile)
        runs = knob_form.run_setting("runs", key="blocks", **({"value": usual} if usual else {}))
    scenario, tasks = None, None
    if asks_tasks:
        with columns[1]:
            scenario, tasks = asked(technique)
    if not technique.of_recordings:  # which asks the model that was recorded
        tiers = tiers or (endpoint.generates,)
    models: dict[str, str] = {}
    for place, tier in enumerate(tiers):
        with columns[1 + asks_tasks + place % 2]:
            models[tier] = model(endpoint, tier, "Model" if len(tiers) == 1 else f"{tier} model")
    choices = {
        "runs": runs,
        "max_runs": runs,
        "scenario": scenario,
        "tasks": tasks,
        "models": {tier: model for tier, model in models.items() if model},
    }
    if endpoint_kinds.kind(endpoint.kind).priced:
        with columns[3]:
            choices["max_usd"] = knob_form.run_setting(
                "max_usd", key="budget", value=LIVE_MAX_USD, step=0.05
            )
    more = st.expander("More options", key="more-options", on_change="rerun", bind="query-params")
    if more.open:
        for column, (name, options) in zip(more.columns(4), MORE_OPTIONS.items(), strict=True):
            with column:
                choices[name] = knob_form.run_setting(name, **options)
        choices["target_half_width_ms"] = choices["target_half_width_ms"] or None
    return choices


def model(endpoint: Endpoint, tier: Tier, label: str) -> str | None:
    """A model of this endpoint: another one's choice, or a link to it, asks for none here."""
    standard, param = endpoint.models.get(tier, ""), f"model_{tier}"
    known = list(dict.fromkeys(filter(None, [standard, *endpoint.models.values()])))
    linked = st.query_params.get(param)
    if linked and linked not in known and not endpoint.traits.own_server:
        known += [] if linked in endpoint_kinds.own_models() else [linked]
    return controls.by_name(
        st.selectbox,
        label.capitalize(),
        known,
        f"{param}-{endpoint.name}",
        standard or None,
        param=param,
        accept_new_options=True,
        help="Any model the endpoint knows; type its name if it is not listed.",
    )


def asked(technique: Technique) -> tuple[str | None, list[Task] | None]:
    """A category by name, or the user's own tasks, checked line by line."""
    known = technique.category in definitions.CATEGORIES
    known_calls = recorded()
    choice = st.selectbox(
        "Tasks",
        list(known_calls)
        if technique.of_recordings
        else [*definitions.CATEGORIES, *known_calls, PASTE, UPLOAD],
        index=definitions.CATEGORIES.index(technique.category)
        if known and not technique.of_recordings
        else 0,
        key="scenario",
        bind="query-params",
        help="What is asked. Answers to the lab's tasks are checked. Of your own tasks, and of the "
        "answers to them, the run keeps lengths and no word, unless you choose so under “Keep the "
        "text of”.",
    )
    if choice in known_calls:
        return known_calls[choice], None
    if choice == PASTE:
        with st.popover("Your tasks", width="stretch"):
            system = st.text_area("System prompt", key="own-system", height=80)
            questions = st.text_area("Questions, one a line", key="own-questions", height=160)
        lines = [line.strip() for line in questions.splitlines() if line.strip()]
        if not lines:
            raise LabError("Paste at least one question under “Your tasks”, one a line.")
        return None, [
            Task(task_id=f"own-{n}", prompt=line, system=system) for n, line in enumerate(lines, 1)
        ]
    if choice == UPLOAD:
        file = st.file_uploader(
            "JSON lines",
            type=["jsonl", "json"],
            key="own-file",
            help="Each line a task or a whole Messages body.",
        )
        if file is None:
            raise LabError(
                "Choose a .jsonl file: each line a task, or a whole Messages body with messages "
                "and tools."
            )
        return None, definitions.parse_lines(file.getvalue().decode("utf-8", errors="replace"))
    return (None if choice == technique.category else choice), None


def recorded() -> dict[str, str]:
    """The scenario of each recording that can be asked again, by what the form calls it."""
    rows = cached_queries.ask("recordings")
    if rows.empty:
        return {}
    rows = rows[rows["keep_text"].astype(bool) & (rows["calls"] > 0)]
    named = {}
    for row in rows.itertuples():
        name = units.short_id(row.run_id) if units.missing(row.name) else units.short(row.name, 40)
        words = f"{OWN_CALLS}{name}, {units.when(row.started_utc)}"
        named[words] = f"{definitions.RECORDING}{row.run_id}"
    return named


def offer(config: BenchmarkConfig, problem: str = "") -> None:
    """Say what the run will take; refuse what cannot run, or has a problem that is shown above;
    start it in a process of its own."""
    resolved = cached_queries.resolved(config)
    expected, blocks = estimate(resolved), config.blocks
    if resolved.own_tasks is None:  # with the calls by name, which the worker reads again
        config = resolved.model_copy(update={"tasks": None})
    left, right = st.columns([2, 5], vertical_alignment="center")
    for url in expected.asks:
        frame.ask(ConsentNeeded(url))
    for refusal in () if expected.asks else expected.refusals:
        st.error(escape(refusal))
    busy, most = run_panel.busy(), "up to " if config.target_half_width_ms else ""
    with left:
        st.button(
            f"Run {most}{units.counted(blocks, 'block')}",
            type="primary",
            key="run-button",
            disabled=bool(expected.refusals or busy or problem),
            help=escape(busy or problem) or None,
            on_click=begin,
            args=(config,),
            width="stretch",
        )
    with right:
        st.caption(escape(busy or problem or expected.text))
        if not busy:
            machine_now.show(config)


def begin(config: BenchmarkConfig) -> None:
    """For a button's on_click: the page, drawn anew, starts the run at its top."""
    st.query_params.pop(OPEN, None)
    run_panel.order(config.technique, lambda: config)
