"""The tables as they are: their documentation, a query box that can only read, a quick chart, and
files of any result."""

import re

import pandas as pd
import streamlit as st

from lab import paths, units
from lab.figures import adhoc
from lab.store import export, sandbox
from lab.store.store import Store
from pages.parts import cached_queries, chart, controls

NAMES = (
    "runs",
    "sessions",
    "trials",
    "calls",
    "spans",
    "events",
    "load_levels",
    "recorded_calls",
    "recorded_blocks",
    "call_metrics",
    "load_calls",
    "trial_metrics",
    "arm_summary",
    "arm_counts",
    "paired_trials",
    "pair_differences",
    "pair_losses",
)
MOST_ROWS = 100
EXAMPLES = {
    "Medians by arm": (
        "SELECT technique, arm, endpoint_kind, count(*) AS n, median(wait_ms) AS wait_ms,"
        " median(total_ms) AS total_ms\nFROM trial_metrics\nWHERE counts\nGROUP BY ALL\n"
        "ORDER BY endpoint_kind, technique, arm"
    ),
    "Slowest calls": (
        "SELECT arm, endpoint_kind, model, role, ttft_ms, total_ms, loop_lag_ms, error_kind\n"
        "FROM call_metrics\nWHERE phase NOT IN ('observed', 'load', 'screened')\n"
        "ORDER BY total_ms DESC\n"
        "LIMIT 20"
    ),
    "Cache states": (
        "SELECT arm, endpoint_kind, observed_cache, count(*) AS calls, median(ttft_ms) AS ttft_ms,"
        " avg(cached_share) AS cached_share\nFROM call_metrics\n"
        "WHERE role = 'answer' AND phase NOT IN ('observed', 'load', 'screened')\n"
        "GROUP BY ALL\nORDER BY endpoint_kind, arm, calls DESC"
    ),
    "Failures by kind": (
        "SELECT technique, arm, endpoint_kind, error_kind, count(*) AS n\nFROM trial_metrics\n"
        "WHERE outcome = 'failed' AND phase NOT IN ('observed', 'load', 'screened')\nGROUP BY ALL\n"
        "ORDER BY n DESC"
    ),
    "Loads by level": (
        "SELECT run_id, label, endpoint_kind, count(*) AS calls, median(ttft_ms) AS ttft_p50_ms,\n"
        "    quantile_cont(ttft_ms, 0.95) AS ttft_p95_ms, count(error_kind) AS failed\n"
        "FROM load_calls\nGROUP BY run_id, level, label, endpoint_kind\nORDER BY run_id DESC, level"
    ),
    "Recorded calls": (
        "SELECT source, endpoint_kind, model, count(*) AS calls, median(ttft_ms) AS ttft_ms,"
        " avg(cached_share) AS cached_share, sum(cost_usd) AS cost_usd\nFROM call_metrics JOIN"
        " recorded_calls USING (run_id, call_id)\nGROUP BY ALL\nORDER BY calls DESC"
    ),
    "Gaps between arrivals": (
        "SELECT seq, at_ns / 1e6 AS at_ms, kind, characters\nFROM events\n"
        "WHERE call_id = (\n    SELECT call_id\n    FROM events JOIN call_metrics USING (call_id)\n"
        "    WHERE phase NOT IN ('observed', 'load', 'screened')\n    LIMIT 1\n)\nORDER BY seq"
    ),
}


def tables() -> None:
    """The tables, and the views worth asking: their rows first, then files of them, their columns
    and what data/README.md says of each."""
    name = st.selectbox(
        "Table or view",
        NAMES,
        key="table",
        bind="query-params",
        help="Views are the only definitions of the metrics.",
    )
    first = cached_queries.ask("first_rows", name, MOST_ROWS)
    if first.empty:
        st.info("No rows yet. Every run writes some.")
    else:
        _rows(name, first)
    left, right = st.columns([3, 2])
    with left:
        words = _documentation(name)
        st.markdown(words or f"`{name}` has no text in data/README.md.")
    with right:
        st.dataframe(
            cached_queries.ask("columns", name),
            hide_index=True,
            height=320,
            key="columns",
        )


def _rows(name: str, first: pd.DataFrame) -> None:
    st.dataframe(first, hide_index=True, height=280, key="first-rows")
    counts = cached_queries.ask("row_counts")
    computed = "A view, computed from the tables"
    size = units.counted(counts[name], "row") if name in counts else computed
    shown = f"; the first {MOST_ROWS} are shown" if len(first) == MOST_ROWS else ""
    st.caption(f"{size}{shown}. A file has them all:")
    controls.row(name, lambda kind: export.table_bytes(Store(), name, kind))


def query() -> None:
    """One query that can only read; at most 10,000 of its rows are shown."""
    example = st.pills("Examples", list(EXAMPLES), key="example")
    if example and st.session_state.get("example-shown") != example:
        st.session_state["example-shown"] = example
        st.session_state["sql"] = EXAMPLES[example]
    st.session_state.setdefault("sql", st.query_params.get("sql", EXAMPLES["Medians by arm"]))
    sql = st.text_area(
        "SQL",
        key="sql",
        height=160,
        help=(
            "DuckDB's SQL. It can only read: no files, no network, no settings; 5 seconds, 512 MB."
        ),
    )
    if st.button("Run the query", type="primary", key="run-sql"):
        st.query_params["sql"] = sql
        st.session_state["result"] = None
        with st.spinner("Asking"):
            st.session_state["result"] = sandbox.run_sql(Store(), sql)
    result = st.session_state.get("result")
    if result is None:
        st.caption("The result stands here, as a table and as a quick chart.")
        return
    st.dataframe(
        result, hide_index=True, key="result-table", height=min(36 * (len(result) + 1) + 4, 420)
    )
    more = " More rows matched; these are the first." if result.attrs.get("truncated") else ""
    st.caption(f"{len(result):,} rows.{more}")
    _chart(result)
    controls.files(result, "result")


def _chart(result: pd.DataFrame) -> None:
    """Of one endpoint kind at a time, where the rows say of which they are."""
    numbers = adhoc.numeric(result)
    names = [name for name in result.columns if name not in numbers]
    if not numbers or len(result) < 2:
        return
    left, middle, right, last = st.columns(4)
    y = left.selectbox("Quick chart of", numbers, index=len(numbers) - 1, key="chart-y")
    finest = max(names or numbers, key=lambda name: result[name].nunique())
    columns = list(result.columns)
    x = middle.selectbox("against", columns, index=columns.index(finest), key="chart-x")
    by = right.selectbox(
        "by",
        [None, *names],
        format_func=lambda name: name or "nothing",
        key="chart-by",
    )
    kinds = sorted(result["endpoint_kind"].dropna().unique()) if "endpoint_kind" in names else []
    if len(kinds) > 1:
        kind = last.selectbox("Endpoint kind", kinds, key="chart-kind")
        result = result[result["endpoint_kind"] == kind]
    chart.show(adhoc.quick(result, x, y, by, chart.dark()), key="quick")


def _documentation(name: str) -> str:
    file = paths.shipped("data/README.md")
    if not file.exists():
        return ""
    match = re.search(
        rf"^#+ .*\b{name}\b.*\n((?:(?!^#).*\n?)*)", file.read_text(encoding="utf-8"), re.MULTILINE
    )
    return match[1].strip() if match else ""
