"""What does thinking cost before the first word, and when does anything show that it goes on?"""

from dataclasses import replace
from itertools import product
from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from lab.model import Arm, Bench, Effort, Knobs, Lever, Request, Technique, View

Asked = Literal["default"] | Effort
Display = Literal["hidden", "counted", "shown"]
ABOUT = {
    "hidden": "its thinking is hidden, as by default",
    "counted": "its thinking is hidden, and the stream tells how much there is so far",
    "shown": "a summary of its thinking is shown as it thinks",
}
TOKEN_COUNT = "thinking-token-count-2026-05-13"
"""The beta in which a hidden thinking block sends `estimated_tokens`."""


class ThinkingKnobs(Knobs):
    efforts: tuple[Asked, ...] = Field(
        ("default", "low"),
        min_length=1,
        max_length=6,
        title="Efforts",
        description="the effort levels; default is the model's own, which is not sent",
    )
    displays: tuple[Display, ...] = Field(
        ("hidden", "shown"),
        min_length=1,
        max_length=3,
        title="Thinking is",
        description="hidden (the API's default), counted (hidden, with a running estimate of its "
        "tokens; beta), or shown as a summary",
    )
    most_tokens: int = Field(
        1000,
        ge=16,
        le=64_000,
        title="Thinking and answer, tokens",
        description="the most tokens that thinking and answer may have together; an answer that is "
        "cut there is counted",
    )

    @field_validator("efforts", "displays")
    @classmethod
    def each_once(cls, values):
        if len(set(values)) < len(values):
            raise ValueError("names one of them twice")
        return values


def named(effort, display):
    return f"{effort} effort" + ("" if display == "hidden" else f", {display}")


def arms(knobs):
    about = {"default": "the model's own effort"}
    return tuple(
        Arm(
            named(effort, display),
            f"{about.get(effort, f'effort {effort}')}; {ABOUT[display]}",
            () if effort == "default" else (f"effort {effort}",),
        )
        for effort, display in product(knobs.efforts, knobs.displays)
    )


EVERY = arms(ThinkingKnobs(efforts=("default", *get_args(Effort)), displays=get_args(Display)))
USUAL = arms(ThinkingKnobs())


def with_effort(body: dict[str, Any], effort: str) -> dict[str, Any]:
    return {**body, "output_config": {**(body.get("output_config") or {}), "effort": effort}}


def with_display(request: Request, display: str) -> Request:
    """Adaptive thinking, whatever the body asked; its display said in the API's words."""
    words = "summarized" if display == "shown" else "omitted"
    body = {**request.body, "thinking": {"type": "adaptive", "display": words}}
    return replace(request, body=body, headers={**request.headers, **counting(request, display)})


def counting(request, display):
    if display != "counted":
        return {}
    betas = [request.headers.get("anthropic-beta"), TOKEN_COUNT]
    return {"anthropic-beta": ",".join(filter(None, betas))}


async def trial(bench: Bench, arm, knobs, task):
    effort, _, rest = arm.partition(" effort")
    request = with_display(Request(task.without_tools(knobs.most_tokens)), rest[2:] or "hidden")
    if effort != "default":
        request = replace(request, body=with_effort(dict(request.body), effort))
    reply = await bench.call(request)
    return reply.text if reply.ok else None


TECHNIQUE = Technique(
    slug="thinking",
    title="Effort and thinking",
    claim=(
        "A model that thinks first keeps its reader waiting; less effort shortens the wait, and"
        " shown thinking only fills it."
    ),
    published="less effort spends fewer tokens; nobody says how many seconds that is",
    arms=USUAL,
    headline="wait_ms",
    headline_arm="low effort",
    knobs=ThinkingKnobs,
    trial=trial,
    code="code.jinja",
    select=arms,
    suites=((*USUAL, *(arm for arm in EVERY if arm not in USUAL)),),
    aliases=("effort", "effort-and-thinking"),
    category="reasoning",
    notes={
        "simulated": (
            "How much is thought at each effort is invented here: half the tokens at low, twice at"
            " max. What display and the running estimate change is the API's."
        ),
        "live": (
            "Less effort may answer worse: read the quality beside the wait. In a conversation a"
            " changed effort, or changed thinking, loses what of its messages was cached."
        ),
    },
    needs=("effort", "thinking"),
    page="12_Effort_and_thinking.py",
    views=(
        View("First signs", "figures:view", in_report=True),
        "Distribution",
        "Pairs",
        "Clocks",
    ),
    levers=(
        Lever(
            "effort",
            "Effort",
            ("as it is", "low", "medium"),
            words={"low": "low effort", "medium": "medium effort"},
            change=lambda request, level, task: replace(
                request, body=with_effort(dict(request.body), level)
            ),
            needs=("effort",),
            level_needs={"low": ("effort low",), "medium": ("effort medium",)},
        ),
        Lever(
            "thinking-shown",
            "Thinking shown",
            ("as it is", "shown"),
            words={"shown": "thinking shown"},
            change=lambda request, level, task: with_display(request, level),
            needs=("thinking",),
            unfit=lambda task, level: (
                None
                if ((task.body or {}).get("thinking") or {}).get("type") in ("adaptive", "enabled")
                else "the task does not ask for thinking"
            ),
        ),
    ),
)
