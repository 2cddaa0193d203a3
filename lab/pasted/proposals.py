"""What to compare a body with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any


def streamed(body: Mapping[str, Any]) -> dict[str, Any]:
    return {**body, "stream": True}


def smaller(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    return {**body, "model": model}


def cached(body: Mapping[str, Any]) -> dict[str, Any]:
    """With a mark where what repeats from request to request ends: after the system text, else the
    tools, else all turns but the last; sent once beforehand (`primed`), so that it is read."""
    body = json.loads(json.dumps(body))
    mark = {"cache_control": {"type": "ephemeral"}}
    system, tools, turns = (body.get(name) for name in ("system", "tools", "messages"))
    if isinstance(system, str) and system:
        body["system"] = [{"type": "text", "text": system, **mark}]
    elif isinstance(system, list) and system:
        system[-1] |= mark
    elif isinstance(tools, list) and tools:
        tools[-1] |= mark
    elif isinstance(turns, list) and turns:
        turn = turns[-2] if len(turns) > 1 else turns[-1]
        content = turn.get("content")
        if isinstance(content, str):
            turn["content"] = [{"type": "text", "text": content, **mark}]
        elif content:
            content[-1 if len(turns) > 1 else max(-2, -len(content))] |= mark
    return {**body, "primed": True}


STREAMED, CACHED, SMALLER = "itself streamed", "itself cached", "smaller model"
PROPOSALS: dict[str, Callable[..., dict[str, Any]]] = {
    STREAMED: streamed,
    CACHED: cached,
    SMALLER: smaller,
}
