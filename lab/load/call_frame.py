"""One call as the loader hands it on: its stamps, and the bytes of its answer with the instant of
each arrival. Nothing in it has been read yet; nothing of it is written to a disk."""

from __future__ import annotations

import array
import json
import struct
from dataclasses import dataclass, field

_HEAD = struct.Struct("<4I")
_CLOCKS = ("scheduled", "started", "dns", "connected", "tls", "sent", "headers", "ended")
_NONE = -(2**63)


@dataclass(slots=True)
class CallFrame:
    """Instants in ns of the loader's clock; None where it did not happen."""

    level: int
    request: int
    play: int
    step: int
    template: int
    attempt: int
    scheduled_ns: int
    started_ns: int
    dns_ns: int | None
    connected_ns: int | None
    tls_ns: int | None
    sent_ns: int | None
    headers_ns: int | None
    ended_ns: int
    reused: bool | None
    status: int | None
    headers: dict[str, str] = field(default_factory=dict)
    failure: tuple[str, str] | None = None
    """What ended it other than its answer: the lab's word and a sentence (as
    lab.instrumentation.parsing.failure_words)."""
    at_ns: array.array = field(default_factory=lambda: array.array("q"))
    """Of each arrival, …"""
    ends: array.array = field(default_factory=lambda: array.array("I"))
    """… and where in `body` what arrived with it ends."""
    body: bytes = b""

    @property
    def chunks(self) -> list[tuple[int, bytes]]:
        """As lab.instrumentation.stamps.Exchange has them."""
        begins = [0, *self.ends]
        return [
            (at, self.body[a:b]) for at, a, b in zip(self.at_ns, begins, self.ends, strict=False)
        ]

    def packed(self) -> bytes:
        clocks = [getattr(self, f"{name}_ns") for name in _CLOCKS]
        about = json.dumps(
            [
                self.level, self.request, self.play, self.step, self.template, self.attempt,
                self.reused, self.status, self.headers, self.failure,
            ]
        ).encode()  # fmt: skip
        stamps = struct.pack(f"<{len(clocks)}q", *(_NONE if at is None else at for at in clocks))
        head = _HEAD.pack(len(about), len(self.at_ns), len(self.body), 0)
        parts = head, about, stamps, self.at_ns.tobytes(), self.ends.tobytes(), self.body
        return b"".join(parts)

    @classmethod
    def unpacked(cls, data: bytes) -> CallFrame:
        about_size, count, _, _ = _HEAD.unpack_from(data)
        place = _HEAD.size
        about = json.loads(data[place : place + about_size])
        place += about_size
        clocks = struct.unpack_from(f"<{len(_CLOCKS)}q", data, place)
        place += 8 * len(_CLOCKS)
        at_ns, ends = array.array("q"), array.array("I")
        at_ns.frombytes(data[place : place + 8 * count])
        place += 8 * count
        ends.frombytes(data[place : place + 4 * count])
        place += 4 * count
        level, request, play, step, template, attempt, reused, status, headers, failure = about
        return cls(
            level, request, play, step, template, attempt,
            *(None if at == _NONE else at for at in clocks),
            reused, status, headers, failure and tuple(failure), at_ns, ends, data[place:],
        )  # fmt: skip
