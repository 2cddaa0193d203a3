"""What a worker does of a run whose blocks several share: the harness itself, on blocks of its own.
lab.block_spread leads it, and writes what it hands on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lab.harness.runner import BenchmarkRunner, Joined
from lab.model import Status
from lab.part import Part
from lab.rows import FinishedTrial, RunRow, SessionRow
from lab.settings import BenchmarkConfig


@dataclass(frozen=True)
class BlockOrder:
    """No key: the worker takes its own."""

    config: BenchmarkConfig
    """Of the run, with this worker's part of its budget."""
    run: RunRow
    others: frozenset[int]
    """The blocks that it leaves to others, or that are complete."""
    begun: Mapping[int, int]
    """How often each block was begun before."""
    sessions: int
    """Before this one: no two ask with the same nonce."""
    lease: str | None
    """Of the lab's own server, which is on the same machine then."""


class Parcel(NamedTuple):
    """What is handed on, in its order; in each, only what there is."""

    session: SessionRow | None = None
    trial: FinishedTrial | None = None
    block_ended: bool = False
    entry: Mapping[str, Any] | None = None
    """Of progress."""
    ended: tuple[Status, str] | None = None


def play(name: str, order: BlockOrder) -> None:
    try:
        from uvloop import run
    except ImportError:
        run = asyncio.run
    run(BlockPart(order).run(name))


class BlockPart(Part):
    """The harness's sink too. Its order is `stop`."""

    def __init__(self, order: BlockOrder) -> None:
        super().__init__()
        self.order, self.is_stopped = order, False

    def ordered(self, do: str, *values: Any) -> None:
        self.is_stopped = self.is_stopped or do == "stop"
        super().ordered(do, *values)

    async def work(self) -> None:
        order = self.order
        joined = Joined(order.run, order.others, dict(order.begun), 0.0, order.sessions)
        runner = BenchmarkRunner(
            order.config,
            self,
            self._told,
            lambda: self.is_stopped,
            joined=joined,
            lent_lease=order.lease,
        )
        await runner.run()
        self.parcels.append(Parcel(ended=(runner.status, runner.text)))

    def give_up(self, text: str) -> None:
        self.parcels.append(Parcel(ended=("failed", text)))

    def _told(self, entry: dict[str, Any]) -> None:
        if entry["kind"] in ("trial", "note"):
            self.parcels.append(Parcel(entry=entry))

    # The sink

    def write_run(self, row: RunRow) -> None:
        """Whoever leads has written it."""

    def write_session(self, row: SessionRow) -> None:
        self.parcels.append(Parcel(session=row))

    def keep(self, trial: FinishedTrial) -> None:
        self.parcels.append(Parcel(trial=trial))

    def write_trials(self, trials: Sequence[FinishedTrial]) -> None:
        self.parcels.append(Parcel(block_ended=True))

    def finish_run(self, run_id: str, status: Status) -> None:
        """That is told when all parts have ended."""
