"""Transcripts of Claude Code: ~/.claude/projects/<folder>/<session>.jsonl, its sub-agents beside it
in <session>/subagents/agent-*.jsonl.

A line is a message or a part of one, and names the line that it follows (`parentUuid`): a tree,
whose branches are parallel tool calls, forks and compactions. An answer has a line a block, all
with its `message.id` and its usage, whose output tokens only grow: it is one call. A resumed or
forked session begins with a copy of the earlier lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lab.importers import instants
from lab.importers.json_files import Source, lines
from lab.importers.written_requests import Written, WrittenRequests, json_of, named
from lab.instrumentation import parsing
from lab.recording import shape
from lab.recording.scribe import Seen, ToolSeen, known_id, offset_ns
from lab.recording.shape import Block, Prompt

NAME = "claude_code"
TITLE = "Claude Code transcripts"
CANNOT = (
    "Transcripts have no first-token time: how long an answer took to begin, and what a missed"
    " token costs in seconds, cannot be told.",
    "Only newer versions of Claude Code write whole requests into them: without one, what a call"
    " read from the cache is known, and why it missed is not.",
    "They lack what Claude Code asks for itself, such as titles: its tokens and dollars are not in"
    " the sums.",
    "A tool's time runs from the answer's line to the result's, with any wait for your permission.",
)
NO_MODEL = "<synthetic>"
"""What Claude Code itself put in an answer's place."""
REQUESTS = ("api-request", "api-request-shape", "api-request-blob")
MARKS = (b'"sessionId"', b'"parentUuid"', b'"leafUuid"', b'"file-history-snapshot"')


def recognises(head: bytes) -> bool:
    start = head[:8192]
    return start.lstrip()[:1] == b"{" and b'"type"' in start and any(m in start for m in MARKS)


@dataclass(slots=True, eq=False)
class Line:
    """What is kept of a line while its file is read: structure, and no text."""

    parent: str | None
    lane: str
    at: datetime | None = None
    blocks: Sequence[Block] = ()
    """Of a user's line; those of an answer's are its answer's."""
    answer: Answer | None = None
    """What it is a part of, or brings a tool's result for."""


@dataclass(slots=True, eq=False)
class Answer:
    """One call: the lines of an answer, and what its tools gave."""

    key: str
    conversation: str
    is_repeat: bool
    """Another file has it."""
    asked: tuple[Block, ...] | None
    """The prompt; let go of once the next answer has been made of it."""
    start: datetime | None
    """When it could be asked: the user's line or the last tool's result before it."""
    first: datetime
    last: datetime
    news: list[Mapping[str, Any]]
    """Messages that came since the answer before; none unless text is kept."""
    written: Written | None = None
    texts: dict[str, str] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    """Its blocks as JSON, until its name as a message is known."""
    agent: str | None = None
    message_id: str | None = None
    request_id: str | None = None
    model: str = ""
    stop_reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    content: list[Mapping[str, Any]] = field(default_factory=list)
    tools: dict[str, ToolSeen] = field(default_factory=dict)
    results: list[Line] = field(default_factory=list)


def read(source: Source) -> Iterator[Seen]:
    known, conversations = {}, {}
    for file in sorted(source.files, key=_age):
        yield from Transcript(source, known, conversations).calls(file)


def _age(file: Path) -> tuple[bool, float, str]:
    """Sessions before their sub-agents, and an original before its copies."""
    return "subagents" in file.parts, file.stat().st_mtime, str(file)


class Transcript:
    """One file. `known` has the answers of all files so far, with the conversation of each;
    `conversations`, by the name of a resumed session, the one that it goes on with."""

    def __init__(
        self, source: Source, known: dict[str, str], conversations: dict[str, str]
    ) -> None:
        self.source, self.known, self.conversations = source, known, conversations
        self.lines: dict[str, Line] = {}
        self.answers: dict[str, Answer] = {}
        self.keys: dict[str, str] = {}
        """Of answers, by what all lines of one file name one by."""
        self.uses: dict[str, Answer] = {}
        """By the id of a tool_use."""
        self.waiting: dict[str, Answer] = {}
        """By its lane (the main one is ""), the answer whose lines may go on."""
        self.news: dict[str, list[Mapping[str, Any]]] = {}
        self.failed: dict[str, str] = {}
        """By a failed attempt's line, that of what was being answered, …"""
        self.retried: dict[str, datetime] = {}
        """… and by that when Claude Code was to try again."""
        self.requests = WrittenRequests(source.hasher, source.keep_text)
        self.has_stops, self.last = False, None

    def calls(self, file: Path) -> Iterator[Seen]:
        for line in lines(file, self.source):
            try:
                seen = self._take(line)
            except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
                self.source.leave_out("lines of another shape")
            except RecursionError:
                self.source.leave_out("lines nested too deeply")
            else:
                if seen:
                    yield seen
        for answer in self.waiting.values():
            # Every answer of a version that writes stop reasons ends with one, if it ends.
            if self.has_stops and answer.stop_reason is None and answer is self.last:
                self.source.leave_out("answers that were still being written")
            elif seen := self._seen(answer):
                yield seen

    def _take(self, line: Mapping[str, Any]) -> Seen | None:
        """What became complete with this line."""
        uuid, parent = line.get("uuid"), line.get("parentUuid")
        if line.get("type") in REQUESTS:
            if before := self.waiting.get(str(line.get("agentId") or "")):
                self._learn(before)  # it is a message of what is asked next
            self.requests.take(line)
            return None
        if not isinstance(uuid, str) or uuid in self.lines:
            return None
        before = self.lines.get(parent) if isinstance(parent, str) else None
        lane = line.get("agentId") or (before.lane if before else "")
        if line.get("isSidechain") and not lane:
            lane = uuid
        row = self.lines[uuid] = Line(parent if before else None, str(lane))
        kind, self.last = line.get("type"), None
        if kind == "user":
            self._ask(row, line)
        elif kind == "assistant" and line.get("isApiErrorMessage"):
            return self._failure(uuid, row, line)
        elif kind == "assistant":
            return self._answer(row, line)
        elif kind == "system" and line.get("subtype") == "api_error":
            return self._failure(uuid, row, line)
        return None

    def _ask(self, row: Line, line: Mapping[str, Any]) -> None:
        row.at = instants.read(line["timestamp"])
        content = line["message"]["content"]
        row.blocks = self.requests.learn("user", content)
        for block in content if isinstance(content, list) else ():
            use = block.get("tool_use_id") if isinstance(block, Mapping) else None
            if isinstance(use, str) and (answer := self.uses.get(use)):
                row.answer = answer
                answer.tools[use].ended_ns = offset_ns(row.at)
        if row.answer:
            row.answer.results.append(row)
        if self.source.keep_text:
            self.news.setdefault(row.lane, []).append({"role": "user", "content": content})

    def _answer(self, row: Line, line: Mapping[str, Any]) -> Seen | None:
        message, at = line["message"], instants.read(line["timestamp"])
        usage, model = message.get("usage"), str(message["model"])
        if model == NO_MODEL or not isinstance(usage, Mapping):
            self.source.leave_out("answers without a request of their own")
            return None
        session, complete = str(line.get("sessionId") or ""), None
        request_id = line.get("requestId") if isinstance(line.get("requestId"), str) else None
        # Anthropic's ids are unique; a gateway may begin with 1 in each session, but a line that is
        # copied into another one keeps its own.
        name = str(message["id"])
        key = name if name.startswith("msg_") else f"{name} {request_id or session}"
        if key not in self.keys:
            is_unique = key == name or request_id
            self.keys[key] = key if is_unique else f"{name} {line['uuid']}"
        key = self.keys[key]
        answer = self.answers.get(key)
        if answer is None:
            asked, start = self._prompt(row.parent)
            if before := self.waiting.get(row.lane):
                self._learn(before)
                complete, before.asked = self._seen(before), None
            if (is_repeat := key in self.known) and not row.lane:
                self.conversations[session] = self.known[key]
            conversation = self.conversations.get(session, session)
            self.known.setdefault(key, conversation)
            news = self.news.pop(row.lane, [])
            answer = Answer(key, conversation, is_repeat, asked, start, at, at, news)
            answer.message_id, answer.agent = name, row.lane or None
            answer.written, answer.texts = self.requests.answered(row.lane)
            self.answers[key] = self.waiting[row.lane] = answer
        row.answer = self.last = answer
        answer.last, answer.request_id = max(answer.last, at), answer.request_id or request_id
        counts = parsing.counted(usage)
        if (counts.get("output_tokens") or 0) >= (answer.usage.get("output_tokens") or 0):
            answer.usage, answer.model = counts, model  # together: a fallback has both of its own
        if isinstance(reason := message.get("stop_reason"), str):
            answer.stop_reason, self.has_stops = reason, True
        self._add(answer, message["content"], at)
        return complete

    def _add(self, answer: Answer, content: Any, at: datetime) -> None:
        content = content if isinstance(content, list) else [{"type": "text", "text": content}]
        known = {block.hash for block in answer.blocks}
        for block, part in zip(self._blocks("assistant", content), content, strict=True):
            if block.hash in known:  # some lines have the blocks of those before them too
                continue
            answer.blocks.append(block)
            answer.parts.append(json_of(part))
            if self.source.keep_text:
                answer.content.append(part)
            if block.kind == "tool_use" and isinstance(use := part.get("id"), str):
                answer.tools[use] = ToolSeen(block.tool, offset_ns(at), None)
                self.uses[use] = answer

    def _learn(self, answer: Answer) -> None:
        if answer.parts:
            name = named("assistant", f"[{','.join(answer.parts)}]")
            self.requests.messages[name] = answer.blocks
            self.requests.contents[name] = answer.content
            answer.parts = []

    def _blocks(self, role: str, content: Any) -> Sequence[Block]:
        body = {"messages": [{"role": role, "content": content}]}
        return shape.prompt_of(body, self.source.hasher)[0].blocks

    def _prompt(self, parent: str | None) -> tuple[tuple[Block, ...], datetime | None]:
        """The messages on the way to the tree's root, with the results of all tools that an answer
        on it called; and when the last of them came."""
        way: list[Line | Answer] = []
        base: tuple[Block, ...] = ()
        met: set[str] = set()
        row = self.lines.get(parent or "")
        while row:  # ends: a line's parent is always an earlier line
            if row.answer is None:
                way.append(row)
            elif row.answer.key not in met:
                met.add(row.answer.key)
                way.append(row.answer)
                if row.answer.asked is not None:
                    base = row.answer.asked
                    break
            row = self.lines.get(row.parent or "")
        blocks = list(base)
        times: list[datetime] = []
        for step in reversed(way):
            if isinstance(step, Answer):
                _say(blocks, "assistant", step.blocks)
                times = []
            for line in step.results if isinstance(step, Answer) else (step,):
                _say(blocks, "user", line.blocks)
                times += [line.at] if line.at else []
        parent = self.failed.get(parent or "", parent)
        times += [self.retried[parent]] if parent in self.retried else []
        return tuple(blocks), max(times, default=None)

    def _failure(self, uuid: str, row: Line, line: Mapping[str, Any]) -> Seen | None:
        """An attempt that the API refused, as a call of its own."""
        at = instants.read(line["timestamp"])
        anchor = self.failed.get(row.parent or "", row.parent or "")
        asked, start = self._prompt(row.parent)
        self.failed[uuid] = anchor
        pause_ms = line.get("retryInMs")
        if isinstance(pause_ms, int | float) and 0 <= pause_ms < 1e8:
            self.retried[anchor] = at + timedelta(milliseconds=pause_ms)
        if uuid in self.known:
            return None
        session = str(line.get("sessionId") or "")
        self.known[uuid] = conversation = self.conversations.get(session, session)
        error = line.get("error")
        status = error.get("status") if isinstance(error, Mapping) else None
        written, texts = self.requests.answered(row.lane)
        start = min((written and written.at) or start or at, at)
        whole = written.prompt if written else None
        return Seen(
            started_utc=start,
            started_ns=offset_ns(start),
            prompt=whole or Prompt(asked, (), {}),
            texts=texts,
            is_whole=whole is not None,
            call={
                "model": whole.settings.get("model") if whole else None,
                "ended_ns": offset_ns(at),
                "error_kind": _kind(error, status, line.get("cause")),
                "http_status": status if isinstance(status, int) and 0 < status < 1000 else None,
            },
            conversation=conversation,
            agent=row.lane or None,
            id=known_id(NAME, uuid),
        )

    def _seen(self, answer: Answer) -> Seen | None:
        if answer.is_repeat:
            return None
        written, keep = answer.written, self.source.keep_text
        asked_at = written.at if written else answer.start
        start = min(asked_at or answer.first, answer.first)
        whole = written.prompt if written else None
        return Seen(
            started_utc=start,
            started_ns=offset_ns(start),
            body=_body(answer) if keep else None,
            betas=written.betas if written and whole else "",
            prompt=whole or Prompt(answer.asked or (), (), {"model": answer.model[:100]}),
            texts=answer.texts,
            is_whole=whole is not None,
            content=answer.content if keep else None,
            reply=answer.blocks,
            call={
                "ended_ns": offset_ns(answer.last) if asked_at else None,
                "served_model": answer.model,
                "message_id": answer.message_id,
                "request_id": answer.request_id,
                "stop_reason": answer.stop_reason,
            },
            usage=answer.usage,
            tools=list(answer.tools.values()),
            conversation=answer.conversation,
            agent=answer.agent,
            recorded={} if asked_at else {"note": "What it answers is not in the transcript."},
            id=known_id(NAME, answer.key),
        )


def _body(answer: Answer) -> dict[str, Any]:
    """The whole request; where it is not there, what was said since the last one, without a model:
    nobody can take that for a request which could be sent again."""
    written = answer.written
    return written.body if written and written.body else {"messages": answer.news}


def _say(blocks: list[Block], role: str, more: Sequence[Block]) -> None:
    """One message of a role at a time, as the API reads them."""
    turn = blocks[-1].turn + (blocks[-1].role != role) if blocks else 0
    blocks += [block._replace(turn=turn) for block in more]


def _kind(error: Any, status: Any, cause: Any) -> str:
    """The API's word for an error, which stands at some depth."""
    if isinstance(error, str) and error:
        return error[:100]
    while isinstance(error, Mapping):
        if isinstance(kind := error.get("type"), str) and kind != "error":
            return kind[:100]
        error = error.get("error")
    if isinstance(status, int):
        return f"http_{status}"
    return "connect" if cause else "error"
