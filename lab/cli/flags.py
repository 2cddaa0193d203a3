"""Command-line flags made from a technique's pydantic Knobs: names, types, limits, defaults and help have one definition."""

from __future__ import annotations

import argparse
import json
import types
import typing
from typing import Any, Literal, Union

from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from lab.model import Knobs, LabError

PREFIX = "knob_"


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def add(parser: argparse.ArgumentParser, knobs: type[Knobs]) -> None:
    """One flag for each knob; an absent flag leaves nothing behind, so the default stays where it is defined."""
    group = parser.add_argument_group("knobs")
    for name, field in knobs.model_fields.items():
        options: dict[str, Any] = {
            "dest": PREFIX + name,
            "default": argparse.SUPPRESS,
            "help": _help(field),
        }
        kind, many = _kind(field.annotation)
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif typing.get_origin(kind) is Literal:
            choices = typing.get_args(kind)
            options |= {"choices": choices, "type": type(choices[0])}
        elif many:
            options |= {"type": _listed(kind), "metavar": "A,B,…"}
        elif kind in (int, float, str):
            options |= {"type": kind, "metavar": {int: "N", float: "X", str: "TEXT"}[kind]}
        else:
            options |= {"type": json.loads, "metavar": "JSON"}
        group.add_argument(flag(name), **options)


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Only the knobs named on the command line."""
    return {
        name.removeprefix(PREFIX): value
        for name, value in vars(arguments).items()
        if name.startswith(PREFIX)
    }


def check(knobs: type[Knobs], values: dict[str, Any]) -> Knobs:
    """The knobs, or a LabError that names the flag and what is wrong with it."""
    try:
        return knobs(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise LabError(
            f"{flag(name) if name else 'The knobs'}: {values.get(name, '')!s} {reason}.".replace(
                ":  ", ": "
            )
        ) from None


def _kind(annotation: Any) -> tuple[Any, bool]:
    """(the type of one value, whether there are several): unwraps Optional, list and tuple."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        rest = [part for part in inner if part is not type(None)]
        return _kind(rest[0]) if len(rest) == 1 else (Any, False)
    if origin in (list, tuple):
        return inner[0], True
    return annotation, False


def _listed(kind: Any):
    def read(text: str) -> list[Any]:
        return [kind(part) if kind in (int, float) else part for part in text.split(",") if part]

    read.__name__ = "list"
    return read


def _help(field: Any) -> str:
    limits = {
        type(mark).__name__.lower(): getattr(mark, type(mark).__name__.lower(), None)
        for mark in field.metadata
    }
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    notes = []
    if low is not None and high is not None:
        notes.append(f"{low} to {high}")
    if field.default is not PydanticUndefined and field.default not in (None, "", ()):
        value = field.default
        notes.append(
            f"default {','.join(map(str, value)) if isinstance(value, (list, tuple)) else value}"
        )
    text = (field.description or "").rstrip(".")
    return (text + (f" ({'; '.join(notes)})" if notes else "")).replace("%", "%%")


def database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--db", metavar="FILE", help="the database (default: LAB_DB, else data/lab.duckdb)"
    )


def which(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        nargs="?",
        default="last",
        metavar="RUN",
        help="a run's id, its first digits, its name, `last` or `last~1`",
    )


def as_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print exactly one JSON object on stdout"
    )


def outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        metavar="LIST",
        default="console",
        help="how to tell the result: console, json, chart, markdown, separated by commas (default console)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="results",
        help="the folder for what --output writes (default results)",
    )
