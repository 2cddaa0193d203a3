"""What statistics do with runs that were really measured: precision, more blocks, the instrument,
failures and gates."""

import json
import platform

import pytest

from lab import calibrate, results, worker
from lab.cli import main
from lab.settings import config_of
from tests.measured import PLANTED_ARMS, QUIET


@pytest.fixture
def measure(simulated, db, monkeypatch):
    """A run of two arms on the simulated server, each queueing for its own ms; answers with the
    run's id."""
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)

    def one(a_ms: float = 60, b_ms: float = 60, *, knobs=None, **settings) -> str:
        models = {
            "simulated-large": {"queue_ms": a_ms},
            "simulated-small": {"queue_ms": b_ms, **(knobs or {})},
        }
        simulated.knobs(**QUIET, models=models)
        given = {"warmup": 0, "knobs": {"bodies": PLANTED_ARMS, "answer_tokens": 16}, **settings}
        return worker.measure(
            config_of(technique="ab", endpoint=simulated.base_url, **given)
        ).run_id

    return one


def blocks(run_id: str) -> int:
    return results.read(run_id).comparisons[0].n


def test_a_run_stops_on_its_precision_and_more_blocks_join_it(measure, simulated):
    run_id = measure(60, 30, target_half_width_ms=15, min_runs=8, max_runs=150)
    found = results.read(run_id)
    one = found.comparisons[0]
    assert 8 <= one.n < 150 and (one.high - one.low) / 2 <= 15 and found.run["status"] == "finished"
    assert main(["ab", "--more", run_id, "--runs", "3", "--endpoint", simulated.base_url]) == 0
    assert blocks(run_id) == one.n + 3 and len(results.read(run_id).run["sessions"]) == 2


def test_a_precision_asked_for_later_counts_the_blocks_that_are_there(measure):
    """Ten blocks are precise to 40 ms already, so the first block more ends it."""
    run_id = measure(60, 30, runs=10)
    worker.measure(config_of(technique="ab", join_run=run_id, runs=20, target_half_width_ms=40))
    assert blocks(run_id) == 11


def test_an_effect_within_the_instruments_error_is_greyed_with_its_reason(
    measure, tmp_path, monkeypatch
):
    """An instrument that is known to err by 500 ms cannot show 30."""
    monkeypatch.setenv("LAB_RUNTIME", str(tmp_path / "runtime"))
    calibrate.path().parent.mkdir(parents=True, exist_ok=True)
    kept = {
        "host": platform.node(),
        "own_error_p95_ms": 500.0,
        "detectable_ms": {"20": 1.0},
        "taken_utc": "2026-11-24T07:00:00+00:00",
    }
    calibrate.path().write_text(json.dumps(kept))
    found = results.read(measure(60, 30, runs=8))
    assert (
        found.run["sessions"][0]["instrument"]["own_error_p95_ms"] == 500
        and "loop_lag_p95_ms" in found.run["sessions"][0]["instrument"]
    )
    assert found.verdicts[
        0
    ].tone == "unsure" and "within the instrument's own error, 500 ms" in " ".join(
        found.verdicts[0].doubts
    )
    details = results.details(found)
    assert details.parts.columns[2:].tolist() == [
        "connection",
        "wait",
        "tokens",
        "gap",
        "total",
        "n",
    ]
    percentiles = results.percentiles(found).set_index("percentile")
    assert (
        percentiles.loc["p50", "low"]
        < percentiles.loc["p50", "estimate"]
        < percentiles.loc["p50", "high"]
    )
    assert percentiles["n"].tolist() == [8, 8] and percentiles["low"].notna().tolist() == [
        True,
        False,
    ]


def test_failures_are_counted_by_kind_and_have_a_tail_of_their_own(measure, capsys):
    """Every second answer of b is cut off, by chance; a trial that failed counts as the deadline,
    30 s."""
    fault = {"fault": {"kind": "cut", "after": 1}, "fault_rate": 0.5}
    run_id = measure(20, 20, knobs=fault, runs=12, seed=3, deadline_s=30)
    found = results.read(run_id)
    details = results.details(found)
    failed = int(details.failures["n"].sum())
    assert (
        failed > 0
        and set(details.failures["arm"]) == {"b"}
        and set(details.failures["error_kind"]) == {"disconnected"}
    )
    tail = details.tails.set_index(["arm", "percentile"]).loc[("b", "p95")]
    assert (
        (tail["failed"], tail["n"]) == (failed, 12 - failed)
        and tail["successes"] < 30_000
        and tail["censored"] == 30_000
    )
    main(["show", run_id, "--details"])
    assert f"b did not end well: {failed} × disconnected" in capsys.readouterr().out


def test_gates_on_planted_speeds(measure, capsys):
    """The same run passes, one that is 30 % slower fails, three trials decide nothing."""
    rule = ["--fail-if", "p50 ttft_ms worse by 10%"]
    base, slower, few = (
        measure(100, 100, runs=20),
        measure(130, 130, runs=20),
        measure(100, 100, runs=3),
    )
    assert main(["compare", base, base, *rule]) == 0
    assert capsys.readouterr().out.count("the same values in both") == 2
    assert main(["compare", base, slower, *rule]) == 3
    assert main(["compare", slower, base, *rule]) == 0
    assert main(["compare", base, few, *rule]) == 4
    assert main(["compare", base, base, "--fail-if", "p95 ttft_ms worse by 10%"]) == 4
    assert "52 more blocks" in capsys.readouterr().out
    assert (
        main(
            [
                "check",
                slower,
                "--require",
                "ab.b p50 ttft_ms < 400",
                "--require",
                "b not slower than a by 50%",
            ]
        )
        == 0
    )
    assert main(["check", slower, "--require", "ab.b p50 ttft_ms < 100"]) == 3
