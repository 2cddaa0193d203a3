"""Planted differences, through worker, wire and store: ten runs on the simulated server."""

import json
import os
import signal

import pytest

from lab import clock, processes, results
from lab.harness.plan import config_of
from lab.local.control import Control

BLOCKS = 10
QUIET = {"network_ms": 0, "prefill_ms_per_token": 0, "read_ms_per_token": 0, "gap_ms": 1, "jitter": 0.05, "tail": 0, "answer_tokens": 3}
ARMS = json.dumps([{"name": "a", "model": "simulated-large"}, {"name": "b", "model": "simulated-small"}])


@pytest.fixture(scope="module")
def server():
    card = processes.local_server(simulated=True)
    yield Control(card.base_url, card.api_key)
    os.kill(card.pid, signal.SIGTERM)


def measure(seed: int):
    run_id = processes.start_run(
        config_of(technique="ab", endpoint="simulated", runs=BLOCKS, warmup=1, seed=seed, knobs={"bodies": ARMS, "answer_tokens": 16})
    )
    offset, give_up = 0, clock.now_ns() + 60_000_000_000
    while clock.now_ns() < give_up:
        entries, offset = processes.read_progress(run_id, offset)
        ended = next((entry for entry in entries if entry["kind"] == "ended"), None)
        if ended:
            assert ended["status"] == "finished", ended
            return results.read(run_id).comparisons[0]
        clock.pause_s(0.1)
    raise AssertionError("the run did not end")


def test_ten_planted_effects_come_back(server, db):
    """Queueing 60 ms in a and 60 − planted in b. A 95 % interval may miss once in ten; a planted nothing has no winner."""
    planted = [0, 0, 5, 10, 15, 20, 25, 30, 40, -20]
    found = []
    for seed, effect in enumerate(planted):
        server.reset()
        server.knobs(**QUIET, seed=seed, models={"simulated-large": {"queue_ms": 60}, "simulated-small": {"queue_ms": 60 - effect}})
        found.append(measure(seed))
    held = [one.low_ms <= -effect <= one.high_ms for one, effect in zip(found, planted, strict=True)]
    assert all(one.n == BLOCKS for one in found)
    assert sum(held) >= 9, [(effect, one.low_ms, one.high_ms) for one, effect in zip(found, planted, strict=True)]
    assert {one.verdict for one in found[:2]} <= {"no_difference", "not_enough_data"}
    assert [one.verdict for one in found[6:]] == ["faster"] * 3 + ["slower"]
