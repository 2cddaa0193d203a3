"""A recorder from its start to its end: its writer, its port, and what it says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab import clock, paths
from lab.endpoints import own_server
from lab.limits import MB
from lab.model import LabError
from lab.recorder import strangers
from lab.recorder.observed_call import ObservedCall, packed, told
from lab.recorder.proxy import Proxy
from lab.recorder.upstream import Upstream

FILES = 65_536
QUEUE_BYTES = 64 * MB
"""What may wait for the writer; what comes beyond it is not recorded."""
START_S, GRACE_S, FLUSH_S, PING_S = 60.0, 2.0, 60.0, 120.0
UNREADABLE = "a call could not be read"
"""How a writer's reason begins where it could make nothing of a call that it was given."""
REFUSED = "the disk refuses them"
"""Its reason for calls that it has told of before."""
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
    """`tell` is given what happens, as values: begun, call, lost, note, ended."""

    def __init__(self, order: Order, tell: Callable[[dict[str, Any]], None]) -> None:
        self.order, self.tell = order, tell
        self.proxy = Proxy(order.upstream, self._record)
        self.run_id: str | None = None
        self.port = 0
        self.calls = self.lost = 0
        self.handed = 0
        """Calls given to the writer that runs, of which it has said nothing yet."""
        self.writers = 0
        self.process: subprocess.Popen | None = None
        self.pipe: asyncio.WriteTransport | None = None
        self.ended = asyncio.Event()
        self._stopping = False

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
        self._pinging = asyncio.ensure_future(self._ping())
        gc.collect()
        gc.freeze()

    def _must_lead_away(self) -> None:
        """A line that was pasted for an earlier recorder would make this one ask itself."""
        upstream = self.order.upstream
        if upstream.port == self.port and strangers.is_loopback(upstream.host):
            raise LabError(
                f"Requests would go on to {upstream.base_url}, which is this recorder itself. Unset"
                " ANTHROPIC_BASE_URL, or say with --upstream where they are to go."
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def close(self) -> None:
        """Let calls under way end, for a moment; cut the rest, and wait until all is written."""
        self._stopping = True
        self.server.close()
        self._pinging.cancel()
        for _ in range(int(GRACE_S / 0.05)):
            if not self.proxy.is_busy:
                break
            await clock.sleep_s(0.05)
        self.proxy.close()
        if self.pipe and not self.pipe.is_closing():
            self.pipe.write(told("goodbye", None))
            self.pipe.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self.ended.wait()
        self._tell_of_others()

    # The writer

    async def _start_writer(self) -> None:
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
            "first_block": self.calls + 1,
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
            words = {"text": f"The recorder's writer did not start within {START_S:.0f} s."}
        if "run_id" not in words:
            raise LabError(words.get("text") or "The recorder's writer ended at once.")
        self.run_id = words["run_id"]
        self.pipe, _ = await loop.connect_write_pipe(asyncio.Protocol, self.process.stdin)

    def _listen(
        self, loop: asyncio.AbstractEventLoop, process: subprocess.Popen, begun: asyncio.Future
    ) -> None:
        def hear(words: dict[str, Any]) -> None:
            if not begun.done():
                begun.set_result(words)
            else:
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
                self.handed -= 1
            case "lost":
                self.lost += words["calls"]
                if words["text"].startswith(UNREADABLE):
                    self.handed -= words["calls"]
                elif words["text"] == REFUSED:
                    self.calls -= words["calls"]
        self.tell(words)

    def _writer_gone(self) -> None:
        self.pipe = None
        missing, self.handed = self.handed, 0
        if missing > 0:
            self._lose("what writes them ended", missing)
        if self._stopping:
            self.ended.set()
            return
        self.writers += 1
        if self.writers >= WRITERS:
            self.tell(
                {
                    "kind": "note",
                    "text": "Nothing more is recorded: what writes it ended again and again. Your"
                    " application is served as before.",
                }
            )
            return
        self._restarting = asyncio.ensure_future(self._restart())

    async def _restart(self) -> None:
        self.tell({"kind": "note", "text": "What writes the recording ended, and is started anew."})
        try:
            await self._start_writer()
        except LabError as error:
            self.tell({"kind": "note", "text": str(error)})

    def _record(self, call: ObservedCall) -> None:
        if self.pipe is None or self.pipe.is_closing():
            self._lose("nobody writes them")
        elif self.pipe.get_write_buffer_size() + call.size > QUEUE_BYTES:
            self._lose("they came faster than they can be written")
        else:
            self.pipe.write(packed(call))
            self.handed += 1

    def _lose(self, reason: str, calls: int = 1) -> None:
        self._hear({"kind": "lost", "calls": calls, "text": reason})

    def _tell_of_others(self) -> None:
        if self.proxy.unread:
            self._hear({"kind": "lost", "calls": self.proxy.unread, "text": "they were too large"})

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
