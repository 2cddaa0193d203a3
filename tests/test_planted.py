"""Planted differences, through worker, wire and store: ten runs on the simulated server."""

import os
import signal

import pandas as pd
import pytest

from lab import clock, endpoint_kinds, processes, results, stats
from lab.local.control import Control
from lab.settings import config_of
from tests.measured import PLANTED_ARMS, QUIET

BLOCKS = 12
STRICT = 0.999


@pytest.fixture(scope="module")
def server():
    card = processes.local_server(endpoint_kinds.SIMULATED)
    yield Control(card.base_url, card.api_key)
    os.kill(card.pid, signal.SIGTERM)


def measure(seed: int):
    run_id = processes.start_run(
        config_of(
            technique="ab",
            endpoint="simulated",
            runs=BLOCKS,
            warmup=1,
            seed=seed,
            knobs={"bodies": PLANTED_ARMS, "answer_tokens": 16},
        )
    )
    offset, give_up = 0, clock.now_ns() + 180_000_000_000
    while clock.now_ns() < give_up:
        entries, offset = processes.read_progress(run_id, offset)
        ended = next((entry for entry in entries if entry["kind"] == "ended"), None)
        if ended:
            assert ended["status"] == "finished", ended
            return results.read(run_id)
        clock.pause_s(0.1)
    raise AssertionError("the run did not end")


def test_ten_planted_effects_come_back(server, db):
    """Queueing 60 ms in a and 60 − planted in b. At 99.9 % an interval misses by chance once in a
    thousand; at 95 % once in twenty."""
    planted = [0, 0, 5, 10, 15, 20, 25, 30, 40, -40]
    found = []
    for seed, effect in enumerate(planted):
        server.reset()
        server.knobs(
            **QUIET,
            seed=seed,
            models={
                "simulated-large": {"queue_ms": 60},
                "simulated-small": {"queue_ms": 60 - effect},
            },
        )
        found.append(measure(seed))
    differences = [one.pairs.loc[one.pairs.metric == one.headline, "difference"] for one in found]
    assert [len(one) for one in differences] == [BLOCKS] * 10
    intervals = [stats.hodges_lehmann(one, STRICT) for one in differences]
    held = [one.low <= -effect <= one.high for one, effect in zip(intervals, planted, strict=True)]
    assert sum(held) >= 9, list(zip(planted, intervals, strict=True))
    errors = stats.hodges_lehmann(
        pd.concat([one + effect for one, effect in zip(differences, planted, strict=True)]), STRICT
    )
    assert errors.low <= 0 <= errors.high and errors.half_width < 10
    assert [one.comparisons[0].verdict for one in found[8:]] == ["faster", "slower"]
    for one in found[:2]:
        judged = stats.compare_run(
            one.pairs, one.counts, one.run["settings"]["headline"], settings={"level": STRICT}
        )
        assert judged[0].verdict in ("no_difference", "not_enough_data")
