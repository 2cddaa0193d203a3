"""The rows that reach DuckDB: each class has its table's columns, in the table's order."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lab.model import Cache, EndpointKind, Outcome, Phase, Role, SpanKind, Status


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
    scheduled_ns: int | None = None
    """Of a load: when it was due."""
    second_token_ns: int | None = None
    thread_id: str | None = None
    """The message that opened the thread which the call opened or continued."""
    whole_tool_ns: int | None = None
    """The first tool input was whole."""
    asked: dict[str, str] | None = None
    """What the request asked of lab.harness.served's factors; those that it left open are not
    there."""


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
class RecordedCallRow:
    """What a recording knows of one call beside its row in `calls`; lab/recording says how the JSON
    is meant."""

    call_id: str
    trial_id: str
    run_id: str
    session_id: str
    source: str
    """How it came in: recorder, client, or an importer's name."""
    started_utc: datetime
    conversation: str | None = None
    """As the source says it, as a keyed hash; None where it says nothing."""
    agent: str | None = None
    """Of a sub-agent, the same; None of the main one."""
    follows: str | None = None
    """The earlier call of the recording whose prompt begins with the most of the same blocks."""
    shared_blocks: int | None = None
    """How many: the prompt is these and `blocks`. None where the prompt is not known."""
    blocks: list[list[Any]] | None = None
    marks: list[list[Any]] | None = None
    settings: dict[str, Any] | None = None
    reply: list[list[Any]] | None = None
    arrived_ns: int | None = None
    """On the application's side, where a recorder stands between: the request's first byte, …"""
    asked_ns: int | None = None
    """… its last byte, …"""
    told_ns: int | None = None
    """… the first byte of the answer, as it is handed on, …"""
    closed_ns: int | None = None
    """… and the last one, or the end of the connection."""
    added_request_ns: int | None = None
    """What the recorder itself worked on the request, from its last byte in to its last byte out:
    without connecting, and without waiting for a processor, …"""
    added_reply_ns: int | None = None
    """… and the most of such work for a piece of the answer."""
    note: str | None = None
    body: dict[str, Any] | None = None
    answer: list[dict[str, Any]] | None = None


@dataclass(slots=True)
class RecordedBlockRow:
    """The pieces of a block that no earlier call of this recording had."""

    call_id: str
    trial_id: str
    run_id: str
    hash: str
    pieces: str


@dataclass(slots=True)
class LoadLevelRow:
    """One steady load, as one session of a run measured it: lab.load.profile says what a level is.
    Written again, its end, its reason and what the client did are renewed."""

    run_id: str
    session_id: str
    level: int
    label: str
    mode: str
    target: float
    started_ns: int
    """From the session's origin, as all instants of rows."""
    ended_ns: int | None = None
    planned: int = 0
    """Requests."""
    not_begun: int | None = None
    """Of those; None while it is under way."""
    reason: str | None = None
    """Why it ended before all of them; None where it did not."""
    client: dict[str, float] | None = None


@dataclass(slots=True)
class FinishedTrial:
    """One trial with all that happened in it: what the harness hands to the sink, and the store
    writes in one transaction. A recorded call is one too, with what was recorded of it."""

    trial: TrialRow
    calls: list[CallRow] = field(default_factory=list)
    spans: list[SpanRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    recorded_calls: list[RecordedCallRow] = field(default_factory=list)
    recorded_blocks: list[RecordedBlockRow] = field(default_factory=list)


ROWS = {
    "runs": RunRow,
    "sessions": SessionRow,
    "load_levels": LoadLevelRow,
    "trials": TrialRow,
    "calls": CallRow,
    "spans": SpanRow,
    "events": EventRow,
    "recorded_calls": RecordedCallRow,
    "recorded_blocks": RecordedBlockRow,
}
"""By their tables, what others belong to first."""
