"""Stored runs with numbers one can check in the head: uncached starts at 900 ms, cached at 300 ms,
block b adds b ms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lab.model import new_id
from lab.rows import CallRow, EventRow, FinishedTrial, RunRow, SessionRow, SpanRow, TrialRow
from lab.store.store import Store

MS = 1_000_000
FIRST = {"uncached": 900, "cached": 300}


def record(
    store: Store,
    *,
    blocks: int = 8,
    kind: str = "local",
    text: str | None = "word ",
    started: datetime | None = None,
    technique: str = "caching",
) -> str:
    """One finished run of `blocks` blocks; three arrivals a call, 100 ms apart, then the end 100 ms
    later."""
    began = started or datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
    run_id, session_id = new_id(), new_id()
    arms = list(FIRST)
    settings = {
        "config": {"technique": technique, "runs": blocks},
        "arms": [{"technique": technique, "arm": arm} for arm in arms],
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
            run_id,
            technique,
            kind,
            kind,
            {"small": "smollm2-135m"},
            settings,
            7,
            "running",
            text is not None,
            began,
        )
    )
    store.write_session(
        SessionRow(session_id, run_id, "worker", "machine", began, "0.1.0", None, {"cores": 2}, {})
    )
    finished = []
    for block in range(1, blocks + 1):
        for position, arm in enumerate(arms):
            finished.append(
                _trial(run_id, session_id, technique, block, position, arm, kind, text, began)
            )
    store.write_trials(finished)
    store.finish_run(run_id, "finished")
    return run_id


def _trial(run_id, session_id, technique, block, position, arm, kind, text, began) -> FinishedTrial:
    trial_id, call_id, root, span = new_id(), new_id(), new_id(), new_id()
    origin = (block * 10 + position * 5) * 1000 * MS
    first = origin + (FIRST[arm] + block) * MS
    end = first + 300 * MS
    hit = arm == "cached"
    trial = TrialRow(
        trial_id,
        run_id,
        session_id,
        technique,
        arm,
        block,
        position,
        1,
        "measured",
        f"task-{block % 3}",
        began + timedelta(seconds=block * 10 + position * 5),
        origin,
        end,
        quality=1.0,
        cost_usd=0.0004 if hit else 0.001,
    )
    call = CallRow(
        call_id,
        trial_id,
        run_id,
        session_id,
        span,
        "answer",
        1,
        kind,
        "smollm2-135m",
        intended_cache="read" if hit else "none",
        started_ns=origin,
        sent_ns=origin + MS,
        headers_ns=origin + 20 * MS,
        first_byte_ns=origin + 20 * MS,
        message_start_ns=origin + 21 * MS,
        first_text_ns=first,
        first_sentence_ns=first + 200 * MS,
        last_text_ns=first + 200 * MS,
        last_token_ns=first + 200 * MS,
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
    spans = [
        SpanRow(root, trial_id, run_id, session_id, None, "trial", arm, origin, end),
        SpanRow(span, trial_id, run_id, session_id, root, "call", "answer", origin, end),
    ]
    events = [
        EventRow(call_id, run_id, n, first + n * 100 * MS, "text_delta", len(text or "word "), text)
        for n in range(3)
    ]
    return FinishedTrial(trial, [call], spans, events)
