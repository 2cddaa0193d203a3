"""One level as the loader plays it: which request goes out when, until all have ended or it is
cut."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import deque
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from lab.clock import now_ns, working_ns
from lab.load.agenda import Agenda, Lateness
from lab.load.call_frame import CallFrame
from lab.load.wire import Template, Wire

BUSY = ("429", "503", "529")
LONGEST_WAIT_S = 60.0
"""Asked by retry-after, and waited for; a server that asks for more ends the level."""


def nonce(salt: str, level: int, play: int) -> bytes:
    """16 digits that no other play of any run has; the requests of one share its cache, as those of
    one user would."""
    digest = hashlib.sha256(f"{salt}:{level}:{play}".encode()).digest()
    return b"%016d" % (int.from_bytes(digest[:8]) % 10**16)


class Playing:
    """`level` as lab.load.loading writes it; `hand_on` gets each call, `over` what it came to."""

    def __init__(
        self,
        level: dict[str, Any],
        templates: list[Template],
        salt: str,
        agenda: Agenda,
        hand_on: Callable[[CallFrame], None],
        over: Callable[[dict[str, Any]], None],
    ) -> None:
        self.level, self.templates, self.salt = level, templates, salt
        self.number, self.plays, self.at_s = level["number"], level["plays"], level["at_s"]
        self.agenda, self.hand_on, self.over = agenda, hand_on, over
        self.is_closed = level["mode"] == "closed"
        self.honours_waits = level["honours_waits"]
        self.first_requests = list(accumulate(map(len, self.plays), initial=0))
        """The number of each play's first request; then of all."""
        self.most = level["most"] or math.inf
        self.taken = 0
        """Plays that have begun or are due."""
        self.due: deque[tuple[int, int, int]] = deque()
        """Requests that could go out now: when each was due, its play and its step."""
        self.begun = self.in_flight = self.waits = 0
        self.waited_s = 0.0
        self.held_until_ns = 0
        self.reason = ""
        self.is_cut = self.is_over = False
        self.loop = asyncio.get_running_loop()

    def start(self, wire: Wire) -> int:
        """When that was, in ns."""
        self.wire, self.opened = wire, wire.opened
        self.lateness = Lateness(self.agenda)
        self.working_ns = working_ns()
        self.started_ns = now_ns()
        if self.is_closed:
            for at_s in self._stream_starts():
                due_ns = self.started_ns + int(at_s * 1e9)
                self.agenda.at(due_ns, self._take, due_ns)
        else:
            self._await_play()
        self._end_if_done()
        return self.started_ns

    def _stream_starts(self) -> list[float]:
        if self.at_s:
            return self.at_s
        streams = min(int(self.level["target"]), len(self.plays))
        return [place * self.level["over_s"] / streams for place in range(streams)]

    def _await_play(self) -> None:
        """Open loop: the next play, at its instant."""
        if self.taken < len(self.plays) and not self.is_cut:
            due_ns = self.started_ns + int(self.at_s[self.taken] * 1e9)
            self.agenda.at(due_ns, self._take, due_ns)

    def _take(self, due_ns: int) -> None:
        """A play begins: its stream is free (closed), or its instant has come (open)."""
        if self.taken < len(self.plays) and not self.is_cut:
            self.taken += 1
            self._ask(due_ns, self.taken - 1, 0)
            if not self.is_closed:
                self._await_play()

    def _ask(self, due_ns: int, play: int, step: int) -> None:
        if not self.is_cut:
            self.due.append((due_ns, play, step))
            self._send()

    def _send(self) -> None:
        """What is due, as far as the ceiling and the server let it."""
        while self.due and self.in_flight < self.most and not self._is_held():
            due_ns, play, step = self.due.popleft()
            request, template = self.first_requests[play] + step, self.plays[play][step][0]
            filled = self.templates[template].filled(nonce(self.salt, self.number, play))
            call = CallFrame(
                self.number, request, play, step, template, 1, due_ns, now_ns(),
                None, None, None, None, None, 0, None, None,
            )  # fmt: skip
            self.in_flight += 1
            self.begun += 1
            self.wire.send(call, filled)

    def _is_held(self) -> bool:
        return self.held_until_ns > 0 and now_ns() < self.held_until_ns

    def ended(self, call: CallFrame) -> None:
        """Called by the wire. What follows waits until the other sockets that have something have
        been stamped."""
        self.in_flight -= 1
        play, step = call.play, call.step + 1
        if step < len(self.plays[play]):
            due_ns = call.ended_ns + int(self.plays[play][step][1] * 1e9)
            self.agenda.at(due_ns, self._ask, due_ns, play, step)
        elif self.is_closed:
            self.loop.call_soon(self._take, call.ended_ns)
        if self.due:
            self.loop.call_soon(self._send)
        self.loop.call_soon(self.hand_on, call)
        self._heed_retry_after(call)
        self._end_if_done()

    def _heed_retry_after(self, call: CallFrame) -> None:
        if not (self.honours_waits and str(call.status) in BUSY):
            return
        try:
            wait_s = float(call.headers["retry-after"])
        except (KeyError, ValueError):
            return
        if not 0 < wait_s <= LONGEST_WAIT_S:
            if wait_s > 0:
                self.cut(f"the server asked to wait {wait_s:,.0f} s (retry-after)")
            return
        until_ns = call.ended_ns + int(wait_s * 1e9)
        if until_ns > self.held_until_ns:
            self.waits += 1
            self.waited_s += (until_ns - max(self.held_until_ns, call.ended_ns)) / 1e9
            self.held_until_ns = until_ns
            self.agenda.at(until_ns, self._send)

    def cut(self, reason: str, let_end: bool = False) -> None:
        """No more requests; those under way end by themselves or are cancelled."""
        if not self.is_over:
            self.is_cut, self.reason = True, self.reason or reason
            self.due.clear()
            if not let_end:
                self.wire.cancel()
            self._end_if_done()

    def _end_if_done(self) -> None:
        is_done = self.is_cut or self.begun == self.first_requests[-1]
        if is_done and not self.in_flight and not self.is_over:
            self.is_over = self.lateness.is_over = True
            ended_ns, worked_ns = now_ns(), working_ns() - self.working_ns
            self.agenda.clear()
            # After the last call has been handed on.
            self.loop.call_soon(self._tell, ended_ns, worked_ns)

    def _tell(self, ended_ns: int, worked_ns: int) -> None:
        client = {
            **self.lateness.summary(),
            "cpu_share": worked_ns / max(ended_ns - self.started_ns, 1),
            "connections": self.wire.opened - self.opened,
            "retry_after_waits": self.waits,
            "retry_after_s": self.waited_s,
        }
        outcome = {
            "number": self.number,
            "started_ns": self.started_ns,
            "ended_ns": ended_ns,
            "not_begun": self.first_requests[-1] - self.begun,
            "reason": self.reason,
            "client": client,
        }
        self.over(outcome)
