"""Loads as a run stores them, with times that can be told beforehand; for tests of what reads
them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from lab.model import LOAD, new_id
from lab.rows import (
    CallRow,
    EventRow,
    FinishedTrial,
    LoadLevelRow,
    RunRow,
    SessionRow,
    SpanRow,
    TrialRow,
)
from lab.store.store import Store

MS, S = 1_000_000, 1_000_000_000
BIAS = {"streams": 32, "ttft_ms": {"p50": 0.05, "p95": 0.2, "p99": 0.3}, "gap_mean_ms": 0.01,
        "n": 192}  # fmt: skip
TOKENS, GAP_MS = 11, 10
"""Of every answer: eleven tokens, ten gaps of 10 ms, 100 ms from the first to the last."""


def ttft_ms(load: float) -> float:
    """A server that is quick up to 16 at once and then queues."""
    return 100.0 if load <= 16 else 100.0 + 100.0 * (load - 16)


def stored(
    store: Store,
    loads: Sequence[float] = (4, 16, 32),
    *,
    mode: str = "closed",
    requests: int = 100,
    first_ms: Callable[[float], float] = ttft_ms,
    failed: int = 0,
    delay_ms: Callable[[int], float] = lambda request: 0.0,
    slo: Sequence[str] = (),
    settings: dict[str, Any] | None = None,
    client: dict[str, float] | None = None,
    kind: str = "simulated",
    **run: Any,
) -> str:
    """The run's id. Each level has so many requests, one due every 10 ms; the first `failed` of the
    last level were turned away. `delay_ms` is how long a request waited to be sent."""
    run_id, session_id = new_id(), new_id()
    began = datetime(2026, 11, 26, 14, 0, tzinfo=UTC)
    config = {"technique": LOAD, "endpoint": kind, "slo": list(slo)} | (settings or {})
    row = RunRow(
        run_id, LOAD, kind, kind, {"small": f"{kind}-small"}, {"config": config}, 7, "finished",
        False, began, began,
    )  # fmt: skip
    for name, value in run.items():
        setattr(row, name, value)
    store.write_run(row)
    store.write_session(
        SessionRow(session_id, run_id, "w", "h", began, "0.1.0", None, {"cores": 2},
                   {"load_bias": BIAS})
    )  # fmt: skip
    at_ns = 0
    for number, load in enumerate(loads, 1):
        label = f"{load:g} a second" if mode == "open" else f"{load:g} stream{'s' * (load != 1)}"
        is_last = number == len(loads)
        trials = [
            _trial(
                run_id, session_id, row, number, label, place, at_ns + place * 10 * MS,
                delay_ms(place), None if is_last and place < failed else first_ms(load), began,
            )
            for place in range(requests)
        ]  # fmt: skip
        ended_ns = max(trial.trial.ended_ns for trial in trials)
        store.write_trials(trials)
        store.write_level(
            LoadLevelRow(run_id, session_id, number, label, mode, float(load), at_ns, ended_ns,
                         requests, 0, None, client or {"loop_lag_p99_ms": 0.1, "cpu_share": 0.2})
        )  # fmt: skip
        at_ns = ended_ns + S
    return run_id


def _trial(
    run_id: str, session_id: str, run: RunRow, number: int, label: str, place: int, due_ns: int,
    delay_ms: float, first_ms: float | None, began: datetime,
) -> FinishedTrial:  # fmt: skip
    trial_id, call_id, root, span = new_id(), new_id(), new_id(), new_id()
    start = due_ns + int(delay_ms * MS)
    first = None if first_ms is None else start + int(first_ms * MS)
    end = start + 5 * MS if first is None else first + (TOKENS - 1) * GAP_MS * MS
    error = "overloaded_error" if first is None else None
    outcome = "failed" if error else "ok"
    trial = TrialRow(
        trial_id, run_id, session_id, LOAD, label, number, place, 1, "load", None, began, start,
        end, outcome=outcome, error_kind=error,
    )  # fmt: skip
    call = CallRow(
        call_id, trial_id, run_id, session_id, span, "answer", 1, run.endpoint,
        next(iter(run.models.values())), started_ns=start, sent_ns=start + MS // 10,
        first_text_ns=first, first_token_ns=first, ended_ns=end, error_kind=error,
        scheduled_ns=due_ns, connection_reused=True, http_status=529 if error else 200,
    )  # fmt: skip
    events = []
    if first is not None:
        call.last_token_ns = call.last_text_ns = end
        call.second_token_ns = first + GAP_MS * MS
        call.input_tokens, call.output_tokens = 20, TOKENS
        events = [
            EventRow(call_id, run_id, seq, first + seq * GAP_MS * MS, "text", 4, None)
            for seq in range(TOKENS)
        ]
    spans = [
        SpanRow(root, trial_id, run_id, session_id, None, "trial", label, start, end),
        SpanRow(span, trial_id, run_id, session_id, root, "call", "answer", start, end),
    ]
    return FinishedTrial(trial, [call], spans, events)
