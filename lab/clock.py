"""The only module that reads a clock or sleeps, so that one place decides which clock a number
comes from."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, date, datetime

SPIN_NS = 1_500_000


def now_ns() -> int:
    """Monotonic nanoseconds; meaningful only as a difference within one process."""
    return time.perf_counter_ns()


def working_ns() -> int:
    """Nanoseconds this thread has worked, the system's work for it included and whatever ran in
    its place left out; meaningful only as a difference."""
    return time.thread_time_ns()


def utc_now() -> datetime:
    """Wall-clock time, UTC, for labels only; never subtract two of these to get a latency."""
    return datetime.now(UTC)


def unix_ms() -> int:
    """Wall-clock milliseconds since 1970, for UUIDv7 and lease deadlines between processes."""
    return time.time_ns() // 1_000_000


def today() -> date:
    """The current UTC day: prices and models are dated by it."""
    return utc_now().date()


async def sleep_until(instant_ns: int, spin: bool = False) -> None:
    """Sleep until an instant of now_ns(); with `spin`, wake 1.5 ms before and spin the rest.

    asyncio misses an instant by 1–2 ms at p95; spinning misses by 0.003 ms but takes a whole core.
    """
    wait_ns = instant_ns - now_ns() - (SPIN_NS if spin else 0)
    if wait_ns > 0:
        await asyncio.sleep(wait_ns / 1e9)
    while spin and now_ns() < instant_ns:
        pass


async def sleep_s(seconds: float) -> None:
    """Sleep for a duration, where no instant is meant (polling, back-off)."""
    await asyncio.sleep(seconds)


def pause_s(seconds: float) -> None:
    """Block this thread for a duration (start-up polling, lock retry); never on an event loop."""
    time.sleep(seconds)
