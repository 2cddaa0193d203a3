"""Other processes and machines that measure for a run: the workers of a Dask cluster, started on
this machine or found at a scheduler.

What a worker is asked and what it answers goes through the scheduler; a key never does: each worker
takes its own from where it runs. One that is lost is not replaced, and is asked nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from lab import endpoint_kinds, machine, part
from lab.model import EndpointKind, LabError
from lab.version import VERSION

EXTRA = (
    "Several processes or machines need Dask: pip install 'llm-latency-lab[distributed]'. Without"
    " it, leave --workers and --scheduler out."
)
QUIET = {
    # It would stop what measures a hundred times a second.
    "distributed.worker.profile.enabled": False,
    # Nor does anything of it look fifty times a second how late its loop is.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    # Pages of what goes on, for whoever asks.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
TRUSTED = "LAB_TRUST_SCHEDULER"
REACH_S, ANSWER_S = 30, 30.0
"""For the scheduler to be there; for a worker to answer, after which it is taken for lost."""


class WorkerLost(LabError):
    """A worker that answers no more; the sentence names it."""


class Place(NamedTuple):
    """Where a worker runs."""

    host: str
    pid: int
    lab_version: str


def place() -> Place:
    """Asked on a worker."""
    return Place(socket.gethostname(), os.getpid(), VERSION)


@dataclass
class Worker:
    address: str
    place: Place
    part: str = ""
    """The name of what it does for the run (lab.part); empty where that is nothing, or it was
    lost."""
    task: Any = field(repr=False, default=None)
    """The future of what it was begun with."""
    has_begun: bool = False

    @property
    def text(self) -> str:
        return f"worker {self.address} on {self.place.host} (process {self.place.pid})"


def check(scheduler: str | None, kind: EndpointKind) -> None:
    """LabError where Dask is not installed, the scheduler's address is not to be trusted, or its
    workers could not reach an endpoint of this kind."""
    if find_spec("distributed") is None:
        raise LabError(EXTRA)
    if scheduler is None:
        return
    parts = urlsplit(scheduler)
    if parts.scheme not in ("tcp", "tls") or not parts.hostname or not _port(parts):
        raise LabError(
            f"{scheduler!r:.200} is no Dask scheduler: give tcp://HOST:PORT or tls://HOST:PORT."
        )
    is_near = machine.is_loopback(parts.hostname)
    if endpoint_kinds.kind(kind).own_server and not is_near:
        raise LabError(
            f"The {kind} server is on this machine alone, and workers elsewhere cannot reach it:"
            " leave --scheduler out, or name another endpoint."
        )
    is_named = os.environ.get(TRUSTED) == scheduler
    if parts.scheme == "tcp" and not is_near and not is_named:
        raise LabError(
            f"{scheduler} is neither encrypted nor knows who is asking: whoever reaches it reads"
            " the requests and runs code on its workers. Use tls:// (docs/many-machines.md) or a"
            f" tunnel to this machine; on a network that is yours alone, set {TRUSTED}={scheduler}."
        )


def _port(parts: Any) -> int | None:
    try:
        return parts.port
    except ValueError:
        return None


class Cluster:
    """`await open()`, then ask its `workers`; `await close()` ends those that it has started."""

    def __init__(self, workers: int, scheduler: str | None) -> None:
        self.wanted, self.scheduler = workers, scheduler
        self.local = self.client = None
        self.workers: list[Worker] = []

    async def open(self) -> None:
        """LabError where there is no such scheduler, it has too few workers, or one of them has
        another version of the lab."""
        # What it says of a lost worker is said by the run.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        from distributed import Client

        if self.scheduler is None:
            await self._start()
        try:
            where, security = self.local or self.scheduler, self.local and self.local.security
            self.client = Client(
                where, security=security, asynchronous=True, timeout=REACH_S, set_as_default=False
            )
            await self.client
        except (OSError, TimeoutError, TypeError, ValueError, RuntimeError) as error:
            raise LabError(
                f"No Dask scheduler answers at {self.scheduler}: {error}. Start one with `dask"
                " scheduler`; for tls:// this machine needs its certificates too"
                " (docs/many-machines.md)."
            ) from None
        await self._meet()

    async def _start(self) -> None:
        """On loopback and with certificates of this moment: whoever reaches a scheduler runs code
        as its user, and loopback is open to every user of the machine."""
        import dask
        from distributed import LocalCluster
        from distributed.security import Security

        dask.config.set(QUIET)
        # Kept before it is up: whoever is stopped meanwhile ends it too.
        self.local = LocalCluster(
            n_workers=self.wanted,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            security=Security.temporary(),
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            asynchronous=True,
        )
        await self.local
        for nanny in self.local.workers.values():
            # A worker that took the place of a lost one would start while others measure.
            nanny.close_gracefully()

    async def _meet(self) -> None:
        least = max(self.wanted, 1)
        with contextlib.suppress(TimeoutError):
            await self.client.wait_for_workers(least, timeout=REACH_S)
        known = (await self.client.scheduler.identity(n_workers=-1))["workers"]
        addresses = sorted(known)
        if len(addresses) < least:
            raise LabError(
                f"The scheduler at {self.scheduler} has {len(addresses)} workers, and {least} are"
                f" needed. Start more with `dask worker {self.scheduler}`."
            )
        if self.wanted > 1:
            addresses = addresses[: self.wanted]
        for address in addresses:
            self.workers.append(Worker(address, await self._place(address)))

    async def _place(self, address: str) -> Place:
        try:
            found = await self._run(address, place)
        except (ImportError, AttributeError):
            raise LabError(
                f"The worker {address} has no lab that can measure for this one: pip install"
                f" 'llm-latency-lab[distributed]=={VERSION}' where it runs, and start it again."
            ) from None
        except Exception as error:
            raise LabError(f"The worker {address} does not answer: {error}") from None
        if found.lab_version != VERSION:
            raise LabError(
                f"The worker {address} on {found.host} has version {found.lab_version} of the lab,"
                f" and this is {VERSION}: what they measure could not be compared. Install the same"
                " version on both."
            )
        return found

    async def ask(self, worker: Worker, function: Callable, *values: Any) -> Any:
        """The answer of a brief function that runs beside whatever the worker does; WorkerLost
        where it does not come."""
        try:
            return await self._run(worker.address, function, *values)
        except LabError:
            raise
        except Exception as error:
            why = "nothing came from it in time" if isinstance(error, TimeoutError) else str(error)
            raise await self._lost(worker, why) from None

    async def order(self, worker: Worker, do: str, *values: Any) -> None:
        """LabError where its part has ended."""
        await self.ask(worker, part.order, worker.part, do, *values)

    async def take(self, worker: Worker) -> list[Any]:
        """What its part has handed on; WorkerLost where that has ended."""
        parcels = await self.ask(worker, part.take, worker.part)
        worker.has_begun = worker.has_begun or parcels is not None
        if parcels is None and (worker.has_begun or worker.task.status == "error"):
            raise await self._lost(worker, "what it did for this run has ended by itself")
        return parcels or []

    async def _lost(self, worker: Worker, why: str) -> WorkerLost:
        """Another process may come to have its address: it is not to begin anew."""
        worker.part = ""
        if worker.task is not None:
            with contextlib.suppress(Exception):
                await worker.task.cancel()
        return WorkerLost(f"{worker.text} was lost ({why:.120})")

    async def _run(self, address: str, function: Callable, *values: Any) -> Any:
        async with asyncio.timeout(ANSWER_S):
            answers = await self.client.run(function, *values, workers=[address])
        return answers[address]

    def begin(self, worker: Worker, function: Callable, name: str, order: Any) -> None:
        """A part of this name, for which the worker is kept from other work."""
        worker.part = name
        worker.task = self.client.submit(
            function,
            name,
            order,
            workers=[worker.address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )

    async def close(self) -> None:
        """Workers that somebody else has started are free for the next run at once."""
        leaving = (self.order(worker, "leave") for worker in self.workers if worker.part)
        await asyncio.gather(*leaving, return_exceptions=True)
        for end in (self.client, self.local):
            if end is not None:
                with contextlib.suppress(Exception):
                    await end.close()
