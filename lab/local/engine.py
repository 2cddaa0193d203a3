"""The small contract between the server and an engine: a job goes in, timed pieces of a reply come
out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from lab.local.ledger import Ledger, Plan
from lab.local.messages_api import Body, Prompt, new_id


class Begun(NamedTuple):
    """The prompt has been read: headers go out, and the ledger's writes become readable, each with
    its (snapshot, size)."""

    snapshots: list[tuple[Any, int]]
    usage: dict[str, Any] = {}  # noqa: RUF012
    """Overrides of the counts, from a scripted play."""


class Started(NamedTuple):
    """message_start goes out."""


class Grew(NamedTuple):
    """One delta of the open block, as the API writes it (text_delta, input_json_delta,
    thinking_delta, signature_delta)."""

    delta: dict[str, Any]


class Opened(NamedTuple):
    block: dict[str, Any]

    def grown(self, text: str) -> Grew:
        kind, field = DELTAS[self.block["type"]]
        return Grew({"type": kind, field: text})


DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}


def text_block() -> Opened:
    return Opened({"type": "text", "text": ""})


def tool_block(name: str) -> Opened:
    return Opened({"type": "tool_use", "id": new_id("toolu"), "name": name, "input": {}})


class Closed(NamedTuple):
    pass


class Ended(NamedTuple):
    stop_reason: str
    output_tokens: int
    lab: dict[str, Any]
    stop_sequence: str | None = None
    thinking_tokens: int = 0
    message_stop: bool = True
    """False only for the fault that leaves the last event out."""


Piece = Begun | Started | Opened | Grew | Closed | Ended


def timings(
    queue_ms: float, prefill_ms: float, decode_ms: float, cached_tokens: int
) -> dict[str, Any]:
    """What the engine says of its own time: `lab` of Ended."""
    return {
        "queue_ms": queue_ms,
        "prefill_ms": prefill_ms,
        "decode_ms": decode_ms,
        "cached_tokens": cached_tokens,
    }


class Cut(Exception):
    """The connection is to be dropped here: a fault that was asked for."""


class Counted(NamedTuple):
    """A prompt in tokens: up to the end of each block, and with all that the chat template adds
    behind them."""

    ends: list[int]
    total: int
    tokens: list[int]
    """Token ids; empty where the engine has none."""


@dataclass
class Job:
    """One request on its way. `every_tool`: the reply uses all the tools that it may; `betas`: what
    its header anthropic-beta names."""

    body: Body
    counted: Counted
    plan: Plan
    received_ns: int
    raw: bytes
    every_tool: bool = False
    betas: frozenset[str] = frozenset()


class Abilities(NamedTuple):
    """What an engine's models can do; a request for anything else is refused."""

    input_tokens: int
    output_tokens: int
    thinking: bool = False
    effort: bool = False
    fast: bool = False
    batches: bool = False


class Engine(Protocol):
    kind: str
    tiers: dict[str, str]
    abilities: Abilities
    ledger: Ledger

    def names(self) -> list[str]: ...

    async def warm(self, model: str) -> None: ...

    def check(self, prompt: Prompt) -> None:
        """Raise ApiError 400 for a field that this engine cannot honour."""

    async def count(self, prompt: Prompt) -> Counted: ...

    def answer(self, job: Job) -> AsyncIterator[Piece]: ...

    def close(self) -> None: ...
