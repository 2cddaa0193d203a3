"""The shape of what a ladder's run keeps of itself: what is read from a file has it, or is refused.
lab/ladder_record.py writes it and says what the parts are."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lab.ladder.ladder_settings import OBJECTIVES


class Part(BaseModel):
    """What a later version adds is left out."""

    model_config = ConfigDict(extra="ignore")


class KeptLever(Part):
    name: str
    title: str
    technique: str
    levels: list[str]
    words: dict[str, str]


class Refused(Part):
    lever: str
    level: str
    reason: str


class KeptStage(Part):
    stage: str
    blocks: int
    trials: int


class Tried(Part):
    arm: str
    stack: dict[str, str]


class Decided(Part):
    stage: str
    block: int
    lever: str | None
    arm: str | None
    reason: str
    estimate: float | None
    low: float | None
    high: float | None


class KeptRung(Part):
    lever: str
    level: str
    words: str
    before: dict[str, str]
    after: dict[str, str]
    change: float
    low: float | None
    high: float | None
    p: float


class GivenUp(Part):
    lever: str
    reason: str


class KeptPair(Part):
    levers: list[str] = Field(min_length=2, max_length=2)
    alone: list[float] = Field([], max_length=2)
    """Without it, of an earlier version: `change` is then on another scale, and is not told."""
    both: float = 0.0
    change: float
    low: float | None
    high: float | None
    p: float


class Kept(Part):
    objective: Literal[OBJECTIVES]
    bar: float
    minutes: float
    max_usd: float | None
    config: dict[str, Any]
    levers: list[KeptLever]
    not_tried: list[Refused]
    stages: list[KeptStage]
    tried: list[Tried]
    decisions: list[Decided]
    winner: dict[str, str] | None
    winner_words: str | None
    rungs: list[KeptRung]
    others: list[KeptRung]
    given_up: list[GivenUp]
    together: list[KeptPair]
    ended_with: str
