"""Rows as a run writes them, for tests of the store; light, since processes of their own write
them too."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from lab import clock
from lab.model import new_id
from lab.rows import CallRow, EventRow, FinishedTrial, RunRow, SessionRow, SpanRow, TrialRow
from lab.store.store import Store

MS = 1_000_000


def a_run(run_id: str, **changes) -> RunRow:
    arms = [{"technique": "streaming", "arm": arm} for arm in ("whole", "streamed")]
    settings = {
        "config": {"technique": "streaming"},
        "arms": arms,
        "baseline": arms[0],
        "headline": {"metric": "wait_ms", **arms[1]},
        "knobs": {},
        "runs": 2,
    }
    row = RunRow(
        run_id,
        "streaming",
        "local",
        "local",
        {"small": "smollm2-135m"},
        settings,
        7,
        "running",
        True,
        clock.utc_now(),
    )
    for name, value in changes.items():
        setattr(row, name, value)
    return row


def a_trial(run_id: str, session_id: str, block: int = 0, arm: str = "whole") -> FinishedTrial:
    trial_id, call_id, span_id = new_id(), new_id(), new_id()
    return FinishedTrial(
        TrialRow(
            trial_id,
            run_id,
            session_id,
            "streaming",
            arm,
            block,
            0,
            1,
            "measured",
            "t",
            clock.utc_now(),
            0,
            150 * MS,
        ),
        [
            CallRow(
                call_id,
                trial_id,
                run_id,
                session_id,
                span_id,
                "answer",
                1,
                "local",
                "m",
                ended_ns=100 * MS,
                server_ms={"queue": 1.5},
            )
        ],
        [SpanRow(span_id, trial_id, run_id, session_id, None, "trial", arm, 0, 150 * MS)],
        [EventRow(call_id, run_id, seq, seq * MS, "text", 3, "abc") for seq in range(3)],
    )


def filled(path, trials: int = 4) -> tuple[Store, str]:
    store, run_id, session_id = Store(path), new_id(), new_id()
    store.write_run(a_run(run_id))
    store.write_session(
        SessionRow(session_id, run_id, "w", "h", clock.utc_now(), "0.1.0", None, {"cores": 2}, {})
    )
    store.write_trials(
        [a_trial(run_id, session_id, n // 2, ("whole", "streamed")[n % 2]) for n in range(trials)]
    )
    return store, run_id


HOLD = """
    import duckdb, sys
    connection = duckdb.connect(sys.argv[1])
    print("held", flush=True)
    sys.stdin.readline()
"""


def held_by_a_foreign_program(path) -> subprocess.Popen:
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout.readline() == "held\n"
    return program
