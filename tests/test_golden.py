"""What the commands tell of recorded runs stays what it was.

tests/golden_runs.py makes the runs and says how a golden file may be changed.
"""

import pytest

from tests import golden_runs

NAMED: dict[tuple[str, str], str] = {}
"""The tellings that may differ from their golden file, as RUN/TELLING.diff shows, and why."""


@pytest.fixture(scope="module")
def recorded():
    with golden_runs.recorded() as folder:
        yield folder, {}


@pytest.mark.parametrize(("run", "telling"), golden_runs.PAIRS)
def test_a_recorded_run_is_told_as_it_was(run, telling, recorded):
    path = golden_runs.golden(run, telling)
    golden, told = path.read_text(encoding="utf-8"), golden_runs.tell(run, telling, *recorded)
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
