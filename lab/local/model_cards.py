"""The cards of /v1/models: what each model here can do, said in the API's words, so that no client
assumes a current Claude."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from lab.local.engine import Abilities
from lab.local.messages_api import ApiError, Prompt, unsupported
from lab.model import Effort

MOST_A_PAGE = 1000
ALIASED = "claude-"


def card(name: str, abilities: Abilities, alias: str) -> dict[str, Any]:
    """The card of a model that a request calls `alias`, which may be its own name."""

    def can(supported: bool, **parts: bool) -> dict[str, Any]:
        return {"supported": supported, **{part: can(able) for part, able in parts.items()}}

    title = name
    if alias != name:
        title += f", which stands in for {alias}: no Claude answers here"
    thinks, effort = abilities.thinking, abilities.effort
    types = can(thinks, adaptive=thinks, enabled=thinks, between_tools=thinks, disabled=True)
    del types["supported"]
    return {
        "type": "model",
        "id": name,
        "display_name": title,
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "max_input_tokens": abilities.input_tokens,
        "max_tokens": abilities.output_tokens,
        "capabilities": {
            "batch": can(abilities.batches),
            "citations": can(False),
            "code_execution": can(False),
            "context_management": can(
                True,
                clear_thinking_20251015=thinks,
                clear_tool_uses_20250919=True,
                compact_20260112=False,
            ),
            "effort": can(effort, **dict.fromkeys(get_args(Effort), effort)),
            "image_input": can(False),
            "pdf_input": can(False),
            "server_tools": can(False, code_execution=False, web_search=False),
            "structured_outputs": can(True),
            "thinking": {**can(thinks), "types": types},
        },
    }


def refuse(prompt: Prompt, abilities: Abilities) -> None:
    """Raise the API's own 400 for what the card denies."""
    thinking = prompt.thinking.type if prompt.thinking else "disabled"
    if thinking != "disabled" and not abilities.thinking:
        message = f'"thinking.type.{thinking}" is not supported for this model.'
        if thinking == "adaptive":
            message = "adaptive thinking is not supported on this model"
        raise unsupported("thinking", message)
    if prompt.effort and not abilities.effort:
        message = "This model does not support the effort parameter."
        raise unsupported("output_config.effort", message)
    if prompt.speed == "fast" and not abilities.fast:
        raise unsupported("speed", 'speed: "fast" is not supported for this model.')


def page(items: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """One page of a list, by the API's limit, after_id and before_id."""
    try:
        limit = int(query.get("limit", "20"))
    except ValueError:
        limit = 0
    if not 1 <= limit <= MOST_A_PAGE:
        raise ApiError(400, f"limit: Input should be a whole number from 1 to {MOST_A_PAGE}")
    ids = [item["id"] for item in items]
    first, last = 0, len(ids)
    backwards = "before_id" in query and "after_id" not in query
    for name in ("after_id", "before_id"):
        if name in query and query[name] not in ids:
            raise ApiError(400, f"{name}: there is no {query[name]!r:.80} in this list")
    if "before_id" in query:
        last = ids.index(query["before_id"])
    if "after_id" in query:
        first = ids.index(query["after_id"]) + 1
    if backwards:
        first = max(0, last - limit)
    shown = items[first:last][:limit]
    return {
        "data": shown,
        "has_more": first > 0 if backwards else first + limit < last,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }
