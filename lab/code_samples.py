"""The requests an arm makes, and Python that makes them outside the lab: what a reader takes away once a technique has shown its worth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pprint import pformat
from string import Template
from typing import Any

from lab.model import Knobs, Reply, Request, Role, Technique, Tier
from lab.scenarios import tools

PLACEHOLDER = "(an answer)"


@dataclass(frozen=True)
class Asked:
    """One request of an arm, as it would be sent, less the trial's nonce."""

    role: Role
    stream: bool
    body: dict[str, Any]
    name: str | None = None


@dataclass
class _Rehearsal:
    """A bench without an endpoint: it notes each request and answers in the shape that was asked for."""

    models: Mapping[Tier, str]
    generates: Tier
    capabilities: frozenset[str]
    asked: list[Asked] = field(default_factory=list)
    nonce: str = ""

    async def call(
        self,
        request: Request,
        role: Role = "answer",
        name: str | None = None,
        begun: asyncio.Event | None = None,
    ) -> Reply:
        model = (
            request.model
            or self.models.get(request.tier or self.generates)
            or next(iter(self.models.values()))
        )
        self.asked.append(
            Asked(
                role, request.stream, {"model": model, **json.loads(json.dumps(request.body))}, name
            )
        )
        if begun:
            begun.set()
        await asyncio.sleep(0)
        content = _answer(request.body)
        stop = "tool_use" if any(block["type"] == "tool_use" for block in content) else "end_turn"
        return Reply(
            call_id=f"rehearsed-{len(self.asked)}",
            content=tuple(content),
            stop_reason=stop,
            usage={"output_tokens": 1},
        )

    async def tool(self, name: str, input: dict[str, Any]) -> str:
        async def at_once(*_: Any) -> None:
            await asyncio.sleep(0)

        return await tools.run(name, input, at_once)

    @asynccontextmanager
    async def span(self, kind: str, name: str) -> AsyncIterator[None]:
        yield

    def route(self, name: str) -> None:
        pass

    def mismatch(self, reason: str) -> None:
        pass


def requests(
    technique: Technique,
    arm: str,
    knobs: Knobs,
    task: Any,
    models: Mapping[Tier, str],
    generates: Tier,
    capabilities: frozenset[str],
) -> list[Asked]:
    """The bodies that one trial of an arm sends, primes first, found by rehearsing the trial itself without an endpoint."""
    bench = _Rehearsal(models, generates, capabilities)

    async def play() -> None:
        if technique.prepare:
            await technique.prepare(bench, arm, knobs, task)
        await technique.trial(bench, arm, knobs, task)

    asyncio.run(play())
    return bench.asked


def _answer(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    schema = ((body.get("output_config") or {}).get("format") or {}).get("schema")
    if schema:
        return [{"type": "text", "text": json.dumps(_instance(schema))}]
    last = body["messages"][-1]["content"] if body.get("messages") else ""
    answered = isinstance(last, list) and any(block.get("type") == "tool_result" for block in last)
    offered = (
        [] if answered else [tool for tool in body.get("tools") or [] if "input_schema" in tool]
    )
    if (body.get("tool_choice") or {}).get("disable_parallel_tool_use"):
        offered = offered[:1]
    uses = [
        {
            "type": "tool_use",
            "id": f"toolu_{n}",
            "name": tool["name"],
            "input": _instance(tool["input_schema"]),
        }
        for n, tool in enumerate(offered, 1)
    ]
    return uses or [{"type": "text", "text": PLACEHOLDER}]


def _instance(schema: Mapping[str, Any]) -> Any:
    """The smallest value that a JSON schema allows."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for word in ("anyOf", "oneOf"):
        if schema.get(word):
            return _instance(schema[word][0])
    kind = schema.get("type", "string")
    if kind == "object":
        return {name: _instance(part) for name, part in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [_instance(schema.get("items") or {})] * max(1, schema.get("minItems", 1))
    return {
        "integer": int(schema.get("minimum", 1)),
        "number": float(schema.get("minimum", 1)),
        "boolean": True,
        "null": None,
    }.get(kind, "Paris")


# The code itself. Each arm is shown in its own shape: a loop that ends when no tool is asked for, requests that run at once, a router
# that chooses before it asks. Bodies are literals, so that text of the user's own can never become code.

KEYS = "reads ANTHROPIC_API_KEY and, where it is set, ANTHROPIC_BASE_URL"


def python(arm: str, asked: list[Asked], knobs: Knobs, large: str) -> str:
    """A script that does what the arm does, with the bodies it sent; it needs nothing but the anthropic package.

    `large`: the model of the large tier, which a rehearsed router or cascade may not have chosen.
    """
    roles = [request.role for request in asked]
    if "plan" in roles or (arm == "pipeline" and "worker" in roles):
        return _team(asked, knobs)
    if "tool_turn" in roles:
        return _loop(arm, asked, knobs)
    if "classify" in roles:
        return _router(asked, large)
    if arm == "cascade":
        return _cascade(asked, large)
    if len(asked) > 1 and arm.startswith(("together", "after the first token")):
        return _at_once(arm, asked, knobs)
    return (
        _head() + "\n" + "\n".join(_one(number, request) for number, request in enumerate(asked, 1))
    )


def _head(*imports: str, asynchronous: bool = False) -> str:
    lines = [f"import {name}" for name in (*(("asyncio",) if asynchronous else ()), *imports)]
    client = "AsyncAnthropic" if asynchronous else "Anthropic"
    return (
        "\n".join(
            [
                *lines,
                *([""] if lines else []),
                "import anthropic",
                "",
                f"client = anthropic.{client}()  # {KEYS}",
            ]
        )
        + "\n"
    )


def _literal(name: str, value: Any) -> str:
    return f"{name} = {pformat(value, width=100, sort_dicts=False)}\n"


def _filled(text: str, **values: Any) -> str:
    return Template(text).substitute(values)


SHOW = """with client.messages.stream(**$name) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
print()
"""


def _one(number: int, request: Asked) -> str:
    name = "body" if number == 1 else f"body_{number}"
    if request.stream:
        return _literal(name, request.body) + _filled(SHOW, name=name)
    return (
        _literal(name, request.body)
        + f"message = client.messages.create(**{name})\nprint(message.content, message.usage)\n"
    )


AGENT = """

async def run_tool(name, given):
    \"\"\"Call your own functions here; the answer is text for the model.\"\"\"
    await asyncio.sleep($seconds)
    return f"{name}: done"


async def ask(body, most_turns=$turns):
    \"\"\"Ask, run the tools that are asked for, ask again, until the model answers.\"\"\"
    messages = list(body["messages"])
    for turn in range(most_turns):
        last = {"tool_choice": {"type": "none"}} if turn == most_turns - 1 and "tools" in body else {}
        reply = await client.messages.create(**{**body, **last, "messages": messages})
        uses = [block for block in reply.content if block.type == "tool_use"]
        if not uses:
            break
        results = $results
        told = [{"type": "tool_result", "tool_use_id": use.id, "content": result} for use, result in zip(uses, results)]
        messages += [{"role": "assistant", "content": reply.content}, {"role": "user", "content": told}]
    return "".join(block.text for block in reply.content if block.type == "text")

"""
TOOLS_AT_ONCE = "await asyncio.gather(*(run_tool(use.name, use.input) for use in uses))"
TOOLS_IN_TURN = "[await run_tool(use.name, use.input) for use in uses]"


def _agent(knobs: Knobs, in_turn: bool = False) -> str:
    seconds, turns = getattr(knobs, "service_ms", 300) / 1000, getattr(knobs, "steps", 8)
    return _filled(
        AGENT, seconds=seconds, turns=turns, results=TOOLS_IN_TURN if in_turn else TOOLS_AT_ONCE
    )


def _loop(arm: str, asked: list[Asked], knobs: Knobs) -> str:
    in_turn = arm == "sequential tools"
    return (
        _head(asynchronous=True)
        + _agent(knobs, in_turn)
        + "\n"
        + _literal("body", asked[0].body)
        + "print(asyncio.run(ask(body)))\n"
    )


TOGETHER = """

async def main():
    gate = asyncio.Semaphore($most)

    async def ask(body):
        async with gate:
            return await client.messages.create(**body)

    for message in await asyncio.gather(*(ask(body) for body in bodies)):
        print("".join(block.text for block in message.content if block.type == "text"))


asyncio.run(main())
"""
AFTER_FIRST = """

async def main():
    \"\"\"The others start when the first response begins: from then on they find its prefix in the cache.\"\"\"
    async with client.messages.stream(**bodies[0]) as first:
        rest = [asyncio.create_task(client.messages.create(**body)) for body in bodies[1:]]
        messages = [await first.get_final_message(), *await asyncio.gather(*rest)]
    for message in messages:
        print("".join(block.text for block in message.content if block.type == "text"), message.usage.cache_read_input_tokens)


asyncio.run(main())
"""


def _at_once(arm: str, asked: list[Asked], knobs: Knobs) -> str:
    text = (
        AFTER_FIRST
        if arm.startswith("after")
        else _filled(TOGETHER, most=getattr(knobs, "concurrency", len(asked)))
    )
    return (
        _head(asynchronous=True)
        + "\n"
        + _literal("bodies", [request.body for request in asked])
        + text
    )


ROUTE = """
choice = client.messages.create(**classify)  # its system prompt is cached from the second request on
word = json.loads(choice.content[0].text)["difficulty"]
body["model"] = $small if word == "easy" else $large
"""


def _router(asked: list[Asked], large: str) -> str:
    decides, answers = next(r for r in asked if r.role == "classify"), asked[-1]
    bodies = _literal("classify", decides.body) + "\n" + _literal("body", answers.body)
    return (
        _head("json")
        + "\n"
        + bodies
        + _filled(ROUTE, small=repr(decides.body["model"]), large=repr(large))
        + _filled(SHOW, name="body")
    )


CASCADE = """
draft = client.messages.create(**body)
text = "".join(block.text for block in draft.content if block.type == "text")
if draft.stop_reason != "end_turn" or not text.strip():  # cut or empty: the large model answers
    draft = client.messages.create(**{**body, "model": $large})
    text = "".join(block.text for block in draft.content if block.type == "text")
print(text)
"""
DOUBT = """
draft = client.messages.create(**body)
text = "".join(block.text for block in draft.content if block.type == "text")
check["messages"] = [{"role": "user", "content": $question + text + "\\n\\nIs this answer surely right?"}]
sure = json.loads(client.messages.create(**check).content[0].text)["sure"]
if draft.stop_reason != "end_turn" or sure != "yes":  # the large model answers
    draft = client.messages.create(**{**body, "model": $large})
    text = "".join(block.text for block in draft.content if block.type == "text")
print(text)
"""


def _cascade(asked: list[Asked], large: str) -> str:
    check = next((request.body for request in asked if request.role == "check"), None)
    if check is None:
        return (
            _head() + "\n" + _literal("body", asked[0].body) + _filled(CASCADE, large=repr(large))
        )
    question = check["messages"][0]["content"].partition("Answer:\n")[0] + "Answer:\n"
    bodies = _literal("body", asked[0].body) + _literal("check", {**check, "messages": []})
    return (
        _head("json") + "\n" + bodies + _filled(DOUBT, large=repr(large), question=repr(question))
    )


TEAM_AT_ONCE = """

async def main():
    planned = await client.messages.create(**plan)
    order = json.loads(planned.content[0].text)["order"]
    names = sorted(workers, key=lambda name: order.index(name) if name in order else len(order))
    reports = await asyncio.gather(*(ask(workers[name]) for name in names))
    told = "\\n".join(f"{name}: {report}" for name, report in zip(names, reports))
    join["messages"] = [{"role": "user", "content": $lead + told}]
    print(await ask(join))


asyncio.run(main())
"""
TEAM_IN_TURN = """

async def main():
    told = ""
    for name, body in workers.items():
        if told:
            body["messages"][0]["content"] += "\\n\\nReports so far:\\n" + told
        told += f"{name}: {await ask(body)}\\n"
    join["messages"] = [{"role": "user", "content": $lead + told}]
    print(await ask(join))


asyncio.run(main())
"""


def _team(asked: list[Asked], knobs: Knobs) -> str:
    workers: dict[str, Any] = {}
    for request in asked:
        if request.role == "worker" and request.name not in workers:
            messages = [
                {
                    "role": "user",
                    "content": request.body["messages"][0]["content"].partition(
                        "\n\nReports so far:\n"
                    )[0],
                }
            ]
            workers[request.name or "worker"] = {**request.body, "messages": messages}
    last = asked[-1].body
    lead = last["messages"][0]["content"].partition("Reports:\n")[0] + "Reports:\n"
    plan = next((request.body for request in asked if request.role == "plan"), None)
    bodies = (
        (_literal("plan", plan) if plan else "")
        + _literal("workers", workers)
        + _literal("join", {**last, "messages": []})
    )
    head = _head(*(("json",) if plan else ()), asynchronous=True)
    return (
        head
        + _agent(knobs)
        + "\n"
        + bodies
        + _filled(TEAM_AT_ONCE if plan else TEAM_IN_TURN, lead=repr(lead))
    )
