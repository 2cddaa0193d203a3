"""The process that makes a load: an event loop that only opens sockets, writes prepared bytes,
stamps what arrives and hands it on (`python -m lab.load.loader`; lab.load.loading leads it).

Its orders come on stdin as lines of JSON, a key in the requests' heads among them; calls go out on
stdout as packed frames, with its own words between them. It ends when stdin does, and so with the
process that started it. Little is imported: it starts in a tenth of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import struct
import sys
from typing import Any

from lab.clock import now_ns
from lab.load.agenda import Agenda
from lab.load.call_frame import CallFrame
from lab.load.playing import Playing
from lab.load.wire import Address, Template, Wire
from lab.tunnel import Tunnel
from lab.version import VERSION

HEAD = struct.Struct("<cI")
"""Before each frame: which kind it is, and its bytes."""
CALL, WORDS = b"C", b"J"
MOST_WAITING_BYTES = 512_000_000
"""Of calls that nobody has read yet; beyond it the level ends, and says so."""


class Desk(asyncio.Protocol):
    """Where orders come in, and what comes of them goes out."""

    def __init__(self) -> None:
        self.pending = bytearray()
        self.templates: list[Template] = []
        self.salt = ""
        self.wire: Wire | None = None
        self.playing: Playing | None = None
        self.agenda = Agenda()
        self.out: asyncio.WriteTransport | None = None
        self.is_stopped = False

    def data_received(self, data: bytes) -> None:
        self.pending += data
        if b"\n" not in data:
            return
        *lines, self.pending = self.pending.split(b"\n")
        for line in lines:
            order = json.loads(line)
            getattr(self, f"do_{order.pop('do')}")(**order)

    def connection_lost(self, exc: Exception | None) -> None:
        os._exit(0)  # whoever would have read the rest has gone

    # The orders

    def do_prepare(self, address: dict, templates: list[dict], salt: str) -> None:
        if self.wire:
            self.wire.close()
        self.templates = [
            Template(one["head"].encode("latin-1"), one["body"].encode("latin-1"), one["nonce_at"])
            for one in templates
        ]
        self.salt = salt
        tunnel = address.pop("tunnel")
        way = Address(**address, tunnel=tunnel and Tunnel(**tunnel))
        self.wire = Wire(way, self._ended)

    def do_level(self, **level: Any) -> None:
        self.playing = Playing(
            level, self.templates, self.salt, self.agenda, self._hand_on, self._level_over
        )
        gc.collect()
        gc.disable()
        started_ns = self.playing.start(self.wire)
        self._say({"level": level["number"], "started_ns": started_ns})

    def do_cut(self, reason: str, let_end: bool) -> None:
        if self.playing:
            self.playing.cut(reason, let_end)

    def do_stop(self) -> None:
        self.is_stopped = True
        if self.playing:
            self.playing.cut("stopped")
        else:
            self._leave()

    # What comes of them

    def _ended(self, call: CallFrame) -> None:
        if self.playing:
            self.playing.ended(call)

    def _hand_on(self, call: CallFrame) -> None:
        self._write(CALL, call.packed())
        if self.out.get_write_buffer_size() > MOST_WAITING_BYTES and self.playing:
            self.playing.cut("calls ended faster than they could be stored")

    def _level_over(self, outcome: dict[str, Any]) -> None:
        self.playing = None
        gc.enable()
        outcome["client"]["rss_mb"] = peak_mb()
        self._say({"ended": outcome})
        if self.is_stopped:
            self._leave()

    def _leave(self) -> None:
        if self.wire:
            self.wire.close()
        self.out.close()  # once all of it has been read; connection_lost then ends the process

    def _say(self, words: dict[str, Any]) -> None:
        self._write(WORDS, json.dumps(words).encode())

    def _write(self, kind: bytes, data: bytes) -> None:
        self.out.write(HEAD.pack(kind, len(data)) + data)

    def begin(self, out: asyncio.WriteTransport, loop_name: str) -> None:
        self.out = out
        ready = {"now_ns": now_ns(), "pid": os.getpid(), "version": VERSION, "loop": loop_name}
        self._say({"ready": ready})
        gc.collect()
        gc.freeze()


class Reader(asyncio.Protocol):
    """Whoever reads stdout."""

    def connection_lost(self, exc: Exception | None) -> None:
        os._exit(0)


def peak_mb() -> float:
    """The largest resident memory of this process, in MB."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        # getrusage would count the process that this one was forked from.
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            line = next(line for line in lines if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


async def serve() -> None:
    loop = asyncio.get_running_loop()
    desk = Desk()
    out, _ = await loop.connect_write_pipe(Reader, sys.stdout)
    desk.begin(out, type(loop).__module__.partition(".")[0])
    await loop.connect_read_pipe(lambda: desk, sys.stdin)
    await loop.create_future()


def main() -> None:
    # Ctrl-C in a terminal reaches the whole group; whoever leads decides what becomes of the calls.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        from uvloop import run
    except ImportError:
        run = asyncio.run
    run(serve())


if __name__ == "__main__":
    main()
