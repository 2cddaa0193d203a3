"""A stored recording, read: its calls, its prompts, and what lab/recording finds in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from lab import techniques
from lab.model import OBSERVED, LabError
from lab.recording import cache_use, conversations, misses, relation, shape, waiting, worth
from lab.recording.facts import Miss, Worth
from lab.recording.relation import Relation
from lab.recording.shape import Block, Mark, Piece, Prompt
from lab.recording.waiting import Waiting
from lab.store import queries
from lab.store.store import Store


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

    def pieces(self, hash: str) -> list[Piece]:
        """Of a block, in their order; empty where they were not kept."""
        return shape.read_pieces(self.kept_pieces.get(hash, ""))

    @cached_property
    def conversations(self) -> pd.DataFrame:
        """By call_id: conversation (from 1), lane (0 the main one, from 1 its sub-agents), turn
        (from 1 within its lane), parent (the call_id before it in its lane; of a lane's first
        call the one that began the lane; None)."""
        return conversations.of(self.calls, self.prompts, self.replies)

    @cached_property
    def waiting(self) -> Waiting:
        """Where the time of its conversations went."""
        return waiting.of(self.calls, self.conversations, self.tools, self.replies)

    @cached_property
    def cache_use(self) -> pd.DataFrame:
        """By call_id, in tokens: read, written, uncached, could_read (what an earlier call had left
        in the cache: of the same blocks, or the call before it, had nothing been changed since;
        null where it cannot be told)."""
        return cache_use.of(self.calls, self.conversations, self.prompts)

    @cached_property
    def relation(self) -> Relation | None:
        """How first-token time grows with uncached tokens here; None where too little is known."""
        return relation.of(self.calls)

    @cached_property
    def misses(self) -> list[Miss]:
        """In the order of the calls, each with its cause, or "cause not known"."""
        return misses.of(self.calls, self.conversations, self.prompts, self.pieces, self.relation)

    @cached_property
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
    prompts = _prompts(calls)
    replies = {
        call.call_id: [Block(*block) for block in _list(call.reply)]
        for call in calls.itertuples()
        if _list(call.reply) is not None
    }
    calls = calls.drop(columns=["blocks", "marks", "reply"])
    return Recording(run, calls, tools, prompts, replies, kept)


def _prompts(calls: pd.DataFrame) -> dict[str, Prompt]:
    """Each put together again: what it shares with the one that it follows, and its own."""
    prompts: dict[str, Prompt] = {}
    for call in calls.itertuples():
        own = _list(call.blocks)
        base = prompts.get(call.follows) if isinstance(call.follows, str) else None
        count = 0 if pd.isna(call.shared_blocks) else int(call.shared_blocks)
        if own is None or (count and (base is None or len(base.blocks) < count)):
            continue
        common = base.blocks[:count] if base else ()
        prompts[call.call_id] = Prompt(
            (*common, *(Block(*block) for block in own)),
            tuple(Mark(*mark) for mark in _list(call.marks) or ()),
            json.loads(call.settings) if isinstance(call.settings, str) else {},
        )
    return prompts


def _list(text: Any) -> list[list[Any]] | None:
    return json.loads(text) if isinstance(text, str) and text != "null" else None
