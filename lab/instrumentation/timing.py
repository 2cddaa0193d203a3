"""Timers that stand on their own: one block of code, one stream, many latencies. All read
lab.clock; results are milliseconds.

>>> latencies = LatencyCollector([10.0, 20.0, 30.0, 40.0])
>>> latencies.percentiles(50, 95)
{50: 25.0, 95: 38.5}
>>> with Timer() as timer:
...     total = sum(range(1000))
>>> timer.ms >= 0
True
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise

from lab.clock import now_ns


class Timer:
    """A block of code: `with Timer() as timer: …`, then timer.ms; while it runs, the time so
    far."""

    started_ns: int
    ended_ns: int | None = None

    def __enter__(self) -> Timer:
        self.ended_ns, self.started_ns = None, now_ns()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended_ns = now_ns()

    @property
    def ms(self) -> float:
        return ((self.ended_ns or now_ns()) - self.started_ns) / 1e6


class StreamingTimer(Timer):
    """A stream: call `arrived()` for each piece that is content. A piece is not a token, so the
    waits between them are called gaps.

    >>> with StreamingTimer() as timer:
    ...     for piece in ["Hello", " world"]:
    ...         timer.arrived()
    >>> len(timer.gaps_ms), timer.ttft_ms <= timer.ms
    (1, True)
    """

    def __enter__(self) -> StreamingTimer:
        self.arrivals_ns: list[int] = []
        super().__enter__()
        return self

    def arrived(self) -> None:
        self.arrivals_ns.append(now_ns())

    async def watch(self, stream: AsyncIterable) -> AsyncIterator:
        """Hand on each item of an async stream, stamped first."""
        async for item in stream:
            self.arrived()
            yield item

    @property
    def ttft_ms(self) -> float | None:
        return (self.arrivals_ns[0] - self.started_ns) / 1e6 if self.arrivals_ns else None

    @property
    def gaps_ms(self) -> list[float]:
        return [(after - before) / 1e6 for before, after in pairwise(self.arrivals_ns)]


class LatencyCollector:
    """Many latencies in ms. Percentiles are interpolated between order statistics."""

    def __init__(self, values: Iterable[float] = ()) -> None:
        self.values: list[float] = list(values)

    def add(self, ms: float) -> None:
        self.values.append(ms)

    @contextmanager
    def time(self) -> Iterator[Timer]:
        with Timer() as timer:
            yield timer
        self.add(timer.ms)

    def __len__(self) -> int:
        return len(self.values)

    def percentile(self, q: float) -> float | None:
        import numpy  # 80 ms that a timer need not spend

        return float(numpy.percentile(self.values, q)) if self.values else None

    def percentiles(self, *qs: float) -> dict[float, float | None]:
        return {q: self.percentile(q) for q in qs}
