"""The pytest plugin, run by a pytest of its own on the simulated server; its fixture is in the documented example."""

import os
import re
import subprocess
import sys

import pytest

from lab import paths
from tests.measured import FAST

TESTS = """
import pytest


async def ask(client, model, words="What is a tide?"):
    reply = await client.messages.create(model=model, max_tokens=4, messages=[{"role": "user", "content": words}])
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


@pytest.mark.latency(budget_ms=5000)
def test_not_async(lab_client): ...


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
    """Each test's outcome with its message, by name."""
    simulated.knobs(**FAST, models={"simulated-large": {"queue_ms": 100}})
    (tmp_path / "test_prompts.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "lab.pytest_latency",
        "-ra",
        "--latency-endpoint",
        simulated.base_url,
        "--strict-markers",
    ]
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT), "LAB_LOCAL_KEY": simulated.api_key, "COLUMNS": "400"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110)
    return done.stdout


def test_a_budget_is_met_missed_or_undecided(told):
    lines = {line.split("::")[-1].split(" - ")[0]: line for line in told.splitlines() if line.startswith(("FAILED", "ERROR"))}
    assert "1 passed, 5 failed, 1 skipped, 1 error" in _counts(told)
    assert "Over the budget of 90 ms: test_over wait_ms" in lines["test_over"] and "n = 6" in lines["test_over"]
    assert "Not enough data for 5000 ms" in lines["test_too_few"] and "About 71 more runs would tell" in lines["test_too_few"]
    assert "Not enough data" in next(line for line in told.splitlines() if line.startswith("SKIPPED"))
    assert "exception: AssertionError" in lines["test_wrong_answer"]
    assert "must be `async def`" in lines["test_not_async"] and "settings by name" in lines["test_by_place"]
    assert "lab_client is for tests that are marked" in lines["test_unmarked"]


def _counts(told):
    found = {word: n for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", told.splitlines()[-1])}
    return ", ".join(f"{found.get(word, 0)} {word}" for word in ("passed", "failed", "skipped", "error"))
