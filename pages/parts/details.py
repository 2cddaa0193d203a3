"""What lies behind the verdict: where the difference comes from, what failed, and every other
metric, described and not judged."""

from typing import Any

import streamlit as st

from lab import metrics, results
from pages.parts import cached_queries
from pages.parts.frame import escape


def show(run: dict[str, Any]) -> None:
    result = cached_queries.judged(run["run_id"])
    if result.why:
        st.caption("  \n".join(escape(line) for line in result.why))
    behind = st.expander(
        "Every metric, failures and tails", key="behind", on_change="rerun", bind="query-params"
    )
    # A bootstrap of thousands of blocks takes its time: only for a reader who asks.
    if not behind.open:
        return
    floors = [metrics.needed(metrics.QUANTILES[name]) for name in results.OF_DETAILS]
    with behind:
        for title, table in results.behind(result).items():
            st.caption(title)
            st.dataframe(table, hide_index=True)
        st.caption(
            "Differences are in each metric's own unit, parts are means. Percentiles have an "
            f"interval from n = {' and '.join(map(str, floors))}."
        )
