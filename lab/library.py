"""The lab from a script or a notebook.

    from lab import Lab

    Lab(endpoint="local").run(TECHNIQUE, runs=10).summary()

Functions of your own are compared as strictly:

    # client: the SDK's AsyncAnthropic, stamped at the socket
    async def agent(client, task): ...

    # and what a technique has: bench.span, bench.tool, bench.models
    async def agent(client, task, bench): ...

    # client: the SDK's blocking Anthropic, stamped likewise; runs in a thread
    def agent(client, task): ...

    agents = {"old": old_agent, "new": new_agent}
    Lab().compare(agents, tasks=["What is a tide?"], runs=10).verdict().headline
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lab import clock, processes, results, resume, techniques, units, worker
from lab.endpoints import blocking, consent
from lab.harness.plan import AGENTS
from lab.harness.reporters import figure_files
from lab.instrumentation import unseen
from lab.metrics import CLOCKS
from lab.model import Arm, Knobs, LabError, Technique, new_id
from lab.results import RunResult
from lab.scenarios import definitions
from lab.scenarios.definitions import Task
from lab.settings import BenchmarkConfig, config_of
from lab.stats import VerdictText
from lab.store.store import Store

if TYPE_CHECKING:
    import plotly.graph_objects as go

Agent = Callable[..., Awaitable[Any] | Any]
Tasks = Iterable[str | Mapping[str, Any] | Task]
ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,39}")
POLL_S = 0.1
SUMMARY = (*CLOCKS, "output_tokens")
"""The metrics whose medians stand in a summary."""
JUDGED = {"change": "estimate", "low": "low", "high": "high", "verdict": "verdict"}


@dataclass(frozen=True)
class Result:
    """A stored run, read and judged. In a notebook it shows its verdict and its summary."""

    run: RunResult
    """All of it, as reporters get it."""

    @property
    def run_id(self) -> str:
        return self.run.run_id

    def verdict(self) -> VerdictText | None:
        """The planned comparison in words: headline, seen, detail, markdown, tone; None where
        nothing was compared."""
        return self.run.verdicts[0] if self.run.verdicts else None

    def summary(self) -> pd.DataFrame:
        """A row for each arm, the baseline first: n, failed, medians of the clocks in ms, tokens,
        quality, cost; and the change of the headline metric against the baseline with its 95 %
        interval and verdict."""
        run = self.run
        judged = {
            (comparison.technique, comparison.arm): comparison
            for comparison in run.headlines
            if comparison.metric == run.headline
        }
        rows = {}
        for arm in run.arms():
            counted, measured, comparison = run.counted(*arm), run.metrics(*arm), judged.get(arm)
            rows[run.name(*arm)] = {
                **{name: int(counted.get(name) or 0) for name in ("n", "failed")},
                **{name: measured.get(name, {}).get("p50") for name in SUMMARY},
                **{name: counted.get(name) for name in ("quality", "cost_usd")},
                **{name: getattr(comparison, field, None) for name, field in JUDGED.items()},
            }
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("arm")
        numbers = table.columns.drop("verdict")
        return table.assign(**{name: pd.to_numeric(table[name]) for name in numbers})

    def trials(self) -> pd.DataFrame:
        """Every trial with its metrics, warm-up and failed ones included (view trial_metrics)."""
        return self.run.trials

    def calls(self) -> pd.DataFrame:
        """Every API request with its clocks, tokens and cost (view call_metrics)."""
        return self.run.calls

    def spans(self) -> pd.DataFrame:
        return self.run.ask("spans", run_id=self.run_id)

    def figures(self) -> dict[str, go.Figure]:
        """Plotly figures by name, as the report has them: waterfall, distribution, pairs, …"""
        return figure_files.run_figures(self.run)

    def _repr_html_(self) -> str:
        row, lead = self.run.run, ""
        if verdict := self.verdict():
            lead = f"<p><strong>{escape(verdict.headline)}</strong><br>{escape(verdict.seen)}</p>"
        table = self.summary().to_html(float_format="{:,.1f}".format, na_rep="")
        about = f"{row['technique']} · {row['endpoint']} ({row['endpoint_kind']})"
        return f"{lead}{table}<p><small>{escape(about)} · run {self.run_id}</small></p>"


class Lab:
    """Where to measure, and where the rows go. `endpoint` is a name or a URL; `models` as in
    {"small": NAME}; `db` a database file.

    `progress` is whether to draw it on stderr, or a function that is told each entry of the
    progress file.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        models: Mapping[str, str] | None = None,
        db: str | Path | None = None,
        progress: bool | Callable[[dict[str, Any]], None] = True,
    ) -> None:
        self.endpoint, self.models, self.progress = endpoint, dict(models or {}), progress
        self.db = str(Path(db).expanduser().absolute()) if db else None

    def run(self, technique: str, runs: int = 10, **settings: Any) -> Result:
        """Measure a technique in a process of its own, and wait. `settings` are those of a run
        (seed, scenario, max_usd …) and the technique's knobs (answer_tokens …). Interrupting the
        wait stops the run; its rows are kept."""
        config = self._config(techniques.find(technique).slug, settings | {"runs": runs})
        run_id, offset, tell = processes.start_run(config), 0, self._teller()
        ended: dict[str, Any] | None = None
        try:
            while ended is None:
                alive = (card := processes.running()) is not None and card.run_id == run_id
                entries, offset = processes.read_progress(run_id, offset)
                for entry in entries:
                    tell(entry)
                ended = next((entry for entry in entries if entry["kind"] == "ended"), None)
                if ended is None and not alive and not entries:
                    ended = {"status": "failed", "text": "The worker ended without a word."}
                if ended is None:
                    clock.pause_s(POLL_S)
        except KeyboardInterrupt:
            processes.stop(run_id)
            raise
        return self._result(run_id, ended["status"], ended["text"])

    def compare(
        self,
        agents: Mapping[str, Agent],
        tasks: Tasks | None = None,
        runs: int = 10,
        *,
        metric: str = "total_ms",
        **settings: Any,
    ) -> Result:
        """Compare functions of your own, the first as the baseline, in shared blocks; each is
        `agent(client, task)` or `agent(client, task, bench)` and answers with its text. They run in
        this process, on an event loop of their own; one that is not async runs in a thread, with
        the blocking client. A trial that makes no call through its client, or one past it, has
        failed."""
        if len(agents) < 2:
            raise LabError(
                "A comparison needs two agents, the baseline first: "
                "compare({'old': old_agent, 'new': new_agent})."
            )
        return self._measure(technique_of(agents, metric), tasks, runs, settings)

    def measure(
        self,
        agent: Agent,
        tasks: Tasks | None = None,
        runs: int = 10,
        *,
        metric: str = "total_ms",
        **settings: Any,
    ) -> Result:
        """Measure one function alone: its times, and nothing to compare them with."""
        name = getattr(agent, "__name__", "agent").strip("_<>")[:40] or "agent"
        return self._measure(technique_of({name: agent}, metric), tasks, runs, settings)

    def read(self, reference: str = "last") -> Result:
        """A stored run by id, first digits, name, `last` or `last~1`."""
        return Result(results.read(reference, Store(self.db)))

    # Within

    def _config(self, slug: str, settings: Mapping[str, Any]) -> BenchmarkConfig:
        fields = BenchmarkConfig.model_fields
        chosen = {name: value for name, value in settings.items() if name in fields}
        knobs = {name: value for name, value in settings.items() if name not in fields}
        knobs = {**chosen.get("knobs", {}), **knobs}
        own = {"technique": slug, "endpoint": self.endpoint, "models": self.models, "db": self.db}
        config = config_of(**own | chosen | {"knobs": knobs})
        consent.typed(config.endpoint)
        return resume.resolved(config)

    def _measure(
        self, technique: Technique, tasks: Tasks | None, runs: int, settings: Mapping[str, Any]
    ) -> Result:
        if unknown := settings.keys() - BenchmarkConfig.model_fields.keys():
            raise LabError(f"There is no setting {sorted(unknown)[0]!r}; agents have no knobs.")
        settings = {**settings, "runs": runs}
        if tasks is not None:
            settings["tasks"] = _tasks(tasks)
        config = self._config(technique.slug, settings)
        run_id = config.join_run or new_id()
        with ThreadPoolExecutor(1, thread_name_prefix="lab") as pool:
            # A notebook's loop is running in this thread already, and its own work would delay
            # every stamp.
            new = None if config.join_run else run_id
            measured = pool.submit(worker.measure, config, self._teller(), new, technique)
            try:
                ended = measured.result()
            except KeyboardInterrupt:
                processes.stop(run_id)
                raise
        return self._result(*ended)

    def _result(self, run_id: str, status: str, text: str) -> Result:
        if status == "failed":
            raise LabError(text)
        return self.read(run_id)

    def _teller(self) -> Callable[[dict[str, Any]], None]:
        if callable(self.progress):
            return self.progress
        if not self.progress:
            return lambda entry: None
        from rich.console import Console

        from lab.harness.progress import OneOutput, Progress

        console = Console(stderr=True, highlight=False)
        if not console.is_jupyter:
            return Progress(console)
        from IPython.display import display

        shown = display({"text/plain": ""}, raw=True, display_id=True)
        return OneOutput(console, lambda text: shown.update({"text/plain": text}, raw=True))


def technique_of(agents: Mapping[str, Agent], metric: str = "total_ms") -> Technique:
    """Functions of the user's own as the arms of a technique; LabError for what is not a function,
    or has a name that cannot stand in a table."""
    if metric not in CLOCKS:
        raise LabError(f"metric must be one of {', '.join(CLOCKS)}, not {metric!r}.")
    takes_bench = {}
    for name, agent in agents.items():
        if not isinstance(name, str) or not ARM_NAME.fullmatch(name):
            raise LabError(
                f"{name!r} cannot name an arm: up to 40 letters, digits, spaces, - and _, a letter "
                "or digit first."
            )
        takes_bench[name] = _takes_bench(name, agent)
    unseen.watched_clients()

    async def trial(bench, arm: str, knobs: Knobs, task: Task) -> Any:
        agent, more = agents[arm], (bench,) if takes_bench[arm] else ()
        answer = None
        with unseen.counting(blocking.ThreadTransport) as past:
            try:
                if _is_async(agent):
                    answer = await agent(bench.client, task, *more)
                else:
                    async with blocking.beside(bench.client) as client:
                        answer = await asyncio.to_thread(agent, client, task, *more)
            except Exception:
                if not past:
                    raise
        if past:
            bench.fail("unseen_call", _past_words(arm, past))
        # What was never awaited is not made text: the runner names it.
        return answer if answer is None or inspect.isawaitable(answer) else str(answer)

    return Technique(
        slug=AGENTS,
        title="Your agents",
        claim="Functions of your own, compared as strictly as the lab's techniques.",
        published="",
        arms=tuple(map(Arm, agents)),
        headline=metric,
        headline_arm=list(agents)[-1],
        knobs=Knobs,
        trial=trial,
    )


def _past_words(arm: str, hosts: list[str]) -> str:
    """Whom an agent asked without the lab, and what to do about it."""
    called = " and ".join(f"{count} to {host}" for host, count in Counter(hosts).items())
    return (
        f"{units.counted(len(hosts), 'call')} of {arm} went past the lab's client "
        f"({called}): neither measured nor in its budget. Hand the client that the function is "
        "given to what makes them; docs/library.md shows how for common frameworks."
    )


def _is_async(agent: Agent) -> bool:
    return any(map(inspect.iscoroutinefunction, _callables(agent)))


def _callables(agent: Agent) -> tuple[Any, Any]:
    """It, and what an object that can be called runs."""
    return agent, getattr(agent, "__call__", None)  # noqa: B004


def _takes_bench(name: str, agent: Agent) -> bool:
    if not callable(agent):
        raise LabError(
            f"{name} is not a function: write `async def {name}(client, task): …` and await the "
            "client's calls."
        )
    for function in _callables(agent):
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise LabError(
                f"{name} yields its answer in pieces: return the whole text at its end; the "
                "client's own stream has the stamps."
            )
    for count in (3, 2):
        try:
            inspect.signature(agent).bind(*range(count))
        except TypeError:
            continue
        return count == 3
    raise LabError(f"{name} cannot be called with (client, task) or (client, task, bench).")


def _tasks(tasks: Tasks) -> list[Task]:
    if isinstance(tasks, (str, Mapping, Task)):
        tasks = [tasks]
    tasks = [_task(task, number) for number, task in enumerate(tasks, 1)]
    if not tasks:
        raise LabError("There is no task: give at least one question.")
    if len({task.task_id for task in tasks}) < len(tasks):
        tasks = [
            task.model_copy(update={"task_id": f"{number}-{task.task_id}"})
            for number, task in enumerate(tasks, 1)
        ]
    return tasks


def _task(task: str | Mapping[str, Any] | Task, number: int) -> Task:
    if isinstance(task, Task):
        return task
    if isinstance(task, str) and task.strip():
        return Task(task_id=f"task-{number}", prompt=task)
    if isinstance(task, Mapping):
        (read,) = definitions.parse_lines(json.dumps(task))
        return read
    raise LabError(f"Task {number} is neither text nor an object with a prompt or a body.")
