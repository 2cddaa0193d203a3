"""What stood in the cache, as far as a recording proves it: an entry is known by the usage of the
calls that wrote or read it."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from lab.recording.asked import Call, Key
from lab.recording.cache_rules import SLACK, TTL_MS
from lab.recording.shape import Mark

SURE = 1.25
"""Tokens told by characters are above a minimum for sure from so many times it on."""


@dataclass(eq=False, slots=True)
class Entry:
    """A prefix that was written: by `writer` lastly, used lastly at `used_ms`."""

    ttl_ms: float
    writer: Call
    used_ms: float
    readable_ms: float
    """By then it could be read, …"""
    unreadable_ms: float
    """… and until then it could not: apart where nobody saw the writer's answer begin."""
    is_sure: bool
    """Whether the usage alone proves it; a breakpoint in the middle may be below the minimum."""

    def is_readable(self, at_ms: float) -> bool:
        return self.readable_ms <= at_ms and self.is_alive(at_ms)

    def is_alive(self, at_ms: float) -> bool:
        return at_ms - self.used_ms < self.ttl_ms


class Cache:
    """Entries by key, as calls are added in the order of their starts; and token counts of
    prefixes, learned from their usage."""

    def __init__(self) -> None:
        self.entries: dict[Key, Entry] = {}
        self.counted: dict[tuple[str, int], int] = {}
        self.maybe_used: dict[Key, float] = {}
        """By calls that failed and told no usage."""
        self._asked: Call | None = None
        self._place: int | None = None

    def tokens(self, call: Call, place: int) -> tuple[int, bool]:
        """Up to the end of a block: (tokens, whether counted; else by characters between what is
        counted)."""
        if (known := self.counted.get((call.model, call.path[place]))) is not None:
            return known, True
        ends, total = call.characters, call.tokens or 0
        anchors = {0: 0, ends[-1]: total}
        for at, node in enumerate(call.path):
            if (known := self.counted.get((call.model, node))) is not None:
                anchors[ends[at]] = known
        if (last := call.last_mark) and call.through:
            anchors[ends[last.place]] = call.through
        points = sorted(anchors)
        right = min(max(1, bisect_left(points, ends[place])), len(points) - 1)
        low, high = points[right - 1], points[right]
        share = (ends[place] - low) / max(1, high - low)
        count = round(anchors[low] + share * (anchors[high] - anchors[low]))
        return count, ends[place] == ends[-1]

    def longest(self, call: Call) -> int | None:
        """The last block of the longest prefix of a call that it could have read when it began,
        whatever it marked; None where nothing is known that could be read."""
        for place in range(len(call.keys) - 1, -1, -1) if self.entries else ():
            entry = self.entries.get(call.keys[place])
            if entry and entry.is_readable(call.started_ms) and self.was_there(call, place, entry):
                return place
        return None

    def was_there(self, call: Call, place: int, entry: Entry) -> bool:
        """Whether it is sure that an entry was written."""
        if entry.is_sure:
            return True
        tokens, is_counted = self.tokens(call, place)
        return tokens > (1 if is_counted else SURE) * call.sure_minimum

    def read_place(self, call: Call) -> int | None:
        """The last block of what a call read, by its count; None where it read no entry that is
        known."""
        if self._asked is not call:  # until it is added, several ask
            self._asked, self._place = call, self._read_place(call)
        return self._place

    def _read_place(self, call: Call) -> int | None:
        if not call.path or (call.read or 0) <= SLACK:
            return None
        if call.last_mark and not call.written:
            return call.last_mark.place  # it left nothing to write, whoever wrote it
        fits = [place for place in call.reachable if call.keys[place] in self.entries]
        counts = {place: self.counted.get((call.model, call.path[place])) for place in fits}
        known = {place: count for place, count in counts.items() if count is not None}
        apart = {place: abs(count - call.read) for place, count in known.items()}
        nearest = min(apart, key=apart.get, default=None)
        if nearest is not None and apart[nearest] <= SLACK:
            return nearest
        # Of two prefixes the longer one has more tokens.
        unsure = [
            place
            for place in reversed(fits)
            if place not in known
            and all((at < place) == (count < call.read) for at, count in known.items())
        ]
        apart = {place: abs(self.tokens(call, place)[0] - call.read) for place in unsure}
        return min(unsure, key=apart.get, default=None)

    def add(self, call: Call) -> None:
        if not call.counts:
            if not 400 <= (call.row["http_status"] or 0) < 500:
                self.maybe_used.update(dict.fromkeys(call.keys, call.started_ms))
            return
        if (place := self.read_place(call)) is not None:
            self.counted.setdefault((call.model, call.path[place]), call.read)
            self._read(call, place)
        if call.path and (last := call.last_mark) and call.through > SLACK:
            self.counted[(call.model, call.path[last.place])] = call.through
            longer = [mark.place for mark in call.marks if mark.ttl == "1h"]
            if longer and (hour := call.row["cache_write_1h_tokens"]):
                # Longer times to live come first: what was written for an hour ends with them.
                self.counted[(call.model, call.path[longer[-1]])] = call.read + int(hour)
            for mark in call.marks:
                if mark.place <= last.place:
                    self._write(call, mark, is_sure=mark is last)

    def _read(self, call: Call, place: int) -> None:
        """It lives anew, and so does all that is shorter; but what had expired is not there again
        because something longer was read."""
        if entry := self.entries.get(call.keys[place]):
            entry.is_sure, entry.used_ms = True, call.started_ms
        for key in self.entries.keys() & call.keys[:place]:
            entry = self.entries[key]
            if entry.is_alive(call.started_ms):
                entry.used_ms = call.started_ms
            elif call.started_ms - self.maybe_used.get(key, entry.used_ms) < entry.ttl_ms:
                self.maybe_used[key] = call.started_ms

    def _write(self, call: Call, mark: Mark, is_sure: bool) -> None:
        key, ttl = call.keys[mark.place], TTL_MS[mark.ttl]
        readable, unreadable = call.answering_ms, call.unanswered_ms
        entry = self.entries.get(key)
        if entry and entry.is_alive(call.started_ms):
            entry.used_ms = call.started_ms
            entry.readable_ms = min(entry.readable_ms, readable)
            entry.unreadable_ms = min(entry.unreadable_ms, unreadable)
            # Which of two times to live holds is the server's to say: the longer one proves more.
            entry.ttl_ms, entry.is_sure = max(entry.ttl_ms, ttl), entry.is_sure or is_sure
            if is_sure and call.written:
                entry.writer = call
        else:
            clocks = (call.started_ms, readable, unreadable)
            self.entries[key] = Entry(ttl, call, *clocks, is_sure)

    def last_use_ms(self, call: Call, place: int, entry: Entry) -> float:
        """The latest that its use can have been before this call."""
        return max(entry.used_ms, self.maybe_used.get(call.keys[place], entry.used_ms))
