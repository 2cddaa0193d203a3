"""The words of the lab as values: techniques and their arms, requests and replies, and the rows that reach DuckDB.

docs/design.md says what each word means; the row classes have the tables' columns, in the tables' order.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lab import clock

EndpointKind = Literal["live", "local", "simulated"]
Tier = Literal["small", "large"]
Role = Literal["answer", "prime", "classify", "plan", "worker", "tool_turn", "join", "check"]
Cache = Literal["none", "write", "read", "any"]
Outcome = Literal["ok", "failed", "cancelled", "mismatch"]
Phase = Literal["warmup", "measured"]
Status = Literal["running", "finished", "interrupted", "failed"]
SpanKind = Literal["trial", "call", "tool", "route", "join"]


class LabError(Exception):
    """A user's mistake or an obstacle outside the lab: one sentence that says what happened and what to do next."""

    def __str__(self) -> str:
        """On one line, whatever it quotes: a name with a line break in it must not look like two sentences."""
        return "⏎".join(super().__str__().splitlines())


def new_id() -> str:
    """A UUIDv7 (RFC 9562): sorts by creation time and is unique across databases."""
    value = (clock.unix_ms() << 80) | (0x7 << 76) | (secrets.randbits(12) << 64) | (0b10 << 62) | secrets.randbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Knobs(BaseModel):
    """What a user can turn on a technique. One definition makes the CLI's flags, the page's form and the stored settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Arm:
    """One way to do the task. The first arm of a technique is its baseline."""

    name: str
    description: str = ""


@dataclass(frozen=True)
class Technique:
    """A claim about latency and how to test it: one file in lab/techniques exports one of these as TECHNIQUE."""

    slug: str
    title: str
    claim: str
    published: str
    arms: tuple[Arm, ...]
    headline: str
    headline_arm: str
    knobs: type[Knobs]
    trial: Callable[..., Awaitable[str | None]]
    """async (bench, arm name, knobs, task) -> the answer's text, to be checked after the clock has stopped."""
    prepare: Callable[..., Awaitable[None]] | None = None
    """async, same arguments, run before the trial's clock: calls of role `prime` are made here."""
    tiers: tuple[Tier, ...] = ()
    """The model tiers it needs; empty means one model, whichever generates on the endpoint."""
    aliases: tuple[str, ...] = ()
    category: str = "question-answering"
    """The scenario category used where the user names none."""
    notes: Mapping[EndpointKind, str] = field(default_factory=dict)
    """What an endpoint of this kind cannot show; printed with the verdict."""
    select: Callable[[Any], tuple[Arm, ...]] | None = None
    """The arms for given knobs, where the knobs decide (a suite, the user's bodies)."""
    needs: tuple[str, ...] = ()
    """Capabilities without which a run makes no sense on an endpoint: "caching", "tools", "structured"."""

    def arms_for(self, knobs: Knobs) -> tuple[Arm, ...]:
        return self.select(knobs) if self.select else self.arms

    def headline_arm_for(self, knobs: Knobs) -> str:
        names = [arm.name for arm in self.arms_for(knobs)]
        return self.headline_arm if self.headline_arm in names[1:] else names[1]


@dataclass(frozen=True)
class Request:
    """What a trial asks of the endpoint: a Messages API body without `model` and `stream`, which the run adds."""

    body: Mapping[str, Any]
    tier: Tier | None = None
    model: str | None = None
    stream: bool = True
    intended_cache: Cache = "none"
    headers: Mapping[str, str] = field(default_factory=dict)
    endpoint: str | None = None
    """Another endpoint of the same kind, by name or base URL; None is the run's own."""


@dataclass(frozen=True)
class ToolUse:
    id: str
    name: str
    input: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What came back, parsed after the last stamp. `error_kind` is None when the call succeeded."""

    call_id: str
    content: tuple[dict[str, Any], ...] = ()
    stop_reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    error_kind: str | None = None
    error_text: str | None = None

    @property
    def ok(self) -> bool:
        return self.error_kind is None

    @property
    def text(self) -> str:
        return "".join(block.get("text", "") for block in self.content if block.get("type") == "text")

    @property
    def tool_uses(self) -> tuple[ToolUse, ...]:
        return tuple(ToolUse(b["id"], b["name"], b.get("input") or {}) for b in self.content if b.get("type") == "tool_use")


@dataclass(slots=True)
class RunRow:
    run_id: str
    technique: str
    endpoint: str
    endpoint_kind: EndpointKind
    models: dict[str, str]
    settings: dict[str, Any]
    seed: int
    status: Status
    keep_text: bool
    started_utc: datetime
    ended_utc: datetime | None = None
    note: str | None = None
    name: str | None = None
    imported_from: str | None = None
    """None where this lab measured it; else the file that it, or a part of it, came from."""


@dataclass(slots=True)
class SessionRow:
    session_id: str
    run_id: str
    worker: str
    host: str
    started_utc: datetime
    lab_version: str
    commit: str | None
    machine: dict[str, Any]
    instrument: dict[str, Any]


@dataclass(slots=True)
class TrialRow:
    trial_id: str
    run_id: str
    session_id: str
    technique: str
    arm: str
    block: int
    position: int
    attempt: int
    phase: Phase
    task_id: str | None
    started_utc: datetime
    started_ns: int
    ended_ns: int | None = None
    deadline_ms: float | None = None
    outcome: Outcome = "ok"
    error_kind: str | None = None
    error_text: str | None = None
    quality: float | None = None
    cost_usd: float | None = None


@dataclass(slots=True)
class CallRow:
    call_id: str
    trial_id: str
    run_id: str
    session_id: str
    span_id: str
    role: Role
    attempt: int
    endpoint: str
    model: str
    message_id: str | None = None
    request_id: str | None = None
    intended_cache: Cache = "none"
    started_ns: int = 0
    dns_ns: int | None = None
    connected_ns: int | None = None
    tls_ns: int | None = None
    sent_ns: int | None = None
    headers_ns: int | None = None
    first_byte_ns: int | None = None
    message_start_ns: int | None = None
    thinking_started_ns: int | None = None
    first_thinking_ns: int | None = None
    first_text_ns: int | None = None
    first_sentence_ns: int | None = None
    first_tool_ns: int | None = None
    last_text_ns: int | None = None
    last_token_ns: int | None = None
    ended_ns: int | None = None
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    physical_cache_tokens: int | None = None
    cache_miss_reason: str | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    connection_reused: bool | None = None
    http_status: int | None = None
    stop_reason: str | None = None
    speed: str | None = None
    service_tier: str | None = None
    error_kind: str | None = None
    error_text: str | None = None
    loop_lag_ns: int | None = None
    server_ms: dict[str, float] | None = None
    cost_usd: float | None = None
    served_model: str | None = None
    inference_geo: str | None = None
    first_sign_ns: int | None = None
    first_token_ns: int | None = None
    iterations: list[dict[str, Any]] | None = None
    usage_note: str | None = None
    diagnosis: str | None = None
    missed_cache_tokens: int | None = None
    rate_limits: dict[str, str] | None = None
    counted_usd: float | None = None


@dataclass(slots=True)
class SpanRow:
    span_id: str
    trial_id: str
    run_id: str
    session_id: str
    parent_id: str | None
    kind: SpanKind
    name: str
    started_ns: int
    ended_ns: int | None = None


@dataclass(slots=True)
class EventRow:
    call_id: str
    run_id: str
    seq: int
    at_ns: int
    kind: str
    characters: int
    text: str | None = None


@dataclass(slots=True)
class FinishedTrial:
    """One trial with all that happened in it: what the harness hands to the sink, and the store writes in one transaction."""

    trial: TrialRow
    calls: list[CallRow] = field(default_factory=list)
    spans: list[SpanRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
