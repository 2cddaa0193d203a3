"""What does doing independent work at once save, in the tools of one answer or in several
requests?"""

import asyncio
from typing import Literal

from pydantic import Field

from lab.model import Arm, Bench, Knobs, Lever, Request, Technique, View
from lab.scenarios import definitions, tools

TOOL_ARMS = (
    Arm("sequential tools", "the tools that one turn asks for run one after the other"),
    Arm("parallel tools", "they all run at once"),
)
REQUEST_ARMS = (
    Arm("one by one", "each request waits for the one before"),
    Arm("together", "all requests at once, up to the cap"),
)
SMALL_ARMS = (
    Arm("one by one, small", "each request waits for the one before; small model"),
    Arm("together, small", "all requests at once, up to the cap; small model"),
)
FAN_OUT = Arm(
    "after the first token",
    "one request first; the rest when its response begins, so that they find its prefix cached",
)


class ParallelismKnobs(Knobs):
    suite: Literal["tools", "requests"] = Field(
        "tools",
        title="What runs at once",
        description="the tools of one answer, or independent requests",
        json_schema_extra={"words": {"tools": "tools of one answer", "requests": "requests"}},
    )
    n: int = Field(4, ge=2, le=8, title="How many", description="how many tools or requests")
    service_ms: int = Field(
        600,
        ge=0,
        le=10_000,
        title="Each tool takes, ms",
        description="how long each tool takes",
        json_schema_extra={"only": {"suite": "tools"}},
    )
    concurrency: int = Field(
        8, ge=1, le=8, title="At most at once", description="the most that run at once"
    )
    tier: Literal["large", "small", "both"] = Field(
        "large",
        title="Which model answers",
        description="which model answers the requests; both adds arms",
        json_schema_extra={"only": {"suite": "requests"}},
    )
    shared_prefix: bool = Field(
        False,
        title="One cached prefix for all",
        json_schema_extra={"only": {"suite": "requests"}},
        description=(
            "requests share a long cached prefix; adds the arm that waits for the first token"
        ),
    )
    answer_tokens: int = Field(
        96,
        ge=8,
        le=2000,
        title="Longest answer, tokens",
        description="the most tokens an answer may have",
    )


def arms(knobs):
    if knobs.suite == "tools":
        return TOOL_ARMS
    return (
        REQUEST_ARMS
        + ((FAN_OUT,) if knobs.shared_prefix else ())
        + (SMALL_ARMS if knobs.tier == "both" else ())
    )


def tiers(knobs):
    """The tools of one answer need one model, whichever there is."""
    if knobs.suite == "tools":
        return ()
    return ("small", "large") if knobs.tier == "both" else (knobs.tier,)


async def trial(bench: Bench, arm, knobs, task):
    return await (run_tools if knobs.suite == "tools" else run_requests)(bench, arm, knobs, task)


async def at_once(works, most):
    """The results of all works in their order, at most `most` running at a time; with 1 they run
    one after the other."""
    gate = asyncio.Semaphore(most)

    async def in_turn(work):
        async with gate:
            return await work()

    async with asyncio.TaskGroup() as group:
        running = [group.create_task(in_turn(work)) for work in works]
    return [task.result() for task in running]


async def run_tools(bench: Bench, arm, knobs, task):
    offered = tools.specs(list(dict.fromkeys([*task.tools, *tools.names()]))[: knobs.n])
    place = "" if task.tools else ", for Kestrel Bay"
    system = task.instructed(
        "Before you answer, use every tool you are offered exactly once, all of them in one turn"
        f"{place}."
    )
    body = task.body_for(64 * knobs.n, system=system, tools=offered, tool_choice={"type": "auto"})
    turn = await bench.call(Request(body, headers=tools.EVERY_TOOL), role="tool_turn")
    if not turn.ok:
        return None
    uses = turn.tool_uses
    if len(uses) != knobs.n:
        bench.mismatch(f"{len(uses)} tools could run, not {knobs.n}")
        if not uses:
            return turn.text
    works = [
        lambda use=use: bench.tool(use.name, {**use.input, "service_ms": knobs.service_ms})
        for use in uses
    ]
    results = await at_once(works, knobs.concurrency if arm == "parallel tools" else 1)
    turns = [*body["messages"], *tools.turns_after(turn, results)]
    final = await bench.call(
        Request({**body, "messages": turns, "max_tokens": knobs.answer_tokens})
    )
    return final.text if final.ok else None


async def run_requests(bench: Bench, arm, knobs, task):
    tier = "small" if arm.endswith(", small") or knobs.tier == "small" else "large"
    together, begun = arm.startswith("together"), asyncio.Event()

    def request(number, piece):
        if not knobs.shared_prefix:
            return Request(piece.without_tools(knobs.answer_tokens), tier=tier)
        shared = {
            "type": "text",
            "text": definitions.prefix_text(task, task.document_tokens),
            "cache_control": {"type": "ephemeral"},
        }
        # Requests that start at once all write: an entry can be read only when the response that
        # wrote it has begun.
        cache = "write" if number == 0 or (together and number < knobs.concurrency) else "read"
        body = piece.without_tools(knobs.answer_tokens, system=[shared])
        return Request(body, tier=tier, intended_cache=cache)

    pieces = definitions.neighbours(task, knobs.n)
    requests = [request(number, piece) for number, piece in enumerate(pieces)]
    works = [lambda r=r: bench.call(r, begun=begun if r is requests[0] else None) for r in requests]
    if arm == FAN_OUT.name:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(works[0]())
            first.add_done_callback(lambda _: begun.set())
            await begun.wait()
            rest = await at_once(works[1:], knobs.concurrency)
        replies = [first.result(), *rest]
    else:
        replies = await at_once(works, knobs.concurrency if together else 1)
    return replies[0].text if all(reply.ok for reply in replies) else None


async def run_together(bench: Bench, uses, level):
    return await at_once([lambda use=use: bench.tool(use.name, use.input) for use in uses], 8)


TOGETHER = Lever(
    name="tools",
    title="Tools of one turn",
    levels=("in turn", "together"),
    words={"together": "tools together"},
    run_tools=run_together,
    part="together",
    needs=("tools",),
    unfit=lambda task, level: (
        None if len(task.tools) > 1 else "its tasks offer no two tools that the lab can run"
    ),
)


TECHNIQUE = Technique(
    slug="parallelism",
    title="Parallelism",
    claim=(
        "Work that does not wait for other work can run at the same time: the slowest piece sets"
        " the time, not the sum."
    ),
    published="up to n times faster for n equal tools; 20–80 % in agent workloads",
    arms=TOOL_ARMS,
    headline="total_ms",
    headline_arm="parallel tools",
    knobs=ParallelismKnobs,
    trial=trial,
    code="code.jinja",
    select=arms,
    suites=(TOOL_ARMS, (*REQUEST_ARMS, FAN_OUT, *SMALL_ARMS)),
    tiers=tiers,
    aliases=("parallel",),
    category="tools",
    notes={
        "local": (
            "The local server uses each tool offered once: time and shape are real, the choice is"
            " not its model's. Requests together gain on the large model, which is bound by memory,"
            " and nothing on the small one, which is bound by arithmetic."
        ),
    },
    needs=("tools",),
    page="3_Parallelism.py",
    shows=("tools_together",),
    levers=(TOGETHER,),
    views=(View("Speed-up", "figures:view"), "Spans", "Distribution", "Pairs"),
)
