"""Controls that stand on several pages: segments, and a row of downloads."""

import functools
from collections.abc import Callable, Iterable
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
    if "format_func" in more:
        more |= {"required": True, "label_visibility": "collapsed"}
        return by_name(st.segmented_control, label, options, key, default or options[0], **more)
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


def by_name(
    widget: Callable[..., Any],
    label: str,
    options: Iterable[Any],
    key: str,
    default: Any,
    param: str = "",
    **more: Any,
) -> Any:
    """A choice that shows words of its options; the URL holds the option itself, under `param`, the
    key where none is given."""
    options, param = list(options), param or key
    if key not in st.session_state:
        linked = st.query_params.get(param)
        named = {str(option): option for option in options}
        st.session_state[key] = named.get(linked, default)
    chosen = widget(label, options, key=key, **more)
    if chosen in (None, default):
        st.query_params.pop(param, None)
    elif st.query_params.get(param) != str(chosen):
        st.query_params[param] = chosen
    return chosen


def download(label: str, data: Any, file: str, mime: str, key: str, **more: Any) -> None:
    """A file to take away; where `data` is a function, it is made when it is asked for."""
    st.download_button(label, data, file, mime, key=key, on_click="ignore", **more)


def files(table: pd.DataFrame, name: str, kinds: Iterable[str] = KINDS) -> None:
    """The whole table as a file of each kind."""
    row(name, lambda kind: export.frame_bytes(table, kind, name), kinds)


def row(name: str, content: Callable[[str], bytes], kinds: Iterable[str] = KINDS) -> None:
    """A download of each kind; the file is made when it is asked for."""
    with st.container(horizontal=True):
        for kind in kinds:
            label, mime = KINDS[kind]
            make = functools.partial(content, kind)
            download(label, make, f"{name}.{kind}", mime, key=f"{name}-{kind}")
