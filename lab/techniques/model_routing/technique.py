"""Is it faster to let a small model decide who answers, once its deciding is paid for?"""

import json
from dataclasses import replace
from typing import Literal

from pydantic import Field

from lab.model import Arm, Bench, Knobs, Lever, Request, Technique, View
from lab.scenarios import definitions, tools


class RoutingKnobs(Knobs):
    classifier: Literal["cached", "uncached"] = Field(
        "cached",
        title="Router's instructions",
        description="whether the router's instructions are in the cache, as in a busy service",
    )
    check: Literal["format", "self"] = Field(
        "format",
        title="Cascade asks the large model on",
        json_schema_extra={
            "words": {"format": "a missing or cut answer", "self": "the small one's own doubt"}
        },
        description=(
            "what makes the cascade escalate: a missing or cut answer, or the model's own doubt"
        ),
    )
    answer_tokens: int = Field(
        160,
        ge=8,
        le=2000,
        title="Longest answer, tokens",
        description="the most tokens an answer may have",
    )


def choice(reply, name):
    """The classifier's word; None where its reply is cut or not the JSON that was asked for."""
    try:
        return json.loads(reply.text)[name]
    except (ValueError, KeyError, TypeError):
        return None


def question_of(task):
    return task.question + ("\n(The documents are at hand.)" if task.documents else "")


def classify(knobs, task_text):
    mark = {"cache_control": {"type": "ephemeral"}} if knobs.classifier == "cached" else {}
    return {
        "max_tokens": 24,
        "system": [{"type": "text", "text": definitions.router_prompt(), **mark}],
        "messages": [{"role": "user", "content": f"Task: {task_text}"}],
        "output_config": tools.answer_of(difficulty={"type": "string", "enum": ["easy", "hard"]}),
    }


async def prepare(bench: Bench, arm, knobs, task):
    if arm == "routed" and knobs.classifier == "cached":
        request = Request(classify(knobs, "Name a colour."), tier="small", intended_cache="write")
        await bench.call(request, role="prime")


async def answer(bench: Bench, knobs, task, tier):
    bench.route(tier)
    reply = await bench.call(Request(task.without_tools(knobs.answer_tokens), tier=tier))
    return reply.text if reply.ok else None


async def cascade(bench: Bench, knobs, task):
    """The small model's draft is shown only once it has passed: until then nobody can know that it
    is the answer."""
    draft = await bench.call(
        Request(task.without_tools(knobs.answer_tokens), tier="small"), role="worker", name="draft"
    )
    if not draft.ok:
        return None
    good = draft.stop_reason == "end_turn" and bool(draft.text.strip())
    if good and knobs.check == "self":
        question = f"Question:\n{question_of(task)}\n\nAnswer:\n{draft.text}"
        body = {
            "max_tokens": 24,
            "messages": [
                {"role": "user", "content": f"{question}\n\nIs this answer surely right?"}
            ],
            "output_config": tools.answer_of(sure={"type": "string", "enum": ["yes", "no"]}),
        }
        opinion = await bench.call(Request(body, tier="small"), role="worker", name="opinion")
        if not opinion.ok:
            return None
        good = choice(opinion, "sure") == "yes"
    if good:
        bench.route("small")
        return draft.text
    return await answer(bench, knobs, task, "large")


async def trial(bench: Bench, arm, knobs, task):
    if arm == "cascade":
        return await cascade(bench, knobs, task)
    if arm == "routed":
        intended = "read" if knobs.classifier == "cached" else "none"
        body = classify(knobs, question_of(task))
        request = Request(body, tier="small", intended_cache=intended)
        reply = await bench.call(request, role="classify")
        if not reply.ok:
            return None
        easy = choice(reply, "difficulty") == "easy"
    else:
        easy = task.difficulty == "easy" if arm == "oracle" else arm == "small only"
    return await answer(bench, knobs, task, "small" if easy else "large")


def at_tier(request, level, task):
    return replace(request, tier="small" if level == "small" else None)


async def choose(bench: Bench, ask, request, level, task):
    """The router decides once a trial; later turns keep to the model of the first."""
    if level != "routed" or request.tier:
        return await ask(request)
    router = classify(RoutingKnobs(), question_of(task))
    router = Request(router, tier="small", stream=request.stream, intended_cache="read")
    reply = await bench.call(router, role="classify")
    if not reply.ok:
        return reply
    tier = "small" if choice(reply, "difficulty") == "easy" else "large"
    bench.route(tier)
    return await ask(replace(request, tier=tier))


def router_primes(request, level, task):
    body = classify(RoutingKnobs(), "Name a colour.")
    prime = Request(body, tier="small", stream=request.stream, intended_cache="write")
    return (prime,) if level == "routed" else ()


MODEL = Lever(
    name="model",
    title="Model",
    levels=("large", "small", "routed"),
    words={"small": "small model", "routed": "small model for easy questions"},
    change=at_tier,
    play=choose,
    part="router",
    primes=router_primes,
    tier="large",
    tiers={"routed": ("small", "large")},
    level_needs={"routed": ("structured", "caching")},
)


TECHNIQUE = Technique(
    slug="routing",
    title="Model routing",
    claim=(
        "Easy questions go to a small, fast model and hard ones to a large one; a small classifier"
        " decides, and its time counts."
    ),
    published="30–70 % shorter on mixed traffic, at equal quality",
    arms=(
        Arm("large only", "the large model answers everything"),
        Arm("small only", "the small model answers everything"),
        Arm("routed", "the small model classifies, the chosen model answers"),
        Arm("cascade", "the small model answers; a check may escalate to the large one"),
        Arm(
            "oracle",
            "routes by the task's label, which no real router sees: the bound of what routing can"
            " give",
        ),
    ),
    headline="total_ms",
    headline_arm="routed",
    knobs=RoutingKnobs,
    trial=trial,
    code="code.jinja",
    prepare=prepare,
    tiers=("small", "large"),
    aliases=("model-routing", "router"),
    category="reasoning",
    notes={
        "local": (
            "Both local tiers have the same weights, the large one in 32 bits: slower and no wiser."
            " Only the mechanism is shown."
        ),
    },
    needs=("structured",),
    page="4_Model_routing.py",
    shows=("small_models",),
    levers=(MODEL,),
    views=(View("Routes", "figures:view"), "Spans", "Distribution", "Pairs"),
)
