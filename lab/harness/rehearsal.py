"""A trial played on a bench that sends nothing: what it would ask, as it would be sent.

What a run will cost, which endpoints it needs and what an arm looks like as code are all read from
here, so that they cannot differ from what is measured.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lab import json_schema
from lab.clock import sleep_s
from lab.endpoints.registry import Endpoint
from lab.harness.bodies import completed, headers_sent, is_brief, object_in
from lab.harness.budget import most_tokens
from lab.model import (
    Cache,
    Knobs,
    LabError,
    Reply,
    Request,
    Reuse,
    Role,
    SpanKind,
    Technique,
    Tier,
    ToolUse,
)
from lab.scenarios import definitions, tools
from lab.scenarios.definitions import Task

MOST_CALLS = 500
NAMED = {
    *("model", "max_tokens", "system", "tools", "messages", "cache_control", "container"),
    *("inference_geo", "metadata", "output_config", "service_tier", "speed", "stop_sequences"),
    *("thinking", "tool_choice"),
}
"""Fields of a body for which the SDK's `messages` has arguments."""
Value = TypeVar("Value")


class Asked(NamedTuple):
    """One request of a trial, as it would be sent, less the trial's nonce and `stream`."""

    role: Role
    name: str
    """Of the call's span."""
    endpoint: Endpoint
    tier: Tier
    stream: bool
    intended_cache: Cache
    body: dict[str, Any]
    connection: Reuse = "any"
    paused_s: float = 0.0
    """What the trial pauses before it."""
    headers: Mapping[str, str] = {}
    """Its own and the task's, but for what is said to the lab's own servers alone."""
    is_brief: bool = False
    """Whether the lab tells its model not to think first."""

    @property
    def model(self) -> str:
        return self.body["model"]

    @property
    def arguments(self) -> dict[str, Any]:
        """As the SDK's messages.create and messages.stream take them: what only its beta names goes
        into the body all the same."""
        named = {name: value for name, value in self.body.items() if name in NAMED}
        beta = {name: value for name, value in self.body.items() if name not in NAMED}
        extra = {"extra_body": beta, "extra_headers": dict(self.headers)}
        return named | {name: value for name, value in extra.items() if value}

    def own_to(self, tier: Tier) -> dict[str, Any]:
        """What the lab would add for a tier's model: its name, and how it is told not to think."""
        return completed(Request({}, tier=tier), self.endpoint, self.is_brief)


class Mood(NamedTuple):
    """How the answers are that decide the way through a trial."""

    insists: bool = False
    """Asks for tools as long as it may."""
    place: int = 0
    """Which of several allowed values it takes: the first, or the last."""
    stop_reason: str = "end_turn"
    text: str = ""
    """What it says where no schema is asked for; empty is as many words as there may be tokens."""


LIKELY = Mood()
MOODS = (LIKELY, Mood(True, -1), Mood(True, -1, "max_tokens"))
"""After the likely one those in which loops are at their longest, routers choose the large model
and cascades escalate."""


class Unforeseen(Exception):
    """The trial is code of the user's own, which must not be run before it is measured."""


class Rehearsal:
    """A lab.model.Bench that answers at once, in the shape that was asked for. `other` finds an
    endpoint that a request names."""

    nonce = ""

    def __init__(
        self,
        endpoint: Endpoint,
        mood: Mood = LIKELY,
        brief: bool = False,
        other: Callable[[str], Endpoint] | None = None,
        betas: str = "",
    ) -> None:
        self.endpoint, self.mood, self.brief, self.other = endpoint, mood, brief, other
        self.betas = betas
        self.models, self.capabilities = endpoint.models, endpoint.capabilities
        self.asked: list[Asked] = []
        self.paused_s = 0.0
        self.unforeseen = False
        """Whether code of the user's own began, whatever it made of being stopped there."""

    @property
    def client(self) -> Any:
        self.unforeseen = True
        raise Unforeseen

    async def connect(self, endpoint: str | None = None) -> None: ...

    async def pause(self, seconds: float) -> None:
        self.paused_s += seconds
        await at_once(seconds)

    def route(self, name: str) -> None: ...

    def mismatch(self, reason: str) -> None: ...

    def replaced(self, reply: Reply) -> None: ...

    async def within(self, event: asyncio.Event, ms: float) -> bool:
        await at_once(0)
        return event.is_set() and not self.mood.insists

    @asynccontextmanager
    async def span(self, kind: SpanKind, name: str) -> AsyncIterator[None]:
        yield

    async def tool(self, name: str, input: dict[str, Any]) -> str:
        return await tools.run(name, input, at_once)

    async def call(
        self,
        request: Request,
        role: Role = "answer",
        name: str | None = None,
        begun: asyncio.Event | None = None,
        token: asyncio.Event | None = None,
        on_tool: Callable[[ToolUse], Any] | None = None,
    ) -> Reply:
        if len(self.asked) >= MOST_CALLS:
            raise LabError(f"A trial would make more than {MOST_CALLS} calls.")
        endpoint = self.endpoint
        if request.endpoint and self.other:
            endpoint = self.other(request.endpoint)
        self.asked.append(
            Asked(
                role=role,
                name=name or role,
                endpoint=endpoint,
                tier=request.tier or endpoint.generates,
                stream=request.stream,
                intended_cache=request.intended_cache,
                # A copy: what a trial adds to its messages later was not yet sent.
                body=json.loads(json.dumps(completed(request, endpoint, self.brief))),
                connection=request.connection,
                paused_s=self.paused_s,
                headers=headers_sent(request, self.betas, own_server=False),
                is_brief=self.brief and "thinking" not in request.body,
            )
        )
        self.paused_s = 0.0
        for event in filter(None, (begun, token)):
            event.set()
        await at_once(0)  # requests that start together are asked before one of them answers
        content = self._content(request.body)
        tool_use = content[0]["type"] == "tool_use"
        reply = Reply(
            call_id=f"rehearsed-{len(self.asked)}",
            content=tuple(content),
            stop_reason="tool_use" if tool_use else self.mood.stop_reason,
            usage={"input_tokens": 0, "output_tokens": most_tokens(request.body)},
            message_id=f"msg_rehearsed_{len(self.asked)}",
        )
        for use in reply.tool_uses if on_tool else ():
            on_tool(use)
        return reply

    def _content(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        if uses := self._tool_uses(body):
            return uses
        if schema := object_in(object_in(body.get("output_config")).get("format")).get("schema"):
            text = json.dumps(self._value(schema))
        else:
            text = self.mood.text or "word " * max(1, most_tokens(body))
        return [{"type": "text", "text": text}]

    def _tool_uses(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Each tool on offer once; when they have answered, only a mood that insists asks again."""
        choice, messages = object_in(body.get("tool_choice")), body.get("messages") or [{}]
        content = messages[-1].get("content")
        blocks = content if isinstance(content, list) else []
        answered = any(object_in(block).get("type") == "tool_result" for block in blocks)
        if choice.get("type") == "none" or (answered and not self.mood.insists):
            return []
        # Tools without a schema are the server's own, which it uses by itself.
        offered = [tool for tool in body.get("tools") or [] if "input_schema" in tool]
        return [
            {
                "type": "tool_use",
                "id": f"toolu_{number}",
                "name": tool["name"],
                "input": self._value(tool["input_schema"]),
            }
            for number, tool in enumerate(offered, 1)
        ][: 1 if choice.get("disable_parallel_tool_use") else None]

    def _value(self, schema: Any) -> Any:
        """A value that fits; an empty one where the user's own schema is none."""
        try:
            plain = json_schema.Plain(self.mood.place)
            return json_schema.checked(
                lambda schema, strict: json_schema.sample(schema, strict, plain), schema, False
            )
        except json_schema.Unsupported:
            return {}


async def at_once(seconds: float) -> None:
    """Instead of waiting: let the trial's other tasks go on."""
    await sleep_s(0)


async def rehearse(
    technique: Technique,
    arm: str,
    knobs: Knobs,
    task: Task,
    endpoint: Endpoint,
    mood: Mood = LIKELY,
    other: Callable[[str], Endpoint] | None = None,
    judged: bool = False,
) -> list[Asked]:
    """The requests of one trial in their order: primes first, and if `judged` the judge's last.

    LabError where the trial itself fails; Unforeseen where it is the user's own code.
    """
    bench = Rehearsal(endpoint, mood, is_brief(technique, task, endpoint), other, task.betas)
    try:
        if technique.prepare:
            await technique.prepare(bench, arm, knobs, task)
        answer = await technique.trial(bench, arm, knobs, task)
        if bench.unforeseen:
            raise Unforeseen
        if judged and answer is not None and (body := definitions.judge_body(task, answer)):
            await bench.call(Request(body, tier="large", stream=False), role="check")
    except Exception as error:
        cause = _innermost(error)
        if isinstance(cause, (LabError, Unforeseen)):
            raise cause from None
        raise LabError(
            f"{technique.slug}'s trial failed while its requests were worked out: "
            f"{type(cause).__name__} {cause} ({_place(cause, technique)})."
        ) from error
    return bench.asked


def finished(work: Coroutine[Any, Any, Value]) -> Value:
    """What it comes to; inside a running loop (the runner, a notebook) a second one needs a thread
    of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _innermost(error: BaseException) -> BaseException:
    """What went wrong in the first task of a group that failed."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _place(error: BaseException, technique: Technique) -> str:
    """The technique's own line that was reached last, as "file:line"."""
    frames = traceback.extract_tb(error.__traceback__)
    code = getattr(technique.trial, "__code__", None)
    home = str(Path(code.co_filename).parent) if code else "?"
    own = [frame for frame in frames if frame.filename.startswith(home)] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"
