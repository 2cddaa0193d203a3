"""Numbers in tables, as pages write them: whole milliseconds with their thousands apart, shares as
whole per cent."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from lab.view_parts import Column

DECIMALS = {"localized": 0, "percent": 2}


def show(table: pd.DataFrame, key: str, columns: Mapping[str, Any], **more: Any) -> None:
    """A table; `columns` has words, a Column or Streamlit's own by name. Streamlit would show what
    decimals a "localized" or "percent" number has, so those are rounded first."""
    config = dict(columns)
    for name, column in columns.items():
        if not isinstance(column, Column):
            continue
        config[name] = st.column_config.NumberColumn(column.words, format=column.format)
        if column.format in DECIMALS and name in table:
            decimals = DECIMALS[column.format]
            rounded = pd.to_numeric(table[name]).round(decimals)
            table = table.assign(**{name: rounded if decimals else rounded.astype("Int64")})
    st.dataframe(table, hide_index=True, key=key, column_config=config, **more)
