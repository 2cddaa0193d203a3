"""Which prefix a call would have read: of the call before it in its lane, or of one that begins as
it does."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from lab.recording import causes, prefixes
from lab.recording.asked import Call
from lab.recording.cache_rules import SLACK
from lab.recording.entries import Cache
from lab.recording.shape import Piece

HELD_AGAINST = 64
"""Calls that one without a call before it is held against: the latest ones."""
BEFORE = "the call before"
EARLIER = "an earlier call"


@dataclass(frozen=True)
class Wanted:
    """A prefix that was in the cache, up to a block of the prompt of `before`."""

    before: Call
    place: int
    tokens: int
    is_counted: bool

    def is_same(self, call: Call) -> bool:
        """Whether the other call's prompt begins with it, settings and all."""
        return self.place < len(call.keys) and call.keys[self.place] == self.before.keys[self.place]


class History:
    """The calls up to now, and what they left in the cache."""

    def __init__(
        self,
        calls: Sequence[Call],
        conversations: pd.DataFrame,
        pieces: Callable[[str], list[Piece]],
    ) -> None:
        self.pieces, self.cache = pieces, Cache()
        self.emptied_ms = -math.inf
        """When the server was last seen to have lost what it should have: whatever was last used
        before that may be lost too."""
        self.ever_cached = any(call.through > SLACK for call in calls)
        self._by_id = {call.call_id: call for call in calls}
        self._lanes, self._parents = _places(conversations)
        self._in_lane: dict[object, list[Call]] = defaultdict(list)
        self._latest: list[Call] = []

    def add(self, call: Call) -> None:
        self.cache.add(call)
        if call.path and call.counts:
            self._latest = [*self._latest[1 - HELD_AGAINST :], call]
            if call.through > SLACK:
                self._in_lane[self._lane(call)].append(call)

    def _lane(self, call: Call) -> object:
        return self._lanes.get(call.call_id, call.call_id)

    def name(self, call: Call, before: Call) -> str:
        """What to call it: the call before, or an earlier one."""
        is_parent = self._parents.get(call.call_id) == before.call_id
        return BEFORE if is_parent else EARLIER

    def ancestors(self, call: Call) -> Iterator[Call]:
        """The calls before it in its lane, the nearest first, as far as it is held against any."""
        lane, at = self._lane(call), self._parents.get(call.call_id)
        for _ in range(HELD_AGAINST):
            if at not in self._by_id or self._lanes.get(at) != lane:
                return
            yield self._by_id[at]
            at = self._parents.get(at)

    def cached_before(self, call: Call) -> Call | None:
        """The nearest of them that had something in the cache."""
        return next((before for before in self.ancestors(call) if before.through > SLACK), None)

    def wanted(self, call: Call) -> Wanted | None:
        """None where it read all that was there for it."""
        return self._in_its_lane(call) or self._at_its_head(call)

    def _in_its_lane(self, call: Call) -> Wanted | None:
        """Of the call before it; or of a later one of the lane, where what that one said comes
        again with something changed in it."""
        ancestors = {before.call_id for before in self.ancestors(call)}
        for before in reversed(self._in_lane[self._lane(call)][-HELD_AGAINST:]):
            place, tokens = before.last_mark.place, min(before.through, call.tokens)
            if tokens - call.read > SLACK and self._comes_again(before, place, call):
                return Wanted(before, place, tokens, True)
            if before.call_id in ancestors:
                break
        return None

    def _comes_again(self, before: Call, place: int, call: Call) -> bool:
        return causes.again(before, place, call, self.pieces) >= causes.ALIKE

    def _at_its_head(self, call: Call) -> Wanted | None:
        """With nothing before it in its lane: of a call with the same prefix; else of one with the
        same tools and system prompt but for one change. Another model's is none of its own."""
        if self.cached_before(call):
            return None
        others = [before for before in reversed(self._latest) if before.model == call.model]
        same = [
            wanted
            for before in others
            for mark in before.marks
            if _begins(before, mark.place, call)
            and (wanted := self._head(before, mark.place, call))
        ]
        if same:
            return max(same, key=lambda wanted: wanted.tokens)
        return None if self._read_its_head(call) else self._but_for_one_change(others, call)

    def _but_for_one_change(self, others: Sequence[Call], call: Call) -> Wanted | None:
        """Of the latest one, unless one with no change came after it."""
        end = prefixes.first_message(call.prompt) - 1
        if end < 0 or not call.marks or self.cache.tokens(call, end)[0] < call.sure_minimum:
            return None
        for before in others:
            if _begins(call, end, before):
                return None
            place = self._meant(before, call)
            if place is not None and self._is_one_change(before, place, call):
                return self._head(before, place, call)
        return None

    def _meant(self, before: Call, call: Call) -> int | None:
        """The last breakpoint up to which, but for tools and system prompt, both say the same."""
        first = prefixes.first_message(before.prompt)
        said = [[block.hash for block in each.blocks("messages")] for each in (before, call)]
        places = [mark.place for mark in before.marks]
        return next(
            (
                place
                for place in reversed(places)
                if said[0][: place - first + 1] == said[1][: place - first + 1] or place < first
            ),
            None,
        )

    def _head(self, before: Call, place: int, call: Call) -> Wanted | None:
        last = before.last_mark
        if before.keys[place] not in self.cache.entries or last is None or place > last.place:
            return None
        read = self.cache.read_place(call)
        if read is not None and read >= place and _begins(before, place, call):
            return None
        tokens, is_counted = self.cache.tokens(before, place)
        tokens = min(tokens, call.tokens)
        if tokens - call.read <= SLACK or tokens < call.sure_minimum:
            return None
        return Wanted(before, place, tokens, is_counted)

    def _read_its_head(self, call: Call) -> bool:
        """Whether it read all that its own breakpoints in tools and system prompt ask for."""
        first, read = prefixes.first_message(call.prompt), self.cache.read_place(call)
        ends = [mark.place for mark in call.marks if mark.place < first]
        return call.read > SLACK if not ends else read is not None and read >= ends[-1]

    def _is_one_change(self, before: Call, place: int, call: Call) -> bool:
        """Whether the tools or the system prompt are all the same: else it is another prompt."""
        same = any(
            [block.hash for block in before.blocks(section)]
            == [block.hash for block in call.blocks(section)]
            for section in ("tools", "system")
        )
        return same and self._comes_again(before, place, call)


def _begins(before: Call, place: int, call: Call) -> bool:
    """Whether a call's prompt begins with the same blocks, whatever its settings."""
    return place < len(call.path) and call.path[place] == before.path[place]


def _places(conversations: pd.DataFrame) -> tuple[dict[str, object], dict[str, str]]:
    """By call_id: its lane, and the call before it."""
    names = ("conversation", "lane", "parent")
    columns = [prefixes.values(conversations, name) for name in names]
    lanes, parents = {}, {}
    for call_id, conversation, lane, parent in zip(conversations.index, *columns, strict=True):
        lanes[call_id] = (conversation, lane)
        if parent is not None:
            parents[call_id] = parent
    return lanes, parents
