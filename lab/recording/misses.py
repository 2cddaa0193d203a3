"""Why a call did not read from the cache: only causes that the recording proves.

A call is held against the last one of its lane that had something in the cache; the first of a lane
against the calls that begin alike, or with the same tools and system prompt but for one change.
Where the two differ, the first difference in the order in which the API reads is the cause: it
alone breaks the prefix. Where they do not, the breakpoint, the clocks and the model's minimum are
asked; where none of them proves anything the cause is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import pandas as pd

from lab.recording import cache_rules, causes, costs, prefixes
from lab.recording.cache_rules import MOST_BREAKPOINTS, SLACK, TTL_MS
from lab.recording.entries import Cache, Call, Entry, calls_of, looked_at
from lab.recording.facts import Miss
from lab.recording.relation import Relation
from lab.recording.shape import Piece, Prompt

HELD_AGAINST = 64
"""Calls that one without a call before it is held against: the latest ones."""
BEFORE = "the call before"
EARLIER = "an earlier call"


def of(
    calls: pd.DataFrame,
    conversations: pd.DataFrame,
    prompts: Mapping[str, Prompt],
    pieces: Callable[[str], list[Piece]],
    relation: Relation | None,
) -> list[Miss]:
    """See lab.recordings.Recording.misses."""
    judge = _Judge(calls_of(calls, prompts), conversations, pieces, relation)
    return judge.misses()


@dataclass(frozen=True)
class _Wanted:
    """A prefix that a call would have read, and who had it in the cache."""

    before: Call
    place: int
    tokens: int
    is_counted: bool
    words: str


@dataclass(frozen=True)
class _Finding:
    """A miss without its price."""

    cause: str
    evidence: str
    tokens: int
    is_counted: bool = True
    before: str | None = None
    fields: Mapping[str, object] = field(default_factory=dict)


class _Judge:
    def __init__(self, calls, conversations, pieces, relation) -> None:
        self.calls, self.pieces, self.relation = calls, pieces, relation
        self.by_id = {call.call_id: call for call in calls}
        self.lanes, self.parents = _places(conversations)
        self.cache = Cache()
        self.in_lane: dict[object, list[Call]] = {}
        self.heads: list[Call] = []
        self.ever_cached = any(call.through > SLACK for call in calls)

    def misses(self) -> list[Miss]:
        found = []
        for call in self.calls:
            if finding := self.judge(call):
                found.append(self.priced(call, finding))
            self.cache.add(call)
            if call.counts and call.through > SLACK:
                self.in_lane.setdefault(self.lane(call), []).append(call)
                if call.path:
                    self.heads = [*self.heads[1 - HELD_AGAINST :], call]
        return found

    def lane(self, call: Call) -> object:
        return self.lanes.get(call.call_id, call.call_id)

    def priced(self, call: Call, finding: _Finding) -> Miss:
        is_fault = finding.cause != "first_use" and call.counts and finding.tokens
        seconds = usd = None
        if is_fault:
            usd = _extra_usd(call, finding.tokens)
            if self.relation is not None:
                seconds = self.relation.seconds(finding.tokens, call.row.get("model"))
        return Miss(
            call.call_id,
            finding.cause,
            finding.evidence,
            finding.tokens,
            before=finding.before,
            usd=usd,
            seconds=seconds,
            api_reason=call.row.get("cache_miss_reason"),
            is_counted=finding.is_counted,
            **finding.fields,
        )

    def judge(self, call: Call) -> _Finding | None:
        if not call.counts:
            return self.refused(call)
        if not call.path:
            return self.of_a_part(call)
        if lost := self.lost(call):
            return lost
        wanted = self.in_its_lane(call) or self.at_its_head(call)
        if wanted and (call.asks or self.is_same(call, wanted)):
            return self.explained(call, wanted)
        if call.asks and call.through <= SLACK and (nothing := self.nothing_cached(call)):
            return nothing
        if unmarked := self.unmarked(call):
            return unmarked
        return self.first_use(call)

    def refused(self, call: Call) -> _Finding | None:
        """The API answers a request with more than four breakpoints with an error."""
        if len(call.marks) <= MOST_BREAKPOINTS or call.row.get("http_status") != 400:
            return None
        evidence = (
            f"It has {len(call.marks)} breakpoints, and 4 are allowed: the answer was status 400."
        )
        return _Finding("breakpoint_beyond", evidence, 0)

    def of_a_part(self, call: Call) -> _Finding | None:
        """Of a request that is not known as a whole only usage and clocks speak."""
        before = next(
            (self.by_id[i] for i in self.ancestors(call) if self.by_id[i].through > SLACK), None
        )
        if before is None or call.tokens < before.through or before.through - call.read <= SLACK:
            return None
        missed = before.through - call.read
        ttl = "1h" if before.row.get("cache_write_1h_tokens") else "5m"
        if not before.written:
            ttl = "1h"
        ended = before.started_ms + (before.row.get("ended_at_ms") or 0.0)
        counts = f"{before.through:,} tokens were in the cache; this one read {call.read:,}"
        if call.started_ms - ended >= TTL_MS[ttl]:
            evidence = f"{_pause(call, ended)} after the end of {BEFORE} ({_live(ttl)}), {counts}."
            return _Finding("expired", evidence, missed, before=before.call_id)
        evidence = (
            f"After {BEFORE} {counts} of them. The request is not known as a whole, so its cause"
            " cannot be told."
        )
        return _Finding("not_known", evidence, missed, before=before.call_id)

    def lost(self, call: Call) -> _Finding | None:
        """An entry that by all that is known could have been read, and was not."""
        cache, read = self.cache, self.cache.read_place(call)
        for place in sorted(call.reachable, reverse=True):
            entry = cache.entries.get(call.keys[place])
            if entry is None or (read is not None and place <= read):
                continue
            tokens, is_counted = cache.tokens(call, place)
            is_there = entry.is_sure or (tokens > 1.25 * self.least(call))
            if (
                is_there
                and tokens - call.read > SLACK
                and entry.readable_ms <= call.started_ms
                and entry.is_alive(call.started_ms)
            ):
                return self.not_known(call, place, entry, tokens, is_counted)
        return None

    def not_known(
        self, call: Call, place: int, entry: Entry, tokens: int, is_counted: bool
    ) -> _Finding:
        before = entry.writer
        words = self.name(call, before)
        ago = (call.started_ms - entry.used_ms) / 1000
        evidence = (
            f"Everything up to the breakpoint was the same as in {words}, "
            f"{_about(tokens, is_counted)} tokens, last used {_seconds(ago)} before with "
            f"{_ttl(entry.ttl_ms)} to live; {call.read:,} were read."
        )
        hints = _hints(before, call)
        if hints:
            evidence += f" Also seen: {', '.join(hints)}."
        return _Finding(
            "not_known",
            evidence,
            tokens - call.read,
            is_counted,
            before.call_id,
            {"place": place},
        )

    def ancestors(self, call: Call):
        """Ids of the calls before it in its lane, the nearest first."""
        lane, at = self.lane(call), self.parents.get(call.call_id)
        while at in self.by_id and self.lanes.get(at) == lane:
            yield at
            at = self.parents.get(at)

    def in_its_lane(self, call: Call) -> _Wanted | None:
        """The call before it that had something in the cache; or a later one of the lane, where
        that one's conversation goes on here with something changed in it."""
        ancestors = set(self.ancestors(call))
        for before in reversed(self.in_lane.get(self.lane(call), [])[-HELD_AGAINST:]):
            if not before.path:
                continue
            place = before.last_mark.place
            tokens = min(before.through, call.tokens)
            if tokens - call.read > SLACK and self.goes_on(before, place, call):
                words = BEFORE if before.call_id in ancestors else EARLIER
                return _Wanted(before, place, tokens, True, words)
            if before.call_id in ancestors:
                break
        return None

    def goes_on(self, before: Call, place: int, call: Call) -> bool:
        return causes.again(before, place, call, self.pieces) >= causes.ALIKE

    def at_its_head(self, call: Call) -> _Wanted | None:
        """Of a call with nothing before it in its lane: whoever had the same prefix in the cache,
        or its tools and system prompt but for one change."""
        if any(self.by_id[i].through > SLACK for i in self.ancestors(call)):
            return None
        best = None
        for before in reversed(self.heads):
            if before.model != call.model:
                continue
            for mark in before.marks:
                wanted = self.head(before, mark.place, call)
                if wanted and (best is None or wanted.tokens > best.tokens):
                    best = wanted
        return best

    def head(self, before: Call, place: int, call: Call) -> _Wanted | None:
        entry = self.cache.entries.get(before.keys[place])
        if entry is None or place > before.last_mark.place:
            return None
        is_same = place < len(call.path) and before.path[place] == call.path[place]
        if not is_same and before.prompt.blocks[place].section == "messages":
            return None
        tokens, is_counted = self.cache.tokens(before, place)
        tokens = min(tokens, call.tokens)
        if tokens - call.read <= SLACK or tokens < self.least(call):
            return None
        if not (is_counted or is_same) and self.cache.read_place(call) is not None:
            return None
        if not is_same and not self.is_one_change(before, place, call):
            return None
        return _Wanted(before, place, tokens, is_counted, self.name(call, before))

    def is_one_change(self, before: Call, place: int, call: Call) -> bool:
        """Whether either the tools or the system prompt are alike: else it is another prompt."""
        sections = [
            [b.hash for b in causes.blocks_of(before, s)]
            == [b.hash for b in causes.blocks_of(call, s)]
            for s in ("tools", "system")
        ]
        return any(sections) and self.goes_on(before, place, call)

    def is_same(self, call: Call, wanted: _Wanted) -> bool:
        place = wanted.place
        return place < len(call.path) and call.keys[place] == wanted.before.keys[place]

    def explained(self, call: Call, wanted: _Wanted) -> _Finding:
        before, place, words = wanted.before, wanted.place, wanted.words
        missed = wanted.tokens - call.read
        entry = self.cache.entries.get(before.keys[place])
        found = causes.changes(before, place, call, self.pieces, words)
        late = self.lateness(call, before, place, entry)
        if found:
            first, *others = found
            also = [change.short for change in others] + ([late.short] if late else [])
            evidence = f"{first.evidence}."
            if also:
                evidence += f" Also different: {', '.join(also)}."
            difference = first.difference
            details = {"section": first.section, "place": first.place}
            if difference:
                details |= {
                    "offset": difference.offset,
                    "length": difference.length,
                    "look": difference.look,
                }
            finding = _Finding(first.cause, evidence, missed, wanted.is_counted, before.call_id)
            return _with(finding, details)
        if change := self.breakpoint(call, place, words) or late:
            evidence = f"{change.evidence}."
            return _Finding(
                change.cause, evidence, missed, wanted.is_counted, before.call_id, {"place": place}
            )
        if entry is None:
            entry = Entry(place, TTL_MS["5m"], before, before.started_ms, before.started_ms, True)
        return self.not_known(call, place, entry, wanted.tokens, wanted.is_counted)

    def breakpoint(self, call: Call, place: int, words: str) -> causes.Change | None:
        """No breakpoint of the call looks back as far as the block."""
        if place in call.reachable:
            return None
        where = f"Up to block {place + 1} all is the same as in {words}"
        ahead = [mark.place for mark in call.marks if mark.place >= place]
        if not ahead:
            evidence = f"{where}, which had a breakpoint there; this one has none there or later"
            return causes.Change("no_breakpoint", evidence, "the breakpoint")
        if place in looked_at(call.marks):
            evidence = f"{where}; of its {len(call.marks)} breakpoints only one beyond the fourth"
            return causes.Change("breakpoint_beyond", f"{evidence} is near", "the breakpoint")
        evidence = (
            f"{where}, which had a breakpoint there; the next one here stands"
            f" {min(ahead) - place} blocks on, and looks back over 20 counting itself"
        )
        return causes.Change("breakpoint_moved", evidence, "the breakpoint")

    def lateness(
        self, call: Call, before: Call, place: int, entry: Entry | None
    ) -> causes.Change | None:
        """Asked too early, while it was being written, or too late."""
        if entry is None:
            return None
        if entry.readable_ms > call.sent_ms:
            wait = (entry.readable_ms - call.sent_ms) / 1000
            evidence = (
                f"Sent {_seconds(wait)} before the answer began that wrote these tokens; an entry"
                " can be read only from then on"
            )
            return causes.Change("being_written", evidence, "it was still being written")
        used = self.cache.last_use_ms(before, place, entry)
        if call.started_ms - used >= entry.ttl_ms:
            evidence = (
                f"{_pause(call, used)} after the last request that used it, with"
                f" {_ttl(entry.ttl_ms)} to live"
            )
            return causes.Change("expired", evidence, "the pause, longer than the time to live")
        return None

    def nothing_cached(self, call: Call) -> _Finding | None:
        """It asked for caching and neither read nor wrote: too short, or nobody knows."""
        for place in sorted(call.reachable, reverse=True):
            before = self.cache.seen.get(call.keys[place])
            if before is None or place not in {mark.place for mark in before.marks}:
                continue
            ttl = max(TTL_MS[mark.ttl] for mark in before.marks)
            begun = before.started_ms if before.begun_ms is None else before.begun_ms
            if call.started_ms - before.started_ms >= ttl or begun > call.sent_ms:
                return None
            # The last breakpoint counts: whatever is before it is shorter still.
            tokens, is_counted = self.cache.tokens(call, place)
            longest, _ = self.cache.tokens(call, call.marks[-1].place)
            least = cache_rules.minimum(call.model, call.row.get("endpoint_kind"))
            is_short = least and (call.tokens < least or longest * 1.5 < least)
            details = {"place": place}
            if is_short:
                evidence = (
                    f"The prompt up to its last breakpoint is {_about(longest, is_counted)} tokens"
                    f" long; {call.model} caches none of less than {least:,}."
                )
                return _Finding(
                    "below_minimum", evidence, tokens, is_counted, before.call_id, details
                )
            evidence = (
                f"It neither read nor wrote the cache, with a breakpoint behind"
                f" {_about(tokens, is_counted)} tokens that {self.name(call, before)} had too."
            )
            if not self.ever_cached:
                evidence += " No call of this recording did."
            return _Finding("not_known", evidence, tokens, is_counted, before.call_id, details)
        return None

    def unmarked(self, call: Call) -> _Finding | None:
        """Blocks that an earlier prompt has too, with no breakpoint behind them in either."""
        least = self.least(call)
        if not (self.ever_cached or self.caches(call)) or call.tokens - call.read < least:
            return None
        for place in range(len(call.path) - 1, -1, -1):
            if (before := self.cache.seen.get(call.keys[place])) is not None:
                break
        else:
            return None
        begun = before.started_ms if before.begun_ms is None else before.begun_ms
        if begun > call.sent_ms or call.started_ms - before.started_ms >= TTL_MS["5m"]:
            return None
        tokens, is_counted = self.cache.tokens(call, place)
        behind = max((m.place for m in before.marks if m.place <= place), default=None)
        marked = 0 if behind is None else self.cache.tokens(call, behind)[0]
        missed = tokens - max(call.read, marked)
        if tokens < least or missed < least:
            return None
        evidence = (
            f"The first {place + 1} blocks, {_about(tokens, is_counted)} tokens, are the same as in"
            f" {self.name(call, before)}, with no breakpoint behind"
            f" {'them' if behind is None else 'the last of them'}."
        )
        details = {"place": place}
        return _Finding("no_breakpoint", evidence, missed, is_counted, before.call_id, details)

    def first_use(self, call: Call) -> _Finding | None:
        if not call.written or call.read > SLACK:
            return None
        if any(self.by_id[i].through > SLACK for i in self.ancestors(call)):
            return None
        evidence = f"The first call with this prefix: it wrote {call.written:,} tokens."
        return _Finding("first_use", evidence, 0)

    def least(self, call: Call) -> int:
        known = cache_rules.minimum(call.model, call.row.get("endpoint_kind"))
        return known or cache_rules.LONGEST_MINIMUM

    def caches(self, call: Call) -> bool:
        """Whether its model is one whose API is documented to cache."""
        return cache_rules.minimum(call.model, call.row.get("endpoint_kind")) is not None

    def name(self, call: Call, before: Call) -> str:
        return BEFORE if self.parents.get(call.call_id) == before.call_id else EARLIER


def _places(conversations: pd.DataFrame) -> tuple[dict[str, object], dict[str, str]]:
    """By call_id: its lane, and the call before it."""
    names = ("conversation", "lane", "parent")
    columns = [prefixes.values(conversations, name) for name in names]
    ids = (
        conversations["call_id"].tolist()
        if "call_id" in conversations
        else conversations.index.tolist()
    )
    lanes, parents = {}, {}
    for call_id, conversation, lane, parent in zip(ids, *columns, strict=True):
        lanes[call_id] = (conversation, lane)
        if parent is not None:
            parents[call_id] = parent
    return lanes, parents


def _extra_usd(call: Call, tokens: int) -> float | None:
    """What tokens behind those that were read were billed at above the price of a read: first come
    those written for an hour, then those for five minutes, then the rest."""
    more, left = {"cache_read_tokens": tokens}, tokens
    for name in ("cache_write_1h_tokens", "cache_write_5m_tokens", "input_tokens"):
        part = min(left, int(call.row.get(name) or 0))
        more[name], left = -part, left - part
    saved = costs.change_usd(SimpleNamespace(**call.row), **more)
    return None if saved is None else -saved


def _with(finding: _Finding, details: Mapping[str, object]) -> _Finding:
    return _Finding(
        finding.cause, finding.evidence, finding.tokens, finding.is_counted, finding.before, details
    )


def _hints(before: Call, call: Call) -> list[str]:
    """What differs and is not documented to break this prefix, or only may."""
    first, second = before.prompt.settings, call.prompt.settings
    hints = []
    if first.get("betas") != second.get("betas"):
        hints.append("other beta headers")
    if first.get("thinking") != second.get("thinking"):
        hints.append("thinking said otherwise")
    if second.get("context_management"):
        hints.append("context management, which may have cleared earlier blocks")
    images = [any(b.kind == "image" for b in each.prompt.blocks) for each in (before, call)]
    if images[0] != images[1]:
        hints.append("images in one of the two, which break the messages' part")
    return hints


def _about(tokens: int, is_counted: bool) -> str:
    return f"{tokens:,}" if is_counted else f"about {tokens:,}"


def _pause(call: Call, since_ms: float) -> str:
    return f"Sent {_seconds((call.started_ms - since_ms) / 1000)}"


def _seconds(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:,.0f} min"


def _ttl(ttl_ms: float) -> str:
    return "1 h" if ttl_ms >= TTL_MS["1h"] else "5 min"


def _live(ttl: str) -> str:
    return f"with {_ttl(TTL_MS[ttl])} to live"
