"""The coordinator's side of the loader: it starts the process, gives it its orders and reads what
ends there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

from lab import limits, paths
from lab.load.call_frame import CallFrame
from lab.load.loader import CALL, HEAD
from lab.load.profile import Level
from lab.load.wire import Address, Template
from lab.model import LabError

LAST_WORDS = 2_000
START_S, GOODBYE_S = 60.0, 5.0
"""Generous where a busy machine makes everything slow."""


@dataclass(frozen=True)
class Prepared:
    """What a load asks, and where: all of it made before the first request."""

    address: Address
    templates: tuple[Template, ...]
    salt: str
    """Of the nonces: the run's id, so that no rerun finds its cache."""
    honours_waits: bool = True
    """Whether a server's retry-after holds up every stream."""


@dataclass(frozen=True)
class LevelEnd:
    """What a level came to, beside its calls. Instants in ns of the loader's clock."""

    number: int
    started_ns: int
    ended_ns: int
    not_begun: int
    """Requests of the plan that were never made."""
    reason: str
    """Why it ended before all its plays; empty where it did not."""
    client: dict[str, float] = field(default_factory=dict)
    """As lab.load.profile.LevelOutcome has it, and how often and how long retry-after held up all
    streams (retry_after_waits, retry_after_s)."""


class Frames(asyncio.Protocol):
    """What comes out of the process, each frame in its turn."""

    def __init__(self) -> None:
        self.pending = bytearray()
        self.frames: deque[tuple[bytes, bytes]] = deque()
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
        return self.frames.popleft()


class Loader:
    """One loader process: `start`, `prepare`, `level` after `level`, `close`.

    Each raises LabError where the process has ended; what it had handed on is kept.
    """

    def __init__(self) -> None:
        self.process: asyncio.subprocess.Process | None = None
        self.frames = Frames()
        self.ready: dict[str, Any] = {}
        """now_ns (an instant of its clock), pid, version, loop (uvloop or asyncio)."""
        self.started_ns: int | None = None
        """When the level under way began."""
        self.errors = b""
        self.honours_waits = True

    async def start(self) -> None:
        # A stream reader of asyncio's would take as long for a frame as it takes to read one.
        out, into = _pipe()
        try:
            await asyncio.get_running_loop().connect_read_pipe(lambda: self.frames, out)
            self.process = await asyncio.create_subprocess_exec(
                *paths.module("lab.load.loader"),
                cwd=paths.home(),
                stdin=asyncio.subprocess.PIPE,
                stdout=into,
                stderr=asyncio.subprocess.PIPE,
            )
        finally:
            os.close(into)
        self._listening = asyncio.ensure_future(self._listen())
        try:
            async with asyncio.timeout(START_S):
                self.ready = (await self._next())["ready"]
        except TimeoutError:
            await self.close()
            raise LabError(
                f"The loading process did not start within {START_S:.0f} s. Try again when the"
                " machine is less busy."
            ) from None

    async def prepare(self, prepared: Prepared) -> None:
        """Connections to an earlier address are closed."""
        limits.body_bytes()  # says here what is wrong with LAB_MAX_BODY_MB
        self.honours_waits = prepared.honours_waits
        templates = [
            {
                "head": one.head.decode("latin-1"),
                "body": one.body.decode("latin-1"),
                "nonce_at": one.nonce_at,
            }
            for one in prepared.templates
        ]
        await self._order(
            "prepare", address=asdict(prepared.address), templates=templates, salt=prepared.salt
        )

    async def level(
        self, level: Level, most_in_flight: int | None = None
    ) -> AsyncIterator[CallFrame | LevelEnd]:
        """Each call as it ends, then what the level came to."""
        await self._order(
            "level",
            number=level.number,
            mode=level.mode,
            target=level.target,
            plays=level.plays,
            at_s=level.at_s,
            over_s=level.over_s,
            most=most_in_flight,
            honours_waits=self.honours_waits,
        )
        while True:
            frame = await self._next()
            if isinstance(frame, CallFrame):
                yield frame
            elif "ended" in frame:
                yield LevelEnd(**frame["ended"])
                return
            else:
                self.started_ns = frame["started_ns"]

    async def cut(self, reason: str, let_end: bool = False) -> None:
        """End the level under way: no more requests are made, and those that were end by
        themselves or are cancelled. Its LevelEnd comes as ever, with this reason."""
        await self._order("cut", reason=reason, let_end=let_end)

    async def stop(self) -> None:
        """Cut the level and end the process, once all that it has was read."""
        with contextlib.suppress(LabError):
            await self._order("stop")

    async def close(self) -> None:
        """End the process, whatever it does."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        self.process.stdin.close()
        self._listening.cancel()

    async def _order(self, do: str, **order: Any) -> None:
        line = json.dumps({"do": do, **order}) + "\n"
        try:
            self.process.stdin.write(line.encode())
            await self.process.stdin.drain()
        except OSError:
            raise await self._died() from None

    async def _next(self) -> CallFrame | dict[str, Any]:
        frame = await self.frames.next()
        if frame is None:
            raise await self._died()
        kind, data = frame
        return CallFrame.unpacked(data) if kind == CALL else json.loads(data)

    async def _died(self) -> LabError:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self.process.wait()
                await self._listening
        lines = self.errors.decode(errors="replace").strip().splitlines()
        how = lines[-1] if lines else f"exit code {self.process.returncode}"
        return LabError(
            f"The loading process ended by itself ({how:.200}). The calls that it had handed on"
            " are kept; run the load again for the rest."
        )

    async def _listen(self) -> None:
        while data := await self.process.stderr.read(LAST_WORDS):
            self.errors = (self.errors + data)[-LAST_WORDS:]


def _pipe() -> tuple[BinaryIO, int]:
    out, into = os.pipe()
    return os.fdopen(out, "rb"), into
