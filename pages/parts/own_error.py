"""The instrument's own error, measured again at the press of a button, and the newest control."""

import pandas as pd
import streamlit as st

from lab import calibrate, techniques, units
from lab.figures import noise_floor
from lab.paths import COMMAND
from pages.parts import cached_queries, chart, frame, run_panel, verdict_card

COLUMNS = ["streams", "clock", "quantile", "error_ms", "n"]


def calibration() -> None:
    """The last calibration kept here; one that is going on is looked at every two seconds."""
    going = st.session_state.get("calibrating")
    st.fragment(_calibration, run_every=2 if going else None)()


def _calibration() -> None:
    last, state = calibrate.last_calibration(), st.session_state
    if process := state.get("calibrating"):
        if process.poll() is None:
            st.info("Calibrating in a process of its own; it takes some twenty seconds.")
        else:
            state["calibrating"] = None
            state["calibration_failed"] = process.returncode != 0
            st.rerun()
    elif st.button(
        "Calibrate again" if last else "Calibrate",
        type="secondary" if last else "primary",
        key="calibrate",
        disabled=bool(run_panel.busy()),
        help=frame.escape(run_panel.busy()) or None,
    ):
        state["calibrating"] = calibrate.start()
        st.rerun()
    if state.get("calibration_failed"):
        st.warning(
            "The last calibration did not finish, perhaps because a run is being measured."
            f" `{COMMAND} calibrate` says why."
        )
    errors = pd.DataFrame(last["errors"] if last else [], columns=COLUMNS)
    figure = noise_floor.noise_floor(errors[errors["clock"] == "ttft"], chart.dark())
    chart.show(figure, key="noise-floor")
    if not last:
        return
    own, seen, timer = st.columns(3)
    own.metric(
        "Own error of TTFT, p95",
        units.ms(last["own_error_p95_ms"]),
        help="One stream; an effect below it is greyed.",
    )
    seen.metric(
        "Smallest difference seen, 20 blocks",
        units.ms(last["detectable_ms"].get("20")),
        help="Half the interval of two identical arms on a server without noise.",
    )
    timer.metric(
        "Timers of 5 ms wake late by, p95",
        units.ms(last["loop_lag_ms"]["p95"]),
        help="The event loop's own lag.",
    )
    taken = last["taken_utc"][:16].replace("T", " ")
    st.caption(f"{last['host']}, {last['cores']} cores, {taken} UTC; kept with each session.")


def control() -> None:
    """What two identical arms looked like when the control was last run."""
    st.subheader("Two identical arms", anchor=False)
    technique = techniques.control()
    run_id = cached_queries.ask("last_run_id", technique.slug)
    if run_id is None:
        st.markdown(
            f"No control run yet: run **{technique.title}** once, and its result stands here."
        )
        frame.link(frame.page_of(technique.slug))
        return
    result = cached_queries.judged(run_id)
    verdicts = result.verdicts
    if not verdicts:
        st.caption("The newest control run has nothing to compare.")
        return
    verdict_card.doubts(verdicts[0])
    st.markdown(f"**{frame.escape(verdicts[0].headline)}**")
    about = filter(None, (verdicts[0].detail, result.provenance))
    st.caption("  \n".join(map(frame.escape, about)))
