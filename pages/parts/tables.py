"""Numbers in tables, as pages write them: whole milliseconds with their thousands apart, shares as
whole per cent."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

DECIMALS = {"localized": 0, "percent": 2}


def show(table: pd.DataFrame, key: str, config: dict[str, Any], **more: Any) -> None:
    """A table whose columns of format "localized" and "percent" are rounded first, since Streamlit
    would show what decimals they have."""
    for name, column in config.items():
        chosen = (
            (column.get("type_config") or {}).get("format") if isinstance(column, dict) else None
        )
        if chosen in DECIMALS and name in table:
            rounded = pd.to_numeric(table[name]).round(DECIMALS[chosen])
            table = table.assign(**{name: rounded if DECIMALS[chosen] else rounded.astype("Int64")})
    st.dataframe(table, hide_index=True, key=key, column_config=config, **more)
