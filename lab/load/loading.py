"""The coordinator's side of the loader: it starts the process, gives it its orders and reads what
ends there."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

from lab import limits, machine, paths
from lab.clock import now_ns, sleep_s, working_ns
from lab.load.call_frame import CallFrame
from lab.load.handed_on import Frames
from lab.load.loader import CALL
from lab.load.profile import Level
from lab.load.wire import Address, Template
from lab.model import LabError

LAST_WORDS = 2_000
START_S, GOODBYE_S = 60.0, 5.0
"""Generous where a busy machine makes everything slow."""
HELD_NS = 20_000_000
"""So long at most calls are read before anything else of the coordinator gets its turn."""
REST = 399
"""Times as long as it worked, whoever reads rests while a level is under way on few cores: what it
takes there, it takes from the stamps. What a stall takes, it takes from nobody."""
FEW_CORES = 2
"""Tried at 256 streams: on a second core that the server uses too, what reads every call at once
adds 0.1 ms to the mean error of a gap; a lower priority helped less than a rest."""
REST_NS, LOOK_S = 100_000_000, 0.001
PIPE_BYTES = 1_000_000
"""What ends in a rest, mostly: nobody is woken for each call then."""


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


class Loader:
    """One loader process: `start`, `prepare`, `level` after `level`, `close`.

    Each raises LabError where the process has ended; what it had handed on is kept.

    Where this process may use one core or two, most of a level's calls are handed out when it has
    ended (`unread` of them wait), so that whoever reads them takes no time from the stamps; unless
    that is wanted `at_once`.
    """

    def __init__(self, at_once: bool = False) -> None:
        self.process: asyncio.subprocess.Process | None = None
        self.frames = Frames()
        self.ready: dict[str, Any] = {}
        """now_ns (an instant of its clock), pid, version, loop (uvloop or asyncio)."""
        self.started_ns: int | None = None
        """When the level under way began."""
        self.errors = b""
        self.honours_waits = True
        self.at_once = at_once or machine.cores() > FEW_CORES
        self.owed_ns = self.let_go_ns = 0

    @property
    def unread(self) -> int:
        """Calls that have ended and were not read yet."""
        return self.frames.calls

    async def start(self) -> None:
        # A stream reader of asyncio's would take as long for a frame as it takes to read one.
        out, into = _pipe()
        try:
            loop = asyncio.get_running_loop()
            self.pipe, _ = await loop.connect_read_pipe(lambda: self.frames, out)
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
                self.ready = json.loads((await self._frame())[1])["ready"]
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
        """Each call once it has ended, then what the level came to."""
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
        self.owed_ns, self.let_go_ns = 0, now_ns() + HELD_NS
        while True:
            kind, data = await self._frame()
            begun_ns = working_ns()
            if kind == CALL:
                yield (call := CallFrame.unpacked(data))
                # There is no rest after a failure: a server that refuses all is noticed at once.
                await self._let_go(working_ns() - begun_ns if call.status == 200 else 0)
            elif "ended" in (words := json.loads(data)):
                yield LevelEnd(**words["ended"])
                return
            else:
                self.started_ns = words["started_ns"]

    async def _let_go(self, worked_ns: int) -> None:
        """Between two calls; `worked_ns` is what it took this thread to read the first."""
        self.owed_ns += 0 if self.at_once else worked_ns * REST
        while self.owed_ns >= REST_NS and not self.frames.is_pressing:
            begun_ns = now_ns()
            self.pipe.pause_reading()
            await sleep_s(REST_NS / 1e9)
            self.pipe.resume_reading()
            await sleep_s(LOOK_S)
            self.owed_ns -= now_ns() - begun_ns
        if now_ns() > self.let_go_ns:
            await sleep_s(0)
            self.let_go_ns = now_ns() + HELD_NS

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

    async def _frame(self) -> tuple[bytes, bytes]:
        frame = await self.frames.next()
        if frame is None:
            raise await self._died()
        return frame

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
    with contextlib.suppress(AttributeError, OSError):  # Linux's, and within its limit
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return os.fdopen(out, "rb"), into
