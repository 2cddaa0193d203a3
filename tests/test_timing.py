import doctest
import random

import duckdb
import numpy

from lab.instrumentation import timing
from lab.instrumentation.timing import LatencyCollector, StreamingTimer, Timer


def test_the_examples_in_the_docs_run():
    assert doctest.testmod(timing).failed == 0


def test_percentiles_equal_duckdb_and_numpy():
    rng = random.Random(4)
    for n in (1, 2, 3, 20, 137):
        values = [rng.lognormvariate(3, 1) for _ in range(n)]
        own = LatencyCollector(values).percentiles(50, 95, 99)
        (theirs,) = duckdb.sql(
            "SELECT quantile_cont(v, [0.5, 0.95, 0.99]) FROM (SELECT unnest($1) AS v)",
            params=[values],
        ).fetchall()[0]
        assert numpy.allclose(list(own.values()), theirs, rtol=1e-12)
        assert numpy.allclose(
            list(own.values()), numpy.percentile(values, [50, 95, 99]), rtol=1e-12
        )


def test_no_values_have_no_percentile():
    assert LatencyCollector().percentiles(50) == {50: None}


def test_a_collector_keeps_what_it_timed():
    collector = LatencyCollector()
    for _ in range(3):
        with collector.time():
            pass
    assert len(collector) == 3 and min(collector.values) >= 0


async def test_a_stream_has_one_gap_less_than_pieces():
    async def pieces():
        for piece in "abc":
            yield piece

    with StreamingTimer() as timer:
        assert [piece async for piece in timer.watch(pieces())] == ["a", "b", "c"]
    assert len(timer.gaps_ms) == 2
    assert timer.ttft_ms + sum(timer.gaps_ms) <= timer.ms


def test_a_stopped_timer_stands_still():
    with Timer() as timer:
        pass
    assert timer.ms == timer.ms
