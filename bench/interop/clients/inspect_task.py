"""inspect-ai: each check is an evaluation of one sample."""

import json
import os

from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, ResponseSchema
from inspect_ai.solver import generate, system_message, use_tools
from inspect_ai.tool import tool as as_tool
from inspect_ai.util import json_schema
from pydantic import BaseModel

# The key and the address come from ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL.
model = "anthropic/" + os.environ["LAB_MODEL"]


def sample(question, *solvers, **config):
    task = Task(
        dataset=[Sample(input=question)],
        solver=[*solvers, generate()],
        config=GenerateConfig(max_tokens=200, **config),
    )
    [log] = evaluate(task, model=model, display="none")
    if log.error:
        raise RuntimeError(log.error.message)
    return log.samples[0]


def hello():
    return sample("Greet me.").output.completion


def tool():
    @as_tool
    def weather():
        async def execute(city: str):
            """Weather in a city.

            Args:
                city: Its name.
            """
            return "Sunny."

        return execute

    turns = sample("How is the weather in Oslo?", use_tools(weather())).messages
    return [turn.text for turn in turns if turn.role == "tool"], turns[-1].text


def cached():
    for _ in range(2):
        done = sample("Greet me.", system_message("harbour " * 400), cache_prompt=True)
    return done.output.usage.input_tokens_cache_read


def structured():
    class Place(BaseModel):
        city: str

    schema = ResponseSchema(name="place", json_schema=json_schema(Place))
    return json.loads(sample("Ada lives in Oslo.", response_schema=schema).output.completion)
