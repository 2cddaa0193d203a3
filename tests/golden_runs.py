"""Recorded runs that never change, and what every command tells of them: the golden comparison.

`python -m tests.golden_runs --write` writes tests/golden anew from the code it is run with. Do that
only after the telling itself was changed on purpose and a reader has read the difference, never to
make a test pass. Where a fault was mended and the old telling shall stand beside the new one, put
the pair into NAMED (tests/test_golden.py) and run `python -m tests.golden_runs --named`: it writes
RUN/TELLING.diff, from the golden file to what the code tells now. Both take RUN or RUN/TELLING
after the flag, to write no more than those.
"""

from __future__ import annotations

import base64
import csv
import difflib
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

from lab import results
from lab.cli import main
from lab.rows import CallRow, EventRow, FinishedTrial, RunRow, SessionRow, SpanRow, TrialRow
from lab.store.store import Store

GOLDEN = Path(__file__).parent / "golden"
BEGAN = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
BLOCK_S, PLACE_S = 60, 12
"""From one block's start to the next, and from one arm's to the next within it."""
SMALL, LARGE, CLAUDE = "smollm2-135m", "smollm2-135m-f32", "claude-haiku-4-5"


# Runs


@dataclass
class Call:
    """A request of a trial, in ms: `at` from the trial's start, the others from its own."""

    total: float
    first: float | None = None
    """First text; None where the answer does not stream."""
    at: float = 0
    role: str = "answer"
    name: str = ""
    model: str = SMALL
    intended: str = "none"
    fresh: int | None = 40
    read: int = 0
    written: int = 0
    out: int | None = 24
    usd: float | None = None
    thinking: float | None = None
    """First piece of thinking."""
    error: tuple[str, str] | None = None
    status: int | None = 200
    attempt: int = 1
    reused: bool = True
    lag: float = 0.2
    parent: str | None = None
    """The name of a span of the same trial; None is the root."""
    more: dict[str, Any] = field(default_factory=dict)
    """Other columns of the row."""


@dataclass
class Span:
    kind: str
    name: str
    at: float
    total: float
    parent: str | None = None


class Recording:
    """One run on its way into the store; its ids count up from its number."""

    def __init__(
        self,
        store: Store,
        number: int,
        technique: str,
        arms: tuple[str, ...],
        metric: str,
        *,
        headline: str | None = None,
        kind: str = "local",
        blocks: int = 8,
        models: dict[str, str] | None = None,
        text: str | None = "word ",
        status: str = "finished",
        config: dict[str, Any] | None = None,
        knobs: dict[str, Any] | None = None,
        name: str | None = None,
        note: str | None = None,
        imported_from: str | None = None,
    ) -> None:
        self.store, self.number, self.count = store, number, 0
        self.finished: list[FinishedTrial] = []
        self.technique, self.kind, self.text = technique, kind, text
        self.arms = [tuple(arm.split(".")) if "." in arm else (technique, arm) for arm in arms]
        self.began = BEGAN + timedelta(hours=number)
        self.run_id = self.id()
        refs = [{"technique": slug, "arm": arm} for slug, arm in self.arms]
        planned = next((ref for ref in refs[1:] if ref["arm"] == headline), refs[-1])
        settings = {
            "config": {"technique": technique, "runs": blocks, "seed": 7, **(config or {})},
            "arms": refs,
            "baseline": refs[0],
            "headline": {"metric": metric, **planned},
            "knobs": knobs or {},
            "scenario": "rag",
            "runs": blocks,
            "warmup": 0,
            "quick": False,
            "lab_version": "0.0.1",
        }
        self.run = RunRow(
            run_id=self.run_id,
            technique=technique,
            endpoint={"live": "anthropic"}.get(kind, kind),
            endpoint_kind=kind,
            models=models or {"small": SMALL},
            settings=settings,
            seed=7,
            status=status,
            keep_text=text is not None,
            started_utc=self.began,
            ended_utc=self.began + timedelta(minutes=blocks),
            note=note,
            name=name,
            imported_from=imported_from,
        )
        assert store.write_run(self.run)
        self.session()

    def id(self) -> str:
        self.count += 1
        return f"{0x01930000 + self.number:08x}-0000-7000-8000-{self.count:012x}"

    def session(self, after_s: int = 0, error_ms: float | None = 0.4) -> None:
        """Whatever follows is measured by a session of its own, with a clock of its own."""
        self.session_id, self.session_began = self.id(), self.began + timedelta(seconds=after_s)
        instrument = {} if error_ms is None else {"own_error_p95_ms": error_ms}
        row = SessionRow(
            session_id=self.session_id,
            run_id=self.run_id,
            worker=f"worker-{self.count}",
            host="machine",
            started_utc=self.session_began,
            lab_version="0.0.1",
            commit=None,
            machine={"cores": 2, "memory_gb": 8, "system": "Linux"},
            instrument=instrument,
        )
        assert self.store.write_session(row)

    def trial(
        self,
        block: int,
        arm: str,
        calls: list[Call],
        spans: tuple[Span, ...] = (),
        *,
        technique: str | None = None,
        total: float | None = None,
        outcome: str = "ok",
        error: tuple[str, str] | None = None,
        quality: float | None = 1.0,
        attempt: int = 1,
        phase: str = "measured",
        task: str | None = None,
    ) -> None:
        technique = technique or next(slug for slug, name in self.arms if name == arm)
        place = (self.arms.index((technique, arm)) + block) % len(self.arms)
        seconds = block * BLOCK_S + place * PLACE_S
        origin = ns((seconds + 100) * 1000)
        trial_id, root = self.id(), self.id()
        inside = [call for call in calls if call.role not in ("prime", "check")]
        ended = max((call.at + call.total for call in inside), default=0)
        ended = total or max([ended, *(span.at + span.total for span in spans)])
        costs = [call.usd for call in calls if call.role != "check"]
        row = TrialRow(
            trial_id=trial_id,
            run_id=self.run_id,
            session_id=self.session_id,
            technique=technique,
            arm=arm,
            block=block,
            position=place,
            attempt=attempt,
            phase=phase,
            task_id=task or f"task-{block % 3}",
            started_utc=self.session_began + timedelta(seconds=seconds),
            started_ns=origin,
            ended_ns=origin + ns(ended),
            outcome=outcome,
            error_kind=error and error[0],
            error_text=error and error[1],
            quality=quality if outcome == "ok" else None,
            cost_usd=None if None in costs or not costs else round(sum(costs), 9),
        )
        ids = {span.name: self.id() for span in spans}
        common = {"trial_id": trial_id, "run_id": self.run_id, "session_id": self.session_id}
        rows = [self._span(root, None, Span("trial", arm, 0, ended), origin, common)]
        for span in spans:
            parent = ids.get(span.parent, root)
            rows.append(self._span(ids[span.name], parent, span, origin, common))
        finished = FinishedTrial(row, [], rows, [])
        for call in calls:
            span_id, parent = self.id(), ids.get(call.parent, root)
            span = Span("call", call.name or call.role, call.at, call.total)
            finished.calls.append(self._call(span_id, call, origin, common))
            finished.spans.append(self._span(span_id, parent, span, origin, common))
            finished.events += self._events(finished.calls[-1], call)
        self.finished.append(finished)

    def _span(self, span_id, parent_id, span: Span, origin: int, common: dict) -> SpanRow:
        return SpanRow(
            span_id=span_id,
            **common,
            parent_id=parent_id,
            kind=span.kind,
            name=span.name,
            started_ns=origin + ns(span.at),
            ended_ns=origin + ns(span.at + span.total),
        )

    def _call(self, span_id: str, call: Call, origin: int, common: dict) -> CallRow:
        began = origin + ns(call.at)
        streams = call.first is not None and call.error is None

        def instant(after_ms: float | None) -> int | None:
            return None if after_ms is None else began + ns(after_ms)

        opened = 0 if call.reused else 38
        columns = {
            "call_id": self.id(),
            **common,
            "span_id": span_id,
            "role": call.role,
            "attempt": call.attempt,
            "endpoint": self.run.endpoint,
            "model": call.model,
            "message_id": f"msg_{self.count:06d}" if call.error is None else None,
            "request_id": f"req_{self.count:06d}",
            "intended_cache": call.intended,
            "started_ns": began,
            "dns_ns": None if call.reused else instant(3),
            "connected_ns": None if call.reused else instant(14),
            "tls_ns": None if call.reused else instant(37),
            "sent_ns": instant(opened + 1),
            "headers_ns": instant(opened + 20) if call.status else None,
            "first_byte_ns": instant(opened + 20) if call.status else None,
            "message_start_ns": instant(opened + 21) if streams else None,
            "first_sign_ns": instant(opened + 22) if streams else None,
            "ended_ns": instant(call.total),
            "connection_reused": call.reused,
            "http_status": call.status,
            "loop_lag_ns": ns(call.lag),
            "cost_usd": call.usd,
            "counted_usd": call.usd,
        }
        if call.error:
            columns |= {"error_kind": call.error[0], "error_text": call.error[1]}
            return CallRow(**columns | call.more)
        first_of_all = call.first if call.thinking is None else call.thinking
        last = (call.first + call.total) / 2 if streams else None
        columns |= {
            "thinking_started_ns": instant(call.thinking),
            "first_thinking_ns": instant(call.thinking),
            "first_text_ns": instant(call.first) if streams else None,
            "first_token_ns": instant(first_of_all) if streams else None,
            "first_sentence_ns": instant(last),
            "last_text_ns": instant(last),
            "last_token_ns": instant(last),
            "input_tokens": call.fresh,
            "cache_read_tokens": call.read,
            "cache_write_5m_tokens": call.written,
            "cache_write_1h_tokens": 0,
            "output_tokens": call.out,
            "thinking_tokens": None if call.thinking is None else 8,
            "stop_reason": "tool_use" if call.role == "tool_turn" else "end_turn",
            "served_model": call.model,
        }
        if self.kind == "local":
            columns["server_ms"] = {"queue": 0.5, "prefill": 12.5, "decode": call.total / 2}
            columns["physical_cache_tokens"] = call.read
        return CallRow(**columns | call.more)

    def _events(self, row: CallRow, call: Call) -> list[EventRow]:
        """Three pieces from the first text to the last; of some roles none, to stay small."""
        if row.first_text_ns is None or call.role in ("prime", "check", "worker", "plan"):
            return []
        step = (row.last_text_ns - row.first_text_ns) // 2
        return [
            EventRow(
                call_id=row.call_id,
                run_id=self.run_id,
                seq=place,
                at_ns=row.first_text_ns + place * step,
                kind="text_delta",
                characters=len(self.text or "word "),
                text=self.text,
            )
            for place in range(3)
        ]


# No two arms of a run cost the same: the last digit of a mean is DuckDB's whim, and would decide
# which of them is on the front.


def ns(ms: float) -> int:
    """Whole tenths of a millisecond: a mean of few of them ends early, and rounds one way only."""
    return round(ms * 10) * 100_000


def wobble(block: int, salt: int, width: float) -> float:
    """A number from −width to width that looks like noise and is none."""
    return ((block * 37 + salt * 53 + block * block * 11) % 61 - 30) / 30 * width


def caching_eight(store: Store) -> Recording:
    """Uncached starts at 900 ms, cached at 300, block b adds b."""
    recording = Recording(store, 1, "caching", ("uncached", "cached"), "ttft_ms", name="by heart")
    for block in range(1, 9):
        first = 900 + block
        recording.trial(block, "uncached", [Call(first + 300, first, out=3, usd=0.001)])
        first = 300 + block
        cached = Call(first + 300, first, intended="read", read=600, out=3, usd=0.0004)
        recording.trial(block, "cached", [cached])
    return recording


def streaming_simulated(store: Store) -> Recording:
    """The baseline does not stream; quality, price, a late loop and a reconnect vary."""
    arms, text = ("whole", "streamed"), "Ebb & <b>flow</b> "
    recording = Recording(
        store, 2, "streaming", arms, "wait_ms", kind="simulated", blocks=12, text=text
    )
    for block in range(0, 13):
        phase = "measured" if block else "warmup"
        total = 2400 + wobble(block, 1, 300)
        out = 180 + block
        whole = Call(total, out=out, usd=0.0021 + out * 1e-6, reused=block != 7)
        quality = 0.0 if block in (3, 9) else 1.0
        recording.trial(block, "whole", [whole], quality=quality, phase=phase)
        total, first = 2450 + wobble(block, 2, 340), 420 + wobble(block, 3, 90)
        streamed = Call(total, first, out=out + 2, usd=0.0022, lag=12 if block == 5 else 0.3)
        if block % 4 == 0:
            streamed.thinking = first - 150
        quality = 0.5 if block == 9 else 1.0
        recording.trial(block, "streamed", [streamed], quality=quality, phase=phase)
    return recording


def streaming_live(store: Store) -> Recording:
    """Three blocks are too few for a verdict; the model is paid for, and counts more than once."""
    arms, models = ("whole", "streamed"), {"small": CLAUDE}
    config = {"max_usd": 0.5}
    recording = Recording(
        store, 3, "streaming", arms, "wait_ms", kind="live", blocks=3, models=models, config=config
    )
    limits = {"anthropic-ratelimit-requests-remaining": "49"}
    sampled = [
        {"type": "compaction", "input_tokens": 900, "output_tokens": 60},
        {"type": "message", "input_tokens": 120, "output_tokens": 210},
    ]
    for block in range(1, 4):
        usd = 0.00123 + block * 1e-5
        whole = Call(3100 + block * 40, model=CLAUDE, fresh=120, out=210, usd=usd)
        whole.more = {"rate_limits": limits, "service_tier": "standard"}
        recording.trial(block, "whole", [whole])
        streamed = Call(3200 + block * 35, 640 + block * 9, model=CLAUDE, fresh=120, out=210)
        streamed.usd = usd + 1e-6
        streamed.more = {"iterations": sampled} if block == 2 else {"inference_geo": "us"}
        recording.trial(block, "streamed", [streamed])
    return recording


def streaming_resumed(store: Store) -> Recording:
    """Block 4 was begun twice: its first session measured one arm well, its second both."""
    recording = Recording(
        store, 4, "streaming", ("whole", "streamed"), "wait_ms", kind="simulated", blocks=6
    )
    for block in range(1, 7):
        if block == 4:
            first_go = Call(2600, out=170, usd=0.002)
            recording.trial(4, "whole", [first_go], quality=0.0)
            cut = ("cancelled", "The run was stopped.")
            stopped = [Call(700, 500, out=None, fresh=None, error=cut, status=None)]
            recording.trial(4, "streamed", stopped, outcome="cancelled", error=cut)
            recording.session(after_s=900, error_ms=0.9)
        attempt = 2 if block == 4 else 1
        whole = Call(2300 + wobble(block, 4, 120), out=171, usd=0.002)
        recording.trial(block, "whole", [whole], attempt=attempt)
        streamed = Call(2320 + wobble(block, 5, 110), 400 + wobble(block, 6, 60), out=172)
        streamed.usd = 0.0021
        recording.trial(block, "streamed", [streamed], attempt=attempt)
    return recording


def caching_troubled(store: Store) -> Recording:
    """Refused, timed out, cancelled, retried, and in the wrong cache state."""
    recording = Recording(
        store,
        5,
        "caching",
        ("uncached", "first use", "cached"),
        "ttft_ms",
        headline="cached",
        kind="live",
        blocks=9,
        models={"small": CLAUDE},
        status="failed",
        config={"deadline_s": 30},
        note="the network was <not> well",
    )
    busy = ("overloaded_error", "Overloaded (529): the API is over capacity.")
    late = ("timeout", "No answer within 30 s.")
    limited = ("rate_limit_error", "This request would exceed your rate limit | of 50 a minute.")
    stopped = ("cancelled", "The run was stopped.")
    for block in range(1, 10):
        first = 1400 + wobble(block, 1, 100)
        uncached = Call(first + 500, first, model=CLAUDE, fresh=3040, usd=0.00316)
        uncached.out = 22 + block % 3
        if block == 6:
            timeout = [Call(30000, 1, fresh=None, out=None, error=late, status=None)]
            recording.trial(block, "uncached", timeout, outcome="failed", error=late)
        elif block == 2:
            refused = Call(90, 1, fresh=None, out=None, error=busy, status=529)
            uncached.at, uncached.attempt = 1200, 2
            recording.trial(block, "uncached", [refused, uncached])
        else:
            recording.trial(block, "uncached", [uncached])
        first = 1500 + wobble(block, 2, 100)
        write = Call(first + 520, first, model=CLAUDE, intended="write", written=3000, usd=0.0039)
        if block == 9:
            cut = [Call(400, 1, fresh=None, out=None, error=stopped, status=200)]
            recording.trial(block, "first use", cut, outcome="cancelled", error=stopped)
        else:
            recording.trial(block, "first use", [write])
        prime = Call(1900, 1700, -2500, "prime", model=CLAUDE, intended="write", written=3000)
        prime.usd, prime.out = 0.00382, 1
        first = 600 + wobble(block, 3, 60)
        read = Call(first + 480 + block, first, model=CLAUDE, intended="read", read=3000)
        read.usd = 0.00046
        if block in (3, 8):
            read.read, read.fresh, read.usd = 0, 3040, 0.00316
            read.more = {"diagnosis": "changed", "missed_cache_tokens": 3000}
            missed = ("mismatch", "meant to read the cache, and the endpoint reported none")
            recording.trial(block, "cached", [prime, read], outcome="mismatch", error=missed)
        elif block in (5, 7, 9):
            error, status = (busy, 529) if block == 7 else (limited, 429)
            refused = Call(80, 1, fresh=None, out=None, error=error, status=status)
            recording.trial(block, "cached", [prime, refused], outcome="failed", error=error)
        else:
            recording.trial(block, "cached", [prime, read], quality=None)
    return recording


def side_by_side(store: Store) -> Recording:
    """Arms of two techniques in the same blocks."""
    arms = ("streaming.whole", "streaming.streamed", "caching.cached")
    knobs = {"streaming": {"answer_tokens": 200}, "caching": {"answer_tokens": 48}}
    recording = Recording(
        store,
        6,
        "side-by-side",
        arms,
        "total_ms",
        headline="streamed",
        blocks=7,
        config={"arms": list(arms)},
        knobs=knobs,
    )
    for block in range(1, 8):
        whole = Call(2100 + wobble(block, 1, 80), out=80, usd=0.002)
        recording.trial(block, "whole", [whole])
        streamed = Call(2105 + wobble(block, 2, 80), 350 + block, out=80, usd=0.0021)
        recording.trial(block, "streamed", [streamed])
        cached = Call(900 + wobble(block, 3, 50), 260 + block, intended="read", read=600, out=80)
        cached.usd = 0.0008
        recording.trial(block, "cached", [cached], quality=0.5 if block % 2 else 1.0)
    return recording


def parallel_tools(store: Store) -> Recording:
    """A turn that asks for four tools, the tools, and the answer."""
    recording = Recording(
        store,
        7,
        "parallelism",
        ("sequential tools", "parallel tools"),
        "total_ms",
        models={"small": SMALL, "large": LARGE},
        knobs={"suite": "tools", "n": 4, "service_ms": 600},
    )
    names = ("weather", "tide", "berths", "fuel")
    for block in range(1, 9):
        for arm in ("sequential tools", "parallel tools"):
            turn = 800 + wobble(block, 1 if arm[0] == "s" else 2, 60)
            spans, at = [], turn + 2
            for place, name in enumerate(names):
                took = 600 + place * 3 + wobble(block, place, 2)
                spans.append(Span("tool", name, at, took))
                at += took + 1 if arm[0] == "s" else 0.5
            done = max(span.at + span.total for span in spans) + 2
            asked = Call(turn, 500, role="tool_turn", model=LARGE, out=64)
            answer = Call(700 + wobble(block, 3, 40), 260, at=done, model=LARGE, fresh=310, out=40)
            recording.trial(block, arm, [asked, answer], tuple(spans), quality=float(block != 4))
    return recording


def model_routing(store: Store) -> Recording:
    """Five arms, two models, a classifier, a cascade with a judge; nothing has a price."""
    arms = ("large only", "small only", "routed", "cascade", "oracle")
    models = {"small": SMALL, "large": LARGE}
    recording = Recording(
        store, 8, "routing", arms, "total_ms", headline="routed", blocks=7, models=models
    )
    for block in range(1, 8):
        easy = block % 3 != 0
        task = f"reasoning-{block}"
        took = {"small": 900 + wobble(block, 1, 70), "large": 2600 + wobble(block, 2, 150)}

        def answer(tier, at=0.0, took=took):
            model = models[tier]
            return Call(took[tier], took[tier] / 3, at=at, model=model, out=60)

        def route(tier, at=0.0):
            return Span("route", tier, at, 0)

        right = float(easy or block == 6)
        large, small = answer("large"), answer("small")
        recording.trial(block, "large only", [large], (route("large"),), task=task)
        recording.trial(block, "small only", [small], (route("small"),), task=task, quality=right)
        tier = "small" if easy and block != 4 else "large"
        prime = Call(400, 300, -600, "prime", intended="write", written=500, out=1)
        sorts = Call(180 + block, 120, role="classify", intended="read", read=500, out=6)
        calls = [prime, sorts, answer(tier, sorts.total + 1)]
        routed = (route(tier, sorts.total + 1),)
        recording.trial(block, "routed", calls, routed, task=task)
        draft = answer("small")
        draft.role, draft.name = "worker", "draft"
        judge = Call(300, 200, at=draft.total + 4000, role="check", out=4)
        if easy:
            spans, calls = (route("small", draft.total),), [draft, judge]
        else:
            spans = (route("large", draft.total + 1),)
            calls = [draft, answer("large", draft.total + 1), judge]
        recording.trial(block, "cascade", calls, spans, task=task, quality=right)
        tier = "small" if easy else "large"
        recording.trial(block, "oracle", [answer(tier)], (route(tier),), task=task)
    return recording


def agent_topology(store: Store) -> Recording:
    """One agent; a supervisor whose workers are joined; a pipeline."""
    arms = ("flat", "hierarchical", "pipeline")
    recording = Recording(
        store, 9, "topology", arms, "total_ms", headline="hierarchical", kind="simulated", blocks=7
    )
    for block in range(1, 8):
        took = 500 + wobble(block, 1, 40)
        turn = Call(took, 200, role="tool_turn", name="agent", usd=0.0004)
        tools = [Span("tool", "weather", took + 1, 300), Span("tool", "fuel", took + 302, 280)]
        last = Call(900 + wobble(block, 2, 50), 250, at=took + 583, name="agent", out=70, usd=0.001)
        recording.trial(block, "flat", [turn, last], tuple(tools))
        plan = Call(400, 150, role="plan", name="supervisor", out=20, usd=0.0003)
        join = Span("join", "workers", 401, 0)
        calls, spans = [plan], [join]
        for place, name in enumerate(("sea", "shore")):
            took = 450 + place * 60 + wobble(block, place, 30)
            calls.append(Call(took, 180, 401, "tool_turn", name, parent="workers", usd=0.0003))
            tool = Span("tool", f"{name} tool", 401 + took + 1, 250, "workers")
            report = Call(380, 140, 401 + took + 252, "worker", name, parent="workers", usd=0.0005)
            calls.append(report)
            spans.append(tool)
            join.total = max(join.total, took + 252 + 380)
        calls.append(Call(600, 200, 401 + join.total + 1, name="supervisor", out=60, usd=0.0009))
        quality = 0.0 if block in (2, 5) else 1.0
        recording.trial(block, "hierarchical", calls, tuple(spans), quality=quality)
        calls, at = [], 0.0
        for place, name in enumerate(("sea", "shore")):
            took = 700 + wobble(block, place + 3, 60)
            calls.append(Call(took, 300, at, "worker", name, usd=0.0006))
            at += took + 1
        calls.append(Call(650, 220, at, name="writer", out=60, usd=0.0009))
        recording.trial(block, "pipeline", calls)
    return recording


def same_thing_twice(store: Store) -> Recording:
    """A difference of nothing."""
    recording = Recording(store, 10, "aa", ("a", "b"), "ttft_ms", blocks=12)
    for block in range(1, 13):
        for arm in ("a", "b"):
            salt = 1 if arm == "a" else 2
            first = 500 + wobble(block, 0, 40) + wobble(block, salt, 4)
            recording.trial(
                block,
                arm,
                [Call(first + 400 + wobble(block, salt + 2, 6), first, usd=0.0005 + salt * 1e-5)],
                quality=None,
            )
    return recording


def caching_forty(store: Store) -> Recording:
    """All four arms; the baseline grows slower by 6 ms a block, and one arm is a little dearer."""
    arms = ("uncached", "first use", "cached", "pre-warmed")
    recording = Recording(
        store,
        11,
        "caching",
        arms,
        "ttft_ms",
        headline="cached",
        kind="simulated",
        blocks=40,
        text=None,
    )
    for block in range(1, 41):
        first, rest = 800 + block * 6 + wobble(block, 1, 60), 350 + wobble(block, 5, 12)
        uncached = Call(first + rest, first, fresh=640, out=24 + block % 5, usd=0.00071)
        recording.trial(block, "uncached", [uncached])
        first, rest = 880 + block * 6 + wobble(block, 2, 60), 358 + wobble(block, 6, 9)
        write = Call(first + rest, first, intended="write", written=600, usd=0.00086)
        recording.trial(block, "first use", [write])
        for arm, salt in (("cached", 3), ("pre-warmed", 4)):
            out = 1 if arm == "cached" else 0
            prime = Call(700, 650 if out else None, -1500, "prime", intended="write", written=600)
            prime.out, prime.usd = out, 0.00076 + salt * 1e-5
            first = 250 + wobble(block, salt, 25) + (400 if block == 17 and out else 0)
            rest = 341 + salt + wobble(block, salt + 4, 11)
            read = Call(first + rest, first, intended="read", read=600, usd=0.00018)
            read.out = 25 + block % salt
            if block == 23:
                read.read, read.written = 500, 100
            recording.trial(block, arm, [prime, read], quality=float(block % 10 != salt))
    return recording


def own_requests(store: Store) -> Recording:
    """Arms that a user has named, whose words are kept out of every telling; taken from a file."""
    bodies = [{"name": "a|b"}, {"name": "<i>short</i>", "system": "a secret word"}]
    recording = Recording(
        store,
        12,
        "ab",
        ("a|b", "<i>short</i>"),
        "wait_ms",
        blocks=6,
        text=None,
        config={"tasks": [{"prompt": "a secret question"}]},
        knobs={"bodies": json.dumps(bodies), "answer_tokens": 64},
        name="mine *and* theirs",
        imported_from="colleague.duckdb",
    )
    for block in range(1, 7):
        first = 500 + wobble(block, 1, 30)
        recording.trial(block, "a|b", [Call(first + 300, first, usd=0.0004)], quality=None)
        first += 60 + wobble(block, 2, 10)
        recording.trial(block, "<i>short</i>", [Call(first + 90, first, usd=0.0003)], quality=None)
    return recording


def one_arm(store: Store) -> Recording:
    """A function of the user's own, measured alone: nothing to compare with."""
    recording = Recording(store, 13, "agents", ("mine",), "total_ms", kind="simulated", blocks=6)
    for block in range(1, 7):
        first = Call(400 + block, 200, usd=0.0002)
        second = Call(300 + block, 150, at=450 + block, usd=0.0002)
        recording.trial(block, "mine", [first, second])
    return recording


def all_missed(store: Store) -> Recording:
    """A server that caches by itself and says nothing of it: no trial of one arm counts."""
    recording = Recording(
        store,
        14,
        "caching",
        ("uncached", "cached"),
        "ttft_ms",
        kind="live",
        blocks=3,
        models={"small": "their-model"},
        status="failed",
    )
    missed = ("mismatch", "meant to read the cache, and the endpoint reported no cache use")
    for block in range(1, 4):
        first = 700 + block
        uncached = Call(first + 200, first, model="their-model", fresh=600)
        uncached.read = 40 if block == 2 else 0
        recording.trial(block, "uncached", [uncached])
        cached = Call(first + 180, first - 20, model="their-model", intended="read", fresh=640)
        recording.trial(block, "cached", [cached], outcome="mismatch", error=missed)
    return recording


RECORDINGS = (
    caching_eight,
    streaming_simulated,
    streaming_live,
    streaming_resumed,
    caching_troubled,
    side_by_side,
    parallel_tools,
    model_routing,
    agent_topology,
    same_thing_twice,
    caching_forty,
    own_requests,
    one_arm,
    all_missed,
)
RUNS = {record.__name__: place for place, record in enumerate(RECORDINGS, start=1)}
"""Each run by name, with its number."""
KINDS = ("live", "local", "simulated")
ARMS = {
    "caching_eight": ("uncached", "cached"),
    "streaming_simulated": ("whole", "streamed"),
    "streaming_live": ("whole", "streamed"),
    "streaming_resumed": ("whole", "streamed"),
    "caching_troubled": ("uncached", "cached"),
    "side_by_side": ("streaming.whole", "caching.cached"),
    "parallel_tools": ("sequential tools", "parallel tools"),
    "model_routing": ("large only", "routed"),
    "agent_topology": ("flat", "hierarchical"),
    "same_thing_twice": ("a", "b"),
    "caching_forty": ("uncached", "cached"),
    "own_requests": ("a|b", "<i>short</i>"),
    "one_arm": ("mine", "mine"),
    "all_missed": ("uncached", "cached"),
}
"""What `check` asks about."""


def run_id(run: str) -> str:
    return f"{0x01930000 + RUNS[run]:08x}-0000-7000-8000-000000000001"


@contextmanager
def recorded() -> Iterator[Path]:
    """All runs in a database of their own, and a folder to write to; the variables point there."""
    with tempfile.TemporaryDirectory(prefix="lab-golden-") as name:
        folder = Path(name)
        variables = {
            "LAB_DB": str(folder / "lab.duckdb"),
            "LAB_RUNTIME": str(folder / "runtime"),
            "LAB_SETTINGS": str(folder / "settings"),
            "LAB_IGNORE_KEYS": "1",
            "COLUMNS": "120",
            "PATH": str(folder),  # no browser there: a chart is told as HTML
        }
        with mock.patch.dict(os.environ, variables):
            for name in ("BROWSER_PATH", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
                os.environ.pop(name, None)
            store = Store()
            assert store.write_trials(
                [row for record in RECORDINGS for row in record(store).finished]
            )
            store.close()
            # Reading a run takes most of a command's time: one reading serves them all.
            read = cache(results.read)
            with mock.patch.object(results, "read", lambda reference, store=None: read(reference)):
                yield folder


# Tellings


def command(*words: str, folder: Path | None = None) -> str:
    """What a command says and how it ends; the folder it writes to is called OUT."""
    out, error = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        code = main(list(words))
    text = out.getvalue() + ("" if not error.getvalue() else f"stderr:\n{error.getvalue()}")
    text = text.replace(str(folder), "OUT") if folder else text
    return f"{text}exit {code}\n"


def show(run: str, folder: Path) -> dict[str, str]:
    """`show` with all it can write: one reading of the run serves four tellings."""
    kinds = "console,json,markdown,chart" if run in DRAWN else "console,json,markdown"
    words = ("--details", "--output", kinds, "--out", str(folder))
    told = {"show": command("show", run_id(run), *words, folder=folder)}
    files = [folder / f"{run_id(run)}.{kind}" for kind in ("json", "md")]
    written, told["markdown"] = (path.read_text(encoding="utf-8") for path in files)
    printed, _, end = command("show", run_id(run), "--json").rpartition("\nexit ")
    written, printed = (rounded(json.loads(text), 12) for text in (written, printed))
    assert written == printed
    told["json"] = laid_out(printed, sort=True) + f"\nexit {end}"
    if run not in DRAWN:
        return told
    for name in CHARTS:
        page = (folder / run_id(run) / f"{name}.html").read_text(encoding="utf-8")
        drawn = "".join(f"{laid_out(figure)}\n" for figure in figures(page))
        told["chart"] = told.get("chart", "") + f"{name}\n{drawn}"
    shutil.rmtree(folder / run_id(run))
    return told


def report(run: str, folder: Path) -> str:
    """The page's words in their order, each figure's marks, and what the race replays."""
    path = folder / "report.html"
    told = command("report", run_id(run), "--out", str(path), folder=folder)
    page = path.read_text(encoding="utf-8")
    words = Words()
    words.feed(page)
    race = [rounded(json.loads(text), 9) for text in words.data]
    marks = "".join(f"{laid_out(value)}\n" for value in [*figures(page), *race])
    return f"{told}\n{words.text()}\n\n{marks}"


def export(run: str, folder: Path) -> str:
    """Every file of `export --format csv`: a line for each column, its first values and a digest of
    all."""
    words = ("export", "--format", "csv", "--run", run_id(run), "--out", str(folder))
    told = command(*words, folder=folder)
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        ids = [
            name
            for name in ("run_id", "trial_id", "call_id", "span_id", "seq")
            if rows and name in rows[0]
        ]
        rows.sort(key=lambda row: [row[name] for name in ids])
        told += f"\n{path.stem}: {len(rows)} rows\n"
        for name in rows[0] if rows else ():
            told += f"{path.stem}.{name}: {column([as_number(row[name]) for row in rows])}\n"
        path.unlink()
    return told


KEYS = ("run_id", "session_id", "trial_id", "call_id", "span_id", "seq")


def trace(run: str, folder: Path) -> str:
    """`trace --to file`: how many spans of which name, a digest of all, and the first trial's."""
    path = folder / "traces.jsonl"
    told = command("trace", run_id(run), "--to", "file", "--out", str(path), folder=folder)
    spans, text, decoder = [], path.read_text(encoding="utf-8").strip(), json.JSONDecoder()
    while text:
        span, end = decoder.raw_decode(text)
        attributes = span["resource"]["attributes"]
        span["resource"] = {name: attributes[name] for name in ("service.name", "lab.run_id")}
        spans.append(json.dumps(rounded(span, 12), sort_keys=True))
        text = text[end:].lstrip()
    told += f"{len(spans)} spans, {digest(sorted(spans))}\n"
    first = min(json.loads(span)["context"]["trace_id"] for span in spans)
    return told + "".join(
        f"{laid_out(json.loads(span))}\n"
        for span in sorted(spans)
        if json.loads(span)["context"]["trace_id"] == first
    )


def check(run: str, folder: Path) -> str:
    return command("check", run_id(run), *requirements(run))


def requirements(run: str) -> list[str]:
    base, arm = ARMS[run]
    asked = [
        "p50 total_ms < 1500",
        f"{arm} p95 ttft_ms < 700 ms",
        f"{arm} median wait_ms > 0.4 s",
        f"{base} p50 tokens_per_s >= 20",
        f"{base} p50 quality >= 50%",
        f"{arm} faster than {base}",
        f"{arm} faster than {base} by 30% on total_ms",
        f"{arm} not slower than {base} by 20 ms on wait_ms",
    ]
    return [word for text in asked for word in ("--require", text)]


PER_RUN = {"report": report, "export": export, "trace": trace, "check": check}
SHOWN = ("show", "json", "markdown", "chart")


def runs(folder: Path) -> str:
    return command("runs") + command("runs", "--technique", "caching", "--limit", "2")


def compare(folder: Path) -> str:
    """Runs held against an earlier one: alike in kind, of other kinds, and without a common arm."""
    asked = ("p50 ttft_ms worse by 10%", "p95 total_ms worse by 50 ms", "p50 quality worse by 5%")
    words = [word for text in asked for word in ("--fail-if", text)]
    pairs = (
        ("streaming_simulated", "streaming_resumed"),
        ("streaming_resumed", "streaming_simulated"),
        ("caching_eight", "side_by_side"),
        ("streaming_live", "streaming_simulated"),
        ("caching_troubled", "all_missed"),
        ("same_thing_twice", "parallel_tools"),
    )
    told = ""
    for base, new in pairs:
        told += f"{base}, {new}\n" + command("compare", run_id(base), run_id(new), *words)
    return told


def in_json(folder: Path) -> str:
    """The commands that print an object, each once."""
    asked = (
        ("runs", "--json"),
        ("check", run_id("caching_troubled"), *requirements("caching_troubled"), "--json"),
        ("compare", run_id("streaming_simulated"), run_id("streaming_resumed"), "--json"),
    )
    told = ""
    for words in asked:
        words += ("--fail-if", "p50 wait_ms worse by 10%") if words[0] == "compare" else ()
        text, _, end = command(*words).rpartition("\nexit ")
        told += f"{words[0]}: {laid_out(rounded(json.loads(text), 12), sort=True)}\nexit {end}"
    return told


OVERALL = {"runs": runs, "compare": compare, "json": in_json}
DRAWN = ("caching_eight", "caching_troubled", "side_by_side", "model_routing")
"""Runs whose charts are told; the report has the same figures of every run."""
CHARTS = ("waterfall", "distribution", "pairs")
"""The files that --output chart has always written; it may write more."""
TRACED = ("streaming_live", "caching_troubled", "parallel_tools", "agent_topology")
PAIRS = [
    (run, telling)
    for run in RUNS
    for telling in (*SHOWN, *PER_RUN)
    if (telling != "chart" or run in DRAWN) and (telling != "trace" or run in TRACED)
]
PAIRS += [("all", telling) for telling in OVERALL]


def tell(run: str, telling: str, folder: Path, shown: dict[str, dict[str, str]]) -> str:
    """`shown` keeps what is told of a run in one go, from one call to the next."""
    if run == "all":
        return OVERALL[telling](folder)
    if telling not in SHOWN:
        return PER_RUN[telling](run, folder)
    if run not in shown:
        shown[run] = show(run, folder)
    return shown[run][telling]


def golden(run: str, telling: str) -> Path:
    return GOLDEN / run / f"{telling}.txt"


def difference(old: str, new: str) -> str:
    """From the golden telling to another, only the lines that differ."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "golden", "now", "", "", 0, "")
    return "".join(f"{line}\n" for line in lines)


# Texts that a reader can compare


def rounded(value: Any, digits: int) -> Any:
    """Floats to so many significant digits: DuckDB takes its sums in any order."""
    if isinstance(value, dict):
        return {name: rounded(part, digits) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part, digits) for part in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def laid_out(value: Any, indent: int = 0, sort: bool = False) -> str:
    """JSON with a line for each thing that fits on one."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=sort)
    parts = list(value.values() if isinstance(value, dict) else value) if text[0] in "{[" else []
    if len(text) + indent <= 100 or not any(isinstance(part, (dict, list, str)) for part in parts):
        return text
    pad = " " * (indent + 1)
    if isinstance(value, list):
        lines = [pad + laid_out(part, indent + 1, sort) for part in value]
    else:
        names = sorted(value) if sort else value
        lines = [
            f"{pad}{json.dumps(name)}: {laid_out(value[name], indent + 1, sort)}" for name in names
        ]
    return text[0] + "\n" + ",\n".join(lines) + f"\n{' ' * indent}{text[-1]}"


def as_number(text: str) -> str:
    return f"{float(text):.12g}" if re.fullmatch(r"-?\d+(\.\d+)?e-?\d+|-?\d+\.\d+", text) else text


def digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def column(values: list[str], most: int = 4) -> str:
    if len(set(values)) == 1:
        return f"always {values[0]}"
    few = ", ".join(values[:most])
    return few if len(values) <= most else f"{few} … {digest(values)}"


TRACE = ("type", "name", "mode", "orientation", "x", "y", "base", "width", "text", "customdata")
TRACE += ("hovertemplate", "hovertext", "hoverinfo", "error_x", "error_y", "marker", "line")
AXIS = ("title", "type", "tickvals", "ticktext", "ticksuffix", "tickprefix", "range")
MARKS = ("color", "symbol", "dash", "pattern", "array", "arrayminus", "symmetric")


def figures(page: str) -> Iterator[dict[str, Any]]:
    """Each figure in a page: its titles, axes, notes and marks, without the theme."""
    for match in re.finditer(r"Plotly\.newPlot\(\s*", page):
        values, at = [], match.end()
        for _ in range(3):
            value, at = json.JSONDecoder().raw_decode(page, at)
            values.append(value)
            at = re.compile(r"\s*,?\s*").match(page, at).end()
        _, traces, layout = values
        yield {
            "title": layout.get("title"),
            "axes": {
                name: rounded({key: axis[key] for key in AXIS if key in axis}, 9)
                for name, axis in sorted(layout.items())
                if re.fullmatch(r"[xy]axis\d*", name)
            },
            "notes": [note["text"] for note in layout.get("annotations", [])],
            "traces": [plain_trace(trace) for trace in traces],
        }


def plain_trace(trace: dict[str, Any]) -> dict[str, Any]:
    plain = {name: unpacked(trace[name]) for name in TRACE if name in trace}
    for name in ("text", "customdata", "hovertext"):
        if isinstance(plain.get(name), list):
            plain[name] = column([json.dumps(part, ensure_ascii=False) for part in plain[name]], 6)
    for name in ("marker", "line", "error_x", "error_y"):
        if name in plain:
            plain[name] = {key: plain[name][key] for key in MARKS if key in plain[name]}
    return rounded(plain, 9)


def unpacked(value: Any) -> Any:
    """Plotly sends arrays of numbers as base64."""
    import numpy as np

    if isinstance(value, dict) and "bdata" in value:
        array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
        shape = [int(size) for size in str(value.get("shape", array.size)).split(",")]
        return (
            [None if item != item else item for item in array.tolist()]
            if len(shape) == 1
            else (array.reshape(shape).tolist())
        )
    if isinstance(value, dict):
        return {name: unpacked(part) for name, part in value.items()}
    return [unpacked(part) for part in value] if isinstance(value, list) else value


class Words(HTMLParser):
    """What a page says, a line for each paragraph, heading, row or figure; and its JSON scripts."""

    ENDS = frozenset({"p", "h1", "h2", "h3", "tr", "div", "pre", "li", "summary", "title"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = [""]
        self.data: list[str] = []
        self.inside: str | None = None

    def handle_starttag(self, tag, attributes) -> None:
        of = dict(attributes)
        if tag in ("script", "style"):
            self.inside = "data" if of.get("type") == "application/json" else tag
        if tag in self.ENDS:
            self.lines.append("")
        if tag in ("td", "th"):
            self.lines[-1] += " | "
        if of.get("aria-label"):
            self.lines.append(f"[{of.get('role')}] {of['aria-label']}")
            self.lines.append("")

    def handle_endtag(self, tag) -> None:
        if tag in ("script", "style"):
            self.inside = None
        if tag in self.ENDS:
            self.lines.append("")

    def handle_data(self, data) -> None:
        if self.inside == "data":
            self.data.append(data)
        elif self.inside is None:
            self.lines[-1] += data

    def text(self) -> str:
        return "\n".join(" ".join(line.split()) for line in self.lines if line.strip())


def write(asked: list[str], named: bool) -> None:
    pairs = [pair for pair in PAIRS if not asked or pair[0] in asked or "/".join(pair) in asked]
    if named:
        from tests.test_golden import NAMED

        pairs = [pair for pair in pairs if pair in NAMED]
    with recorded() as folder:
        shown = {}
        for run, telling in pairs:
            path, text = golden(run, telling), tell(run, telling, folder, shown)
            if named:
                old = path.read_text(encoding="utf-8")
                path.with_suffix(".diff").write_text(difference(old, text), encoding="utf-8")
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    flag, *asked = sys.argv[1:] or ["--help"]
    if flag not in ("--write", "--named"):
        raise SystemExit(__doc__)
    write(asked, named=flag == "--named")
