"""`endpoints test NAME`: a few tiny calls that tell what an endpoint supports, and what they cost."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

from lab import scrub
from lab.cli import DONE, FAILED
from lab.model import LabError

ASK = [{"role": "user", "content": "Reply with the word ready."}]
CHECK_S = 60
"""A check ends then, however slowly its answer still arrives."""
MOST_READ = 100_000
PREFIX_WORDS = 5_000
"""Longer than every published minimum of a cacheable prefix; on the lab's own servers, whose minimum is 256 tokens, a tenth of it."""
SCHEMA = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "required": ["ready"], "additionalProperties": False}
TOOL = {
    "name": "clock",
    "description": "Tells the time in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def run(name: str | None, model: str | None, as_json: bool) -> int:
    from lab.cli import machine
    from lab.endpoints import registry

    if not name:
        raise LabError(f"Which endpoint? python main.py endpoints test NAME, with one of {', '.join(registry.names())} or a base URL.")
    machine.typed(name)
    endpoint = registry.connect(registry.find(name, {"any": model} if model else None))
    chosen = endpoint.model_for("small")
    found = asyncio.run(_probe(endpoint, chosen))
    reached = any(row["supported"] for row in found["checks"])
    if as_json:
        print(
            json.dumps(
                {"version": 1, "endpoint": endpoint.name, "endpoint_kind": endpoint.kind, "model": chosen, **found}, ensure_ascii=False
            )
        )
    else:
        print(f"{endpoint.name} ({endpoint.kind}) with {chosen}")
        for row in found["checks"]:
            print(f"  {'yes' if row['supported'] else 'no ':<4} {row['check']:<18} {row['seen']}")
        print(f"  cost: {_money(found['cost_usd'])} for {found['calls']} calls")
    return DONE if reached else FAILED


def _money(value: float | None) -> str:
    from lab.figures import format as written

    return "no price known" if value is None else written.usd(value)


def _cost(model: str, usage: dict[str, Any]) -> float | None:
    from lab import clock, pricing

    try:
        return pricing.cost_usd(model, usage, clock.today())
    except (ArithmeticError, LookupError, TypeError, ValueError):  # counts that are no numbers
        return None


async def _probe(endpoint: Any, model: str) -> dict[str, Any]:
    from lab.endpoints.client import open_client

    client = open_client(endpoint, timeout_s=60)
    usages, checks = [], []

    async def ask(**more: Any) -> Any:
        message = await client.messages.create(**{"model": model, "max_tokens": 16, "messages": ASK, **more})
        usages.append(message.usage.model_dump(exclude_none=True))
        return message

    async def check(name: str, attempt: Any) -> None:
        try:
            async with asyncio.timeout(CHECK_S):
                supported, seen = await attempt()
        except Exception as error:  # whatever an unknown server answers is the finding, not a fault of the lab
            supported, seen = False, f"{type(error).__name__}: {str(error)[:MOST_READ].partition(chr(10))[0]}"
        checks.append({"check": name, "supported": supported, "seen": scrub.text(" ".join(seen.split()), 160)})

    async def usage() -> tuple[bool, str]:
        counted = (await ask()).usage
        return bool(counted.input_tokens and counted.output_tokens), f"{counted.input_tokens} tokens in, {counted.output_tokens} out"

    async def streaming() -> tuple[bool, str]:
        kinds: list[str] = []
        used: dict[str, Any] = {}
        async for event in await client.messages.create(model=model, max_tokens=16, messages=ASK, stream=True):
            kinds.append(event.type)
            if counted := getattr(getattr(event, "message", event), "usage", None):
                used |= counted.model_dump(exclude_none=True)
        usages.append(used)
        return "message_stop" in kinds and "content_block_delta" in kinds, f"{kinds.count('content_block_delta')} pieces of text"

    async def caching() -> tuple[bool, str]:
        words = PREFIX_WORDS if endpoint.kind == "live" else PREFIX_WORDS // 10
        text = f"{secrets.token_hex(8)} " + "harbour " * words
        prefix = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
        wrote, read = (await ask(system=prefix)).usage, (await ask(system=prefix)).usage
        seen = f"{wrote.cache_creation_input_tokens or 0} tokens written, then {read.cache_read_input_tokens or 0} read"
        return bool(read.cache_read_input_tokens), seen

    async def structured() -> tuple[bool, str]:
        message = await ask(max_tokens=64, extra_body={"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}})
        text = "".join(block.text for block in message.content if block.type == "text")
        return isinstance(json.loads(text).get("ready"), bool), " ".join(text.split())[:60]

    async def tools() -> tuple[bool, str]:
        message = await ask(max_tokens=128, tools=[TOOL], messages=[{"role": "user", "content": "Use the tool: what is the time in Oslo?"}])
        used = [block.name for block in message.content if block.type == "tool_use"]
        return bool(used), f"asked for {', '.join(used)}" if used else f"no tool asked for (stop_reason {message.stop_reason})"

    try:
        for name, attempt in (
            ("usage", usage),
            ("streaming", streaming),
            ("caching", caching),
            ("structured output", structured),
            ("tools", tools),
        ):
            await check(name, attempt)
            if not usages:
                break  # not even a plain answer: a wrong key or a wrong address fails everything else alike
    finally:
        await client.close()
    costs = [_cost(model, used) for used in usages]
    known = [cost for cost in costs if cost is not None]
    return {"checks": checks, "calls": len(usages), "cost_usd": sum(known) if known else None}
