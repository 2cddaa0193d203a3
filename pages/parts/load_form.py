"""Set up a load: how it is put on, how much of it, on what; what that will take, and one button."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import streamlit as st

from lab import load_estimate, settings, units
from lab.endpoints.consent import ConsentNeeded
from lab.endpoints.registry import Endpoint
from lab.load.load_settings import FEW_STREAMS, STREAMS, LoadConfig
from lab.load_estimate import LoadEstimate
from lab.model import LOAD, LabError
from lab.scenarios import definitions
from lab.settings import LIVE_MAX_USD
from pages.parts import controls, frame, knob_form, run_panel, set_up
from pages.parts.frame import escape, guard

SECONDS = 15.0
OBJECTIVE = "p95 ttft_ms < 800"
STREAM, RATE = "streams at once", "requests a second"
QUESTION = "load-question"
"""Of the session: the load whose price was shown and that waits for a yes."""
MORE = ("seed", "warmup", "timeout_s", "stream", "keep_text")
USUAL = {
    "few": {"one": FEW_STREAMS, "several": "1, 2, 4", "rate": 1.0, "rates": "0.5, 1, 2", "most": 8},
    "paid": {"one": 4, "several": "1, 2, 4", "rate": 1.0, "rates": "0.5, 1, 2", "most": 8},
    "many": {
        "one": STREAMS,
        "several": "1, 2, 4, 8, 16, 32",
        "rate": 10.0,
        "rates": "5, 10, 20, 40",
        "most": 64,
    },
}
"""What stands in the form at first: on the one model of this machine, where requests cost money,
and elsewhere."""


def show(endpoint: Endpoint, *, opened: bool) -> None:
    if place := set_up.stand(opened):
        with place, guard():
            _form(endpoint)


def _form(endpoint: Endpoint) -> None:
    mode = controls.segments("How the load is put on", MODES, "load-mode")
    about, fields = MODES[mode]
    st.caption(about)
    usual = USUAL[_usual(endpoint)]
    values = fields(usual) | _on_what(endpoint, needs_objective=mode == "Search")
    more = st.expander("More options", key="more-options", on_change="rerun", bind="query-params")
    if more.open:
        for column, name in zip(more.columns(len(MORE)), MORE, strict=True):
            with column:
                values[name] = _field(name)
    values["endpoint"] = endpoint.name
    asked = st.session_state.get(QUESTION)
    offer(knob_form.checked(LoadConfig, values))
    if asked is not None:
        _confirm(asked)


def _usual(endpoint: Endpoint) -> str:
    traits = endpoint.traits
    return "few" if traits.embedded else "paid" if traits.priced else "many"


def _field(name: str, key: str = "", **options: Any) -> Any:
    """A field of the load's settings; of one that takes several values, for one of them."""
    setting = settings.of(LoadConfig)[name]
    if setting.many:
        setting = replace(setting, default=None, many=False)
    return knob_form.widget(setting, key or f"load-{name}", **options)


# How it is put on


def _streams(usual: dict[str, Any]) -> dict[str, Any]:
    left, right, _, _ = st.columns(4)
    with left:
        streams = _field("concurrency", min_value=1, step=1, value=usual["one"])
    with right:
        requests = _field("requests", min_value=1, value=None, placeholder="six a stream")
    return {"concurrency": [streams], "requests": requests}


def _sweep(usual: dict[str, Any]) -> dict[str, Any]:
    first, second, third, _ = st.columns(4)
    with first:
        what = _what()
    with second:
        name, text = ("concurrency", "several") if what == STREAM else ("rate", "rates")
        levels = st.text_input(
            "Levels",
            usual[text],
            key=f"load-levels-{name}",
            bind="query-params",
            help="One number a level, separated by commas; the least load goes first.",
        )
    with third:
        each = _each(what)
    return {name: _numbers(levels, int if what == STREAM else float)} | each


def _each(what: str) -> dict[str, Any]:
    """How long a level is."""
    if what == STREAM:
        return {"requests": _field("requests", min_value=1, value=None, placeholder="six a stream")}
    return {"seconds": _seconds()}


def _rate(usual: dict[str, Any]) -> dict[str, Any]:
    first, second, third, fourth = st.columns(4)
    with first:
        rate = _field("rate", min_value=0.01, value=usual["rate"], step=1.0, format="%g")
    with second:
        arrivals = controls.by_name(
            st.selectbox,
            "Arrivals",
            ("poisson", "constant", "gamma"),
            "load-arrivals",
            "poisson",
            help="How requests begin: at random as those of many users do (Poisson), evenly, or in"
            " bursts (gamma).",
        )
    with third:
        seconds = _seconds()
    values = {"rate": [rate], "arrivals": arrivals, "seconds": seconds}
    if arrivals == "gamma":
        with fourth:
            values["gamma_shape"] = _field("gamma_shape", format="%g")
    return values


def _ramp(usual: dict[str, Any]) -> dict[str, Any]:
    first, second, third, fourth = st.columns(4)
    with first:
        what = _what()
    is_rate = what == RATE
    kind, low = (float, usual["rate"] / 2) if is_rate else (int, 1)
    high = usual["rate"] * 2 if is_rate else usual["one"]
    limits = {"min_value": kind(0.01) if is_rate else 1, "step": kind(1), "bind": "query-params"}
    with second:
        low = st.number_input("From", value=kind(low), key=f"load-from-{what}", **limits)
    with third:
        high = st.number_input("To", value=kind(high), key=f"load-to-{what}", **limits)
    with fourth:
        seconds = _seconds()
    return {"ramp": f"{low:g}:{high:g}{'/s' * is_rate}", "seconds": seconds}


def _search(usual: dict[str, Any]) -> dict[str, Any]:
    first, second, third, _ = st.columns(4)
    with first:
        what = _what()
    with second:
        most = _field("most", value=usual["most"])
    values = {"search": "concurrency" if what == STREAM else "rate", "most": most}
    if what == RATE:
        with third:
            values["seconds"] = _seconds()
    return values


def _what() -> str:
    return st.segmented_control(
        "What rises", [STREAM, RATE], default=STREAM, required=True, key="load-what",
        bind="query-params",
        help="Streams: each request is followed by the next (closed loop). Requests a second begin"
        " at their instants, whether or not the server keeps up (open loop).",
    )  # fmt: skip


def _seconds() -> float:
    return _field("seconds", min_value=1.0, value=SECONDS, step=5.0, format="%g")


def _numbers(text: str, kind: type) -> list[Any]:
    try:
        return [kind(word) for word in text.replace(";", ",").split(",") if word.strip()]
    except ValueError:
        whole = "whole numbers" if kind is int else "numbers"
        raise LabError(f"Levels are {whole} separated by commas, as in “1, 2, 4, 8”.") from None


MODES: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "Streams": (
        "So many requests are under way at once, each followed by the next (closed loop).",
        _streams,
    ),
    "Sweep": (
        "One level after the other: how throughput and first tokens go with the load.",
        _sweep,
    ),
    "Rate": (
        "Requests begin at their instants, whether or not the server keeps up (open loop): a queue"
        " that grows is seen growing.",
        _rate,
    ),
    "Ramp": ("One level in which the load rises evenly.", _ramp),
    "Search": (
        "Doubles the load, then halves the step, until the largest that keeps the objective is"
        " known.",
        _search,
    ),
}
"""In words, and its own fields."""


# On what


def _on_what(endpoint: Endpoint, needs_objective: bool) -> dict[str, Any]:
    first, second, third, fourth = st.columns(4)
    with first:
        objectives = st.text_input(
            "Objective" if needs_objective else "Objective, if any",
            OBJECTIVE if needs_objective else "",
            key="load-slo-search" if needs_objective else "load-slo",
            placeholder=OBJECTIVE,
            bind="query-params",
            help="What must hold, such as “p95 ttft_ms < 800” or “p95 total_ms < 2 s”; several"
            " separated by semicolons. A request that failed keeps none.",
        )
    with second:
        tokens = _field("max_tokens")
    with third:
        model = set_up.model(endpoint, endpoint.generates, "Model")
    with fourth:
        known = {name: name for name in definitions.CATEGORIES} | {
            f"{words}": scenario for words, scenario in set_up.recorded().items()
        }
        choice = st.selectbox(
            "Requests from",
            list(known),
            key="load-scenario",
            bind="query-params",
            help="What is asked. Calls of your own app are sent as its own conversations, with"
            " their pauses.",
        )
    values = {
        "slo": [text.strip() for text in objectives.split(";") if text.strip()],
        "max_tokens": tokens,
        "models": {"any": model} if model else {},
        "scenario": known[choice],
    }
    if endpoint.traits.priced:
        values["max_usd"] = _field("max_usd", value=LIVE_MAX_USD, step=0.05)
    return values


# What it takes


def offer(config: LoadConfig) -> None:
    """Say what the load will take; refuse what cannot run; ask where it costs money or goes to a
    server of others; start it in a process of its own."""
    expected, busy = load_estimate.estimate(config), run_panel.busy()
    for url in expected.asks:
        frame.ask(ConsentNeeded(url))
    for refusal in () if expected.asks else expected.refusals:
        st.error(escape(refusal))
    left, right = st.columns([2, 5], vertical_alignment="center")
    with left:
        st.button(
            _label(config, expected),
            type="primary",
            key="run-button",
            disabled=bool(expected.refusals or busy),
            help=escape(busy) or None,
            on_click=_ask if expected.question else begin,
            args=(config,),
            width="stretch",
        )
    right.caption(escape(busy or expected.text))


def _label(config: LoadConfig, expected: LoadEstimate) -> str:
    if config.search:
        return "Search"
    levels = max(len(config.concurrency), len(config.rate))
    if levels > 1:
        return f"Run {units.counted(levels, 'level')}"
    return f"Run {units.counted(expected.requests, 'request')}" if expected.requests else "Run"


def _ask(config: LoadConfig) -> None:
    st.session_state[QUESTION] = config


def _confirm(config: LoadConfig) -> None:
    """What was pressed, and not what stands in the form by now."""
    with st.container(border=True, key="load-question-asked"):
        st.warning(escape(load_estimate.estimate(config).question))
        with st.container(horizontal=True):
            st.button("Send them", key="load-yes", type="primary", on_click=begin, args=(config,))
            st.button("Do not", key="load-no", on_click=st.session_state.pop, args=(QUESTION,))


def begin(config: LoadConfig) -> None:
    """For a button's on_click: the page, drawn anew, starts the load at its top."""
    st.session_state.pop(QUESTION, None)
    st.query_params.pop(set_up.OPEN, None)
    run_panel.order(LOAD, lambda: config)


def again(config: LoadConfig) -> None:
    """For a button's on_click: the same load once more; where that may cost money, asked first, in
    the form."""
    if load_estimate.estimate(config).question:
        st.query_params[set_up.OPEN] = "true"
        st.session_state[QUESTION] = config
    else:
        begin(config)
