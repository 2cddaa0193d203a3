"""The pytest plugin, run by a pytest of its own on the simulated server; its fixture is in the
documented example."""

import itertools
import os
import re
import subprocess
import sys

import pytest

from lab import paths, processes
from tests.measured import FAST

TESTS = """
import anthropic
import pytest


async def ask(client, model, words="What is a tide?"):
    reply = await client.messages.create(
        model=model, max_tokens=4, messages=[{"role": "user", "content": words}]
    )
    return reply.content[0].text


@pytest.fixture
def model():
    return "simulated-small"


@pytest.mark.latency(budget_ms=90, runs=6, warmup=0, metric="wait_ms")
async def test_over(lab_client):
    await ask(lab_client, "simulated-large")


@pytest.mark.latency(budget_ms=5000, percentile=95, runs=1, warmup=0)
async def test_too_few(lab_client, model):
    await ask(lab_client, model)


@pytest.mark.latency(budget_ms=5000, percentile=95, runs=1, warmup=0, undecided="skip")
async def test_too_few_by_choice(lab_client, model):
    await ask(lab_client, model)


@pytest.mark.latency(budget_ms=5000, runs=1, warmup=0)
async def test_wrong_answer(lab_client, model):
    assert await ask(lab_client, model) == "42"


@pytest.mark.latency(budget_ms=5000, runs=6, warmup=0)
def test_not_async(lab_client):
    lab_client.messages.create(
        model="simulated-small",
        max_tokens=4,
        messages=[{"role": "user", "content": "What is a tide?"}],
    )


@pytest.mark.latency(budget_ms=5000, runs=1, warmup=0)
async def test_never(lab_client):
    assert lab_client


@pytest.mark.latency(budget_ms=5000, runs=1, warmup=0)
async def test_forgets(lab_client):
    ask(lab_client, "simulated-small")


@pytest.mark.latency(budget_ms=5000, runs=6, warmup=0)
async def test_forgets_one(lab_client):
    ask(lab_client, "simulated-small")
    await ask(lab_client, "simulated-small")


@pytest.mark.latency(budget_ms=5000, runs=1, warmup=0)
async def test_past(lab_client):
    async with anthropic.AsyncAnthropic(
        api_key="x", base_url="http://127.0.0.1:9", max_retries=0
    ) as own:
        try:
            await ask(own, "simulated-small")
        except anthropic.APIConnectionError:
            pass


def test_past_in_an_agent(latency):
    def agent(client, task):
        with anthropic.Anthropic(api_key="x", base_url="http://127.0.0.1:9", max_retries=0) as own:
            try:
                own.messages.create(
                    model="x", max_tokens=4, messages=[{"role": "user", "content": "?"}]
                )
            except anthropic.APIConnectionError:
                return client.messages.create(
                    model="simulated-small",
                    max_tokens=4,
                    messages=[{"role": "user", "content": "?"}],
                ).id

    latency.check(agent, task="x", budget_ms=5000, runs=1, warmup=0)


@pytest.mark.latency(800)
async def test_by_place(lab_client): ...


async def test_unmarked(lab_client): ...


class TestInAClass:
    @pytest.mark.parametrize("words", ["What is a tide?"])
    @pytest.mark.latency(budget_ms=5000, runs=6, warmup=0)
    async def test_method(self, lab_client, model, words):
        await ask(lab_client, model, words)
"""


@pytest.fixture
def told(simulated, tmp_path):
    """What a pytest of two processes said, which could not begin before both had told of waiting
    for a run that was measured."""
    simulated.knobs(**FAST, models={"simulated-large": {"queue_ms": 100}})
    (tmp_path / "test_prompts.py").write_text(TESTS)
    flags = [
        "-p",
        "lab.pytest_latency",
        "-n",
        "2",
        "-ra",
        "--strict-markers",
        "--latency-endpoint",
        simulated.base_url,
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(paths.ROOT),
        "LAB_LOCAL_KEY": simulated.api_key,
        "COLUMNS": "400",
    }
    with processes.measuring("0a", "streaming"):
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *flags],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        waiting = (
            line
            for line in process.stderr
            if "Waiting for this machine's one measurement: streaming is being" in line
        )
        tests = {line.split(":")[0] for line in itertools.islice(waiting, 2)}
    out, _ = process.communicate(timeout=110)
    assert len(tests) == 2 and all(name.startswith("test_") for name in tests)
    return out


def test_a_budget_is_met_missed_or_undecided_and_processes_wait_for_each_other(told):
    lines = {
        line.split("::")[-1].split(" - ")[0]: line
        for line in told.splitlines()
        if line.startswith(("FAILED", "ERROR"))
    }
    assert "2 passed, 9 failed, 1 skipped, 1 error" in _counts(told)
    assert (
        "Over the budget of 90 ms: test_over wait_ms" in lines["test_over"]
        and "n = 6" in lines["test_over"]
    )
    assert (
        "Not enough data for 5000 ms" in lines["test_too_few"]
        and "About 71 more runs would tell" in lines["test_too_few"]
    )
    assert "Not enough data" in next(
        line for line in told.splitlines() if line.startswith("SKIPPED")
    )
    assert "exception: AssertionError" in lines["test_wrong_answer"]
    assert "test_never made no call through the lab's client" in lines["test_never"]
    assert "ask was called in test_forgets and never awaited" in lines["test_forgets"]
    assert "ask was called in test_forgets_one and never awaited" in lines["test_forgets_one"]
    assert "1 call of test_past went past the lab's client (1 to 127.0.0.1)" in lines["test_past"]
    assert "1 call of agent went past the lab's client" in lines["test_past_in_an_agent"]
    assert (
        "settings by name" in lines["test_by_place"]
        and "lab_client is for tests that are marked" in lines["test_unmarked"]
    )


def _counts(told):
    found = {
        word: n
        for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", told.splitlines()[-1])
    }
    return ", ".join(
        f"{found.get(word, 0)} {word}" for word in ("passed", "failed", "skipped", "error")
    )
