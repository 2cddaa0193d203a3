"""One request and its answer as the recorder saw them pass, and how that goes to the writer."""

from __future__ import annotations

import marshal
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from lab.recording.sender import AGENT_HEADER, SESSION_HEADERS

LENGTH = struct.Struct("!Q")
ASKED_HEADERS = {"anthropic-beta", "content-encoding", AGENT_HEADER, *SESSION_HEADERS}
"""What the writer hears of a request's headers; keys and cookies are not among them."""
SECRET_HEADERS = ("x-api-key", "authorization", "proxy-authorization", "cookie")
"""Whose values the writer is told only to keep them out of everything."""
ANSWER_HEADERS = ("content-type", "content-encoding", "request-id", "location", "retry-after")
ANSWER_PREFIXES = ("anthropic-ratelimit-", "anthropic-priority-", "anthropic-fast-")


@dataclass(slots=True, eq=False)
class ObservedCall:
    """Instants are lab.clock.now_ns(), None where it did not happen."""

    started_ns: int
    """The request's first byte; of a connection made for it, when that was opened."""
    arrived_ns: int
    dns_ns: int | None = None
    connected_ns: int | None = None
    tls_ns: int | None = None
    reused: bool | None = None
    asked_ns: int | None = None
    sent_ns: int | None = None
    """The request's last byte given to the socket upstream; of one that it could not take at once,
    when it had taken the most of it. Before the writing, not after it: where both ends share a
    core, whoever is written to runs before the writing returns."""
    headers_ns: int | None = None
    told_ns: int | None = None
    closed_ns: int | None = None
    ready_ns: int | None = None
    """When there was a connection upstream at all."""
    added_request_ns: int | None = None
    """The recorder's own work from the request's last byte in to its last byte out, waiting for a
    processor left out."""
    added_reply_ns: int | None = None
    """The most of such work for one piece of the answer."""
    ended_ns: int | None = None
    status: int | None = None
    asked: dict[str, str] = field(default_factory=dict)
    answered: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    ending: str | None = None
    """What cut it short: connect, cancelled, disconnected, malformed; None where it ended by
    itself."""
    note: str | None = None
    body: list[bytes] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    """Of the answer's body, …"""
    at_ns: array = field(default_factory=lambda: array("q"))
    """… and when each arrived."""
    size: int = 0
    is_open: bool = True


SCALARS = tuple(
    column.name
    for column in fields(ObservedCall)
    if column.name not in ("body", "pieces", "at_ns", "is_open")
)


def packed(call: ObservedCall) -> bytes:
    lengths = array("q", map(len, call.pieces))
    values = {name: getattr(call, name) for name in SCALARS}
    data = marshal.dumps(
        (
            "call",
            values,
            b"".join(call.body),
            b"".join(call.pieces),
            call.at_ns.tobytes(),
            lengths.tobytes(),
        )
    )
    return LENGTH.pack(len(data)) + data


def told(kind: str, value: Any) -> bytes:
    """Anything else for the writer."""
    data = marshal.dumps((kind, value))
    return LENGTH.pack(len(data)) + data


def chunks(pieces: bytes, at_ns: bytes, lengths: bytes) -> list[tuple[int, bytes]]:
    """(instant, bytes) again."""
    made, start = [], 0
    for at, length in zip(array("q", at_ns), array("q", lengths), strict=True):
        made.append((at, pieces[start : start + length]))
        start += length
    return made


def worth_telling(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in headers.items()
        if name in ANSWER_HEADERS or name.startswith(ANSWER_PREFIXES)
    }
