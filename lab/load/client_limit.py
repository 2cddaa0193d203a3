"""Is a level's limit the client's or the server's? And from which load on does the server's
throughput grow no more?

A client's error has a knee, no slope: while its core has time it adds some tenths of a millisecond,
and from about 80 % on ten to a hundred times as much. What such a level shows is the client's, and
is never told as the server's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from lab import units
from lab.load.profile import LevelOutcome

BUSY = 0.8
"""Of one core: from here on the error grows by leaps."""
TYPICAL_MS, TAIL_MS = 1.0, 5.0
"""Lags, at the median and at p95, that are never held against a level: a machine that others use
too holds up any process by some ms now and then, and the median tells that from a loop that cannot
follow."""
SHARE = 0.1
"""Of the median gap, that the median lag may be, and of the median first token, that its p95 may
be: what is later moves the figures."""
MORE_LOAD, MORE_THROUGHPUT = 1.25, 1.05


def reason(
    client: Mapping[str, float], first_ms: float | None = None, gap_ms: float | None = None
) -> str | None:
    """Why a level measured its client, without an end stop; None where it did not. `client` as in
    LevelOutcome; the level's own median first token (or whole answer) and gap, where they are
    known."""
    busy = client.get("cpu_share") or 0.0
    if busy > BUSY:
        return f"its core was {units.percent(busy)} busy, and {units.percent(BUSY)} is too much"
    typical, tail = (client.get(f"loop_lag_{name}_ms") or 0.0 for name in ("p50", "p95"))
    if typical > max(TYPICAL_MS, SHARE * (gap_ms or 0.0)):
        return f"its event loop was {units.ms(typical)} late at the median"
    if tail > max(TAIL_MS, SHARE * (first_ms or 0.0)):
        return f"its event loop was {units.ms(tail)} late or more in one of twenty moments"
    return None


def of(outcome: LevelOutcome) -> str | None:
    """The same, from what a level's calls came to."""
    firsts, gaps = [], []
    for fact in outcome.facts:
        if fact.error_kind is not None:
            continue
        first_ns = fact.first_token_ns
        end_ns = fact.ended_ns if first_ns is None else first_ns
        firsts.append((end_ns - fact.started_ns) / 1e6)
        if first_ns is not None and fact.last_token_ns and (fact.output_tokens or 0) > 1:
            gaps.append((fact.last_token_ns - first_ns) / 1e6 / (fact.output_tokens - 1))
    return reason(
        outcome.client, median(firsts) if firsts else None, median(gaps) if gaps else None
    )


class Point(NamedTuple):
    load: float
    throughput: float
    """Requests answered well a second, or tokens."""
    is_client: bool = False
    """Whether the client was the limit there."""


def knee(points: Sequence[Point]) -> float | None:
    """The load from which on the server's throughput stops growing: the least one from which a
    quarter more load, or the next one above that which was tried, brings less than 5 % more. None
    where it grows to the end.

    A rule of two thresholds: it needs no model of the server, and each reader can check it in the
    table. Loads at which the client was the limit are left out.
    """
    known = sorted(point for point in points if not point.is_client and point.throughput > 0)
    for place, point in enumerate(known):
        beyond = next((p for p in known[place + 1 :] if p.load >= MORE_LOAD * point.load), None)
        if beyond and beyond.throughput < MORE_THROUGHPUT * point.throughput:
            return point.load
    return None
