"""What is saved by running each tool as soon as its input is whole, while the model still writes
the next one?"""

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from weakref import WeakKeyDictionary

from pydantic import Field

from lab.model import Arm, Bench, Knobs, Lever, Request, Technique, View
from lab.scenarios import tools

AFTER = Arm("after the answer", "the whole turn is read, then its tools run, then the next turn")
WHOLE = Arm("as each is whole", "a tool starts when its input is whole; the model still writes")
EAGER = Arm(
    "eager input",
    "the same, and each tool has eager_input_streaming: its input comes at once, unchecked",
    needs=("eager",),
)


class ToolInputKnobs(Knobs):
    n: int = Field(4, ge=2, le=8, title="How many tools", description="how many tools a turn uses")
    seconds: float = Field(
        0.6, ge=0, le=60, title="Each tool takes, s", description="how many seconds a tool takes"
    )
    together: bool = Field(
        False,
        title="Tools may run at once",
        description=(
            "tools run beside each other; without it one after the other, as the SDK's tool runner"
            " does"
        ),
    )
    note_characters: int = Field(
        60,
        ge=0,
        le=1000,
        title="Text in each input, characters",
        description="how long a text each tool is given beside its place; 0: none",
    )
    turn_tokens: int = Field(
        0,
        ge=0,
        le=8000,
        title="Longest tool turn, tokens (0: enough)",
        description=(
            "the most tokens of the turn that asks for the tools; too few cut an input in the"
            " middle; 0 allows enough"
        ),
    )
    answer_tokens: int = Field(
        48,
        ge=8,
        le=2000,
        title="Longest answer, tokens",
        description="the most tokens the answer may have",
    )


def body(arm, knobs, task):
    """The turn that asks for the tools; only eager_input_streaming tells the arms apart."""
    offered = tools.specs(list(dict.fromkeys([*task.tools, *tools.names()]))[: knobs.n])
    if knobs.note_characters:
        note = {
            "type": "string",
            "minLength": knobs.note_characters,
            "description": note_words(knobs),
        }
        for tool in offered:
            own = tool["input_schema"]["properties"]
            tool["input_schema"] = tools.object_of(**own, note=note)
    if arm == EAGER.name:
        offered = [{**tool, "eager_input_streaming": True} for tool in offered]
    place = "" if task.tools else ", for Kestrel Bay"
    system = task.instructed(
        "Before you answer, use every tool you are offered exactly once, all of them in one turn"
        f"{place}."
    )
    most = knobs.turn_tokens or (64 + knobs.note_characters // 2) * knobs.n
    return task.body_for(most, system=system, tools=offered, tool_choice={"type": "auto"})


def note_words(knobs):
    return f"why you ask, for the log, in about {knobs.note_characters} characters"


async def trial(bench: Bench, arm, knobs, task):
    asked = body(arm, knobs, task)
    one_by_one = nullcontext() if knobs.together else asyncio.Lock()
    running = {}

    async def run(use):
        async with one_by_one:
            service = {"service_ms": 1000 * knobs.seconds}
            return await bench.tool(use.name, {**use.input, **service})

    async with asyncio.TaskGroup() as group:

        def start(use):
            running[use.id] = group.create_task(run(use))

        on_tool = None if arm == AFTER.name else start
        request = Request(asked, headers=tools.EVERY_TOOL)
        turn = await bench.call(request, role="tool_turn", on_tool=on_tool)
        for use in turn.tool_uses if turn.ok else ():
            if use.id not in running:
                start(use)
    if not turn.ok:
        return None
    if len(turn.tool_uses) != knobs.n:
        bench.mismatch(f"{len(running)} of {knobs.n} tools could run")
        return turn.text
    results = [running[use.id].result() for use in turn.tool_uses]
    turns = [*asked["messages"], *tools.turns_after(turn, results)]
    final = await bench.call(
        Request({**asked, "messages": turns, "max_tokens": knobs.answer_tokens})
    )
    return final.text if final.ok else None


STARTED: WeakKeyDictionary[Bench, dict[str, asyncio.Task]] = WeakKeyDictionary()
"""Of each trial, the tools that were started while their turn was still coming."""


async def play(bench: Bench, ask, request: Request, level, task):
    """A turn whose tools start as each is whole; one that brings their results is as it was."""
    running = STARTED.setdefault(bench, {})

    def start(use):
        running[use.id] = asyncio.create_task(bench.tool(use.name, use.input))

    content = request.body["messages"][-1]["content"]
    if any(block.get("type") == "tool_result" for block in content if isinstance(block, dict)):
        return await ask(request)
    kept = set()
    try:
        reply = await ask(replace(request, stream=True), on_tool=start)
        kept = {use.id for use in reply.tool_uses} if reply.ok else kept
        return reply
    finally:
        await stop(running, running.keys() - kept)


async def stop(running, ids):
    """Nothing that was started outlives its trial."""
    strays = [running.pop(id) for id in ids]
    for stray in strays:
        stray.cancel()
    await asyncio.gather(*strays, return_exceptions=True)


async def run_started(bench: Bench, uses, level):
    running = STARTED.get(bench, {})
    try:
        return [
            await (running.pop(use.id) if use.id in running else bench.tool(use.name, use.input))
            for use in uses
        ]
    finally:
        await stop(running, set(running))


WHILE_IT_WRITES = Lever(
    name="eager",
    title="Tools start",
    levels=("after the turn", "while it writes"),
    # All that have started run beside each other, also where a turn's tools would run in turn.
    words={"while it writes": "each tool started at once, while it writes"},
    play=play,
    run_tools=run_started,
    part="eager",
    needs=("tools", "streaming"),
    unfit=lambda task, level: (
        None if len(task.tools) > 1 else "its tasks offer no two tools that the lab can run"
    ),
)


TECHNIQUE = Technique(
    slug="tool-input",
    title="Tools while it writes",
    claim=(
        "A tool can start as soon as its own input is whole: it then runs while the model writes"
        " the next one, and the turn and its tools take less than their sum."
    ),
    published="an agent's turn 3.7 → 1.8 s in one report, with slow tools",
    arms=(AFTER, WHOLE, EAGER),
    headline="total_ms",
    headline_arm=WHOLE.name,
    knobs=ToolInputKnobs,
    trial=trial,
    code="code.jinja",
    aliases=("eager-tools", "tools-while-it-writes"),
    category="tools",
    notes={
        "local": (
            "The local server uses each tool offered once, so which tools and how many is not its"
            " model's choice; time and overlap are real. What can be won is the time that the"
            " inputs after the first take to write."
        ),
        "live": (
            "A tool that has started cannot be taken back if the turn fails after it: start early"
            " only what may run twice or for nothing."
        ),
    },
    needs=("tools", "streaming"),
    page="14_Tools_while_it_writes.py",
    levers=(WHILE_IT_WRITES,),
    views=(View("Tool input", "figures:view"), "Spans", "Distribution", "Pairs"),
)
