"""How much sooner does an answer begin when the endpoint remembers the start of the prompt, and
what does that cost?"""

from typing import Literal

from pydantic import Field

from lab.model import Arm, Bench, Knobs, Request, Technique, View
from lab.recording.request_parts import bare, without_marks
from lab.scenarios import definitions, tools
from lab.techniques.caching import breaks
from lab.techniques.caching.placement import PLACEMENT, blocks, marked

ARMS = (
    Arm("uncached", "no cache_control: the whole prompt is read afresh"),
    Arm("first use", "cache_control on a new prefix: pays for the write"),
    Arm("cached", "an earlier request wrote the prefix; this one reads it"),
    Arm("pre-warmed", "a request with max_tokens 0 wrote the prefix beforehand"),
)


class CachingKnobs(Knobs):
    break_it: bool = Field(
        False,
        title="Break it",
        description=(
            "in place of the arms: a cached request to the small model, and what each cause that"
            " breaks a cache makes of it, one at a time"
        ),
    )
    prefix_tokens: int = Field(
        0,
        ge=0,
        le=150_000,
        title="Shared part, tokens (0: usual)",
        description=(
            "about how long the shared part is, in tokens; 0 takes 600 on local, else 3,000"
        ),
    )
    part: Literal["documents", "system", "tools", "conversation"] = Field(
        "documents",
        title="What is shared",
        description="which part of the prompt is shared and cached",
    )
    breakpoint: Literal["shared", "question"] = Field(
        "shared",
        title="Cache up to",
        description=(
            "where cache_control stands: after the shared part, or on the question, where a new"
            " question never finds it"
        ),
        json_schema_extra={
            "words": {"shared": "the end of the shared part", "question": "the question's end"}
        },
    )
    ttl: Literal["5m", "1h"] = Field(
        "5m",
        title="An entry lives",
        json_schema_extra={"words": {"5m": "5 minutes", "1h": "1 hour"}},
        description="how long an entry lives; equally fast, but an hour costs more to write",
    )
    turns: int = Field(
        1,
        ge=1,
        le=8,
        title="Questions in a row",
        description="questions asked one after the other on the same shared part",
    )
    answer_tokens: int = Field(
        48,
        ge=1,
        le=2000,
        title="Longest answer, tokens",
        description="the most tokens an answer may have",
    )


def body(arm, knobs, task, question, history=(), **changes):
    """Shared part, earlier turns, question, in one order for all arms: only cache_control tells
    them apart."""
    task = task.model_copy(update={"body": without_marks(task.body)})
    mark = {} if arm == "uncached" else {"cache_control": {"type": "ephemeral", "ttl": knobs.ttl}}
    on_shared, on_question = (mark, {}) if knobs.breakpoint == "shared" else ({}, mark)
    shared = {
        "type": "text",
        "text": definitions.prefix_text(task, knobs.prefix_tokens or task.document_tokens),
        **on_shared,
    }
    own = task.body or {}
    earlier, offered = list(own.get("messages", ()))[:-1], own.get("tools")
    system = task.instructed("Keep the answer short.")
    system = system if isinstance(system, list) else [{"type": "text", "text": system}]
    *front, last = map(bare, question)
    question = [*front, {**last, **on_question}]
    turns = [*earlier, *history, {"role": "user", "content": question}]
    if knobs.part == "tools":
        offered = tools.specs(tools.names()[:2])
        offered[-1] |= {
            "description": f"{offered[-1]['description']} From the handbook: {shared['text']}",
            **on_shared,
        }
    elif knobs.part == "system" or earlier:
        system = [*system, shared]
    elif knobs.part == "conversation":
        read = {"type": "text", "text": "I have read it.", **on_shared}
        turns = [
            {"role": "user", "content": shared["text"]},
            {"role": "assistant", "content": [read]},
            *turns,
        ]
    else:
        turns[0] = {"role": "user", "content": [shared, *turns[0]["content"]]}
    choice = {"type": "none"} if offered else None  # tools are there to be read, not to be used
    fields = {"system": system, "messages": turns, "tools": offered, "tool_choice": choice}
    return task.body_for(knobs.answer_tokens, **fields | changes)


def whole(knobs, task):
    """The request that can be broken: a time, two tools, and a breakpoint before the question. A
    whole body of the user's shares what it has itself before that, between two small tools of the
    lab's."""
    shared = knobs.model_copy(update={"part": "documents", "breakpoint": "shared"})
    asked = body("cached", shared, task, task.last_turn)
    if task.body:
        system = blocks(task.instructed("Keep the answer short."))
        asked = marked(task.body_for(knobs.answer_tokens, system=system))
    first, *rest = asked["system"]
    first_tool, last_tool = tools.specs(tools.names()[:2])
    offered = [first_tool, *(asked.get("tools") or ()), first_tool, last_tool]
    return asked | {
        "system": [{**first, "text": f"{breaks.NOW}{first['text']}"}, *rest],
        "tools": list({tool.get("name"): tool for tool in offered}.values()),
        "tool_choice": {"type": "none"},
    }


async def ask_before(bench: Bench, arm, knobs, task):
    """The earlier request. Its answer is short, but for thinking it needs room."""
    earlier = breaks.earlier(whole(knobs, task), arm)
    turn, question = earlier["messages"][-1], {"type": "text", "text": "Answer with one word."}
    content = blocks(turn["content"])
    ends = [place for place, block in enumerate(content, 1) if block.get("cache_control")]
    kept = content[: max(ends, default=0)]
    earlier["messages"][-1] = {**turn, "content": [*kept, question]}
    earlier["max_tokens"] = max(512, earlier["max_tokens"]) if "thinking" in earlier else 1
    tier = "large" if arm in breaks.BY_ARM and breaks.BY_ARM[arm].other_model else "small"
    reply = await bench.call(Request(earlier, tier=tier, intended_cache="any"), role="prime")
    if not reply.ok:
        bench.mismatch(f"the request before was refused: {reply.error_text}")


async def prepare(bench: Bench, arm, knobs, task):
    if knobs.break_it:
        return await ask_before(bench, arm, knobs, task)
    if arm not in ("cached", "pre-warmed"):
        return
    text, most = ("Answer with one word.", 1) if arm == "cached" else ("Ready?", 0)
    question = [*task.last_turn, {"type": "text", "text": text}]
    prime = body(arm, knobs, task, question, max_tokens=most)
    await bench.call(Request(prime, stream=most > 0, intended_cache="write"), role="prime")


async def trial(bench: Bench, arm, knobs, task):
    if knobs.break_it:
        intended = "read" if arm == breaks.UNBROKEN.name else "any"
        asked = breaks.timed(whole(knobs, task), arm)
        reply = await bench.call(Request(asked, tier="small", intended_cache=intended))
        return reply.text if reply.ok else None
    warm = knobs.breakpoint == "shared" and arm in ("cached", "pre-warmed")
    history, answers = [], []
    for turn in range(knobs.turns):
        again = [{"type": "text", "text": "Say that again in other words."}]
        question = again if turn else task.last_turn
        intended = "none" if arm == "uncached" else "read" if warm or turn else "write"
        request = body(arm, knobs, task, question, history)
        reply = await bench.call(Request(request, intended_cache=intended))
        if not reply.ok:
            return None
        answers.append(reply.text)
        answer = [{"type": "text", "text": reply.text.strip() or "(no answer)"}]
        history += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    return answers[0]


TECHNIQUE = Technique(
    slug="caching",
    title="Prompt caching",
    claim=(
        "A prompt that begins like an earlier one is answered sooner and billed less, once somebody"
        " has paid to write its beginning."
    ),
    published="up to 85 % shorter on hits, 90 % cheaper reads",
    arms=ARMS,
    select=lambda knobs: breaks.ARMS if knobs.break_it else ARMS,
    suites=(ARMS, breaks.ARMS),
    tiers=lambda knobs: ("small",) if knobs.break_it else (),
    headline="ttft_ms",
    headline_arm="cached",
    knobs=CachingKnobs,
    trial=trial,
    code="code.jinja",
    prepare=prepare,
    aliases=("prompt-caching", "cache"),
    category="rag",
    notes={
        "local": (
            "The embedded model reads some 280 tokens a second on two cores, so a few hundred"
            " cached tokens save seconds; a large service reads thousands, and saves as much only"
            " on long prompts."
        ),
        "live": (
            "Prefixes below a model's minimum (512 to 4,096 tokens) are not cached, without an"
            " error: such trials are left out."
        ),
    },
    needs=("caching",),
    page="2_Prompt_caching.py",
    shows=("reads",),
    levers=(PLACEMENT,),
    views=(
        "Distribution",
        "Pairs",
        View("Cache hits", "figures:view", in_report=True),
        View("Break-even", "break_even:view"),
        View("Break it", "broken:view", in_console=True),
        "Clocks",
    ),
)
