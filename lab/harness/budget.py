"""What a run may cost, and what of it is spent: one sum, kept call by call, in which nothing that
may have been billed is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab import endpoint_kinds, pricing, units
from lab.clock import today
from lab.harness.bodies import object_in
from lab.instrumentation.parsing import Reading
from lab.model import EndpointKind

NONCE_TOKENS, SCHEMA_TOKENS, TOOLS_TOKENS, IMAGE_TOKENS = 40, 300, 600, 5_000
"""What a prompt has beside its text: the lab's nonce, what the API adds for a schema and for tools,
and an image at its largest."""
COUNTED = (
    "counted_usd",
    "cost_usd",
    "model",
    "served_model",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "iterations",
    "speed",
    "service_tier",
    "inference_geo",
)
"""The columns of `calls` that stored_usd reads."""
MOST_TOKENS = 10_000_000
"""No answer is longer, whatever a body allows."""
CLIENT_TOOLS = ("bash_", "computer_", "memory_", "text_editor_")
"""Tools that the API defines and the caller runs: they cost what is written in the prompt."""


@dataclass
class Budget:
    """`usd` is the most that a run may cost, None where nothing limits it; `spent_usd` counts every
    call of all its sessions."""

    usd: float | None
    spent_usd: float = 0.0
    flag: str = "--max-usd"
    """That names a further sum."""

    @property
    def is_reached(self) -> bool:
        return self.usd is not None and self.spent_usd >= self.usd

    @property
    def text(self) -> str:
        return f"The budget of {units.usd(self.usd)} is reached: {self.left}"

    @property
    def left(self) -> str:
        return (
            f"${self.spent_usd:.4f} of {units.usd(self.usd)} spent. "
            f"To go on, name a further sum with {self.flag}."
        )


class BudgetReached(Exception):
    """A call that is not made, since the run may spend no more."""


def counted_usd(kind: EndpointKind, model: str, usage: Mapping[str, Any]) -> float:
    """What a budget counts for a usage: its price; where it has none, the dearest listed one if the
    endpoint costs money, else nothing."""
    traits = endpoint_kinds.kind(kind)
    if not traits.has_prices or not usage:
        return 0.0
    cost = pricing.cost_usd(model, usage, today())
    if cost is None and traits.priced:
        return pricing.ceiling_usd(model, usage, today())
    return cost or 0.0


def billable(
    reading: Reading, body: Mapping[str, Any], status: int | None, sent: bool
) -> dict[str, Any]:
    """The usage that a budget counts for a call: as it was reported, at the speed and in the place
    that were asked where it does not name its own; where an answer was cut short, or told no
    counts, its longest.

    Empty for a request that was refused or never sent.
    """
    if not sent or (status or 200) >= 300:
        return {}
    usage = modes(body) | reading.usage
    whole = reading.stop_reason is not None or reading.error_kind is None
    if usage.get("input_tokens") is None:
        usage["input_tokens"] = prompt_tokens(body)
    if not whole or usage.get("output_tokens") is None:
        usage["output_tokens"] = max(usage.get("output_tokens") or 0, most_tokens(body))
        if listed := usage.get("iterations"):
            # What it lists of the answer itself is not its longest: the counts at the top stand in
            # for it.
            usage["iterations"] = [
                part for part in listed if part.get("type") not in pricing.ANSWERING
            ]
    return usage


def stored_usd(kind: EndpointKind, calls: Iterable[Mapping[str, Any]]) -> float:
    """The same of rows of `calls` (COUNTED): as it was counted; of rows from before that was kept,
    by the tokens they report."""
    return sum(max(0.0, _stored(kind, row)) for row in calls)


def _stored(kind: EndpointKind, row: Mapping[str, Any]) -> float:
    if (usd := row["cost_usd"] if row["counted_usd"] is None else row["counted_usd"]) is not None:
        return usd if usd < math.inf else 0.0
    usage = pricing.usage_of(row)
    known = usage["input_tokens"] is not None or usage["output_tokens"] is not None
    name = pricing.priced_as(row["model"], row["served_model"], today())
    return counted_usd(kind, name, usage) if known else 0.0


def at_most_usd(kind: EndpointKind, model: str, body: Mapping[str, Any]) -> float:
    """The most that a request can be billed for what is in it: its whole prompt as the dearest kind
    of input, its answer at its longest.

    What the server adds by itself is beyond it, see `unbounded`. A retry follows only what was
    refused or not answered: it costs nothing.
    """
    prompt, text = prompt_tokens(body), json.dumps(body, default=str)
    hour = '"1h"' in text
    written = (
        {f"ephemeral_{'1h' if hour else '5m'}_input_tokens": prompt}
        if '"cache_control"' in text
        else {}
    )
    usage = modes(body) | {
        "input_tokens": 0 if written else prompt,
        "output_tokens": most_tokens(body),
        "cache_creation": written,
    }
    others = [entry.get("model") for entry in _objects(body.get("fallbacks"))]
    return max(counted_usd(kind, name, usage) for name in (model, *filter(None, others)))


def modes(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a request asks for that its whole usage is dearer by."""
    return {name: body[name] for name in ("speed", "inference_geo") if name in body}


def unbounded(body: Mapping[str, Any]) -> list[str]:
    """What a request lets the server add to its bill, of which no prompt shows the size."""
    named = [
        str(tool.get("name") or tool["type"])
        for tool in _objects(body.get("tools"))
        if str(tool.get("type") or "custom") != "custom"
        and not str(tool["type"]).startswith(CLIENT_TOOLS)
    ]
    edits = _objects(object_in(body.get("context_management")).get("edits"))
    blocks = [block.get("type") for block in _blocks(body)]
    others = {
        "compaction": body.get("compaction")
        or any("compact" in str(edit.get("type")) for edit in edits),
        "MCP servers": body.get("mcp_servers"),
        "earlier turns of the thread": body.get("thread"),
        "a fallback model": isinstance(body.get("fallbacks"), str),
        "documents": "document" in blocks or "container_upload" in blocks,
    }
    return list(dict.fromkeys([*named, *(word for word, holds in others.items() if holds)]))


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """No fewer tokens than a prompt of words, code or JSON has: one for two ASCII characters, and
    one for each byte of all others.

    English has three to four characters a token, code and JSON two to three.
    """
    images = sum(block.get("type") == "image" for block in _blocks(body))
    parts = {
        name: body[name]
        for name in ("system", "tools", "messages", "output_config")
        if body.get(name)
    }
    text = json.dumps(parts, ensure_ascii=False, default=str)
    plain = len(text.encode("ascii", "ignore"))
    others = len(text.encode("utf-8", "replace")) - plain
    tokens = plain // 2 + others + NONCE_TOKENS + IMAGE_TOKENS * images
    schema = object_in(body.get("output_config")).get("format")
    return tokens + (TOOLS_TOKENS if body.get("tools") else 0) + (SCHEMA_TOKENS if schema else 0)


def _blocks(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for message in _objects(body.get("messages")):
        yield from _objects(message.get("content"))


def _objects(value: Any) -> list[Mapping[str, Any]]:
    """Those of a list: a body of the user's own may hold anything."""
    entries = value if isinstance(value, (list, tuple)) else ()
    return [entry for entry in entries if isinstance(entry, Mapping)]


def most_tokens(body: Mapping[str, Any]) -> int:
    """The longest answer that a body allows; 0 where its `max_tokens` is no such number."""
    most = body.get("max_tokens")
    return min(most, MOST_TOKENS) if isinstance(most, int) and most > 0 else 0
