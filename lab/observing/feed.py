"""Observed calls on their way to the process that writes them (lab.recorder.writer): a bounded
queue and two threads, so that no call of the application ever waits for it."""

from __future__ import annotations

import atexit
import io
import json
import logging
import os
import subprocess
import threading
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lab import paths, recorder
from lab.limits import MB
from lab.recorder.observed_call import ObservedCall, packed, told

WAITING_BYTES = 64 * MB
"""What comes beyond it is not recorded."""
CALL_BYTES = 4_000
"""What a call takes beside its bodies."""
FLUSH_S, END_S = 5.0, 20.0
"""How long the close of a client, and the end of the process, wait for what is not stored yet."""
log = logging.getLogger("lab.observing")


@dataclass(frozen=True)
class Order:
    """Clients with the same order belong to one recording."""

    base_url: str
    db: str
    keep_text: bool
    name: str | None


class Feed:
    """One recording of this process; it begins with the first call."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self._begin()
        # Now, and not beside the first call: to start a process holds up every thread.
        with suppress(OSError):
            self.process = _writer()

    def _begin(self) -> None:
        self.news = threading.Condition()
        self.waiting: deque[ObservedCall | None] = deque()
        """None asks the writer to store all that it has."""
        self.size = self.sent = self.stored = 0
        self.handed = self.told = 0
        """Calls given to the writer, and those of which it has said what became of them."""
        self.reason = "what writes them has ended"
        self.lost: Counter[str] = Counter()
        self.run_id: str | None = None
        self.process: subprocess.Popen | None = None
        self.thread: threading.Thread | None = None
        self.listener: threading.Thread | None = None
        self.over = False

    def take(self, call: ObservedCall) -> None:
        """From any thread, at once."""
        with self.news:
            if self.over:
                self.lost[self.reason] += 1
            elif self.size + call.size + CALL_BYTES > WAITING_BYTES:
                self.lost["they came faster than they can be written"] += 1
            else:
                self.size += call.size + CALL_BYTES
                self.waiting.append(call)
                self.news.notify_all()
            if self.thread is None and not self.over:
                self.thread = threading.Thread(target=self._send, name="lab-observe", daemon=True)
                self.thread.start()

    def flush(self, within_s: float = FLUSH_S) -> None:
        """Wait until every call so far is stored or counted as lost, but not for long."""
        with self.news:
            if self.thread is None or self.over:
                return
            self.sent += 1
            goal = self.sent
            self.waiting.append(None)
            self.news.notify_all()
            self.news.wait_for(lambda: self.over or self.stored >= goal, within_s)

    def close(self) -> None:
        """Store the rest, end the recording, and say what is missing in it."""
        with self.news:
            thread = self.thread
        if thread is None and self.process:
            self.process.stdin.close()  # no call came, so there is no recording
        elif thread:
            self.flush(END_S)
            with self.news:
                self.over = True
                self.news.notify_all()
            thread.join(END_S)
            self._heard_out()
        for sentence in recorder.unrecorded(+self.lost, " of your application"):
            log.warning("%s", sentence)
        self.lost.clear()

    def _heard_out(self) -> None:
        """What a writer that ended said nothing of is lost."""
        if self.process and self.listener:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(END_S)
                self.listener.join(END_S)
                self.lost[self.reason] += self.handed - self.told

    # The two threads

    def _send(self) -> None:
        try:
            process = self._start()
        except (OSError, ValueError) as error:
            self._give_up(f"what writes them cannot be started ({error})")
            return
        while True:
            with self.news:
                self.news.wait_for(lambda: self.waiting or self.over)
                call = self.waiting.popleft() if self.waiting else "end"
                if isinstance(call, ObservedCall):
                    self.size -= call.size + CALL_BYTES
            try:
                if call == "end":
                    _write(process, told("goodbye", None))
                    process.stdin.close()
                    return
                self.handed += bool(call)
                _write(process, packed(call) if call else told("flush", None))
            except (OSError, ValueError):
                self._give_up(self.reason)
                return

    def _start(self) -> subprocess.Popen:
        order = self.order
        self.process = process = self.process or _writer()
        words = {
            "source": "client",
            "db": order.db,
            "base_url": order.base_url,
            "keep_text": order.keep_text,
            "name": order.name,
            "run_id": None,
            "calls": 0,
        }
        _write(process, json.dumps(words).encode() + b"\n")
        self.listener = threading.Thread(target=self._listen, args=(process,), daemon=True)
        self.listener.start()
        return process

    def _listen(self, process: subprocess.Popen) -> None:
        with io.BufferedReader(process.stdout) as lines:
            for line in lines:
                with suppress(ValueError):
                    self._hear(json.loads(line))
        with self.news:
            self.over = True
            self.news.notify_all()

    def _hear(self, words: dict[str, Any]) -> None:
        with self.news:
            match words:
                case {"kind": "begun", "run_id": run_id}:
                    self.run_id = run_id
                case {"kind": "flushed"}:
                    self.stored += 1
                    self.news.notify_all()
                case {"kind": "call"}:
                    self.told += 1
                case {"kind": "lost", "calls": int(calls), "text": str(text)}:
                    self.told += calls
                    self.lost[text] += calls
                case {"kind": "refused", "text": str(text)}:
                    self.reason = text.rstrip(".")
                case {"kind": "note", "text": str(text)}:
                    log.info("%s", text)

    def _give_up(self, reason: str) -> None:
        with self.news:
            self.over = True
            self.lost[reason] += sum(call is not None for call in self.waiting)
            self.waiting.clear()
            self.size = 0
            self.news.notify_all()

    def _forked(self) -> None:
        """The threads and the writer are the parent's; here another recording begins."""
        if self.process:
            for pipe in (self.process.stdin, self.process.stdout):
                with suppress(OSError):
                    pipe.close()
        self._begin()


def _writer() -> subprocess.Popen:
    """It waits for its order."""
    return subprocess.Popen(
        paths.module("lab.recorder.writer"),
        cwd=paths.home(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,  # a fork would have what waits in a buffer twice
        start_new_session=True,  # Ctrl-C ends the application, and that ends it
    )


def _write(process: subprocess.Popen, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[process.stdin.write(rest) :]


_feeds: dict[Order, Feed] = {}
_lock = threading.Lock()


def of(order: Order) -> Feed:
    with _lock:
        if order not in _feeds:
            _feeds[order] = Feed(order)
        return _feeds[order]


def close_all() -> None:
    for feed in list(_feeds.values()):
        feed.close()


def _forked() -> None:
    global _lock
    _lock = threading.Lock()
    for feed in _feeds.values():
        feed._forked()


atexit.register(close_all)
os.register_at_fork(after_in_child=_forked)
