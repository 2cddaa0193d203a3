"""instructor over the official SDK."""

import os

import instructor
from pydantic import BaseModel

# The key and the address come from ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL.
client = instructor.from_provider("anthropic/" + os.environ["LAB_MODEL"])


class Place(BaseModel):
    city: str


question = [{"role": "user", "content": "Ada lives in Oslo."}]


def stream():
    return sum(
        1
        for place in client.create_partial(response_model=Place, messages=question, max_tokens=200)
    )


def cached():
    system = [{"type": "text", "text": "harbour " * 400, "cache_control": {"type": "ephemeral"}}]
    for _ in range(2):
        _, reply = client.create_with_completion(
            response_model=Place, system=system, messages=question, max_tokens=200
        )
    return reply.usage.cache_read_input_tokens


def structured():
    return client.create(response_model=Place, messages=question, max_tokens=200).model_dump()
