"""Settings as widgets: what lab.settings says of them gives the CLI's flags too, so that page and
command line cannot drift apart."""

from typing import Any

import streamlit as st

from lab import settings
from lab.model import Knobs
from lab.settings import BenchmarkConfig, Model, Setting
from pages.parts import controls

COLUMNS = 4
SLIDER_STEPS = 16
SEGMENTS = 4
KEEP = {"the lab's tasks": None, "mine too": True, "none": False}
"""Whose words a run stores."""


def show(knobs: type[Knobs]) -> dict[str, Any]:
    """A widget for each knob that changes something as the others stand, four in a row; returns
    the values as the user set them."""
    values: dict[str, Any] = {}
    for name, setting in settings.of(knobs).items():
        if any(values.get(other) != value for other, value in setting.only.items()):
            continue
        place = len(values) % COLUMNS
        if place == 0:
            columns = st.columns(COLUMNS)
        with columns[place]:
            values[name] = widget(setting)
    return values


def run_setting(name: str, key: str = "", **options: Any) -> Any:
    """The widget of one of a run's own settings."""
    return widget(settings.of(BenchmarkConfig)[name], key, **options)


def checked(model: type[Model], values: dict[str, Any]) -> Model:
    """The model with these values; one that it refuses becomes a sentence with the label in it."""

    def label(path: str) -> str:
        name = path.partition(".")[0]
        return _label(settings.of(model)[name]) if name else "These settings"

    return settings.build(model, values, label)


def _label(setting: Setting) -> str:
    if setting.title:
        return setting.title
    words, milliseconds, _ = setting.name.partition("_ms")
    label = words.replace("_", " ").capitalize()
    return f"{label}, ms" if milliseconds else label


def widget(setting: Setting, key: str = "", **options: Any) -> Any:
    """Bound to the page's URL under its key, the setting's name where none is given; `options` go
    to the widget in place of what the setting says."""
    kind, default = setting.kind, setting.default
    shared = {
        "label": _label(setting),
        "help": f"{setting.help[:1].upper()}{setting.help[1:]}.",
        "key": key or setting.name,
        "bind": "query-params",
        **options,
    }
    if kind is bool and setting.optional:
        usual = next(iter(KEEP))
        choice = st.segmented_control(options=list(KEEP), default=usual, required=True, **shared)
        return KEEP[choice]
    if kind is bool:
        st.space(20)  # a toggle has no label above it; this puts it on its neighbours' line
        return st.toggle(value=bool(default), **shared)
    if setting.many:
        chosen = list(default or ())
        return st.multiselect(
            options=list(setting.choices) or chosen,
            default=chosen,
            accept_new_options=not setting.choices,
            placeholder="Type a name" if not setting.choices else "Choose",
            **shared,
        )
    if setting.choices:
        choices, words = list(setting.choices), setting.words
        if words:
            shared.pop("bind")
            shared |= {"format_func": lambda choice: words.get(choice, str(choice))}
            return controls.by_name(st.selectbox, options=choices, default=default, **shared)
        if kind is str and len(choices) <= SEGMENTS and sum(map(len, choices)) <= 24:
            return st.segmented_control(options=choices, default=default, required=True, **shared)
        place = choices.index(default) if default in choices else 0
        return st.selectbox(options=choices, index=place, **shared)
    if kind in (int, float):
        limits = {"min_value": setting.low, "max_value": setting.high, "value": default}
        limits = {name: None if value is None else kind(value) for name, value in limits.items()}
        bounded = kind is int and None not in limits.values()
        if bounded and setting.high - setting.low <= SLIDER_STEPS:
            return st.slider(**(limits | shared))
        return st.number_input(**(limits | shared))
    return st.text_input(value="" if default is None else str(default), **shared)
