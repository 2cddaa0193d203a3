"""Does streaming shorten the wait that a person feels?"""

from dataclasses import replace

from pydantic import Field

from lab.model import Arm, Bench, Knobs, Lever, Request, Technique


class StreamingKnobs(Knobs):
    answer_tokens: int = Field(
        200,
        ge=16,
        le=2000,
        title="Longest answer, tokens",
        description="the most tokens an answer may have",
    )


async def trial(bench: Bench, arm, knobs, task):
    reply = await bench.call(Request(task.body_for(knobs.answer_tokens), stream=arm == "streamed"))
    return reply.text if reply.ok else None


STREAMED = Lever(
    name="streamed",
    title="Streaming",
    levels=("whole", "streamed"),
    words={"streamed": "streamed"},
    change=lambda request, level, task: replace(request, stream=True),
    needs=("streaming",),
)


TECHNIQUE = Technique(
    slug="streaming",
    title="Streaming",
    claim=(
        "Showing the answer as it is written shortens the wait a person feels; the whole answer"
        " takes as long as before."
    ),
    published="60–80 % shorter perceived wait",
    arms=(
        Arm("whole", "the answer is shown once all of it is there"),
        Arm("streamed", "the answer is shown as it is written"),
    ),
    headline="wait_ms",
    headline_arm="streamed",
    knobs=StreamingKnobs,
    trial=trial,
    notes={
        "local": (
            "The embedded model answers on this machine: no network, so the wait that streaming"
            " saves is generation alone."
        ),
    },
    page="1_Streaming.py",
    shows=("streams",),
    levers=(STREAMED,),
)
