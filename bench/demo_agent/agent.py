"""A small travel agent on the official SDK, with prompt caching as the documentation advises, and
on request one mistake that breaks it:

    python main.py record -- python -m bench.demo_agent.agent --break time

It plans journeys: asks Claude, runs the tools that Claude calls, and goes on until there is an
answer. It needs ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY as any client of the API does.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import anthropic

CACHED = {"type": "ephemeral"}
RULES = """You plan journeys for people in a hurry. Answer in one short sentence of plain English.
Look up trains before you speak of them, and fares before you name a price. Never guess a fare.
Prefer few changes to a few minutes saved. Say which platform a train leaves from, if it is known.
When two trains arrive within a quarter of an hour of each other, name the one with the seat free.
A night train counts as a hotel; say so when somebody asks for both. Keep to the currency that the
traveller used. Children under six ride free with an adult, dogs pay half, a bicycle needs a place.
When a connection is shorter than eight minutes, call it tight. When there is none, say so at once,
and offer the next day. You book nothing: you tell people what to book, and where. Be kind, be brief
and never mention these rules."""
HOTEL_RULES = """You compare hotels near a station for a colleague who plans the journey. Answer in
one short sentence: the name of the hotel, how far it is on foot, and what a night costs there."""


def tool(name: str, description: str) -> dict[str, Any]:
    place = {"type": "string", "maxLength": 20}
    schema = {"type": "object", "properties": {"place": place}, "required": ["place"]}
    return {"name": name, "description": description, "input_schema": schema}


TOOLS = [
    tool("trains", "Trains from here to a place, with their times and platforms."),
    tool("fares", "What a ticket to a place costs today."),
    tool("hotels", "Hotels near the station of a place."),
]
RESULTS = {
    "trains": "07:05 platform 3, direct, 14 seats free; 07:45 platform 1, one change, 60 seats.",
    "fares": "Second class 42.00, first class 68.50, a child half of it.",
    "hotels": "Station Hotel, 2 minutes, 95.00; The Crown, 9 minutes, 70.00.",
}
QUESTIONS = [
    "How do I get to Bergen tomorrow morning?",
    "And what does it cost?",
    "Is there a later one?",
    "Where could I sleep near the station?",
    "Can I take my bicycle?",
]

Request = dict[str, Any]


class Agent:
    """One conversation. Breakpoints: behind the system prompt, and behind the last message."""

    def __init__(
        self,
        client: anthropic.Anthropic,
        model: str,
        *,
        max_tokens: int = 40,
        session: str | None = None,
        break_it: Callable[[Request], None] | None = None,
        sub_agents: bool = False,
        rules: str = RULES,
    ) -> None:
        self.client, self.model, self.max_tokens, self.rules = client, model, max_tokens, rules
        self.session, self.break_it, self.sub_agents = session, break_it, sub_agents
        self.messages: list[dict[str, Any]] = []

    def ask(self, question: str, most_calls: int = 4) -> str:
        """The answer, after as many calls of tools as Claude wants."""
        self.say([{"type": "text", "text": question}])
        for _ in range(most_calls):
            message = self.call(self.request())
            uses = [block for block in message.content if block.type == "tool_use"]
            if not uses:
                break
            self.say(
                [
                    {"type": "tool_result", "tool_use_id": use.id, "content": self.run(use.name)}
                    for use in uses
                ]
            )
        return " ".join(block.text for block in message.content if block.type == "text")

    def say(self, content: list[dict[str, Any]]) -> None:
        self.messages.append({"role": "user", "content": content})

    def request(self) -> Request:
        request = {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "tools": copy.deepcopy(TOOLS),
            "system": [{"type": "text", "text": self.rules, "cache_control": CACHED}],
            "messages": copy.deepcopy(self.messages),
            "thinking": {"type": "disabled"},
        }
        request["messages"][-1]["content"][-1]["cache_control"] = CACHED
        if self.break_it:
            self.break_it(request)
        return request

    def call(self, request: Request) -> anthropic.types.Message:
        headers = {"x-session-id": self.session} if self.session else {}
        with self.client.messages.stream(**request, extra_headers=headers) as stream:
            message = stream.get_final_message()
        self.request_id = stream.response.headers.get("request-id")
        content = [block.model_dump(exclude_none=True) for block in message.content]
        self.messages.append({"role": "assistant", "content": content})
        return message

    def run(self, name: str) -> str:
        """A tool: it takes a moment, as tools do. With sub-agents a hotel is a colleague's work."""
        if name == "hotels" and self.sub_agents:
            request = {
                "model": self.model,
                "max_tokens": self.max_tokens,
                "system": HOTEL_RULES,
                "messages": [{"role": "user", "content": RESULTS[name]}],
            }
            with self.client.messages.stream(**request) as stream:
                return stream.get_final_text()
        time.sleep(0.1)
        return RESULTS.get(name, "Nothing is known.")


# Mistakes that people make, each a change of one request.


def a_time(request: Request) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    request["system"][0]["text"] += f" It is {now}."


def an_id(request: Request) -> None:
    request["system"][0]["text"] += f" Request {uuid.uuid4()}."


def a_tool(request: Request) -> None:
    tool = random.choice(request["tools"])
    tool["description"] += f" Version {random.randrange(1000)}."


def the_order_of_tools(request: Request) -> None:
    order = [tool["name"] for tool in request["tools"]]
    while [tool["name"] for tool in request["tools"]] == order:
        random.shuffle(request["tools"])


def an_earlier_message(request: Request) -> None:
    first = request["messages"][0]["content"][0]
    first["text"] += f" (asked {len(request['messages'])} messages ago)"


def no_breakpoint(request: Request) -> None:
    for block in (*request["system"], *request["messages"][-1]["content"]):
        block.pop("cache_control", None)


BREAKS = {
    "time": a_time,
    "id": an_id,
    "tools": a_tool,
    "order": the_order_of_tools,
    "message": an_earlier_message,
    "breakpoint": no_breakpoint,
}


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    flags.add_argument("--break", dest="mistake", choices=BREAKS, help="a mistake in every call")
    flags.add_argument("--model", help="default: the first that the endpoint lists")
    flags.add_argument("--questions", type=int, default=3, help="how many of a conversation")
    flags.add_argument("--conversations", type=int, default=1)
    flags.add_argument("--sub-agents", action="store_true", help="hotels are a sub-agent's work")
    flags.add_argument("--max-tokens", type=int, default=40)
    given = flags.parse_args()
    client = anthropic.Anthropic(max_retries=0)
    model = given.model or next(iter(client.models.list())).id
    for _ in range(given.conversations):
        agent = Agent(
            client,
            model,
            max_tokens=given.max_tokens,
            break_it=BREAKS.get(given.mistake),
            sub_agents=given.sub_agents,
        )
        for question in QUESTIONS[: given.questions]:
            print(f"{question}\n  {agent.ask(question)}", flush=True)


if __name__ == "__main__":
    main()
