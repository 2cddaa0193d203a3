"""A stored recording, read: its calls, its prompts, and what lab/recording finds in them."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import pandas as pd

from lab import techniques
from lab.model import OBSERVED, LabError
from lab.recording import asked, cache_use, conversations, misses, relation, shape, waiting, worth
from lab.recording.facts import Miss, Worth
from lab.recording.prefixes import values
from lab.recording.relation import Relation
from lab.recording.shape import Block, Mark, Piece, Prompt
from lab.recording.waiting import Waiting
from lab.store import queries
from lab.store.store import Store

NUMBERS = (pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype, pd.Float64Dtype)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector: to look for cycles among millions of values, of which none is
    in one, takes as long as it takes to make them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class worked_out(cached_property):
    """Once, when it is first asked for."""

    def __get__(self, recording: Any, owner: Any = None) -> Any:
        with _uncollected():
            return super().__get__(recording, owner)


@dataclass(frozen=True, eq=False)
class Recording:
    """Times are ms, tokens as the API counted them. Prompts are by call_id."""

    run: Mapping[str, Any]
    """The row of `runs`."""
    calls: pd.DataFrame
    """A row a call, in the order of their starts: queries.recorded_calls says its columns."""
    tools: pd.DataFrame
    """Spans of tools where the source knew them: call_id, name, started_ms, ended_ms on the same
    clock as calls.started_ms."""
    prompts: Mapping[str, Prompt]
    """Without those that the source did not know."""
    replies: Mapping[str, Sequence[Block]]
    kept_pieces: Mapping[str, str]

    @property
    def run_id(self) -> str:
        return self.run["run_id"]

    @property
    def keeps_text(self) -> bool:
        return bool(self.run["keep_text"])

    @worked_out
    def pieces(self) -> Callable[[str], list[Piece]]:
        """Of a block by its hash, in their order; empty where they were not kept."""

        @lru_cache(maxsize=64)  # one prompt that changes is held against many
        def pieces(hash: str) -> list[Piece]:
            return shape.read_pieces(self.kept_pieces.get(hash, ""))

        return pieces

    @worked_out
    def rows(self) -> list[Any]:
        """The calls as named tuples, quick to go through; a number that is not known is NaN."""
        calls = self.calls
        numbers = [name for name in calls if isinstance(calls[name].dtype, NUMBERS)]
        return list(calls.astype(dict.fromkeys(numbers, "float64")).itertuples())

    @worked_out
    def conversations(self) -> pd.DataFrame:
        """By call_id: conversation (from 1), lane (0 the main one, from 1 its sub-agents), turn
        (from 1 within its lane), parent (the call_id before it in its lane; of a lane's first
        call the one that began the lane; None)."""
        return conversations.of(self.calls, self.prompts, self.replies)

    @worked_out
    def waiting(self) -> Waiting:
        """Where the time of its conversations went."""
        return waiting.of(self.calls, self.conversations, self.tools, self.replies)

    @worked_out
    def asked(self) -> list[asked.Call]:
        """The calls as the cache sees them, in the order of their starts."""
        return asked.calls_of(self.calls, self.conversations, self.prompts)

    @worked_out
    def cache_use(self) -> pd.DataFrame:
        """By call_id, in tokens: read, written, uncached, could_read (what an earlier call had left
        in the cache: of the same blocks, or the call before it, had nothing been changed since;
        null where it cannot be told); and is_counted, whether a usage told could_read, not
        characters."""
        return cache_use.of(self.calls, self.asked)

    @worked_out
    def relation(self) -> Relation | None:
        """How first-token time grows with uncached tokens here; None where too little is known."""
        return relation.of(self.calls)

    @worked_out
    def misses(self) -> list[Miss]:
        """In the order of the calls, each with its cause, or "cause not known"."""
        return misses.of(self.asked, self.pieces, self.relation)

    @worked_out
    def worth(self) -> list[Worth]:
        """What each technique would be worth here, the most seconds first."""
        return worth.of(self, techniques.shown())


def named(reference: str, store: Store | None = None) -> Recording | None:
    """A recording by its id, first digits of it, or name; None where that is a run of the lab's
    own, or a file."""
    if reference.endswith(".duckdb"):
        return None
    store = store or Store()
    run_id = queries.resolve(store, reference)
    is_recorded = queries.run(store, run_id)["technique"] == OBSERVED
    return read(store, run_id) if is_recorded else None


def read(store: Store, run_id: str) -> Recording:
    """Raises LabError where there is no such recording."""
    with store.snapshot():
        run = queries.run(store, run_id)
        if run["technique"] != OBSERVED:
            raise LabError(f"{run_id} is a run of the lab's own, not a recording.")
        calls = queries.recorded_calls(store, run_id)
        tools = queries.recorded_tools(store, run_id)
        kept = queries.recorded_pieces(store, run_id)
    told = zip(calls["call_id"], values(calls, "reply"), strict=True)
    with _uncollected():
        prompts = _prompts(calls)
        replies = {id: blocks for id, text in told if (blocks := _blocks(text)) is not None}
    calls = calls.drop(columns=["blocks", "marks", "reply"])
    return Recording(run, calls, tools, prompts, replies, kept)


def _prompts(calls: pd.DataFrame) -> dict[str, Prompt]:
    """Each put together again: what it shares with the one that it follows, and its own."""
    prompts: dict[str, Prompt] = {}
    read = lru_cache(json.loads)  # most calls say the same of marks and settings
    columns = ("call_id", "follows", "shared_blocks", "blocks", "marks", "settings")
    for call_id, follows, shared, blocks, marks, settings in zip(
        *(values(calls, name) for name in columns), strict=True
    ):
        own, base, count = _blocks(blocks), prompts.get(follows), int(shared or 0)
        if own is None or (count and (base is None or len(base.blocks) < count)):
            continue
        common = base.blocks[:count] if base else ()
        prompts[call_id] = Prompt(
            (*common, *own),
            tuple(Mark(*mark) for mark in read(marks or "null") or ()),
            read(settings or "{}"),
        )
    return prompts


def _blocks(text: str | None) -> list[Block] | None:
    values = json.loads(text) if text else None
    return None if values is None else [Block(*value) for value in values]
