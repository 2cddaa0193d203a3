"""The settings of a load, each said once, as lab.settings says those of a run: the command line,
the page's form and Python callers all read them here."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lab import endpoint_kinds
from lab.load.schedule import FEWEST_REQUESTS, ROUNDS
from lab.model import LOAD
from lab.scenarios.definitions import CATEGORIES, RECORDING
from lab.settings import LARGEST_SEED, LIVE_MAX_USD, Flag, build

STREAMS, FEW_STREAMS = 16, 4
"""At once, where the user says nothing; few where one model on this machine answers them all."""
LIVE_STREAMS, MOST_STREAMS = 8, 512
"""The ceiling where requests cost money, and elsewhere, unless the user names one."""
MOST_LEVELS = 50
ARRIVALS = ("constant", "poisson", "gamma")
RECORDED = "recorded"
RAMP = re.compile(r"(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)(/s)?")
MOST_AT_ONCE = 10_000


class Ramp(NamedTuple):
    low: float
    high: float
    is_rate: bool
    """Whether requests a second rise; else the streams at once."""


class LoadConfig(BaseModel):
    """Everything a user chooses for a load; command line, page and Python build one, and go on
    alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    technique: Literal[LOAD] = Field(LOAD, description="what a worker takes a load by")
    concurrency: Annotated[list[int], Flag("how much", "A,B,…")] = Field(
        [],
        max_length=MOST_LEVELS,
        title="Streams at once",
        description="closed loop: so many requests are under way at once, each followed by the "
        f"next; several make a sweep (without this and --rate: {STREAMS}, and {FEW_STREAMS} on the "
        "embedded model)",
    )
    rate: Annotated[list[float], Flag("how much", "A,B,…")] = Field(
        [],
        max_length=MOST_LEVELS,
        title="Requests a second",
        description="open loop: so many requests begin each second, whether or not the server "
        "keeps up, and the wait before one is sent counts; several make a sweep",
    )
    arrivals: Annotated[str, Flag("how much", "NAME|FILE")] = Field(
        "poisson",
        title="Arrivals",
        description=f"of an open loop: {', '.join(ARRIVALS)}; a file with the instant of each "
        f"request (.csv, .txt, .json, .jsonl); or {RECORDED}, as a recording's conversations "
        "began; the last two are stretched to --rate where there is one",
    )
    gamma_shape: Annotated[float, Flag("how much", "X")] = Field(
        0.5,
        gt=0,
        le=1000,
        title="Burstiness",
        description="with --arrivals gamma: 1 is Poisson, less comes in bursts, more is steadier",
    )
    ramp: Annotated[str | None, Flag("how much", "A:B")] = Field(
        None,
        title="Ramp",
        description="one level in which the streams rise from A to B, or with A:B/s the requests a "
        "second, over --seconds",
    )
    requests: Annotated[int | None, Flag("how much", "N")] = Field(
        None,
        ge=1,
        le=1_000_000,
        title="Requests",
        description=f"of each level (default {ROUNDS} for each stream and at least "
        f"{FEWEST_REQUESTS}; fewer on the embedded model)",
    )
    seconds: Annotated[float | None, Flag("how much", "S")] = Field(
        None,
        gt=0,
        le=86_400,
        title="Seconds",
        description="how long each level goes on: closed loop, no request begins after it; open "
        "loop, so long a schedule",
    )
    search: Annotated[Literal["concurrency", "rate"] | None, Flag("how much")] = Field(
        None,
        title="Search",
        description="find the largest load that keeps every --slo, by doubling and halving; a "
        "level ends once it is decided",
    )
    slo: Annotated[list[str], Flag("how much", "RULE", repeated=True)] = Field(
        [],
        max_length=20,
        title="Objectives",
        description="what must hold, such as 'p95 ttft_ms < 800'; may be given again",
    )
    most: Annotated[int | None, Flag("how much", "N")] = Field(
        None,
        ge=1,
        le=MOST_AT_ONCE,
        title="At most at once",
        description="the ceiling of requests under way at once, in an open loop too, and of a "
        f"search of either kind (default {LIVE_STREAMS} where requests cost money, else"
        f" {MOST_STREAMS})",
    )
    max_tokens: Annotated[int, Flag("how much", "N")] = Field(
        64,
        ge=1,
        le=128_000,
        title="Answer tokens",
        description="of an answer at most; a body of your own keeps its own",
    )
    warmup: Annotated[int, Flag("how much", "N")] = Field(
        2,
        ge=0,
        le=100,
        title="Warm-up requests",
        description="requests that go first, on other prompts, and never count",
    )
    max_usd: Annotated[float | None, Flag("how much", "X")] = Field(
        None,
        ge=0,
        title="Budget, $",
        description="the most it may cost, in dollars; the level ends before it costs more, but "
        f"for what is under way ({LIVE_MAX_USD:.2f} by default where requests cost money)",
    )
    endpoint: Annotated[str | None, Flag("on what", "NAME|URL")] = Field(
        None,
        title="Endpoint",
        description=f"{', '.join(endpoint_kinds.own_servers())}, anthropic, one of your own "
        "settings, or any base URL of a Messages API",
    )
    models: Annotated[dict[str, str], Flag("on what", "M", "model", repeated=True)] = Field(
        {}, title="Model", description="the model's name (default: the endpoint's own)"
    )
    scenario: Annotated[str | None, Flag("on what", "NAME|FILE")] = Field(
        None,
        title="Requests from",
        description=f"what is asked: {', '.join(CATEGORIES)}, a .jsonl file of your own tasks or "
        f"bodies, or {RECORDING}RUN: the conversations of your own app, with their pauses",
    )
    stream: Annotated[bool, Flag("on what")] = Field(
        True, title="Stream", description="ask for streamed answers"
    )
    timeout_s: Annotated[float, Flag("on what", "S")] = Field(
        120,
        gt=0,
        le=3600,
        title="Timeout, s",
        description="seconds in which nothing arrives, after which a request counts as failed",
    )
    seed: Annotated[int | None, Flag("on what", "N")] = Field(
        None,
        ge=0,
        le=LARGEST_SEED,
        title="Seed",
        description="of the arrivals and the order of requests; without one it is drawn",
    )
    workers: Annotated[int, Flag("on what", "N")] = Field(
        1,
        ge=1,
        le=256,
        title="Workers",
        description="processes that share the load; more than one needs the extra `distributed`",
    )
    scheduler: Annotated[str | None, Flag("on what", "tcp://…")] = Field(
        None,
        title="Scheduler",
        description="a Dask scheduler whose workers share the load; needs the extra `distributed`",
    )
    keep_text: Annotated[bool, Flag("on what")] = Field(
        False, title="Keep the text", description="store what was answered, piece by piece"
    )
    name: Annotated[str | None, Flag("on what", "TEXT")] = Field(
        None, description="a name for the run, by which `show` finds it"
    )
    note: Annotated[str | None, Flag("on what", "TEXT")] = Field(
        None, description="a note kept with the run"
    )
    bias: bool = Field(
        True,
        description="measure the instrument itself once the load has ended, with as many streams",
    )
    db: str | None = Field(None, description="the database file")

    @model_validator(mode="after")
    def goes_together(self) -> LoadConfig:
        """One way to say how much; each with what it needs."""
        chosen = {
            "--concurrency": self.concurrency,
            "--rate": self.rate,
            "--ramp": self.ramp,
            "--search": self.search,
        }
        named = [flag for flag, value in chosen.items() if value]
        if self.has_own_arrivals and (self.concurrency or self.ramp):
            named.append(f"--arrivals {self.arrivals}")
        if len(named) > 1:
            raise ValueError(f"{named[0]} and {named[1]} exclude each other; name one of them")
        if self.ramp and not self.seconds:
            raise ValueError("--ramp rises over --seconds; name them too")
        if self.ramp:
            self.rising  # noqa: B018 - refuses what is none
        if self.search and not self.slo:
            raise ValueError("--search needs what must hold: --slo 'p95 ttft_ms < 800'")
        if self.arrivals == RECORDED and not (self.scenario or "").startswith(RECORDING):
            raise ValueError(f"--arrivals {RECORDED} needs a recording: --scenario {RECORDING}RUN")
        if self.is_open and self.requests and self.seconds:
            raise ValueError("--requests and --seconds exclude each other; name one of them")
        return self

    @field_validator("concurrency", "rate")
    @classmethod
    def within(cls, values: list[float]) -> list[float]:
        if wrong := [value for value in values if not 0 < value <= MOST_AT_ONCE]:
            raise ValueError(f"{wrong[0]:g} is not above 0 to {MOST_AT_ONCE:,}")
        return values

    @property
    def is_spread(self) -> bool:
        """Whether more than one process makes the load, or one of another machine."""
        return self.workers > 1 or self.scheduler is not None

    @property
    def has_own_arrivals(self) -> bool:
        """Whether the instants are known, from a file or a recording, and not drawn."""
        return self.arrivals not in ARRIVALS

    @property
    def arrivals_file(self) -> str | None:
        return self.arrivals if self.has_own_arrivals and self.arrivals != RECORDED else None

    @property
    def rising(self) -> Ramp | None:
        """ValueError for what is no ramp."""
        if self.ramp is None:
            return None
        match = RAMP.fullmatch(self.ramp.strip())
        if not match:
            raise ValueError(
                f"--ramp is A:B (streams) or A:B/s (requests a second), not {self.ramp!r}"
            )
        low, high, is_rate = float(match[1]), float(match[2]), bool(match[3])
        if low == high or max(low, high) > MOST_AT_ONCE:
            raise ValueError(f"--ramp goes from one number to another, up to {MOST_AT_ONCE:,}")
        if not is_rate and not (low.is_integer() and high.is_integer() and min(low, high) >= 1):
            raise ValueError("--ramp of streams takes whole numbers from 1 on")
        return Ramp(low, high, is_rate)

    @property
    def is_open(self) -> bool:
        """Whether requests begin at their instants, and not one after the other."""
        rising = self.rising
        return bool(
            self.rate
            or self.search == "rate"
            or self.has_own_arrivals
            or (rising and rising.is_rate)
        )


def load_config_of(**values: Any) -> LoadConfig:
    """A LoadConfig, or a LabError that names the setting and what is wrong with it."""
    return build(LoadConfig, values)
