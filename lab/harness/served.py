"""Served is not asked: model, speed, service tier, effort, thinking and thread of a request against
what its answer says of them.

An endpoint may put another in the place of any of these and say so in a field alone. A factor of
which the answer says nothing is none served otherwise: lab/stats/unconfirmed.py tells of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lab import limits, pricing
from lab.clock import today
from lab.instrumentation.parsing import Reading
from lab.rows import CallRow

OF_CLAUDE = "claude-"


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


def otherwise(row: CallRow, reading: Reading) -> list[str]:
    """In words, each factor that was served otherwise than the row's call asked; none where the
    call failed."""
    if row.error_kind:
        return []
    wanted, reasons = row.asked or {}, []
    served = {
        "model": _served_model(wanted.get("model", ""), row.served_model, reading.lab),
        "speed": row.speed,
        # `auto` takes either tier.
        "service_tier": {"standard": "standard_only"}.get(row.service_tier, row.service_tier),
        # No answer of the API's says it; those of the lab's own servers do.
        "effort": reading.lab.get("effort"),
    }
    words = {"service_tier": "service tier ", "effort": "effort "}
    for name, value in served.items():
        want = wanted.get(name)
        if want and want != "auto" and isinstance(value, str) and value != want:
            reasons.append(f"asked {words.get(name, '')}{want}, served {value}")
    if wanted.get("thinking") == "disabled" and _thought(row, reading):
        reasons.append("asked not to think, and it thought")
    return reasons


def _served_model(wanted: str, served: str | None, lab: Mapping[str, Any]) -> str | None:
    """The model that answered, where it is another; the one asked where that is only called
    otherwise, and None where it cannot be told.

    A name may stand for a dated one, as on the API, on Bedrock and on Google's; a gateway may have
    a name of its own for any model.
    """
    if not served or lab.get("asked_model") == wanted:  # our own server's model for an alias
        return None
    own, other = pricing.family(wanted), pricing.family(served)
    # A name without a number may stand for any version; with one it is a model of its own.
    stands_for = not re.search(r"\d", own) and other.startswith(f"{own}-")
    if stands_for or pricing.same_model(wanted, served):
        return wanted
    is_told = lab or all(map(_is_a_models, (own, other)))
    return served if is_told else None


def _is_a_models(name: str) -> bool:
    return name.startswith(OF_CLAUDE) or pricing.price(name, today()) is not None


def _thought(row: CallRow, reading: Reading) -> bool:
    kinds = {block.get("type") for block in reading.content}
    return bool(row.thinking_tokens or kinds & {"thinking", "redacted_thinking"})


class Threads:
    """The threads of a trial. The API names one by its messages alone, and the shape of an answer
    is the same with and without: what tells is how long the prompt was that it counted."""

    def __init__(self) -> None:
        self._opened: dict[str, str] = {}
        """Of each message, the one that opened its thread."""
        self._tokens: dict[str, int] = {}
        """How long the prompt of each was."""

    def take(self, row: CallRow, body: Mapping[str, Any], tokens: int | None) -> str | None:
        """Note a call's thread in its row; in words why it was not the one asked for. `tokens` is
        how long its prompt was, with all that the thread held."""
        kind, before = (row.asked or {}).get("thread"), None
        if kind not in ("create", "continue") or row.error_kind:
            return None
        row.thread_id = row.message_id
        if kind == "continue":
            before = str(body["thread"].get("previous_message_id"))[: limits.WORD_CHARACTERS]
            row.thread_id = self._opened.get(before, before)
        if row.message_id is None:
            return f"asked to {kind} a thread, and no id of the answer came back"
        self._opened[row.message_id] = row.thread_id
        if tokens is not None:
            self._tokens[row.message_id] = tokens
        held = self._tokens.get(before or "")
        is_cleared = "context_management" in body or row.iterations
        if held is None or tokens is None or tokens > held or is_cleared:
            return None
        return "asked to continue a thread, and answered without what it held"
