"""Rows on their way to the disk: on a thread, since a database that somebody else holds must not
hold the loop up, and to the end, whatever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

IN_THE_SPOOL = (
    "The database cannot be written now; the rows are safe in the spool beside it and will be taken"
    " in."
)


class Writing:
    """`await it(write, row)`; `note` is told where the database begins to refuse."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note, self.is_written = note, True

    async def __call__(self, write: Callable[..., Any], *values: Any) -> None:
        is_written = await to_the_end(asyncio.to_thread(write, *values)) is not False
        if self.is_written and not is_written:
            self.note(IN_THE_SPOOL)
        self.is_written = is_written


async def to_the_end(work: Awaitable) -> Any:
    """Its result; a cancellation that comes meanwhile is raised after it, and so loses nothing that
    was being written."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as e:
            cancelled = e
    result = task.result()  # what went wrong comes first: a row that was not kept must not be told
    if cancelled is not None:
        raise cancelled
    return result
