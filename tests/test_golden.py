"""What the commands tell of recorded runs stays what it was.

tests/golden_runs.py makes the runs and says how a golden file may be changed.
"""

import pytest

from tests import golden_runs

TWICE = "a block begun twice counts once, and n is the same wherever it is told"
MIXED = "a figure of several techniques names each arm with its technique"
DOT = "a subtitle no longer ends in a dangling ·"
NAMED = {
    ("caching_eight", "chart"): DOT,
    ("caching_eight", "report"): DOT,
    ("streaming_simulated", "report"): DOT,
    ("streaming_live", "report"): DOT,
    ("streaming_resumed", "show"): TWICE,
    ("streaming_resumed", "json"): TWICE,
    ("streaming_resumed", "markdown"): TWICE,
    ("streaming_resumed", "report"): TWICE,
    ("caching_troubled", "chart"): DOT,
    ("caching_troubled", "report"): DOT,
    ("side_by_side", "chart"): MIXED,
    ("side_by_side", "report"): MIXED,
    ("parallel_tools", "report"): DOT,
    ("model_routing", "chart"): DOT,
    ("model_routing", "report"): DOT,
    ("agent_topology", "report"): DOT,
    ("same_thing_twice", "report"): DOT,
    ("caching_forty", "report"): DOT,
    ("own_requests", "report"): DOT,
    ("all", "runs"): TWICE,
    ("all", "json"): TWICE,
}
"""The tellings that may differ from their golden file, as RUN/TELLING.diff shows, and why."""
ADDED = frozenset({"trial_metrics.counts", "trial_metrics.superseded"})
"""Columns of an export, as table.column, that were added since."""


@pytest.fixture(scope="module")
def recorded():
    with golden_runs.recorded() as folder:
        yield folder, {}


@pytest.mark.parametrize(("run", "telling"), golden_runs.PAIRS)
def test_a_recorded_run_is_told_as_it_was(run, telling, recorded):
    path = golden_runs.golden(run, telling)
    golden, told = path.read_text(encoding="utf-8"), golden_runs.tell(run, telling, *recorded)
    told = "".join(line for line in told.splitlines(True) if line.partition(":")[0] not in ADDED)
    if (run, telling) in NAMED:
        assert golden != told, f"{NAMED[run, telling]}: not so any more; take the entry out"
        golden = path.with_suffix(".diff").read_text(encoding="utf-8")
        told = golden_runs.difference(path.read_text(encoding="utf-8"), told)
    assert golden == told, f"{run} is told otherwise:\n{golden_runs.difference(golden, told)}"


def test_every_golden_file_is_of_a_run_and_a_telling():
    def pairs(kind: str) -> set[tuple[str, str]]:
        return {(path.parent.name, path.stem) for path in golden_runs.GOLDEN.glob(f"*/*.{kind}")}

    assert pairs("txt") == set(golden_runs.PAIRS)
    assert pairs("diff") == set(NAMED)
