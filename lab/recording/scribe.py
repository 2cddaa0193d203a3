"""What was seen of one call of the user's application, made into rows: the one way in, whoever saw
it (recorder, client, importer)."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lab import pricing
from lab.model import OBSERVED, new_id
from lab.recording import shape
from lab.recording.shape import Block, Hasher, Prompt
from lab.rows import (
    CallRow,
    EventRow,
    FinishedTrial,
    RecordedBlockRow,
    RecordedCallRow,
    SpanRow,
    TrialRow,
)

ARM = "recorded"
REMEMBERED = 256
"""Prompts that a new one may follow: those of the last calls."""
ORIGIN_UTC = datetime(2024, 1, 1, tzinfo=UTC)
"""Of the clock of everything imported: the start of its one session."""
NAMES = uuid.UUID("6f1c8a52-3d0e-4b7a-9d55-0f2a7c1e9b40")


def offset_ns(at: datetime) -> int:
    """A source's wall clock as nanoseconds from the origin of an imported session."""
    return round((at - ORIGIN_UTC).total_seconds() * 1e6) * 1000


def known_id(*parts: str) -> str:
    """The same id for the same call of the same source, so that a second import adds nothing."""
    return str(uuid.uuid5(NAMES, "\0".join(parts)))


@dataclass(slots=True)
class ToolSeen:
    """One tool call of an answer, where the source knows when it ran. ns offsets."""

    name: str
    started_ns: int
    ended_ns: int | None


@dataclass(slots=True)
class Seen:
    """One request to /v1/messages and what came back, as far as the source knows: what it does not
    know is None, never guessed."""

    started_utc: datetime
    started_ns: int
    """Offset from the session's origin."""
    body: Mapping[str, Any] | None = None
    """The request; where only a part is known (a transcript's messages), that part."""
    prompt: Prompt | None = None
    """The shape of the request, where the source makes it piece by piece as a conversation grows;
    else it is made of `body`."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """With `prompt`: what its new blocks say, by their hashes, for their pieces."""
    is_whole: bool = True
    """Whether `body` is the whole request: of a part no cause can be told."""
    betas: str = ""
    content: Sequence[Mapping[str, Any]] | None = None
    """The answer's blocks."""
    reply: Sequence[Block] | None = None
    """Their shapes, where the source makes them; else they are made of `content`."""
    call: dict[str, Any] = field(default_factory=dict)
    """Columns of `calls` that are known: instants (ns offsets), tokens, model, message_id, …"""
    usage: Mapping[str, Any] = field(default_factory=dict)
    """As the API reported it; the token columns and the price are made from it."""
    events: Sequence[EventRow] = ()
    """call_id and run_id are filled in here."""
    tools: Sequence[ToolSeen] = ()
    conversation: str | None = None
    """The source's own name for it (a session header, a transcript's session); kept as a hash."""
    agent: str | None = None
    """A sub-agent's own name, kept as a hash; None of the main one."""
    recorded: dict[str, Any] = field(default_factory=dict)
    """Columns of `recorded_calls`: the application's side, what the recorder added, a note."""
    id: str | None = None
    """known_id(…) of an import; None makes a new one."""


class Scribe:
    """Makes rows of what is seen, in the order of the calls. Not for two threads at once."""

    def __init__(
        self,
        run_id: str,
        session_id: str,
        source: str,
        endpoint: str,
        hasher: Hasher,
        *,
        keep_text: bool = False,
        priced: bool = True,
        first_block: int = 1,
    ) -> None:
        self.run_id, self.session_id, self.source, self.endpoint = (
            run_id,
            session_id,
            source,
            endpoint,
        )
        self.hasher, self.keep_text, self.priced = hasher, keep_text, priced
        self.block = first_block
        self._prompts: OrderedDict[str, tuple[int, tuple[Block, ...]]] = OrderedDict()
        """By call_id: when it started, and its blocks."""
        self._known: set[str] = set()
        """Hashes of blocks whose pieces this recording has."""

    def rows(self, seen: Seen) -> FinishedTrial:
        """One call as rows; the scrubber goes over them afterwards (lab.scrub.trial)."""
        trial_id = seen.id or new_id()
        ids = {"trial_id": trial_id, "run_id": self.run_id, "session_id": self.session_id}
        call = self._call(seen, ids)
        ended_ns = call.ended_ns
        cancelled = call.error_kind == "cancelled"
        outcome = "cancelled" if cancelled else "failed" if call.error_kind else "ok"
        trial = TrialRow(
            **ids,
            technique=OBSERVED,
            arm=ARM,
            block=self.block,
            position=0,
            attempt=1,
            phase="observed",
            task_id=None,
            started_utc=seen.started_utc,
            started_ns=seen.started_ns,
            ended_ns=ended_ns,
            outcome=outcome,
            error_kind=call.error_kind,
            cost_usd=call.cost_usd,
        )
        self.block += 1
        root = SpanRow(new_id(), *ids.values(), None, "trial", ARM, seen.started_ns, ended_ns)
        spans = [
            root,
            SpanRow(
                call.span_id, *ids.values(), root.span_id, "call", "call", seen.started_ns, ended_ns
            ),
        ]
        spans += [
            SpanRow(
                new_id(),
                *ids.values(),
                root.span_id,
                "tool",
                tool.name[:200],
                tool.started_ns,
                tool.ended_ns,
            )
            for tool in seen.tools
        ]
        for event in seen.events:
            event.call_id, event.run_id = call.call_id, self.run_id
            event.text = event.text if self.keep_text else None
        recorded, blocks = self._recorded(seen, call.call_id, ids)
        return FinishedTrial(trial, [call], spans, list(seen.events), [recorded], blocks)

    def _call(self, seen: Seen, ids: dict[str, str]) -> CallRow:
        usage, known = seen.usage, dict(seen.call)
        short, long = pricing.cache_writes(usage) if usage else (None, None)
        asked = str((seen.body or {}).get("model") or known.get("served_model") or "?")
        model = str(known.pop("model", None) or asked)
        served = known.get("served_model")
        cost = None
        if usage and self.priced:
            day = seen.started_utc.date()
            cost = pricing.cost_usd(pricing.priced_as(model, served, day), usage, day)
        if not self.keep_text:
            known.pop("error_text", None)  # a server may quote what it was sent
        details = usage.get("output_tokens_details") or {}
        return CallRow(
            **{
                "call_id": known_id(ids["trial_id"], "call") if seen.id else new_id(),
                **ids,
                "span_id": known_id(ids["trial_id"], "span") if seen.id else new_id(),
                "role": "answer",
                "attempt": 1,
                "endpoint": self.endpoint,
                "model": model,
                "intended_cache": "any",
                "started_ns": seen.started_ns,
                "input_tokens": usage.get("input_tokens"),
                "cache_read_tokens": usage.get("cache_read_input_tokens"),
                "cache_write_5m_tokens": short,
                "cache_write_1h_tokens": long,
                "output_tokens": usage.get("output_tokens"),
                "thinking_tokens": details.get("thinking_tokens"),
                "iterations": usage.get("iterations") or None,
                "service_tier": usage.get("service_tier"),
                "speed": usage.get("speed"),
                "inference_geo": usage.get("inference_geo"),
                "cost_usd": cost,
                **known,
            }
        )

    def _recorded(
        self, seen: Seen, call_id: str, ids: dict[str, str]
    ) -> tuple[RecordedCallRow, list[RecordedBlockRow]]:
        hasher = self.hasher
        row = RecordedCallRow(
            call_id=call_id,
            **ids,
            source=self.source,
            started_utc=seen.started_utc,
            conversation=seen.conversation and hasher.text(seen.conversation),
            agent=seen.agent and hasher.text(seen.agent),
            **seen.recorded,
        )
        blocks: list[RecordedBlockRow] = []
        prompt, texts = seen.prompt, seen.texts
        if prompt is None and seen.body is not None:
            prompt, texts = shape.prompt_of(seen.body, hasher, seen.betas)
        if prompt is not None:
            row.follows, row.shared_blocks = self._follows(prompt, seen.started_ns)
            row.blocks = [list(block) for block in prompt.blocks[row.shared_blocks :]]
            row.marks = [list(mark) for mark in prompt.marks]
            row.settings = {**prompt.settings, "whole": seen.is_whole}
            self._remember(call_id, prompt, seen.started_ns)
            for hash, text in texts.items():
                # Pieces say where two blocks differ, which is asked of whole requests alone.
                if seen.is_whole and hash not in self._known:
                    self._known.add(hash)
                    kept = shape.pieces(text, hasher)
                    blocks.append(
                        RecordedBlockRow(call_id, ids["trial_id"], self.run_id, hash, kept)
                    )
        reply = seen.reply
        if reply is None and seen.content is not None:
            reply = shape.reply_of(seen.content, hasher)
        row.reply = None if reply is None else [list(block) for block in reply]
        if self.keep_text:
            if row.settings is not None and seen.betas:
                row.settings["beta_header"] = seen.betas[:1000]  # a replay needs it, not its hash
            row.body = dict(seen.body) if seen.body is not None else None
            row.answer = [dict(block) for block in seen.content] if seen.content else None
        return row, blocks

    def _follows(self, prompt: Prompt, started_ns: int) -> tuple[str | None, int]:
        """The remembered call whose prompt begins with the most of the same blocks, of those that
        started before it; the latest of several."""
        best, most = None, 0
        for call_id, (before_ns, blocks) in reversed(self._prompts.items()):
            if before_ns < started_ns and len(blocks) > most:
                count = shape.shared(blocks, prompt.blocks)
                if count > most:
                    best, most = call_id, count
        return best, most

    def _remember(self, call_id: str, prompt: Prompt, started_ns: int) -> None:
        self._prompts[call_id] = (started_ns, prompt.blocks)
        while len(self._prompts) > REMEMBERED:
            self._prompts.popitem(last=False)
