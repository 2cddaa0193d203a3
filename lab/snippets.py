"""The requests an arm makes, and Python that makes them outside the lab: what a reader takes away once a technique has shown its worth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pprint import pformat
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


@dataclass
class _Rehearsal:
    """A bench without an endpoint: it notes each request and answers in the shape that was asked for."""

    models: Mapping[Tier, str]
    generates: Tier
    capabilities: frozenset[str]
    asked: list[Asked] = field(default_factory=list)
    nonce: str = ""

    async def call(self, request: Request, role: Role = "answer", name: str | None = None, begun: asyncio.Event | None = None) -> Reply:
        model = request.model or self.models.get(request.tier or self.generates) or next(iter(self.models.values()))
        self.asked.append(Asked(role, request.stream, {"model": model, **json.loads(json.dumps(request.body))}))
        if begun:
            begun.set()
        await asyncio.sleep(0)
        content = _answer(request.body)
        stop = "tool_use" if any(block["type"] == "tool_use" for block in content) else "end_turn"
        return Reply(call_id=f"rehearsed-{len(self.asked)}", content=tuple(content), stop_reason=stop, usage={"output_tokens": 1})

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
    technique: Technique, arm: str, knobs: Knobs, task: Any, models: Mapping[Tier, str], generates: Tier, capabilities: frozenset[str]
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
    offered = [] if answered else [tool for tool in body.get("tools") or [] if "input_schema" in tool]
    if (body.get("tool_choice") or {}).get("disable_parallel_tool_use"):
        offered = offered[:1]
    uses = [
        {"type": "tool_use", "id": f"toolu_{n}", "name": tool["name"], "input": _instance(tool["input_schema"])}
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
    return {"integer": int(schema.get("minimum", 1)), "number": float(schema.get("minimum", 1)), "boolean": True, "null": None}.get(
        kind, "Paris"
    )


HEAD = """import anthropic

client = anthropic.Anthropic()  # reads ANTHROPIC_API_KEY and, where it is set, ANTHROPIC_BASE_URL
"""


def python(technique: str, arm: str, asked: list[Asked]) -> str:
    """A script that makes the arm's requests in the arm's own way; it needs nothing but the anthropic package."""
    return HEAD + "\n" + "\n".join(_one(n, request) for n, request in enumerate(asked, 1))


def _one(number: int, request: Asked) -> str:
    name = "body" if number == 1 else f"body_{number}"
    lines = [f"{name} = {pformat(request.body, width=100, sort_dicts=False)}"]
    if request.stream:
        lines += [
            f"with client.messages.stream(**{name}) as stream:",
            "    for text in stream.text_stream:",
            '        print(text, end="", flush=True)',
            "print()",
        ]
    else:
        lines += [f"message = client.messages.create(**{name})", "print(message.content, message.usage)"]
    return "\n".join(lines) + "\n"
