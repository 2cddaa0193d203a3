"""Noise floor: what the instrument can see on this machine, and what two identical arms look
like."""

import pandas as pd
import streamlit as st

from lab import calibrate, techniques, units
from lab.figures import noise_floor
from lab.paths import COMMAND
from pages.parts import cached_queries, chart, frame

CLAIM = (
    "A difference smaller than the instrument's own error is no finding. Calibration holds the"
    " harness's stamps against known times."
)

with frame.open_page("Noise floor", CLAIM):

    @st.fragment(run_every=2 if st.session_state.get("calibrating") else None)
    def floor() -> None:
        kept = calibrate.last_calibration()
        if process := st.session_state.get("calibrating"):
            if process.poll() is None:
                st.info("Calibrating in a process of its own; it takes some twenty seconds.")
            else:
                st.session_state.calibrating = None
                st.session_state.calibration_failed = process.returncode != 0
                st.rerun()
        elif st.button(
            "Calibrate again" if kept else "Calibrate",
            type="secondary" if kept else "primary",
            key="calibrate",
        ):
            st.session_state.calibrating = calibrate.start()
            st.rerun()
        if st.session_state.get("calibration_failed"):
            st.warning(
                "The last calibration did not finish, perhaps because a run is being measured."
                f" `{COMMAND} calibrate` says why."
            )
        errors = pd.DataFrame(
            kept["errors"] if kept else [],
            columns=["streams", "clock", "quantile", "error_ms", "n"],
        )
        chart.show(
            noise_floor.noise_floor(errors[errors["clock"] == "ttft"], chart.dark()),
            key="noise-floor",
        )
        if kept:
            own, seen, timer = st.columns(3)
            own.metric(
                "Own error of TTFT, p95",
                units.ms(kept["own_error_p95_ms"]),
                help="One stream; an effect below it is greyed.",
            )
            seen.metric(
                "Smallest difference seen, 20 blocks",
                units.ms(kept["detectable_ms"].get("20")),
                help="Half the interval of two identical arms on a server without noise.",
            )
            timer.metric(
                "Timers of 5 ms wake late by, p95",
                units.ms(kept["loop_lag_ms"]["p95"]),
                help="The event loop's own lag.",
            )
            st.caption(
                f"{kept['host']}, {kept['cores']} cores, {kept['taken_utc'][:16].replace('T', ' ')}"
                " UTC; kept with each session."
            )

    floor()
    st.subheader("Two identical arms", anchor=False)
    control = techniques.control()
    run_id = cached_queries.ask("last_run_id", control.slug)
    if run_id is None:
        st.markdown(
            f"No control run yet: run **{control.title}** once, and its result stands here."
        )
        frame.link(frame.page_of(control.slug))
        st.stop()
    result = cached_queries.judged(run_id)
    if not result.verdicts:
        st.caption("The newest control run has nothing to compare.")
        st.stop()
    st.markdown(f"**{frame.escape(result.verdicts[0].headline)}**")
    st.caption(frame.escape(result.verdicts[0].detail))
