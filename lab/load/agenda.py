"""What is due at which instant, to a tenth of a millisecond: uvloop's own timers count whole
milliseconds, and to spin would take the core from the sockets.

The system's interval timer rings (SIGALRM) when the first thing is due, so a process has one agenda
and its loop is the main thread's.
"""

from __future__ import annotations

import array
import asyncio
import heapq
import signal
from collections.abc import Callable
from itertools import count
from typing import Any

from lab.clock import now_ns

TICK_NS = 10_000_000
SOONEST_S = 1e-6


class Agenda:
    def __init__(self) -> None:
        self.due: list[tuple[int, int, Callable, tuple]] = []
        self.order = count()
        asyncio.get_running_loop().add_signal_handler(signal.SIGALRM, self._ring)

    def at(self, due_ns: int, function: Callable[..., None], *arguments: Any) -> None:
        """Call it then, or soon where that has been."""
        entry = (due_ns, next(self.order), function, arguments)
        heapq.heappush(self.due, entry)
        if self.due[0] is entry:
            self._wind()

    def clear(self) -> None:
        self.due.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _wind(self) -> None:
        if self.due:
            wait_s = (self.due[0][0] - now_ns()) / 1e9
            signal.setitimer(signal.ITIMER_REAL, max(wait_s, SOONEST_S))

    def _ring(self) -> None:
        while self.due and self.due[0][0] <= now_ns():
            _, _, function, arguments = heapq.heappop(self.due)
            function(*arguments)
        self._wind()


class Lateness:
    """How late the loop comes to what is due every 10 ms: what holds it up delays a stamp too."""

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
