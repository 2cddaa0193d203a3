"""Set up a watch: what is asked, how often, at what price; one button starts it in a process of its
own."""

from typing import Any

import streamlit as st

from lab import pasted, settings, watch
from lab.endpoints.consent import ConsentNeeded
from lab.endpoints.registry import Endpoint
from lab.model import LabError
from lab.scenarios import definitions
from lab.scenarios.definitions import Task
from lab.settings import LIVE_MAX_USD
from lab.watch import hook, watch_order
from lab.watch.watch_settings import WatchConfig, watch_config_of
from pages.parts import cached_queries, frame, knob_form, set_up
from pages.parts.frame import escape, guard

ORDERED, OPEN = "watch-ordered", "set-up-open"
OWN = "my own request"


def begin_ordered() -> None:
    """What a button has ordered is started where its error can be told."""
    ordered = st.session_state.pop(ORDERED, None)
    if ordered is None:
        return
    with guard(), st.spinner("Starting the watch"):
        config, named = ordered
        card = watch.start(config, named)
        st.query_params["run"] = card.run_id
        st.query_params.pop(OPEN, None)


def go_on(run_id: str) -> None:
    """For a button's on_click."""
    order = watch_order.named(run_id)
    if order is not None:
        st.session_state[ORDERED] = (order.config, {})


def show(endpoint: Endpoint, *, opened: bool) -> None:
    if place := set_up.stand(opened):
        with place, guard():
            _form(endpoint)


def _form(endpoint: Endpoint) -> None:
    first, second, third, fourth = st.columns(4)
    values: dict[str, Any] = {"endpoint": endpoint.name}
    with first:
        name = settings.of(WatchConfig)["name"]
        values["name"] = st.text_input(
            name.title, _free_name(), max_chars=60, key="watch-name", help=f"{name.help}."
        )
    with second:
        values["every_min"] = _field("every_min", value=15.0, step=5.0, format="%g")
    with third:
        values["pairs"] = _field("pairs")
    with fourth:
        if endpoint.traits.priced:
            values["usd_a_day"] = _field("usd_a_day", value=LIVE_MAX_USD, step=0.1)
        else:
            values["days"] = _field("days", value=None, placeholder="until it is stopped")
    first, second, third, fourth = st.columns(4)
    with first:
        known = {name: name for name in definitions.CATEGORIES} | set_up.recorded() | {OWN: OWN}
        choice = st.selectbox(
            "Your request",
            list(known),
            key="watch-scenario",
            bind="query-params",
            help="What is watched: the first task of a category, a call of your own app, or a body"
            " that you paste.",
        )
    with second:
        values["model"] = set_up.model(endpoint, endpoint.generates, "Model") or None
    with third:
        values["metric"] = _field("metric")
    with fourth:
        values["answer_tokens"] = _field("answer_tokens")
    if known[choice] == OWN:
        values["tasks"] = _own()
    else:
        values["scenario"] = known[choice]
    command = st.text_input(
        "Run at a change, if any",
        key="watch-command",
        placeholder="notify-send",
        help="A command of yours: the finding comes as JSON on its input, the sentence as its last"
        " argument. It gets no key that the lab uses.",
    )
    values["on_change"] = hook.checked(command)
    if values.get("tasks") == []:
        return
    _offer(knob_form.checked(WatchConfig, values), values)


def _offer(config: WatchConfig, values: dict[str, Any]) -> None:
    problem = text = ""
    try:
        text = watch_order.new(config).cost().text
    except ConsentNeeded as needed:
        frame.ask(needed)
        return
    except LabError as error:
        problem = str(error)
    left, right = st.columns([2, 5], vertical_alignment="center")
    left.button(
        "Start watching",
        type="primary",
        key="watch-start",
        disabled=bool(problem),
        on_click=_order,
        args=(values,),
        width="stretch",
    )
    right.caption(escape(problem or f"{text}. It goes on when this page is closed."))


def _order(values: dict[str, Any]) -> None:
    st.session_state[ORDERED] = (watch_config_of(**values), values)


def _own() -> list[Task]:
    text = st.text_area(
        "Request: a JSON body, a curl command or a Python call",
        key="watch-own",
        height=140,
        help="It is kept in a private file of yours, since every probe sends it.",
    )
    if not text.strip():
        st.caption("Paste the request to watch.")
        return []
    return [watch_order.task_of(pasted.read(text).body, "own")]


def _free_name() -> str:
    """One that no watch has: the same name would go on with that one."""
    taken = set(cached_queries.all_watches()["name"])
    names = ["watch", *(f"watch {n}" for n in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def _field(name: str, **options: Any) -> Any:
    return knob_form.widget(settings.of(WatchConfig)[name], f"watch-{name}", **options)
