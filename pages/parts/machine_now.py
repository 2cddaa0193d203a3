"""What this machine can see now, to be read before a run is started; nothing is measured for it."""

from html import escape as html

import streamlit as st

from lab import expected, machine, metrics, units
from lab.endpoints import registry
from lab.figures import palette
from lab.settings import BenchmarkConfig
from pages.parts import cached_queries, chart


def show(config: BenchmarkConfig) -> None:
    """Busy or quiet, and about how small a difference so many blocks can show."""
    load = machine.load()
    size, source = _expected(config)
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


def _expected(config: BenchmarkConfig) -> tuple[float | None, str]:
    """(ms, where it comes from)."""
    kind = registry.find(config.endpoint).kind
    run_id = cached_queries.ask("last_run_id", config.technique, kind)
    seen = expected.half_width(cached_queries.judged(run_id) if run_id else None, config.blocks)
    blocks = units.counted(config.blocks, "block")
    if seen is None:
        return None, ""
    if seen.metric:
        return seen.ms, f"in {metrics.words(seen.metric)} with {blocks}, going by the newest run"
    return seen.ms, f"with {blocks}, by the calibration; the endpoint's own spread comes on top"
