"""What a load will take, before it starts: requests, tokens, seconds, dollars, and what has to be
asked first. Sends nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lab import load_order, pricing, units
from lab.clock import today
from lab.endpoints.consent import ConsentNeeded
from lab.harness.budget import at_most_usd, counted_usd, modes, most_tokens, unbounded
from lab.load import schedule
from lab.load.load_settings import LoadConfig
from lab.load.steering import STEP
from lab.load_order import LoadOrder
from lab.model import LabError
from lab.scenarios.definitions import CHARACTERS_PER_TOKEN


@dataclass(frozen=True)
class LoadEstimate:
    """`usd` is the most that it can cost, None where nothing is to pay. Any refusal forbids the
    load; `asks` are addresses to which the user must agree first, and refusals too. `question` is
    what has to be answered with yes before it starts, empty where nothing has to."""

    requests: int = 0
    """Warm-up included; of a search and of a closed loop by seconds about as many."""
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None
    likely_usd: float | None = None
    seconds: float = 0.0
    ceiling: int = 0
    """Requests under way at once, at most."""
    text: str = ""
    refusals: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    question: str = ""


@dataclass(frozen=True)
class Size:
    """Of one request, on the average of what is asked."""

    input_tokens: float
    output_tokens: float
    seconds: float
    likely_usd: float
    most_usd: float
    play: float
    """Requests of what one user does."""
    pause_s: float
    """Of the user's own, for each request."""

    @property
    def turn_s(self) -> float:
        """From one request of a user to the next."""
        return self.seconds + self.pause_s


def estimate(config: LoadConfig) -> LoadEstimate:
    try:
        return of_order(load_order.resolve(config))
    except ConsentNeeded as needed:
        return LoadEstimate(refusals=(str(needed),), asks=(needed.url,))
    except LabError as error:
        return LoadEstimate(refusals=(str(error),))


def of_order(order: LoadOrder) -> LoadEstimate:
    size = _size(order)
    requests, seconds = 0, 0.0
    for target in _levels(order):
        level_requests, level_seconds = _level(order, target, size)
        requests += level_requests
        seconds += level_seconds
    warmups = order.config.warmup if order.warmups else 0
    seconds += warmups * size.seconds
    requests += warmups * order.config.workers  # each warms up for itself
    usd = requests * size.most_usd if order.is_paid else None
    likely = requests * size.likely_usd if order.is_paid else None
    return LoadEstimate(
        requests=requests,
        input_tokens=round(requests * size.input_tokens),
        output_tokens=round(requests * size.output_tokens),
        usd=usd,
        likely_usd=likely,
        seconds=seconds,
        ceiling=order.ceiling,
        text=_text(order, requests, size, usd, seconds),
        refusals=_refusals(order, likely),
        question=_question(order, requests, usd),
    )


def _levels(order: LoadOrder) -> list[float]:
    """The targets; of a search the most that there may be: doubling that is too much at the ceiling
    alone, halving that is never too much, and what was found once more."""
    if not order.config.search:
        return list(order.targets)
    targets, load = [], float(order.first)
    while load < order.ceiling:
        targets.append(load)
        load *= 2
    high, low = float(order.ceiling), targets[-1] if targets else float(order.ceiling)
    targets.append(high)
    while high - low > max(1, STEP * low):
        low = (low + high) // 2
        targets.append(low)
    return [*targets, low]


def _level(order: LoadOrder, target: float, size: Size) -> tuple[int, float]:
    """Requests and seconds."""
    config, plan = order.config, order.plan
    if config.is_open:
        level = plan.ramp(1, *config.rising[:2], config.seconds) if config.rising else None
        level = level or plan.level(1, target)
        return level.requests, level.at_s[-1] + size.play * size.turn_s
    rate = target / size.turn_s
    if order.is_queue:
        rate = min(rate, 1 / size.seconds)
    if config.seconds and not config.requests:
        return round(config.seconds * rate) + round(target), config.seconds
    requests = config.requests or max(plan.least, round(schedule.ROUNDS * target))
    # Of fewer plays than streams some streams get none.
    rate = min(rate, max(1.0, requests / size.play) / size.turn_s)
    seconds = requests / rate
    return requests, min(seconds, config.seconds or seconds)


def _size(order: LoadOrder) -> Size:
    endpoint = order.endpoint
    sizes = []
    for body in order.bodies[order.warmups :]:
        tokens, most = _prompt_tokens(body), most_tokens(body)
        begins_s, prompt_rate, answer_rate = endpoint.traits.speed(endpoint.generates)
        usage = modes(body) | {"input_tokens": tokens, "output_tokens": most}
        sizes.append(
            (
                tokens,
                most,
                begins_s + tokens / prompt_rate + most / answer_rate,
                counted_usd(endpoint.kind, body["model"], usage),
                at_most_usd(endpoint.kind, body["model"], body),
            )
        )
    plays = order.plays
    play = fmean(map(len, plays))
    pause_s = fmean(sum(step.pause_s for step in steps) for steps in plays) / play
    return Size(*map(fmean, zip(*sizes, strict=True)), play, pause_s)


def _prompt_tokens(body: Mapping[str, Any]) -> int:
    parts = {name: body.get(name) for name in ("tools", "system", "messages")}
    return round(len(json.dumps(parts, ensure_ascii=False)) / CHARACTERS_PER_TOKEN) + 12


def _text(order: LoadOrder, requests: int, size: Size, usd: float | None, seconds: float) -> str:
    most = "up to " if order.config.search else ""
    price = "nothing to pay" if usd is None else f"at most {units.usd(usd)}"
    added = dict.fromkeys(word for body in order.bodies for word in unbounded(body))
    if usd is not None and added:
        price += f" plus what {', '.join(added)} may add"
    parts = [
        f"{most}{units.counted(requests, 'request')}",
        f"about {round(requests * size.input_tokens):,} tokens in and at most"
        f" {round(requests * size.output_tokens):,} out",
        price,
        f"{most}about {units.duration(seconds)} on {order.endpoint.name}",
    ]
    text = ", ".join(parts)
    budget = order.budget_usd
    if usd is not None and budget is not None and usd > budget:
        text += f". The budget of {units.usd(budget)} may end it before"
    if order.is_queue and not order.config.is_open and max(order.targets) > 1:
        text += (
            ". The embedded model answers one request after another: what is measured is its queue"
        )
    if usd is not None and (remark := pricing.remark([order.model], today())):
        text += f". {remark}"
    return text


def _refusals(order: LoadOrder, likely_usd: float | None) -> tuple[str, ...]:
    budget = order.budget_usd
    # A search ends as soon as it has found its load; what it may spend the budget holds.
    if likely_usd is None or budget is None or likely_usd <= budget or order.config.search:
        return ()
    return (
        f"The load may cost {units.usd(likely_usd)}, more than the budget of {units.usd(budget)};"
        " fewer requests or a higher --max-usd would let it start.",
    )


def _question(order: LoadOrder, requests: int, usd: float | None) -> str:
    """On a server elsewhere: whoever runs it sees a load."""
    if order.is_here or not order.endpoint.traits.priced:
        return ""
    at_once = order.ceiling if order.config.is_open or order.config.search else max(order.targets)
    return (
        f"This sends {units.counted(requests, 'request')}, up to {at_once:g} at once, to"
        f" {order.endpoint.base_url}, for at most {units.usd(usd)}."
    )
