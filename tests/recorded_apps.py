"""Recordings of an application that never ran, with numbers one can check in the head."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from lab import new_recording, recordings
from lab.recording.scribe import Scribe, Seen, ToolSeen
from lab.recording.shape import Block, Hasher
from lab.recordings import Recording
from lab.rows import FinishedTrial
from lab.store.store import Store

S = 1_000_000_000
BEGAN = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: str) -> list[dict[str, Any]]:
    """The content of an answer."""
    return [{"type": "text", "text": text}]


def asks(*uses: str, name: str = "search") -> list[dict[str, Any]]:
    """The content of an answer that calls a tool, once for each id."""
    return [{"type": "tool_use", "id": use, "name": name, "input": {}} for use in uses]


def answer(content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def results(*uses: str, text: str = "found") -> dict[str, Any]:
    blocks = [{"type": "tool_result", "tool_use_id": use, "content": text} for use in uses]
    return {"role": "user", "content": blocks}


class App:
    """Records calls one by one; `call` answers with a short name for each: its place from 0. With a
    store the rows go there and are read again; without one they become the same frame at once."""

    def __init__(
        self, store: Store | None = None, source: str = "recorder", kind: str = "live"
    ) -> None:
        self.store, self.kind = store, kind
        self.run = {"run_id": "a run", "keep_text": False, "endpoint_kind": kind}
        session_id = "a session"
        if store:
            run, session = new_recording.begin(store, source, kind, kind)
            self.run, session_id = asdict(run), session.session_id
        self.scribe = Scribe(
            self.run["run_id"], session_id, source, kind, Hasher(b"for tests only")
        )
        self.trials: list[FinishedTrial] = []
        self.ids: list[str] = []

    def call(
        self,
        messages: Sequence[Mapping[str, Any]] | None,
        at: float,
        until: float,
        reply: Sequence[Mapping[str, Any]] | None = None,
        *,
        first: float | None = None,
        usage: Mapping[str, Any] | None = None,
        tools: Sequence[tuple[str, float, float]] = (),
        conversation: str | None = None,
        agent: str | None = None,
        error: str | None = None,
        whole: bool = True,
        model: str = "claude-sonnet-5-5",
        **body: Any,
    ) -> int:
        """A call from `at` to `until`, its first token at `first`: seconds of the recording."""
        stop = None
        if reply and error is None:
            stop = "tool_use" if any(b["type"] == "tool_use" for b in reply) else "end_turn"
        known = {
            "model": model,
            "ended_ns": round(until * S),
            "first_token_ns": None if first is None else round(first * S),
            "stop_reason": stop,
            "error_kind": error,
        }
        request = None if messages is None else {"model": model, "messages": messages, **body}
        trial = self.scribe.rows(
            Seen(
                BEGAN + timedelta(seconds=at),
                round(at * S),
                body=request,
                is_whole=whole,
                content=reply,
                call=known,
                usage=usage or {},
                tools=[ToolSeen(name, round(a * S), round(b * S)) for name, a, b in tools],
                conversation=conversation,
                agent=agent,
            )
        )
        self.trials.append(trial)
        self.ids.append(trial.calls[0].call_id)
        return len(self.ids) - 1

    def recording(self) -> Recording:
        if self.store:
            self.store.write_trials(self.trials)
            self.trials = []
            return recordings.read(self.store, self.run["run_id"])
        rows = [self._row(trial) for trial in self.trials]
        rows.sort(key=lambda row: row["started_ms"])
        calls = pd.DataFrame(rows, columns=None if rows else ["call_id", "started_ms", "blocks"])
        replies = {
            trial.calls[0].call_id: [Block(*block) for block in trial.recorded_calls[0].reply]
            for trial in self.trials
            if trial.recorded_calls[0].reply is not None
        }
        tools = [
            (trial.calls[0].call_id, span.name, span.started_ns / 1e6, span.ended_ns / 1e6)
            for trial in self.trials
            for span in trial.spans
            if span.kind == "tool"
        ]
        spans = pd.DataFrame(tools, columns=["call_id", "name", "started_ms", "ended_ms"])
        prompts = recordings._prompts(calls)
        return Recording(self.run, calls, spans, prompts, replies, {})

    def _row(self, trial: FinishedTrial) -> dict[str, Any]:
        """As the view call_metrics and recorded_calls tell it."""
        call, recorded = trial.calls[0], trial.recorded_calls[0]
        known = {**asdict(call), **asdict(recorded)}
        for name in ("blocks", "marks", "settings", "reply"):
            known[name] = None if known[name] is None else json.dumps(known[name])
        first, written = (
            call.first_token_ns,
            (call.cache_write_5m_tokens, call.cache_write_1h_tokens),
        )
        return {
            **known,
            "endpoint_kind": self.kind,
            "started_ms": call.started_ns / 1e6,
            "total_ms": None if call.ended_ns is None else (call.ended_ns - call.started_ns) / 1e6,
            "ended_at_ms": None
            if call.ended_ns is None
            else (call.ended_ns - call.started_ns) / 1e6,
            "ttft_ms": None if first is None else (first - call.started_ns) / 1e6,
            "cache_write_tokens": sum(tokens or 0 for tokens in written),
        }

    def places(self) -> list[tuple[int, int, int, int | None]]:
        """Of each call in the order of `call`: conversation, lane, turn, parent."""
        placed = self.recording().conversations.loc[self.ids]
        return [
            (
                row.conversation,
                row.lane,
                row.turn,
                None if row.parent is None else self.ids.index(row.parent),
            )
            for row in placed.itertuples()
        ]
