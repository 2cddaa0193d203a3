"""What the comparisons read: rows of pair_differences, one for each block and metric."""

from __future__ import annotations

import pandas as pd


def of_metric(rows: pd.DataFrame | None, metric: str) -> pd.DataFrame | None:
    """Those of one metric that both arms have; None where there are none."""
    if rows is None:
        return None
    part = rows[rows["metric"] == metric].dropna(subset=["value", "baseline_value"])
    return None if part.empty else part
