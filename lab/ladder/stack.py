"""A configuration as a trial: the task's request, changed and asked by every lever of a stack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from pydantic import Field

from lab import techniques
from lab.ladder.answer_length import LENGTH
from lab.model import LADDER, Arm, Bench, Knobs, Lever, Request, Technique, Tier
from lab.scenarios import tools
from lab.scenarios.definitions import Task

MOST_TURNS = 4
"""Of an answer that uses tools; the last may not use any."""
TODAY, WINNER = "today", "winner"
Pulled = Sequence[tuple[Lever, str]]
"""The levers that are not at their own first level, each with its level, in their order."""


class StackKnobs(Knobs):
    levels: dict[str, str] = Field({}, description="each lever's level; one left out is at its own")
    tier: Tier | None = Field(None, description="the model tier that answers where no lever says")
    stream: bool = Field(False, description="whether every answer is streamed")
    answer_tokens: int = Field(
        96,
        ge=8,
        le=2000,
        title="Longest answer, tokens",
        description="the most tokens an answer may have",
    )


def all_levers() -> list[tuple[str, Lever]]:
    """Every lever there is with its technique's slug, in the order of the pages; those of none
    come last, with an empty one."""
    declared = [(each.slug, lever) for each in techniques.all_techniques() for lever in each.levers]
    return [*declared, ("", LENGTH)]


def pulled(levels: Mapping[str, str]) -> Pulled:
    return [
        (lever, level)
        for _, lever in all_levers()
        if (level := levels.get(lever.name, lever.levels[0])) != lever.levels[0]
    ]


def level_words(lever: Lever, level: str) -> str:
    """ "small model"; of a level without words of its own, the first mostly, "model: large"."""
    return lever.words.get(level, f"{lever.title.lower()}: {level}")


def words(levels: Mapping[str, str], today: Mapping[str, str]) -> str:
    """What a stack is called: "streamed + cached prefix"; "today" where it changes nothing."""
    parts = [
        level_words(lever, level)
        for _, lever in all_levers()
        if (level := levels.get(lever.name)) and level != today.get(lever.name)
    ]
    return " + ".join(parts) or TODAY


def composed(task: Task, knobs: StackKnobs, stack: Pulled) -> Request:
    """The first request of a trial."""
    request = Request(
        task.body_for(knobs.answer_tokens),
        tier=knobs.tier,
        stream=knobs.stream,
        headers=tools.EVERY_TOOL if task.tools else {},
    )
    for lever, level in stack:
        request = lever.change(request, level, task)
    return request


async def prepare(bench: Bench, arm: str, knobs: StackKnobs, task: Task) -> None:
    stack = pulled(knobs.levels)
    request = composed(task, knobs, stack)
    # What may answer with either model is asked of both beforehand, as a busy service's caches are.
    tiers = next((lever.tiers[level] for lever, level in stack if level in lever.tiers), None)
    for lever, level in stack:
        for prime in lever.primes(request, level, task) if lever.primes else ():
            for tier in tiers if tiers and prime.tier is None else (prime.tier,):
                await bench.call(replace(prime, tier=tier), role="prime")


async def trial(bench: Bench, arm: str, knobs: StackKnobs, task: Task) -> str | None:
    stack = pulled(knobs.levels)
    request, left = composed(task, knobs, stack), set(task.tools)
    runs = [partial(lever.run_tools, level=level) for lever, level in stack if lever.run_tools]
    for turn in range(1, MOST_TURNS + 1):
        is_last = turn == MOST_TURNS
        if left and is_last:
            request = _changed(request, tool_choice={"type": "none"})
        reply, tier = await _ask(bench, stack, request, task, "tool_turn" if left else "answer")
        if not reply.ok:
            return None
        uses = reply.tool_uses if task.tools and not is_last else ()
        if not uses:
            return reply.text
        results = await (runs[-1] if runs else in_turn)(bench, uses)
        left -= {use.name for use in uses}
        turns = [*request.body["messages"], *tools.turns_after(reply, results)]
        request = replace(_changed(request, messages=turns), tier=tier)
    return None


async def in_turn(bench: Bench, uses: Iterable) -> list[str]:
    return [await bench.tool(use.name, use.input) for use in uses]


async def _ask(bench: Bench, stack: Pulled, request: Request, task: Task, role: str):
    """The reply, through every lever that plays, and the tier that gave it."""
    tiers = [request.tier]

    async def ask(request: Request, **named):
        tiers.append(request.tier)
        return await bench.call(request, **{"role": role, **named})

    for lever, level in reversed(stack):
        if lever.play:
            ask = _within(bench, lever, level, ask, task)
    return await ask(request), tiers[-1]


def _within(bench: Bench, lever: Lever, level: str, ask, task: Task):
    async def played(request: Request, **named):
        return await lever.play(bench, partial(ask, **named), request, level, task)

    return played


def _changed(request: Request, **fields) -> Request:
    return replace(request, body={**request.body, **fields})


def technique(
    metric: str, quantile: float | None = None, tiers: tuple[Tier, ...] = ()
) -> Technique:
    """What a ladder's trials are of: no list has it, since its arms are what the search tries."""
    return Technique(
        slug=LADDER,
        title="Ladder",
        claim="Several techniques at once are faster than any of them, as long as they add.",
        published="",
        arms=(
            Arm(TODAY, "every lever as it is today"),
            Arm(WINNER, "the stack that the search ended with"),
        ),
        headline=metric,
        headline_arm=WINNER,
        headline_quantile=quantile,
        knobs=StackKnobs,
        trial=trial,
        prepare=prepare,
        tiers=tiers,
        code="stack.jinja",
        page="23_Ladder.py",
        in_all=False,
    )
