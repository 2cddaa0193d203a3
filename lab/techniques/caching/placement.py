"""Where a request marks what is to be cached, as a lever: nowhere, before its question, or wherever
the API puts it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from lab.model import Lever, Request
from lab.scenarios.definitions import CHARACTERS_PER_TOKEN

MARK = {"cache_control": {"type": "ephemeral"}}
ONE_WORD = [{"type": "text", "text": "Answer with one word."}]
FEWEST_TOKENS = 256
"""Of a prefix: no endpoint is known to cache a shorter one."""


def blocks(content: str | list) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def as_json(value) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def place_of(body) -> str:
    """Which part of a body ends where its own question begins."""
    *earlier, last = body["messages"]
    if len(blocks(last["content"])) > 1:
        return "question"
    return "earlier" if earlier else "system" if body.get("system") else "tools"


def marked(body) -> dict[str, Any]:
    """The body with a breakpoint on all that stands before its question."""
    place = place_of(body)
    *earlier, last = body["messages"]
    if place == "question":
        *shared, own = blocks(last["content"])
        content = [*shared[:-1], {**shared[-1], **MARK}, own]
        return {**body, "messages": [*earlier, {**last, "content": content}]}
    if place == "earlier":
        *first, turn = earlier
        *rest, end = blocks(turn["content"])
        turn = {**turn, "content": [*rest, {**end, **MARK}]}
        return {**body, "messages": [*first, turn, last]}
    *rest, end = blocks(body[place])
    return {**body, place: [*rest, {**end, **MARK}]}


def change(request: Request, level, task) -> Request:
    body = {**request.body, **MARK} if level == "automatic" else marked(request.body)
    return replace(request, body=body, intended_cache="read")


def primes(request: Request, level, task) -> tuple[Request, ...]:
    """What somebody asked shortly before: another question about the same, or the turn before."""
    *earlier, last = request.body["messages"]
    if level == "automatic":
        messages = earlier[:-1]
    else:
        content = blocks(last["content"])[:-1] + ONE_WORD
        messages = [*earlier, {**last, "content": content}]
    body = {**request.body, "messages": messages, "max_tokens": 1}
    return (replace(request, body=body, intended_cache="write"),)


def unfit(task, level) -> str | None:
    body = task.body_for(1)
    if '"cache_control"' in as_json(body):
        return "its requests mark the cache themselves"
    last = blocks(body["messages"][-1]["content"])[-1]
    characters = len(as_json(body)) - len(as_json(last))
    if characters / CHARACTERS_PER_TOKEN < FEWEST_TOKENS:
        return f"its prompts have no {FEWEST_TOKENS} tokens before their questions"
    if level == "automatic" and len(body["messages"]) < 3:
        return "its tasks are single questions, and a new question never finds another's entry"
    return None


PLACEMENT = Lever(
    name="cache",
    title="Cache",
    levels=("none", "prefix", "automatic"),
    words={"prefix": "cached prefix", "automatic": "automatic caching"},
    change=change,
    primes=primes,
    needs=("caching",),
    unfit=unfit,
)
