"""What the loading process hands on, as its coordinator takes it off the pipe: it waits here until
somebody reads it."""

from __future__ import annotations

import asyncio
from collections import deque

from lab.load.loader import CALL, HEAD

MOST_UNREAD_BYTES = 64_000_000
"""So much may wait; what is beyond is read at once."""


class Frames(asyncio.Protocol):
    """What comes out of the process, each frame in its turn."""

    def __init__(self) -> None:
        self.pending = bytearray()
        self.frames: deque[tuple[bytes, bytes]] = deque()
        self.calls = self.bytes = 0
        """Those that wait in `frames`."""
        self.has_ended = False
        self.waiter: asyncio.Future | None = None

    def data_received(self, data: bytes) -> None:
        pending, place = self.pending, 0
        pending += data
        while len(pending) - place >= HEAD.size:
            kind, size = HEAD.unpack_from(pending, place)
            begin = place + HEAD.size
            if len(pending) < begin + size:
                break
            place = begin + size
            self.frames.append((kind, bytes(pending[begin:place])))
            self.calls += kind == CALL
            self.bytes += size
        del pending[:place]
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_ended = True
        self._wake()

    def _wake(self) -> None:
        if self.waiter and not self.waiter.done():
            self.waiter.set_result(None)

    async def next(self) -> tuple[bytes, bytes] | None:
        """Its kind and what is in it; None once there are no more."""
        while not self.frames:
            if self.has_ended:
                return None
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        kind, data = self.frames.popleft()
        self.calls -= kind == CALL
        self.bytes -= len(data)
        return kind, data

    @property
    def is_pressing(self) -> bool:
        """Whether there is something to read, and no reason to leave it for later: the level has
        ended, or too much of it waits."""
        has_words = len(self.frames) > self.calls
        return has_words or self.has_ended or self.bytes > MOST_UNREAD_BYTES
