"""What does an answer in the shape of a JSON schema cost until its first token, the first time the
schema is used and from then on?"""

from pydantic import Field

from lab.model import Arm, Bench, Knobs, Request, Technique
from lab.scenarios import tools

FREE = Arm("free text", "the same question without a schema")
FIRST = Arm("first use", "a schema that nobody has used before: its grammar is compiled first")
WARM = Arm("warm", "the same schema again, after a request that was made before the clock")
FIELD_TOKENS = 16


class SchemaKnobs(Knobs):
    fields: int = Field(
        6, ge=1, le=40, title="Fields", description="how many fields the answer has beside its text"
    )
    values: int = Field(
        40,
        ge=2,
        le=500,
        title="Values a field may have",
        description="how many words each field is chosen from; it makes the schema long, and the"
        " answer no longer",
    )
    depth: int = Field(
        2, ge=0, le=8, title="Nested, levels", description="how deep the fields are nested"
    )
    answer_tokens: int = Field(
        64,
        ge=8,
        le=2000,
        title="Longest answer, tokens",
        description="the most tokens of the text; each field may have 16 beside it",
    )


def properties(bench: Bench, knobs):
    """A text and nested fields; no other trial has this schema, since the trial's nonce names a
    property."""
    own = "".join(filter(str.isdigit, bench.nonce)) or "0"
    words = [f"value {number}" for number in range(knobs.values)]
    fields = {f"field_{number}": {"enum": words} for number in range(knobs.fields)}
    inner = tools.object_of(**fields)
    for level in range(knobs.depth):
        inner = tools.object_of(**{f"level_{level}": inner})
    return {"answer": {"type": "string"}, f"of_{own}": inner}


def body(bench: Bench, arm, knobs, task):
    """A body of the user's keeps its effort; a shape of its own would be in every arm."""
    own = dict((task.body or {}).get("output_config") or {})
    own.pop("format", None)
    if arm != FREE.name:
        own |= tools.answer_of(**properties(bench, knobs))
    changes = dict.fromkeys(("tools", "tool_choice", "output_format"))
    changes["output_config"] = own or None
    most = knobs.answer_tokens + FIELD_TOKENS * knobs.fields * (arm != FREE.name)
    return task.body_for(most, **changes)


async def prepare(bench: Bench, arm, knobs, task):
    if arm == WARM.name:
        # The schema alone: an endpoint that remembers prompts must find nothing of this one's.
        asked = body(bench, arm, knobs, task)
        asked = {k: v for k, v in asked.items() if k not in ("system", "cache_control")}
        asked["messages"] = [{"role": "user", "content": "Are you ready?"}]
        brief = {} if "thinking" in asked else {"max_tokens": 1}
        reply = await bench.call(Request(asked | brief), role="prime")
        if not reply.ok:
            bench.mismatch(f"nothing made the schema warm: {reply.error_text}")


async def trial(bench: Bench, arm, knobs, task):
    reply = await bench.call(Request(body(bench, arm, knobs, task)))
    return reply.text if reply.ok else None


TECHNIQUE = Technique(
    slug="schema",
    title="Structured answer",
    claim=(
        "An answer in a schema's shape begins later the first time the schema is used, since its"
        " grammar is compiled then; afterwards the grammar is kept for a day."
    ),
    published="",
    arms=(FREE, FIRST, WARM),
    headline="ttft_ms",
    headline_arm=FIRST.name,
    knobs=SchemaKnobs,
    trial=trial,
    prepare=prepare,
    aliases=("structured-answer", "structured-output"),
    notes={
        "local": (
            "The embedded server compiles a grammar at each request and keeps none: first use and"
            " warm are alike here, and what a schema costs is that compilation, each time."
        ),
        "live": (
            "A schema with a date, an id or a list from a database in it is a first use each time."
            " Another format also loses the messages' part of the prompt cache."
        ),
    },
    needs=("structured", "streaming"),
    page="16_Structured_answer.py",
)
