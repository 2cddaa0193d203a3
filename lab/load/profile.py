"""What a load is made of: plays, levels, and what a level came to.

A **play** is what one simulated user does: one request, or several with pauses between them. A
**level** is one steady load: so many streams at once (closed loop), or plays that begin at their
scheduled instants whether or not the server keeps up (open loop).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Mode = Literal["closed", "open"]
WARM_UP = 0
"""The level of calls that are made before a load's own, and counted in none."""
CANCELLED = "cancelled"
"""The kind of error of a call that the load itself gave up: it has not failed, and says nothing of
the server."""


class Step(NamedTuple):
    """One request of a play."""

    template: int
    """Which of the prepared requests (lab.load.wire.Template), by its place."""
    pause_s: float = 0.0
    """From the end of the step before; of a first step, 0."""


Play = tuple[Step, ...]


@dataclass(frozen=True)
class Level:
    """One steady load. Its label is the arm of its trials, its number their block."""

    number: int
    """From 1 within a run, in the order in which levels are measured."""
    mode: Mode
    target: float
    """Streams at once (closed), or plays a second (open)."""
    plays: tuple[Play, ...]
    """In the order in which they begin."""
    at_s: tuple[float, ...] | None = None
    """Open loop: when each play is due, in seconds from the level's start. Closed loop: when each
    stream begins, where that is not evenly over `over_s` (a ramp)."""
    over_s: float = 0.0
    """Closed loop: the streams begin spread over so many seconds."""
    label: str = ""
    """What it is called where its rows are told: "16 streams", "4 a second"."""

    @property
    def requests(self) -> int:
        return sum(map(len, self.plays))


class OfTrial(NamedTuple):
    """What a call's trial has that the call has not."""

    level: int
    request: int
    label: str
    task_id: str | None


class CallFact(NamedTuple):
    """What steering and progress need of one ended call at once; instants in ns of the loader's
    clock, None where it did not happen."""

    level: int
    request: int
    """From 0 within the level: the order in which requests are planned."""
    scheduled_ns: int
    """When it was due: open loop, its instant; closed loop, when its stream was free."""
    started_ns: int
    sent_ns: int | None
    first_token_ns: int | None
    second_token_ns: int | None
    last_token_ns: int | None
    ended_ns: int
    output_tokens: int | None
    error_kind: str | None
    cost_usd: float | None = None


@dataclass
class LevelOutcome:
    """What one level came to, as one loader saw it."""

    level: Level
    started_ns: int
    """On the loader's clock, where at_s is 0."""
    ended_ns: int
    facts: list[CallFact] = field(default_factory=list)
    client: dict[str, float] = field(default_factory=dict)
    """How the loading process fared: loop_lag_p50_ms, loop_lag_p95_ms, loop_lag_p99_ms,
    loop_lag_max_ms, cpu_share (of one core, 0 to 1), rss_mb, connections (opened)."""
    reason: str = ""
    """Why it ended before all its plays; empty where it did not."""
    not_begun: int = 0
    """Requests of the plan that were never made."""
