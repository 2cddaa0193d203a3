"""The words of the lab as values: techniques and their arms, requests and replies.

docs/design.md says what each word means.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from lab import clock

if TYPE_CHECKING:
    import asyncio

    from lab.scenarios.definitions import Task

EndpointKind = str
"""A name in lab.endpoint_kinds.KINDS."""
Tier = Literal["small", "large"]
Effort = Literal["low", "medium", "high", "xhigh", "max"]
"""The API's levels, the least first."""
Role = Literal["answer", "prime", "classify", "plan", "worker", "tool_turn", "join", "check"]
NOT_TIMED: tuple[Role, ...] = ("prime", "check")
"""Roles of calls that a trial's clock does not wait for; is_timed in metrics.sql is the rest."""
Cache = Literal["none", "write", "read", "any"]
Reuse = Literal["any", "new", "kept", "opened"]
"""By which connection a call is to go: whichever rests, or a new one; a new one, closed after it;
one that an earlier call has used; one that was opened ahead and has carried nothing yet."""
Outcome = Literal["ok", "failed", "cancelled", "mismatch"]
SERVED_OTHERWISE = "served_otherwise"
"""The error kind of a mismatch whose endpoint served another model, speed, tier, effort or thread
than was asked."""
Phase = Literal["warmup", "measured", "screened", "observed", "load", "watched"]
"""`screened` trials are those that a search spent to find what is worth measuring: shown, never
judged, never charted with measured ones."""
OBSERVED = "observed"
"""What stands for the technique in a recording of the user's own application: a run that the lab
did not make. Its calls are trials of the phase `observed`, one each: never charted with others."""
LOAD = "load"
"""The same of a load: many requests at once, each a trial of the phase `load`."""
LADDER = "ladder"
"""The same of a search for the fastest stack of levers: what it tried is `screened`, and the blocks
that confirm its winner are `measured`, paired and judged as those of a technique."""
WATCH = "watch"
"""The same of a watch: probes of a request beside a control, for days. Each is some pairs of trials
of the phase `watched`: a series in time, and no comparison of the two."""
UNPAIRED = (OBSERVED, LOAD, WATCH)
"""What stands for the technique where nothing is paired: never judged against an arm, and never
charted with trials that are."""
Status = Literal["running", "finished", "interrupted", "failed"]
SpanKind = Literal["trial", "call", "tool", "route", "join"]


class LabError(Exception):
    """A user's mistake or an obstacle outside the lab: one sentence that says what happened and
    what to do next."""

    def __str__(self) -> str:
        """On one line, whatever it quotes: a name with a line break in it must not look like two
        sentences."""
        return "⏎".join(super().__str__().splitlines())


def sentence(
    error: ValidationError, name: Callable[[str], str] = str, *, quoted: bool = True
) -> str:
    """What a pydantic model refused first, without a full stop: "runs: 0 should be at least 1".

    `name` turns the path of the field ("runs", "tasks.0.prompt", "" for the whole) into what the
    user calls it. The value stands in the text unless `quoted` is off.
    """
    first = error.errors(include_url=False)[0]
    path, text = name(".".join(map(str, first["loc"]))), first["msg"].removeprefix("Value error, ")
    if quoted and text.startswith("Input "):
        text = f"{first['input']!r:.80}{text.removeprefix('Input')}"
    return f"{path}: {text}" if path else text


def new_id() -> str:
    """A UUIDv7 (RFC 9562): sorts by creation time and is unique across databases."""
    value = (
        (clock.unix_ms() << 80)
        | (0x7 << 76)
        | (secrets.randbits(12) << 64)
        | (0b10 << 62)
        | secrets.randbits(62)
    )
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Knobs(BaseModel):
    """What a user can turn on a technique. One definition makes the CLI's flags, the page's form
    and the stored settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Arm:
    """One way to do the task. The first arm of a technique is its baseline."""

    name: str
    description: str = ""
    needs: tuple[str, ...] = ()
    """What an endpoint must be able to do for this arm alone; it is left out of a run elsewhere."""


@dataclass(frozen=True)
class View:
    """A segment of a technique's page that is its own."""

    name: str
    draw: str
    """"module:function", read beside the technique: (lab.view_parts.RunData, dark) -> figures,
    tables, notes and numbers, without streamlit. A name, so that no command loads a chart library
    as it starts."""
    in_report: bool = False
    """Whether the HTML report shows its figures too."""
    in_console: bool = False
    """Whether a terminal tells its tables and notes too, where it has a table."""


@dataclass(frozen=True)
class Lever:
    """One factor that a ladder combines with others, in a technique that declares it.

    A configuration has one level of each lever, and the first level is today's. A trial of it is
    the task's request, changed by every lever in the order of the techniques' pages, then asked
    through the levers that have a `play`, the first of them outermost. At its first level a lever
    is never asked for anything.
    """

    name: str
    """As the command line calls it: "streamed"."""
    title: str
    levels: tuple[str, ...]
    words: Mapping[str, str] = field(default_factory=dict)
    """What a level but the first is called in a stack: "small model for easy questions"."""
    change: Callable[[Request, str, Task], Request] = lambda request, level, task: request
    """(request, level, task) -> the request at that level."""
    play: Callable[..., Awaitable[Reply]] | None = None
    """(bench, ask, request, level, task) -> the reply. `ask(request, **named)` makes a call as the
    levers within do, and takes what Bench.call takes."""
    primes: Callable[[Request, str, Task], Sequence[Request]] | None = None
    """(request, level, task) -> what was asked before, so that the trial finds it in the cache;
    `request` is as every lever has changed it. Asked in the role `prime`, before the clock."""
    run_tools: Callable[..., Awaitable[list[str]]] | None = None
    """(bench, uses, level) -> what the tools of one turn answered, in their order; without it they
    run one after the other."""
    tier: Tier | None = None
    """The model tier that answers today, where the lever is about that."""
    needs: tuple[str, ...] = ()
    """What an endpoint must be able to do, as lab.endpoints.registry.CAPABILITIES names it."""
    level_needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What single levels need beyond that."""
    tiers: Mapping[str, tuple[Tier, ...]] = field(default_factory=dict)
    """The model tiers that may answer at a level, where that is decided as it is asked: its change
    leaves the request without a tier, and its play gives it one."""
    part: str = ""
    """Of lab/code/stack.jinja, the part that asks so: router, late, together or eager. Of a lever
    with a play or tools that has none, the code says that it does not contain it."""
    unfit: Callable[[Task, str], str | None] = lambda task, level: None
    """Why a level makes no sense for a task, in words that follow "not tried: "; None where it
    does."""


@dataclass(frozen=True)
class Technique:
    """A claim about latency and how to test it; a module in lab/techniques exports it as TECHNIQUE.

    One with a mechanism of its own is a folder: technique.py, findings.py, figures.py, a template.
    """

    slug: str
    title: str
    claim: str
    published: str
    """What others have measured, in words; empty where nobody has."""
    arms: tuple[Arm, ...]
    headline: str
    """The one metric on which its verdict is planned, as lab.metrics names it."""
    headline_arm: str
    knobs: type[Knobs]
    trial: Callable[..., Awaitable[str | None]]
    """(bench, arm, knobs, task) -> the answer's text, checked once the clock has stopped."""
    prepare: Callable[..., Awaitable[None]] | None = None
    """The same arguments, before the trial's clock: calls of role `prime` are made here."""
    tiers: tuple[Tier, ...] | Callable[[Any], tuple[Tier, ...]] = ()
    """The model tiers it needs, or a function of the knobs that says so; empty means whichever
    model the endpoint has."""
    aliases: tuple[str, ...] = ()
    headline_quantile: float | None = None
    """The quantile of the headline that the verdict is about, where that is its tail (0.95); None:
    the difference of the middle trial."""
    category: str = "question-answering"
    """The scenario category used where the user names none."""
    notes: Mapping[EndpointKind, str] = field(default_factory=dict)
    """What an endpoint of this kind cannot show; printed with the verdict."""
    select: Callable[[Any], tuple[Arm, ...]] | None = None
    """The arms for given knobs, where the knobs decide (a suite, the user's bodies)."""
    suites: tuple[tuple[Arm, ...], ...] = ()
    """Where the knobs decide: all arms that they may choose from, those of one run together."""
    asks_tasks: Callable[[Any], bool] = lambda knobs: True
    """Whether it asks the run's tasks with these knobs; whole bodies of the user's ask their
    own."""
    needs: tuple[str, ...] = ()
    """What an endpoint must be able to do, as lab.endpoints.registry.CAPABILITIES names it."""
    page: str = ""
    """The file of its page in pages/, whose number is its place in every list; without one, the
    page that the user's own techniques share."""
    views: tuple[str | View, ...] = ("Distribution", "Pairs", "Clocks")
    """The segments of its page, in their order: shared ones by name, its own as a View."""
    proposes: View | None = None
    """The one of its views that proposes its knobs from the waits of any run, recording or load:
    `--plan RUN` prints it, and the page shows it before there is a run."""
    code: str = ""
    """The jinja2 template beside it that writes an arm as code to take away; empty: each request in
    turn."""
    in_all: bool = True
    """Whether its arms need nothing of the user: `all`, Home and side by side then offer it."""
    files: str = ""
    """The knob that the command line takes as a list of JSON files; empty where there is none."""
    own_text: bool = False
    """Whether its bodies are the user's own, so that nothing is added to them."""
    of_recordings: bool = False
    """Whether it asks calls of a recording, and nothing else."""
    control: bool = False
    """Whether its arms are the same, so that it shows what a difference of nothing looks like."""
    shows: tuple[str, ...] = ()
    """What would mend an application that its page shows: streams, reads (from the cache),
    tools_together, small_models."""
    levers: tuple[Lever, ...] = ()
    """What of it a ladder can combine with other techniques."""

    def arms_for(self, knobs: Knobs, able: Container[str] | None = None) -> tuple[Arm, ...]:
        """Those of these knobs; where `able` says what an endpoint can do, those it can try."""
        arms = self.select(knobs) if self.select else self.arms
        return tuple(arm for arm in arms if able is None or all(n in able for n in arm.needs))

    def place_of(self, arm: str) -> int | None:
        """Where an arm stands among all that are declared, whichever of them a run has: its colour,
        for ever. None for one that the user named."""
        for suite in self.suites or (self.arms,):
            names = [declared.name for declared in suite]
            if arm in names:
                return names.index(arm)
        return None

    def places(self, arms: Sequence[str]) -> dict[str, int]:
        """place_of() each; one that the user named has its place among those given. The user's
        bodies may be called like an arm that stands there for all of them."""
        declared = {arm: None if self.files else self.place_of(arm) for arm in arms}
        return {
            arm: own if place is None else place
            for own, (arm, place) in enumerate(declared.items())
        }

    def tiers_for(self, knobs: Knobs) -> tuple[Tier, ...]:
        return self.tiers(knobs) if callable(self.tiers) else self.tiers

    def headline_arm_for(self, knobs: Knobs) -> str:
        names = [arm.name for arm in self.arms_for(knobs)]
        return self.headline_arm if self.headline_arm in names[1:] else names[1]


@dataclass(frozen=True)
class Request:
    """What a trial asks of the endpoint: a Messages API body without `model` and `stream`, which
    the run adds."""

    body: Mapping[str, Any]
    tier: Tier | None = None
    model: str | None = None
    stream: bool = True
    intended_cache: Cache = "none"
    headers: Mapping[str, str] = field(default_factory=dict)
    endpoint: str | None = None
    """Another endpoint of the same kind, by name or base URL; None is the run's own."""
    connection: Reuse = "any"


@dataclass(frozen=True)
class ToolUse:
    id: str
    name: str
    input: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What came back, parsed after the last stamp. `error_kind` is None when the call succeeded."""

    call_id: str
    content: tuple[dict[str, Any], ...] = ()
    stop_reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    error_kind: str | None = None
    error_text: str | None = None
    message_id: str | None = None
    """The message's own id, by which a thread is continued."""
    broken_tools: Collection[str] = ()
    """Ids of the tool uses whose input is no JSON object."""

    @property
    def ok(self) -> bool:
        return self.error_kind is None

    @property
    def text(self) -> str:
        return "".join(
            block.get("text", "") for block in self.content if block.get("type") == "text"
        )

    @property
    def tool_uses(self) -> tuple[ToolUse, ...]:
        """Those that may run: an answer that is cut ends its last block too, and what is no JSON
        object is no input."""
        return tuple(
            ToolUse(block["id"], block["name"], block.get("input") or {})
            for block in self.content
            if block.get("type") == "tool_use"
            and self.stop_reason == "tool_use"
            and block["id"] not in self.broken_tools
        )


class Bench(Protocol):
    """What a trial calls through. In a run it measures each call; before one, and for the code
    samples, it sends nothing and answers in the shape asked for (lab/harness/rehearsal.py). A
    technique cannot tell which, and reads no clock.
    """

    @property
    def models(self) -> Mapping[Tier, str]:
        """The endpoint's models by tier."""

    @property
    def capabilities(self) -> frozenset[str]:
        """What the endpoint can do: "streaming", "caching", "tools", "structured"."""

    @property
    def nonce(self) -> str:
        """What begins every prompt of this trial and of no other; `call` adds it."""

    @property
    def client(self) -> Any:
        """The stamped AsyncAnthropic, for code of the user's own. A rehearsal ends here: it cannot
        know its requests."""

    async def call(
        self,
        request: Request,
        role: Role = "answer",
        name: str | None = None,
        begun: asyncio.Event | None = None,
        token: asyncio.Event | None = None,
        on_tool: Callable[[ToolUse], Any] | None = None,
    ) -> Reply:
        """Make one request, and where the API asks for it try again; each attempt is a row.

        A request that failed is a Reply with an `error_kind`, not an exception; it fails the trial,
        except in the roles `prime` and `check`. `name` is its span's, the role by default. `begun`
        is set when the response begins, `token` at its first generated piece; both when it ends.
        `on_tool` is called, on the event loop and in the trial's context, with each tool call once
        its input is whole, while the answer may still come.
        """
        ...

    async def within(self, event: asyncio.Event, ms: float) -> bool:
        """Wait for the event, so many milliseconds at most; whether it came. A rehearsal does not
        wait, and in its dearest way it does not come."""
        ...

    def replaced(self, reply: Reply) -> None:
        """Of equal requests another answered in this one's place: that it failed fails the trial
        no longer."""

    async def connect(self, endpoint: str | None = None) -> None:
        """Open a connection to the run's endpoint, or to one that a request would name, ahead of a
        call that means `opened`; those that rested are closed."""
        ...

    async def pause(self, seconds: float) -> None:
        """Let so much time pass, as between a person's two questions; in `prepare` it is outside
        the trial's clock."""
        ...

    async def tool(self, name: str, input: dict[str, Any]) -> str:
        """Run one of the lab's tools in a span of its own, for the text of its tool_result; `input`
        may say by `service_ms` how long it takes."""
        ...

    def span(self, kind: SpanKind, name: str) -> AbstractAsyncContextManager[Any]:
        """Time what happens inside, as a child of the span around it."""

    def route(self, name: str) -> None:
        """Note what a router chose, as a span of no length."""

    def mismatch(self, reason: str) -> None:
        """Leave the trial out of every comparison: it is shown and counted, with the reason."""
