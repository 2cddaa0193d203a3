"""What lies behind the verdict: where the difference comes from, what failed, and every other metric, described and not judged."""

from __future__ import annotations

from typing import Any

import streamlit as st

from lab import results, stats
from pages.parts import cached_queries
from pages.parts.frame import escape


def show(run: dict[str, Any]) -> None:
    result = cached_queries.judged(run["run_id"])
    if result.why:
        st.caption("  \n".join(escape(line) for line in result.why))
    behind = st.expander(
        "Every metric, failures and tails", key="behind", on_change="rerun", bind="query-params"
    )
    if (
        not behind.open
    ):  # a bootstrap of thousands of blocks takes its time: only for a reader who asks
        return
    found = results.details(result)
    shown = {
        "Differences to the baseline, in each metric's own unit: described, not judged": stats.differences(
            result.pairs
        ),
        f"Percentiles of {found.metric}, the arm's minus the baseline's, ms (intervals from n = 6 and 72)": results.percentiles(
            result
        ),
        "Where the difference in total time comes from, mean, ms": found.parts,
        "Measured trials that did not end well": found.failures,
        f"Tails of {found.metric}, ms: successes, and with failures counted as at least the deadline": found.tails,
    }
    with behind:
        for title, frame in shown.items():
            if len(frame):
                st.caption(title)
                st.dataframe(frame, hide_index=True)
