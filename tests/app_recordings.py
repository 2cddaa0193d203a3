"""Recordings of small apps that keep their text, with instants one can check in the head."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from lab import new_recording, scrub
from lab.recording.scribe import Scribe, Seen
from lab.store.store import Store

STARTED = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
S = 10**9
STABLE = "Always answer in one short and friendly sentence. " * 60
"""About 800 tokens: more than a prefix of the lab's own servers needs."""
USAGE = {
    "input_tokens": 40,
    "output_tokens": 9,
    "cache_creation_input_tokens": 760,
    "cache_read_input_tokens": 0,
}
"""All of it written anew each time."""
MARK = {"cache_control": {"type": "ephemeral"}}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def body(system: Any, *turns: str, **fields: Any) -> dict[str, Any]:
    """User and assistant in turns, the user first."""
    messages = [
        {"role": ("user", "assistant")[place % 2], "content": words}
        for place, words in enumerate(turns)
    ]
    return {
        "model": "simulated-small",
        "max_tokens": 64,
        "system": system,
        "messages": messages,
        "stream": True,
    } | fields


def record(
    store: Store,
    bodies: Sequence[dict[str, Any]],
    *,
    endpoint: str = "simulated",
    kind: str = "simulated",
    keep_text: bool = True,
    betas: str = "",
) -> str:
    """The id of a recording in which call n begins n × 10 s after the start; its first token comes
    after a second, and it ends half a second later."""
    run, session = new_recording.begin(store, "recorder", endpoint, kind, keep_text=keep_text)
    scribe = Scribe(
        run.run_id,
        session.session_id,
        "recorder",
        endpoint,
        new_recording.hasher(),
        keep_text=keep_text,
    )
    for number, sent in enumerate(bodies):
        at = number * 10 * S
        seen = Seen(
            STARTED + timedelta(seconds=number * 10),
            at,
            sent,
            betas=betas,
            content=[text("Yes.")],
            usage=USAGE,
            call={
                "first_token_ns": at + S,
                "first_text_ns": at + S,
                "ended_ns": at + 3 * S // 2,
                "message_id": f"msg_{number}",
            },
        )
        finished = scribe.rows(seen)
        scrub.trial(finished)
        store.keep(finished)
    store.write_trials([])
    store.finish_run(run.run_id, "finished")
    return run.run_id


def with_a_clock() -> list[dict[str, Any]]:
    """Two calls whose system prompt tells the time before its breakpoint."""
    return [
        body([text(f"It is {clock}."), text(STABLE, **MARK)], *turns)
        for clock, turns in (
            ("09:00:01", ["What is a tide?"]),
            ("09:00:11", ["What is a tide?", "Water that comes and goes.", "And a spring tide?"]),
        )
    ]
