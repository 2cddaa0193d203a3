"""Watches as they are stored, for tests of what reads them: any series of medians as rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from lab.model import WATCH, new_id
from lab.rows import CallRow, FinishedTrial, RunRow, SessionRow, SpanRow, TrialRow
from lab.store.store import Store
from lab.watch.looking import Looking
from lab.watch.probe import ARMS

BEGAN = datetime(2026, 11, 2, 0, 0, tzinfo=UTC)
MS = 1_000_000


def stored(
    store: Store,
    values: Sequence[tuple[float | None, float | None] | str],
    every: timedelta = timedelta(minutes=15),
    name: str = "watch",
    endpoint: str = "simulated",
    began: datetime = BEGAN,
    **settings: Any,
) -> str:
    """The run of a watch with one pair a probe: (control, yours) in ms, None for a failure, or the
    words of a gap. What a watch would have found while it went on is stored with it."""
    run_id, session_id = new_id(), new_id()
    run, looking = a_watch(run_id, every, name, endpoint), Looking(endpoint, every)
    run.settings["watch"] |= settings
    store.write_run(run)
    store.write_session(SessionRow(session_id, run_id, "w", "h", BEGAN, "0.1.0", None, {}, {}))
    trials, found = [], run.settings["watch"]["findings"]
    for number, value in enumerate(values, 1):
        at = began + (number - 1) * every
        if isinstance(value, str):
            trials.append(a_gap(run_id, session_id, number, at, value))
            continue
        pair = dict(zip(ARMS, value, strict=True))
        for place, (arm, ms) in enumerate(pair.items()):
            trials.append(a_trial(run_id, session_id, number, arm, place, at, ms))
        failed = {arm: int(ms is None) for arm, ms in pair.items()}
        found += [change.stored() for change in looking.add(at, pair, failed)]
    store.write_trials(trials)
    run.status = "interrupted"
    store.write_run(run)
    return run_id


def a_watch(run_id: str, every: timedelta, name: str, endpoint: str) -> RunRow:
    arms = [{"technique": WATCH, "arm": arm} for arm in ARMS]
    settings = {
        "config": {"technique": WATCH},
        "arms": arms,
        "baseline": arms[0],
        "headline": {"metric": "wait_ms", **arms[1]},
        "knobs": {},
        "runs": 1,
        "watch": {"every_s": every.total_seconds(), "pairs": 1, "findings": []},
    }
    models = {"small": "simulated-small"}
    about = (run_id, WATCH, endpoint, "simulated", models, settings, 7, "running", True, BEGAN)
    return RunRow(*about, name=name)


def a_gap(run_id: str, session_id: str, block: int, at: datetime, text: str) -> FinishedTrial:
    row = _row(run_id, session_id, block, ARMS[0], 0, at, "cancelled")
    row.error_kind, row.error_text = "busy", text
    return FinishedTrial(row)


def a_trial(
    run_id: str, session_id: str, block: int, arm: str, place: int, at: datetime, ms: float | None
) -> FinishedTrial:
    row = _row(run_id, session_id, block, arm, place, at, "ok" if ms else "failed")
    row.error_text = None if ms else "HTTP 500: overloaded"
    end_ns = round((ms or 1) * MS)
    row.ended_ns = end_ns
    span = SpanRow(new_id(), row.trial_id, run_id, session_id, None, "trial", arm, 0, end_ns)
    ids = (new_id(), row.trial_id, run_id, session_id, span.span_id)
    call = CallRow(*ids, "answer", 1, "simulated", "m", ended_ns=end_ns)
    call.first_text_ns = end_ns if ms else None
    call.error_kind = None if ms else "http"
    return FinishedTrial(row, [call], [span])


def _row(
    run_id: str, session_id: str, block: int, arm: str, place: int, at: datetime, outcome: str
) -> TrialRow:
    about = (new_id(), run_id, session_id, WATCH, arm, block, place, 1, "watched", "t", at)
    return TrialRow(*about, 0, outcome=outcome)
