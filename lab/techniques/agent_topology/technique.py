"""What does it cost to split one task among several agents, in time spent on models, tools and
waiting for each other?"""

import asyncio
import json

from pydantic import Field

from lab.model import Arm, Bench, Knobs, Request, Technique, View
from lab.scenarios import definitions, tools


class TopologyKnobs(Knobs):
    steps: int = Field(
        3,
        ge=2,
        le=12,
        title="Most turns of an agent",
        description="the most model turns of one agent; the last may not use tools",
    )
    service_ms: int = Field(
        300, ge=0, le=10_000, title="Each tool takes, ms", description="how long each tool takes"
    )
    report_tokens: int = Field(
        48,
        ge=8,
        le=2000,
        title="Longest report, tokens",
        description="the most tokens a worker's report may have",
    )
    answer_tokens: int = Field(
        96,
        ge=8,
        le=2000,
        title="Longest answer, tokens",
        description="the most tokens the answer may have",
    )


async def agent(bench: Bench, knobs, body, names, tokens, name, final="worker"):
    """Ask, run the tools that are asked for at once, ask again, until the model answers or the
    steps are used up.

    `final` is the role of a turn by which every tool has been used or may no longer be: such a turn
    can be the answer.
    """
    turns, left = list(body["messages"]), set(names)
    for step in range(1, knobs.steps + 1):
        last = step == knobs.steps
        room = {"max_tokens": tokens if last or not left else tokens + 64 * len(names)}
        offered = (
            {"tools": tools.specs(names), "tool_choice": {"type": "none" if last else "auto"}}
            if names
            else {}
        )
        role = final if last or not left else "tool_turn" if final == "answer" else final
        request = Request({**body, **room, **offered, "messages": turns}, headers=tools.EVERY_TOOL)
        reply = await bench.call(request, role=role, name=name)
        if not reply.ok or not reply.tool_uses:
            return reply
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(
                    bench.tool(use.name, {**use.input, "service_ms": knobs.service_ms})
                )
                for use in reply.tool_uses
            ]
        left -= {use.name for use in reply.tool_uses}
        turns += tools.turns_after(reply, [work.result() for work in running])
    return reply


def plan_for(task, team):
    names = [worker.name for worker in team.workers]
    roster = "\n".join(f"- {worker.name}: {worker.instruction}" for worker in team.workers)
    order = {
        "type": "array",
        "items": {"type": "string", "enum": names},
        "minItems": len(names),
        "maxItems": len(names),
    }
    return {
        "max_tokens": 24 + 12 * len(names),
        "system": "You lead a team. Put its members in the order in which they should begin.",
        "messages": [{"role": "user", "content": f"Task: {task.question}\n\nTeam:\n{roster}"}],
        "output_config": tools.answer_of(order=order),
    }


def ordered(team, text):
    """The workers as the plan orders them; those it forgets come after, so that every topology has
    the same workers."""
    try:
        wanted = [str(name) for name in json.loads(text)["order"]]
    except (ValueError, KeyError, TypeError):
        wanted = []
    place = {name: at for at, name in reversed(list(enumerate(wanted)))}
    return sorted(team.workers, key=lambda worker: place.get(worker.name, len(wanted)))


async def report(bench: Bench, knobs, worker, before=""):
    """A worker's reply, which may build on the reports before."""
    text = f"{worker.instruction}\n\nReports so far:\n{before}" if before else worker.instruction
    body = {
        "system": "Use each of your tools once, then report what they say in one sentence.",
        "messages": [{"role": "user", "content": text}],
    }
    return await agent(bench, knobs, body, worker.tools, knobs.report_tokens, worker.name)


async def join(bench: Bench, knobs, task, team, reports, name):
    """The last call of a team: the task, the reports, and how they become one answer."""
    text = f"Task: {task.question}\n\nReports:\n{reports}"
    body = {
        "max_tokens": knobs.answer_tokens,
        "system": team.join,
        "messages": [{"role": "user", "content": text}],
    }
    return await bench.call(Request(body), name=name)


async def hierarchical(bench: Bench, knobs, task, team):
    plan = await bench.call(Request(plan_for(task, team)), role="plan", name="supervisor")
    if not plan.ok:
        return None
    workers = ordered(team, plan.text)
    async with bench.span("join", "workers"), asyncio.TaskGroup() as group:
        running = [group.create_task(report(bench, knobs, worker)) for worker in workers]
    replies = [work.result() for work in running]
    if not all(reply.ok for reply in replies):
        return None
    pairs = zip(workers, replies, strict=True)
    reports = "\n".join(f"{worker.name}: {reply.text}" for worker, reply in pairs)
    return await join(bench, knobs, task, team, reports, "supervisor")


async def pipeline(bench: Bench, knobs, task, team):
    reports = []
    for worker in team.workers:
        reply = await report(bench, knobs, worker, "\n".join(reports))
        if not reply.ok:
            return None
        reports.append(f"{worker.name}: {reply.text}")
    return await join(bench, knobs, task, team, "\n".join(reports), "writer")


async def trial(bench: Bench, arm, knobs, task):
    team = definitions.team_for(task)
    if arm == "flat":
        body = task.body_for(knobs.answer_tokens, tools=None)
        names = tuple(dict.fromkeys(name for worker in team.workers for name in worker.tools))
        reply = await agent(bench, knobs, body, names, knobs.answer_tokens, "agent", final="answer")
    else:
        share = hierarchical if arm == "hierarchical" else pipeline
        reply = await share(bench, knobs, task, team)
    return reply.text if reply is not None and reply.ok else None


TECHNIQUE = Technique(
    slug="topology",
    title="Agent topology",
    claim=(
        "A team of agents can work at the same time, but planning, handing over and joining are"
        " calls too: the coordination tax."
    ),
    published="critical path 38–46 % shorter, in tokens",
    arms=(
        Arm("flat", "one agent with all tools, in a loop"),
        Arm(
            "hierarchical",
            "a supervisor plans, workers run at the same time, the supervisor joins their reports",
        ),
        Arm("pipeline", "the workers run one after the other, each reads the reports before it"),
    ),
    headline="total_ms",
    headline_arm="hierarchical",
    knobs=TopologyKnobs,
    trial=trial,
    code="code.jinja",
    aliases=("agent-topology", "agents"),
    category="tools",
    notes={
        "local": (
            "Shape and time, not skill: names, number and instructions of the workers are task"
            " data, the plan only orders them, and each tool offered is used once."
        ),
    },
    needs=("tools", "structured"),
    page="5_Agent_topology.py",
    views=(View("Coordination", "figures:view"), "Spans", "Distribution", "Pairs"),
)
