"""A technique's pydantic knobs as widgets: the same definition gives the CLI's flags, so page and command line cannot drift apart."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st
from annotated_types import Ge, Gt, Le, Lt
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from lab.model import Knobs, LabError

COLUMNS = 4
SLIDER_STEPS = 16
SEGMENTS = 4


def show(knobs: type[Knobs], skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """One widget a knob, four in a row, each bound to the page's URL; returns the values as the user set them."""
    fields = [(name, field) for name, field in knobs.model_fields.items() if name not in skip]
    values: dict[str, Any] = {}
    for start in range(0, len(fields), COLUMNS):
        row = fields[start : start + COLUMNS]
        for column, (name, field) in zip(st.columns(COLUMNS), row, strict=False):
            with column:
                values[name] = _widget(name, field)
    return values


def checked(knobs: type[Knobs], values: dict[str, Any]) -> Knobs:
    """The values as the technique's own model; a value it refuses becomes one sentence."""
    try:
        return knobs(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = _label(str(first["loc"][0])) if first["loc"] else "These settings"
        raise LabError(f"{where}: {first['msg'].removeprefix('Value error, ')}.") from None


def _label(name: str) -> str:
    words, unit = (name.removesuffix("_ms"), ", ms") if name.endswith("_ms") else (name, "")
    return {"n": "n", "ttl": "TTL"}.get(words, words.replace("_", " ").capitalize()) + unit


def _plain(annotation: Any) -> Any:
    """The type inside `T | None`; a knob that may be empty is drawn like its type."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation


def _bounds(field: FieldInfo) -> tuple[Any, Any]:
    low = next(
        (
            rule.ge if isinstance(rule, Ge) else rule.gt
            for rule in field.metadata
            if isinstance(rule, (Ge, Gt))
        ),
        None,
    )
    high = next(
        (
            rule.le if isinstance(rule, Le) else rule.lt
            for rule in field.metadata
            if isinstance(rule, (Le, Lt))
        ),
        None,
    )
    return low, high


def _widget(name: str, field: FieldInfo) -> Any:
    kind, default = _plain(field.annotation), field.get_default(call_default_factory=True)
    shared = {
        "label": field.title or _label(name),
        "help": field.description,
        "key": name,
        "bind": "query-params",
    }
    if kind is bool:
        st.space(20)  # a toggle has no label above it; this puts it on its neighbours' line
        return st.toggle(value=bool(default), **shared)
    if get_origin(kind) is Literal:
        options = list(get_args(kind))
        if (
            all(isinstance(option, str) for option in options)
            and len(options) <= SEGMENTS
            and sum(map(len, options)) <= 24
        ):
            return st.segmented_control(options=options, default=default, required=True, **shared)
        return st.selectbox(
            options=options, index=options.index(default) if default in options else 0, **shared
        )
    if kind in (int, float):
        low, high = (None if bound is None else kind(bound) for bound in _bounds(field))
        if (
            kind is int
            and default is not None
            and low is not None
            and high is not None
            and high - low <= SLIDER_STEPS
        ):
            return st.slider(min_value=low, max_value=high, value=default, **shared)
        return st.number_input(
            min_value=low,
            max_value=high,
            value=None if default is None else kind(default),
            **shared,
        )
    return st.text_input(value="" if default is None else str(default), **shared)
