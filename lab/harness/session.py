"""One process measuring for one run: its clock's origin, its clients, its lease on the local
server, and how late its event loop runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import httpx2

from lab import heartbeat, machine, paths, pricing
from lab.clock import now_ns, sleep_s, today, utc_now
from lab.endpoints import failure_causes, registry
from lab.endpoints.registry import Endpoint
from lab.harness.budget import Budget
from lab.instrumentation.timing import LatencyCollector
from lab.model import LabError, new_id
from lab.rows import SessionRow
from lab.version import VERSION

if TYPE_CHECKING:
    from lab.endpoints.client import Client

LEASE_S = 120
WARM_S, ANSWER_S, GOODBYE_S = 1800.0, 60.0, 1.0
"""Generous where a busy machine makes everything slow; short where the lease ends by itself."""
HELD_POLL_S = 0.5
TICK_S = 0.01
KEPT_TICKS = 60_000


class Held(LabError):
    """Another measurement has the server."""


class LoopLag:
    """How late the loop wakes a timer of 10 ms: what holds it up would delay a stamp as much."""

    def __init__(self) -> None:
        self.at_ns: list[int] = []
        self.late_ns: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        due_ns = now_ns() + int(TICK_S * 1e9)

        def tick() -> None:
            nonlocal due_ns
            woken_ns = now_ns()
            self.at_ns.append(woken_ns)
            self.late_ns.append(max(0, woken_ns - due_ns))
            if len(self.at_ns) > KEPT_TICKS:
                del self.at_ns[: KEPT_TICKS // 2], self.late_ns[: KEPT_TICKS // 2]
            due_ns = woken_ns + int(TICK_S * 1e9)
            self._timer = loop.call_later(TICK_S, tick)

        self._timer = loop.call_later(TICK_S, tick)

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()

    def worst(self, from_ns: int, to_ns: int) -> int:
        """The longest lateness of a tick within an interval, or of the first one after it: a loop
        that was held up ticks late."""
        low, high = bisect_left(self.at_ns, from_ns), bisect_left(self.at_ns, to_ns)
        return max(self.late_ns[low : high + 1], default=0)

    def summary(self) -> dict[str, float | None]:
        lag = LatencyCollector(ns / 1e6 for ns in self.late_ns).percentiles(50, 95, 99)
        return {f"loop_lag_p{q}_ms": value for q, value in lag.items()}


class Session:
    def __init__(
        self,
        run_id: str,
        endpoint: Endpoint,
        keep_text: bool,
        timeout_s: float,
        note: Callable[[str], None] = lambda text: None,
        budget: Budget | None = None,
        lent_lease: str | None = None,
    ) -> None:
        """`lent_lease` is another process's of the same run, which keeps it."""
        self.budget = budget or Budget(None)
        self.id, self.run_id, self.endpoint = new_id(), run_id, endpoint
        self.keep_text, self.timeout_s = keep_text, timeout_s
        self.note = note
        self.origin_ns = now_ns()
        self.lag = LoopLag()
        self.reads_unmarked = self.writes_reported = False
        """What the endpoint has reported of its cache in this session."""
        self.lease, self.is_lent = lent_lease, lent_lease is not None
        self._heart: subprocess.Popen | None = None
        self._clients: dict[str, Client] = {}
        self._others: dict[str, Endpoint] = {}

    async def open(
        self, models: Mapping[str, str], others: Mapping[str, Endpoint] | None = None
    ) -> None:
        """Take the lab's own server for this run alone, have it load its models, and make a client
        for each endpoint, those that requests name included: none of it may fall into a trial.

        LabError where the server refuses.
        """
        self.lag.start()
        await self.take_server(models)
        self.client_of(self.endpoint)
        for name, endpoint in (others or {}).items():
            await self._join(name, endpoint)

    async def take_server(self, models: Mapping[str, str]) -> None:
        """The lab's own server for this run alone, with its models loaded; any other is nobody's to
        take."""
        if self.endpoint.traits.own_server:
            await self._take_lease()
            for model in dict.fromkeys(models.values()):
                await self._own("POST", "/warm", {"model": model}, WARM_S)

    async def renew(self) -> None:
        """Make sure, between two trials, that the server is still this run's own."""
        if self.lease:
            await self._take_lease()

    async def _take_lease(self) -> None:
        """Take it or keep it; while another measurement has it, wait, and say so."""
        if self.is_lent:
            return
        # Its name is chosen here, so that one whose answer a Stop did not wait for can be given
        # back.
        self.lease = self.lease or secrets.token_hex(16)
        waiting = False
        while True:
            try:
                await self._own("POST", "/lease", self._terms())
                break
            except Held as held:
                if not waiting:
                    self.note(str(held))
                waiting = True
                await sleep_s(HELD_POLL_S)
        if self._heart is None:
            server = {"base_url": self.endpoint.base_url, "api_key": self.endpoint.api_key}
            self._heart = heartbeat.start(self._terms() | server)

    async def close(self) -> None:
        self.lag.stop()
        heartbeat.stop(self._heart)
        for client in self._clients.values():
            await client.close()
        self._clients.clear()
        if self.lease and not self.is_lent:
            with contextlib.suppress(LabError):
                await self._own("DELETE", "/lease", {}, GOODBYE_S)
            self.lease = None

    def client_of(self, endpoint: Endpoint) -> Client:
        """One client per endpoint, so that connections are kept from trial to trial, as an
        application would."""
        if endpoint.base_url not in self._clients:
            # A gateway on this machine leads to the same server, which knows a run by its lease.
            headers = self.lease_header() if endpoint.traits.own_server else {}
            from lab.endpoints.client import open_client  # the SDK: a load makes no call by it

            self._clients[endpoint.base_url] = open_client(endpoint, self.timeout_s, headers)
        return self._clients[endpoint.base_url]

    async def other(self, name: str) -> Endpoint:
        """Another endpoint of the same kind. Only one that could not be foreseen, since code of the
        user's own names it, is looked up inside a trial."""
        if name not in self._others:
            await self._join(name, await asyncio.to_thread(registry.beside, name, self.endpoint))
        return self._others[name]

    async def _join(self, name: str, endpoint: Endpoint) -> None:
        self._others[name] = await asyncio.to_thread(registry.connect, endpoint)
        self.client_of(self._others[name])

    def cost_usd(self, model: str, usage: Mapping[str, Any]) -> float | None:
        """None where there is no price: on the embedded model always, on the simulated one unless
        the user sets it."""
        has_prices = self.endpoint.traits.has_prices
        return pricing.cost_usd(model, usage, today()) if has_prices else None

    def lease_header(self) -> dict[str, str]:
        """What shows the lab's own server that a request is this run's."""
        return {"x-lab-lease": self.lease} if self.lease else {}

    def _terms(self) -> dict[str, Any]:
        return {
            "lease": self.lease,
            "holder": f"run {self.run_id}",
            "pid": os.getpid(),
            "seconds": LEASE_S,
        }

    async def _own(
        self, method: str, path: str, body: dict[str, Any], timeout_s: float = ANSWER_S
    ) -> dict[str, Any]:
        server = f"The {self.endpoint.kind} server"
        headers = {"x-api-key": self.endpoint.api_key, **self.lease_header()}
        try:
            # Plain HTTP on loopback: what would verify a certificate takes 20 ms to be made ready.
            options = {"trust_env": False, "verify": False, "timeout": timeout_s}
            async with httpx2.AsyncClient(**options) as http:
                reply = await http.request(
                    method, self.endpoint.base_url + path, json=body, headers=headers
                )
            answer = reply.json()
        except (httpx2.TransportError, ValueError) as error:
            raise LabError(
                f"{server} at {self.endpoint.base_url} does not answer ({type(error).__name__})."
            ) from error
        if reply.status_code == 409:
            raise Held(
                f"Another measurement uses the {self.endpoint.kind} server; waiting for it to end. "
                f"{answer['error']['message']}"
            )
        if reply.status_code == 401:
            place = self.endpoint.base_url
            raise LabError(failure_causes.of_the_key(self.endpoint, reply.status_code, place))
        if reply.status_code >= 400:
            raise LabError(f"{server} refused: {answer['error']['message']}")
        return answer


def session_row(run_id: str, session_id: str, pid: int, instrument: dict[str, Any]) -> SessionRow:
    """Of this lab on this machine; `pid` is the process's that measures."""
    host = socket.gethostname()
    return SessionRow(
        session_id=session_id,
        run_id=run_id,
        worker=f"{host}:{pid}",
        host=host,
        started_utc=utc_now(),
        lab_version=VERSION,
        commit=paths.commit(),
        machine=machine.facts(),
        instrument=instrument,
    )
