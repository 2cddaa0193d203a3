"""The lab used from Python: results as frames, agents as arms, inside a running event loop too."""

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from lab import Lab, paths, processes, worker
from lab.harness.reporters import figure_files
from lab.model import LabError
from lab.settings import config_of
from lab.store.store import Store
from tests.measured import FAST
from tests.recorded_runs import record


def asking(model, words="What is a tide?", most=4):
    """An agent that asks a model one thing."""

    async def agent(client, task):
        reply = await client.messages.create(
            model=model,
            max_tokens=most,
            messages=[{"role": "user", "content": f"{task.prompt or words}"}],
        )
        return reply.content[0].text

    return agent


@pytest.fixture
def lab(db, simulated, monkeypatch):
    """A Lab on the tests' server, where the large model takes 100 ms longer to begin."""
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    simulated.knobs(**FAST, models={"simulated-large": {"queue_ms": 100}})
    return Lab(simulated.base_url, progress=False)


def test_importing_lab_brings_nothing_heavy():
    heavy = {"pandas", "anthropic", "duckdb", "pydantic"}
    code = f"import lab, sys; print(sorted({heavy} & set(sys.modules)), lab.Lab.__module__)"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=paths.ROOT, check=True
    )
    assert told.stdout.strip() == "[] lab.library"


def test_a_stored_run_reads_as_frames_and_words(db):
    record(Store(), blocks=8)
    result = Lab().read()
    summary = result.summary()
    assert summary.index.tolist() == ["uncached", "cached"] and summary["n"].tolist() == [8, 8]
    assert summary["ttft_ms"].tolist() == [904.5, 304.5]
    assert (summary.loc["cached", "change"], summary.loc["cached", "verdict"]) == (-600, "faster")
    assert result.verdict().headline.startswith("Cached is faster: TTFT −600 ms")
    assert len(result.trials()) == len(result.calls()) == 16 and len(result.spans()) == 32
    assert list(result.figures()) == list(figure_files.run_figures(result.run))


def test_a_notebook_shows_the_verdict_and_escapes_names(db):
    record(Store(), blocks=6, technique="<b>")
    shown = Lab().read()._repr_html_()
    assert "Cached is faster" in shown and "<b>" not in shown and "&lt;b&gt;" in shown


async def test_a_technique_is_measured_from_a_running_loop_in_another_process(lab):
    result = lab.run("streaming", runs=2, warmup=0, answer_tokens=16, seed=1)
    assert asyncio.get_running_loop().is_running() and result.summary()["n"].tolist() == [2, 2]
    assert result.run.run["settings"]["knobs"]["answer_tokens"] == 16
    assert result.run.run["sessions"][0]["worker"].rpartition(":")[2] != str(os.getpid())
    assert processes.running() is None


async def test_agents_of_ones_own_become_arms(lab):
    result = lab.compare(
        {"old": asking("simulated-large"), "new": asking("simulated-small")},
        tasks=["What is a tide?", "Name a colour."],
        runs=6,
        warmup=0,
    )
    summary = result.summary()
    assert summary.index.tolist() == ["old", "new"] and summary.loc["new", "verdict"] == "faster"
    assert -200 < summary.loc["new", "change"] < -50
    calls = result.calls()
    assert (
        len(calls) == 12
        and set(calls["model"]) == {"simulated-large", "simulated-small"}
        and calls["error_kind"].isna().all()
    )
    assert set(result.trials()["task_id"]) == {"task-1", "task-2"}


def test_an_agent_that_takes_three_arguments_gets_the_bench(lab):
    threads = []

    async def with_tool(client, task, bench):
        threads.append(threading.current_thread())
        async with bench.span("join", "look it up"):
            await bench.tool("weather", {"city": "Oslo"})
        return await asking(bench.models["small"])(client, task)

    result = lab.compare(
        {"plain": asking("simulated-small"), "tool": with_tool},
        tasks=["Is it raining?"],
        runs=1,
        warmup=0,
    )
    spans = result.spans()
    assert spans["kind"].value_counts().to_dict() == {"trial": 2, "call": 2, "join": 1, "tool": 1}
    tool, join = (spans[spans["kind"] == kind].iloc[0] for kind in ("tool", "join"))
    assert tool["parent_id"] == join["span_id"] and threads[0] is not threading.main_thread()


def test_a_streaming_agent_is_judged_by_its_wait_and_can_get_more_blocks(lab):
    async def streaming(client, task):
        async with client.messages.stream(
            model="simulated-small",
            max_tokens=4,
            messages=[{"role": "user", "content": task.prompt}],
        ) as stream:
            return await stream.get_final_text()

    agents = {"whole": asking("simulated-small"), "streamed": streaming}
    first = lab.compare(agents, tasks=["What is a tide?"], runs=1, warmup=0, metric="wait_ms")
    assert first.run.run["settings"]["headline"] == {
        "metric": "wait_ms",
        "technique": "agents",
        "arm": "streamed",
    }
    processes.stop(first.run_id)  # what an interrupted cell leaves behind must not end the next one
    more = lab.compare(agents, runs=1, join_run=first.run_id)
    streamed = more.trials()[more.trials()["arm"] == "streamed"]
    assert more.run_id == first.run_id and more.summary()["n"].tolist() == [2, 2]
    assert (streamed["wait_ms"] < streamed["total_ms"]).all() and streamed["ttft_ms"].notna().all()
    with pytest.raises(LabError, match="Go on from Python"):
        worker.measure(config_of(technique="agents", join_run=first.run_id))


def test_one_agent_alone_has_times_and_no_verdict(lab):
    result = lab.measure(asking("simulated-small"), tasks=["What is a tide?"], runs=2, warmup=0)
    assert result.verdict() is None and result.summary()["n"].tolist() == [2]
    assert "agent" in result._repr_html_()


def test_an_agent_that_raises_says_so(lab):
    async def broken(client, task):
        raise ValueError("no such tool")

    with pytest.raises(
        LabError, match="3 trials in a row failed: exception: ValueError: no such tool"
    ):
        lab.compare({"a": broken, "b": broken}, tasks=["x"], runs=2, warmup=0)


async def good(client, task): ...


async def yielding(client, task):
    yield "a piece"


async def greedy(client, task, bench, more): ...


@pytest.mark.parametrize(
    ("agents", "said"),
    [
        ({"a": good}, "needs two agents"),
        ({"a": good, "b": "a prompt"}, "b is not a function"),
        ({"a": good, "b": yielding}, "b yields its answer in pieces"),
        ({"a": good, "b": greedy}, "b cannot be called with"),
        ({"a": good, "b.c": good}, "'b.c' cannot name an arm"),
        ({"a": good, "<i>": good}, "cannot name an arm"),
        ({"a": good, 7: good}, "7 cannot name"),
    ],
)
def test_what_is_no_agent_is_refused_in_a_sentence(agents, said):
    with pytest.raises(LabError, match=said):
        Lab("simulated").compare(agents, tasks=["x"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tasks": []}, "at least one question"),
        ({"tasks": [3]}, "Task 1 is neither text"),
        ({"tasks": [" "]}, "Task 1 is neither text"),
        ({"tasks": ["x"], "metric": "speed"}, "metric must be one of"),
        ({"tasks": ["x"], "runs": 0}, "runs"),
        ({"tasks": ["x"], "knob": 1}, "no setting 'knob'"),
    ],
)
def test_a_wrong_setting_is_told_before_anything_is_asked(settings, said):
    with pytest.raises(LabError, match=said):
        Lab("simulated").compare({"a": good, "b": good}, **settings)
    with pytest.raises(LabError, match="Did you mean 'streaming'"):
        Lab("simulated").run("streeming")
