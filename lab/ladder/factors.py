"""Which levers can be tried on an endpoint with these tasks, and why the others cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, get_args

from lab.endpoints import registry
from lab.endpoints.registry import Endpoint
from lab.ladder.stack import StackKnobs, all_levers, composed, pulled
from lab.model import LabError, Lever, Tier
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
    names, refused = list(wanted or known), []
    levels = {name: (level,) for name, level in today.items()}
    # Those that say which model answers come first: each of the models must bear the others.
    for name in sorted(names, key=lambda name: not known[name][1].tier):
        lever = known[name][1]
        own = [today.get(name, lever.levels[0])]
        for level in lever.levels:
            if level in own:
                continue
            tiers = answering(tasks[0], base, {**levels, name: (level,)})
            reason = _lacking(endpoint, tiers, lever, level) or _unfit(lever, level, tasks, base)
            if reason:
                refused.append(NotTried(name, level, reason))
            else:
                own.append(level)
        levels[name] = tuple(own)
    refused.sort(key=lambda one: names.index(one.lever))
    return [Factor(*known[n], levels[n]) for n in names if len(levels[n]) > 1], refused


def answering(
    task: Task, base: StackKnobs, levels: Mapping[str, Sequence[str]]
) -> tuple[Tier, ...]:
    """The tiers that may answer at these levels of the levers; none where base names none."""
    levers = [lever for _, lever in all_levers() if lever.tier and lever.name in levels]
    ways = [pulled({one.name: level}) for one in levers for level in levels[one.name]]
    tiers: set[Tier | None] = set()
    for way in ways or [[]]:
        either = [lever.tiers[level] for lever, level in way if level in lever.tiers]
        tiers.update(*either or [[composed(task, base, way).tier]])
    return tuple(tier for tier in get_args(Tier) if tier in tiers)


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


def _lacking(endpoint: Endpoint, tiers: Sequence[Tier], lever: Lever, level: str) -> str | None:
    """`tiers` are those that may answer."""
    models = {endpoint.models.get(tier) for tier in get_args(Tier)}
    if lever.tier and (None in models or len(models) < 2):
        return (
            f"{endpoint.name} has one model here; name a second one with --model small=NAME"
            " --model large=NAME"
        )
    needs = {*lever.needs, *lever.level_needs.get(level, ())}
    if level == lever.levels[0]:
        needs = set()
    asked = dict.fromkeys(endpoint.model_for(tier) for tier in tiers or (endpoint.generates,))
    without = {model: registry.missing(needs, endpoint.able(model)) for model in asked}
    if names := [model for model in asked if without[model]]:
        lacking = sorted({need for needs in without.values() for need in needs})
        return f"{endpoint.name} does not say that {' or '.join(names)} has {' and '.join(lacking)}"
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
