"""What is due at which instant, to a tenth of a millisecond: uvloop's own timers count whole
milliseconds, and to spin would take the core from the sockets."""

from __future__ import annotations

import array
import asyncio
import ctypes
import heapq
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

from lab.clock import now_ns

TICK_NS = 20_000_000
SOONEST_S = 1e-6
MONOTONIC, NONBLOCKING = 1, 0o4000


class TimerFile:
    """Linux's timerfd, which os has from Python 3.13 on: half the work of a signal."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.file = self.libc.timerfd_create(MONOTONIC, NONBLOCKING)
        if self.file < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        asyncio.get_running_loop().add_reader(self.file, self._rang, ring)

    def wind(self, wait_s: float) -> None:
        """Ring after so long; with 0 not at all."""
        whole = int(wait_s)
        times = (ctypes.c_long * 4)(0, 0, whole, int((wait_s - whole) * 1e9))
        self.libc.timerfd_settime(self.file, 0, times, None)

    def _rang(self, ring: Callable[[], None]) -> None:
        try:
            os.read(self.file, 8)
        except BlockingIOError:  # wound up again since
            return
        ring()


class IntervalTimer:
    """Elsewhere the system's interval timer (SIGALRM): one a process, on its main thread's loop."""

    def __init__(self, ring: Callable[[], None]) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGALRM, ring)

    def wind(self, wait_s: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, wait_s)


class Agenda:
    def __init__(self) -> None:
        self.due: list[tuple[int, int, Callable, tuple]] = []
        self.order = count()
        self.is_ringing = False
        self.timer = (TimerFile if sys.platform == "linux" else IntervalTimer)(self._ring)

    def at(self, due_ns: int, function: Callable[..., None], *arguments: Any) -> None:
        """Call it then, or soon where that has been."""
        entry = (due_ns, next(self.order), function, arguments)
        heapq.heappush(self.due, entry)
        if self.due[0] is entry and not self.is_ringing:
            self._wind()

    def clear(self) -> None:
        self.due.clear()
        self.timer.wind(0)

    def _wind(self) -> None:
        if self.due:
            self.timer.wind(max((self.due[0][0] - now_ns()) / 1e9, SOONEST_S))

    def _ring(self) -> None:
        self.is_ringing = True
        while self.due and self.due[0][0] <= now_ns():
            _, _, function, arguments = heapq.heappop(self.due)
            function(*arguments)
        self.is_ringing = False
        self._wind()


class Lateness:
    """How late the loop comes to what is due every 20 ms: what holds it up delays a stamp too."""

    def __init__(self, agenda: Agenda) -> None:
        self.agenda = agenda
        self.late_ns = array.array("q")
        self.is_over = False
        self._await()

    def _await(self) -> None:
        due_ns = now_ns() + TICK_NS
        self.agenda.at(due_ns, self._tick, due_ns)

    def _tick(self, due_ns: int) -> None:
        if not self.is_over:
            self.late_ns.append(now_ns() - due_ns)
            self._await()

    def summary(self) -> dict[str, float]:
        """In ms; empty before the first tick."""
        late = sorted(self.late_ns)
        if not late:
            return {}
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
        return {
            f"loop_lag_{name}_ms": late[min(int(share * len(late)), len(late) - 1)] / 1e6
            for name, share in shares.items()
        }
