"""A load's settings made into what is asked, of whom and how much of it; nothing is sent, and the
lab's own server is not started yet."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from lab import machine, pricing, spread
from lab.clock import today
from lab.endpoints import keys, registry
from lab.endpoints.registry import Endpoint
from lab.harness.bodies import completed
from lab.load import arrivals_file, schedule, slo
from lab.load.load_settings import (
    FEW_STREAMS,
    LIVE_STREAMS,
    MOST_STREAMS,
    RECORDED,
    STREAMS,
    LoadConfig,
)
from lab.load.profile import Play, Step
from lab.load.schedule import Plan
from lab.model import LabError, Request
from lab.scenarios import definitions
from lab.scenarios.definitions import RECORDING, Task
from lab.settings import LIVE_MAX_USD

FIRST_STREAMS = 8
"""A search begins with so many at once, or with fewer where its ceiling is low."""


@dataclass(frozen=True)
class LoadOrder:
    config: LoadConfig
    endpoint: Endpoint
    bodies: tuple[Mapping[str, Any], ...]
    """What is sent, each once, but for its nonce; the first of them are the warm-up's."""
    betas: tuple[str, ...]
    """The header anthropic-beta of each; empty where it needs none."""
    task_ids: tuple[str | None, ...]
    """Of the tasks that they ask."""
    plays: tuple[Play, ...]
    seed: int
    warmups: int
    """How many of the bodies are the warm-up's."""
    at_s: tuple[float, ...] | None = None
    """When each play of a recording began, in seconds from the first."""
    about: str = ""
    """What has to be said of the plays, in a sentence."""

    @property
    def model(self) -> str:
        return self.endpoint.model_for(None)

    @property
    def is_here(self) -> bool:
        """Whether the server is on this machine."""
        return self.endpoint.traits.own_server or machine.is_loopback(
            urlsplit(self.endpoint.base_url).hostname or ""
        )

    @property
    def is_paid(self) -> bool:
        """Whether requests may cost money: not on a server of this machine that is given no key, or
        whose model no price list knows."""
        if not self.endpoint.traits.priced:
            return False
        has_key = self.endpoint.api_key not in ("", keys.PLACEHOLDER)
        return not self.is_here or (has_key and pricing.price(self.model, today()) is not None)

    @property
    def budget_usd(self) -> float | None:
        """None is without a limit."""
        if self.config.max_usd is not None:
            return self.config.max_usd
        return LIVE_MAX_USD if self.is_paid else None

    @property
    def usual_most(self) -> int:
        return MOST_STREAMS if self.is_here else LIVE_STREAMS

    @property
    def ceiling(self) -> int:
        """Requests under way at once, at most. Streams that were named on a server of this machine
        are what was meant."""
        is_named = self.is_here and not (self.config.is_open or self.config.search)
        named = round(max(self.targets)) if is_named else 0
        return self.config.most or max(self.usual_most, named)

    @property
    def is_queue(self) -> bool:
        """Whether one model on this machine answers one request after another."""
        return self.endpoint.traits.embedded

    @property
    def first(self) -> int:
        """Where a search begins: at one stream a level takes a minute, and far below the ceiling
        nothing is asked too much."""
        if self.config.is_open or self.is_queue:
            return 1
        return max(1, min(FIRST_STREAMS, self.ceiling // 4))

    @cached_property
    def targets(self) -> tuple[float, ...]:
        """Of the levels that are known before the load begins; of a search the first one's, of a
        ramp where it ends."""
        config = self.config
        if config.rising:
            return (max(config.rising.low, config.rising.high),)
        if config.search:
            return (float(self.first),)
        if config.is_open:
            return tuple(config.rate) or (schedule.mean_rate(self.plan.at_s),)
        few = FEW_STREAMS if self.is_queue else STREAMS
        return tuple(config.concurrency) or (min(few, config.most or self.usual_most),)

    @cached_property
    def plan(self) -> Plan:
        config = self.config
        file, at_s = config.arrivals_file, self.at_s if config.arrivals == RECORDED else None
        if file:
            at_s = arrivals_file.read(file)
        usual = schedule.ROUNDS if self.is_queue else schedule.FEWEST_REQUESTS
        return Plan(
            mode="open" if config.is_open else "closed",
            known=self.plays,
            requests=config.requests,
            seconds=config.seconds,
            # Whoever names what must hold wants to hear whether it does.
            least=max(usual, slo.fewest(slo.objectives(config.slo))),
            arrivals="poisson" if at_s else config.arrivals,
            shape=config.gamma_shape,
            at_s=at_s,
            is_recorded=config.arrivals == RECORDED,
            seed=self.seed,
        )

    def check(self) -> None:
        """LabError where the load is more than the ceiling allows."""
        highest = max(self.targets)
        if not self.config.is_open and highest > self.ceiling:
            usual = f"{self.endpoint.name} is asked by default"
            whose = "--most allows" if self.config.most else usual
            raise LabError(
                f"{highest:g} streams at once are more than the {self.ceiling} that {whose};"
                f" --most {highest:g} allows them."
            )


def resolve(config: LoadConfig) -> LoadOrder:
    """LabError for what cannot be asked; ConsentNeeded where the user has not agreed to the
    address."""
    if (config.scenario or "").startswith(RECORDING):
        from lab import load_sessions

        recorded = load_sessions.sessions(config)
        order = _order(config, recorded.endpoint, recorded.tasks, recorded.plays)
        order = replace(order, at_s=recorded.at_s, about=recorded.about)
    else:
        endpoint = registry.find(config.endpoint, config.models)
        tasks = definitions.load(config.scenario, endpoint.kind)
        order = _order(config, endpoint, tasks, [(Step(place),) for place in range(len(tasks))])
    definitions.check_characters(config.name, config.note, *order.bodies)
    order.check()
    if config.is_spread:
        spread.check(config.scheduler, order.endpoint.kind)
    return order


def _order(
    config: LoadConfig, endpoint: Endpoint, tasks: Sequence[Task], plays: Sequence[Play]
) -> LoadOrder:
    """The plays' templates are places in `tasks`."""
    warmups = definitions.warmup_tasks()[: config.warmup]
    asked = [*warmups, *tasks]
    return LoadOrder(
        config=config,
        endpoint=endpoint,
        bodies=tuple(_body(task, config, endpoint) for task in asked),
        betas=tuple(task.betas for task in asked),
        task_ids=tuple(task.task_id or None for task in asked),
        plays=tuple(
            tuple(step._replace(template=step.template + len(warmups)) for step in play)
            for play in plays
        ),
        seed=secrets.randbelow(2**31) if config.seed is None else config.seed,
        warmups=len(warmups),
    )


def _body(task: Task, config: LoadConfig, endpoint: Endpoint) -> dict[str, Any]:
    """A recorded request asks its own model, where that is one of the endpoint's."""
    is_recorded = task.body and (config.scenario or "").startswith(RECORDING)
    own = task.body.get("model") if is_recorded else None
    request = Request(task.body_for(config.max_tokens), model=own, stream=config.stream)
    is_brief = endpoint.traits.priced and task.origin == "built-in"
    body = completed(request, endpoint, is_brief)
    return {**body, "stream": True} if config.stream else body
