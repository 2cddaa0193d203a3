"""A run whose blocks several workers share: whole blocks, never arms, so that each pair is of one
session, on one machine, by one clock. Rows are written here alone.

The blocks that a lost worker had not finished are left for `resume`, as those of a killed run are.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from lab import block_part, scrub, spread, units
from lab.block_part import BlockOrder, Parcel
from lab.clock import sleep_s
from lab.harness.plan import AGENTS, Block
from lab.harness.runner import REASON, BenchmarkRunner
from lab.harness.writing import to_the_end
from lab.model import LabError, Status
from lab.paths import COMMAND
from lab.rows import FinishedTrial
from lab.spread import Cluster, Worker, WorkerLost

POLL_S, STOPPED_S = 0.25, 1.5


@dataclass
class Part:
    worker: Worker
    finished: list[FinishedTrial] = field(default_factory=list)
    """Of the block under way."""
    ended: tuple[Status, str] | None = None


class SpreadRunner(BenchmarkRunner):
    """BenchmarkRunner on workers; this process measures nothing itself."""

    async def run(self) -> str:
        refuse(self)
        self.cluster = Cluster(self.config.workers, self.config.scheduler)
        self.parts: list[Part] = []
        try:
            return await super().run()
        finally:
            await self.cluster.close()

    async def _begin(self) -> None:
        await self.cluster.open()
        warmups = self.config.warmup * len(self.plan.variants)
        self.total += warmups * (len(self.cluster.workers) - 1)

    async def _measure(self, blocks: list[Block]) -> None:
        numbers = [block.number for block in blocks if block.phase == "measured"]
        workers = self.cluster.workers[: len(numbers)]
        for place, worker in enumerate(workers):
            own = tuple(numbers[place :: len(workers)])
            self.parts.append(Part(worker))
            asked = self._order(place, own, len(workers))
            self.cluster.begin(worker, block_part.play, f"{self.run_id}:{place}", asked)
        try:
            await self._listen()
        except asyncio.CancelledError:
            await to_the_end(self._stop())
            raise
        finally:
            for part in self.parts:
                await self._write(part)
        self._end_with_parts()

    def _order(self, place: int, own: tuple[int, ...], workers: int) -> BlockOrder:
        done = self.joined
        left_usd = None
        if self.budget.usd is not None:
            left_usd = max(0.0, self.budget.usd - self.budget.spent_usd) / workers
        changes = {"workers": 1, "scheduler": None, "db": None, "join_run": None}
        named = {"endpoint": self.endpoint.name, "models": dict(self.endpoint.models)}
        keep = self.session.keep_text
        return BlockOrder(
            self.config.model_copy(update={**changes, **named, "max_usd": left_usd}),
            self._run_row(keep),
            frozenset(range(1, self.config.blocks + 1)) - frozenset(own),
            done.begun if done else {},
            (done.sessions if done else 0) + place,
            self.session.lease,
        )

    # While it goes on

    async def _listen(self) -> None:
        while asked := [part for part in self.parts if part.ended is None]:
            for part in asked:
                await self._hear(part)
            await sleep_s(POLL_S)

    async def _hear(self, part: Part) -> None:
        try:
            parcels = await self.cluster.take(part.worker)
        except WorkerLost as lost:
            part.ended = "interrupted", f"The {lost}."
            self._note(f"{part.ended[1]} Its blocks that had not ended are left.")
            return
        for parcel in parcels:
            await self._open(part, parcel)

    async def _open(self, part: Part, parcel: Parcel) -> None:
        if parcel.session is not None:
            parcel.session.instrument["dask_worker"] = part.worker.address
            await self._store(self.sink.write_session, parcel.session)
        if parcel.trial is not None:
            part.finished.append(parcel.trial)
            await to_the_end(asyncio.to_thread(self.sink.keep, parcel.trial))
            self._count(parcel.trial)
        if parcel.block_ended:
            await self._write(part)
        if parcel.entry is not None:
            self._pass_on(dict(parcel.entry))
        part.ended = parcel.ended or part.ended

    def _count(self, finished: FinishedTrial) -> None:
        row = finished.trial
        self.done += 1
        self.budget.spent_usd += sum(call.counted_usd or 0.0 for call in finished.calls)
        if row.phase == "measured":
            key = (row.technique, row.arm)
            self.outcomes.setdefault(key, type(self.mismatches)())[row.outcome] += 1
            if row.outcome in ("failed", "mismatch"):
                self.because[key] = scrub.text(row.error_text or row.error_kind or "", REASON)

    def _pass_on(self, entry: dict[str, Any]) -> None:
        if entry["kind"] == "note":
            return self._note_once(entry["text"])
        spent = round(self.budget.spent_usd, 6) if self.budget.usd is not None else None
        self.tell({**entry, "done": self.done, "total": self.total, "spent_usd": spent})

    async def _write(self, part: Part) -> None:
        finished, part.finished = part.finished, []
        if finished:
            await self._store(self.sink.write_trials, finished)

    async def _stop(self) -> None:
        """What has ended by now is kept, if that takes no longer than a moment."""
        live = [part for part in self.parts if part.ended is None]
        try:
            async with asyncio.timeout(STOPPED_S):
                for part in live:
                    await self.cluster.order(part.worker, "stop")
                await self._listen()
        except (LabError, TimeoutError):
            pass

    def _end_with_parts(self) -> None:
        """As the worst of them has ended."""
        for wanted in ("failed", "interrupted"):
            for part in self.parts:
                status, text = part.ended
                if status == wanted:
                    where = "" if text.startswith("The worker") else f"The {part.worker.text}: "
                    rest = f" {COMMAND} resume {self.run_id} measures the blocks that are missing."
                    return self._end(status, where + text + (rest if not where else ""))


def refuse(runner: BenchmarkRunner) -> None:
    """LabError for a run whose blocks cannot be shared, or should not be."""
    config, endpoint = runner.config, runner.endpoint
    spread.check(config.scheduler, endpoint.kind)
    if endpoint.traits.embedded:
        raise LabError(
            "Blocks that share one embedded model wait for each other, and no pair of them could"
            " be believed: leave --workers out."
        )
    if runner.technique is not None or runner.plan.baseline.technique.slug == AGENTS:
        raise LabError("Functions of your own stay in this process: leave --workers out.")
    if config.target_half_width_ms is not None:
        raise LabError(
            "--until-precision looks at every block before the next, and --workers measures"
            f" several at once: name {units.counted(config.blocks, 'block')} with --runs instead."
        )
