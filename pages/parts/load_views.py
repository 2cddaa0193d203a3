"""The figures and tables of a load."""

import streamlit as st

from lab import load_figures, load_table, metrics, units
from lab.figures.load_curve import ACROSS
from lab.load_results import LoadResult
from pages.parts import chart, controls, tables

WORDS = ("load", "error", "objective", "limit")
"""Columns of words."""


def curve(result: LoadResult) -> None:
    """Throughput against first tokens; of one level there is no curve."""
    if len(result.levels) < 2:
        return
    across = controls.segments(
        "Throughput in", ACROSS, "across", format_func={"requests_per_s": "Requests",
        "tokens_per_s": "Tokens"}.get,
    )  # fmt: skip
    if figure := load_figures.curve(result, chart.dark(), across):
        chart.show(figure, key=f"curve-{across}")


def levels(result: LoadResult) -> None:
    rows = load_table.table(result)
    _table(rows, "levels")
    if legend := load_table.legend(rows):
        st.caption(legend)


def over_time(result: LoadResult) -> None:
    chart.show(load_figures.over_time(result, chart.dark()), key="over-time")


def distribution(result: LoadResult) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = controls.by_name(
            st.selectbox,
            "Metric",
            [name for name in metrics.OF_LOAD if result.calls[name].notna().any()],
            "metric",
            result.metric,
            format_func=metrics.words,
            width=280,
        )
        log = st.toggle("Logarithmic axis", key="log", bind="query-params")
    chart.show(load_figures.by_level(result, metric, chart.dark(), log), key="by-level")


def errors(result: LoadResult) -> None:
    rows = load_table.errors(result)
    if not rows:
        st.caption(f"No call failed: all {units.whole(len(result.calls))} were answered.")
        return
    _table(rows, "errors")
    st.caption("Shares are of the calls of that level. docs/load.md says what each error means.")


def rows(result: LoadResult) -> None:
    """Every call, whatever came of it, a thousand at a time, and the files of the whole frame."""
    total, most = len(result.calls), tables.MOST_ROWS
    first = tables.first_of(total, "call")
    part = result.calls.iloc[first : first + most]
    st.dataframe(part, hide_index=True, key="rows", height=420)
    name = f"load-{units.short_id(result.run_id)}"
    controls.files(result.calls, name, ("csv", "parquet", "json"))
    shown = f" The table has {len(part):,} of them, a file all." if total > most else ""
    st.caption(
        f"{units.counted(total, 'call')}, failed ones included.{shown} Times in ms;"
        " data/README.md says what each column is."
    )


def _table(rows: list[load_table.Row], key: str) -> None:
    right = {
        name: st.column_config.TextColumn(name, alignment="right")
        for name in rows[0]
        if name not in WORDS
    }
    first = {"load": st.column_config.TextColumn("load", pinned=True)}
    st.dataframe(rows, hide_index=True, key=key, column_config=right | first)
