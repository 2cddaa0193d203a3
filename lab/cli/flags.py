"""Flags, made from what lab.settings says of a run's settings and of a technique's knobs.

Names, types, limits, defaults and help have one definition. An absent flag leaves nothing behind:
its default stays where it is defined. Below them the flags that several commands share.
"""

import json
from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Callable
from typing import Any

from lab import settings
from lab.model import Knobs
from lab.settings import BenchmarkConfig, Model, Setting

PREFIX = "knob_"
METAVARS = {int: "N", float: "X", str: "TEXT"}


def add_settings(parser: ArgumentParser, model: type[Model] = BenchmarkConfig) -> None:
    """The flags of a run's settings, in their groups."""
    groups: dict[str, Any] = {}
    for name, setting in settings.of(model).items():
        if setting.flag:
            title = setting.flag.group
            group = groups.get(title) or groups.setdefault(title, parser.add_argument_group(title))
            add(group, setting, dest=name)


def add_knobs(parser: ArgumentParser, knobs: type[Knobs]) -> None:
    group = parser.add_argument_group("knobs")
    for name, setting in settings.of(knobs).items():
        add(group, setting, dest=PREFIX + name)


def add(parser: Any, setting: Setting, dest: str, help: str = "") -> None:
    """One flag; `help` in place of the setting's own words."""
    options: dict[str, Any] = {
        "dest": dest,
        "default": SUPPRESS,
        "help": (help or _help(setting)).replace("%", "%%"),
    }
    metavar = (setting.flag and setting.flag.metavar) or METAVARS.get(setting.kind, "JSON")
    if setting.flag and setting.flag.repeated:
        options |= {"action": "append", "metavar": metavar}
    elif setting.kind is bool and setting.flag and not setting.optional and not setting.default:
        options |= {"action": "store_true"}
    elif setting.kind is bool:
        options |= {"action": BooleanOptionalAction}
    elif setting.many:
        options |= {"type": _list_of(setting.kind), "metavar": "A,B,…"}
    elif setting.choices:
        options |= {"choices": setting.choices, "type": setting.kind}
    elif setting.kind in METAVARS:
        options |= {"type": setting.kind, "metavar": metavar}
    else:
        options |= {"type": json.loads, "metavar": metavar}
    parser.add_argument(setting.option, **options)


def _help(setting: Setting) -> str:
    usual = f"default {setting.usual}" if setting.usual else ""
    notes = "; ".join(filter(None, [setting.limits, usual]))
    return f"{setting.help} ({notes})" if notes else setting.help


def _list_of(kind: type) -> Callable[[str], list[Any]]:
    def read(text: str) -> list[Any]:
        return [kind(part) if kind in (int, float) else part for part in text.split(",") if part]

    read.__name__ = "list"  # what argparse calls it where it cannot be read
    return read


def chosen_settings(arguments: Namespace, model: type[Model] = BenchmarkConfig) -> dict[str, Any]:
    """Only the settings named on the command line."""
    flags = {name for name, setting in settings.of(model).items() if setting.flag}
    return {name: value for name, value in vars(arguments).items() if name in flags}


def chosen_knobs(arguments: Namespace) -> dict[str, Any]:
    """Only the knobs named on the command line."""
    return {
        name.removeprefix(PREFIX): value
        for name, value in vars(arguments).items()
        if name.startswith(PREFIX)
    }


def checked(model: type[Model], values: dict[str, Any]) -> Model:
    """The model with these values, or a LabError that names the flag and what is wrong with it."""

    def flag(path: str) -> str:
        setting = settings.of(model).get(path.partition(".")[0])
        return setting.option if setting else path

    return settings.build(model, values, flag)


def database(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--db", metavar="FILE", help="the database (default: LAB_DB, else data/lab.duckdb)"
    )


def which(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run",
        nargs="?",
        default="last",
        metavar="RUN",
        help="a run's id, its first digits, its name, `last` or `last~1`",
    )


def meant(reference: str) -> str:
    """The id of a run or of a recording, both counted for `last` and `last~1`; a file as it is."""
    from lab.store import queries
    from lab.store.store import Store

    if reference.endswith(".duckdb"):
        return reference
    return queries.resolve(Store(), reference, recorded=True)


def as_json(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print exactly one JSON object on stdout"
    )


def outputs(parser: ArgumentParser) -> None:
    from lab.harness.reporter import REPORTERS

    parser.add_argument(
        "--output",
        metavar="LIST",
        default="console",
        help=f"how to report the result: {', '.join(REPORTERS)}, or package.module:Class for your "
        "own, separated by commas (default console)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="results",
        help="the folder for what --output writes (default results)",
    )
