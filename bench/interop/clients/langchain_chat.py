"""LangChain's ChatAnthropic."""

import os

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool as as_tool
from pydantic import BaseModel

# The key and the address come from ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL.
chat = ChatAnthropic(model=os.environ["LAB_MODEL"], max_tokens=200)


def hello():
    return chat.invoke("Greet me.").text


def stream():
    return sum(1 for piece in chat.stream("Greet me.") if piece.text)


def tool():
    @as_tool
    def weather(city: str) -> str:
        """Weather in a city."""
        return "Sunny."

    bound, turns = chat.bind_tools([weather]), [HumanMessage("How is the weather in Oslo?")]
    turns.append(bound.invoke(turns))
    calls = turns[-1].tool_calls
    turns += [weather.invoke(call) for call in calls]
    return calls, bound.invoke(turns).text


def cached():
    prefix = {"type": "text", "text": "harbour " * 400, "cache_control": {"type": "ephemeral"}}
    for _ in range(2):
        reply = chat.invoke([SystemMessage([prefix]), HumanMessage("Greet me.")])
    return reply.usage_metadata["input_token_details"]["cache_read"]


def structured():
    class Place(BaseModel):
        """Where somebody lives."""

        city: str

    return (
        chat.with_structured_output(Place, method="json_schema")
        .invoke("Ada lives in Oslo.")
        .model_dump()
    )
