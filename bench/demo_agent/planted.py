"""The demo agent with mistakes planted by a plan: `python -m bench.demo_agent.planted PLAN`; for
every call it prints a line of JSON: its request id, and what was planted in it. SIGTERM ends it
after the plant under way."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import anthropic

from bench.demo_agent import agent
from bench.demo_agent.agent import CACHED, Agent, Request
from bench.demo_agent.served import EMPTY

SHIFT_S = 301
SHORT = agent.RULES.partition(" Keep to")[0]
"""With the tools a little longer than the embedded model's minimum: what is read afresh takes long
there."""
FORMAT = {
    "type": "json_schema",
    "schema": {
        "type": "object",
        "properties": {"answer": {"type": "string", "maxLength": 8}},
        "required": ["answer"],
        "additionalProperties": False,
    },
}
SHORT_RULES = "Answer with one word."


class Planted:
    def __init__(self, seed: int, rules: str) -> None:
        self.rules = rules
        self.client = anthropic.Anthropic(max_retries=0)
        self.model, self.other = [model.id for model in self.client.models.list()][:2]
        self.rng, self.count = random.Random(seed), 0
        random.seed(seed)
        self.empty = Path(os.environ[EMPTY])

    def agent(self) -> Agent:
        """Every other one names its session, as some clients do."""
        self.count += 1
        session = str(uuid.uuid4()) if self.rng.random() < 0.5 else None
        return Agent(self.client, self.model, max_tokens=1, session=session, rules=self.rules)

    def question(self) -> str:
        towns = self.rng.sample(("Bergen", "Narvik", "Bodø", "Voss", "Hamar", "Moss", "Oslo"), 3)
        way = " to ".join(towns)
        return f"Journey {self.count}: how do I get from {way} by train, with a dog and two bags?"

    def clean(self, agent: Agent, content: list[dict[str, Any]]) -> None:
        self.planted(agent, content, None)

    def planted(self, agent: Agent, content: list[dict], cause: str | None, change=None, **truth):
        agent.say(content)
        self.send(agent, agent.request(), cause, change, **truth)

    def send(self, agent: Agent, request: Request, cause: str | None, change=None, **truth) -> None:
        if change:
            change(request)
        try:
            message = agent.call(request)
        except anthropic.BadRequestError as error:
            tell(error.request_id, cause, **truth)
            return
        usage = message.usage
        if cause == "being_written" and not usage.cache_creation_input_tokens:
            cause = None  # it came too late: the other had been written
        tell(agent.request_id, cause, read=usage.cache_read_input_tokens, **truth)
        # Of an answer with tools this driver runs none: it goes on with plain text.
        texts = [block for block in agent.messages[-1]["content"] if block["type"] == "text"]
        agent.messages[-1]["content"] = texts or [{"type": "text", "text": "I see."}]

    def run(self, cause: str) -> None:
        start = getattr(self, f"plant_{cause}", None)
        if start:
            return start()
        conversation = self.agent()
        self.clean(conversation, [text(self.question())])
        self.planted(conversation, [text("Which one?")], cause, getattr(self, f"change_{cause}"))

    def plant_message_differs(self) -> None:
        conversation = self.agent()
        self.clean(conversation, [text(self.question())])
        long = f"{agent.RESULTS['trains']} {agent.RESULTS['fares']} Looked up at 07:23:25."
        self.clean(conversation, [text(long)])

        def later(request: Request) -> None:
            part = request["messages"][2]["content"][0]
            part["text"] = part["text"].replace("07:23:25", "07:24:02")

        self.planted(conversation, [text("Which one?")], "message_differs", later)

    def plant_none(self) -> None:
        """Ten calls with tools, as the agent makes them."""
        conversation = self.agent()
        for number in range(10):
            last = conversation.messages[-1:]
            uses = [b for m in last for b in m["content"] if b["type"] == "tool_use"]
            content = [
                {
                    "type": "tool_result",
                    "tool_use_id": use["id"],
                    "content": agent.RESULTS[use["name"]],
                }
                for use in uses
            ]
            question = self.question() if not number else self.rng.choice(agent.QUESTIONS)
            conversation.say(content or [text(question)])
            message = conversation.call(conversation.request())
            tell(conversation.request_id, None, read=message.usage.cache_read_input_tokens)

    def change_system_differs(self, request: Request) -> None:
        def a_block(request: Request) -> None:
            request["system"].insert(0, text("It rains."))

        def a_word(request: Request) -> None:
            old = request["system"][0]["text"]
            request["system"][0]["text"] = old.replace("fares", "prices")

        self.rng.choice((agent.a_time, agent.an_id, a_block, a_word))(request)

    def change_tool_differs(self, request: Request) -> None:
        def removed(request: Request) -> None:
            request["tools"].pop(self.rng.randrange(3))

        def added(request: Request) -> None:
            new = agent.tool("ferries", "Ferries to a place.")
            request["tools"].insert(self.rng.randrange(4), new)

        self.rng.choice((agent.a_tool, removed, added))(request)

    def change_tool_order(self, request: Request) -> None:
        agent.the_order_of_tools(request)

    def change_model(self, request: Request) -> None:
        request["model"] = self.other

    def change_effort(self, request: Request) -> None:
        request["output_config"] = {"effort": self.rng.choice(("low", "medium", "max"))}

    def change_thinking(self, request: Request) -> None:
        request["thinking"] = {"type": "adaptive"}

    def change_tool_choice(self, request: Request) -> None:
        request["tool_choice"] = {"type": "none"}

    def change_output_format(self, request: Request) -> None:
        request["output_config"] = {"format": FORMAT}

    def change_speed(self, request: Request) -> None:
        request["extra_body"] = {"speed": "fast"}

    def change_no_breakpoint(self, request: Request) -> None:
        agent.no_breakpoint(request)

    def change_breakpoint_moved(self, request: Request) -> None:
        facts = [text(f"Fact {n}.") for n in range(20)]
        request["messages"][-1]["content"] = [*facts, text("Which?") | {"cache_control": CACHED}]

    def change_breakpoint_beyond(self, request: Request) -> None:
        for block in request["tools"]:
            block["cache_control"] = CACHED

    def plant_below_minimum(self) -> None:
        conversation = self.agent()

        def short(request: Request) -> None:
            rules = f"{self.count}: {SHORT_RULES}"
            request["system"] = [text(rules) | {"cache_control": CACHED}]
            request["tools"] = []

        conversation.say([text("Oslo?")])
        self.send(conversation, conversation.request(), None, short)
        self.planted(conversation, [text("Bergen?")], "below_minimum", short)

    def plant_expired(self) -> None:
        """The cache is emptied, and the bench puts the pause into the recording's clock."""
        conversation = self.agent()
        self.clean(conversation, [text(self.question())])
        self.empty.touch()
        self.planted(conversation, [text("Which one?")], "expired", shift_s=SHIFT_S)

    def plant_not_known(self) -> None:
        """The cache is emptied, and nothing in the recording says so."""
        conversation = self.agent()
        self.clean(conversation, [text(self.question())])
        self.empty.touch()
        self.planted(conversation, [text("Which one?")], "not_known")

    def plant_being_written(self) -> None:
        conversation = self.agent()
        first = [text(self.question() + f" {agent.HOTEL_RULES} {self.count}" * 2)]
        twin = Agent(self.client, self.model, max_tokens=1, rules=self.rules)
        thread = threading.Thread(target=self.clean, args=(conversation, first))
        thread.start()
        time.sleep(0.03)
        self.planted(twin, json.loads(json.dumps(first)), "being_written")
        thread.join()


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def tell(request_id: str | None, cause: str | None, **truth: Any) -> None:
    print(json.dumps({"request_id": request_id, "cause": cause, **truth}), flush=True)


def main() -> int:
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    plan = json.loads(Path(sys.argv[1]).read_text())
    planted = Planted(plan["seed"], SHORT if plan["short"] else agent.RULES)
    # The first call of all writes the system prompt: no miss, and no plant.
    planted.clean(planted.agent(), [text("Good morning!")])
    for cause in plan["causes"]:
        if ending.is_set():
            return 1
        planted.run(cause)
    return 0


if __name__ == "__main__":
    sys.exit(main())
