"""A technique measured by the real harness on a server of the tests, with its rows read back from
the database."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import pandas as pd

from lab.harness.runner import BenchmarkRunner
from lab.model import Technique
from lab.settings import config_of
from lab.store import queries
from lab.store.store import Store

FAST = {"network_ms": 0, "queue_ms": 0, "gap_ms": 1, "jitter": 0, "tail": 0, "answer_tokens": 4}
"""Knobs of the simulated server for tests: 1,000 tokens a second, and nothing left to chance."""

QUIET = FAST | {
    "prefill_ms_per_token": 0,
    "read_ms_per_token": 0,
    "jitter": 0.05,
    "answer_tokens": 3,
}
"""A wait that is its queue alone, with a little noise, as a planted difference wants it."""
PLANTED_ARMS = json.dumps(
    [{"name": "a", "model": "simulated-large"}, {"name": "b", "model": "simulated-small"}]
)
"""Bodies of a and b, each on a model of its own, whose waits can be set apart."""


def only_measured(bench) -> None:
    """What follows is code of the user's own: it is not rehearsed before the run."""
    _ = bench.client


@dataclass
class Measured:
    store: Store
    run_id: str
    trials: pd.DataFrame
    calls: pd.DataFrame

    def spans(self, trial_id: str) -> pd.DataFrame:
        return queries.spans(self.store, trial_id)

    def arm(self, name: str) -> pd.DataFrame:
        return self.trials[self.trials["arm"] == name]


async def measure(control, technique: str, own: Technique | None = None, **settings) -> Measured:
    """One run on the server that `control` handles; only the measured trials and their calls come
    back. `own` is a technique that no list has."""
    os.environ["LAB_LOCAL_KEY"] = control.api_key
    try:
        store = Store()
        runner = BenchmarkRunner(
            config_of(technique=technique, endpoint=control.base_url, warmup=0, **settings),
            store,
            technique=own,
        )
        await runner.run()
    finally:
        del os.environ["LAB_LOCAL_KEY"]
    run_id = queries.last_run_id(store)
    trials, calls = queries.trials(store, run_id), queries.calls(store, run_id)
    return Measured(
        store, run_id, trials[trials["phase"] == "measured"], calls[calls["phase"] == "measured"]
    )
