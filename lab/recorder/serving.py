"""A recorder from its start to its end: its writer, its port, and what it says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab import clock, machine, paths, units
from lab.endpoints import own_server
from lab.limits import MB
from lab.model import LabError
from lab.recorder.observed_call import ObservedCall, packed, told
from lab.recorder.proxy import Proxy
from lab.recorder.upstream import Upstream

FILES = 65_536
QUEUE_BYTES = 64 * MB
"""What may wait for the writer; what comes beyond it is not recorded."""
START_S, GRACE_S, SILENT_S, FLUSH_S, PING_S = 60.0, 2.0, 2.0, 60.0, 120.0
ENDED = "what writes them ended"
WRITERS = 3
"""A writer that dies is followed by another one, so often in all."""


@dataclass(frozen=True)
class Order:
    """What a recorder shall do."""

    upstream: Upstream
    db: str
    keep_text: bool = False
    name: str | None = None
    port: int = 0


class Serving:
    """`tell` is given what happens, as values: begun, call, lost, note, waiting, ended."""

    def __init__(self, order: Order, tell: Callable[[dict[str, Any]], None]) -> None:
        self.order, self.tell = order, tell
        self.proxy = Proxy(order.upstream, self._record, self._tell_of_nobody)
        self.run_id: str | None = None
        self.port = 0
        self.calls = self.lost = 0
        self.unheard: deque[bytes] = deque()
        """Calls of which no writer has said anything yet, the oldest first, for another writer
        where this one dies; empty where there was no room for a copy, or two have had it."""
        self.copied = 0
        self.command: tuple[int, str | None] | None = None
        """pid and birth of what runs through it."""
        self.unreached: str | None = None
        self.writers = 0
        self.process: subprocess.Popen | None = None
        self.pipe: asyncio.WriteTransport | None = None
        self.asked_to_end, self.hurried = asyncio.Event(), asyncio.Event()
        self.ended = asyncio.Event()
        """No writer runs any more, and none will, or it is not waited for."""
        self._stopping = self._all_written = False

    async def open(self) -> None:
        """Raises LabError where nothing can be recorded, or the port is taken."""
        loop = asyncio.get_running_loop()
        try:
            self.server = await loop.create_server(
                self.proxy.accept, "127.0.0.1", self.order.port, backlog=1024, start_serving=False
            )
        except OSError as error:
            raise LabError(
                f"Port {self.order.port} of 127.0.0.1 cannot be used ({error.strerror}). Choose"
                " another with --port, or leave it out for a free one."
            ) from error
        self.port = self.server.sockets[0].getsockname()[1]
        try:
            self._must_lead_away()
            await self._start_writer()
        except LabError:
            self.server.close()
            raise
        await self.server.start_serving()
        self._tell_of_a_proxy()
        self._pinging = asyncio.ensure_future(self._ping())
        gc.collect()
        gc.freeze()

    def _must_lead_away(self) -> None:
        """A line that was pasted for an earlier recorder would make this one ask itself."""
        upstream = self.order.upstream
        if upstream.port == self.port and machine.is_loopback(upstream.host):
            raise LabError(
                f"Requests would go on to {upstream.base_url}, which is this recorder itself. Unset"
                " ANTHROPIC_BASE_URL, or say with --upstream where they are to go."
            )

    def _tell_of_a_proxy(self) -> None:
        base_url = self.order.upstream.base_url
        if machine.proxy(base_url, socks=True) and not self.proxy.connector.tunnel:
            self._note(
                f"The proxy of the environment is not used: requests go to {base_url} directly. The"
                " recorder uses proxies like http://HOST:PORT, for https:// addresses."
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def interrupt(self) -> None:
        """Ask it to end; asked while it does, it waits for nothing more."""
        if self._stopping:
            self.hurried.set()
            self.ended.set()
        self.asked_to_end.set()

    async def close(self) -> None:
        """Let calls under way end, for a moment; cut the rest, and wait until all is written."""
        self._stopping = True
        self.server.close()
        self._pinging.cancel()
        for _ in range(int(GRACE_S / 0.05)):
            if self.hurried.is_set() or not self.proxy.is_busy:
                break
            await clock.sleep_s(0.05)
        self.proxy.close()
        self._say_goodbye()
        if not await self._ended_within(SILENT_S):
            self.tell({"kind": "waiting", "calls": len(self.unheard)})
            waiting = None
            while waiting != len(self.unheard):  # as long as it gets on
                waiting = len(self.unheard)
                if await self._ended_within(FLUSH_S):
                    break
        if self.unheard:
            calls = units.counted(len(self.unheard), "call")
            self._note(f"{calls} had not been written by the end, and may be missing.")
        if self.proxy.unread:
            self._lose("they were too large", self.proxy.unread)

    async def _ended_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        return self.ended.is_set()

    # The writer

    def guard(self, pid: int) -> None:
        """A command that must not outlive this process: the writer ends it where nobody here can
        any more."""
        self.command = (pid, machine.born(pid))
        if self.pipe:
            self.pipe.write(told("command", self.command))

    def _say_goodbye(self) -> None:
        if self.pipe and not self.pipe.is_closing():
            self.pipe.write(told("goodbye", None))
            self.pipe.close()

    async def _start_writer(self) -> int:
        """How many calls an earlier one has left on disk."""
        loop = asyncio.get_running_loop()
        order = self.order
        self.process = _writer()
        words = {
            "db": order.db,
            "endpoint": order.upstream.name,
            "kind": order.upstream.kind,
            "keep_text": order.keep_text,
            "name": order.name,
            "run_id": self.run_id,
            "calls": self.calls,
        }
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(words).encode() + b"\n")
            self.process.stdin.flush()
        begun: asyncio.Future[dict[str, Any]] = loop.create_future()
        threading.Thread(target=self._listen, args=(loop, self.process, begun), daemon=True).start()
        try:
            async with asyncio.timeout(START_S):
                words = await begun
        except TimeoutError:
            self.process.kill()
            words = {"text": f"The recorder's writer did not start within {START_S:.0f} s."}
        if "run_id" not in words:
            raise LabError(words.get("text") or "The recorder's writer ended at once.")
        self.run_id = words["run_id"]
        self._all_written = False
        self.pipe, _ = await loop.connect_write_pipe(asyncio.Protocol, self.process.stdin)
        if self.command:
            self.pipe.write(told("command", self.command))
        return words["stored"]

    def _listen(
        self, loop: asyncio.AbstractEventLoop, process: subprocess.Popen, begun: asyncio.Future
    ) -> None:
        def hear(words: dict[str, Any]) -> None:
            is_first = not begun.done()
            if is_first:
                begun.set_result(words)
            if self.run_id and (words["kind"] == "gone" or not is_first):
                self._hear(words)

        with process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError, RuntimeError):
                    loop.call_soon_threadsafe(hear, json.loads(line))
        process.wait()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(hear, {"kind": "gone"})

    def _hear(self, words: dict[str, Any]) -> None:
        match words["kind"]:
            case "gone":
                self._writer_gone()
                return
            case "call":
                self.calls += 1
                self._heard_of(1)
            case "lost":
                self.lost += words["calls"]
                self._heard_of(words["calls"])
            case "ended":
                self._all_written = True
        self.tell(words)

    def _heard_of(self, calls: int) -> None:
        for _ in range(min(calls, len(self.unheard))):
            self.copied -= len(self.unheard.popleft())

    def _writer_gone(self) -> None:
        self.pipe = None
        self.writers += 1
        if not self._all_written and self.writers < WRITERS:
            self._restarting = asyncio.ensure_future(self._restart())
            return
        self._lose(ENDED, len(self.unheard))
        self._heard_of(len(self.unheard))
        self.ended.set()
        if not self._stopping:
            self._note(
                "Nothing more is recorded: what writes it ended again and again. Your application"
                " is served as before."
            )

    async def _restart(self) -> None:
        self._note("What writes the recording ended, and is started anew.")
        try:
            stored = await self._start_writer()
        except LabError as error:  # its end is heard too
            self._note(str(error))
            return
        # The one before may have written a call and not come to tell of it.
        found = max(0, stored - self.calls)
        self._heard_of(found)
        self.calls += found
        again = list(filter(None, self.unheard))
        self._lose(ENDED, len(self.unheard) - len(again))
        # Only once more: one of them may be what it died of.
        self.unheard, self.copied = deque(b"" for _ in again), 0
        self.pipe.write(b"".join(again))
        if self._stopping:
            self._say_goodbye()

    def _record(self, call: ObservedCall) -> None:
        if self.ended.is_set():
            self._lose("nobody writes them")
            return
        pipe = self.pipe if self.pipe and not self.pipe.is_closing() else None
        if (pipe.get_write_buffer_size() if pipe else self.copied) + call.size > QUEUE_BYTES:
            self._lose("they came faster than they can be written")
            return
        data = packed(call)
        if pipe:
            pipe.write(data)
        copy = data if self.copied + len(data) <= QUEUE_BYTES else b""
        self.unheard.append(copy)
        self.copied += len(copy)

    def _tell_of_nobody(self, why: str) -> None:
        if why != self.unreached:
            self.unreached = why
            self._note(f"{self.order.upstream.base_url} is not reached: {why}.")

    def _lose(self, reason: str, calls: int = 1) -> None:
        """Calls that no writer has, or none that lives."""
        if calls > 0:
            self.lost += calls
            self.tell({"kind": "lost", "calls": calls, "text": reason})

    def _note(self, text: str) -> None:
        self.tell({"kind": "note", "text": text})

    async def _ping(self) -> None:
        """The lab's own server ends when nobody has asked it for ten minutes."""
        while self.order.upstream.is_own:
            await clock.sleep_s(PING_S)
            await asyncio.to_thread(own_server.kind_at, self.order.upstream.base_url, 2.0)


def _writer() -> subprocess.Popen:
    """In a session of its own: Ctrl-C ends the recorder, and that ends it."""
    return subprocess.Popen(
        paths.module("lab.recorder.writer"),
        cwd=paths.home(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def lift_limits() -> None:
    """Each client needs two of the files that a process may have open, and many systems allow 1,024
    until one asks for more."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def run(main: Callable[[], Any]) -> Any:
    """A coroutine function in a loop of its own, as fast as there is one."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main())
