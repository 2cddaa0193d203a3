"""The views, with numbers one can check in the head. All instants below are milliseconds from the
session's origin."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from lab import clock, metrics, results, stats
from lab.cli import main
from lab.critical_path import critical_path, waited_for
from lab.harness.reporter import JSONReporter
from lab.model import new_id
from lab.rows import CallRow, FinishedTrial, RunRow, SessionRow, SpanRow, TrialRow
from lab.store import queries
from lab.store.store import Store
from tests.recorded_runs import record, recorded

RUN, SESSION = new_id(), new_id()


def ns(ms: float | None) -> int | None:
    return None if ms is None else int(ms * 1_000_000)


def a_call(started: float = 0, role: str = "answer", **changes) -> CallRow:
    row = CallRow(
        new_id(),
        "",
        RUN,
        SESSION,
        new_id(),
        role,
        1,
        "simulated",
        "simulated-small",
        started_ns=ns(started),
    )
    for name, value in changes.items():
        if name in ("tokens", "read", "written", "out", "lag"):
            column = {
                "tokens": "input_tokens",
                "read": "cache_read_tokens",
                "written": "cache_write_5m_tokens",
                "out": "output_tokens",
            }
            setattr(row, column.get(name, "loop_lag_ns"), ns(value) if name == "lag" else value)
        elif name in ("error", "attempt", "cost", "reused"):
            setattr(
                row,
                {"error": "error_kind", "cost": "cost_usd", "reused": "connection_reused"}.get(
                    name, name
                ),
                value,
            )
        else:
            setattr(row, f"{name}_ns", ns(value))
    return row


def a_trial(
    arm: str = "streamed",
    *calls: CallRow,
    started: float = 0,
    ended: float = 150,
    block: int = 0,
    **changes,
) -> FinishedTrial:
    trial = TrialRow(
        new_id(),
        RUN,
        SESSION,
        "streaming",
        arm,
        block,
        0,
        1,
        "measured",
        "t",
        clock.utc_now(),
        ns(started),
        ns(ended),
    )
    for name, value in changes.items():
        setattr(trial, name, value)
    for call in calls:
        call.trial_id, call.session_id = trial.trial_id, trial.session_id
    return FinishedTrial(trial, list(calls))


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A database with a run and its session, and no trial yet."""
    store = Store(tmp_path_factory.mktemp("metrics") / "lab.duckdb")
    settings = {
        "baseline": {"technique": "streaming", "arm": "whole"},
        "headline": {"metric": "wait_ms", "technique": "streaming", "arm": "streamed"},
    }
    store.write_run(
        RunRow(
            RUN,
            "streaming",
            "simulated",
            "simulated",
            {},
            settings,
            7,
            "running",
            True,
            clock.utc_now(),
        )
    )
    store.write_session(SessionRow(SESSION, RUN, "w", "h", clock.utc_now(), "0.1.0", None, {}, {}))
    return store.path


@pytest.fixture
def store(begun, db) -> Store:
    shutil.copy(begun, db)
    return Store(db)


def one(store: Store, view: str = "trial_metrics") -> pd.Series:
    return store.frame(f"SELECT * FROM {view}").iloc[0]


def test_the_wait_of_a_stream_ends_with_its_first_text(store):
    store.write_trials(
        [a_trial("streamed", a_call(10, headers=40, first_text=90, last_token=140, ended=145))]
    )
    trial = one(store)
    assert (
        trial.headers_ms,
        trial.wait_ms,
        trial.ttft_ms,
        trial.last_token_ms,
        trial.total_ms,
    ) == (40, 90, 90, 140, 150)
    call = one(store, "call_metrics")
    assert (call.started_ms, call.headers_at_ms, call.ttft_ms, call.total_ms) == (10, 30, 80, 135)


def test_the_wait_of_a_whole_answer_ends_when_it_is_whole(store):
    store.write_trials([a_trial("whole", a_call(0, headers=140, ended=145))])
    assert one(store).wait_ms == 145
    assert pd.isna(one(store).ttft_ms)


def test_thinking_counts_as_a_token_but_not_as_visible_text(store):
    store.write_trials(
        [
            a_trial(
                "streamed", a_call(0, first_thinking=20, first_text=90, last_token=140, ended=145)
            )
        ]
    )
    assert (one(store).ttft_ms, one(store).wait_ms) == (20, 90)


def test_message_start_is_not_a_token(store):
    store.write_trials([a_trial("streamed", a_call(0, message_start=30, first_text=90, ended=145))])
    assert (one(store).message_start_ms, one(store).ttft_ms) == (30, 90)


def test_a_retry_is_a_call_and_the_clock_keeps_running(store):
    failed = a_call(0, first_text=20, ended=30, error="overloaded_error")
    store.write_trials(
        [a_trial("streamed", failed, a_call(50, first_text=90, ended=145, attempt=2))]
    )
    trial = one(store)
    assert (trial.wait_ms, trial.calls, trial.retries, trial.failed_calls) == (90, 2, 1, 1)


def test_only_answers_end_the_wait(store):
    calls = (
        a_call(0, "classify", first_text=20, ended=30),
        a_call(40, first_text=90, ended=140),
        a_call(95, first_text=110, ended=140),
    )
    store.write_trials([a_trial("streamed", *calls)])
    assert (one(store).wait_ms, one(store).calls) == (90, 3)


def test_a_prime_is_outside_the_clock_and_inside_the_cost(store):
    prime = a_call(-500, "prime", first_text=-100, ended=-10, tokens=100, out=1, cost=0.25)
    store.write_trials(
        [
            a_trial(
                "streamed", prime, a_call(0, first_text=90, ended=145, tokens=10, out=11, cost=0.5)
            )
        ]
    )
    trial = one(store)
    assert (
        trial.wait_ms,
        trial.calls,
        trial.prompt_tokens,
        trial.output_tokens,
        trial.cost_usd,
    ) == (90, 1, 10, 11, 0.75)
    assert store.frame("SELECT started_ms FROM call_metrics WHERE role = 'prime'")[
        "started_ms"
    ].tolist() == [-500]


def test_a_sum_with_an_unknown_price_is_unknown(store):
    store.write_trials(
        [
            a_trial(
                "streamed", a_call(0, ended=10, tokens=9, cost=0.5), a_call(20, ended=30, tokens=9)
            )
        ]
    )
    assert pd.isna(one(store).cost_usd)


def test_a_refused_call_without_usage_cost_nothing(store):
    refused = a_call(0, ended=10, error="rate_limit_error")
    store.write_trials(
        [a_trial("streamed", refused, a_call(20, ended=30, tokens=9, cost=0.5, attempt=2))]
    )
    assert one(store).cost_usd == 0.5


def test_the_gap_is_per_token_and_the_speed_of_the_whole_call(store):
    store.write_trials(
        [
            a_trial(
                "streamed",
                a_call(0, first_text=100, last_token=200, ended=500, tokens=5, out=11),
                ended=1000,
            )
        ]
    )
    call = one(store, "call_metrics")
    assert (call.gap_ms, call.tokens_per_s) == (10, 22)
    assert (one(store).gap_ms, one(store).tokens_per_s) == (10, 11)


def test_hidden_thinking_does_not_flatter_the_gap(store):
    row = a_call(0, first_text=100, last_token=200, ended=500, tokens=5, out=111)
    row.thinking_tokens = 100
    store.write_trials([a_trial("streamed", row)])
    assert one(store).gap_ms == 10


def test_one_output_token_has_no_gap(store):
    store.write_trials(
        [a_trial("streamed", a_call(0, first_text=100, last_token=100, ended=101, tokens=5, out=1))]
    )
    assert pd.isna(one(store).gap_ms)


@pytest.mark.parametrize(
    ("read", "written", "share", "seen"),
    [
        (0, 0, 0.0, "none"),
        (0, 300, 0.0, "write"),
        (300, 0, 0.75, "read"),
        (300, 100, 0.6, "partial"),
        (None, None, 0.0, "none"),
    ],
)
def test_the_cached_share_is_of_the_whole_prompt(store, read, written, share, seen):
    store.write_trials(
        [a_trial("streamed", a_call(0, ended=10, tokens=100, read=read, written=written))]
    )
    assert (one(store).cached_share, one(store).observed_cache) == (share, seen)
    assert (one(store, "call_metrics").cached_share, one(store, "call_metrics").observed_cache) == (
        share,
        seen,
    )


def test_the_cached_share_never_passes_one(store):
    store.write_trials(
        [
            a_trial(
                "streamed",
                a_call(0, ended=10, tokens=0, read=5000, written=0),
                a_call(20, ended=30, tokens=None),
            )
        ]
    )
    assert one(store).cached_share == 1


def test_connection_phases_are_durations(store):
    store.write_trials(
        [a_trial("streamed", a_call(0, dns=1, connected=4, tls=9, sent=11, ended=50), ended=60)]
    )
    call = one(store, "call_metrics")
    assert (call.dns_ms, call.connect_ms, call.tls_ms, call.send_ms, call.sent_at_ms) == (
        1,
        3,
        5,
        2,
        11,
    )


def test_pairs_are_of_one_block_and_mismatches_are_left_out(store):
    store.write_trials(
        [
            a_trial("whole", a_call(0, ended=100), block=0),
            a_trial("streamed", a_call(0, first_text=60, ended=100), block=0),
            a_trial("whole", a_call(0, ended=100), block=1),
            a_trial("streamed", a_call(0, first_text=20, ended=100), block=1, outcome="mismatch"),
            a_trial("whole", a_call(0, ended=100), block=2, phase="warmup"),
            a_trial("streamed", a_call(0, first_text=20, ended=100), block=2, phase="warmup"),
        ]
    )
    pairs = queries.pairs(store, RUN, "wait_ms")
    assert pairs[
        ["block", "arm", "baseline", "value", "baseline_value", "difference", "ratio"]
    ].values.tolist() == [[0, "streamed", "whole", 60, 100, -40, 0.6]]
    counts = queries.arm_counts(store, RUN).set_index("arm")
    assert counts.loc["streamed", ["n", "failed", "mismatched"]].tolist() == [1, 0, 1]
    assert counts.loc["whole", "n"] == 2


def test_sessions_are_never_crossed(store):
    other = new_id()
    store.write_session(SessionRow(other, RUN, "w", "h", clock.utc_now(), "0.1.0", None, {}, {}))
    store.write_trials(
        [
            a_trial("whole", a_call(0, ended=100)),
            a_trial("streamed", a_call(0, first_text=60, ended=100), session_id=other),
        ]
    )
    assert queries.pairs(store, RUN).empty


def test_an_arm_of_a_block_that_another_session_repeated_counts_once(store):
    """The first session ended within the block: its baseline alone was measured, and is measured
    again."""
    other = new_id()
    store.write_session(SessionRow(other, RUN, "w", "h", clock.utc_now(), "0.1.0", None, {}, {}))
    store.write_trials([a_trial("whole", a_call(0, ended=100))])
    again = {"session_id": other, "attempt": 2}
    store.write_trials(
        [
            a_trial("whole", a_call(0, ended=90), **again),
            a_trial("streamed", a_call(0, first_text=60, ended=90), **again),
        ]
    )
    counted = store.frame(
        "SELECT arm, n, p50 FROM arm_summary WHERE metric = 'wait_ms' ORDER BY arm"
    ).values.tolist()
    assert counted == [["streamed", 1, 60], ["whole", 1, 90]]


def test_a_repeated_trial_is_paired_once_by_its_last_attempt(store):
    store.write_trials(
        [
            a_trial("whole", a_call(0, ended=100)),
            a_trial("streamed", a_call(0, first_text=60, ended=100)),
            a_trial("streamed", a_call(0, first_text=70, ended=100), attempt=2),
        ]
    )
    assert queries.pairs(store, RUN, "wait_ms")["value"].tolist() == [70]


def test_a_summary_interpolates_between_trials(store):
    store.write_trials(
        [
            a_trial("whole", a_call(0, ended=wait), block=block)
            for block, wait in enumerate((10, 20, 30, 40, 100))
        ]
    )
    summary = queries.arm_summary(store, RUN).set_index("metric").loc["wait_ms"]
    assert (summary.n, summary.p50, summary["mean"], summary.low, summary.high) == (
        5,
        30,
        40,
        10,
        100,
    )
    assert summary.p95 == pytest.approx(88)  # 0.95 × 4 = 3.8: four fifths of the way from 40 to 100


def test_the_typical_trial_and_pair_are_the_nearest_to_the_median(store):
    trials = []
    for block, wait in enumerate((10, 50, 90)):
        trials += [
            a_trial("whole", a_call(0, ended=100), block=block),
            a_trial("streamed", a_call(0, first_text=wait, ended=100), block=block),
        ]
    store.write_trials(trials)
    typical = queries.median_trials(store, RUN, "wait_ms").set_index("arm")
    assert typical.loc["streamed", ["block", "wait_ms"]].tolist() == [1, 50]
    assert queries.median_pair(store, RUN)[["block", "difference"]].values.tolist() == [[1, -50]]


def test_the_pair_is_of_a_block_in_which_most_arms_ended_well(store):
    """−50 ms is the median, in a block that lacks an arm; of the others −90 is nearer than −5."""
    trials = []
    for block, wait in enumerate((10, 50, 95)):
        trials += [
            a_trial("whole", a_call(0, ended=100), block=block),
            a_trial("streamed", a_call(0, first_text=wait, ended=100), block=block),
        ]
        outcome = "failed" if block == 1 else "ok"
        trials.append(a_trial("third", a_call(0, ended=100), block=block, outcome=outcome))
    store.write_trials(trials)
    assert queries.median_pair(store, RUN)[["block", "difference"]].values.tolist() == [[0, -90]]


def test_the_pair_is_the_planned_techniques_where_another_has_an_arm_of_that_name(store):
    trials = []
    for block, wait in enumerate((10, 50, 90)):
        trials += [
            a_trial("whole", a_call(0, ended=100), block=block),
            a_trial("streamed", a_call(0, first_text=wait, ended=100), block=block),
            a_trial("streamed", a_call(0, ended=60), block=block, technique="ab"),
        ]
    store.write_trials(trials)
    assert queries.median_pair(store, RUN)[["block", "difference"]].values.tolist() == [[1, -50]]


def test_lost_is_what_failed_or_was_to_read_a_cache_and_did_not(store):
    """What was to be cold and was read is left out, and no worst outcome; nor is a cancelled one,
    nor one of the warm-up."""

    def tried(block: int, outcome: str, intended: str = "none", read: int = 0, **more):
        call = replace(a_call(0, ended=100, tokens=500, read=read), intended_cache=intended)
        return a_trial("streamed", call, block=block, outcome=outcome, **more)

    store.write_trials(
        [
            tried(0, "ok"),
            tried(1, "failed"),
            tried(2, "mismatch", "read"),
            tried(3, "mismatch", "none", read=500),
            tried(4, "mismatch", "write"),
            tried(5, "cancelled"),
            tried(6, "failed", phase="warmup"),
            tried(7, "failed"),
            tried(7, "ok", attempt=2),
        ]
    )
    trials = queries.trials(store, RUN)
    assert sorted(trials.loc[trials["lost"], "block"]) == [1, 2]


def test_a_late_loop_and_an_unexpected_reconnect_are_the_clients_own(store):
    fine = [
        a_trial(
            "whole",
            a_call(ended=100, reused=True, lag=1),
            block=block,
            started=block * 200,
            ended=block * 200 + 150,
        )
        for block in (0, 1)
    ]
    late = a_trial(
        "whole", a_call(400, ended=500, reused=True, lag=6), block=2, started=400, ended=550
    )
    reconnected = a_trial(
        "whole", a_call(600, ended=700, reused=False, lag=1), block=3, started=600, ended=750
    )
    store.write_trials([*fine, late, reconnected])
    assert queries.trials(store, RUN).sort_values("block")["client_caused"].tolist() == [
        False,
        False,
        True,
        True,
    ]


def test_drift_is_the_baseline_in_order_of_time(store):
    store.write_trials(
        [
            a_trial(arm, a_call(0, ended=100 + block), block=block)
            for block in range(3)
            for arm in ("whole", "streamed")
        ]
    )
    assert queries.drift(store, RUN, "wait_ms")[["block", "value"]].values.tolist() == [
        [0, 100],
        [1, 101],
        [2, 102],
    ]


def test_history_has_one_row_for_each_arm_of_a_run(store):
    store.write_trials(
        [
            a_trial(arm, a_call(0, ended=100), block=block)
            for block in range(3)
            for arm in ("whole", "streamed")
        ]
    )
    assert queries.history(store, "wait_ms")[
        ["arm", "n", "p50", "is_baseline"]
    ].values.tolist() == [
        ["streamed", 3, 100, False],
        ["whole", 3, 100, True],
    ]


def spans_of(*rows: tuple[str, str | None, str, float, float]) -> pd.DataFrame:
    columns = ["span_id", "parent_id", "kind", "name", "started_ns", "ended_ns"]
    return pd.DataFrame([(i, p, k, i, ns(s), ns(e)) for i, p, k, s, e in rows], columns=columns)


def test_the_critical_path_goes_back_through_the_child_that_finished_last():
    spans = spans_of(
        ("root", None, "trial", 1000, 1100),
        ("plan", "root", "call", 1000, 1030),
        ("quick", "root", "tool", 1030, 1050),
        ("slow", "root", "tool", 1030, 1070),
        ("answer", "root", "call", 1075, 1095),
    )
    path = critical_path(spans)
    assert path[["name", "kind", "started_ms", "ended_ms"]].values.tolist() == [
        ["plan", "model", 0, 30],
        ["slow", "tool", 30, 70],
        ["root", "own", 70, 75],
        ["answer", "model", 75, 95],
        ["root", "own", 95, 100],
    ]
    assert waited_for(spans) == {"model": 50, "tool": 40, "join": 0, "own": 10}


def test_the_critical_path_enters_nested_spans_and_adds_up():
    spans = spans_of(
        ("root", None, "trial", 0, 100),
        ("worker", "root", "trial", 10, 80),
        ("inner", "worker", "call", 20, 60),
        ("beside", "root", "call", 5, 40),
        ("join", "root", "join", 80, 90),
    )
    assert sum(waited_for(spans).values()) == 100
    assert waited_for(spans) == {"model": 45, "tool": 0, "join": 10, "own": 45}


def test_no_spans_no_path():
    assert critical_path(spans_of()).empty


def test_spans_are_read_with_milliseconds_from_the_start(store):
    finished = a_trial("whole", a_call(1000, ended=1100), started=1000, ended=1150)
    finished.spans.append(
        SpanRow(
            new_id(),
            finished.trial.trial_id,
            RUN,
            SESSION,
            None,
            "trial",
            "whole",
            ns(1000),
            ns(1150),
        )
    )
    store.write_trials([finished])
    assert waited_for(queries.spans(store, finished.trial.trial_id)) == {
        "model": 0,
        "tool": 0,
        "join": 0,
        "own": 150,
    }


def some_of_everything() -> list[FinishedTrial]:
    """Trials of every shape that the clocks tell apart."""
    failed = a_call(0, first_text=20, ended=30, error="overloaded_error")
    shapes = {
        "streamed": (a_call(10, first_token=80, first_text=90, ended=145),),
        "whole": (a_call(0, headers=140, ended=145),),
        "thinking": (a_call(0, first_thinking=20, first_text=90, ended=145),),
        "tool": (a_call(0, first_tool=30, last_token=60, ended=70),),
        "at once": (a_call(0, first_token=0, first_text=0, ended=10),),
        "retried": (failed, a_call(50, first_text=90, ended=145, attempt=2)),
        "several": (
            a_call(0, "classify", first_text=20, ended=30),
            a_call(95, first_text=110, ended=140),
            a_call(40, first_text=120, ended=130),
        ),
        "primed": (
            a_call(-500, "prime", first_text=-100, ended=-10),
            a_call(0, first_text=90, ended=145),
            a_call(160, "check", first_text=170, ended=180),
        ),
        "unanswered": (a_call(0, "worker", first_text=20, ended=30),),
        "cut off": (a_call(0, first_text=20),),
        "nothing": (),
    }
    return [
        a_trial(arm, *calls, block=block, outcome=outcome, ended=ended)
        for arm, calls in shapes.items()
        for block, (outcome, ended) in enumerate([("ok", 150), ("mismatch", 150), ("ok", None)])
        for calls in [[replace(call, call_id=new_id()) for call in calls]]
    ]


def test_the_clocks_that_a_run_goes_by_are_those_of_the_view(store):
    """A precision run stops by them, before anything is stored."""
    trials = some_of_everything()
    store.write_trials(trials)
    stored = queries.trials(store, RUN).set_index("trial_id")[list(metrics.CLOCKS)].astype(float)
    live = {trial.trial.trial_id: metrics.clocks(trial) for trial in trials}
    live = pd.DataFrame.from_dict(live, orient="index").astype(float)
    pd.testing.assert_frame_equal(live, stored.loc[live.index], check_names=False)
    assert live.notna().any(axis=None) and live.isna().any(axis=None)


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"streams": False},
        {"lost": {2: "failed", 3: "mismatch", 4: "cancelled"}},
        {"begun_twice": [3]},
    ],
)
def test_the_differences_that_end_a_precision_run_are_those_of_the_view(db, variant):
    store, sides = Store(db), {}
    trials = recorded(store, **variant)
    for trial in (finished.trial for finished in trials if finished.trial.outcome == "ok"):
        sides.setdefault((trial.session_id, trial.block), {})[trial.arm] = trial.trial_id
    pairs = [block for block in sides.values() if len(block) == 2]
    live = {finished.trial.trial_id: metrics.clocks(finished) for finished in trials}
    for metric in metrics.CLOCKS:
        values = [(live[pair["cached"]][metric], live[pair["uncached"]][metric]) for pair in pairs]
        stored = queries.pairs(store, trials[0].trial.run_id, metric)["difference"].tolist()
        assert stored == [new - old for new, old in values if None not in (new, old)]


def test_a_trial_that_failed_has_no_clock(store):
    assert metrics.clocks(
        a_trial("whole", a_call(0, ended=100), outcome="failed")
    ) == dict.fromkeys(metrics.CLOCKS)


def test_a_block_that_was_begun_twice_counts_once_wherever_it_is_told(db, capsys):
    """Its first session ended after the baseline, whose answer was wrong there."""
    store = Store(db)
    run_id = record(store, blocks=6, begun_twice=[4])
    result = results.read(run_id, store)
    assert [c.n for c in result.comparisons if c.planned] == [6]
    assert result.verdicts[0].detail.startswith("Quality equal in 6 of 6 blocks")
    counts = queries.arm_counts(store, run_id).set_index("arm")
    assert counts[["n", "failed", "cancelled", "quality"]].values.tolist() == [[6, 0, 0, 1.0]] * 2
    assert queries.runs(store)["trials"].tolist() == [12]
    assert queries.history(store, "ttft_ms")["n"].tolist() == [6, 6]
    assert queries.counted_trials(store, run_id)["block"].tolist() == [
        1,
        1,
        2,
        2,
        3,
        3,
        4,
        4,
        5,
        5,
        6,
        6,
    ]
    summary = queries.arm_summary(store, run_id)
    assert set(summary.loc[summary["metric"] == "ttft_ms", "n"]) == {6}
    JSONReporter().report(result)
    told = json.loads(capsys.readouterr().out)
    assert [(arm["n"], arm["quality"]) for arm in told["arms"]] == [(6, 1.0), (6, 1.0)]
    main(["show", run_id])
    shown = capsys.readouterr().out
    assert "n = 7" not in shown and shown.count("100 %") >= 2


def test_a_trial_that_failed_before_it_went_well_is_history(db):
    store = Store(db)
    run_id = record(store, blocks=6, begun_twice=[4], first_outcome="failed")
    counts = queries.arm_counts(store, run_id).set_index("arm")
    assert counts[["n", "failed"]].values.tolist() == [[6, 0], [6, 0]]
    assert queries.runs(store)["failed"].tolist() == [0]
    assert stats.failures(queries.trials(store, run_id)).empty


def test_of_attempts_that_all_went_wrong_the_last_is_told(store):
    store.write_trials(
        [
            a_trial("whole", a_call(0, ended=100), outcome="failed", error_text="first"),
            a_trial(
                "whole", a_call(0, ended=100), outcome="mismatch", error_text="second", attempt=2
            ),
        ]
    )
    counts = queries.arm_counts(store, RUN).iloc[0]
    assert (counts.n, counts.failed, counts.mismatched) == (0, 0, 1)
    assert counts.left_out_because == "second"


def test_the_metrics_of_one_run_are_those_that_the_views_say_and_are_gone_afterwards(db):
    store = Store(db)
    runs = [record(store, blocks=blocks, lost={1: "failed"}) for blocks in (3, 4)]
    for query in (queries.trials, queries.pairs, queries.losses, queries.arm_summary):
        before = [query(store, run) for run in runs]
        with store.snapshot():
            with store.only(runs[0]):
                pd.testing.assert_frame_equal(query(store, runs[0]), before[0])
                assert query(store, runs[1]).empty
            pd.testing.assert_frame_equal(query(store, runs[1]), before[1])
            with store.only(*runs[::-1]):
                for run, rows in zip(runs, before, strict=True):
                    pd.testing.assert_frame_equal(query(store, run), rows)
            with store.only():
                assert query(store, runs[0]).empty


def test_pairs_beside_each_other_are_those_that_have_a_row_for_each_metric(db):
    """Wide, of one metric, or long: the same pairs, judged alike."""
    store = Store(db)
    run_id = record(store, blocks=8, lost={2: "failed"}, begun_twice=[4])
    long, wide = queries.pairs(store, run_id), queries.paired_trials(store, run_id)
    assert (len(wide), len(long)) == (7, 7 * long["metric"].nunique())
    (loss,) = queries.losses(store, run_id).to_dict("records")
    assert (loss["block"], loss["lost"], loss["baseline_lost"]) == (2, True, False)
    for metric in metrics.METRICS:
        both = wide.dropna(subset=[metric, f"baseline_{metric}"])
        rows = long[long["metric"] == metric].reset_index(drop=True)
        assert both[metric].tolist() == rows["value"].tolist()
        assert both[f"baseline_{metric}"].tolist() == rows["baseline_value"].tolist()
        pd.testing.assert_frame_equal(queries.pairs(store, run_id, metric), rows)
    settings = queries.run(store, run_id)["settings"]
    judged = [
        stats.compare_run(pairs, None, settings["headline"], settings=settings)
        for pairs in (long, stats.by_arm(wide))
    ]
    assert judged[0] == judged[1]


def test_a_judged_run_has_read_no_call_but_those_it_draws(db):
    """Its page shows counts, one pair and the columns of a figure; all else waits to be asked."""
    store = Store(db)
    run_id = record(store, blocks=8)
    result = results.read(run_id, store)
    assert len(result.typical_calls) == 2 and not vars(result).keys() & {"trials", "pairs", "calls"}
    assert list(result.outcomes.columns) == list(results.OF_A_TRIAL)
    assert (len(result.trials), len(result.calls)) == (16, 16)
    pd.testing.assert_frame_equal(result.trials[list(results.OF_A_TRIAL)], result.outcomes)


def test_runs_that_are_read_for_a_list_are_what_each_is_by_itself(db):
    """Their verdicts too; the pair that a page draws is read when it is asked for."""
    store = Store(db)
    runs = [record(store, blocks=blocks, lost={1: "failed"}) for blocks in (7, 9)]
    other = record(store, blocks=3)
    listed = results.read_each(runs, store)
    assert list(listed) == runs
    for run_id, result in listed.items():
        alone = results.read(run_id, store)
        assert "_typical" in vars(alone) and "_typical" not in vars(result)
        for name in ("run", "comparisons", "verdicts", "notes", "block_cost", "pair", "in_short"):
            assert getattr(result, name) == getattr(alone, name)
        for name in ("summary", "counts", "outcomes", "losses", "typical_trials", "typical_calls"):
            pd.testing.assert_frame_equal(getattr(result, name), getattr(alone, name))
    assert len(queries.trials(store, other)) == 6


def test_the_trials_of_a_run_are_read_a_page_at_a_time_in_their_order(db):
    store = Store(db)
    run_id = record(store, blocks=5)
    whole = queries.trials(store, run_id)
    pages = [queries.trials(store, run_id, first=first, limit=4) for first in (0, 4, 8)]
    assert [len(page) for page in pages] == [4, 4, 2]
    assert [row for page in pages for row in page["trial_id"]] == whole["trial_id"].tolist()


def test_the_trend_of_the_newest_runs_is_the_end_of_the_trend_of_all(db):
    store = Store(db)
    for blocks in (3, 4, 5):
        record(store, blocks=blocks)
    every = queries.history(store, "total_ms")
    newest = queries.runs(store, limit=2)["run_id"]
    chosen = every[every["run_id"].isin(newest)].reset_index(drop=True)
    assert (len(every), len(chosen)) == (6, 4)
    pd.testing.assert_frame_equal(queries.history(store, "total_ms", latest=2), chosen)
    assert queries.run_facts(store)["runs"].tolist() == [3]
    assert queries.history(store, "total_ms", technique="nobody's", latest=2).empty


def test_a_first_answer_that_connected_anew_is_told_with_its_time(store):
    """2 ms of name look-up, then up to 5 ms of TCP and TLS; one that had its connection says
    nothing."""
    anew = a_call(0, dns=2, connected=4, tls=5, first_text=50, ended=100)
    trials = [a_trial("whole", anew), a_trial("streamed", a_call(0, first_text=10, ended=20))]
    store.write_trials(trials)
    told = queries.connections(store, RUN)
    assert told["connection_ms"].tolist() == [5.0]
    assert told["trial_id"].tolist() == [trials[0].trial.trial_id]


def test_a_sign_of_life_a_whole_tool_input_and_the_last_turn_have_clocks_of_their_own(store):
    """Thought is hidden until 90; the last answer takes 25 from its own start at 200."""
    store.write_trials(
        [
            a_trial(
                "streamed",
                a_call(10, first_sign=30, first_text=90, first_token=90, ended=95),
                a_call(100, role="tool_turn", first_tool=110, whole_tool=140, ended=150),
                a_call(200, first_text=225, first_token=225, whole_tool=240, ended=260),
                a_call(300, role="check", first_token=310, whole_tool=1, ended=320),
                ended=270,
            )
        ]
    )
    trial = one(store)
    clocks = (trial.first_sign_ms, trial.ttft_ms, trial.tool_input_ms, trial.last_ttft_ms)
    assert clocks == (30, 90, 140, 25)


def test_a_last_answer_that_did_not_stream_has_no_first_token(store):
    store.write_trials(
        [a_trial("streamed", a_call(10, first_token=30, ended=40), a_call(50, ended=90))]
    )
    assert one(store).ttft_ms == 30 and pd.isna(one(store).last_ttft_ms)


def test_what_a_search_spent_is_kept_and_never_compared(store):
    answer = a_call(10, first_text=90, ended=95)
    store.write_trials([a_trial("streamed", answer, phase="screened")])
    trial = one(store)
    assert (trial.wait_ms, bool(trial.counts), bool(trial.lost)) == (90, False, False)
    for view in ("compared_trials", "arm_summary", "arm_counts"):
        assert store.frame(f"SELECT * FROM {view}").empty, view


def test_what_the_limits_left_is_a_number_and_any_other_header_is_none(store):
    calls = [a_call(10), a_call(20)]
    calls[0].rate_limits = {
        "ratelimit-requests-remaining": "49",
        "ratelimit-input-tokens-remaining": "39000",
        "ratelimit-output-tokens-remaining": "soon",
    }
    store.write_trials([a_trial("streamed", *calls)])
    left = store.frame(
        "SELECT requests_left, input_tokens_left, output_tokens_left FROM call_metrics"
        " ORDER BY started_ms"
    )
    assert (
        left["requests_left"].tolist()[0] == 49 and left["input_tokens_left"].tolist()[0] == 39000
    )
    assert left["output_tokens_left"].isna().all() and left.iloc[1].isna().all()
