"""What a run will do, decided before it starts: its arms, its tasks, and every block in order."""

from __future__ import annotations

import random
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab import endpoint_kinds, techniques
from lab.endpoints import registry
from lab.endpoints.registry import Endpoint
from lab.metrics import OF_A_STREAM
from lab.model import Arm, EndpointKind, Knobs, LabError, Phase, Technique, Tier
from lab.scenarios import definitions
from lab.scenarios.definitions import Task
from lab.settings import QUICK_ANSWER_TOKENS, BenchmarkConfig, build
from lab.settings import of as settings_of
from lab.version import VERSION

SIDE_BY_SIDE = "side-by-side"
AGENTS = "agents"
"""The technique that functions of the user's own are arms of; only lab.library, which is given
them, can run it."""
TIERS: tuple[Tier, ...] = ("small", "large")
TWO_MODELS = "two models"


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
    def tiers(self) -> tuple[Tier, ...]:
        return self.technique.tiers_for(self.knobs)

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
    """A config resolved: arms (the baseline first), tasks, and the one comparison on which the
    verdict is planned."""

    title: str
    variants: tuple[Variant, ...]
    tasks: tuple[Task, ...]
    metric: str
    quantile: float | None
    """Of the metric, where the verdict is about its tail."""
    headline: Variant
    tiers: tuple[Tier, ...]
    needs: frozenset[str]
    unable: tuple[Arm, ...] = ()
    """Arms that nobody left out but the endpoint, which cannot do what they need."""

    @property
    def baseline(self) -> Variant:
        return self.variants[0]

    def blocks(self, seed: int, first: int, last: int) -> Iterator[Block]:
        """Blocks `first` to `last`, each with every arm once in random order, so that drift falls
        on all arms alike.

        Abedi & Brecht, ICPE 2017 (doi 10.1145/3030207.3030229): only randomised multiple
        interleaved trials compare fairly. Each block's order comes from (seed, block) alone: a
        resumed or longer run has the blocks that one go would have had.
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


def abilities(endpoint: Endpoint) -> frozenset[str]:
    """What arms and techniques may need of an endpoint, "two models" and what each tier's model can
    among it."""
    two = {TWO_MODELS} if len(set(endpoint.models.values())) > 1 else set()
    of_tiers = {
        endpoint_kinds.of_tier(can, tier)
        for tier, model in endpoint.models.items()
        for can in endpoint.able(model)
    }
    return endpoint.capabilities | two | of_tiers


def lacking(title: str, needs: Iterable[str], endpoint: Endpoint) -> str:
    """Why an endpoint cannot try what this is about, and what can; empty where it can."""
    missing = registry.missing(needs, abilities(endpoint))
    if not missing:
        return ""
    others = [kind for kind in endpoint_kinds.that_can(missing) if kind != endpoint.name]
    elsewhere = f"; {' and '.join(others)} can" if others else ""
    return f"{endpoint.name} cannot do {', '.join(missing)}, which {title} is about{elsewhere}."


def experiment(
    config: BenchmarkConfig,
    kind: EndpointKind,
    technique: Technique | None = None,
    able: Container[str] | None = None,
) -> Experiment:
    """Resolve a config against the techniques and scenarios.

    LabError for an unknown name or a knob out of range. `technique` is one that lab.techniques
    does not list, such as agents of the user's own; it alone may have a single arm. `able` is what
    the endpoint can do: without a choice of arms those that need more are left out.
    """
    if technique is None and config.technique == AGENTS:
        raise LabError(
            "This run compared functions of your own. Go on from Python: "
            "Lab().compare(agents, join_run=RUN)."
        )
    side_by_side = config.technique == SIDE_BY_SIDE
    variants = (
        _side_by_side(config)
        if side_by_side
        else _of_technique(config, technique or techniques.find(config.technique), able)
    )
    if len(variants) < 2 and technique is None:
        raise LabError("A comparison needs two arms, a baseline and another.")
    first = variants[0].technique
    headline = variants[1] if side_by_side else _headline(variants)
    if config.quick and not side_by_side:
        variants = [variants[0], headline]
    if config.metric and not side_by_side:
        raise LabError(
            f"{first.title} is judged on its own headline; a metric is chosen only side by side."
        )
    tasks = config.tasks or definitions.load(config.scenario or first.category, kind)
    definitions.check_characters(
        config.name,
        config.note,
        *(variant.knobs.model_dump() for variant in variants),
        *(task.model_dump() for task in tasks),
    )
    needed = {tier for variant in variants for tier in variant.tiers}
    return Experiment(
        title="Side by side" if side_by_side else first.title,
        variants=tuple(variants),
        tasks=tuple(tasks),
        metric=config.metric or shared_metric(variant.technique for variant in variants),
        quantile=None if config.metric else shared_quantile(v.technique for v in variants),
        headline=headline,
        tiers=tuple(tier for tier in TIERS if tier in needed),
        needs=frozenset(
            need for variant in variants for need in (*variant.technique.needs, *variant.arm.needs)
        ),
        unable=() if config.arms else _unable(variants[0], able),
    )


def _unable(variant: Variant, able: Container[str] | None) -> tuple[Arm, ...]:
    arms_for, knobs = variant.technique.arms_for, variant.knobs
    able_to = arms_for(knobs, able)
    return tuple(arm for arm in arms_for(knobs) if arm not in able_to)


def shared_metric(members: Iterable[Technique]) -> str:
    """What arms of several techniques are judged on: the headline that these share; where each is
    about how an answer begins, the perceived wait; else the total time."""
    headlines = {technique.headline for technique in members}
    if len(headlines) == 1:
        return headlines.pop()
    return "wait_ms" if headlines <= set(OF_A_STREAM) else "total_ms"


def shared_quantile(members: Iterable[Technique]) -> float | None:
    """That of the headline which all of them share; arms of several are else judged at the
    middle."""
    kinds = {(technique.headline, technique.headline_quantile) for technique in members}
    return kinds.pop()[1] if len(kinds) == 1 else None


def _headline(variants: Sequence[Variant]) -> Variant:
    """The variant that the technique's verdict is planned on, if it is there; else the second."""
    if len(variants) == 1:
        return variants[0]
    name = variants[0].technique.headline_arm_for(variants[0].knobs)
    return next((variant for variant in variants[1:] if variant.arm.name == name), variants[1])


def knobs_of(technique: Technique, values: Mapping[str, Any], quick: bool = False) -> Knobs:
    """The technique's knobs; LabError for a value out of range. A quick run's answers are short."""
    knobs = build(
        technique.knobs, values, lambda path: f"{technique.slug}: {path}".removesuffix(": ")
    )
    tokens = getattr(knobs, "answer_tokens", None)
    if quick and tokens and tokens > QUICK_ANSWER_TOKENS:
        knobs = knobs.model_copy(update={"answer_tokens": QUICK_ANSWER_TOKENS})
    return knobs


def _of_technique(
    config: BenchmarkConfig, technique: Technique, able: Container[str] | None
) -> list[Variant]:
    knobs = knobs_of(technique, config.knobs, config.quick)
    arms = [arm.name for arm in technique.arms_for(knobs, able)]
    names = [name.removeprefix(f"{technique.slug}.") for name in config.arms or arms]
    return [_variant(technique, name, knobs) for name in dict.fromkeys(names)]


def _side_by_side(config: BenchmarkConfig) -> list[Variant]:
    arms = []
    for ref in dict.fromkeys(config.arms or ()):
        slug, dot, name = ref.partition(".")
        if not dot:
            raise LabError(
                f"{ref!r} is not an arm: side by side they are named TECHNIQUE.ARM, "
                f"for example {example_arms()[0]}."
            )
        arms.append((techniques.find(slug), name))
    tokens = answer_tokens(technique for technique, _ in arms)
    variants = []
    for technique, name in arms:
        values = config.knobs.get(technique.slug, {})
        if "answer_tokens" in technique.knobs.model_fields:
            values = {"answer_tokens": tokens} | values
        variants.append(_variant(technique, name, knobs_of(technique, values, config.quick)))
    return variants


def answer_tokens(members: Iterable[Technique]) -> int | None:
    """How long every arm's answers may be side by side: as long as the shortest that one of the
    techniques has by itself, as far as each allows it; None where none has any. A longer answer
    would be a difference that no technique makes."""
    settings = [settings_of(technique.knobs).get("answer_tokens") for technique in members]
    known = [setting for setting in settings if setting and setting.default]
    shortest = min((setting.default for setting in known), default=None)
    return max([shortest, *(int(setting.low or 1) for setting in known)]) if known else None


def example_arms() -> list[str]:
    """The headline arms of the first two techniques, as side by side names them."""
    return [f"{each.slug}.{each.headline_arm}" for each in techniques.all_techniques()[:2]]


def _variant(technique: Technique, name: str, knobs: Knobs) -> Variant:
    arms = {arm.name: arm for arm in technique.arms_for(knobs)}
    if name not in arms:
        raise LabError(f"{technique.title} has no arm {name!r}; its arms are {', '.join(arms)}.")
    return Variant(technique, arms[name], knobs)


def _short(scenario: str | None) -> str:
    """Without the calls of a recording, for people to read; the config names them all."""
    recorded = (scenario or "").startswith(definitions.RECORDING)
    return ":".join(scenario.split(":")[:2]) if recorded else scenario or ""


def stored_settings(config: BenchmarkConfig, plan: Experiment) -> dict[str, Any]:
    """What `runs.settings` keeps: enough to repeat, resume and judge the run."""
    knobs = {
        variant.technique.slug: variant.knobs.model_dump(mode="json") for variant in plan.variants
    }
    chosen = config.model_dump(
        mode="json",
        # How a run was measured, and not what: it may go on elsewhere.
        exclude={"join_run", "db", "tasks", "workers", "scheduler"},
        exclude_defaults=True,
    )
    if config.own_tasks is not None:
        # Whole, since what kind of check a task has is a default of its class.
        chosen["tasks"] = [task.model_dump(mode="json") for task in config.own_tasks]
    tail = {} if plan.quantile is None else {"quantile": plan.quantile}
    category = "pasted" if config.own_tasks else plan.baseline.technique.category
    return {
        "config": chosen,
        "arms": [variant.ref for variant in plan.variants],
        "baseline": plan.baseline.ref,
        "headline": {"metric": plan.metric, **tail, **plan.headline.ref},
        "knobs": knobs if config.technique == SIDE_BY_SIDE else next(iter(knobs.values())),
        "scenario": _short(config.scenario) or category,
        "runs": config.blocks,
        "warmup": config.warmup,
        "quick": config.quick,
        "lab_version": VERSION,
    }
