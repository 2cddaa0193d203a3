"""Planted differences, through worker, wire and store: ten runs on the simulated server."""

import pandas as pd

from lab import results, stats, worker
from lab.settings import config_of
from tests.measured import PLANTED_ARMS, QUIET

BLOCKS = 12
STRICT = 0.999


def measure(endpoint: str, seed: int) -> results.RunResult:
    config = config_of(
        technique="ab",
        endpoint=endpoint,
        runs=BLOCKS,
        warmup=1,
        seed=seed,
        knobs={"bodies": PLANTED_ARMS, "answer_tokens": 16},
    )
    result = results.read(worker.measure(config).run_id)
    assert result.run["status"] == "finished"
    return result


def test_ten_planted_effects_come_back(simulated, db, monkeypatch):
    """Queueing 60 ms in a and 60 − planted in b. At 99.9 % an interval misses by chance once in a
    thousand; at 95 % once in twenty."""
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    planted = [0, 0, 5, 10, 15, 20, 25, 30, 40, -40]
    found = []
    for seed, effect in enumerate(planted):
        simulated.reset()
        simulated.knobs(
            **QUIET,
            seed=seed,
            models={
                "simulated-large": {"queue_ms": 60},
                "simulated-small": {"queue_ms": 60 - effect},
            },
        )
        found.append(measure(simulated.base_url, seed))
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
