"""OpenTelemetry spans as OTLP JSON: ExportTraceServiceRequests, one document or one a line, as the
collector's file exporter writes them.

Spans of the GenAI conventions (`gen_ai.operation.name` = chat, execute_tool), of the official SDK
above all. The Claude platform's own spans join them by trace and parent: a server's span is a part
of its client's, on another clock, so only its length is taken over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lab import limits, units
from lab.importers.json_files import Source, elements
from lab.recording.scribe import ORIGIN_UTC, Seen, ToolSeen, known_id

NAME = "otlp_json"
TITLE = "OpenTelemetry spans"
CANNOT = (
    "Spans say how much was read from the cache and not what the prompt was: why it missed cannot"
    " be told.",
    "The first-token time is the SDK's own, where its span has one; after hidden thinking it is no"
    " token's, and left out.",
    "A call's time holds all its retries; Claude's own share of it is known where the platform's"
    " spans are in the file too.",
)
PLATFORM, SDK = "com.anthropic.claude-platform", "com.anthropic.sdk"
MOST_SPANS = 500_000
"""All are held until the last is read: a server's comes before or after its client's."""
WANTED = ("gen_ai.", "anthropic.", "error.type", "http.", "server.")
CONTENT = ("messages", "instructions", "arguments", "result", "description", "content")
"""Ends of the names of what people and models wrote."""
USAGE = {
    "output_tokens": ("gen_ai.usage.output_tokens",),
    "cache_read_input_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
    ),
    "cache_creation_input_tokens": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    ),
}
"""Names of the API, and of the conventions over the years."""
SPLIT = "anthropic.usage.cache_creation."


@dataclass(slots=True, eq=False)
class Span:
    trace: str
    id: str
    parent: str
    scope: str
    is_server: bool
    start_ns: int
    end_ns: int
    """Both since the origin of an imported session."""
    has_ended_well: bool | None
    """None where the span does not say."""
    attributes: dict[str, Any]

    @property
    def answer(self) -> str:
        """Its id, where that is one of Anthropic's: those are unique."""
        name = str(self.attributes.get("gen_ai.response.id") or "")
        return name if name.startswith("msg_") else ""

    @property
    def operation(self) -> str:
        return str(self.attributes.get("gen_ai.operation.name"))


def recognises(head: bytes) -> bool:
    return head.lstrip()[:1] == b"{" and b'"resourceSpans"' in head


def read(source: Source) -> Iterator[Seen]:
    chats: list[Span] = []
    servers: list[Span] = []
    tools: list[Span] = []
    for span in _spans(source):
        if len(chats) + len(servers) + len(tools) >= MOST_SPANS:
            source.leave_out(f"spans beyond the first {MOST_SPANS:,}")
        elif span.operation == "execute_tool":
            tools.append(span)
        elif span.operation != "chat":
            source.leave_out("spans of something else")
        elif not _is_claude(span):
            source.leave_out("calls of other providers")
        elif span.is_server:
            servers.append(span)
        else:
            chats.append(span)
    chats = _innermost(chats, source)
    joined, alone = _joined(chats, servers)
    chats = sorted((*chats, *alone), key=lambda span: (span.start_ns, span.id))
    ran = _by_call(tools, chats)
    for span in chats:
        server = joined.get((span.trace, span.id)) if not span.is_server else None
        yield _seen(span, server, ran.get(span.id, []))


def _innermost(chats: list[Span], source: Source) -> list[Span]:
    """Without a framework's span around the SDK's: the two are one call."""
    around = {(span.trace, span.parent) for span in chats}
    inner: dict[tuple[str, str], Span] = {}
    kept = []
    for span in sorted(chats, key=lambda span: span.end_ns - span.start_ns):
        own = inner.setdefault((span.trace, span.answer or span.id), span)
        if own.id != span.id or (span.trace, span.id) in around:
            source.leave_out("spans around another one of the same call")
        else:
            kept.append(span)
    return kept


def _joined(
    chats: list[Span], servers: list[Span]
) -> tuple[dict[tuple[str, str], Span], list[Span]]:
    """The platform's span of each call, the last one of several attempts; and those of no call
    here. Between the two there may be a span of HTTP: then the answer's id joins them."""
    ids = {(span.trace, span.id) for span in chats}
    answers = {(span.trace, span.answer): span.id for span in chats if span.answer}
    joined: dict[tuple[str, str], Span] = {}
    alone = []
    for span in sorted(servers, key=lambda span: span.start_ns):
        client = answers.get((span.trace, span.answer), span.parent)
        if (span.trace, client) in ids:
            joined[span.trace, client] = span
        else:
            alone.append(span)
    return joined, alone


def _spans(source: Source) -> Iterator[Span]:
    for file in sorted(source.files):
        for group in elements(file, "resourceSpans", source):
            try:
                service = _attributes(group.get("resource") or {}).get("service.name")
                scopes = group.get("scopeSpans") or group.get("instrumentationLibrarySpans") or []
                parts = [
                    (str((part.get("scope") or {}).get("name") or ""), part.get("spans") or [])
                    for part in scopes
                ]
            except (TypeError, AttributeError):
                source.leave_out("groups of spans of another shape")
                continue
            for scope, spans in parts:
                for span in spans if isinstance(spans, list) else ():
                    try:
                        yield _span(span, scope, service)
                    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
                        source.leave_out("spans of another shape")


def _span(span: Mapping[str, Any], scope: str, service: Any) -> Span:
    start, end = (int(span[name]) - ORIGIN_NS for name in ("startTimeUnixNano", "endTimeUnixNano"))
    if not (-(2**61) < start <= end < 2**61):
        raise ValueError("a span without a time")
    code = (span.get("status") or {}).get("code") or 0
    kept = {
        name: value
        for name, value in _attributes(span).items()
        if name.startswith(WANTED) and not name.endswith(CONTENT)
    }
    is_server = scope == PLATFORM or service == "claude-platform"
    outcome = {1: True, "STATUS_CODE_OK": True, 2: False, "STATUS_CODE_ERROR": False}.get(code)
    ids = (str(span.get(name) or "")[:64] for name in ("traceId", "spanId", "parentSpanId"))
    return Span(*ids, scope, is_server, start, end, outcome, kept)


ORIGIN_NS = int(ORIGIN_UTC.timestamp()) * 10**9


def _attributes(owner: Mapping[str, Any]) -> dict[str, Any]:
    """Words, numbers and truths; lists and maps are left out."""
    values: dict[str, Any] = {}
    for pair in owner.get("attributes") or ():
        value = pair.get("value") or {}
        if "stringValue" in value:
            values[pair["key"]] = str(value["stringValue"])[: limits.WORD_CHARACTERS]
        elif "intValue" in value:
            values[pair["key"]] = int(value["intValue"])
        elif "doubleValue" in value:
            values[pair["key"]] = float(value["doubleValue"])
        elif "boolValue" in value:
            values[pair["key"]] = value["boolValue"] is True
    return values


def _is_claude(span: Span) -> bool:
    provider = span.attributes.get("gen_ai.provider.name") or span.attributes.get("gen_ai.system")
    return provider == "anthropic" or "claude" in str(span.attributes.get("gen_ai.request.model"))


def _by_call(tools: list[Span], chats: list[Span]) -> dict[str, list[ToolSeen]]:
    """What ran belongs to the last call that had ended by then: under the same span, which is one
    agent's, or else in the same trace."""
    ended: dict[tuple[str, ...], list[tuple[int, str]]] = {}
    for span in sorted(chats, key=lambda span: span.end_ns):
        for key in ((span.trace, span.parent), (span.trace,)):
            ended.setdefault(key, []).append((span.end_ns, span.id))
    ran: dict[str, list[ToolSeen]] = {}
    for tool in sorted(tools, key=lambda span: span.start_ns):
        for key in ((tool.trace, tool.parent), (tool.trace,)):
            calls = ended.get(key, [])
            if place := bisect_right(calls, (tool.start_ns, "~")):
                name = str(tool.attributes.get("gen_ai.tool.name") or "tool")
                seen = ToolSeen(name, tool.start_ns, tool.end_ns)
                ran.setdefault(calls[place - 1][1], []).append(seen)
                break
    return ran


def _seen(span: Span, server: Span | None, tools: list[ToolSeen]) -> Seen:
    said = (server.attributes if server else {}) | span.attributes
    usage, note = _usage(said)
    first_s, first = said.get("gen_ai.response.time_to_first_chunk"), {}
    if isinstance(first_s, int | float) and 0 <= first_s * 1e9 <= span.end_ns - span.start_ns:
        # After thinking that is not shown, the first piece is its seal: a sign, and no token.
        asked = said.get("anthropic.thinking.type") not in (None, "disabled")
        sealed = asked or (usage.get("output_tokens_details") or {}).get("thinking_tokens")
        first = {"first_sign_ns": span.start_ns + round(first_s * 1e9)}
        first |= {} if sealed else {"first_token_ns": first["first_sign_ns"]}
    error = None
    if span.has_ended_well is False:
        error = str(said.get("error.type") or "error")
    elif span.has_ended_well is None and span.scope.startswith(SDK):
        error = "cancelled"  # the SDK leaves it unset where the application closed the stream
    platform = server or (span if span.is_server else None)
    status, again = said.get("http.response.status_code"), said.get("http.request.resend_count")
    notes = [note] if note else []
    if isinstance(again, int) and again > 0:
        notes.append(f"Its time holds {units.counted(again, 'retry', 'retries')}.")
    if span.is_server:
        notes.append("Its times are the platform's: no client's span is there.")
    return Seen(
        started_utc=ORIGIN_UTC + timedelta(microseconds=span.start_ns // 1000),
        started_ns=span.start_ns,
        call={
            **first,
            "ended_ns": span.end_ns,
            "endpoint": _endpoint(said),
            "model": str(said.get("gen_ai.request.model") or "?"),
            "served_model": said.get("gen_ai.response.model"),
            "message_id": said.get("gen_ai.response.id"),
            "request_id": said.get("anthropic.request.id"),
            "stop_reason": said.get("anthropic.message.stop_reason"),
            "http_status": status if isinstance(status, int) and 0 < status < 1000 else None,
            "error_kind": error,
            "server_ms": {"total": (platform.end_ns - platform.start_ns) / 1e6}
            if platform
            else None,
        },
        usage=usage,
        tools=tools,
        conversation=str(said.get("gen_ai.conversation.id") or span.trace) or None,
        recorded={"note": " ".join(notes)} if notes else {},
        id=known_id(NAME, span.trace, span.id),
    )


def _endpoint(said: Mapping[str, Any]) -> str:
    host, port = said.get("server.address") or "anthropic", said.get("server.port")
    return f"{host}:{port}" if isinstance(port, int) and port not in (80, 443) else str(host)


def _usage(said: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """As the API reports it, and what is not in it. The conventions' input is the whole prompt,
    the API's what came after the cache."""
    usage: dict[str, Any] = {}
    for name, aliases in USAGE.items():
        counts = (said[alias] for alias in aliases if limits.is_count(said.get(alias)))
        if (value := next(counts, None)) is not None:
            usage[name] = value
    cached = sum(usage.get(name, 0) for name in list(USAGE)[1:])
    if limits.is_count(whole := said.get("gen_ai.usage.input_tokens")):
        usage["input_tokens"] = whole - cached if whole >= cached else whole
    split = {
        name.removeprefix(SPLIT): value
        for name, value in said.items()
        if name.startswith(SPLIT) and limits.is_count(value)
    }
    if split:
        usage["cache_creation"] = split
    if limits.is_count(thinking := said.get("gen_ai.usage.reasoning.output_tokens")):
        usage["output_tokens_details"] = {"thinking_tokens": thinking}
    if isinstance(tier := said.get("anthropic.response.service_tier"), str):
        usage["service_tier"] = tier
    compacted = said.get("anthropic.usage.compaction.input_tokens")
    note = "The tokens of a compaction are not in its sums." if compacted else None
    return usage, note
