"""Numbers in tables, as pages write them: whole milliseconds with their thousands apart, shares as
whole per cent, "—" where there is none."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from lab.units import MISSING
from lab.view_parts import Column

WHOLE = {"localized": (1, "localized"), "percent": (100, "%d %%")}
"""The formats of whole numbers: what the cells are multiplied with, and Streamlit's word."""


MOST_ROWS = 1000
"""Of a table, so many are sent to a browser at once."""


def first_of(total: int, what: str) -> int:
    """The place of the first row to show, which the reader chooses where there are too many."""
    if total <= MOST_ROWS:
        return 0
    return st.number_input(f"From {what}", 1, total, step=MOST_ROWS, key="from", width=200) - 1


def show(table: pd.DataFrame, key: str, columns: Mapping[str, Any], **more: Any) -> None:
    """A table; `columns` has words, a Column or Streamlit's own by name. Streamlit would show what
    decimals a "localized" number has, and "0%" for none, so both are made whole first."""
    config = dict(columns)
    for name, column in columns.items():
        if not isinstance(column, Column):
            continue
        factor, pattern = WHOLE.get(column.format, (None, column.format))
        config[name] = st.column_config.NumberColumn(column.words, format=pattern)
        if factor and name in table:
            whole = (pd.to_numeric(table[name]).astype(float) * factor).round().astype("Int64")
            table = table.assign(**{name: whole})
    look = {"hide_index": True, "placeholder": MISSING, "column_config": config}
    st.dataframe(table, key=key, **(look | more))
