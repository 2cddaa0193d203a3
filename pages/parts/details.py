"""What lies behind the verdict: where the difference comes from, what failed, and every other
metric, described and not judged."""

from typing import Any

import pandas as pd
import streamlit as st

from lab import metrics, results, stats, units
from pages.parts import cached_queries
from pages.parts.frame import escape

CHANGES = ("estimate", "low", "high")
TIMES = ("successes", "censored")


def show(run: dict[str, Any]) -> None:
    result = cached_queries.judged(run["run_id"])
    if result.why:
        lines = [f"**{result.why_title}**", *map(escape, result.why)]
        with st.container(key="why"):
            st.caption("  \n".join(lines))
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
            st.dataframe(_written(table, result.headline), hide_index=True)
        st.caption(
            "Differences are in each metric's own unit, parts are means. Percentiles have an "
            f"interval from n = {' and '.join(map(str, floors))}."
        )


def _written(table: pd.DataFrame, headline: str) -> pd.DataFrame:
    """The table with its numbers as they are written everywhere: by the row's own metric, or the
    headline's."""
    named = list(table["metric"]) if "metric" in table else [headline] * len(table)
    columns = {}
    for name, values in table.items():
        if name in (*CHANGES, *TIMES):
            pairs = zip(named, values, strict=True)
            columns[name] = [units.value(*pair, sign=name in CHANGES) for pair in pairs]
        elif name in stats.Parts._fields and name != "n":
            columns[name] = [units.ms(value, sign=True) for value in values]
        elif name == "ratio":
            columns[name] = [units.times(value) for value in values]
        elif name == "metric":
            columns[name] = [metrics.words(metric) for metric in values]
        else:
            columns[name] = values
    return pd.DataFrame(columns)
