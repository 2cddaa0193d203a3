"""Gates judge by intervals: a limit inside one decides nothing."""

import json
from dataclasses import replace
from functools import cache

import duckdb
import pytest

from lab import requirements, results
from lab.cli import main
from lab.model import LabError
from lab.store.store import Store
from tests.recorded_runs import record


@pytest.fixture(scope="module")
def of_80(tmp_path_factory):
    """80 blocks: uncached starts at 900 + block ms, cached at 300 + block ms."""
    store = Store(tmp_path_factory.mktemp("check") / "lab.duckdb")
    return results.read(record(store, blocks=80), store)


@pytest.fixture
def run(of_80, monkeypatch):
    """The same, its database in use."""
    monkeypatch.setenv("LAB_DB", str(of_80.database))
    return of_80


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("cached p95 ttft_ms < 400", "pass"),
        ("caching.cached p95 ttft_ms < 0.4s", "pass"),
        ("cached p95 ttft_ms < 350", "fail"),
        ("cached p95 ttft_ms < 376", "not_enough_data"),
        ("cached p99 ttft_ms < 1000", "not_enough_data"),
        ("uncached median ttft_ms > 900", "pass"),
        ("p50 ttft_ms < 400", "pass"),
        ("cached faster than uncached", "pass"),
        ("cached faster than uncached by 50%", "pass"),
        ("cached faster than uncached by 80%", "fail"),
        ("cached faster than uncached by 500 ms", "pass"),
        ("cached faster than uncached by 601 ms on total_ms", "fail"),
        ("uncached not slower than cached by 10%", "fail"),
        ("cached not slower than uncached", "pass"),
    ],
)
def test_a_requirement(run, text, verdict):
    assert requirements.judge(run, text).verdict == verdict


@pytest.mark.parametrize(
    "text",
    [
        "nothing p95 ttft_ms < 400",
        "cached p95 speed < 3",
        "cached is nice",
        "cached faster than uncached on quality",
    ],
)
def test_an_unreadable_requirement_is_a_mistake(run, text, capsys):
    assert main(["check", "--require", text]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "text", ["cached p0 ttft_ms < 400", "cached p50 outcome < 400", "cached p50 started_utc < 400"]
)
def test_what_no_trial_can_bound_is_a_sentence(run, text, capsys):
    assert main(["check", "--require", text]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_place_that_cannot_be_written_is_a_sentence(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for words in (
        ["report", "--out", str(tmp_path)],
        ["show", "--output", "json", "--out", str(tmp_path / "file" / "folder")],
    ):
        assert main(words) in (1, 2), words
        assert capsys.readouterr().err.strip().count("\n") == 0


def test_exit_codes_of_check(run, capsys):
    assert main(["check", "--require", "cached p95 ttft_ms < 400"]) == 0
    assert (
        main(
            [
                "check",
                "--require",
                "cached p95 ttft_ms < 400",
                "--require",
                "cached p95 ttft_ms < 10",
            ]
        )
        == 3
    )
    assert main(["check", "--require", "cached p99 ttft_ms < 400", "--json"]) == 4
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["verdict"] == "not_enough_data"
    assert found["requirements"][0]["needed"] == 368 - 80


def test_a_regression_fails_and_the_same_data_passes(db, monkeypatch):
    import tests.recorded_runs as recorded

    store = Store()
    base, same, few = (record(store, blocks=blocks) for blocks in (40, 40, 3))
    monkeypatch.setattr(
        recorded, "FIRST", {arm: first * 1.3 for arm, first in recorded.FIRST.items()}
    )
    slow = recorded.record(store, blocks=40)
    rule = ["--fail-if", "p50 ttft_ms worse by 10%"]
    assert main(["compare", base, same, *rule]) == 0
    assert main(["compare", base, slow, *rule]) == 3
    assert main(["compare", base, few, *rule]) == 4
    assert main(["compare", base, slow, "--fail-if", "cached p50 ttft_ms worse by 200 ms"]) == 0


def test_times_of_different_kinds_are_never_compared(tmp_path, capsys):
    record(Store(tmp_path / "a.duckdb"), blocks=6)
    record(Store(tmp_path / "b.duckdb"), blocks=6, kind="simulated")
    words = [
        "compare",
        str(tmp_path / "a.duckdb"),
        str(tmp_path / "b.duckdb"),
        "--fail-if",
        "p50 ttft_ms worse by 10%",
    ]
    assert main(words) == 2
    assert "not comparable" in capsys.readouterr().err


def test_last_and_the_one_before_it_are_two_runs_whatever_failed_since(db):
    store = Store(db)
    older, newer = record(store, blocks=2), record(store, blocks=2)
    record(store, blocks=0)
    assert [results.read(words, store).run["run_id"] for words in ("last~1", "last~0", "last")] == [
        older,
        newer,
        newer,
    ]
    with pytest.raises(LabError, match="there are 2 measured runs"):
        results.read("last~2", store)


# Failed is not fast


@pytest.fixture(scope="module")
def lossy(tmp_path_factory):
    """20 blocks: cached starts at 300 + block ms against 900 + block, and fails in the last of
    them, as many as one asks for."""
    store = Store(tmp_path_factory.mktemp("lossy") / "lab.duckdb")

    @cache
    def read(losses: int) -> results.RunResult:
        lost = dict.fromkeys(range(21 - losses, 21), "failed")
        return results.read(record(store, blocks=20, lost=lost), store)

    return read


@pytest.mark.parametrize(
    ("losses", "text", "verdict"),
    [
        (0, "cached median ttft_ms < 400", "pass"),
        (4, "cached median ttft_ms < 400", "pass"),
        (8, "cached median ttft_ms < 400", "not_enough_data"),
        (16, "cached median ttft_ms < 400", "fail"),
        (16, "cached median ttft_ms > 400", "pass"),
        (16, "cached median cost_usd < 1", "not_enough_data"),
        (0, "cached faster than uncached by 50%", "pass"),
        (2, "cached faster than uncached by 50%", "pass"),
        (5, "cached faster than uncached by 50%", "not_enough_data"),
        (16, "cached faster than uncached by 50%", "fail"),
        (16, "cached not slower than uncached", "fail"),
        (5, "uncached faster than cached", "not_enough_data"),
        (2, "uncached not slower than cached by 10%", "fail"),
    ],
)
def test_a_lost_trial_is_the_worst_there_is(lossy, losses, text, verdict):
    """Of 20 values those from the 6th to the 15th bound the median: with four or five lost the 15th
    is known, with eight it is not, and with sixteen the 6th is not either."""
    assert requirements.judge(lossy(losses), text).verdict == verdict


def test_a_requirement_says_how_many_failed(lossy):
    result = lossy(8)
    bound = requirements.judge(result, "cached median ttft_ms < 400")
    assert (bound.n, bound.lost, bound.high) == (20, 8, None)
    assert bound.seen.endswith(", never], n = 20, 8 of 20 failed")
    claim = requirements.judge(result, "cached faster than uncached")
    assert (claim.n, claim.lost) == (12, 8)
    assert claim.seen.endswith("n = 12; cached: 8 of 20 failed")


def test_an_arm_of_which_nothing_is_left_meets_no_limit(lossy):
    result = lossy(20)
    never = requirements.judge(result, "cached median ttft_ms < 400")
    assert (never.verdict, never.estimate) == ("fail", None) and "never" in never.seen
    assert requirements.judge(result, "cached faster than uncached").verdict == "fail"


def test_where_every_block_lost_both_arms_no_more_blocks_are_asked_for(db):
    run_id = record(Store(), blocks=3)
    with duckdb.connect(str(db)) as connection:
        connection.execute("UPDATE trials SET outcome = 'failed', error_kind = 'timeout'")
    outcome = requirements.judge(results.read(run_id), "cached faster than uncached")
    assert (outcome.verdict, outcome.n, outcome.needed) == ("not_enough_data", 0, None)


def test_a_run_that_fails_more_is_worse_though_what_answered_is_not(lossy, monkeypatch, capsys):
    base, half, most = (lossy(losses).run_id for losses in (0, 10, 16))
    monkeypatch.setenv("LAB_DB", str(lossy(0).database))
    rule = ["--fail-if", "cached p50 ttft_ms worse by 10%"]
    assert main(["compare", base, base, *rule]) == 0
    assert main(["compare", half, half, *rule]) == 0
    assert main(["compare", base, most, *rule]) == 3
    assert "n = 20 and 4, 16 of 20 failed" in capsys.readouterr().out
    assert main(["compare", most, base, *rule]) != 3


def test_check_tells_a_machine_what_was_lost(lossy, monkeypatch, capsys):
    """Five worst ranks of twenty, 90 of 210, lean to faster and show it in more blocks."""
    monkeypatch.setenv("LAB_DB", str(lossy(5).database))
    assert (
        main(
            ["check", lossy(5).run_id, "--require", "cached faster than uncached by 50%", "--json"]
        )
        == 4
    )
    told = json.loads(capsys.readouterr().out)
    assert told["requirements"][0]["lost"] == 5 and told["requirements"][0]["needed"] > 0


def test_no_number_of_blocks_is_told_where_the_failures_leave_it_open(lossy):
    """Sooner where both answered, and more often without an answer: the times alone are decided."""
    half = lossy(10)
    for text in ("uncached faster than cached", "cached not slower than uncached"):
        outcome = requirements.judge(half, text)
        assert (outcome.verdict, outcome.needed) == ("not_enough_data", None), text
    outcome = requirements.regressions(lossy(0), half, "cached p50 ttft_ms worse by 10%")[0]
    assert (outcome.verdict, outcome.needed) == ("not_enough_data", None)


def test_a_lost_trial_has_no_speed(lossy):
    """Ten of twenty lost: the median and its lower end lie among them."""
    outcome = requirements.judge(lossy(10), "cached p50 tokens_per_s > 1")
    assert (outcome.verdict, outcome.low, outcome.needed) == ("not_enough_data", 0.0, None)
    assert outcome.seen.startswith("cached tokens_per_s 0 [0, ")


def test_a_share_of_nothing_is_no_number(db):
    """Quality 0 before: there is no share of it, and more blocks bring none."""
    with_quality = results.read(record(Store(db), blocks=8))
    base = replace(with_quality)
    base.__dict__["trials"] = with_quality.trials.assign(quality=0.0)
    outcome = requirements.regressions(base, with_quality, "cached p50 quality worse by 5%")[0]
    assert (outcome.verdict, outcome.estimate, outcome.needed) == ("not_enough_data", None, None)
    assert outcome.seen.startswith("cached p50 quality — (there is no share of 0), n = 8")
