"""What a difference of nothing looks like on this machine, endpoint and day: the control for every
other verdict."""

from pydantic import Field

from lab.model import Arm, Bench, Knobs, Request, Technique


class SameThingKnobs(Knobs):
    answer_tokens: int = Field(
        48,
        ge=1,
        le=2000,
        title="Longest answer, tokens",
        description="the most tokens an answer may have",
    )


async def trial(bench: Bench, arm, knobs, task):
    reply = await bench.call(Request(task.without_tools(knobs.answer_tokens)))
    return reply.text if reply.ok else None


TECHNIQUE = Technique(
    slug="aa",
    title="Same thing twice",
    claim=(
        "Two arms that do exactly the same should not differ; where they do, the instrument or the"
        " endpoint drifts."
    ),
    published="no difference",
    arms=(Arm("a", "the request"), Arm("b", "the same request")),
    headline="ttft_ms",
    headline_arm="b",
    knobs=SameThingKnobs,
    trial=trial,
    aliases=("a-a", "same-thing-twice"),
    page="7_Same_thing_twice.py",
    views=("Distribution", "Pairs"),
    control=True,
)
