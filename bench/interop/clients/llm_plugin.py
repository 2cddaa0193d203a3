"""Simon Willison's llm with its plugin llm-anthropic, through llm's Python API; its command line
works alike."""

import json
import os
import subprocess

import llm
from pydantic import BaseModel

# Asks /v1/models of ANTHROPIC_BASE_URL; from then on `llm -m anthropic/NAME` knows the server's
# models and what they can do.
subprocess.run(["llm", "anthropic", "refresh"], check=True, stdout=subprocess.DEVNULL)
model = llm.get_model("anthropic/" + os.environ["LAB_MODEL"])


def hello():
    return model.prompt("Greet me.", stream=False).text()


def stream():
    return sum(1 for piece in model.prompt("Greet me."))


def tool():
    cities = []

    def weather(city: str) -> str:
        """Weather in a city."""
        cities.append(city)
        return "Sunny."

    answer = model.chain("How is the weather in Oslo?", tools=[weather]).text()
    return cities, answer


def cached():
    for _ in range(2):
        reply = model.prompt("harbour " * 400, cache=True)
        reply.text()
    return reply.token_details["cache_read_input_tokens"]


def structured():
    class Place(BaseModel):
        city: str

    return json.loads(model.prompt("Ada lives in Oslo.", schema=Place).text())
