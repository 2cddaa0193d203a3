"""A run while it goes: tailed from the worker's progress file, so that any tab, reload or other
dashboard shows the same run."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from lab import clock, ladder_order, load_estimate, processes, units
from lab.endpoints.consent import ConsentNeeded
from lab.figures import progress_dots
from lab.harness.estimate import estimate
from lab.ladder.ladder_settings import LadderConfig
from lab.load.load_settings import LoadConfig
from lab.processes import RunCard
from lab.settings import BenchmarkConfig
from pages.parts import cached_queries, chart, frame
from pages.parts.frame import escape, guard

Config = BenchmarkConfig | LoadConfig | LadderConfig
EVERY_S, PATIENCE_S = 0.5, 60.0
PREPARING = "Preparing: the endpoint starts and warms up"
_top = st.components.v2.component(
    "lab.top",
    html="<i></i>",
    js="""export default () => {
        document.querySelector("[data-testid=stMain]")?.scrollTo({ top: 0, behavior: "instant" });
    };""",
)


def order(technique: str, config: Callable[[], Config]) -> None:
    """For a button's on_click: the technique's page, drawn next, starts this run. A second press
    before it has begun asks for nothing more."""
    if processes.running() is None:
        ordered = {"technique": technique, "config": config}
        st.session_state.setdefault("ordered", ordered)


def busy() -> str:
    """Why no run can be started now, for a button's help; empty where one can."""
    card = processes.running()
    return f"{card.text}. One at a time keeps both honest." if card else ""


def watch(
    technique: str,
    headline: str = "",
    arms: Sequence[str] = (),
    param: str = "run",
    panel: Callable[[str], None] | None = None,
) -> str | None:
    """The id of this technique's run that is being measured, with its panel drawn here; one that a
    button has ordered is started first, and stands in the URL under `param`. `arms` as in
    show(), in whose place `panel` is drawn where one is given."""
    place = st.empty()
    _start(place, technique, param)
    going = current(technique)
    if going:
        st.session_state["watched"] = going
        with place.container():
            panel(going) if panel else show(going, headline, arms)
    return going


def _start(place: Any, technique: str, param: str) -> None:
    """The panel comes into view before the worker is there: that takes it a second or two."""
    st.session_state.pop(frame.AWAITS_CONSENT, None)  # its question stood on the page before
    ordered = st.session_state.get("ordered")
    if ordered is None:
        return
    if ordered["technique"] != technique:
        del st.session_state["ordered"]
        return
    if "run_id" not in ordered:
        with place.container(border=True, key="run-panel-begins"):
            line(PREPARING)
            _top(key="top", height=1)
        try:
            config = ordered["config"]()
            for url in _asks(config):
                raise ConsentNeeded(url)
            # A press meanwhile draws the page anew from here on: it finds the run in the order.
            ordered["run_id"] = processes.start_run(config)
            _await(ordered["run_id"])
        except Exception as error:
            del st.session_state["ordered"]
            if isinstance(error, ConsentNeeded):
                st.session_state[frame.AWAITS_CONSENT] = ordered
            with place.container(), guard():
                raise error
            return
    st.query_params[param] = ordered["run_id"]
    del st.session_state["ordered"]


def _asks(config: Config) -> Sequence[str]:
    """Addresses to which the user has to agree first."""
    if isinstance(config, LoadConfig):
        return load_estimate.estimate(config).asks
    if isinstance(config, LadderConfig):
        return ladder_order.estimate(config).asks
    return estimate(cached_queries.resolved(config)).asks


def _await(run_id: str) -> None:
    """Until the worker measures, or has ended: where much else goes on that takes it a while."""
    until_ns = clock.now_ns() + PATIENCE_S * 1e9
    while processes.running() is None and ending(run_id) is None and clock.now_ns() < until_ns:
        clock.pause_s(0.05)


def current(technique: str) -> str | None:
    """The id of this technique's run that is being measured now, whoever started it."""
    card = processes.running()
    return card.run_id if card and card.technique == technique else None


def leaves_in_view(going: str | None, run: dict[str, Any]) -> bool:
    """Whether a run's results are drawn while `going` is measured: those of a run that gets more
    rows stay, and those that were opened by their address. Any other would be a second finding on
    the page, and drawing it would slow what is measured."""
    if run["run_id"] != going:
        return going is None or st.query_params.get("run") == run["run_id"]
    card = processes.running()
    began = datetime.fromisoformat(card.since_utc) if card and card.since_utc else None
    return bool(began) and card.run_id == going and run["started_utc"] < began


@st.fragment(run_every=EVERY_S)
def show(run_id: str, headline: str, arms: Sequence[str] = ()) -> None:
    """Progress, a dot per finished trial, time and money left, and Stop; when the run ends the
    whole page is drawn again, once. `arms` are those expected until the run names its own."""
    with guard():
        card = processes.running()
        if card is None or card.run_id != run_id:
            st.rerun()
        _draw(card, headline, arms)


def ending(run_id: str) -> dict[str, Any] | None:
    """How a run ended, {"status", "text"}, if its progress file is still there."""
    entries, _ = processes.read_progress(run_id)
    return next((entry for entry in reversed(entries) if entry["kind"] == "ended"), None)


def entries(card: RunCard) -> list[dict[str, Any]]:
    """All that a run's process has said so far; each look reads only what was added since the
    last. A process that goes on with a run begins its file anew."""
    key = ("progress", card.run_id, card.pid)
    seen, offset = st.session_state.get(key, ([], 0))
    added, offset = processes.read_progress(card.run_id, offset)
    st.session_state[key] = (seen + added, offset)
    return seen + added


def _draw(card: RunCard, headline: str, arms: Sequence[str]) -> None:
    told = entries(card)
    started = next((entry for entry in told if entry["kind"] == "started"), None)
    trials = [entry for entry in told if entry["kind"] == "trial"]
    notes = [entry["text"] for entry in told if entry["kind"] == "note"]
    with st.container(border=True, key="run-panel"):
        if trials:
            last = trials[-1]
            line(_state(last), last["done"] / max(1, last["total"]), card.run_id)
        elif started:
            line(f"Trial 1 of {started['total']}", 0.0, card.run_id)
        else:
            line(PREPARING, 0.0, card.run_id)
        about = {"arms": arms, "places": range(len(arms)), "metric": headline, **(started or {})}
        figure = progress_dots.dots(
            pd.DataFrame(trials),
            dict(zip(about["arms"], about["places"], strict=True)),
            about["metric"],
            chart.dark(),
            headline=about.get("headline"),
        )
        chart.show(figure, key="live-dots")
        if notes:
            st.caption(escape(notes[-1]))


def line(text: str, share: float = 0.0, run_id: str = "") -> None:
    """How far the run is, and Stop beside it; before it has an id there is nothing to stop."""
    left, right = st.columns([6, 1], vertical_alignment="center")
    left.progress(min(1.0, share), text)
    stopping = bool(run_id) and processes.stop_asked(run_id)
    if right.button(
        "Stopping" if stopping else "Stop",
        disabled=stopping or not run_id,
        key="stop" if run_id else "stop-soon",
        width="stretch",
    ):
        processes.stop(run_id)
        st.rerun(scope="fragment")


def _state(last: dict[str, Any]) -> str:
    parts = [f"{last['done']} of {last['total']} trials"]
    if last.get("left_s") is not None:
        parts.append(f"about {units.duration(last['left_s'])} left")
    if last.get("spent_usd"):
        parts.append(f"{units.usd(last['spent_usd'])} spent")
    return " · ".join(parts)
