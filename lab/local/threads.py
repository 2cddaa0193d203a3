"""Message threads as the API holds them: a conversation is kept in memory for a while, under the id
of its last response, so that the next request brings only the new turn.

Rules (the API's documentation of message threads, beta of 2026-11-02, and the error types of its
SDK): system and tools are those of the request that created the thread; a response is continued
once; a turn is kept whole or not at all, and nobody is told which; five minutes after the last
response that was kept the thread is gone; then, as wherever it is lost, the answer is a 404, and
the caller sends the whole conversation again. Nothing is cached that a request does not mark
itself, and every token of the conversation is read and counted as if it had been sent.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from lab.local.content import Content
from lab.local.messages_api import ApiError, Strict, canonical, loaded
from lab.model import sentence

BETA = "message-threads-2026-08-12"
"""Of the header anthropic-beta, which each request of a thread needs."""
LIFETIME_NS = 300 * 10**9
MOST_THREADS, MOST_BYTES = 256, 64 * 2**20
KEPT = ("system", "tools")
"""A request that continues a thread brings none of these."""
FIXED = ("model", "thinking", "output_config")
"""These stay as they were when the thread was created."""
UNSUPPORTED = ("context_management",)


class Create(Strict):
    type: Literal["create"]


class Continue(Strict):
    type: Literal["continue"]
    previous_message_id: str


ASKED = TypeAdapter(Annotated[Create | Continue, Field(discriminator="type")])


@dataclass
class Thread:
    """One conversation: `kept` are its system and tools, `fixed` what may not change, `messages`
    all its turns, without the cache_control that each had for the request that brought it."""

    kept: dict[str, Any]
    fixed: dict[str, Any]
    messages: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    """Of its responses; the last one can be continued."""
    ends_ns: int = 0
    size: int = 0
    """Bytes."""
    in_flight: bool = False


@dataclass
class Turn:
    """One request of a thread on its way: `body` is the whole request that it stands for."""

    thread: Thread
    body: dict[str, Any]
    content: Content = field(default_factory=Content)
    """Of the reply, as far as it has come."""
    is_whole: bool = False

    @property
    def raw(self) -> bytes:
        return canonical(self.body).encode()


class Threads:
    """The server's threads, the one longest unused first; that goes when they are too many or too
    large. The server has one key, and so one workspace: an id is whose it was told to."""

    def __init__(self, most: int = MOST_THREADS, most_bytes: int = MOST_BYTES) -> None:
        self.most, self.most_bytes = most, most_bytes
        self.held: OrderedDict[int, Thread] = OrderedDict()
        self.by_id: dict[str, Thread] = {}

    def begin(self, raw: bytes, betas: str, now_ns: int) -> Turn | None:
        """The turn that a request asks for, to be given back by end(); None where it is no part of
        a thread. ApiError where it cannot be had."""
        if b'"thread"' not in raw:
            return None
        body = loaded(raw)
        if (value := body.pop("thread", None)) is None:
            return None
        if BETA not in [beta.strip() for beta in betas.split(",")]:
            text = f"thread: Extra inputs are not permitted without the beta {BETA}."
            raise _unsupported(text, ["thread"])
        try:
            asked = ASKED.validate_python(value)
        except ValidationError as error:
            text = sentence(error, lambda path: f"thread.{path}".rstrip("."), quoted=False)
            raise ApiError(400, text, error_code="invalid_field", field="thread") from None
        if wrong := [name for name in UNSUPPORTED if body.get(name) is not None]:
            text = f"thread: Threads do not support {', '.join(wrong)}; leave out one or the other."
            raise _unsupported(text, wrong)
        if isinstance(asked, Create):
            return Turn(Thread(_part(body, KEPT), _part(body, FIXED)), body)
        return self._continued(asked.previous_message_id, body, now_ns)

    def _held(self, previous: str, now_ns: int) -> Thread:
        """The thread whose last response this is, where nobody continues it yet."""
        self._expire(now_ns)
        thread = self.by_id.get(previous)
        if thread is None:
            raise ApiError(
                404,
                "No usable Thread state was found for `previous_message_id`. Replay the full"
                ' conversation with `thread: {"type": "create"}` to start a new Thread.',
                error_code="thread_not_found",
            )
        if previous != thread.ids[-1]:
            raise ApiError(
                400,
                "The response that `previous_message_id` names has already been continued, and each"
                " response can be continued only once. Continue from the Thread's most recent"
                " response `id`.",
                error_code="thread_already_continued",
            )
        if thread.in_flight:
            raise ApiError(
                400,
                "Another request is still continuing from the same `previous_message_id`. Wait for"
                " it to complete and continue from its response `id`.",
                error_code="thread_continue_in_flight",
            )
        return thread

    def _continued(self, previous: str, body: dict[str, Any], now_ns: int) -> Turn:
        thread = self._held(previous, now_ns)
        if given := [name for name in KEPT if body.get(name) is not None]:
            raise ApiError(
                400,
                f"{given[0]}: The thread keeps it from the request that created it; leave it out.",
                error_code="invalid_field",
                field=given[0],
            )
        before, now = thread.fixed, _part(body, FIXED)
        if differing := [name for name in FIXED if before.get(name) != now.get(name)]:
            raise ApiError(
                400,
                "A field that must stay the same across a Thread's turns differs from the value"
                f" stored with the Thread; differing field(s): {', '.join(differing)}.",
                error_code="thread_fingerprint_mismatch",
            )
        new = body.get("messages")
        whole = [*thread.messages, *(new if isinstance(new, list) else [new])]
        thread.in_flight = True
        return Turn(thread, {**body, **thread.kept, "messages": whole})

    def keep(self, turn: Turn, message_id: str, now_ns: int, lost: bool = False) -> None:
        """The reply is whole: it can be continued by its id from now on, unless it is `lost`."""
        # The next request may come before this one's connection is done with.
        thread, turn.is_whole, turn.thread.in_flight = turn.thread, True, False
        if id(thread) in self.held:
            self._drop(thread)
        elif thread.ids:
            return  # it went for others meanwhile
        reply = [block for block in turn.content.blocks if block.get("text") != ""]
        thread.messages = [_unmarked(message) for message in turn.body["messages"]]
        if reply:
            thread.messages.append({"role": "assistant", "content": reply})
        thread.ids.append(message_id)
        thread.ends_ns = now_ns + LIFETIME_NS
        thread.size = len(canonical([thread.kept, thread.messages, thread.ids]).encode())
        if not lost and thread.size <= self.most_bytes:
            self.held[id(thread)] = thread
            self.by_id |= dict.fromkeys(thread.ids, thread)
        self._expire(now_ns)
        total = sum(held.size for held in self.held.values())
        for held in list(self.held.values()):
            if len(self.held) <= self.most and total <= self.most_bytes:
                break
            total -= held.size
            self._drop(held)

    def end(self, turn: Turn) -> None:
        """The request is over, however it ended: where nothing was kept, its response before can be
        continued again."""
        if not turn.is_whole:
            turn.thread.in_flight = False

    def clear(self) -> None:
        self.held.clear()
        self.by_id.clear()

    def _expire(self, now_ns: int) -> None:
        for thread in list(self.held.values()):
            if thread.ends_ns <= now_ns and not thread.in_flight:
                self._drop(thread)

    def _drop(self, thread: Thread) -> None:
        del self.held[id(thread)]
        for name in thread.ids:
            del self.by_id[name]


def _unsupported(text: str, names: list[str]) -> ApiError:
    """By its code the thread helpers of the SDKs know to send the whole conversation instead."""
    return ApiError(400, text, error_code="thread_unsupported_request", unsupported=names)


def _part(body: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: body[name] for name in names if body.get(name) is not None}


def _unmarked(message: dict[str, Any]) -> dict[str, Any]:
    """A turn whose blocks have no cache_control: what a tool was given stays as it is."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    blocks = [
        {key: part for key, part in block.items() if key != "cache_control"} for block in content
    ]
    return {**message, "content": blocks}
