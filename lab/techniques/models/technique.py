"""Which model is fast enough, good enough and cheap enough; and does fast mode do what it says?"""

from dataclasses import replace
from typing import Annotated

from pydantic import Field, field_validator

from lab.endpoint_kinds import of_tier
from lab.model import Arm, Bench, Knobs, Lever, Request, Technique, View

Name = Annotated[str, Field(min_length=1, max_length=200)]
TIERS = ("large", "small")
MOST = 8
FAST, STANDARD_ONLY = ", fast", ", standard tier"
FAST_BETA = {"anthropic-beta": "fast-mode-2026-02-01"}
"""Needed by models whose fast mode is a preview; the others take it too
(platform.claude.com/docs/en/build-with-claude/fast-mode)."""


class ModelsKnobs(Knobs):
    models: tuple[Name, ...] = Field(
        (),
        max_length=MOST,
        title="Models",
        description="up to eight models by name, the one that answers today first; without any the"
        " endpoint's large and small one",
    )
    fast: tuple[Name, ...] = Field(
        (),
        max_length=MOST,
        title="Also in fast mode",
        description="models that get one more arm in fast mode: names, or large and small",
    )
    standard_only: bool = Field(
        False,
        title="Also without priority",
        description="one more arm of the first model that declines priority capacity"
        " (service_tier standard_only)",
    )
    answer_tokens: int = Field(
        96,
        ge=1,
        le=64_000,
        title="Longest answer, tokens",
        description="the most tokens an answer may have",
    )

    @field_validator("models", "fast")
    @classmethod
    def each_once(cls, names):
        if len(set(names)) < len(names):
            raise ValueError("names a model twice")
        return names


def named(model):
    return f"{model} model" if model in TIERS else model


def about(model):
    return f"the endpoint's {model} model" if model in TIERS else "this model"


def arms(knobs):
    models = knobs.models or TIERS
    made = [Arm(named(model), f"{about(model)} answers, as it comes") for model in models]
    made += [
        # The endpoint knows of its own models whether they have it; of others it says so itself.
        Arm(
            named(model) + FAST,
            f"{about(model)} in fast mode: more output tokens a second, at a higher price",
            needs=(of_tier("fast", model),) if model in TIERS else (),
        )
        for model in knobs.fast
    ]
    if knobs.standard_only:
        words = f"{about(models[0])} on standard capacity only"
        made.append(Arm(named(models[0]) + STANDARD_ONLY, words))
    return tuple(made)


def tiers(knobs):
    """Those of the endpoint's own models that answer."""
    return tuple(tier for tier in TIERS if tier in {*(knobs.models or TIERS), *knobs.fast})


def in_fast_mode(request: Request) -> Request:
    betas = [request.headers.get("anthropic-beta"), *FAST_BETA.values()]
    headers = {**request.headers, "anthropic-beta": ",".join(filter(None, betas))}
    return replace(request, body={**request.body, "speed": "fast"}, headers=headers)


async def trial(bench: Bench, arm, knobs, task):
    plain = arm.removesuffix(FAST).removesuffix(STANDARD_ONLY)
    tier = next((tier for tier in TIERS if named(tier) == plain), None)
    body = task.without_tools(knobs.answer_tokens)
    if arm.endswith(STANDARD_ONLY):
        body["service_tier"] = "standard_only"
    request = Request(body, tier=tier, model=None if tier else plain)
    reply = await bench.call(in_fast_mode(request) if arm.endswith(FAST) else request)
    return reply.text if reply.ok else None


USUAL = arms(ModelsKnobs())
TECHNIQUE = Technique(
    slug="model-speed",
    title="Model and speed",
    claim=(
        "Another model, or the same one in fast mode, answers sooner; what that costs, and whether"
        " it answers as well, stands beside it."
    ),
    published="up to 2.5 times the output tokens per second in fast mode, and no earlier first one",
    arms=USUAL,
    headline="wait_ms",
    headline_arm="small model",
    knobs=ModelsKnobs,
    trial=trial,
    code="code.jinja",
    select=arms,
    suites=(arms(ModelsKnobs(fast=TIERS, standard_only=True)),),
    tiers=tiers,
    aliases=("model-and-speed", "fast-mode"),
    notes={
        "local": (
            "Both local tiers have the same weights, the large one in 32 bits: slower and no wiser."
            " Only the mechanism is shown."
        ),
        "live": (
            "Models count the same text in different tokens: compare seconds and dollars, not"
            " tokens per second, between them. The lab's own short tasks are asked without thinking"
            " first, where a model can be told so."
        ),
    },
    page="13_Model_and_speed.py",
    views=(
        View("Frontier", "figures:view", in_report=True),
        View("Served", "figures:served"),
        "Distribution",
        "Pairs",
        "Clocks",
    ),
    levers=(
        Lever(
            "speed",
            "Speed",
            ("standard", "fast"),
            words={"fast": "fast mode"},
            change=lambda request, level, task: in_fast_mode(request),
            needs=("fast",),
        ),
    ),
)
