"""Message Batches as a real queue: each request is answered in its turn, with the delays that it
would have had alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field, model_validator

from lab.clock import utc_now
from lab.local.messages_api import ApiError, Strict, canonical, new_id, parse

AT_ONCE = 4
KEPT = 100
OUTCOMES = ("succeeded", "errored", "canceled", "expired")

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Params of a message in, the message out; ApiError where it fails."""


class Request(Strict):
    """What its params say is looked at when its turn comes, and is then its own result."""

    custom_id: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    params: dict[str, Any]


class NewBatch(Strict):
    requests: list[Request] = Field(min_length=1, max_length=100_000)

    @model_validator(mode="after")
    def one_id_each(self):
        counts = Counter(request.custom_id for request in self.requests)
        custom_id, count = counts.most_common(1)[0]
        if count > 1:
            raise ValueError(f"requests: custom_id {custom_id} is there twice")
        return self


@dataclass
class Batch:
    requests: list[Request]
    id: str = field(default_factory=lambda: new_id("msgbatch"))
    created: datetime = field(default_factory=utc_now)
    canceled: datetime | None = None
    ended: datetime | None = None
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    work: asyncio.Task | None = None

    def card(self, base_url: str) -> dict[str, Any]:
        """As the API counts: all are `processing` until the whole batch has ended."""
        kinds = [result["type"] for result in self.results.values()] if self.ended else []
        state = "ended" if self.ended else "canceling" if self.canceled else "in_progress"
        results = f"{base_url}/v1/messages/batches/{self.id}/results"
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": state,
            "request_counts": {
                "processing": len(self.requests) - len(kinds),
                **{kind: kinds.count(kind) for kind in OUTCOMES},
            },
            "created_at": stamp(self.created),
            "expires_at": stamp(self.created + timedelta(hours=24)),
            "ended_at": stamp(self.ended),
            "cancel_initiated_at": stamp(self.canceled),
            "archived_at": None,
            "results_url": results if self.ended else None,
        }

    def lines(self) -> str:
        """The results as JSON lines."""
        pairs = [{"custom_id": name, "result": result} for name, result in self.results.items()]
        return "".join(canonical(pair) + "\n" for pair in pairs)


class Batches:
    """Those that have been made, oldest first; of those that have ended the last hundred are
    kept."""

    def __init__(self, answer: Answer, free: Callable[[], Awaitable[None]]):
        self.answer, self.free = answer, free
        self.by_id: dict[str, Batch] = {}

    @property
    def busy(self) -> bool:
        return any(not batch.ended for batch in self.by_id.values())

    def create(self, raw: bytes) -> Batch:
        batch = Batch(parse(NewBatch, raw).requests)
        self.by_id[batch.id] = batch
        ended = [id for id, other in self.by_id.items() if other.ended]
        for id in ended[: max(len(self.by_id) - KEPT, 0)]:
            del self.by_id[id]
        batch.work = asyncio.create_task(self.process(batch))
        return batch

    def find(self, id: str) -> Batch:
        if id not in self.by_id:
            raise ApiError(404, f"There is no message batch {id!r:.80}.")
        return self.by_id[id]

    async def process(self, batch: Batch) -> None:
        waiting = iter(batch.requests)

        async def work() -> None:
            for request in waiting:
                if not batch.canceled:
                    await self.free()
                batch.results[request.custom_id] = (
                    {"type": "canceled"} if batch.canceled else await self.outcome(request.params)
                )

        try:
            await asyncio.gather(*(work() for _ in range(min(AT_ONCE, len(batch.requests)))))
        finally:
            batch.ended = utc_now()

    async def outcome(self, params: dict[str, Any]) -> dict[str, Any]:
        try:
            if params.get("stream"):
                raise ApiError(400, "stream: not supported in a batch")
            if params.get("max_tokens") == 0:
                raise ApiError(400, "max_tokens: 0 is not supported in a batch")
            return {"type": "succeeded", "message": await self.answer(params)}
        except ApiError as error:
            return {"type": "errored", "error": error.body(new_id("req"))}

    def cancel(self, id: str) -> Batch:
        """What is being answered is answered; the rest is not begun."""
        batch = self.find(id)
        if not batch.ended and not batch.canceled:
            batch.canceled = utc_now()
        return batch

    def delete(self, id: str) -> dict[str, Any]:
        if not self.find(id).ended:
            message = f"Message batch {id} cannot be deleted while in progress; cancel it first."
            raise ApiError(400, message)
        del self.by_id[id]
        return {"id": id, "type": "message_batch_deleted"}

    def results(self, id: str) -> str:
        if not (batch := self.find(id)).ended:
            raise ApiError(404, f"Message batch {id} has no results before it has ended.")
        return batch.lines()

    def clear(self) -> None:
        for batch in self.by_id.values():
            if batch.work:
                batch.work.cancel()
        self.by_id.clear()


def stamp(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
