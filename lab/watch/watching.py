"""A watch, kept here and now: probes at their instants, each held to the machine's one measurement
only while it lasts.

Entries of its progress, in its file and to `on_progress`:

    started   run_id, name, endpoint, endpoint_kind, every_s, pid
    next      number, at_utc: the probe that is waited for; spent_usd, day (UTC)
    probing   number
    probe     number, at_utc, control, yours (median ms or None), failed (not answered as asked),
              why (of most that failed), spent_usd, day
    gap       number, at_utc, text: a probe that was due and did not take place; spent_usd, day
    change    words, and change: what lab.watch.changes.Change holds
    note      text
    ended     status, text
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from lab import processes, run_loop, units, watch
from lab.clock import now_ns, sleep_s, utc_now
from lab.endpoints import registry
from lab.harness.budget import Budget
from lab.harness.plan import Block
from lab.harness.runner import IDLE_S, BenchmarkRunner, Interrupted, Joined, Unwaited
from lab.harness.session import Session
from lab.metrics import clocks
from lab.model import NOT_TIMED, WATCH, LabError, Technique, new_id
from lab.rows import FinishedTrial, RunRow, TrialRow
from lab.run_loop import Measured, Telling
from lab.store import queries
from lab.store.store import Full, Store
from lab.watch import hook, standing, watched
from lab.watch.changes import AS_ASKED, Change, answering
from lab.watch.looking import Looking
from lab.watch.probe import ARMS, CONTROL, TECHNIQUE, YOURS
from lab.watch.watch_order import WatchOrder

POLL_S = 0.2
PATIENCE_S = 60.0
"""How long a probe waits for whoever measures now, at most a quarter of the time to the next."""
PHASE = "watched"
MOST_FINDINGS = 100
"""That are kept with the run, the latest."""


def keep(
    order: WatchOrder,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    once: bool = False,
) -> tuple[Measured, list[Change]]:
    """Watch until it is stopped, or its days are over; with `once` a single probe. Answers with
    what was found meanwhile. LabError at once where this watch is kept already."""
    cost = order.cost()
    with watch.announced(order) as telling_to:
        telling = Telling(order.run_id, on_progress)
        processes.start_afresh(order.run_id)
        store = Store(order.config.db, run_loop.PATIENCE_S)
        try:
            run = WatchRun(order, store, telling, cost.most_usd, once)
            telling_to(run)
            run_loop.to_its_end(run.run, telling.ending)
            return Measured(order.run_id, run.status, run.text), run.found
        except LabError as error:
            if "ended" not in telling.kinds:
                telling({"kind": "ended", "status": "failed", "text": str(error)})
            raise
        finally:
            store.close()
            processes.recorded(order.run_id)


class WatchRun(BenchmarkRunner):
    """A BenchmarkRunner whose blocks come some at a time, for days."""

    def __init__(
        self, order: WatchOrder, store: Store, telling: Telling, most_usd: float, once: bool
    ) -> None:
        self.order, self.store, self.once, self.most_usd = order, store, once, most_usd
        self.findings: list[dict[str, Any]] = []
        self.dropped = 0
        """Findings before those, which are not kept."""
        self.found: list[Change] = []
        """In this process."""
        technique: Technique = replace(TECHNIQUE, headline=order.config.metric)
        super().__init__(
            order.benchmark,
            store,
            lambda entry: None if entry["kind"] == "trial" else telling(entry),
            telling.stop,
            endpoint=order.endpoint,
            run_id=order.run_id,
            joined=self._stored(),
            technique=technique,
        )
        self.place = self.endpoint
        """As it was named: an own server may have another address at the next probe."""
        self.session_id, self.origin_ns, self.day = new_id(), now_ns(), None
        self.number = self.slot = 0
        """Of the latest probe, and of the instant at which it was due: a probe more than the
        instants have (--once, a clock that was set back) has a number of its own."""
        self.total = 0
        """Of a run's trials; nobody knows how many a watch will have."""

    def _stored(self) -> Joined | None:
        try:
            run = queries.run(self.store, self.order.run_id)
        except LabError:
            return None
        names = ("run_id", "technique", "endpoint", "endpoint_kind", "models", "settings", "seed")
        started = self.order.started_utc
        row = RunRow(
            **{name: run[name] for name in names},
            status="running",
            keep_text=bool(run["keep_text"]),
            started_utc=started,
        )
        kept = run["settings"].get("watch") or {}
        self.findings, self.dropped = list(kept.get("findings") or ()), int(kept.get("dropped", 0))
        return Joined(row, frozenset(), {}, 0.0, sessions=len(run["sessions"]))

    # From beginning to end

    async def run(self) -> str:
        asyncio.get_running_loop().set_default_executor(Unwaited())
        work = asyncio.create_task(self._run())
        try:
            while not (await asyncio.wait({work}, timeout=POLL_S))[0]:
                if not self.stopping and self.stop():
                    self.stopping = True
                    work.cancel()
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait({work})
            raise
        if not (work.cancelled() and self.stopping):
            work.result()
        return self.run_id

    async def _run(self) -> None:
        keep_text = bool(self.config.keep_text)
        self.session = self._new_session(keep_text)
        try:
            await self._store(self.sink.write_run, self._run_row(keep_text))
            await asyncio.to_thread(self.order.keep)
            self.session.lag.start()
            await sleep_s(IDLE_S)
            await self._store(self.sink.write_session, self._session_row())
            self.session.lag.stop()
            self._announce()
            await self._read()
            await self._todays_budget()
            gc.collect()
            gc.freeze()
            await self._probes()
        except asyncio.CancelledError:
            self._end("interrupted", "Stopped by request." if self.stopping else "Interrupted.")
            raise
        except LabError as error:
            self._end("failed", str(error))
            raise
        except BaseException as error:
            self._end("failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            await self._close()

    async def _close(self) -> None:
        gc.unfreeze()
        await self._write(self.sink.finish_run, self.run_id, self.status)
        self.tell({"kind": "ended", "status": self.status, "text": self.text})

    async def _read(self) -> None:
        """Where the watch stands: what is due next is what the rows say."""
        known = await asyncio.to_thread(watched.read, self.store, self.run_id)
        if known.last_utc:
            self.number = int(known.trials["probe"].max())
            self.slot = self.order.slot(known.last_utc)
        config = self.order.config
        self.looking = Looking(answering(self.endpoint), self.order.every, config.least_percent)
        for probe in known.told():
            self.looking.add(*probe, is_known=True)
        self.looking.goes_on_from(known.changes)

    async def _probes(self) -> None:
        order = self.order
        while True:
            slot = order.next_slot(self.slot, utc_now())
            number = max(self.number + 1, slot)
            # A watch that begins, or goes on after a while, probes at once, then at its instants.
            due = utc_now() if self.once else max(order.due_utc(slot), utc_now())
            if order.until_utc is not None and due >= order.until_utc:
                return self._end("finished", "Its days are over.")
            if not self.once:
                entry = {"kind": "next", "number": number, "at_utc": due.isoformat()}
                self.tell(entry | self._spent())
                await self._until(due)
            self.number, self.slot = number, slot
            wrong = await self._due_now(number, due)
            if self.once:
                return self._end(*(("failed", wrong) if wrong else ("finished", "One probe.")))

    async def _until(self, due: datetime) -> None:
        """In short sleeps: a machine that was asleep wakes to a clock that has gone on. One that is
        set back meanwhile is not waited for."""
        most_s = self.order.every.total_seconds()
        while 0 < (left_s := (due - utc_now()).total_seconds()) <= most_s:
            await sleep_s(min(left_s, 5.0))

    # One probe

    async def _due_now(self, number: int, due: datetime) -> str | None:
        """Why it gives no point, in words; None where it gives one."""
        finished: list[FinishedTrial] = []
        try:
            spent, most = await self._todays_budget(), self.budget.usd
            if most is not None and spent + self.most_usd > most:
                return await self._unpaid(number, due)
            self.tell({"kind": "probing", "number": number})
            async with self._turn():
                await self._ask_all(number, finished)
        except processes.Busy:
            return await self._gap(number, due, "busy", "another run was being measured")
        except TimeoutError:
            return await self._gap(number, due, "busy", "the server was another measurement's")
        except LabError as error:
            if not any(each.trial.phase == PHASE for each in finished):
                text = error.why if isinstance(error, Full) else str(error)
                return await self._gap(number, due, "failed", text)
        finally:
            if finished:
                await self._write(self.sink.write_trials, finished)
        if not any(each.trial.phase == PHASE for each in finished):
            return await self._unpaid(number, due)
        return await self._take(number, finished)

    async def _unpaid(self, number: int, due: datetime) -> str:
        """Before it begins, or once the call that opens the connection has reached the bound."""
        sums = f"the day's {units.usd(self.budget.usd)} ({units.usd(self.budget.spent_usd)} spent)"
        text = f"the probe might pass {sums}; {self.budget.flag} names more"
        return await self._gap(number, due, "budget", text)

    async def _write(self, write: Callable[..., Any], *values: Any) -> None:
        """What a full disk refuses waits in the store's memory, and goes with the next write."""
        with contextlib.suppress(Full):
            await self._store(write, *values)

    async def _todays_budget(self) -> float:
        """What is spent today, of all processes; a new day begins a new sum."""
        today = utc_now().date()
        if self.day != today:
            kind = self.endpoint.kind
            ask = partial(watched.spent_usd, self.store, self.run_id, kind, utc_now())
            spent_usd = await asyncio.to_thread(ask)
            self.day = today
            self.budget = Budget(self.order.usd_a_day, spent_usd, "--usd-a-day")
        return self.budget.spent_usd

    def _spent(self) -> dict[str, Any]:
        return {"spent_usd": self.budget.spent_usd, "day": str(self.day)}

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """The machine's one measurement, and the endpoint's own server where it has one; Busy,
        TimeoutError where others have them for longer than a probe waits."""
        patience_s = min(PATIENCE_S, self.order.every.total_seconds() / 4)
        until_ns = now_ns() + int(patience_s * 1e9)
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(processes.measuring(self.run_id, WATCH))
                    break
                except processes.Busy:
                    if now_ns() > until_ns:
                        raise
                await sleep_s(POLL_S)
            self.endpoint = await asyncio.to_thread(registry.connect, self.place)
            self.session = self._new_session(self.session.keep_text)
            try:
                async with asyncio.timeout(max(patience_s, 30.0)):
                    await self.session.open(self.models)
                yield
            finally:
                await self.session.close()

    def _new_session(self, keep_text: bool) -> Session:
        """A probe's own clients and lease, in the one session of this process."""
        timeout_s = self.config.deadline_s
        session = Session(self.run_id, self.endpoint, keep_text, timeout_s, self._note, self.budget)
        session.id, session.origin_ns = self.session_id, self.origin_ns
        return session

    async def _ask_all(self, number: int, finished: list[FinishedTrial]) -> None:
        """The control once, which opens the connection and does not count; then the pairs."""
        pairs = self.order.config.pairs
        first = (number - 1) * pairs + 1
        blocks = [
            replace(block, phase=PHASE)
            for block in self.plan.blocks(self.seed, first, first + pairs - 1)
        ]
        warm = Block(-number, "warmup", blocks[0].task, (self.plan.baseline,))
        try:
            for block in [warm, *blocks]:
                for place, variant in enumerate(block.order):
                    finished.append(await self._trial(block, place, variant, None))
                    if finished[-1].trial.error_kind == "budget":
                        return
        except Interrupted as cut:
            finished.append(cut.finished)
            raise cut.reason from None

    async def _gap(self, number: int, due: datetime, kind: str, text: str) -> str:
        """A row like a trial's, and as safe as one: a watch never hides what it missed. Its
        sentence."""
        text = text.rstrip(".")
        row = TrialRow(
            trial_id=new_id(),
            run_id=self.run_id,
            session_id=self.session_id,
            technique=WATCH,
            arm=CONTROL,
            block=(number - 1) * self.order.config.pairs + 1,
            position=0,
            attempt=1 + (self.joined.sessions if self.joined else 0),
            phase=PHASE,
            task_id=None,
            started_utc=due,
            started_ns=now_ns() - self.origin_ns,
            ended_ns=now_ns() - self.origin_ns,
            outcome="cancelled",
            error_kind=kind,
            error_text=text,
        )
        trial = FinishedTrial(row)
        with contextlib.suppress(Full):
            await asyncio.to_thread(self.sink.keep, trial)
        await self._write(self.sink.write_trials, [trial])
        words = f"Probe {number} did not take place: {text}."
        entry = {"kind": "gap", "number": number, "at_utc": due.isoformat(), "text": words}
        self.tell(entry | self._spent())
        return words

    # What it says

    async def _take(self, number: int, finished: list[FinishedTrial]) -> str | None:
        """Answers as _due_now."""
        mine = [each for each in finished if each.trial.phase == PHASE]
        values: dict[str, list[tuple[float, float]]] = {arm: [] for arm in ARMS}
        for each in mine:
            times = clocks(each)
            value = times.get(self.plan.metric) or times.get("total_ms")
            if each.trial.outcome == "ok" and value:
                lags = [call.loop_lag_ns or 0 for call in each.calls if call.role not in NOT_TIMED]
                values[each.trial.arm].append((value, max(lags, default=0) / 1e6))
        medians = {arm: watched.typical(own) for arm, own in values.items()}
        at_utc = min(each.trial.started_utc for each in mine)
        lost = {arm: 0 for arm in ARMS}
        for each in mine:
            lost[each.trial.arm] += each.trial.outcome not in ("ok", "cancelled")
        why = standing.commonest(
            each.trial.error_text for each in mine if each.trial.outcome != "ok"
        )
        told = {"number": number, "at_utc": at_utc.isoformat(), **medians}
        failed = sum(lost.values())
        self.tell({"kind": "probe", **told, "failed": failed, "why": why, **self._spent()})
        for change in self.looking.add(at_utc, medians, lost):
            await self._found(change)
        silent = [arm for arm in ARMS if not medians[arm]]
        if not silent:
            return None
        whose = {CONTROL: "the control was not", YOURS: "your request was not"}
        who = "neither request was" if len(silent) == 2 else whose[silent[0]]
        return f"Probe {number}: {who} {AS_ASKED}{f': {why}' if why else ''}."

    async def _found(self, change: Change) -> None:
        """On disk first, then told, then the user's command."""
        self.found.append(change)
        self.findings.append(change.stored())
        await self._write(self.sink.write_run, self._run_row(self.session.keep_text))
        self.tell({"kind": "change", "words": change.words, "change": change.told()})
        command = self.order.config.on_change
        if command and (wrong := await hook.run(command, change)):
            self._note(wrong)

    def _run_row(self, keep: bool) -> RunRow:
        row, order = super()._run_row(keep), self.order
        row.started_utc = order.started_utc
        more = max(0, len(self.findings) - MOST_FINDINGS)
        self.dropped, self.findings = self.dropped + more, self.findings[more:]
        row.settings["watch"] = {
            "every_s": order.every.total_seconds(),
            "pairs": order.config.pairs,
            "metric": order.config.metric,
            "least_percent": order.config.least_percent,
            "usd_a_day": order.usd_a_day,
            "until_utc": order.until_utc.isoformat() if order.until_utc else None,
            "findings": list(self.findings),
            "dropped": self.dropped,
        }
        return row

    def _announce(self) -> None:
        self.tell(
            {
                "kind": "started",
                "run_id": self.run_id,
                "name": self.order.config.name,
                "endpoint": self.endpoint.name,
                "endpoint_kind": self.endpoint.kind,
                "every_s": self.order.every.total_seconds(),
                "pid": os.getpid(),
            }
        )
