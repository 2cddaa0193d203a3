"""A load that several workers share: what lab.load_stages does with one loader, with one on each of
them. Rows are written here alone.

Each worker is a session of the run, with a clock of its own. A level's parts begin together, as far
as the workers' wall clocks agree. A worker that is lost takes along what it had not handed on; the
others finish, and share the levels that follow.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pyarrow as pa

from lab import load_part, units
from lab.clock import now_ns, sleep_s, unix_ms
from lab.load.loading import LevelEnd
from lab.load.parts import parts, share
from lab.load.profile import CallFact, Level
from lab.load_keeping import Keeping, level_row, run_row
from lab.load_leading import NEARLY, SPENT, shortened
from lab.load_order import LoadOrder
from lab.load_part import LevelOrder, Parcel, PartOrder
from lab.load_stages import MOST_BIASED, LoadRun, most_at_once
from lab.model import LabError
from lab.rows import SessionRow
from lab.run_loop import Telling
from lab.spread import Cluster, Worker, WorkerLost
from lab.store import row_batches
from lab.store.row_batches import Batch
from lab.store.store import Store

POLL_S, AHEAD_MS = 0.2, 200
READY_S, MEASURED_S = 120.0, 30.0
"""Generous where a worker's machine is busy, or works for somebody else."""


@dataclass
class Part:
    """One worker, and what it does of the load."""

    worker: Worker
    session: SessionRow | None = None
    origin_ns: int = 0
    most: int = 0
    """Requests under way at once, in any level."""
    # Of the level under way:
    level: Level | None = None
    """None where it has no part in it."""
    started_ns: int | None = None
    facts: list[CallFact] = field(default_factory=list)
    end: LevelEnd | None = None
    lost: str = ""
    """How it was lost; it is asked for nothing more."""

    @property
    def is_measured(self) -> bool:
        """Whether it knows its own error, or why it does not."""
        return bool(self.session.instrument.keys() & {"load_bias", "load_bias_failed"})

    @property
    def is_unfinished(self) -> bool:
        """Whether it was lost before it could tell how its part of the level ended."""
        return bool(self.lost) and self.end is not None and self.end.reason == self.lost

    def begin(self, level: Level | None) -> None:
        self.level, self.started_ns, self.end, self.facts = level, None, None, []

    def begun_ns(self) -> int:
        return self.origin_ns if self.started_ns is None else self.started_ns


class Arrived:
    """Rows as workers have read them, in the place of lab.load.reading.Reader."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def read(self, fact: CallFact, label: str) -> CallFact:
        return fact

    def take(self) -> Batch | None:
        """Of all that came since the last time."""
        batches, self.batches = self.batches, []
        return Batch(*map(pa.concat_tables, zip(*batches, strict=True))) if batches else None


class Loaders:
    """Those of all workers, led as if they were one (lab.load.loading.Loader)."""

    def __init__(self, run: SpreadRun) -> None:
        config = run.config
        self.run, self.cluster = run, Cluster(config.workers, config.scheduler)
        self.parts: list[Part] = []
        self.arrived = Arrived()
        self.started_ns: int | None = None
        self.unread = 0
        """Each worker's own, and of no use here."""

    @property
    def live(self) -> list[Part]:
        return [part for part in self.parts if not part.lost]

    @property
    def playing(self) -> list[Part]:
        """Those whose part of the level goes on."""
        return [part for part in self.live if part.level and not part.end]

    async def start(self) -> None:
        await self.cluster.open()

    async def prepare(self, orders: list[PartOrder]) -> None:
        """LabError where one of them cannot ask, such as for want of a key."""
        for worker, own in zip(self.cluster.workers, orders, strict=True):
            self.parts.append(Part(worker))
            self.cluster.begin(worker, load_part.play, f"{own.run_id}:{own.place}", own)
        try:
            async with asyncio.timeout(READY_S):
                while any(part.session is None for part in self.live):
                    await self._hear(self.live)
                    await sleep_s(POLL_S)
        except TimeoutError:
            late = next(part for part in self.live if part.session is None)
            raise LabError(
                f"The {late.worker.text} did not begin within {READY_S:.0f} s. Try again when it"
                " works for nobody else."
            ) from None

    async def level(
        self, level: Level, most: int | None = None
    ) -> AsyncIterator[CallFact | LevelEnd]:
        """Each call soon after it has ended, then what the level came to; instants of the end are
        of this process's clock."""
        begun_ns = await self._begin(level, most)
        while self.playing:
            # The others too: a part that nobody asks ends by itself.
            for fact in await self._hear(self.live):
                yield fact
            await sleep_s(POLL_S)
        if not self.live:
            raise LabError("All workers were lost. The calls that they had handed on are kept.")
        yield self._whole(level, begun_ns)

    async def cut(self, reason: str, let_end: bool = False) -> None:
        await self._order(self.playing, "cut", reason, let_end)

    async def stop(self) -> None:
        await self.cut("stopped")

    async def measure(self) -> None:
        """Each measures itself, all at the same time, with as many streams as it had."""
        measuring = [part for part in self.live if part.most]
        for part in measuring:
            await self._order([part], "measure", min(part.most, MOST_BIASED))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MEASURED_S):
                while not all(part.lost or part.is_measured for part in measuring):
                    await self._hear([part for part in measuring if not part.lost])
                    await sleep_s(POLL_S)

    async def close(self) -> None:
        await self.cluster.close()

    # Within

    async def _begin(self, level: Level, most: int | None) -> int:
        live = self.live
        for part in self.parts:
            part.begin(None)
        shares = parts(level, len(live), most)
        at_ms = unix_ms() + AHEAD_MS
        usd = self.run.left_usd
        for place, (part, own) in enumerate(zip(live, shares, strict=False)):
            part.begin(own)
            at_once = most and share(most, place, len(shares))
            allowed = None if usd is None else usd / len(shares)
            await self._order([part], "level", LevelOrder(own, at_once, at_ms, allowed))
        self.started_ns = now_ns()
        return self.started_ns

    async def _hear(self, asked: list[Part]) -> list[CallFact]:
        """What they have handed on, its rows kept by then."""
        facts: list[CallFact] = []
        answers = await asyncio.gather(*(self._taken(part) for part in asked))
        for part, parcels in zip(asked, answers, strict=True):
            for parcel in parcels:
                facts += self._open(part, parcel)
        return facts

    async def _taken(self, part: Part) -> list[Parcel]:
        try:
            return await self.cluster.take(part.worker)
        except WorkerLost as lost:
            self._lose(part, str(lost))
            return []

    def _open(self, part: Part, parcel: Parcel) -> tuple[CallFact, ...]:
        if parcel.failure:
            if part.session is None:
                raise LabError(f"The {part.worker.text} cannot measure: {parcel.failure}")
            self._lose(part, f"{part.worker.text} gave up ({parcel.failure.rstrip('.')})")
        if parcel.session is not None:
            parcel.session.instrument["dask_worker"] = part.worker.address
            part.session = parcel.session
            part.origin_ns = parcel.origin_ns or part.origin_ns
        if parcel.rows:
            self.arrived.batches.append(row_batches.unpacked(parcel.rows))
        part.started_ns = parcel.started_ns if part.started_ns is None else part.started_ns
        part.facts += parcel.facts
        part.end = parcel.end or part.end
        return parcel.facts

    async def _order(self, asked: list[Part], do: str, *values: object) -> None:
        async def one(part: Part) -> None:
            try:
                await self.cluster.order(part.worker, do, *values)
            except LabError as error:
                self._lose(part, str(error))

        await asyncio.gather(*map(one, asked))

    def _lose(self, part: Part, why: str) -> None:
        if part.lost:
            return
        part.lost = why
        if part.level and part.end is None:
            part.end = self._unfinished(part)
            missing = units.counted(part.end.not_begun, "request")
            why = f"{why}: {missing} of its part of {part.level.label} missing"
        self.run.note(f"The {why}.")

    def _unfinished(self, part: Part) -> LevelEnd:
        """What is known of a part whose end nobody told."""
        level, handed_on = part.level, len(part.facts)
        if self.run.leading.planned_for_seconds(level, part.lost):
            # What it might have made is not known; what was under way is missing for certain.
            part.level = shortened(level, handed_on + int(level.target))
        ended_ns = max((fact.ended_ns for fact in part.facts), default=part.begun_ns())
        left = part.level.requests - handed_on
        return LevelEnd(level.number, part.begun_ns(), ended_ns, left, part.lost)

    def _whole(self, level: Level, begun_ns: int) -> LevelEnd:
        ends = [part.end for part in self.parts if part.end]
        for part in self.parts:
            part.most = max(part.most, most_at_once(part.facts) if level.number else 0)
        if any(end.reason == SPENT for end in ends):
            self.run.is_spent()
        client: dict[str, float] = {}
        for end in ends:
            for name, value in end.client.items():
                client[name] = max(value, client.get(name, value))
        return LevelEnd(
            level.number,
            begun_ns,
            now_ns(),
            sum(end.not_begun for end in ends),
            "; ".join(dict.fromkeys(end.reason for end in ends if end.reason)),
            client,
        )


class SpreadKeeping(Keeping):
    """A level has a row for each session that had a part in it."""

    def __init__(self, run: SpreadRun, loaders: Loaders) -> None:
        super().__init__(run.store, loaders.arrived, run.note, (run.run_id, ""), 0)
        self.of_run, self.loaders = run, loaders

    async def level(self, level: Level, end: LevelEnd | int) -> None:
        leading = self.of_run.leading
        for part in self.loaders.parts:
            if part.level is None or part.session is None:
                continue
            own, own_end = part.level, part.end or part.begun_ns()
            has_ended = part.end and not part.is_unfinished
            if has_ended and leading.planned_for_seconds(own, part.end.reason):
                own = shortened(own, len(part.facts))
                own_end = replace(part.end, not_begun=0)
            ids = (self.of_run.run_id, part.session.session_id)
            row = level_row(ids, part.origin_ns, own, own_end)
            await self._write(self.store.write_level, row)


class SpreadRun(LoadRun):
    """A load on the workers of the order."""

    def __init__(self, order: LoadOrder, store: Store, telling: Telling) -> None:
        super().__init__(order, store, telling)
        self.loader = Loaders(self)

    async def _prepare(self) -> None:
        asked, endpoint, lease = self.order, self.endpoint, self.session.lease_header()
        await self.loader.prepare(
            [
                PartOrder(
                    self.run_id,
                    place,
                    endpoint.name,
                    dict(endpoint.models),
                    lease,
                    asked.bodies,
                    asked.betas,
                    asked.task_ids,
                    self.config.timeout_s,
                    self.config.keep_text,
                )
                for place in range(len(self.loader.cluster.workers))
            ]
        )

    async def _write_rows(self) -> None:
        self.keeping = SpreadKeeping(self, self.loader)
        await asyncio.to_thread(self.store.close_orphans, self.run_id)
        await self.keeping.run(run_row(self.order, self.endpoint, self.run_id))
        await self._write_sessions()
        self.leading = self._leading()

    async def _write_sessions(self) -> None:
        for part in self.loader.parts:
            if part.session is not None:
                await self.keeping.session(part.session)

    async def _measure_itself(self) -> None:
        await self.loader.measure()
        await self._write_sessions()

    def is_spent(self) -> None:
        """A worker's share of the budget is: no level follows."""
        self.leading.ended_by = self.leading.ended_by or f"{NEARLY} {self.budget.left}"

    def note(self, text: str) -> None:
        self._note(text)

    @property
    def left_usd(self) -> float | None:
        budget = self.budget
        return None if budget.usd is None else max(0.0, budget.usd - budget.spent_usd)
