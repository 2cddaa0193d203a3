"""What this machine can see now, to be read before a run is started; nothing is measured for it."""

from html import escape as html
from math import sqrt

import streamlit as st

from lab import calibrate, machine, metrics, units
from lab.endpoints import registry
from lab.figures import palette
from lab.settings import BenchmarkConfig
from pages.parts import cached_queries, chart


def show(config: BenchmarkConfig) -> None:
    """Busy or quiet, and about how small a difference so many blocks can show."""
    load = machine.load()
    size, source = _half_width(config)
    parts = ["busy" if load.is_busy else "quiet"]
    parts += [f"± {units.ms(size)}{' or worse' if load.is_busy else ''}"] if size else []
    about = f"{load.processes:.1f} processes for {load.cores} cores"
    if load.is_busy:
        source = f"{about} now; wait, or run anyway"
    else:
        source = source or f"{about} now; Noise floor says what it can see"
    colour = palette.tone_colour("warn" if load.is_busy else "neutral", chart.dark())
    with st.container(key="machine-now"):
        st.html(
            f'<span class="lab-tag" style="color:{colour}">{html(": ".join(parts))}</span>'
            f'<span class="lab-small">&ensp;{html(source)}</span>'
        )


def _half_width(config: BenchmarkConfig) -> tuple[float | None, str]:
    """(ms, where it comes from): half the interval that the newest run like this one saw, else that
    of the calibration; it shrinks with the root of the number of blocks."""
    kind = registry.find(config.endpoint).kind
    run_id = cached_queries.ask("last_run_id", config.technique, kind)
    comparisons = cached_queries.judged(run_id).comparisons if run_id else ()
    blocks = f"{config.blocks} block{'' if config.blocks == 1 else 's'}"
    if comparisons and comparisons[0].low is not None:
        planned = comparisons[0]
        if metrics.find(planned.metric).is_time:
            half = (planned.high - planned.low) / 2 * sqrt(planned.n / config.blocks)
            where = f"in {metrics.words(planned.metric)} with {blocks}, going by the newest run"
            return half, where
    calibration = calibrate.last_calibration() or {}
    for count, size in calibration.get("detectable_ms", {}).items():
        half = size * sqrt(int(count) / config.blocks)
        return half, f"with {blocks}, by the calibration; the endpoint's own spread comes on top"
    return None, ""
