"""What a load keeps: the rows of its run, session and levels, and its calls about once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from lab.clock import sleep_s, utc_now
from lab.endpoints.registry import Endpoint
from lab.harness.writing import Writing, to_the_end
from lab.load.call_frame import CallFrame
from lab.load.loading import LevelEnd
from lab.load.profile import CallFact, Level
from lab.load.reading import Reader
from lab.load_order import LoadOrder
from lab.model import LOAD, Status
from lab.rows import LoadLevelRow, RunRow, SessionRow
from lab.scenarios import definitions
from lab.store.store import Store
from lab.version import VERSION

MOST_KEPT_BYTES = 64_000_000
FIRST_REQUEST_S = 0.05


class Keeping:
    """Writes go to a thread, one after the other: the loop reads on meanwhile. Each raises LabError
    where not even the disk takes them, and is cancelled only once it has ended: what was taken from
    the reader is nowhere else."""

    def __init__(
        self,
        store: Store,
        reader: Reader,
        note: Callable[[str], None],
        ids: tuple[str, str],
        origin_ns: int,
    ) -> None:
        self.store, self.reader = store, reader
        self.ids, self.origin_ns = ids, origin_ns
        """The run's and the session's; what instants in rows count from."""
        self.turn, self.written = asyncio.Lock(), Writing(note)

    def read(self, frame: CallFrame, label: str) -> CallFact:
        return self.reader.read(frame, label)

    async def calls(self) -> None:
        """Those that were read since the last time are safe on disk; the database has them when a
        level has ended, or so many wait that they would take it long."""
        if (batch := self.reader.take()) is not None:
            await self._in_turn(asyncio.to_thread, self.store.keep_batch, batch)
        if self.store.kept_bytes > MOST_KEPT_BYTES:
            await self.write_calls()

    async def write_calls(self) -> None:
        """Into the database, all of them."""
        await self._write(self.store.write_batch, self.reader.take())

    async def begin(self, run: RunRow, session_of: Callable[[], SessionRow]) -> SessionRow:
        """The rows to which all others belong; none is written before them. To make a new database
        takes half a second of both cores: the first request goes out before."""
        return await self._in_turn(self._begun, run, session_of)

    async def _begun(self, run: RunRow, session_of: Callable[[], SessionRow]) -> SessionRow:
        await sleep_s(FIRST_REQUEST_S)
        await asyncio.to_thread(self.store.close_orphans, run.run_id)
        await self.written(self.store.write_run, run)
        session = await asyncio.to_thread(session_of)
        await self.written(self.store.write_session, session)
        return session

    async def run(self, row: RunRow) -> None:
        await self._write(self.store.write_run, row)

    async def session(self, row: SessionRow) -> None:
        await self._write(self.store.write_session, row)

    async def level(self, level: Level, end: LevelEnd | int) -> None:
        """What it came to; while it is under way, when it began (by the loader's clock)."""
        row = level_row(self.ids, self.origin_ns, level, end)
        await self._write(self.store.write_level, row)

    async def ended(self, run_id: str, status: Status) -> None:
        await self._write(self.store.finish_run, run_id, status)

    async def _write(self, write: Callable[..., Any], *values: Any) -> None:
        await self._in_turn(self.written, write, *values)

    async def _in_turn(self, do: Callable[..., Awaitable], *values: Any) -> Any:
        async def in_turn() -> Any:
            async with self.turn:
                return await do(*values)

        return await to_the_end(in_turn())


def run_row(order: LoadOrder, endpoint: Endpoint, run_id: str) -> RunRow:
    """`endpoint` is the order's, with its address."""
    config = order.config
    chosen = config.model_dump(mode="json", exclude={"db"}, exclude_defaults=True)
    if config.search:
        chosen["most"] = order.ceiling
    settings = {
        "config": chosen | {"seed": order.seed, "endpoint": endpoint.name},
        "scenario": config.scenario or definitions.CATEGORIES[0],
        "about": order.about,
        "ceiling": order.ceiling,
        "lab_version": VERSION,
    }
    return RunRow(
        run_id=run_id,
        technique=LOAD,
        endpoint=endpoint.name,
        endpoint_kind=endpoint.kind,
        models={endpoint.generates: order.model},
        settings=settings,
        seed=order.seed,
        status="running",
        keep_text=config.keep_text,
        started_utc=utc_now(),
        note=config.note,
        name=config.name,
    )


def level_row(
    ids: tuple[str, str], origin_ns: int, level: Level, end: LevelEnd | int
) -> LoadLevelRow:
    row = LoadLevelRow(
        *ids,
        level=level.number,
        label=level.label,
        mode=level.mode,
        target=level.target,
        started_ns=(end if isinstance(end, int) else end.started_ns) - origin_ns,
        planned=level.requests,
    )
    if isinstance(end, LevelEnd):
        row.ended_ns, row.client = end.ended_ns - origin_ns, end.client
        row.not_begun, row.reason = end.not_begun, end.reason or None
    return row
