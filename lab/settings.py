"""The settings of a run, each said once: what it means, its limits, its flag.

The command line, the page's form, docs/settings.md and Python callers all read them here. A
technique's knobs are described the same way.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from lab import endpoint_kinds
from lab.metrics import CLOCKS, FEWEST_BLOCKS, needed
from lab.model import LabError, sentence
from lab.scenarios.checks import Frozen
from lab.scenarios.definitions import CATEGORIES, RECORDING, Task

QUICK_BLOCKS = FEWEST_BLOCKS
QUICK_ANSWER_TOKENS = 48
LIVE_MAX_USD = 0.50
"""The budget of a run that costs money, where the user names none."""
MOST_BLOCKS = 10_000
LARGEST_SEED = 2**53 - 1
"""The largest whole number that a browser and JSON keep exactly."""

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Flag:
    """Beside a field's type: the setting has a flag on the command line, in this group."""

    group: Literal["how much", "on what"]
    metavar: str = ""
    name: str = ""
    """Without dashes, where it is not the field's own name."""
    repeated: bool = False


@dataclass(frozen=True)
class Setting:
    """A field of a pydantic model, as flags, forms and documents need it."""

    name: str
    kind: Any
    """The type of one value: bool, int, float, str; of any other kind a value is read as JSON."""
    choices: tuple[Any, ...]
    many: bool
    optional: bool
    low: float | None
    high: float | None
    is_above: bool
    """Whether `low` itself is not allowed."""
    default: Any
    help: str
    title: str
    """What a form calls it; empty where the name says it."""
    flag: Flag | None
    words: Mapping[Any, str] = field(default_factory=dict)
    """What a form calls its choices, where they do not speak for themselves."""
    only: Mapping[str, Any] = field(default_factory=dict)
    """Values of other settings without which this one changes nothing: a form then leaves it
    out."""

    @property
    def option(self) -> str:
        return "--" + ((self.flag and self.flag.name) or self.name).replace("_", "-")

    @property
    def limits(self) -> str:
        """What is allowed, in words: "1 to 10,000", "above 0 to 3,600"."""
        if self.low is None or self.high is None:
            return ""
        return f"{'above ' * self.is_above}{self.low:,} to {self.high:,}"

    @property
    def usual(self) -> str:
        """The default as one would write it; empty where there is none."""
        if self.default in (None, "", (), [], {}) or isinstance(self.default, bool):
            return ""
        many = isinstance(self.default, (list, tuple))
        return ",".join(map(str, self.default)) if many else str(self.default)


@cache
def of(model: type[BaseModel]) -> dict[str, Setting]:
    """The settings of a model by name, in its order."""
    return {name: _setting(name, field) for name, field in model.model_fields.items()}


def _setting(name: str, field: FieldInfo) -> Setting:
    kind, many, optional = _kind(field.annotation)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    return Setting(
        name=name,
        kind=type(choices[0]) if choices else kind,
        choices=choices,
        many=many,
        optional=optional,
        low=_bound(field, Ge, Gt),
        high=_bound(field, Le, Lt),
        is_above=_bound(field, Gt) is not None,
        default=None if field.is_required() else field.get_default(call_default_factory=True),
        help=(field.description or "").rstrip("."),
        title=field.title or "",
        flag=next((mark for mark in field.metadata if isinstance(mark, Flag)), None),
        **(field.json_schema_extra or {}),
    )


def _kind(annotation: Any) -> tuple[Any, bool, bool]:
    """The type of one value, whether there are several, and whether it may be left empty."""
    parts = get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in parts if part is not type(None)]
        kind, many, _ = _kind(rest[0]) if len(rest) == 1 else (Any, False, False)
        return kind, many, len(rest) < len(parts)
    if get_origin(annotation) in (list, tuple):
        return parts[0], True, False
    return annotation, False, False


def _bound(field: FieldInfo, *rules: type) -> float | None:
    """Of the first mark of these rules; each is named as its one value is: Ge(ge=1)."""
    marks = [mark for mark in field.metadata if isinstance(mark, rules)]
    return getattr(marks[0], type(marks[0]).__name__.lower()) if marks else None


class Predicted(Frozen):
    """Seconds sooner that a fix was said to be worth to one call, before it was measured."""

    value: float = Field(allow_inf_nan=False)
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    is_upper_bound: bool = False


class BenchmarkConfig(BaseModel):
    """Everything a user chooses for a run; page, CLI and Python build one, and go on alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    technique: str = Field(description="the technique, by its slug")
    runs: Annotated[int, Flag("how much", "N")] = Field(
        10,
        ge=1,
        le=MOST_BLOCKS,
        title="Blocks",
        description="measured blocks: one task with every arm once, in random order; "
        f"{FEWEST_BLOCKS} is the fewest from which 95 % can be reached",
    )
    quick: Annotated[bool, Flag("how much")] = Field(
        False,
        description=f"{QUICK_BLOCKS} blocks of the baseline and the headline arm; short answers",
    )
    warmup: Annotated[int, Flag("how much", "N")] = Field(
        1,
        ge=0,
        le=100,
        title="Warm-up blocks",
        description="blocks that run first, with other prompts, and never count",
    )
    target_half_width_ms: Annotated[float | None, Flag("how much", "MS", "until-precision")] = (
        Field(
            None,
            gt=0,
            title="Stop once known to ± ms",
            description="go on until the interval is within ± this many ms; a p-value never ends a "
            "run",
        )
    )
    min_runs: Annotated[int, Flag("how much", "N")] = Field(
        FEWEST_BLOCKS,
        ge=1,
        le=MOST_BLOCKS,
        description="with --until-precision: the fewest blocks",
    )
    max_runs: Annotated[int, Flag("how much", "N")] = Field(
        200,
        ge=1,
        le=MOST_BLOCKS,
        description="with --until-precision: the most blocks",
    )
    max_usd: Annotated[float | None, Flag("how much", "X")] = Field(
        None,
        ge=0,
        title="Budget, $",
        description="the most it may cost, in dollars; the run stops before it would cost more "
        f"({LIVE_MAX_USD:.2f} by default where requests cost money)",
    )
    endpoint: Annotated[str | None, Flag("on what", "NAME|URL")] = Field(
        None,
        description=f"{', '.join(endpoint_kinds.own_servers())}, anthropic, one of your own "
        "settings, or any base URL of a Messages API",
    )
    models: Annotated[dict[str, str], Flag("on what", "M", "model", repeated=True)] = Field(
        {},
        description="a model's name; where two are needed: small=M and large=M",
    )
    """Tier to model name; the key "any" stands for whichever tier is asked for."""
    scenario: Annotated[str | None, Flag("on what", "NAME|FILE")] = Field(
        None,
        title="Tasks",
        description=f"what is asked: {', '.join(CATEGORIES)}, a .jsonl file of your own tasks, or "
        f"calls of your own app: {RECORDING}RUN",
    )
    seed: Annotated[int | None, Flag("on what", "N")] = Field(
        None,
        ge=0,
        le=LARGEST_SEED,
        title="Seed",
        description="the order of tasks and arms; the same seed gives the same order, and without "
        "one it is drawn",
    )
    keep_text: Annotated[bool | None, Flag("on what")] = Field(
        None,
        title="Keep the text of",
        description="whose words are stored, asked and answered: without it the lab's own tasks "
        "and their answers, and of your requests, tasks and code only the shape (fields, roles, "
        "lengths); with it yours too; with --no-keep-text no answer at all",
    )
    name: Annotated[str | None, Flag("on what", "TEXT")] = Field(
        None, description="a name for the run, by which `show` finds it"
    )
    note: Annotated[str | None, Flag("on what", "TEXT")] = Field(
        None, description="a note kept with the run"
    )
    workers: Annotated[int, Flag("on what", "N")] = Field(
        1,
        ge=1,
        le=256,
        title="Workers",
        description="processes that share the blocks, each a session of the run; more than one "
        "needs the extra `distributed`, and not the embedded model",
    )
    scheduler: Annotated[str | None, Flag("on what", "tcp://…")] = Field(
        None,
        title="Scheduler",
        description="a Dask scheduler whose workers share the blocks; needs the extra "
        "`distributed`",
    )
    tasks: list[Task] | None = Field(None, description="tasks of your own, in place of a scenario")
    arms: list[str] | None = Field(
        None,
        description='arms by name, or "technique.arm" side by side, the baseline first; without '
        "any, all that the technique has",
    )
    metric: Literal[CLOCKS] | None = Field(
        None,
        title="Judged on",
        description="side by side: the clock on which the verdict is planned; without one the "
        "headline that the techniques share, else the perceived wait or, where a trial is more "
        "than one answer, the total time",
    )
    knobs: dict[str, Any] = Field({}, description="the technique's own knobs by name")
    predicted: Predicted | None = Field(
        None,
        description="the seconds that a recording predicts for its fix: value, low, high; the "
        "verdict stands beside them",
    )
    deadline_s: float = Field(
        120,
        gt=0,
        le=3600,
        description="seconds after which a trial is ended and counts as failed",
    )
    join_run: str | None = Field(None, description="the run to go on with, in a new session")
    db: str | None = Field(None, description="the database file")

    @property
    def is_spread(self) -> bool:
        """Whether more than one process measures it, or one of another machine."""
        return self.workers > 1 or self.scheduler is not None

    @property
    def blocks(self) -> int:
        """Measured blocks asked for: the fixed number, or the most a target precision may take."""
        if self.target_half_width_ms is not None:
            return max(self.max_runs, self.min_runs)
        return QUICK_BLOCKS if self.quick else self.runs

    @property
    def own_tasks(self) -> list[Task] | None:
        """Tasks of the user's own that nothing else keeps; those of a recording are kept there."""
        return None if (self.scenario or "").startswith(RECORDING) else self.tasks

    def budget_usd(self, endpoint_kind: str) -> float | None:
        """The most that all sessions of the run may cost, in dollars; None is without a limit."""
        if self.max_usd is None and endpoint_kinds.kind(endpoint_kind).priced:
            return LIVE_MAX_USD
        return self.max_usd


def usual_blocks(quantile: float | None) -> int | None:
    """How many blocks are usual where a verdict is about a tail: some more than carry it at all.
    None: as many as everywhere."""
    return None if quantile is None else -(-needed(quantile) * 4 // 3 // 10) * 10


def build(model: type[Model], values: Mapping[str, Any], name: Callable[[str], str] = str) -> Model:
    """The model with these values, or a LabError that says what is wrong with which.

    `name` turns the path of a field into what the user calls it: a flag, a label.
    """
    try:
        return model(**values)
    except ValidationError as error:
        raise LabError(f"{sentence(error, name)}.") from None


def config_of(**values: Any) -> BenchmarkConfig:
    """A BenchmarkConfig, or a LabError that names the setting and what is wrong with it."""
    return build(BenchmarkConfig, values)
