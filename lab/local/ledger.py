"""The prompt cache as the API promises it: which prefixes can be read, what a request writes, and
when entries end.

Rules (the API's documentation of prompt caching): entries are written only at breakpoints; a read
takes the longest entry within 20 blocks back of a breakpoint, the breakpoint counted first; a
prefix below the minimum is neither written nor read; the TTL runs from the start of the request
that last wrote or read the entry; an entry can be read only once the response that wrote it has
begun.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lab.local.messages_api import Block, Prompt, ToolChoice, Ttl, canonical

LOOKBACK = 20
TTL_NS = {"5m": 300 * 10**9, "1h": 3600 * 10**9}


@dataclass
class Entry:
    """One cached prefix; `snapshot` is the engine's, `size` its weight in bytes."""

    tokens: int
    ttl: Ttl
    ends_ns: int
    snapshot: Any = None
    size: int = 1
    pins: int = 0
    gone: bool = False


class Write(NamedTuple):
    key: str
    tokens: int
    ttl: Ttl


@dataclass
class Plan:
    """What one request reads and writes, settled at its start."""

    started_ns: int
    read: Entry | None = None
    writes: list[Write] = field(default_factory=list)

    @property
    def read_tokens(self) -> int:
        return self.read.tokens if self.read else 0

    def created(self, ttl: Ttl) -> int:
        """Tokens written with this TTL: each breakpoint pays for what follows the one before."""
        starts = [self.read_tokens, *(write.tokens for write in self.writes)]
        return sum(
            write.tokens - start
            for start, write in zip(starts, self.writes, strict=False)
            if write.ttl == ttl
        )

    def usage(self, total: int) -> dict[str, Any]:
        """Input counts as the API splits them: `total` is input, cache read and cache write."""
        created = {f"ephemeral_{ttl}_input_tokens": self.created(ttl) for ttl in TTL_NS}
        written = sum(created.values())
        return {
            "input_tokens": total - self.read_tokens - written,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": self.read_tokens,
            "cache_creation": created,
            "output_tokens": 0,
            "service_tier": "standard",
        }


def keys(prompt: Prompt, blocks: Sequence[Block]) -> list[str]:
    """The key of the prefix that ends with each block: model and exact content; speed counts from
    the system on, and tool_choice, thinking, effort and the reply's schema from the messages on. To
    state a default changes nothing."""
    digest = hashlib.sha256(prompt.model.encode())
    choice, config = prompt.tool_choice or ToolChoice(type="auto"), prompt.output_config
    thinks = prompt.thinking and prompt.thinking.on
    settings = {
        "system": [prompt.speed or "standard"],
        "messages": [
            choice.model_dump(),
            prompt.thinking.model_dump() if thinks else None,
            (config and config.effort) or "high",
            prompt.json_schema,
        ],
    }
    prefixes = []
    for section, turn, role, value, _ in blocks:
        for name in [name for name in settings if section in (name, "messages")]:
            digest.update(canonical(settings.pop(name)).encode())
        digest.update(canonical([section, turn, role, value]).encode())
        prefixes.append(digest.hexdigest())
    return prefixes


class Ledger:
    """Entries in order of use; the least recently used go first when their sizes pass the limit."""

    def __init__(
        self,
        minimum: int = 256,
        limit: int = 10_000,
        discard: Callable[[Any], None] = lambda snapshot: None,
    ):
        self.minimum, self.limit, self.discard = minimum, limit, discard
        self.entries: OrderedDict[str, Entry] = OrderedDict()

    def plan(self, prompt: Prompt, ends: Sequence[int], started_ns: int) -> Plan:
        """Settle reads and writes; `ends` are the tokens up to the end of each block. Give the plan
        back by release()."""
        blocks = prompt.blocks()
        marks = [i for i, block in enumerate(blocks) if block.ttl]
        plan = Plan(started_ns)
        if not marks:
            return plan
        self.expire(started_ns)
        prefix = keys(prompt, blocks)
        reachable = {i for mark in marks for i in range(mark, max(mark - LOOKBACK, -1), -1)}
        hit = max((i for i in reachable if prefix[i] in self.entries), default=-1)
        if hit >= 0:
            plan.read = self.entries[prefix[hit]]
            plan.read.pins += 1
            for i in range(hit + 1):
                self.refresh(prefix[i], started_ns)
        plan.writes = [
            Write(prefix[i], ends[i], blocks[i].ttl)
            for i in marks
            if i > hit and ends[i] >= self.minimum
        ]
        return plan

    def commit(self, plan: Plan, snapshots: Sequence[tuple[Any, int]]) -> None:
        """The response has begun: the plan's writes become readable, each with its (snapshot,
        size). An equal entry stays as it is."""
        for write, (snapshot, size) in zip(plan.writes, snapshots, strict=False):
            if write.key in self.entries:
                self.refresh(write.key, plan.started_ns)
                self.discard(snapshot)
            else:
                self.entries[write.key] = Entry(
                    write.tokens, write.ttl, plan.started_ns + TTL_NS[write.ttl], snapshot, size
                )
        total = sum(entry.size for entry in self.entries.values())
        for key in list(self.entries):
            if total <= self.limit or len(self.entries) == 1:
                break
            total -= self.entries[key].size
            self.remove(key)

    def release(self, plan: Plan) -> None:
        """The request is over: a snapshot that was dropped meanwhile may go."""
        if plan.read:
            plan.read.pins -= 1
            if plan.read.gone and not plan.read.pins:
                self.discard(plan.read.snapshot)
            plan.read = None

    def refresh(self, key: str, started_ns: int) -> None:
        if entry := self.entries.get(key):
            entry.ends_ns = max(entry.ends_ns, started_ns + TTL_NS[entry.ttl])
            self.entries.move_to_end(key)

    def expire(self, now_ns: int) -> None:
        for key in [key for key, entry in self.entries.items() if entry.ends_ns <= now_ns]:
            self.remove(key)

    def remove(self, key: str) -> None:
        entry = self.entries.pop(key)
        entry.gone = True
        if not entry.pins:
            self.discard(entry.snapshot)

    def clear(self) -> None:
        for key in list(self.entries):
            self.remove(key)
