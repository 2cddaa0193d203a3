"""What the process of any run does alike: signals ask it to end, what it says goes to the run's
progress file, and code that does not let go is not waited for."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from lab import processes, scrub
from lab.model import Status

PATIENCE_S = 0.5
"""Rows that cannot be written now are safe beside the database: nothing is won by waiting longer,
and Stop would wait too."""
STOPPED_S = 0.5
LEFT: list[asyncio.Task] = []
"""Tasks of the user's own that would not end, kept from the collector: it would end them where
nothing of theirs is in place."""


class Measured(NamedTuple):
    run_id: str
    status: Status
    text: str


class Telling:
    """Called with an entry of progress: to the run's file, where any dashboard finds it, and to
    `on_progress`. `stop()` says whether the run is to end."""

    def __init__(
        self, run_id: str, on_progress: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self.run_id, self.on_progress = run_id, on_progress
        self.kinds: set[str] = set()
        """Of all entries so far."""
        self.ending, self._deaf = threading.Event(), threading.Event()

    def stop(self) -> bool:
        return self.ending.is_set() or processes.stop_asked(self.run_id)

    def __call__(self, entry: dict[str, Any]) -> None:
        self.kinds.add(entry["kind"])
        if entry.get("text"):
            entry = {**entry, "text": scrub.text(entry["text"], scrub.MESSAGE)}
        # A full runtime folder: the dots are missing, the rows are not.
        with contextlib.suppress(OSError):
            processes.add_progress(self.run_id, entry)
        if self.on_progress is None or self._deaf.is_set():
            return
        try:
            self.on_progress(entry)
        except OSError:
            # The terminal or the pipe is gone: the run ends as at Ctrl-C, with its rows.
            self._deaf.set()
            self.ending.set()


def to_its_end(main: Callable[[], Coroutine], ending: threading.Event) -> Any:
    """Run `main` in a loop of its own, as fast as there is one; Ctrl-C, SIGTERM and SIGHUP set
    `ending`."""

    async def listening() -> Any:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # Not in the main thread: then who started it also ends it.
            with contextlib.suppress(RuntimeError, ValueError):
                if signal.getsignal(name) is not signal.SIG_IGN:  # as nohup leaves it
                    loop.add_signal_handler(name, ending.set)
        return await main()

    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    loop = new_event_loop()
    try:
        return loop.run_until_complete(listening())
    finally:
        # Not asyncio.run, which would wait for code of the user's that does not let go.
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=STOPPED_S))
            LEFT.extend(task for task in left if not task.done())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
