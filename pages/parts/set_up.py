"""Set up a run: knobs and the usual options in rows, what it will cost, and one button."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from lab import endpoint_kinds, processes
from lab.endpoints.consent import ConsentNeeded
from lab.endpoints.registry import Endpoint
from lab.harness.estimate import estimate
from lab.model import LabError, Technique, Tier
from lab.scenarios import definitions
from lab.scenarios.definitions import Task
from lab.settings import LIVE_MAX_USD, BenchmarkConfig
from pages.parts import frame, knob_form
from pages.parts.frame import escape, guard

PASTE, UPLOAD = "paste my own", "upload a JSONL file"
MORE_OPTIONS = {
    "seed": {},
    "warmup": {},
    "target_half_width_ms": {"key": "precision", "step": 1.0, "format": "%g"},
    "keep_text": {},
}
Form = Callable[[], dict[str, Any]]
"""A page's own widgets in place of the knobs; answers with the knobs' values."""


def show(
    technique: Technique, endpoint: Endpoint, *, opened: bool, form: Form | None = None
) -> None:
    """The form of a technique; it stands open where there is no run yet, and folds away under the
    results of one."""
    if opened:
        place = st.container(border=True, key="set-up")
        place.subheader("Set up a run", anchor=False)
    else:
        place = st.expander("Set up a run", key="set-up-open", bind="query-params")
    with place:
        _form(technique, endpoint, form)


def _form(technique: Technique, endpoint: Endpoint, form: Form | None) -> None:
    with guard():
        lacking = [need for need in technique.needs if need not in endpoint.capabilities]
        if lacking:
            raise LabError(
                f"{endpoint.name} cannot do {', '.join(lacking)}, which this experiment is about. "
                "Choose another endpoint above."
            )
        knobs = knob_form.checked(
            technique.knobs, form() if form else knob_form.show(technique.knobs)
        )
        choices = options(technique, endpoint, technique.tiers_for(knobs))
        values = choices | {
            "technique": technique.slug,
            "endpoint": endpoint.name,
            "knobs": knobs.model_dump(exclude_defaults=True),
        }
        offer(knob_form.checked(BenchmarkConfig, values))


def options(technique: Technique, endpoint: Endpoint, tiers: tuple[Tier, ...]) -> dict[str, Any]:
    """What every technique asks: how many blocks, which models, which tasks, and where requests
    cost money how much of it."""
    columns = st.columns(4)
    with columns[0]:
        runs = knob_form.run_setting("runs", key="blocks")
    with columns[1]:
        scenario, tasks = _scenario(technique)
    tiers = tiers or (endpoint.generates,)
    models: dict[str, str] = {}
    for place, tier in enumerate(tiers):
        with columns[2 + place % 2]:
            standard = endpoint.models.get(tier, "")
            known = list(dict.fromkeys(filter(None, [standard, *endpoint.models.values()])))
            models[tier] = st.selectbox(
                "Model" if len(tiers) == 1 else f"{tier.capitalize()} model",
                known,
                index=0 if known else None,
                accept_new_options=True,
                key=f"model_{tier}",
                bind="query-params",
                help="Any model the endpoint knows; type its name if it is not listed.",
            )
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


def _scenario(technique: Technique) -> tuple[str | None, list[Task] | None]:
    """A category by name, or the user's own tasks, checked line by line."""
    known = technique.category in definitions.CATEGORIES
    choice = st.selectbox(
        "Tasks",
        [*definitions.CATEGORIES, PASTE, UPLOAD],
        index=definitions.CATEGORIES.index(technique.category) if known else 0,
        key="scenario",
        bind="query-params",
        help="What is asked. Answers to built-in tasks are checked. Answers to your own are not "
        "kept unless you choose so; your questions are, so that the run can be resumed.",
    )
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


def offer(config: BenchmarkConfig) -> None:
    """Say what the run will take; refuse what cannot run; start it in a process of its own."""
    expected, blocks = estimate(config), config.blocks
    left, right = st.columns([2, 5], vertical_alignment="center")
    for url in expected.asks:
        frame.ask(ConsentNeeded(url))
    for refusal in () if expected.asks else expected.refusals:
        st.error(escape(refusal))
    busy, most = processes.running(), "up to " if config.target_half_width_ms else ""
    with left:
        pressed = st.button(
            f"Run {most}{blocks} block{'' if blocks == 1 else 's'}",
            type="primary",
            key="run-button",
            disabled=bool(expected.refusals) or busy is not None,
            width="stretch",
        )
    with right:
        st.caption(
            "Another run is being measured; one at a time keeps both honest."
            if busy
            else escape(expected.text)
        )
    if pressed:
        begin(config)


def begin(config: BenchmarkConfig) -> None:
    """Start the worker and show its run on this page; ConsentNeeded where it would go to an address
    that nobody agreed to."""
    for url in estimate(config).asks:
        raise ConsentNeeded(url)
    st.query_params["run"] = processes.start_run(config)
    st.rerun()
