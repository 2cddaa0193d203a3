"""What a client told of its answers against what the server wrote: joined, and the errors in it.

Everything is in milliseconds. A client's own clock decides nothing: its durations are compared with
durations on the server's clock.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

PLACES = (50, 95, 99)


class Told(NamedTuple):
    """One answer as a client's own export tells it; None where it tells nothing of it."""

    name: str | None
    """The answer's id, or the id under which the client asked for it (x-request-id)."""
    ttft_ms: float | None
    gaps_ms: tuple[float, ...] | None = None
    """Between one token and the next."""
    itl_ms: float | None = None
    """The mean of these, where that is all there is."""


class Known(NamedTuple):
    """One answer as the server wrote it."""

    first_ms: float
    """From having read the whole request to the first token's write."""
    gaps_ms: tuple[float, ...]


class Pair(NamedTuple):
    told: Told
    known: Known


def known_answers(told_by_server: dict[str, dict[str, Any]]) -> dict[str, Known]:
    """What GET /known says, by the answer's id and by the client's own where it sent one."""
    answers = {}
    for name, answer in told_by_server.items():
        at_ns = answer["written_ns"]
        if not at_ns:
            continue
        known = Known((at_ns[0] - answer["read_ns"]) / 1e6, gaps_ms(at_ns))
        answers[name] = known
        if asked_as := answer.get("asked_as"):
            answers[asked_as] = known
    return answers


def gaps_ms(at_ns: Sequence[int]) -> tuple[float, ...]:
    """Between one instant and the next."""
    return tuple((later - earlier) / 1e6 for earlier, later in itertools.pairwise(at_ns))


def joined(told: Iterable[Told], known: dict[str, Known]) -> list[Pair]:
    """By id; what either side does not name is left out, and missing from the count."""
    return [Pair(one, known[one.name]) for one in told if one.name in known]


def ttft_bias_ms(pairs: Iterable[Pair]) -> list[float]:
    """Reported time to first token minus what the server took: everything that the client and the
    way there and back added."""
    return [told.ttft_ms - known.first_ms for told, known in pairs if told.ttft_ms is not None]


def gap_errors_ms(pairs: Iterable[Pair]) -> list[float]:
    """|reported gap − written gap| of every gap of the answers of which the client saw each token
    apart: where it lost one, its gaps are no longer the server's."""
    return [
        abs(seen - written)
        for told, known in pairs
        if told.gaps_ms is not None and len(told.gaps_ms) == len(known.gaps_ms)
        for seen, written in zip(told.gaps_ms, known.gaps_ms, strict=True)
    ]


def itl_errors_ms(pairs: Iterable[Pair]) -> list[float]:
    """|reported mean gap − written mean gap| of each answer. One that is late once and hurries
    afterwards shows no error here: gap_errors_ms is the harder figure."""
    errors = []
    for told, known in pairs:
        seen = statistics.fmean(told.gaps_ms) if told.gaps_ms else told.itl_ms
        if seen is not None and known.gaps_ms:
            errors.append(abs(seen - statistics.fmean(known.gaps_ms)))
    return errors


def quantile(values: Sequence[float], place: int) -> float:
    """The smallest value that `place` per cent do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * place / 100) - 1)] if ordered else math.nan


def spread(values: Sequence[float]) -> dict[str, float]:
    return {f"p{place}": quantile(values, place) for place in PLACES}
