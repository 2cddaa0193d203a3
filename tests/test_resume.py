"""How a run goes on: which blocks are missing, and what a further session takes over."""

from __future__ import annotations

import duckdb
import pytest

from lab import resume
from lab.model import LabError
from lab.settings import config_of
from lab.store.store import Store
from tests.recorded_runs import record


def interrupted(db, change: str) -> str:
    """Eight blocks were planned; `change` says what became of them."""
    run_id = record(Store(), blocks=8)
    with duckdb.connect(str(db)) as connection:
        connection.execute(f"UPDATE runs SET status = 'interrupted'; {change}")
    return run_id


def test_a_block_that_two_sessions_measured_is_one_block(db):
    """Counted twice it stood for the one that is missing: `resume` said that nothing was."""
    again = "uuid() AS trial_id, 'eeeeeeee-eeee-7eee-8eee-eeeeeeeeeeee'::UUID AS session_id"
    run_id = interrupted(
        db,
        "DELETE FROM trials WHERE block = 8;"
        f"INSERT INTO trials SELECT * REPLACE ({again}, 2 AS attempt) FROM trials WHERE block = 1",
    )
    stored = resume.progress(Store(), run_id)
    assert (stored.complete, stored.missing) == (set(range(1, 8)), {8})
    assert resume.rest(Store(), "last").join_run == run_id
    config, joined = resume.join(Store(), config_of(technique="caching", join_run=run_id))
    assert (config.blocks, joined.begun[1], joined.begun[7]) == (8, 2, 1)


def test_a_block_that_was_cancelled_is_missing(db):
    run_id = interrupted(
        db, "UPDATE trials SET outcome = 'cancelled' WHERE block > 6 AND arm = 'cached'"
    )
    assert resume.progress(Store(), run_id).missing == {7, 8}


def test_a_complete_run_has_no_rest_and_takes_more(db):
    run_id = record(Store(), blocks=8)
    with pytest.raises(
        LabError, match=f"has all its 8 blocks. For more: .* caching --more {run_id}"
    ):
        resume.rest(Store(), run_id)
    row = {"run_id": run_id, "endpoint": "local", "seed": 7, "settings": {"config": {}}}
    row["settings"]["config"] = {"technique": "caching", "runs": 8}
    config, joined = resume.join(Store(), resume.more(row, 3))
    assert (config.blocks, len(joined.complete), config.arms) == (11, 8, ["uncached", "cached"])


def test_a_run_goes_on_with_its_own_technique_alone(db):
    """From Python, `run("streaming", join_run=…)` measured more of what the run was of."""
    run_id = record(Store(), blocks=8)
    with pytest.raises(
        LabError, match=r"measures caching, not streaming\. For more: .* caching --"
    ):
        resume.join(Store(), config_of(technique="streaming", join_run=run_id))


def test_the_run_to_join_goes_by_any_of_its_names(db):
    first, last = record(Store(), blocks=1), record(Store(), blocks=1)
    with duckdb.connect(str(db)) as connection:
        connection.execute(
            "UPDATE runs SET name = 'before', started_utc = '2026-11-23' WHERE run_id = ?", [first]
        )
    names = {"before": first, "last~1": first, "last": last, last: last}
    for name, run_id in names.items():
        assert resume.resolved(config_of(technique="caching", join_run=name)).join_run == run_id
    assert resume.resolved(config_of(technique="caching")).join_run is None
    with pytest.raises(LabError, match="There is no run elsewhere"):
        resume.resolved(config_of(technique="caching", join_run="elsewhere"))
