"""pydantic-ai's agents."""

import os

from pydantic import BaseModel
from pydantic_ai import Agent

# The key and the address come from ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL.
model = "anthropic:" + os.environ["LAB_MODEL"]


def hello():
    return Agent(model).run_sync("Greet me.").output


def stream():
    import asyncio

    async def pieces():
        async with Agent(model).run_stream("Greet me.") as reply:
            return [piece async for piece in reply.stream_text(delta=True, debounce_by=None)]

    return len(asyncio.run(pieces()))


def tool():
    cities = []
    agent = Agent(model)

    @agent.tool_plain
    def weather(city: str) -> str:
        """Weather in a city."""
        cities.append(city)
        return "Sunny."

    answer = agent.run_sync("How is the weather in Oslo?").output
    return cities, answer


def cached():
    agent = Agent(
        model, instructions="harbour " * 400, model_settings={"anthropic_cache_instructions": True}
    )
    for _ in range(2):
        result = agent.run_sync("Greet me.")
    return result.usage.cache_read_tokens


def structured():
    class Place(BaseModel):
        city: str

    return Agent(model, output_type=Place).run_sync("Ada lives in Oslo.").output.model_dump()
