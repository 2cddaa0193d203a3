"""A recorded call again, as it was and with a fix: what mends a miss is shown, not claimed."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from lab.model import Arm, Bench, Knobs, Request, Technique
from lab.recording.fixes import FIXES, PROPOSED

AS_RECORDED, FIXED = "as recorded", "fixed"
LEFT_OUT = ("model", "stream", "diagnostics")
"""What the run says instead, or what speaks of a message that this replay never had."""


class ReplayKnobs(Knobs):
    fix: Literal[PROPOSED, *FIXES] = Field(
        PROPOSED,
        title="Fix",
        description="what the second arm changes: by default what is proposed for these calls",
        json_schema_extra={
            "words": {PROPOSED: "as proposed", **{name: fix.title for name, fix in FIXES.items()}}
        },
    )
    answer_tokens: int = Field(
        16,
        ge=1,
        le=64_000,
        title="Length of the answer",
        description="the most tokens an answer may have; where the fix is of the answer itself, "
        "it may be as long as the recorded one",
    )


def sides(arm: str, knobs: ReplayKnobs, task) -> tuple[Mapping | None, Mapping]:
    """(the body sent before, None where nothing is; the body that is timed) of an arm."""
    before = task.before[-1] if task.before else None
    call = task.body or task.body_for(knobs.answer_tokens)
    if knobs.fix == PROPOSED or task.body is None:  # a warm-up asks another prompt, as it is
        return before, call
    fix = FIXES[knobs.fix]
    fixed = fix.apply(before, call)
    if arm == FIXED:
        return fixed.before, fixed.call
    return None if fix.expires else before, call


def request(body: Mapping[str, Any], most: int | None) -> Request:
    """Whatever it finds in the cache is right: the first arm is meant to miss."""
    fields = {name: value for name, value in body.items() if name not in LEFT_OUT}
    if most is not None:
        thinking = fields.get("thinking")
        budget = thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None
        # The API wants room for an answer behind the budget for thinking.
        fields["max_tokens"] = min(fields.get("max_tokens", most), most + (budget or 0))
    return Request(
        fields,
        model=body.get("model"),
        stream=body.get("stream") is True,
        intended_cache="any",
    )


async def prepare(bench: Bench, arm, knobs, task):
    before, _ = sides(arm, knobs, task)
    if before is not None:
        reply = await bench.call(request(before, 1), role="prime")
        if not reply.ok:
            bench.mismatch(f"the call before failed: {reply.error_text or reply.error_kind}")


async def trial(bench: Bench, arm, knobs, task):
    _, call = sides(arm, knobs, task)
    of_answer = knobs.fix != PROPOSED and FIXES[knobs.fix].answers
    await bench.call(request(call, None if of_answer else knobs.answer_tokens))


TECHNIQUE = Technique(
    slug="replay",
    title="Proof of a fix",
    claim="Calls of your own app again, as recorded and with a fix, in turn.",
    published="",
    arms=(
        Arm(AS_RECORDED, "the recorded call, after the one before it"),
        Arm(FIXED, "the same two with the fix"),
    ),
    headline="wait_ms",
    headline_arm=FIXED,
    knobs=ReplayKnobs,
    trial=trial,
    prepare=prepare,
    aliases=("proof", "prove"),
    page="8_Proof_of_a_fix.py",
    in_all=False,
    own_text=True,
    of_recordings=True,
)
