"""Chains of calls, placed: which conversation, which lane of it, which turn."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.recording.conversations import Call, Chain

Place = tuple[int, int, int, str | None]
"""Conversation, lane, turn, parent."""
Family = tuple[str, frozenset[str]]
"""A model and the names of its tools."""


@dataclass(slots=True, eq=False)
class Lane:
    chains: list[Chain] = field(default_factory=list)
    began: Call | None = None
    """The call whose tool it is; None of the application's own."""
    is_agent: bool = False
    calls: int = 0
    ended_ms: float = 0.0
    families: set[Family] = field(default_factory=set)

    def add(self, chain: Chain) -> Lane:
        self.chains.append(chain)
        self.calls += len(chain.calls)
        self.ended_ms = chain.ended_ms
        self.families |= {call.family for call in chain.calls}
        return self

    def goes_on_with(self, chain: Chain) -> bool:
        """After a compaction: what came before is over, and it is the same model with the same
        tools."""
        return self.ended_ms <= chain.started_ms and chain.calls[0].family in self.families


def place(chains: Sequence[Chain]) -> dict[str, Place]:
    """By call_id. Chains are in the order of their starts."""
    began = _spawners(chains)
    conversations: dict[object, list[Chain]] = defaultdict(list)
    for chain in chains:
        root = chain
        while root.name is None and root in began:
            root = began[root].chain
        conversations[root.name or root].append(chain)
    placed: dict[str, Place] = {}
    for number, members in enumerate(conversations.values(), start=1):
        for lane_number, lane in enumerate(_lanes(members, began)):
            for call, turn, parent in _turns(lane):
                placed[call.call_id] = (number, lane_number, turn, parent)
    return placed


def _lanes(members: Sequence[Chain], began: dict[Chain, Call]) -> list[Lane]:
    """The main one first, which is the one with the most calls that is no sub-agent; then in the
    order of their starts."""
    own: list[Lane] = []
    agents: dict[object, Lane] = {}
    for chain in members:
        if chain.agent is not None or chain in began:
            lane = Lane(began=began.get(chain), is_agent=True)
            agents.setdefault(chain.agent or chain, lane).add(chain)
        elif lane := next((lane for lane in reversed(own) if lane.goes_on_with(chain)), None):
            lane.add(chain)
        else:
            own.append(Lane().add(chain))
    others = sorted((*own, *agents.values()), key=lambda lane: lane.chains[0].started_ms)
    main = max(own or others, key=lambda lane: lane.calls)
    return [main, *(lane for lane in others if lane is not main)]


def _turns(lane: Lane) -> Iterable[tuple[Call, int, str | None]]:
    turns, told = 0, []
    for chain in lane.chains:
        # Of one agent's chains some may run at the same time: the last call before it counts.
        place = bisect_right(told, chain.started_ms, key=_start)
        last = told[place - 1] if place else lane.began
        for call in chain.calls:
            parent = call.parent or last
            yield call, turns + call.turn, parent.call_id if parent else None
            insort(told, call, key=_start)
        turns += max(call.turn for call in chain.calls)


def _start(call: Call) -> float:
    return call.started_ms


def _spawners(chains: Sequence[Chain]) -> dict[Chain, Call]:
    """Of each sub-agent the call whose tool it is: of those whose tool calls were open when it
    began, the last one. Where the source names no agent, it must have ended inside them too, all of
    them must be the same conversation's, and it must be no sibling: of an application that has
    several conversations at once, a short one may fall into another one's tool call."""
    around = _open_around(chains)
    at_once = _at_once([chain for chain in chains if not around[chain]])
    began: dict[Chain, Call] = {}
    for chain in chains:
        if not (outer := around[chain]):
            continue
        family = chain.calls[0].family
        is_sibling = family in at_once and family == outer[0].chain.calls[0].family
        if chain.agent is not None or (_are_one(outer, began) and not is_sibling):
            began[chain] = outer[0]
    return began


def _open_around(chains: Sequence[Chain]) -> dict[Chain, list[Call]]:
    """The calls whose tools each chain may be, the last one first."""
    asking = sorted(
        (
            call
            for chain in chains
            for call in chain.calls
            if call.uses_tools and call.answered_ms is not None
        ),
        key=lambda call: call.ended_ms,
    )
    around: dict[Chain, list[Call]] = {}
    opened: list[Call] = []
    following = iter(asking)
    upcoming = next(following, None)
    for chain in chains:
        while upcoming and upcoming.ended_ms <= chain.started_ms:
            opened.append(upcoming)
            upcoming = next(following, None)
        opened = [call for call in opened if call.answered_ms >= chain.started_ms]
        until = chain.started_ms if chain.agent is not None else chain.ended_ms
        around[chain] = [
            call
            for call in reversed(opened)
            if call.answered_ms >= until and call.chain is not chain and _may(chain, call.chain)
        ]
    return around


def _at_once(chains: Sequence[Chain]) -> set[Family]:
    """The families of which two chains, in the order of their starts, ran at the same time."""
    ended: dict[Family, float] = {}
    families = set()
    for chain in chains:
        family = chain.calls[0].family
        if chain.started_ms < ended.get(family, chain.started_ms):
            families.add(family)
        ended[family] = max(ended.get(family, 0.0), chain.ended_ms)
    return families


def _may(chain: Chain, spawner: Chain) -> bool:
    return chain.name is None or chain.name == spawner.name


def _are_one(around: Sequence[Call], began: dict[Chain, Call]) -> bool:
    """Whether the outer ones are those whose tool the inner one itself is."""
    ancestors, chain = {around[0].chain}, around[0].chain
    while chain in began:
        chain = began[chain].chain
        ancestors.add(chain)
    return all(call.chain in ancestors for call in around)
