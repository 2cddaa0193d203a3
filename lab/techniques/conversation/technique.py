"""How does the wait for the first token grow with a conversation, and what keeps it flat?"""

from pydantic import Field

from lab.model import Arm, Bench, Knobs, Reply, Technique, View
from lab.scenarios import definitions, tools
from lab.techniques.conversation.talk import AUTOMATIC, EVERY, LAST, NOTHING, THREAD, Talk


class ConversationKnobs(Knobs):
    turns: int = Field(
        6, ge=4, le=40, title="Turns", description="how many turns each conversation has"
    )
    turn_tokens: int = Field(
        0,
        ge=0,
        le=20_000,
        title="Each turn brings, tokens (0: usual)",
        description=(
            "about how much text each turn brings, in tokens; 0 takes 100 on local, else 500. The"
            " conversation begins with twice as much"
        ),
    )
    tool_results: bool = Field(
        False,
        title="As the result of a tool",
        description="the text comes as what a tool answered, which takes a request more each turn",
    )
    turn_blocks: int = Field(
        1,
        ge=1,
        le=40,
        title="In so many blocks",
        description=(
            "into how many blocks a turn's text is cut; from 18 on a mark no longer finds the turn"
            " before, 20 blocks back"
        ),
        json_schema_extra={"only": {"tool_results": False}},
    )
    pause_s: float = Field(
        0,
        ge=0,
        le=600,
        title="Pause between turns, s",
        description="after 5 minutes nothing is cached any more, and a thread is gone",
    )
    answer_tokens: int = Field(
        24,
        ge=1,
        le=2000,
        title="Longest answer, tokens",
        description="the most tokens each answer may have",
    )


async def trial(bench: Bench, arm, knobs, task):
    talk, answer = Talk(arm, knobs, task), None
    # Other questions first: the task's own is the last one, and its answer is checked.
    questions = definitions.neighbours(task, knobs.turns)[::-1]
    for number, (question, text) in enumerate(zip(questions, talk.texts, strict=True), 1):
        if number > 1 and knobs.pause_s:
            await bench.pause(knobs.pause_s)
        talk.says(question, text)
        role = "tool_turn" if knobs.tool_results else "answer"
        reply = await talk.ask(bench, role, f"turn {number}")
        if reply.ok and knobs.tool_results:
            reply = await with_results(bench, talk, reply, text, f"turn {number}")
        if not reply.ok:
            return None
        answer = reply.text
    return answer


async def with_results(bench: Bench, talk: Talk, reply: Reply, text, name):
    """The answer that follows what the tools brought."""
    if not any(block.get("type") == "tool_use" for block in reply.content):
        bench.mismatch("the model answered without its tool")
        return reply
    inputs = [{**use.input, "service_ms": 0} for use in reply.tool_uses]
    results = [
        f"{await bench.tool(use.name, input)}\n\n{text}"
        for use, input in zip(reply.tool_uses, inputs, strict=True)
    ]
    talk.turns.append(tools.turns_after(reply, results)[1])
    return await talk.ask(bench, "answer", name)


TECHNIQUE = Technique(
    slug="conversation",
    title="Long conversation",
    claim=(
        "Each turn sends all turns before it, so the wait for the first token grows with the"
        " conversation, unless the endpoint remembers it."
    ),
    published=(
        "with threads some 35 % shorter at the median from 500,000 tokens on; up to 85 % shorter on"
        " cache hits"
    ),
    arms=(
        Arm(NOTHING, "no cache_control: each turn reads the whole conversation afresh"),
        Arm(LAST, "cache_control on the last block of the last turn, moved on with every turn"),
        Arm(EVERY, "tools, system, the turn before and the last one are marked: four at most"),
        Arm(AUTOMATIC, "cache_control once, beside messages: the endpoint marks the last block"),
        Arm(
            THREAD,
            "automatic, and only the new turn is sent: the endpoint holds the conversation (beta)",
            needs=("threads",),
        ),
    ),
    headline="last_ttft_ms",
    headline_arm=AUTOMATIC,
    knobs=ConversationKnobs,
    trial=trial,
    code="code.jinja",
    aliases=("long-conversation", "threads", "turns"),
    category="question-answering",
    notes={
        "local": (
            "How the wait grows is real here, and so is what a cache keeps of it. A thread saves"
            " its upload and its checking, which take no time on this machine: its size is a"
            " service's."
        ),
        "live": (
            "Prefixes below a model's minimum (512 to 4,096 tokens) are not cached, without an"
            " error: such trials are left out. A thread is best effort: where it is gone, the whole"
            " conversation is sent again inside the trial."
        ),
    },
    needs=("caching",),
    page="10_Long_conversation.py",
    views=(
        View("Growth", "figures:view", in_report=True),
        "Distribution",
        "Pairs",
        "Clocks",
    ),
)
