"""A pytest plugin that holds a team's own prompts to a latency budget: `-p lab.pytest_latency`.

    @pytest.mark.latency(budget_ms=800, metric="wait_ms", percentile=50, runs=6)
    async def test_the_answer_comes_soon(lab_client):
        messages = [{"role": "user", "content": "What is a tide?"}]
        await lab_client.messages.create(model=MODEL, max_tokens=60, messages=messages)

The test's body is the trial: it runs once as a warm-up and `runs` times as measured, each request
stamped at the socket. A test that is not async gets the blocking client. Under pytest-xdist, tests
wait for each other: one measures at a time.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lab.library import Agent, Result, Tasks

MARKER = (
    "latency(budget_ms, metric='total_ms', percentile=50, runs=6, undecided='fail'): run the test "
    "that takes lab_client as trials, and hold the percentile of the metric to a budget by its 95% "
    "interval"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("latency", "latency budgets (LLM Latency Lab)")
    group.addoption(
        "--latency-endpoint",
        metavar="NAME|URL",
        help="where requests go (default: the lab's own default)",
    )
    group.addoption(
        "--latency-db",
        metavar="FILE",
        help="where the rows go (default: d/latency/lab.duckdb in pytest's cache folder)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@dataclass(frozen=True)
class Latency:
    """What the fixture `latency` gives."""

    endpoint: str | None
    db: str
    item: pytest.Item

    def check(
        self,
        agent: Agent,
        *,
        budget_ms: float,
        task: str | None = None,
        tasks: Tasks | None = None,
        metric: str = "total_ms",
        percentile: float = 50,
        runs: int = 6,
        undecided: str = "fail",
        **settings: Any,
    ) -> Result:
        """Measure `agent(client, task)` and fail the test unless the whole 95 % interval of the
        percentile is below the budget.

        A trial that made no call through `client`, or one past it, fails the test. Too few runs for
        the percentile, or a budget inside the interval, decide nothing: `undecided` is then "fail"
        or "skip".
        """
        from lab.library import Lab
        from lab.model import LabError
        from lab.processes import Busy, await_turn
        from lab.requirements import judge

        if undecided not in ("fail", "skip"):
            raise ValueError('undecided is "fail" or "skip"')
        try:
            tasks, result, progress = [task] if task is not None else tasks, None, []
            while result is None:
                await_turn(self._say)
                with contextlib.suppress(Busy):
                    lab = Lab(self.endpoint, db=self.db, progress=progress.append)
                    result = lab.measure(agent, tasks, runs, metric=metric, **settings)
            outcome = judge(result.run, f"p{percentile:g} {metric} < {budget_ms:g} ms")
        except LabError as error:
            pytest.fail(str(error), pytrace=False)
        trials = result.trials()
        failed = trials[~trials["outcome"].isin(("ok", "mismatch"))]
        if len(failed):
            first = failed.iloc[0]
            pytest.fail(
                f"{len(failed)} of {len(trials)} trials failed: {first['error_kind']}: "
                f"{first['error_text']}",
                pytrace=False,
            )
        notes = [entry["text"] for entry in progress if entry["kind"] == "note"]
        if forgotten := next((note for note in notes if "never awaited" in note), None):
            pytest.fail(forgotten, pytrace=False)
        self.item.user_properties.append(("latency", outcome.seen))
        if outcome.verdict == "fail":
            pytest.fail(f"Over the budget of {budget_ms:g} ms: {outcome.seen}.", pytrace=False)
        if outcome.verdict == "not_enough_data":
            more = f" About {outcome.needed} more runs would tell." if outcome.needed else ""
            stop = getattr(pytest, undecided)
            stop(f"Not enough data for {budget_ms:g} ms: {outcome.seen}.{more}")
        return result

    def _say(self, text: str) -> None:
        """At once, past pytest's capture; a worker of pytest-xdist has the terminal's stderr and
        nothing else."""
        capture = self.item.config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            print(f"\n{self.item.name}: {text}", file=sys.stderr, flush=True)


@pytest.fixture
def latency(request: pytest.FixtureRequest) -> Latency:
    """`latency.check(agent, budget_ms=…, task=…)` holds a function of your own to a budget."""
    return _latency(request.node)


@pytest.fixture
def lab_client(request: pytest.FixtureRequest) -> Iterator[None]:
    """The SDK's client on the lab's stamped transport, for a test marked `latency`: AsyncAnthropic
    in an async one, else Anthropic."""
    if request.node.get_closest_marker("latency") is None:
        usage = "lab_client is for tests that are marked: @pytest.mark.latency(budget_ms=800)"
        pytest.fail(usage, pytrace=False)
    yield None  # the real one exists only while a trial runs; pytest_pyfunc_call hands it over


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    marker = pyfuncitem.get_closest_marker("latency")
    if marker is None or "lab_client" not in pyfuncitem.fixturenames:
        return None
    # pytest-asyncio has put a synchronous function in the place of the test's own.
    test = inspect.unwrap(pyfuncitem.obj, stop=inspect.iscoroutinefunction)
    test = test if inspect.iscoroutinefunction(test) else pyfuncitem.obj
    if marker.args:
        usage = "latency takes its settings by name: @pytest.mark.latency(budget_ms=800)."
        pytest.fail(usage, pytrace=False)
    names = inspect.signature(test).parameters
    fixtures = {name: value for name, value in pyfuncitem.funcargs.items() if name in names}

    async def awaiting(client: Any, task: Any) -> Any:
        return await test(**{**fixtures, "lab_client": client})

    def blocking(client: Any, task: Any) -> Any:
        return test(**{**fixtures, "lab_client": client})

    trial = awaiting if inspect.iscoroutinefunction(test) else blocking
    trial.__name__ = pyfuncitem.originalname or pyfuncitem.name
    _latency(pyfuncitem).check(trial, **marker.kwargs)
    return True


def _latency(item: pytest.Item) -> Latency:
    db = item.config.getoption("latency_db") or item.config.cache.mkdir("latency") / "lab.duckdb"
    return Latency(item.config.getoption("latency_endpoint"), str(db), item)
