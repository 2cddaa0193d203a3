"""Served is not asked: the factors of a request that its answer says something of, as asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab import limits

CREATE, CONTINUE = "create", "continue"


def asked(body: Mapping[str, Any]) -> dict[str, str]:
    """What a request asked, by factor; one that it left open, or wrote as no text, is not there."""
    config, thinking, thread = (
        body[name] if isinstance(body.get(name), Mapping) else {}
        for name in ("output_config", "thinking", "thread")
    )
    factors = {
        "model": body.get("model"),
        "speed": body.get("speed"),
        "service_tier": body.get("service_tier"),
        "effort": config.get("effort"),
        "thinking": thinking.get("type"),
        "thread": thread.get("type"),
    }
    return {
        name: value[: limits.WORD_CHARACTERS]
        for name, value in factors.items()
        if isinstance(value, str) and value
    }


def thread_id(
    body: Mapping[str, Any], message_id: str | None, opened: Mapping[str, str]
) -> str | None:
    """The message that opened the thread which a call opened or continued; None without a thread.

    The API names a thread by its messages alone: `opened` holds, for those that are known, which
    one was the first.
    """
    thread = body.get("thread")
    kind = thread.get("type") if isinstance(thread, Mapping) else None
    if kind == CREATE:
        return message_id
    if kind == CONTINUE and isinstance(before := thread.get("previous_message_id"), str):
        return opened.get(before, before)[: limits.WORD_CHARACTERS]
    return None
