"""A ladder's settings as what will be tried: of whom, with which levers, within which budget; and
what it will take. Sends nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, NamedTuple

from lab import pricing, recorded_tasks, units
from lab.clock import today
from lab.endpoints import registry
from lab.endpoints.consent import ConsentNeeded
from lab.endpoints.registry import Endpoint
from lab.harness import plan as planning
from lab.harness.budget import unbounded
from lab.harness.estimate import Cost, Costs
from lab.harness.plan import Experiment, Variant
from lab.harness.rehearsal import finished
from lab.ladder import design, stack
from lab.ladder.design import Configuration
from lab.ladder.factors import Factor, NotTried, answering, chosen
from lab.ladder.ladder_settings import CONFIRMING, LadderConfig, ladder_config_of
from lab.ladder.purse import SHARES, Purse
from lab.ladder.search import FEWEST_BLOCKS
from lab.ladder.stack import StackKnobs
from lab.model import LADDER, Arm, LabError, Technique, Tier
from lab.scenarios.definitions import RECORDING
from lab.settings import BenchmarkConfig, config_of
from lab.store.store import Store

SCENARIO = "rag"
"""What is asked where the user names nothing: its tasks share a long beginning and are checked."""
LOOKED_AT = 3
"""Tasks whose trials are rehearsed before a ladder begins."""


@dataclass(frozen=True)
class LadderOrder:
    config: LadderConfig
    """With its endpoint, models and tasks by name, where they went without saying."""
    run: BenchmarkConfig
    """As the runner takes it."""
    endpoint: Endpoint
    factors: tuple[Factor, ...]
    not_tried: tuple[NotTried, ...]
    base: StackKnobs
    technique: Technique
    plan: Experiment
    purse: Purse
    trial: Cost
    """What a trial of the plan will likely take, in the middle of its stacks."""
    named: tuple[str, ...]
    """Models that the tasks name, as bodies of the user's own do, whichever is asked."""

    @property
    def fewest_pairs(self) -> int:
        return CONFIRMING[self.config.quantile][0]

    @property
    def today(self) -> dict[str, str]:
        """Of what the user does already too where it is not tried: every trial has it."""
        return self.config.today | {f.lever.name: f.levels[0] for f in self.factors}

    def levels(self, configuration: Configuration) -> dict[str, str]:
        pairs = zip(self.factors, configuration, strict=True)
        tried = {factor.lever.name: factor.levels[level] for factor, level in pairs}
        return self.today | tried

    def words(self, configuration: Configuration) -> str:
        return stack.words(self.levels(configuration), self.today)

    def variant(self, configuration: Configuration, name: str = "") -> Variant:
        """A stack as an arm, called by its words unless it has a name."""
        levels = self.levels(configuration)
        arm = Arm(name or self.words(configuration))
        return Variant(self.technique, arm, self.base.model_copy(update={"levels": levels}))

    def costs(self, variant: Variant) -> Costs:
        """What a trial of it takes on each task, each found out once."""
        plan = replace(self.plan, variants=(variant,))
        return Costs(plan, self.endpoint, self._other)

    def _other(self, name: str) -> Endpoint:
        return registry.beside(name, self.endpoint)


@dataclass(frozen=True)
class LadderEstimate:
    """Any refusal forbids it; `asks` are addresses to which the user must agree first, and refusals
    too."""

    text: str = ""
    levers: tuple[Factor, ...] = ()
    not_tried: tuple[NotTried, ...] = ()
    refusals: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()


def resolve(config: LadderConfig, store: Store | None = None) -> LadderOrder:
    """LabError where there is nothing to search: an unknown lever, no lever that fits, or a budget
    that carries no plan."""
    return _within_budget(unbudgeted(config, store))


def unbudgeted(config: LadderConfig, store: Store | None = None) -> LadderOrder:
    """With all levers, whatever minutes and dollars carry: for what asks no search again."""
    run, endpoint, usual, named = _asked(config, store)
    config = config.model_copy(update={"today": _usual(endpoint, named) | config.today})
    base = StackKnobs(
        tier=_tier(endpoint, config.today),
        stream=config.metric == "ttft_ms",
        answer_tokens=config.answer_tokens,
    )
    factors, refused = chosen(endpoint, usual.tasks, config.levers, config.today, base)
    levels = {name: (level,) for name, level in config.today.items()}
    levels |= {factor.lever.name: factor.levels for factor in factors}
    tiers = answering(usual.tasks[0], base, levels)
    technique = stack.technique(config.metric, config.tail, tiers)
    knobs = base.model_dump(mode="json", exclude_defaults=True)
    purse = Purse(config.budget_usd(endpoint.kind), 60 * config.minutes)
    run = run.model_copy(update={"knobs": knobs, "max_usd": purse.usd})
    plan = planning.experiment(run, endpoint.kind, technique)
    # What is kept of it asks the same again, whatever goes without saying then.
    kept = {"endpoint": run.endpoint or endpoint.name, "scenario": run.scenario}
    kept |= {"models": dict(endpoint.models), "max_usd": purse.usd}
    config = config.model_copy(update=kept)
    return LadderOrder(
        config, run, endpoint, tuple(factors), tuple(refused), base, technique, plan, purse,
        Cost.sum(()), named,
    )  # fmt: skip


def again(run: Mapping[str, Any], record: Mapping[str, Any]) -> LadderConfig:
    """The same ladder once more: of a row of `runs` and its record. LabError where its tasks were
    pasted, which are not kept, or where its settings are of another version."""
    config = ladder_config_of(**{"endpoint": run["endpoint"], **record["config"], "db": None})
    if not config.scenario and (run["settings"].get("config") or {}).get("tasks"):
        raise LabError("The tasks were pasted and are not kept here: give them as a file.")
    return config


def usual_today(config: LadderConfig, store: Store | None = None) -> dict[str, str]:
    """By lever, the level that today has where the config does not say it and it is not the lever's
    first. LabError where the tasks or the endpoint cannot be found."""
    _, endpoint, _, named = _asked(config, store)
    return _usual(endpoint, named)


class Asked(NamedTuple):
    """What is asked, and of whom, before any lever is chosen."""

    run: BenchmarkConfig
    endpoint: Endpoint
    plan: Experiment
    named: tuple[str, ...]


def _asked(config: LadderConfig, store: Store | None) -> Asked:
    run = recorded_tasks.resolved(_run(config), store)
    endpoint = registry.find(run.endpoint, run.models)
    technique = stack.technique(config.metric, config.tail)
    plan = planning.experiment(run, endpoint.kind, technique)
    bodies = [task.body or {} for task in plan.tasks]
    if not config.tasks and (run.scenario or "").startswith(RECORDING):
        bodies = recorded_tasks.bodies(run, store)  # the tasks' lack what this endpoint has not
    names = [str(body["model"]) for body in bodies if body.get("model")]
    return Asked(run, endpoint, plan, tuple(dict.fromkeys(names)))


def _usual(endpoint: Endpoint, named: Sequence[str]) -> dict[str, str]:
    """The tier of the one model that the tasks name. Else of the embedded model's two the small
    one: they have the same weights, and only there does a search fit into minutes."""
    tiers = [
        tier
        for tier, model in endpoint.models.items()
        if named and all(pricing.same_model(model, name) for name in named)
    ]
    if not tiers and endpoint.traits.embedded:
        tiers = [endpoint.generates]
    return {
        lever.name: tiers[0]
        for _, lever in stack.all_levers()
        if lever.tier and tiers and lever.tier not in tiers and tiers[0] in lever.levels
    }


def _tier(endpoint: Endpoint, today: Mapping[str, str]) -> Tier | None:
    """The tier that today asks, whichever levers are tried: None where the endpoint has no such
    model, and nobody says that today asks it."""
    levers = [lever for _, lever in stack.all_levers() if lever.tier]
    own = [one.tier for one in levers if one.name in today or one.tier in endpoint.models]
    return next(iter(own), None)


def _run(config: LadderConfig) -> BenchmarkConfig:
    shared = ("endpoint", "models", "tasks", "seed", "keep_text", "name", "note", "db", "warmup")
    values: dict[str, Any] = {name: getattr(config, name) for name in shared}
    scenario = config.scenario or (None if config.tasks else SCENARIO)
    return config_of(
        technique=LADDER,
        scenario=scenario,
        runs=CONFIRMING[config.quantile][1],
        deadline_s=config.deadline_s,
        **values,
    )


def _within_budget(order: LadderOrder) -> LadderOrder:
    """With as many levers as the budget carries, the first ones first."""
    if not order.factors:
        reasons = "; ".join(f"{one.lever}: {one.reason}" for one in order.not_tried)
        raise LabError(f"There is no lever to try here. {reasons}.")
    trials, count = _trials(order), len(order.factors)
    while count and not _carries(replace(order, trial=trials[count]), count):
        count -= 1
    order = replace(order, trial=trials[count])
    if not count:
        raise LabError(f"{_budget_words(order)} carry no search. {_more(order, trials)}")
    reason = f"{_budget_words(order)} carry a plan of {units.counted(count, 'lever')} at most"
    if count >= design.MOST_LEVERS:
        count, reason = design.MOST_LEVERS, f"a plan has {design.MOST_LEVERS} levers at most"
    dropped = [NotTried(factor.lever.name, "", reason) for factor in order.factors[count:]]
    return replace(order, factors=order.factors[:count], not_tried=(*order.not_tried, *dropped))


def _trials(order: LadderOrder) -> list[Cost]:
    """By how many of the levers are tried, none first, what a trial of the plan takes in the
    middle: half of its stacks have a lever at its other level, which multiplies what today takes.
    """
    today = (0,) * len(order.factors)
    usual = _rehearsed(order, today)
    trials = [usual]
    for j in range(len(today)):
        other = _rehearsed(order, (*today[:j], 1, *today[j + 1 :]))
        middle = {}
        for name in ("seconds", "usd", "most_usd"):
            own, before = getattr(usual, name), getattr(trials[-1], name)
            middle[name] = before * (1 + getattr(other, name) / own) / 2 if own else before
        trials.append(trials[-1]._replace(**middle))
    return trials


def _rehearsed(order: LadderOrder, configuration: Configuration) -> Cost:
    """Of a trial of a stack: on average, and of the dearest task the most."""
    of_task = order.costs(order.variant(configuration)).of
    costs = [finished(of_task(task)) for task in order.plan.tasks[:LOOKED_AT]]
    trial = Cost.sum(costs)
    return trial._replace(
        seconds=trial.seconds / len(costs),
        usd=trial.usd / len(costs),
        most_usd=max(cost.most_usd for cost in costs),
    )


def _carries(order: LadderOrder, levers: int) -> bool:
    seconds, usd = _needs(order, levers)
    purse = order.purse
    return seconds <= purse.seconds and (purse.usd is None or usd <= purse.usd)


def _needs(order: LadderOrder, levers: int) -> tuple[float, float]:
    """The seconds and dollars in which the first stage has room for its fewest blocks, and the
    last for its own."""
    stacks = design.size(min(levers, design.MOST_LEVERS))
    first, last = SHARES["screening"], 1 - SHARES["elimination"]
    pairs, trial = 2 * order.fewest_pairs, order.trial
    # No block begins that might pass the stage's dollars, each of its stacks at its dearest.
    blocks_usd = stacks * ((FEWEST_BLOCKS - 1) * trial.usd + trial.most_usd)
    return (
        trial.seconds * max(FEWEST_BLOCKS * stacks / first, pairs / last),
        max(blocks_usd / first, pairs * trial.most_usd / last),
    )


def _more(order: LadderOrder, trials: Sequence[Cost]) -> str:
    """What would carry a search of one lever, and of all."""
    counts = dict.fromkeys((1, min(len(order.factors), design.MOST_LEVERS)))
    of = [(count, *_needs(replace(order, trial=trials[count]), count)) for count in counts]
    ways = [
        f"{units.counted(count, 'lever')} --minutes {max(1, ceil(seconds / 60))}"
        + (f" --max-usd {ceil(10 * usd) / 10:.2f}" if order.purse.usd is not None else "")
        for count, seconds, usd in of
    ]
    return f"It takes for {', for '.join(ways)}. Fewer levers or shorter tasks take less."


def _minutes(order: LadderOrder) -> str:
    minutes = order.config.minutes
    return f"{minutes:g} minute{'s' * (minutes != 1)}"


def _budget_words(order: LadderOrder) -> str:
    minutes = _minutes(order)
    return minutes if order.purse.usd is None else f"{minutes} and ${order.purse.usd:.2f}"


def estimate(config: LadderConfig, store: Store | None = None) -> LadderEstimate:
    try:
        return of_order(resolve(config, store))
    except ConsentNeeded as needed:
        return LadderEstimate(refusals=(str(needed),), asks=(needed.url,))
    except LabError as error:
        return LadderEstimate(refusals=(str(error),))


def of_order(order: LadderOrder) -> LadderEstimate:
    stacks, usd = design.size(len(order.factors)), order.purse.usd
    names = ", ".join(factor.lever.name for factor in order.factors)
    price = "nothing to pay" if usd is None else f"never above ${usd:.2f}"
    if order.endpoint.traits.priced and (remark := pricing.remark(_models(order), today())):
        price += f" ({remark})"
    bodies = [task.body or {} for task in order.plan.tasks]
    added = dict.fromkeys(word for body in bodies for word in unbounded(body))
    if usd is not None and added:
        price += f" plus what {', '.join(added)} may add"
    minutes = _minutes(order)
    asked = _models(order, order.today)
    others = [
        name for name in order.named if not any(pricing.same_model(name, own) for own in asked)
    ]
    instead = f", not {' or '.join(others)}, which the tasks name" if others else ""
    text = (
        f"{units.counted(len(order.factors), 'lever')} ({names}), a plan of {stacks} stacks, then "
        f"those that it cannot tell apart, then the winner against today in {order.fewest_pairs} "
        f"blocks or more; within {minutes}, {price}, on {order.endpoint.name}, where today asks "
        f"{' or '.join(asked)}{instead}"
    )
    return LadderEstimate(text, order.factors, order.not_tried)


def _models(order: LadderOrder, levels: Mapping[str, str] | None = None) -> dict[str, None]:
    """All that the order may ask, or those that it asks at these levels."""
    tiers = order.plan.tiers
    if levels is not None:
        own = {name: (level,) for name, level in levels.items()}
        tiers = answering(order.plan.tasks[0], order.base, own)
    return dict.fromkeys(
        order.endpoint.model_for(tier) for tier in tiers or (order.endpoint.generates,)
    )
