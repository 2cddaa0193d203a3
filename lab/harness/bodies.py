"""A request's body as it is sent: what the lab adds to what a technique asks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lab.endpoints.registry import Endpoint
from lab.model import Request, Technique
from lab.scenarios.definitions import Task


def completed(request: Request, endpoint: Endpoint, brief: bool) -> dict[str, Any]:
    """The body as it is sent, but for the trial's nonce and `stream`."""
    model = request.model or endpoint.model_for(request.tier)
    body = {"model": model, **request.body}
    if brief and "thinking" not in body and (thinking := endpoint.thinking_off(model)):
        body["thinking"] = thinking
    return body


def headers_sent(request: Request, betas: str, own_server: bool) -> dict[str, str]:
    """A request's own headers, and the task's betas beside those of the arm. What is said to the
    lab's own servers alone is no other's business."""
    headers = {n: v for n, v in request.headers.items() if own_server or not n.startswith("x-lab-")}
    if betas:
        words = f"{betas},{headers.get('anthropic-beta', '')}".replace(" ", "").split(",")
        headers["anthropic-beta"] = ",".join(dict.fromkeys(filter(None, words)))
    return headers


def is_brief(technique: Technique, task: Task, endpoint: Endpoint) -> bool:
    """Whether models are told not to think first: it would eat the few tokens that the lab's own
    short tasks allow. What the user wrote is sent as it is."""
    return endpoint.traits.priced and task.origin == "built-in" and not technique.own_text


def nonce_for(run_id: str, block: int, arm: str, attempt: int) -> str:
    """A prefix of fixed length, alike in all arms, that no other trial ever had: a rerun must not
    find the last run's cache."""
    digest = hashlib.sha256(f"{run_id}:{block}:{arm}:{attempt}".encode()).digest()
    return f"[trial {int.from_bytes(digest[:8]) % 10**16:016d}] "


def with_nonce(body: Mapping[str, Any], nonce: str) -> dict[str, Any]:
    """The body with the nonce where its prefix begins: in the first own tool's description, if
    there are any, and in the system text. What continues a thread brings neither: its prefix is the
    thread's."""
    body = dict(body)
    if object_in(body.get("thread")).get("type") == "continue":
        return body
    tools = list(body.get("tools") or ())
    for place, tool in enumerate(tools):
        # The server's own tools, such as its search, take no description.
        if tool.get("type") in (None, "custom"):
            tools[place] = {**tool, "description": nonce + tool.get("description", "")}
            body["tools"] = tools
            break
    system = body.get("system")
    if isinstance(system, list) and system and system[0].get("type") == "text":
        body["system"] = [{**system[0], "text": nonce + system[0]["text"]}, *system[1:]]
    elif isinstance(system, list):
        body["system"] = [{"type": "text", "text": nonce.strip()}, *system]
    else:
        body["system"] = nonce + system if system else nonce.strip()
    return body


def marks_cache(body: Mapping[str, Any]) -> bool:
    """Whether a body asks for caching by itself, as a user's may: the lab then records the state
    without having meant one."""
    return '"cache_control"' in json.dumps(body, default=str)


def object_in(value: Any) -> Mapping[str, Any]:
    """Itself, or an empty one: a body of the user's own may hold anything."""
    return value if isinstance(value, Mapping) else {}
