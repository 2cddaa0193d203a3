"""Which prefix a call would have read: of the call before it in its lane, or of one that begins as
it does."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from lab.recording import causes
from lab.recording.asked import Call, Key
from lab.recording.cache_rules import SLACK, TTL_MS
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

    def __init__(self, calls: Sequence[Call], pieces: Callable[[str], list[Piece]]) -> None:
        self.pieces, self.cache = pieces, Cache()
        self.emptied_ms = -math.inf
        """When the server was last seen to have lost what it should have: whatever was last used
        before that may be lost too."""
        self.ever_cached = any(call.through > SLACK for call in calls)
        self._cached: dict[str, Call | None] = {}
        """By call_id: it, or the nearest before it in its lane, that had something in the cache."""
        self._in_lane: dict[object, list[Call]] = defaultdict(list)
        self._latest: deque[Call] = deque(maxlen=HELD_AGAINST)
        self._counted: list[Call] = []
        self.begun: set[Key] = set()
        """Prefixes that prompts of these begin with."""

    def add(self, call: Call) -> None:
        self.cache.add(call)
        if call.counts:
            self._counted.append(call)
            for key in reversed(call.keys):
                if key in self.begun:
                    break  # and so are all that are shorter
                self.begun.add(key)
        has_cached = call.through > SLACK
        self._cached[call.call_id] = call if has_cached else self.cached_before(call)
        if call.path and call.counts:
            self._latest.append(call)
            if has_cached and call.marks:
                self._in_lane[call.lane].append(call)

    def name(self, call: Call, before: Call) -> str:
        """What to call it: the call before, or an earlier one."""
        return BEFORE if call.before is before else EARLIER

    def cached_before(self, call: Call) -> Call | None:
        """The nearest before it in its lane that had something in the cache."""
        return self._cached[call.before.call_id] if call.before else None

    def latest_like(self, call: Call, place: int) -> Call | None:
        """The latest call whose prompt begins with a block and all before it; a longer while ago
        than anything lives there may as well be none."""
        key, oldest_ms = call.keys[place], call.started_ms - max(TTL_MS.values())
        if key not in self.begun:
            return None
        for before in reversed(self._counted):
            if before.started_ms < oldest_ms:
                return None
            if place < len(before.keys) and before.keys[place] == key:
                return before
        return None

    def wanted(self, call: Call) -> Wanted | None:
        """None where it read all that was there for it."""
        return self._in_its_lane(call) or self._at_its_head(call)

    def _in_its_lane(self, call: Call) -> Wanted | None:
        """Of the call before it; or of a later one of the lane, where what that one said comes
        again with something changed in it."""
        for before in islice(reversed(self._in_lane[call.lane]), HELD_AGAINST):
            place, tokens = before.last_mark.place, min(before.through, call.tokens)
            if tokens - call.read > SLACK and self._comes_again(before, place, call):
                return Wanted(before, place, tokens, True)
            if _goes_on_from(call, before):
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
        read = self.cache.read_place(call)
        alike: dict[Key, tuple[Call, int]] = {}
        for before in others:
            for mark in before.marks:
                if before.begins_like(call, mark.place) and (read is None or read < mark.place):
                    alike.setdefault(before.keys[mark.place], (before, mark.place))
        same = [wanted for own in alike.values() if (wanted := self._head(*own, call))]
        if same:
            return max(same, key=lambda wanted: wanted.tokens)
        return None if self._read_its_head(call, read) else self._but_for_one_change(others, call)

    def _but_for_one_change(self, others: Sequence[Call], call: Call) -> Wanted | None:
        """Of the latest one, unless one with no change came after it."""
        end = call.prompt.first_message - 1
        if end < 0 or not call.marks or self.cache.tokens(call, end)[0] < call.sure_minimum:
            return None
        for before in others:
            if call.begins_like(before, end):
                return None
            place = self._meant(before, call)
            if place is not None and self._is_one_change(before, place, call):
                return self._head(before, place, call)
        return None

    def _meant(self, before: Call, call: Call) -> int | None:
        """The last breakpoint up to which, but for tools and system prompt, both say the same."""
        first = before.prompt.first_message
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
        tokens, is_counted = self.cache.tokens(before, place)
        tokens = min(tokens, call.tokens)
        if tokens - call.read <= SLACK or tokens < call.sure_minimum:
            return None
        return Wanted(before, place, tokens, is_counted)

    def _read_its_head(self, call: Call, read: int | None) -> bool:
        """Whether it read all that its own breakpoints in tools and system prompt ask for; `read`
        is the last block of what it read."""
        ends = [mark.place for mark in call.marks if mark.place < call.prompt.first_message]
        return call.read > SLACK if not ends else read is not None and read >= ends[-1]

    def _is_one_change(self, before: Call, place: int, call: Call) -> bool:
        """Whether the tools or the system prompt are all the same: else it is another prompt."""
        same = any(
            [block.hash for block in before.blocks(section)]
            == [block.hash for block in call.blocks(section)]
            for section in ("tools", "system")
        )
        return same and self._comes_again(before, place, call)


def _goes_on_from(call: Call, earlier: Call) -> bool:
    """Whether the earlier one stands before it in its lane."""
    before = call.before
    while before and before is not earlier and before.started_ms >= earlier.started_ms:
        before = before.before
    return before is earlier
