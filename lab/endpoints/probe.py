"""`endpoints test`: a few tiny calls that show what an endpoint can do, and what they cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2

from lab import pricing
from lab.clock import today
from lab.endpoints import registry
from lab.endpoints.client import open_client
from lab.endpoints.registry import Endpoint
from lab.instrumentation import messages, wire
from lab.instrumentation.messages import Reading
from lab.model import new_id

ASK = [{"role": "user", "content": "Say yes."}]
PREFIX_WORDS = 1800
SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["word"],
    "additionalProperties": False,
}
TOOL = {
    "name": "look",
    "description": "Look at a place.",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}


@dataclass(frozen=True)
class Finding:
    capability: str
    works: bool
    says: str


@dataclass(frozen=True)
class Probed:
    endpoint: Endpoint
    findings: tuple[Finding, ...]
    cost_usd: float | None
    calls: int

    @property
    def works(self) -> bool:
        return self.findings[0].works


@asynccontextmanager
async def _asking(endpoint: Endpoint, seen: list[Reading]) -> AsyncIterator[Any]:
    model = endpoint.models.get("small") or endpoint.model_for(None)
    client = open_client(endpoint, 60)

    async def ask(**changes: Any) -> Reading:
        exchanges: list[wire.Exchange] = []
        token = wire.OBSERVER.set(exchanges.append)
        body = {"model": model, "max_tokens": 16, "messages": ASK, **changes}
        try:
            response = await client.post(
                "/v1/messages", cast_to=httpx2.Response, body=body, stream=True, stream_cls=anthropic.AsyncStream, options={}
            )
            async for _ in response.aiter_raw():
                pass
        except (anthropic.APIError, httpx2.TransportError):
            pass  # the exchange says what happened
        finally:
            wire.OBSERVER.reset(token)
        reading = messages.read(exchanges[0]) if exchanges else Reading(error_kind="connect", error_text="no request left")
        seen.append(reading)
        return reading

    try:
        yield ask
    finally:
        await client.close()


async def probe(endpoint: Endpoint) -> Probed:
    """Seven calls of at most 16–64 tokens each on the small model; stops after the first where not even that works."""
    endpoint = registry.connect(endpoint)
    seen: list[Reading] = []
    async with _asking(endpoint, seen) as ask:
        plain = await ask()
        findings = [
            Finding(
                "answers", plain.error_kind is None, f"{plain.error_kind}: {plain.error_text}" if plain.error_kind else "a whole answer"
            )
        ]
        if plain.error_kind is None:
            findings += [await _streaming(ask), _usage(plain), await _structured(ask), await _tools(ask), await _caching(ask)]
    model = endpoint.models.get("small") or endpoint.model_for(None)
    costs = [pricing.cost_usd(model, reading.usage, today()) for reading in seen if reading.usage]
    paid = None if endpoint.kind != "live" or None in costs else sum(costs)
    return Probed(endpoint, tuple(findings), paid, len(seen))


async def _streaming(ask) -> Finding:
    found = await ask(stream=True, max_tokens=32)
    pieces = [arrival for arrival in found.arrivals if arrival.kind == "text_delta"]
    instants = len({arrival.at_ns for arrival in pieces})
    return Finding(
        "streaming", found.error_kind is None and instants > 1, found.error_kind or f"{len(pieces)} pieces at {instants} instants"
    )


def _usage(found: Reading) -> Finding:
    works = bool(found.usage.get("input_tokens")) and bool(found.usage.get("output_tokens"))
    return Finding("usage", works, f"{found.usage.get('input_tokens')} tokens in, {found.usage.get('output_tokens')} out")


async def _structured(ask) -> Finding:
    found = await ask(max_tokens=64, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    text = found.text.strip()
    return Finding("structured", found.error_kind is None and text.startswith("{") and '"word"' in text, found.error_text or text[:60])


async def _tools(ask) -> Finding:
    found = await ask(max_tokens=64, tools=[TOOL], messages=[{"role": "user", "content": "Look at the harbour. Use the tool."}])
    used = [block for block in found.content if block.get("type") == "tool_use"]
    return Finding("tools", bool(used), found.error_text or (f"called {used[0]['name']}" if used else "no tool was called"))


async def _caching(ask) -> Finding:
    prefix = f"{new_id()} " + "river stone lantern meadow " * (PREFIX_WORDS // 4)
    system = [{"type": "text", "text": prefix, "cache_control": {"type": "ephemeral"}}]
    first = await ask(system=system, max_tokens=1)
    second = await ask(system=system, max_tokens=1)
    written, read = first.usage.get("cache_creation_input_tokens"), second.usage.get("cache_read_input_tokens")
    return Finding("caching", bool(read), first.error_text or f"{written or 0} tokens written, then {read or 0} read")
