"""BenchmarkRunner: the blocks of a plan, one trial after another, each timed, judged and handed to
the sink. It knows no store."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Protocol

from lab import calibrate, scrub, techniques
from lab.clock import now_ns, sleep_s, utc_now
from lab.endpoints import registry
from lab.endpoints.registry import Endpoint
from lab.harness import own_text
from lab.harness import plan as planning
from lab.harness.bench import SPAN, TrialBench
from lab.harness.bodies import is_brief, nonce_for
from lab.harness.budget import Budget, BudgetReached
from lab.harness.estimate import Estimate, estimate
from lab.harness.outcome import settle
from lab.harness.plan import Block, Experiment, Variant
from lab.harness.session import Session, session_row
from lab.harness.unawaited import Forgotten
from lab.harness.writing import Writing, to_the_end
from lab.instrumentation.stamps import OBSERVER
from lab.metrics import FEWEST_BLOCKS, clocks
from lab.model import LabError, Request, Status, Technique, new_id
from lab.paths import COMMAND
from lab.rows import FinishedTrial, RunRow, SessionRow, TrialRow
from lab.scenarios import definitions
from lab.scenarios.definitions import Task
from lab.settings import BenchmarkConfig

__all__ = ["BenchmarkConfig", "BenchmarkRunner", "Joined", "Sink"]

STOP_POLL_S = 0.1
LET_GO_S = 1.0
"""How long a trial that was told to end may take for it; then it is left behind."""
FAILURES_IN_A_ROW = MISMATCHES_IN_A_ROW = 3
UNSEEN = (
    "The lab sees only the calls that go through the client it hands to each function. "
    "What another client spends is not counted, and no budget holds it."
)
IDLE_S = 0.3
SLOW_S = 15.0
REASON = 300
TOLD = (
    "trial_id",
    "technique",
    "arm",
    "block",
    "position",
    "phase",
    "outcome",
    "error_kind",
    "cost_usd",
    "quality",
)
"""The columns of a trial that its entry in a progress file has."""
BUSY_LOAD = 3.0
"""Processes that want a core, for each core there is, from which a run says at its start that the
machine is busy."""


class Sink(Protocol):
    def write_run(self, row: RunRow) -> Any: ...
    def write_session(self, row: SessionRow) -> Any: ...
    def keep(self, trial: FinishedTrial) -> Any:
        """Safe when this returns: only then the trial is told."""

    def write_trials(self, trials: Sequence[FinishedTrial]) -> Any: ...
    def finish_run(self, run_id: str, status: Status) -> Any: ...


@dataclass(frozen=True)
class Joined:
    """What earlier sessions of the same run did: its row, its complete blocks, how often each block
    was begun, what it cost."""

    run: RunRow
    complete: frozenset[int]
    begun: dict[int, int]
    spent_usd: float
    sessions: int = 1
    pairs: tuple[tuple[float, float], ...] = ()
    """Of the planned comparison's complete blocks, the baseline's value and the arm's: a precision
    asked for is the whole run's."""


class BenchmarkRunner:
    """`await run()` measures and answers with the run's id; `status` and `text` then say how it
    ended.

    `stop()` is polled ten times a second; `on_progress` gets the entries of a progress file.
    `joined` continues a run in a new session.
    """

    def __init__(
        self,
        config: BenchmarkConfig,
        sink: Sink,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        stop: Callable[[], bool] | None = None,
        *,
        endpoint: Endpoint | None = None,
        run_id: str | None = None,
        joined: Joined | None = None,
        technique: Technique | None = None,
        lent_lease: str | None = None,
    ) -> None:
        self.config, self.sink, self.joined, self.technique = config, sink, joined, technique
        self.lent_lease = lent_lease
        self.tell = on_progress or (lambda entry: None)
        self.stop = stop or (lambda: False)
        self.endpoint = endpoint or registry.find(config.endpoint, config.models)
        able = planning.abilities(self.endpoint)
        self.plan: Experiment = planning.experiment(config, self.endpoint.kind, technique, able)
        seed = joined.run.seed if joined else config.seed
        self.seed: int = secrets.randbelow(2**31) if seed is None else seed
        self.run_id = joined.run.run_id if joined else run_id or new_id()
        budget_usd = config.budget_usd(self.endpoint.kind)
        self.budget = Budget(budget_usd, joined.spent_usd if joined else 0.0)
        self.status: Status = "running"
        self.text = ""
        self.failures = self.done = 0
        self.because: dict[tuple[str, str], str] = {}
        """By technique and arm: why its last trial that cannot be compared cannot."""
        self.mismatches: Counter[tuple[str, str]] = Counter()
        """By technique and arm: in a row, of the measured trials."""
        self.noted: set[str] = set()
        self.pairs: list[tuple[float, float]] = list(joined.pairs) if joined else []
        self.stopping, self._store = False, Writing(self._note)
        self.outcomes: dict[tuple[str, str], Counter[str]] = {}
        """Of the measured trials of this session, by technique and arm."""

    @property
    def models(self) -> dict[str, str]:
        """The models by tier that this run uses."""
        return {
            tier: self.endpoint.model_for(tier)
            for tier in self.plan.tiers or (self.endpoint.generates,)
        }

    async def run(self) -> str:
        """The run's id, once it has ended. Asked to stop at whatever moment, it ends within two
        seconds."""
        expected = self._estimate()
        if expected.refusals:
            raise LabError(" ".join(expected.refusals))
        self.others = expected.others
        # Calls on threads that are left behind, the user's own too, must not keep the process.
        asyncio.get_running_loop().set_default_executor(Unwaited())
        measuring = asyncio.create_task(self._run())
        try:
            while not (await asyncio.wait({measuring}, timeout=STOP_POLL_S))[0]:
                if not self.stopping and self.stop():
                    self.stopping = True
                    measuring.cancel()
        except asyncio.CancelledError:
            measuring.cancel()
            await asyncio.wait({measuring})
            raise
        if not (measuring.cancelled() and self.stopping):
            measuring.result()
        return self.run_id

    def _estimate(self) -> Estimate:
        done = self.joined.complete if self.joined else ()
        return estimate(self.config, self.endpoint, self.technique, done)

    async def _run(self) -> None:
        keep = self.joined.run.keep_text if self.joined else own_text.keeps(self.config, self.plan)
        self.session = Session(
            self.run_id,
            self.endpoint,
            keep,
            self.config.deadline_s,
            self._note,
            self.budget,
            self.lent_lease,
        )
        try:
            self._say_if_busy()
            if self._has_agents and self.budget.usd is not None:
                self._note(UNSEEN)
            connected = asyncio.to_thread(registry.connect, self.endpoint)
            self.endpoint = await self._patiently(connected, "start")
            self.session.endpoint = self.endpoint
            blocks = self._blocks()
            self.total = sum(len(block.order) for block in blocks)
            await self._store(self.sink.write_run, self._run_row(keep))
            await self._patiently(self.session.open(self.models, self.others), "get ready")
            await self._begin()
            self._announce()
            # What is loaded by now stays: a collection before each trial then looks at the last
            # trial's objects alone (1 ms, not 150).
            gc.collect()
            gc.freeze()
            await self._measure(blocks)
            self._end(*self._conclusion())
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
            await to_the_end(self._close())

    async def _begin(self) -> None:
        await sleep_s(IDLE_S)  # the loop's own lag is measured while it has nothing to do
        await self._store(self.sink.write_session, self._session_row())

    async def _close(self) -> None:
        gc.unfreeze()
        await self.session.close()
        await self._store(self.sink.finish_run, self.run_id, self.status)
        # On a thread, since traces may be sent first: a signal must still be heard.
        await asyncio.to_thread(
            self.tell, {"kind": "ended", "status": self.status, "text": self.text}
        )

    def _end(self, status: Status, text: str) -> None:
        if self.status == "running":
            self.status, self.text = status, text

    def _conclusion(self) -> tuple[Status, str]:
        """A run in which an arm never succeeded has compared nothing, for all its trials."""
        for key, outcomes in self.outcomes.items():
            failed, mismatched, total = outcomes["failed"], outcomes["mismatch"], outcomes.total()
            if failed + mismatched == total:
                words = {"failed": failed, "was left out": mismatched}
                became = " or ".join(word for word, count in words.items() if count)
                text = f"Every trial of {self._name(key)} {became} ({total} of {total}): "
                return "failed", text + self.because[key]
        return "finished", f"{self.done} trials"

    def _note(self, text: str) -> None:
        self.tell({"kind": "note", "text": text})

    def _note_once(self, text: str) -> None:
        if text not in self.noted:
            self.noted.add(text)
            self._note(text)

    def _say_if_busy(self) -> None:
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        if load > BUSY_LOAD * cores:
            self._note(
                f"This machine is busy ({load:.0f} processes for {cores} cores): "
                "the run will be slow, and its times noisy."
            )

    async def _patiently(self, work: Coroutine, step: str) -> Any:
        """Wait for as long as it takes, and say so where that is long."""
        task = asyncio.create_task(work)
        try:
            if not (await asyncio.wait({task}, timeout=SLOW_S))[0]:
                self._note(f"The {self.endpoint.name} server is slow to {step}; waiting for it.")
            return await task
        finally:
            task.cancel()

    # What to do

    def _blocks(self) -> list[Block]:
        done = self.joined.complete if self.joined else frozenset()
        todo = [
            block
            for block in self.plan.blocks(self.seed, 1, self.config.blocks)
            if block.number not in done
        ]
        return [*self.plan.warmups(self.seed, self.config.warmup), *todo] if todo else []

    async def _measure(self, blocks: list[Block]) -> None:
        durations: list[float] = []
        measured_usd: list[float] = []
        for position, block in enumerate(blocks):
            spent, began_ns = self.budget.spent_usd, now_ns()
            dearest = max(measured_usd, default=0.0)
            if self.budget.is_reached:
                return self._end("interrupted", self.budget.text)
            if self.budget.usd is not None and self.budget.spent_usd + dearest > self.budget.usd:
                return self._end(
                    "interrupted", f"Another block might pass the budget. {self.budget.left}"
                )
            await self.session.renew()
            finished: list[FinishedTrial] = []
            left_s = fmean(durations) * (len(blocks) - position) if durations else None
            try:
                for place, variant in enumerate(block.order):
                    if self.budget.is_reached:
                        return self._end("interrupted", self.budget.text)
                    finished.append(await self._trial(block, place, variant, left_s))
                    if (end := self._end_after(finished[-1].trial)) is not None:
                        return self._end(*end)
            except Interrupted as cut:
                finished.append(cut.finished)
                raise cut.reason from None
            finally:
                if finished:
                    await self._store(self.sink.write_trials, finished)
            durations.append((now_ns() - began_ns) / 1e9)
            measured_usd.append(self.budget.spent_usd - spent)
            if block.phase == "measured" and self._precise_enough(finished):
                width = f"{self.config.target_half_width_ms:g} ms"
                text = f"The interval's half-width is below {width}"
                return self._end("finished", f"{text} after {len(self.pairs)} blocks.")

    def _end_after(self, row: TrialRow) -> tuple[Status, str] | None:
        """How the run ends with a trial that has ended, where it does: what went wrong three times
        would go on to."""
        key = (row.technique, row.arm)
        if row.error_kind == "budget":
            return "interrupted", self.budget.text
        if (
            self._has_agents
            and row.error_kind in ("no_call", "unseen_call")
            and self.config.max_usd is not None
        ):
            return (
                "failed",
                f"{row.error_text} What it spends cannot be seen, so no budget can be promised: "
                "run it without max_usd.",
            )
        if self.failures >= FAILURES_IN_A_ROW:
            text = f"{FAILURES_IN_A_ROW} trials in a row failed: {self.because[key]}"
            if not self.endpoint.traits.own_server and not self._has_agents:
                command = f"{COMMAND} endpoints test {self.endpoint.name}"
                text = f"{text.rstrip('.')}. To see why: {command}"
            return "failed", text
        if self.mismatches[key] >= MISMATCHES_IN_A_ROW:
            return (
                "failed",
                f"{MISMATCHES_IN_A_ROW} trials in a row of {self._name(key)} cannot be compared: "
                f"{self.because[key]}",
            )
        return None

    def _precise_enough(self, finished: list[FinishedTrial]) -> bool:
        """Stopping on precision, never on a p-value: peeking at significance inflates false
        findings, at the width it does not."""
        target = self.config.target_half_width_ms
        if target is None:
            return False
        values = {
            (f.trial.technique, f.trial.arm): clocks(f)[self.plan.metric]
            for f in finished
            if f.trial.outcome == "ok" and self.plan.metric in clocks(f)
        }
        base, other = values.get(self.plan.baseline.key), values.get(self.plan.headline.key)
        if base is not None and other is not None:
            self.pairs.append((base, other))
        if len(self.pairs) < max(self.config.min_runs, FEWEST_BLOCKS):
            return False
        from lab.stats import hodges_lehmann, paired_quantile

        if self.plan.quantile is None:
            half_width = hodges_lehmann([after - before for before, after in self.pairs]).half_width
        else:
            both = zip(*self.pairs, strict=True)
            half_width = paired_quantile(*both, self.plan.quantile).half_width
        return half_width is not None and half_width <= target

    # One trial

    async def _trial(
        self, block: Block, place: int, variant: Variant, left_s: float | None
    ) -> FinishedTrial:
        technique, arm = variant.key
        attempt = 1
        if self.joined:
            # Above every attempt that an earlier session may have begun, also one that a kill left
            # without a row: no nonce is used twice.
            attempt += max(self.joined.begun.get(block.number, 0), self.joined.sessions)
        row = TrialRow(
            trial_id=new_id(),
            run_id=self.run_id,
            session_id=self.session.id,
            technique=technique,
            arm=arm,
            block=block.number,
            position=place,
            attempt=attempt,
            phase=block.phase,
            task_id=block.task.task_id,
            started_utc=utc_now(),
            started_ns=now_ns(),
            deadline_ms=self.config.deadline_s * 1000,
        )
        nonce = nonce_for(self.run_id, block.number, f"{technique}.{arm}", attempt)
        brief = is_brief(variant.technique, block.task, self.endpoint)
        bench = TrialBench(self.session, row, nonce, brief, block.task.betas)
        gc.collect()
        gc.disable()
        work = asyncio.create_task(self._play(bench, variant, block.task))
        bench.give_up = work.cancel
        unawaited = Forgotten()
        reason: asyncio.CancelledError | None = None
        try:
            with unawaited:
                await asyncio.wait({work})
            await bench.read_rest()
        except asyncio.CancelledError as e:
            reason = e
            work.cancel()
            await asyncio.wait({work}, timeout=LET_GO_S)
        finally:
            gc.enable()
        answer = None
        if reason is not None:
            row.outcome, row.error_kind = "cancelled", "cancelled"
        else:
            deadline_s = self.config.deadline_s
            answer = settle(bench, work, unawaited.names, deadline_s, self._note_once)
        if reason is None and row.outcome == "ok":
            row.quality = definitions.score(block.task, answer)
            if row.quality is None and answer is not None:
                try:
                    row.quality = await self._judge(bench, block.task, answer)
                except asyncio.CancelledError as e:  # the trial itself is whole
                    reason = e
        finished = bench.finished()
        origin = self.session.origin_ns
        row.started_ns -= origin
        row.ended_ns = (row.ended_ns or now_ns()) - origin
        if bench.mismatches and row.outcome == "ok":
            row.outcome, row.error_kind = "mismatch", bench.mismatch_kind
            row.error_text = "; ".join(dict.fromkeys(bench.mismatches))
        if not self.session.keep_text:
            words = [block.task.model_dump(mode="json"), variant.knobs.model_dump(mode="json")]
            own_text.hide(finished, [*words, str(answer or ""), *bench.words()])
        if row.outcome == "failed":
            self.failures += 1
            spoken = row.error_kind in ("no_call", "not_awaited", "unseen_call")
            text = row.error_text if spoken else f"{row.error_kind}: {row.error_text}"
            self.because[variant.key] = scrub.text(text, REASON)
        elif row.outcome != "cancelled":
            self.failures = 0
        if row.phase == "measured":
            self.outcomes.setdefault(variant.key, Counter())[row.outcome] += 1
            if row.outcome == "mismatch":
                self.mismatches[variant.key] += 1
                self.because[variant.key] = scrub.text(row.error_text, REASON)
            else:
                self.mismatches[variant.key] = 0
        scrub.trial(finished)
        self.done += 1
        try:
            # On a thread, since the disk may take its time: a loop held up by it would count as
            # this machine's noise.
            await to_the_end(asyncio.to_thread(self.sink.keep, finished))
        except asyncio.CancelledError as e:
            reason = e
        self.tell(self._progress(finished, left_s))
        if reason is not None:
            raise Interrupted(finished, reason)
        return finished

    async def _play(self, bench: TrialBench, variant: Variant, task: Task) -> str | None:
        """Prepare, then the clock, then the trial; each within the deadline."""
        technique, row = variant.technique, bench.trial
        OBSERVER.set(bench.observe)
        if technique.prepare:
            async with asyncio.timeout(self.config.deadline_s) as bench.limit:
                await technique.prepare(bench, variant.arm.name, variant.knobs, task)
        row.started_utc, row.started_ns = utc_now(), now_ns()
        root = None
        try:
            async with (
                asyncio.timeout(self.config.deadline_s) as bench.limit,
                bench.span("trial", variant.arm.name) as root,
            ):
                root.started_ns = row.started_ns
                for span in bench.spans:
                    span.parent_id = span.parent_id or (root.span_id if span is not root else None)
                return await technique.trial(bench, variant.arm.name, variant.knobs, task)
        finally:
            # The root span is the trial: one end for both, or the critical path would miss its wall
            # time by microseconds.
            row.ended_ns = root.ended_ns if root is not None else now_ns()
            OBSERVER.set(None)
            SPAN.set(None)

    async def _judge(self, bench: TrialBench, task: Task, answer: str) -> float | None:
        """A judge's opinion, asked after the trial's clock: a row of its own, role `check`, outside
        the trial's times and its cost."""
        body = definitions.judge_body(task, answer)
        if body is None or self.budget.is_reached:
            return None
        observer = OBSERVER.set(bench.observe)
        root = SPAN.set(next((span.span_id for span in bench.spans if span.kind == "trial"), None))
        try:
            reply = await bench.call(Request(body, tier="large", stream=False), role="check")
        except BudgetReached:  # by what a task of the agent's own, left behind, has spent meanwhile
            return None
        finally:
            SPAN.reset(root)
            OBSERVER.reset(observer)
        return definitions.judged(reply.text) if reply.ok else None

    # What to say

    def _progress(self, finished: FinishedTrial, left_s: float | None) -> dict[str, Any]:
        spent = round(self.budget.spent_usd, 6) if self.budget.usd is not None else None
        return {
            "kind": "trial",
            **{name: getattr(finished.trial, name) for name in TOLD},
            **clocks(finished),
            # As the run's start names it: a reader of the file finds each trial's arm by it.
            "arm": self._name((finished.trial.technique, finished.trial.arm)),
            "done": self.done,
            "total": self.total,
            "left_s": left_s,
            "spent_usd": spent,
        }

    def _announce(self) -> None:
        keys = [variant.key for variant in self.plan.variants]
        self.tell(
            {
                "kind": "started",
                "run_id": self.run_id,
                "technique": self._slug,
                "endpoint": self.endpoint.name,
                "endpoint_kind": self.endpoint.kind,
                "models": self.models,
                "arms": [self._name(key) for key in keys],
                "places": techniques.places(keys),
                "metric": self.plan.metric,
                "headline": self._name(self.plan.headline.key),
                "total": self.total,
                "pid": os.getpid(),
                "started_utc": utc_now().isoformat(),
            }
        )

    @property
    def _has_agents(self) -> bool:
        return self._slug == planning.AGENTS

    def _name(self, key: tuple[str, str]) -> str:
        return ".".join(key) if self._slug == planning.SIDE_BY_SIDE else key[1]

    @property
    def _slug(self) -> str:
        side_by_side = self.config.technique == planning.SIDE_BY_SIDE
        return planning.SIDE_BY_SIDE if side_by_side else self.plan.baseline.technique.slug

    def _run_row(self, keep: bool) -> RunRow:
        config, endpoint = self.config, self.endpoint
        settings = planning.stored_settings(config, self.plan)
        if not keep:
            settings = own_text.without(settings, self.run_id, config, self.plan)
        settings["config"] |= {
            "seed": self.seed,
            "models": dict(endpoint.models),
            "endpoint": endpoint.name,
        }
        return RunRow(
            run_id=self.run_id,
            technique=self._slug,
            endpoint=endpoint.name,
            endpoint_kind=endpoint.kind,
            models=self.models,
            settings=settings,
            seed=self.seed,
            status="running",
            keep_text=keep,
            started_utc=self.joined.run.started_utc if self.joined else utc_now(),
            note=config.note,
            name=config.name,
        )

    def _session_row(self) -> SessionRow:
        instrument = {
            **calibrate.of_session(),
            **self.session.lag.summary(),
            "loop": type(asyncio.get_running_loop()).__module__.partition(".")[0],
            "timer_step_ns": calibrate.timer_step_ns(2_000),
        }
        return session_row(self.run_id, self.session.id, os.getpid(), instrument)


class Interrupted(Exception):
    """The last trial before the end, with its rows, and why it was the last."""

    def __init__(self, finished: FinishedTrial, reason: asyncio.CancelledError) -> None:
        self.finished, self.reason = finished, reason


class Unwaited(ThreadPoolExecutor):
    """A thread for each call; one that is no longer waited for ends with the process, and does not
    keep it."""

    def submit(self, work: Callable, /, *values: Any, **named: Any) -> Future:
        future: Future = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work(*values, **named))
                except BaseException as error:
                    future.set_exception(error)

        threading.Thread(target=run, daemon=True, name="lab-call").start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """There is nothing to shut down."""
