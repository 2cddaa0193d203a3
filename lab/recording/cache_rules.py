"""The API's rules of prompt caching as its documentation states them
(platform.claude.com/docs/en/build-with-claude/prompt-caching, read 2026-11-26)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab import endpoint_kinds
from lab.pricing import family

LOOKBACK = 20
"""Blocks that a breakpoint looks back, itself counted first."""
MOST_BREAKPOINTS = 4
TTL_MS = {"5m": 300_000.0, "1h": 3_600_000.0}
"""From the start of the request that last wrote or read it."""
SLACK = 16
"""Tokens that two counts of one prefix may differ by: a chat template's."""
MINIMUMS = {
    "claude-fable-5": 512,
    "claude-fable-5-1": 512,
    "claude-mythos-5": 512,
    "claude-mythos-5-1": 512,
    "claude-opus-5-5": 512,
    "claude-opus-5": 512,
    "claude-sonnet-5-5": 512,
    "claude-haiku-5-5": 512,
    "claude-opus-4-8": 1024,
    "claude-sonnet-5": 1024,
    "claude-sonnet-4-6": 1024,
    "claude-sonnet-4-5": 1024,
    "claude-opus-4-1": 1024,
    "claude-opus-4": 1024,
    "claude-sonnet-4": 1024,
    "claude-opus-4-7": 2048,
    "claude-mythos-preview": 2048,
    "claude-3-5-haiku": 2048,
    "claude-opus-4-6": 4096,
    "claude-opus-4-5": 4096,
    "claude-haiku-4-5": 4096,
}
"""Tokens of the shortest prefix that is cached. A model that is not listed is not guessed: the
minimum follows neither age nor size."""
OWN_MINIMUM = 256
"""Of the lab's own servers (lab.local)."""
LONGEST_MINIMUM = max(MINIMUMS.values())
"""Whatever the model, a prefix of so many tokens is cached."""
MEDIUM_EFFORT = ("claude-opus-5-5", "claude-haiku-5-5")
"""Whose effort is medium where a request says none; of all others it is high."""


def minimum(model: str, kind: str | None) -> int | None:
    """None where it is not known."""
    if endpoint_kinds.kind(kind).own_server:
        return OWN_MINIMUM
    return MINIMUMS.get(family(model))


def settings_of_messages(settings: Mapping[str, Any], model: str) -> dict[str, Any]:
    """What a prefix that reaches into the messages is keyed by, beside its blocks; to state a
    default changes nothing."""
    default = "medium" if family(model) in MEDIUM_EFFORT else "high"
    choice = sorted(word for word in _words(settings, "tool_choice") if word != "False")
    thinking = sorted(word for word in _words(settings, "thinking") if word not in DISPLAYS)
    return {
        "tool_choice": choice or ["auto"],
        "thinking": thinking or [UNSAID],
        "effort": settings.get("effort") or default,
        "output_format": settings.get("output_format"),
    }


DISPLAYS = ("omitted", "summarized")
"""How thinking is shown; the documentation says of none that it breaks a cache."""


UNSAID = "not set"


def may_be_one(first: list[str], second: list[str]) -> bool:
    """Whether one says nothing of thinking and the other what may be its model's default."""
    both = [first, second]
    return [UNSAID] in both and (["disabled"] in both or ["adaptive"] in both)


def speed(settings: Mapping[str, Any]) -> str:
    """Counts from the system prompt on."""
    return str(settings.get("speed") or "standard")


def _words(settings: Mapping[str, Any], name: str) -> list[str]:
    return str(settings.get(name) or "").split()
