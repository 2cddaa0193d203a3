"""What a ladder's run keeps of itself, as JSON under `ladder` of its settings: plain words and
numbers, which lab/ladder_results.py reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.ladder.claims import Claims, Rung, Together, claims
from lab.ladder.search import Decision, Search
from lab.ladder.stack import level_words
from lab.ladder_order import LadderOrder


def record(
    order: LadderOrder, search: Search, stages: Sequence[dict[str, Any]], ended_with: str
) -> dict[str, Any]:
    """Shares are of the objective, −0.4 is 40 % less; `stack` and the like are a lever's level by
    its name; `arm` is what the trials of a stack are called."""
    tried = list(dict.fromkeys(c for _, block in search.blocks for c in block))
    winner = search.winner
    kept, others, pairs = claims(search) if winner is not None else Claims([], [], [])
    return {
        "objective": order.config.objective,
        "bar": order.config.bar_share,
        "minutes": order.config.minutes,
        "max_usd": order.purse.usd,
        "config": order.config.model_dump(
            mode="json", exclude={"db", "tasks"}, exclude_defaults=True
        ),
        "levers": [
            {
                "name": factor.lever.name,
                "title": factor.lever.title,
                "technique": factor.technique,
                "levels": list(factor.levels),
                "words": {level: level_words(factor.lever, level) for level in factor.levels},
            }
            for factor in order.factors
        ],
        "not_tried": [one._asdict() for one in order.not_tried],
        "stages": [dict(stage) for stage in stages],
        "tried": [{"arm": order.words(c), "stack": order.levels(c)} for c in tried],
        "decisions": [_decision(order, one) for one in search.decisions],
        "winner": None if winner is None else order.levels(winner),
        "winner_words": None if winner is None else order.words(winner),
        "rungs": [_rung(order, rung) for rung in kept],
        "others": [_rung(order, rung) for rung in others],
        "given_up": [
            {"lever": order.factors[j].lever.name, "reason": reason}
            for j, reason in search.dropped.items()
        ],
        "together": [_together(order, pair) for pair in pairs],
        "ended_with": ended_with,
    }


def _decision(order: LadderOrder, one: Decision) -> dict[str, Any]:
    interval = one.interval
    return {
        "stage": one.stage,
        "block": one.blocks,
        "lever": None if one.lever is None else order.factors[one.lever].lever.name,
        "arm": None if one.stack is None else order.words(one.stack),
        "reason": one.reason,
        "estimate": interval and interval.estimate,
        "low": interval and interval.low,
        "high": interval and interval.high,
    }


def _rung(order: LadderOrder, rung: Rung) -> dict[str, Any]:
    factor = order.factors[rung.lever]
    level = factor.levels[rung.level]
    return {
        "lever": factor.lever.name,
        "level": level,
        "words": level_words(factor.lever, level),
        "before": order.levels(rung.before),
        "after": order.levels(rung.after),
        "change": rung.change,
        "low": rung.low,
        "high": rung.high,
        "p": rung.p,
    }


def _together(order: LadderOrder, pair: Together) -> dict[str, Any]:
    return {
        "levers": [order.factors[j].lever.name for j in pair.levers],
        "alone": list(pair.alone),
        "both": pair.both,
        "change": pair.change,
        "low": pair.low,
        "high": pair.high,
        "p": pair.p,
    }
