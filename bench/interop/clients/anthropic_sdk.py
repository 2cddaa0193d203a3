"""The official Python SDK, with its tool runner."""

import os

from anthropic import Anthropic, beta_tool
from pydantic import BaseModel

client = Anthropic()  # reads ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY
model = os.environ["LAB_MODEL"]
greet = [{"role": "user", "content": "Greet me."}]


def hello():
    return client.messages.create(model=model, max_tokens=64, messages=greet).content[0].text


def stream():
    with client.messages.stream(model=model, max_tokens=64, messages=greet) as reply:
        return len(list(reply.text_stream))


def tool():
    cities = []

    @beta_tool
    def weather(city: str) -> str:
        """Weather in a city."""
        cities.append(city)
        return "Sunny."

    question = [{"role": "user", "content": "How is the weather in Oslo?"}]
    runner = client.beta.messages.tool_runner(
        model=model, max_tokens=200, tools=[weather], messages=question
    )
    answer = runner.until_done().content[0].text
    return cities, answer


def cached():
    system = [{"type": "text", "text": "harbour " * 400, "cache_control": {"type": "ephemeral"}}]
    for _ in range(2):
        reply = client.messages.create(model=model, max_tokens=16, system=system, messages=greet)
    return reply.usage.cache_read_input_tokens


def structured():
    class Place(BaseModel):
        city: str

    question = [{"role": "user", "content": "Ada lives in Oslo."}]
    reply = client.messages.parse(
        model=model, max_tokens=200, messages=question, output_format=Place
    )
    return reply.parsed_output.model_dump()
