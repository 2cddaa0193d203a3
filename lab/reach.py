"""The way to a server: its name, its addresses one after the other, and how long a connection to it
may rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from lab.clock import now_ns

NEXT_ADDRESS_S = 2.0
IDLE_NS = 55_000_000_000
"""What a connection may rest before it is used again."""


class Resolved(Protocol):
    dns_ns: int | None


async def reach(
    protocol: Callable[[], asyncio.Protocol],
    host: str,
    port: int,
    phases: Resolved | None,
    local: tuple[str, int] | None = None,
) -> tuple[asyncio.Transport, asyncio.Protocol]:
    """A connection; `phases` gets when the name was resolved, by lab.clock.now_ns. Raises OSError,
    TimeoutError among them, and ValueError (a name that no address can have)."""
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(host, port, type=1)
    if phases:
        phases.dns_ns = now_ns()
    *others, last = dict.fromkeys(answer[4][0] for answer in answers)
    for address in others:
        with suppress(OSError):
            # An unreachable first address (IPv6, mostly) must not take all the time.
            async with asyncio.timeout(NEXT_ADDRESS_S):
                return await loop.create_connection(protocol, address, port, local_addr=local)
    return await loop.create_connection(protocol, last, port, local_addr=local)
