"""A load from beginning to end: the coordinator, which prepares, leads one loader process, reads
what it hands on, and stores it. It stamps nothing itself.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from functools import partial
from itertools import accumulate
from typing import Any

from lab import run_loop, units
from lab.clock import now_ns, utc_now
from lab.endpoints import registry
from lab.harness.budget import Budget
from lab.harness.session import Session, session_row
from lab.load import preparing, slo
from lab.load.loading import Loader
from lab.load.profile import CallFact, Level, LevelOutcome, Step
from lab.load.steering import Search, Steering, Sweep
from lab.load_keeping import Keeping, run_row
from lab.load_leading import Leading, LoaderGone
from lab.load_order import LoadOrder
from lab.model import LOAD, LabError, Status
from lab.run_loop import Telling
from lab.store.store import Store

STOP_POLL_S = 0.1
READ_ON_S = 20.0
"""After a Stop; MOST_UNREAD_BYTES take a few seconds."""
STOPPED = "Stopped by request."
MOST_BIASED = 512


class LoadRun:
    """`await run()` loads; `status` and `text` then say how it ended."""

    def __init__(self, order: LoadOrder, store: Store, telling: Telling) -> None:
        self.order, self.config, self.store, self.tell = order, order.config, store, telling
        self.endpoint, self.run_id = order.endpoint, telling.run_id
        self.status: Status = "running"
        self.text = ""
        self.budget = Budget(order.budget_usd)
        self.steering = steering(order)
        # What a call costs has to be known before the next one begins.
        self.loader = Loader(at_once=order.budget_usd is not None)
        self.leading: Leading | None = None
        self.session = self.keeping = self.writing = None
        self.outcomes: list[LevelOutcome] = []
        self.stopping = False

    async def run(self) -> None:
        """Asked to stop at whatever moment, it makes no more requests, and ends within a second but
        for what it has to read."""
        work = asyncio.create_task(self._run())
        try:
            while not (await asyncio.wait({work}, timeout=STOP_POLL_S))[0]:
                if not self.stopping and self.tell.stop():
                    self.stopping = True
                    await self._stop(work)
            if not (work.cancelled() and self.stopping):
                work.result()
        finally:
            work.cancel()
            await asyncio.wait({work})
            await self._close()

    async def _stop(self, work: asyncio.Task) -> None:
        """What was answered by now is read first, and kept."""
        self._end("interrupted", STOPPED)
        if self.leading and self.leading.so_far:
            await self.loader.stop()
            await self._read_on(work)
        work.cancel()

    async def _read_on(self, work: asyncio.Task) -> None:
        begun_ns, is_told = now_ns(), False
        while not (await asyncio.wait({work}, timeout=run_loop.STOPPED_S))[0]:
            if not (unread := self.loader.unread) or now_ns() - begun_ns > READ_ON_S * 1e9:
                return
            if not is_told:
                is_told = True
                calls = units.counted(unread, "call")
                self._note(f"No more requests are made; {calls} that had ended are read first.")

    async def _run(self) -> None:
        try:
            await self._open()
            await self._levels()
            if not self.stopping and self.config.bias:
                await self._measure_itself()
            self._end(*self._conclusion())
        except asyncio.CancelledError:
            self._end("interrupted", STOPPED)
            raise
        except LoaderGone as error:
            self._end("interrupted", str(error))
        except LabError as error:
            self._end("failed", str(error))
            raise
        except BaseException as error:
            self._end("failed", f"{type(error).__name__}: {error}")
            raise

    def _end(self, status: Status, text: str) -> None:
        if self.status == "running":
            self.status, self.text = status, text

    # Before

    async def _open(self) -> None:
        """The loader, what makes the requests and the endpoint's own server take their time beside
        each other."""
        if not self.config.is_spread:  # each worker makes its own
            preparing.begin()
        starting = asyncio.create_task(self.loader.start())
        connected = asyncio.create_task(asyncio.to_thread(registry.connect, self.endpoint))
        try:
            self.endpoint = await connected
            await self._take_server()
            await starting
        finally:
            starting.cancel()
            connected.cancel()
        await self._prepare()
        await self._write_rows()
        self._announce()

    async def _take_server(self) -> None:
        deadline_s = self.config.timeout_s
        self.session = Session(self.run_id, self.endpoint, False, deadline_s, self._note)
        await self.session.take_server({"any": self.order.model})

    async def _prepare(self) -> None:
        order = self.order
        asked = await preparing.prepare(
            self.endpoint,
            order.bodies,
            order.betas,
            salt=self.run_id,
            timeout_s=self.config.timeout_s,
            headers=self.session.lease_header(),
        )
        await self.loader.prepare(asked)

    async def _write_rows(self) -> None:
        from lab.load.reading import Reader

        ids, ready, order = (self.run_id, self.session.id), self.loader.ready, self.order
        origin_ns = ready["now_ns"]
        reader = Reader(
            *ids,
            self.endpoint.name,
            self.endpoint.kind,
            order.bodies,
            origin_ns=origin_ns,
            origin_utc=utc_now() - timedelta(microseconds=(now_ns() - origin_ns) / 1000),
            task_ids=order.task_ids,
            keep_text=self.config.keep_text,
        )
        self.keeping = Keeping(self.store, reader, self._note, ids, origin_ns)
        self.leading = self._leading()
        self.writing = asyncio.create_task(self._begin_rows(ids, ready))

    async def _begin_rows(self, ids: tuple[str, str], ready: dict[str, Any]) -> None:
        """The warm-up goes on meanwhile."""
        run = run_row(self.order, self.endpoint, self.run_id)
        session_of = partial(session_row, *ids, ready["pid"], {"loop": ready["loop"]})
        self.row = await self.keeping.begin(run, session_of)

    def _leading(self) -> Leading:
        return Leading(
            self.loader,
            self.keeping,
            self.tell,
            self.budget,
            self.steering,
            self.order.ceiling,
            self.config.seconds,
            is_counted=self.config.requests is not None,
        )

    # The load

    async def _levels(self) -> None:
        if self.order.warmups:
            warm_up = await self.leading.lead(self._warm_up())
            if isinstance(self.steering, Search):
                self.steering.warmed_up(warm_up)
        if self.writing is not None:
            await self.writing
        while not self._is_over and (level := self.steering.next(self.outcomes)) is not None:
            self.outcomes.append(await self.leading.lead(level))
            await self.session.renew()

    @property
    def _is_over(self) -> bool:
        return self.stopping or bool(self.leading.ended_by)

    def _warm_up(self) -> Level:
        """Level 0: on other prompts, and one after the other."""
        count = self.config.warmup
        plays = tuple((Step(place % self.order.warmups),) for place in range(count))
        return Level(0, "closed", 1, plays, label="warm-up")

    async def _measure_itself(self) -> None:
        """What a loader adds to a time on this machine, right after and with as many streams."""
        from lab.load.bias import bias

        streams = max((most_at_once(outcome.facts) for outcome in self.outcomes), default=0)
        if not streams:
            return
        try:
            self.row.instrument["load_bias"] = await bias(min(streams, MOST_BIASED))
        except LabError as error:
            self._note(f"What the instrument itself adds was not measured: {error}")
        await self.keeping.session(self.row)

    def _conclusion(self) -> tuple[Status, str]:
        leading, requests = self.leading, sum(len(each.facts) for each in self.outcomes)
        if not leading.answered:
            text = f"None of {units.counted(requests, 'request')} was answered."
            return "failed", leading.ended_by or text
        is_whole = not any(each.not_begun for each in self.outcomes[-1:])
        if leading.ended_by and not (is_whole and self.steering.next(self.outcomes) is None):
            return "interrupted", leading.ended_by
        return "finished", units.counted(requests, "request")

    # What to say

    def _note(self, text: str) -> None:
        self.tell({"kind": "note", "text": text})

    def _announce(self) -> None:
        self.tell(
            {
                "kind": "started",
                "run_id": self.run_id,
                "technique": LOAD,
                "endpoint": self.endpoint.name,
                "endpoint_kind": self.endpoint.kind,
                "models": self.models,
                "levels": self.steering.levels,
                "ceiling": self.order.ceiling,
                "pid": os.getpid(),
                "started_utc": utc_now().isoformat(),
            }
        )

    @property
    def models(self) -> dict[str, str]:
        return {self.endpoint.generates: self.order.model}

    async def _close(self) -> None:
        await self.loader.close()
        if self.session is not None:
            await self.session.close()
        if self.writing is not None:
            await asyncio.wait({self.writing})
        if self.keeping is not None:
            await self.keeping.ended(self.run_id, self.status)
        self.tell({"kind": "ended", "status": self.status, "text": self.text})


def steering(order: LoadOrder) -> Steering:
    """Which levels there will be, as the settings say."""
    config, plan = order.config, order.plan
    if config.search:
        objectives = slo.objectives(config.slo)
        return Search(plan, objectives, order.ceiling, order.first)
    if rising := config.rising:
        return Sweep([plan.ramp(1, rising.low, rising.high, config.seconds)])
    return Sweep([plan.level(place, target) for place, target in enumerate(order.targets, 1)])


def most_at_once(facts: list[CallFact]) -> int:
    """Requests under way at once, at most."""
    changes = sorted([(fact.started_ns, 1) for fact in facts] + [(f.ended_ns, -1) for f in facts])
    return max(accumulate(change for _, change in changes), default=0)
