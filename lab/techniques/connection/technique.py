"""What does the way to the model cost: a new connection for each call, and a gateway in between?"""

from dataclasses import replace

from pydantic import Field

from lab.model import Arm, Bench, Knobs, Request, Technique, View
from lab.scenarios import definitions

CONNECTIONS = (
    Arm("new", "a connection of its own for each call: name, TCP and TLS come before the request"),
    Arm("kept", "the connection of an earlier call"),
    Arm("pre-opened", "a connection that was opened before the question was asked"),
)
WAYS = (
    Arm("direct", "straight to the run's endpoint, by a kept connection"),
    Arm("gateway", "through your gateway, by a kept connection"),
)
REUSE = {"new": "new", "pre-opened": "opened"}


class ConnectionKnobs(Knobs):
    gateway: str = Field(
        "",
        max_length=300,
        title="Your gateway, if there is one",
        description=(
            "an endpoint's name or base URL that leads to the same model: the run then compares"
            " the way through it with the direct one; empty compares connections"
        ),
    )
    gateway_model: str = Field(
        "",
        max_length=200,
        title="The model's name there",
        description="what the gateway calls the model; empty is the same name",
    )
    pause_s: float = Field(
        1,
        ge=0,
        le=300,
        title="Pause before a call, s",
        description=(
            "how long the connection rests between the earlier call and the one that is timed, in"
            " seconds; servers close one that rests for long"
        ),
    )
    payload_kb: int = Field(
        0,
        ge=0,
        le=500,
        title="Longer prompt, KB",
        description="so many kilobytes of text before the question, for what sending them takes",
    )
    answer_tokens: int = Field(
        64,
        ge=1,
        le=4000,
        title="Longest answer, tokens",
        description="the most tokens an answer may have; a long one shows what holds it back",
    )


def request(bench: Bench, arm, knobs, task):
    """The same words in every arm: only the way differs."""
    own = {}
    if knobs.payload_kb:
        tokens = round(knobs.payload_kb * 1000 / definitions.CHARACTERS_PER_TOKEN)
        own["system"] = task.instructed(definitions.prefix_text(task, tokens))
    there = arm == "gateway"
    return Request(
        task.without_tools(knobs.answer_tokens, **own),
        tier="small",
        model=(knobs.gateway_model or bench.models.get("small")) if there else None,
        # The earlier call may leave its prompt in the cache of a server that caches by itself: in
        # all arms alike.
        intended_cache="any",
        endpoint=knobs.gateway if there else None,
        connection=REUSE.get(arm, "kept"),
    )


async def prepare(bench: Bench, arm, knobs, task):
    """In all arms alike, so that the server is as warm: an earlier call, and the pause."""
    asked = request(bench, arm, knobs, task)
    brief = {} if "thinking" in asked.body else {"max_tokens": 1}
    body = {**asked.body, **brief}
    await bench.call(replace(asked, body=body, connection="any"), role="prime")
    await bench.pause(knobs.pause_s)
    if arm == "pre-opened":
        await bench.connect()


async def trial(bench: Bench, arm, knobs, task):
    reply = await bench.call(request(bench, arm, knobs, task))
    return reply.text if reply.ok else None


TECHNIQUE = Technique(
    slug="connection",
    title="The path",
    claim=(
        "A call that needs a new connection waits for its name, TCP and TLS first; a gateway on"
        " the way adds its own time, and may hold the stream back."
    ),
    published="two round trips for TCP and TLS 1.3, three with TLS 1.2 (RFC 8446)",
    arms=CONNECTIONS,
    headline="wait_ms",
    headline_arm="kept",
    knobs=ConnectionKnobs,
    trial=trial,
    prepare=prepare,
    tiers=("small",),
    select=lambda knobs: WAYS if knobs.gateway else CONNECTIONS,
    suites=(CONNECTIONS, WAYS),
    aliases=("path", "the-path", "gateway"),
    notes={
        kind: (
            "This server is on this machine: a connection to it takes no network and no TLS, and so"
            " next to nothing. What one costs over a network shows against a live endpoint."
        )
        for kind in ("local", "simulated")
    },
    page="11_The_path.py",
    views=(View("The path", "figures:view", in_report=True), "Distribution", "Pairs", "Clocks"),
    code="code.jinja",
)
