"""The settings of a watch, each said once, as lab.settings says those of a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lab import endpoint_kinds
from lab.metrics import words
from lab.scenarios.definitions import CATEGORIES, RECORDING, Task
from lab.settings import LIVE_MAX_USD, Flag, build

NAME = "watch"
METRICS = ("wait_ms", "ttft_ms", "total_ms")


class WatchConfig(BaseModel):
    """Everything a user chooses for a watch; command line and page build one, and go on alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Flag("how much", "TEXT")] = Field(
        NAME,
        min_length=1,
        max_length=60,
        title="Name",
        description="what the watch is called; the same name goes on with the same watch",
    )
    every_min: Annotated[float, Flag("how much", "MIN", "every")] = Field(
        15,
        ge=0.02,
        le=1440,
        title="Every, minutes",
        description="minutes from one probe to the next",
    )
    pairs: Annotated[int, Flag("how much", "N")] = Field(
        3,
        ge=1,
        le=20,
        title="Pairs a probe",
        description="how often a probe asks both requests, in random order; its value is the "
        "median of each",
    )
    days: Annotated[float | None, Flag("how much", "DAYS", "for")] = Field(
        None,
        gt=0,
        le=3660,
        title="For, days",
        description="days after which the watch ends by itself (default: when it is stopped)",
    )
    usd_a_day: Annotated[float | None, Flag("how much", "X")] = Field(
        None,
        ge=0,
        title="At most, $ a day",
        description="the most that all probes of a day (UTC) may cost, in dollars; one that might "
        f"pass it is not begun ({LIVE_MAX_USD:.2f} by default where requests cost money)",
    )
    metric: Annotated[Literal[METRICS], Flag("how much")] = Field(
        "wait_ms",
        title="Watched",
        description="the clock that is watched",
        json_schema_extra={"words": {clock: words(clock) for clock in METRICS}},
    )
    least_percent: Annotated[float, Flag("how much", "X", "least")] = Field(
        3,
        ge=0,
        le=100,
        title="Least change, %",
        description="changes that are smaller are not told",
    )
    endpoint: Annotated[str | None, Flag("on what", "NAME|URL")] = Field(
        None,
        title="Endpoint",
        description=f"{', '.join(endpoint_kinds.own_servers())}, anthropic, one of your own "
        "settings, or any base URL of a Messages API",
    )
    model: Annotated[str | None, Flag("on what", "M")] = Field(
        None, title="Model", description="the model's name (default: the endpoint's own)"
    )
    control_model: Annotated[str | None, Flag("on what", "M")] = Field(
        None,
        title="Model of the control",
        description="another model for the control request (default: the same)",
    )
    scenario: Annotated[str | None, Flag("on what", "NAME|FILE")] = Field(
        None,
        title="Your request",
        description=f"what is watched: {', '.join(CATEGORIES)} or a .jsonl file (the first task "
        f"of it), or a recorded call: {RECORDING}RUN:CALL",
    )
    answer_tokens: Annotated[int, Flag("on what", "N")] = Field(
        48,
        ge=1,
        le=128_000,
        title="Answer tokens",
        description="of an answer at most; a body of your own keeps its own",
    )
    stream: Annotated[bool, Flag("on what")] = Field(
        True, title="Stream", description="ask for a streamed answer to your request"
    )
    timeout_s: Annotated[float, Flag("on what", "S")] = Field(
        60,
        gt=0,
        le=3600,
        title="Timeout, s",
        description="seconds after which a trial is ended and counts as failed",
    )
    keep_text: Annotated[bool | None, Flag("on what")] = Field(
        None,
        title="Keep the text",
        description="store answers too: without it those to the lab's own tasks, and of your own "
        "request the shape; the request itself is in a private file while the watch is not "
        "forgotten, since each probe sends it",
    )
    on_change: str | None = Field(
        None, description="a command to run at each change; the finding comes as JSON on its input"
    )
    tasks: list[Task] | None = Field(None, description="the request, in place of a scenario")
    db: str | None = Field(None, description="the database file")


def watch_config_of(**values: Any) -> WatchConfig:
    """A WatchConfig, or a LabError that names the setting and what is wrong with it."""
    return build(WatchConfig, values)
