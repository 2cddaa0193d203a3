"""Stored runs with numbers one can check in the head: uncached starts at 900 ms, cached at 300 ms,
block b adds b ms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from lab.model import Outcome, new_id
from lab.rows import CallRow, EventRow, FinishedTrial, RunRow, SessionRow, SpanRow, TrialRow
from lab.store.store import Store

MS = 1_000_000
FIRST = {"uncached": 900, "cached": 300}


def record(store: Store, **settings) -> str:
    """The id of a run that is recorded as `recorded` says."""
    run_id = new_id()
    recorded(store, run_id=run_id, **settings)
    return run_id


def recorded(
    store: Store,
    *,
    run_id: str | None = None,
    blocks: int = 8,
    kind: str = "local",
    text: str | None = "word ",
    started: datetime | None = None,
    technique: str = "caching",
    streams: bool = True,
    lost: Mapping[int, Outcome] | None = None,
    begun_twice: Collection[int] = (),
    first_outcome: Outcome = "ok",
) -> list[FinishedTrial]:
    """The trials of a finished run of `blocks` blocks; three arrivals a call, 100 ms apart, then
    the end 100 ms later.

    `lost` is what became of the cached trial in these blocks. Those of `begun_twice` were begun by
    an earlier session as well, which was stopped in the cached trial; its uncached one had
    `first_outcome`, and its answer was wrong.
    """
    began = started or datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
    run_id, session_id, earlier_id = run_id or new_id(), new_id(), new_id()
    settings = {
        "config": {"technique": technique, "runs": blocks},
        "arms": [{"technique": technique, "arm": arm} for arm in FIRST],
        "baseline": {"technique": technique, "arm": "uncached"},
        "headline": {"metric": "ttft_ms", "technique": technique, "arm": "cached"},
        "knobs": {},
        "scenario": "rag",
        "runs": blocks,
        "warmup": 0,
        "quick": False,
        "lab_version": "0.1.0",
    }
    store.write_run(
        RunRow(
            run_id=run_id,
            technique=technique,
            endpoint=kind,
            endpoint_kind=kind,
            models={"small": "smollm2-135m"},
            settings=settings,
            seed=7,
            status="running",
            keep_text=text is not None,
            started_utc=began,
        )
    )
    session = SessionRow(
        session_id=session_id,
        run_id=run_id,
        worker="worker",
        host="machine",
        started_utc=began,
        lab_version="0.1.0",
        commit=None,
        machine={"cores": 2},
        instrument={},
    )
    if begun_twice:
        store.write_session(replace(session, session_id=earlier_id))
    store.write_session(session)
    finished = []
    for block in range(1, blocks + 1):
        row = {"run_id": run_id, "technique": technique, "block": block}
        ways = {"kind": kind, "text": text, "streams": streams, "began": began}
        if block in begun_twice:
            first = {**row, "session_id": earlier_id, "attempt": 1}
            wrong = {"outcome": first_outcome, "quality": 0.0}
            finished.append(_trial("uncached", **ways, **first, **wrong))
            finished.append(_trial("cached", **ways, **first, outcome="cancelled", quality=None))
        row |= {"session_id": session_id, "attempt": 2 if block in begun_twice else 1}
        finished.append(_trial("uncached", **ways, **row))
        outcome = (lost or {}).get(block, "ok")
        finished.append(_trial("cached", **ways, **row, outcome=outcome))
    store.write_trials(finished)
    store.finish_run(run_id, "finished")
    return finished


def _trial(
    arm: str, *, kind: str, text: str | None, streams: bool, began: datetime, **row
) -> FinishedTrial:
    trial_id, call_id, root, span = new_id(), new_id(), new_id(), new_id()
    position = list(FIRST).index(arm)
    seconds = row["block"] * 10 + position * 5
    origin = seconds * 1000 * MS
    first = origin + (FIRST[arm] + row["block"]) * MS
    end = first + 300 * MS
    hit = arm == "cached"
    trial = TrialRow(
        trial_id=trial_id,
        arm=arm,
        position=position,
        phase="measured",
        task_id=f"task-{row['block'] % 3}",
        started_utc=began + timedelta(seconds=seconds),
        started_ns=origin,
        ended_ns=end,
        cost_usd=0.0004 if hit else 0.001,
        **({"quality": 1.0} | row),
    )
    call = CallRow(
        call_id=call_id,
        trial_id=trial_id,
        run_id=trial.run_id,
        session_id=trial.session_id,
        span_id=span,
        role="answer",
        attempt=1,
        endpoint=kind,
        model="smollm2-135m",
        intended_cache="read" if hit else "none",
        started_ns=origin,
        sent_ns=origin + MS,
        headers_ns=origin + 20 * MS,
        first_byte_ns=origin + 20 * MS,
        message_start_ns=origin + 21 * MS if streams else None,
        first_text_ns=first if streams else None,
        first_sentence_ns=first + 200 * MS if streams else None,
        last_text_ns=first + 200 * MS if streams else None,
        last_token_ns=first + 200 * MS if streams else None,
        ended_ns=end,
        input_tokens=40,
        cache_read_tokens=600 if hit else 0,
        cache_write_5m_tokens=0,
        cache_write_1h_tokens=0,
        output_tokens=3,
        connection_reused=True,
        http_status=200,
        stop_reason="end_turn",
        cost_usd=trial.cost_usd,
    )
    ids = {"trial_id": trial_id, "run_id": trial.run_id, "session_id": trial.session_id}
    whole = {**ids, "started_ns": origin, "ended_ns": end}
    spans = [
        SpanRow(span_id=root, parent_id=None, kind="trial", name=arm, **whole),
        SpanRow(span_id=span, parent_id=root, kind="call", name="answer", **whole),
    ]
    events = [
        EventRow(
            call_id=call_id,
            run_id=trial.run_id,
            seq=n,
            at_ns=first + n * 100 * MS,
            kind="text_delta",
            characters=len(text or "word "),
            text=text,
        )
        for n in range(3 if streams else 0)
    ]
    return FinishedTrial(trial, [call], spans, events)
