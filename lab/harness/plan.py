"""What a run will do, decided before it starts: its settings, its arms, its tasks, and every block in order."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lab import techniques
from lab.model import Arm, EndpointKind, Knobs, LabError, Phase, Technique, Tier
from lab.scenarios import definitions
from lab.scenarios.definitions import Task

SIDE_BY_SIDE = "side-by-side"
AGENTS = "agents"
"""The technique that functions of the user's own are arms of; only lab.library, which is given them, can run it."""
QUICK_BLOCKS = 6
QUICK_ANSWER_TOKENS = 48
LIVE_MAX_USD = 0.50
TIERS: tuple[Tier, ...] = ("small", "large")


class BenchmarkConfig(BaseModel):
    """Everything a user chooses for a run; page and CLI build one, and from here the paths are one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    technique: str
    endpoint: str | None = None
    models: dict[str, str] = {}
    """Tier to model name; the key "any" stands for whichever tier is asked for."""
    runs: int = Field(10, ge=1, le=10_000)
    warmup: int = Field(1, ge=0, le=100)
    quick: bool = False
    seed: int | None = Field(None, ge=0, lt=2**53)
    scenario: str | None = None
    tasks: list[Task] | None = None
    arms: list[str] | None = None
    """Arms by name, or "technique.arm" side by side, the baseline first; None is all that the technique has."""
    knobs: dict[str, Any] = {}
    max_usd: float | None = Field(None, ge=0)
    keep_text: bool | None = None
    deadline_s: float = Field(120, gt=0, le=3600)
    join_run: str | None = None
    target_half_width_ms: float | None = Field(None, gt=0)
    min_runs: int = Field(6, ge=1, le=10_000)
    max_runs: int = Field(200, ge=1, le=10_000)
    name: str | None = None
    note: str | None = None
    db: str | None = None

    @property
    def blocks(self) -> int:
        """Measured blocks asked for: the fixed number, or the most that a target precision may take."""
        if self.target_half_width_ms is not None:
            return max(self.max_runs, self.min_runs)
        return QUICK_BLOCKS if self.quick else self.runs


def config_of(**values: Any) -> BenchmarkConfig:
    """A BenchmarkConfig, or a LabError that names the setting and what is wrong with it."""
    try:
        return BenchmarkConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise LabError(
            f"{where}: {first['msg'].removeprefix('Value error, ')} (given: {first.get('input')!r:.80})."
        ) from None


@dataclass(frozen=True)
class Variant:
    """An arm with the technique it comes from and the knobs it runs with."""

    technique: Technique
    arm: Arm
    knobs: Knobs

    @property
    def key(self) -> tuple[str, str]:
        return self.technique.slug, self.arm.name

    @property
    def ref(self) -> dict[str, str]:
        return {"technique": self.technique.slug, "arm": self.arm.name}


@dataclass(frozen=True)
class Block:
    number: int
    """Measured blocks count from 1; warm-ups come before, at 0 and below."""
    phase: Phase
    task: Task
    order: tuple[Variant, ...]


@dataclass(frozen=True)
class Experiment:
    """A config resolved: arms (the baseline first), tasks, and the one comparison on which the verdict is planned."""

    title: str
    variants: tuple[Variant, ...]
    tasks: tuple[Task, ...]
    metric: str
    headline: Variant
    tiers: tuple[Tier, ...]
    needs: frozenset[str]

    @property
    def baseline(self) -> Variant:
        return self.variants[0]

    def blocks(self, seed: int, first: int, last: int) -> Iterator[Block]:
        """Blocks `first` to `last`, each with every arm once in random order, so that drift falls on all arms alike.

        Abedi & Brecht, ICPE 2017 (doi 10.1145/3030207.3030229): only randomised multiple interleaved trials compare fairly.
        Each block's order comes from (seed, block) alone: a resumed or longer run has the blocks that one go would have had.
        """
        for number in range(first, last + 1):
            turn, place = divmod(number - 1, len(self.tasks))
            tasks = random.Random(f"{seed}:tasks:{turn}").sample(self.tasks, k=len(self.tasks))
            yield Block(number, "measured", tasks[place], self._shuffled(seed, number))

    def warmups(self, seed: int, count: int) -> Iterator[Block]:
        """Warm-up blocks, on prompts that no measured trial uses."""
        tasks = definitions.warmup_tasks()
        for number in range(1 - count, 1):
            yield Block(number, "warmup", tasks[number % len(tasks)], self._shuffled(seed, number))

    def _shuffled(self, seed: int, number: int) -> tuple[Variant, ...]:
        return tuple(random.Random(f"{seed}:{number}").sample(self.variants, k=len(self.variants)))


def new_seed() -> int:
    return secrets.randbelow(2**31)


def experiment(
    config: BenchmarkConfig, kind: EndpointKind, technique: Technique | None = None
) -> Experiment:
    """Resolve a config against the techniques and scenarios; LabError for an unknown name or a knob out of range.

    `technique` is one that lab.techniques does not list, such as agents of the user's own; it alone may have a single arm.
    """
    if technique is None and config.technique == AGENTS:
        raise LabError(
            "This run compared functions of your own. Go on from Python: Lab().compare(agents, join_run=RUN)."
        )
    variants = (
        _side_by_side(config)
        if config.technique == SIDE_BY_SIDE
        else _of_one(config, technique or techniques.find(config.technique))
    )
    if len(variants) < 2 and technique is None:
        raise LabError("A comparison needs two arms, a baseline and another.")
    first = variants[0].technique
    if config.technique == SIDE_BY_SIDE:
        title, metric, headline = "Side by side", "total_ms", variants[1]
        if len({v.technique.headline for v in variants}) == 1:
            metric = first.headline
    else:
        title, metric = first.title, first.headline
        wanted = first.headline_arm_for(variants[0].knobs) if len(variants) > 1 else ""
        headline = next(
            (v for v in variants[1:] if v.arm.name == wanted), variants[min(1, len(variants) - 1)]
        )
        if config.quick:
            variants = [variants[0], headline]
    tasks = config.tasks or definitions.load(config.scenario or first.category, kind)
    definitions.check_characters(
        config.name,
        config.note,
        *(v.knobs.model_dump() for v in variants),
        *(task.model_dump() for task in tasks),
    )
    used = [v.technique for v in variants]
    tiers = tuple(tier for tier in TIERS if any(tier in t.tiers for t in used))
    return Experiment(
        title,
        tuple(variants),
        tuple(tasks),
        metric,
        headline,
        tiers,
        frozenset(n for t in used for n in t.needs),
    )


def knobs_of(technique: Technique, values: Mapping[str, Any], quick: bool = False) -> Knobs:
    try:
        knobs = technique.knobs(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "knobs"
        raise LabError(
            f"{technique.slug}: {name} = {values.get(name)!r:.80}: {first['msg'].removeprefix('Value error, ')}."
        ) from None
    tokens = getattr(knobs, "answer_tokens", None)
    if quick and tokens and tokens > QUICK_ANSWER_TOKENS:
        knobs = knobs.model_copy(update={"answer_tokens": QUICK_ANSWER_TOKENS})
    return knobs


def _of_one(config: BenchmarkConfig, technique: Technique) -> list[Variant]:
    knobs = knobs_of(technique, config.knobs, config.quick)
    arms = {arm.name: arm for arm in technique.arms_for(knobs)}
    names = [name.removeprefix(f"{technique.slug}.") for name in config.arms or arms]
    return [Variant(technique, _arm(arms, name, technique), knobs) for name in dict.fromkeys(names)]


def _side_by_side(config: BenchmarkConfig) -> list[Variant]:
    variants = []
    for ref in dict.fromkeys(config.arms or ()):
        slug, dot, name = ref.partition(".")
        if not dot:
            raise LabError(
                f"{ref!r} is no arm: side by side names them technique.arm, for example streaming.streamed."
            )
        technique = techniques.find(slug)
        knobs = knobs_of(technique, config.knobs.get(technique.slug, {}), config.quick)
        variants.append(
            Variant(
                technique,
                _arm({a.name: a for a in technique.arms_for(knobs)}, name, technique),
                knobs,
            )
        )
    return variants


def _arm(arms: Mapping[str, Arm], name: str, technique: Technique) -> Arm:
    if name not in arms:
        raise LabError(f"{technique.title} has no arm {name!r}; its arms are {', '.join(arms)}.")
    return arms[name]


def settings(config: BenchmarkConfig, plan: Experiment, version: str) -> dict[str, Any]:
    """What `runs.settings` keeps: enough to repeat, resume and judge the run."""
    by_technique = {v.technique.slug: v.knobs.model_dump(mode="json") for v in plan.variants}
    chosen = config.model_dump(
        mode="json", exclude={"join_run", "db", "tasks"}, exclude_defaults=True
    )
    if (
        config.tasks is not None
    ):  # whole, since what kind of check a task has is a default of its class
        chosen["tasks"] = [task.model_dump(mode="json") for task in config.tasks]
    return {
        "config": chosen,
        "arms": [v.ref for v in plan.variants],
        "baseline": plan.baseline.ref,
        "headline": {"metric": plan.metric, **plan.headline.ref},
        "knobs": by_technique
        if config.technique == SIDE_BY_SIDE
        else next(iter(by_technique.values())),
        "scenario": config.scenario
        or ("pasted" if config.tasks else plan.baseline.technique.category),
        "runs": config.blocks,
        "warmup": config.warmup,
        "quick": config.quick,
        "lab_version": version,
    }


def repeated(run: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a stored run, for a repeat on the endpoint that the run shows. `run` has settings, endpoint and imported_from.

    What another's file may have put there is not taken over: no budget, no database, and LabError for a file of tasks to read.
    """
    config = {**run["settings"]["config"], "endpoint": run["endpoint"], "db": None}
    if isinstance(run.get("imported_from"), str):  # a missing one may be NaN
        config.pop("max_usd", None)
        if config.get("scenario") not in (None, *definitions.CATEGORIES):
            raise LabError(
                f"This run was imported, and its tasks are in a file that it names ({config['scenario']}). "
                "Name the file yourself to measure them: --scenario FILE."
            )
    return config


def private(tasks: Sequence[Task]) -> bool:
    """Whether any task is the user's own: their text is then kept only by choice."""
    return any(task.origin == "user" for task in tasks)
