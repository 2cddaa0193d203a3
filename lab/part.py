"""What a worker does for a run that several share, seen from outside: a long task that occupies it,
is given orders, and hands on what has come together.

`order` and `take` are asked beside the task, many times a second, by whoever leads the run. A part
that nobody asks for a minute ends by itself.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import Any

from lab.clock import now_ns
from lab.model import LabError

ALONE_S = 60.0
PARTS: dict[str, Part] = {}
"""Of this process, by name."""


def take(name: str) -> list[Any] | None:
    """What has come together since the last time; None where the part has not begun."""
    part = PARTS.get(name)
    return part and part.take()


def order(name: str, do: str, *values: Any) -> None:
    """LabError where the part has ended; every part knows the order `leave`."""
    part = PARTS.get(name)
    if part is None:
        raise LabError(f"The part {name} has ended by itself.")
    part.loop.call_soon_threadsafe(part.ordered, do, *values)


class Part(ABC):
    """`await run(name)` in a loop of its own; what it hands on it puts into `parcels`."""

    def __init__(self) -> None:
        self.parcels: deque[Any] = deque()
        self.asked_ns = now_ns()

    def take(self) -> list[Any]:
        """From another thread."""
        self.asked_ns = now_ns()
        return [self.parcels.popleft() for _ in range(len(self.parcels))]

    async def run(self, name: str) -> None:
        """To the order to leave, or until nobody asks."""
        self.loop, self.orders = asyncio.get_running_loop(), asyncio.Queue()
        self.left = asyncio.Event()
        PARTS[name] = self
        leaving = asyncio.create_task(self.left.wait())
        work = asyncio.create_task(self._work())
        try:
            while not (await asyncio.wait({leaving}, timeout=1.0))[0]:
                if now_ns() - self.asked_ns > ALONE_S * 1e9:
                    break
        finally:
            del PARTS[name]
            for task in (leaving, work):
                task.cancel()
            await asyncio.wait({work})
            await self.close()

    async def _work(self) -> None:
        try:
            await self.work()
        except Exception as error:
            is_said = isinstance(error, LabError)
            self.give_up(str(error) if is_said else f"{type(error).__name__}: {error}")

    def ordered(self, do: str, *values: Any) -> None:
        if do == "leave":
            self.left.set()
        else:
            self.orders.put_nowait((do, *values))

    @abstractmethod
    async def work(self) -> None:
        """All that it does."""

    @abstractmethod
    def give_up(self, text: str) -> None:
        """Hand on why it cannot go on."""

    async def close(self) -> None:  # noqa: B027 - not every part has something to close
        """Before it is left."""
