"""This request or that: the lab's discipline on a question of the user's own."""

import json
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lab.model import Arm, Bench, Knobs, Request, Technique, sentence
from lab.scenarios.definitions import read_json

DEFAULT = '[{"name": "a"}, {"name": "b", "system": "Answer in as few words as you can."}]'


class Side(BaseModel):
    """One arm: a whole Messages body, or fields that replace those of the task's body (null removes
    one)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1, max_length=40)
    model: str | None = None
    endpoint: str | None = None
    primed: bool = False
    """Sent once before each trial, outside its clock, so that the beginning that it marks for the
    cache is there."""
    messages: list[dict[str, Any]] | None = Field(None, min_length=1)

    def request(self, task, answer_tokens):
        fields = dict(self.model_extra or {})
        stream = fields.pop("stream", True) is not False
        if self.messages:
            body = {"max_tokens": answer_tokens, **fields, "messages": self.messages}
            body = {name: value for name, value in body.items() if value is not None}
        else:
            body = task.body_for(answer_tokens, **fields)
        return Request(body, model=self.model, endpoint=self.endpoint, stream=stream)


def sides(text):
    return [Side(**value) for value in json.loads(text)]


class YourRequestsKnobs(Knobs):
    bodies: str = Field(
        DEFAULT,
        description=(
            "JSON list of arms: each a name and a whole Messages body or changes to the task's,"
            " with its own model or endpoint; primed: true sends it once beforehand, for the cache"
        ),
    )
    answer_tokens: int = Field(
        64,
        ge=1,
        le=64_000,
        description="the most tokens an answer may have where a body does not say",
    )

    @field_validator("bodies", mode="before")
    @classmethod
    def readable(cls, value):
        bodies = read_json(value) if isinstance(value, str) else value
        if (
            not isinstance(bodies, list)
            or not 2 <= len(bodies) <= 8
            or not all(isinstance(body, dict) for body in bodies)
        ):
            raise ValueError("needs a JSON list of two to eight objects, one for each arm")
        arms = [
            {**body, "name": str(body.get("name") or chr(ord("a") + place))}
            for place, body in enumerate(bodies)
        ]
        if len({arm["name"] for arm in arms}) < len(arms):
            raise ValueError("two arms have the same name")
        for arm in arms:
            try:
                Side(**arm)
            except ValidationError as error:
                raise ValueError(f"arm {arm['name']}: {sentence(error)}") from None
        return json.dumps(arms, ensure_ascii=False)


def side_of(arm, knobs):
    return next(side for side in sides(knobs.bodies) if side.name == arm)


async def prepare(bench: Bench, arm, knobs, task):
    side = side_of(arm, knobs)
    if not side.primed:
        return
    request = side.request(task, knobs.answer_tokens)
    brief = {} if "thinking" in request.body else {"max_tokens": 1}
    prime = replace(request, body={**request.body, **brief}, intended_cache="any")
    await bench.call(prime, role="prime")


async def trial(bench: Bench, arm, knobs, task):
    side = side_of(arm, knobs)
    reply = await bench.call(side.request(task, knobs.answer_tokens))
    # A body with messages of its own asks something else than the task does, so the task's check
    # cannot judge it.
    return reply.text if reply.ok and not side.messages else None


TECHNIQUE = Technique(
    slug="ab",
    title="Your requests",
    claim="Two requests of your own, compared as strictly as the lab's.",
    published="",
    arms=(Arm("a", "the first request"), Arm("b", "the second request")),
    headline="wait_ms",
    headline_arm="b",
    knobs=YourRequestsKnobs,
    trial=trial,
    prepare=prepare,
    asks_tasks=lambda knobs: not all(side.messages for side in sides(knobs.bodies)),
    select=lambda knobs: tuple(
        Arm(side.name, "a whole body" if side.messages else "the task's body, changed")
        for side in sides(knobs.bodies)
    ),
    aliases=("your-requests", "a-b"),
    page="6_Your_requests.py",
    in_all=False,
    files="bodies",
    own_text=True,
)
