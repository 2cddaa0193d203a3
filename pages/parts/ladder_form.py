"""Set up a ladder: which levers, on what, judged by what, within which budget; and one button."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from lab import ladder_order, settings, units
from lab.endpoints.consent import ConsentNeeded
from lab.endpoints.registry import Endpoint
from lab.ladder import stack
from lab.ladder.ladder_settings import LADDER_MAX_USD, LadderConfig
from lab.ladder_order import LadderEstimate
from lab.model import LADDER
from pages.parts import controls, frame, knob_form, run_panel, set_up
from pages.parts.frame import escape, guard

MORE = ("answer_tokens", "warmup", "seed", "keep_text")
ASKS = replace(stack.technique("wait_ms"), category=ladder_order.SCENARIO)
"""Whose tasks the form offers first."""


def show(endpoint: Endpoint, *, opened: bool) -> None:
    if place := set_up.stand(opened):
        with place, guard():
            _form(endpoint)


def _form(endpoint: Endpoint) -> None:
    values: dict[str, Any] = {"endpoint": endpoint.name, "levers": _levers()}
    first, second, third, fourth = st.columns(4)
    with first:
        values["objective"] = _field("objective")
    with second:
        values["bar"] = _field("bar", step=1.0, format="%g")
    with third:
        values["minutes"] = _field("minutes", step=1.0, format="%g")
    with fourth:
        values["scenario"], values["tasks"] = set_up.asked(ASKS)
    values["models"] = _models(endpoint)
    if endpoint.traits.priced:
        with st.columns(4)[0]:
            values["max_usd"] = _field("max_usd", value=LADDER_MAX_USD, step=0.05)
    more = st.expander("More options", key="more-options", on_change="rerun", bind="query-params")
    if more.open:
        with more:
            # The last is a row of three words.
            for column, name in zip(st.columns([3, 3, 3, 5]), MORE, strict=True):
                with column:
                    values[name] = _field(name)
            values["today"] = _today(
                ladder_order.usual_today(knob_form.checked(LadderConfig, values))
            )
    offer(knob_form.checked(LadderConfig, values))


def _field(name: str, **options: Any) -> Any:
    return knob_form.widget(settings.of(LadderConfig)[name], f"ladder-{name}", **options)


def _levers() -> list[str]:
    titles = _titles()
    return st.multiselect(
        "Levers",
        list(titles),
        format_func=titles.get,
        key="ladder-levers",
        bind="query-params",
        placeholder="All that this endpoint and these tasks allow",
        help="What may be done differently. What is not tried, and why, stands below.",
    )


def _titles() -> dict[str, str]:
    return {lever.name: lever.title for _, lever in stack.all_levers()}


def _models(endpoint: Endpoint) -> dict[str, str]:
    chosen = {}
    for column, tier in zip(st.columns(4), ("large", "small"), strict=False):
        with column:
            chosen[tier] = set_up.model(endpoint, tier, f"{tier} model")
    return {tier: model for tier, model in chosen.items() if model}


def _today(usual: Mapping[str, str]) -> dict[str, str]:
    """What the application does already; what goes without saying is not named. `usual` has what
    does, where it is not a lever's first level."""
    st.caption("What your application does already:")
    chosen, columns = {}, st.columns(4)
    for place, (_, lever) in enumerate(stack.all_levers()):
        default, param = usual.get(lever.name, lever.levels[0]), f"today-{lever.name}"
        with columns[place % 4]:
            # A key of its own by default: another endpoint's is no choice of the user's.
            level = controls.by_name(
                st.selectbox, lever.title, lever.levels, f"{param}-{default}", default, param
            )
        if level != default:
            chosen[lever.name] = level
    return chosen


def offer(config: LadderConfig) -> None:
    """Say what it will try and take; refuse what cannot run; start it in a process of its own."""
    expected, busy = ladder_order.estimate(config), run_panel.busy()
    for url in expected.asks:
        frame.ask(ConsentNeeded(url))
    for refusal in () if expected.asks else expected.refusals:
        st.error(escape(refusal))
    _say_levers(expected)
    left, right = st.columns([2, 5], vertical_alignment="center")
    with left:
        st.button(
            "Climb",
            type="primary",
            key="run-button",
            disabled=bool(expected.refusals or busy),
            help=escape(busy) or None,
            on_click=begin,
            args=(config,),
            width="stretch",
        )
    right.caption(escape(busy or expected.text))


def _say_levers(expected: LadderEstimate) -> None:
    if expected.levers:
        names = ", ".join(f"**{escape(each.lever.title.lower())}**" for each in expected.levers)
        st.caption(f"Tries {names}.")
    titles = _titles()
    say_not_tried(
        f"{titles.get(each.lever, each.lever)}{f' ({each.level})' if each.level else ''}:"
        f" {each.reason}"
        for each in expected.not_tried
    )


def say_not_tried(reasons: Iterable[str]) -> None:
    """Folded, since on most endpoints it is a long list of what nobody asked for."""
    if lines := [escape(reason) for reason in reasons]:
        with st.expander(f"Not tried: {units.counted(len(lines), 'level')}"):
            st.caption("  \n".join(lines))


def begin(config: LadderConfig) -> None:
    """For a button's on_click: the page, drawn anew, starts the ladder at its top."""
    st.query_params.pop(set_up.OPEN, None)
    run_panel.order(LADDER, lambda: config)
