"""Which levers can be tried on an endpoint with these tasks, and why the others cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from lab.endpoints import registry
from lab.endpoints.registry import Endpoint
from lab.ladder.stack import StackKnobs, all_levers, composed
from lab.model import LabError, Lever
from lab.scenarios.definitions import Task

LOOKED_AT = 5
"""Tasks of which one that a level changes is enough."""


class Factor(NamedTuple):
    """A lever with the levels that can be tried here; the first is today's."""

    technique: str
    lever: Lever
    levels: tuple[str, ...]


class NotTried(NamedTuple):
    lever: str
    level: str
    """Empty for all of it."""
    reason: str


def chosen(
    endpoint: Endpoint,
    tasks: Sequence[Task],
    wanted: Sequence[str],
    today: Mapping[str, str],
    base: StackKnobs,
) -> tuple[list[Factor], list[NotTried]]:
    """The levers that are wanted (all, where none is named) in their order.

    LabError for a name or a level that there is not.
    """
    known = {lever.name: (slug, lever) for slug, lever in all_levers()}
    _check(known, wanted, today)
    factors, refused = [], []
    for name in wanted or known:
        slug, lever = known[name]
        usual = today.get(name, lever.levels[0])
        levels = [usual]
        for level in lever.levels:
            if level == usual:
                continue
            if reason := _lacking(endpoint, lever, level) or _unfit(lever, level, tasks, base):
                refused.append(NotTried(name, level, reason))
            else:
                levels.append(level)
        if len(levels) > 1:
            factors.append(Factor(slug, lever, tuple(levels)))
    return factors, refused


def _check(
    known: Mapping[str, tuple[str, Lever]], wanted: Collection[str], today: Mapping[str, str]
) -> None:
    for name in (*wanted, *today):
        if name not in known:
            raise LabError(f"There is no lever {name!r}. There are: {', '.join(known)}.")
    for name, level in today.items():
        levels = known[name][1].levels
        if level not in levels:
            raise LabError(f"{name} has no level {level!r}. It has: {', '.join(levels)}.")


def _lacking(endpoint: Endpoint, lever: Lever, level: str) -> str | None:
    needs = {*lever.needs, *lever.level_needs.get(level, ())}
    if level == lever.levels[0]:
        needs = set()
    if lacking := registry.missing(needs, endpoint.capabilities):
        return f"{endpoint.name} does not say that it has {' and '.join(lacking)}"
    models = {endpoint.models.get(tier) for tier in ("small", "large")}
    if lever.tier and (None in models or len(models) < 2):
        return (
            f"{endpoint.name} has one model here; name a second one with --model small=NAME"
            " --model large=NAME"
        )
    return None


def _unfit(lever: Lever, level: str, tasks: Sequence[Task], base: StackKnobs) -> str | None:
    """The reason of a task that is unfit: a stack is one for all of them."""
    if level == lever.levels[0]:
        return None
    for task in tasks:
        if reason := lever.unfit(task, level):
            return reason
    if lever.play or lever.run_tools:
        return None
    for task in tasks[:LOOKED_AT]:
        if composed(task, base, [(lever, level)]) != composed(task, base, []):
            return None
    return "it changes nothing of these requests"
