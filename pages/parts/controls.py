"""Controls that stand on several pages: segments, and a row of downloads."""

from collections.abc import Iterable
from typing import Any

import pandas as pd
import streamlit as st

from lab.store import export

KINDS = {
    "csv": ("CSV", "text/csv"),
    "parquet": ("Parquet", "application/vnd.apache.parquet"),
    "json": ("JSON", "application/json"),
    "duckdb": ("DuckDB", "application/octet-stream"),
}


def segments(
    label: str, options: Iterable[str], key: str, default: str | None = None, **more: Any
) -> str:
    """One of the options, the first by default; it stands in the URL under its key. The label is
    for screen readers alone."""
    options = list(options)
    return st.segmented_control(
        label,
        options,
        default=default or options[0],
        required=True,
        key=key,
        bind="query-params",
        label_visibility="collapsed",
        **more,
    )


def download(label: str, data: Any, file: str, mime: str, key: str, **more: Any) -> None:
    """A file to take away; where `data` is a function, it is made when it is asked for."""
    st.download_button(label, data, file, mime, key=key, on_click="ignore", **more)


def files(table: pd.DataFrame, name: str, kinds: Iterable[str] = KINDS) -> None:
    """The whole table as a file of each kind."""
    with st.container(horizontal=True):
        for kind in kinds:
            label, mime = KINDS[kind]
            download(
                label,
                lambda kind=kind: export.frame_bytes(table, kind, name),
                f"{name}.{kind}",
                mime,
                key=f"{name}-{kind}",
            )
