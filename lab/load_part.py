"""What a worker does of a load that several share: a loader of its own plays its part of each
level, and what ended is handed on while it goes, as Arrow's IPC streams.
lab.load_spread leads it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from lab.clock import now_ns, sleep_s, unix_ms, utc_now
from lab.endpoints import registry
from lab.harness.session import session_row
from lab.load.bias import bias
from lab.load.loading import LevelEnd, Loader
from lab.load.profile import CallFact, Level
from lab.load.reading import Reader
from lab.load_leading import SPENT
from lab.model import LabError, new_id
from lab.part import Part
from lab.rows import SessionRow
from lab.store import row_batches

HANDED_S = 0.2


@dataclass(frozen=True)
class PartOrder:
    """What a worker has to know before the first level. No key: it takes its own."""

    run_id: str
    place: int
    """From 0: the worker's among those of the run."""
    endpoint: str
    models: Mapping[str, str]
    headers: Mapping[str, str]
    """A lease of the lab's own server, which is on the same machine then."""
    bodies: Sequence[Mapping[str, Any]]
    betas: Sequence[str]
    task_ids: Sequence[str | None]
    timeout_s: float
    keep_text: bool


class LevelOrder(NamedTuple):
    level: Level
    most: int | None
    """Requests under way at once in an open loop."""
    at_ms: int
    """By the wall clock: when all parts begin."""
    usd: float | None
    """What this part may cost; None is without a limit."""


class Parcel(NamedTuple):
    """What is handed on; in each, only what there is."""

    session: SessionRow | None = None
    """It is ready, or its session is known better by now."""
    origin_ns: int = 0
    """What its instants count from."""
    started_ns: int | None = None
    """Of the level under way, by its loader's clock."""
    facts: tuple[CallFact, ...] = ()
    rows: bytes = b""
    """Of the same calls (row_batches.packed)."""
    end: LevelEnd | None = None
    failure: str = ""
    """Why this part cannot go on."""


def play(name: str, order: PartOrder) -> None:
    """The whole of a load, on this worker."""
    asyncio.run(LoadPart(order).run(name))


class LoadPart(Part):
    """Its orders are `level` LevelOrder, `cut` reason let_end and `measure` streams."""

    def __init__(self, order: PartOrder) -> None:
        super().__init__()
        # A worker that is lost then loses its unfinished calls only.
        self.order, self.loader = order, Loader(at_once=True)
        self.facts: list[CallFact] = []
        self.spent_usd = self.dearest_usd = 0.0

    def ordered(self, do: str, *values: Any) -> None:
        if do == "cut":
            self.cutting = asyncio.create_task(self._cut(*values))
        else:
            super().ordered(do, *values)

    async def work(self) -> None:
        await self._open()
        while True:
            do, *values = await self.orders.get()
            await (self._level if do == "level" else self._measure)(*values)

    def give_up(self, text: str) -> None:
        self._hand_on(failure=text)

    async def close(self) -> None:
        await self.loader.close()

    async def _open(self) -> None:
        from lab.load import prepared

        order = self.order
        found = await asyncio.to_thread(registry.find, order.endpoint, order.models)
        endpoint = await asyncio.to_thread(registry.connect, found)
        await self.loader.start()
        # No two workers ask with the same nonce.
        salt = f"{order.run_id}:{order.place}"
        asked = await prepared.prepare(
            endpoint,
            order.bodies,
            order.betas,
            salt=salt,
            timeout_s=order.timeout_s,
            headers=order.headers,
        )
        await self.loader.prepare(asked)
        ids, origin_ns = (order.run_id, new_id()), self.loader.ready["now_ns"]
        self.reader = Reader(
            *ids,
            endpoint.name,
            endpoint.kind,
            order.bodies,
            origin_ns=origin_ns,
            origin_utc=utc_now() - timedelta(microseconds=(now_ns() - origin_ns) / 1000),
            task_ids=order.task_ids,
            keep_text=order.keep_text,
        )
        pid, loop = (self.loader.ready[name] for name in ("pid", "loop"))
        self.session = await asyncio.to_thread(session_row, *ids, pid, {"loop": loop})
        self._hand_on(session=self.session, origin_ns=origin_ns)

    async def _level(self, asked: LevelOrder) -> None:
        self.spent_usd, self.is_cut, self.loader.started_ns = 0.0, False, None
        await sleep_s(max(0.0, (asked.at_ms - unix_ms()) / 1000))
        handing = asyncio.create_task(self._keep_handing_on())
        try:
            end = await self._played(asked)
        finally:
            handing.cancel()
        self._hand_on(end=end)

    async def _played(self, asked: LevelOrder) -> LevelEnd:
        async for item in self.loader.level(asked.level, asked.most):
            if isinstance(item, LevelEnd):
                return item
            fact = self.reader.read(item, asked.level.label)
            self.facts.append(fact)
            await self._keep_to_budget(asked, fact)
        raise AssertionError("a level without an end")

    async def _keep_to_budget(self, asked: LevelOrder, fact: CallFact) -> None:
        """As lab.load_leading has it, of this part's own share: the coordinator hears of each call
        too late to hold it."""
        self.spent_usd += fact.cost_usd or 0.0
        self.dearest_usd = max(self.dearest_usd, fact.cost_usd or 0.0)
        if asked.usd is None or self.is_cut:
            return
        at_once = asked.most or asked.level.target
        if asked.usd - self.spent_usd <= at_once * self.dearest_usd:
            await self._cut(SPENT, True)

    async def _cut(self, reason: str, let_end: bool) -> None:
        self.is_cut = True
        with contextlib.suppress(LabError):  # it has ended: whoever reads it hears so too
            await self.loader.cut(reason, let_end)

    async def _measure(self, streams: int) -> None:
        try:
            self.session.instrument["load_bias"] = await bias(streams)
        except LabError as error:
            self.session.instrument["load_bias_failed"] = str(error)
        self._hand_on(session=self.session)

    async def _keep_handing_on(self) -> None:
        while True:
            await sleep_s(HANDED_S)
            self._hand_on()

    def _hand_on(self, **what: Any) -> None:
        batch = self.reader.take() if self.facts else None
        rows = row_batches.packed(batch) if batch else b""
        facts, self.facts = tuple(self.facts), []
        parcel = Parcel(started_ns=self.loader.started_ns, facts=facts, rows=rows, **what)
        self.parcels.append(parcel)
