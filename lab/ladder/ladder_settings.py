"""The settings of a ladder, each said once, as lab.settings says those of a run: the command line,
the page's form and Python callers all read them here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lab import endpoint_kinds
from lab.ladder.design import MOST_LEVERS
from lab.metrics import CLOCKS, needed
from lab.model import LADDER
from lab.scenarios.definitions import CATEGORIES, RECORDING, Task
from lab.settings import LARGEST_SEED, Flag, build

OBJECTIVES = tuple(f"{clock}:{quantile}" for clock in CLOCKS for quantile in ("p50", "p95"))
CONFIRMING = {"p50": (12, 40), "p95": (needed(0.95), 150)}
"""By quantile, the fewest blocks and the most that confirm a winner: a percentile takes as many as
its interval does."""
LADDER_MAX_USD = 1.50
"""Where requests cost money and nobody says how much: a search asks many stacks, each of which is
counted at its dearest before it is asked."""


class LadderConfig(BaseModel):
    """Everything a user chooses for a ladder; command line, page and Python build one, and go on
    alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    technique: Literal[LADDER] = Field(LADDER, description="what a worker takes a ladder by")
    levers: Annotated[list[str], Flag("how much", "A,B,…")] = Field(
        [],
        title="Levers",
        description=f"which ones are tried, at most {MOST_LEVERS}; without it all that the endpoint"
        " and the tasks allow",
    )
    today: Annotated[dict[str, str], Flag("on what", "LEVER=LEVEL", repeated=True)] = Field(
        {},
        title="Today",
        description="what your application does already, such as streamed=streamed; may be given "
        "again",
    )
    objective: Annotated[Literal[OBJECTIVES], Flag("how much")] = Field(
        "wait_ms:p50",
        title="Objective",
        description="what is to become shorter",
        json_schema_extra={
            "words": {
                "wait_ms:p50": "wait, p50",
                "wait_ms:p95": "wait, p95",
                "ttft_ms:p50": "first token, p50",
                "ttft_ms:p95": "first token, p95",
                "total_ms:p50": "total time, p50",
                "total_ms:p95": "total time, p95",
            }
        },
    )
    bar: Annotated[float, Flag("how much", "POINTS")] = Field(
        10,
        ge=0,
        le=100,
        title="Quality bar, points",
        description="how many points of quality (of 100 checks, those passed) a stack may lose "
        "against today; that it loses no more must be shown at 95 %, one-sided",
    )
    minutes: Annotated[float, Flag("how much", "M")] = Field(
        10,
        gt=0,
        le=24 * 60,
        title="Minutes",
        description="the longest that it may take; it ends before",
    )
    max_usd: Annotated[float | None, Flag("how much", "X")] = Field(
        None,
        ge=0,
        title="Budget, $",
        description="the most it may cost, in dollars; no block begins that might cost more "
        f"({LADDER_MAX_USD:.2f} by default where requests cost money)",
    )
    answer_tokens: Annotated[int, Flag("how much", "N")] = Field(
        96,
        ge=8,
        le=2000,
        title="Longest answer, tokens",
        description="the most tokens an answer may have today; a body of your own keeps its own",
    )
    warmup: Annotated[int, Flag("how much", "N")] = Field(
        1,
        ge=0,
        le=100,
        title="Warm-up trials",
        description="trials of today's requests that go first, on other prompts, and never count",
    )
    endpoint: Annotated[str | None, Flag("on what", "NAME|URL")] = Field(
        None,
        title="Endpoint",
        description=f"{', '.join(endpoint_kinds.own_servers())}, anthropic, one of your own "
        "settings, or any base URL of a Messages API",
    )
    models: Annotated[dict[str, str], Flag("on what", "M", "model", repeated=True)] = Field(
        {}, description="a model's name; where two are needed: small=M and large=M"
    )
    scenario: Annotated[str | None, Flag("on what", "NAME|FILE")] = Field(
        None,
        title="Tasks",
        description=f"what is asked: {', '.join(CATEGORIES)}, a .jsonl file of your own tasks, or "
        f"calls of your own app: {RECORDING}RUN (default rag)",
    )
    tasks: list[Task] | None = Field(None, description="tasks of your own, in place of a scenario")
    seed: Annotated[int | None, Flag("on what", "N")] = Field(
        None,
        ge=0,
        le=LARGEST_SEED,
        title="Seed",
        description="the order of tasks and stacks; without one it is drawn",
    )
    keep_text: Annotated[bool | None, Flag("on what")] = Field(
        None,
        title="Keep the text of",
        description="whose words are stored, asked and answered, as of any run",
    )
    name: Annotated[str | None, Flag("on what", "TEXT")] = Field(
        None, description="a name for the run, by which `show` finds it"
    )
    note: Annotated[str | None, Flag("on what", "TEXT")] = Field(
        None, description="a note kept with the run"
    )
    deadline_s: float = Field(
        120,
        gt=0,
        le=3600,
        description="seconds after which a trial is ended and counts as failed",
    )
    db: str | None = Field(None, description="the database file")

    @field_validator("levers")
    @classmethod
    def are_few(cls, levers: list[str]) -> list[str]:
        levers = list(dict.fromkeys(levers))
        if len(levers) > MOST_LEVERS:
            raise ValueError(f"{len(levers)} levers are more than a plan is made of: name"
                             f" {MOST_LEVERS} at most")  # fmt: skip
        return levers

    @property
    def metric(self) -> str:
        return self.objective.partition(":")[0]

    @property
    def quantile(self) -> str:
        return self.objective.partition(":")[2]

    @property
    def tail(self) -> float | None:
        """The quantile that is asked for, where it is not the middle."""
        return 0.95 if self.quantile == "p95" else None

    @property
    def bar_share(self) -> float:
        return self.bar / 100

    def budget_usd(self, endpoint_kind: str) -> float | None:
        """The most that it may cost, in dollars; None is without a limit."""
        if self.max_usd is None and endpoint_kinds.kind(endpoint_kind).priced:
            return LADDER_MAX_USD
        return self.max_usd


def ladder_config_of(**values: Any) -> LadderConfig:
    """A LadderConfig, or a LabError that names the setting and what is wrong with it."""
    return build(LadderConfig, values)
