"""Which calls of a recording belong together: conversations, turns, sub-agents as lanes.

The source's own name for a conversation or an agent counts first, and names are never mixed. Else a
call continues the earlier one whose whole question its messages begin with, or whose answer they
bring back. So:
- a retry of a failed call, or another answer to a question inside a conversation, is the same turn;
- an edited turn is a branch of its conversation, with the turn that it replaces;
- the same first message once more is another conversation, and so are few-shot examples alike;
- after a compaction a conversation goes on where the source names it, else another one begins;
- what ran inside an open tool call of one conversation, from its first call to its last, is a
  sub-agent of it; where it could be two conversations', or a further one of an application that
  has several of its kind at once, it is one by itself;
- a call without prompt or name is a conversation of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from lab.recording import lanes, prefixes
from lab.recording.prefixes import Path, values
from lab.recording.shape import Block, Prompt

LONG_REPLY = 80
"""Characters from which on a text that comes back word for word is that very answer's."""
FITS = 2
LOOKED_AT = 50
"""Calls with one and the same question that may be continued: the latest ones."""


@dataclass(slots=True, eq=False)
class Call:
    """What tells where a call belongs."""

    call_id: str
    started_ms: float
    ended_ms: float
    failed: bool
    name: str | None
    agent: str | None
    family: tuple[str, frozenset[str]]
    """Its model and the names of its tools: another one is no compaction's next call."""
    uses_tools: bool
    """Whether it ended with tool calls for its application."""
    parent: Call | None = None
    chain: Chain | None = None
    turn: int = 1
    answered_ms: float | None = None
    """When the first call that continues it began."""
    is_repeated: bool = False


@dataclass(slots=True, eq=False)
class Chain:
    """Calls that continue one another."""

    calls: list[Call]
    name: str | None
    agent: str | None

    @property
    def started_ms(self) -> float:
        return self.calls[0].started_ms

    @property
    def ended_ms(self) -> float:
        return max(call.ended_ms for call in self.calls)


def of(
    calls: pd.DataFrame, prompts: Mapping[str, Prompt], replies: Mapping[str, Sequence[Block]]
) -> pd.DataFrame:
    """See lab.recordings.Recording.conversations; indexed by call_id, in the order of the calls."""
    known = _calls(calls, prompts, replies)
    paths = prefixes.message_paths(calls, prompts)
    links = _Links(prompts, replies)
    for call in sorted(known, key=lambda call: call.started_ms):
        links.add(call, paths.get(call.call_id, []))
    placed = lanes.place(links.chains)
    ids = [call.call_id for call in known]
    columns = [[placed[call_id][place] for call_id in ids] for place in range(4)]
    index = pd.Index(ids, name="call_id", dtype=object)
    return pd.DataFrame(
        {
            "conversation": pd.Series(columns[0], index, dtype="int64"),
            "lane": pd.Series(columns[1], index, dtype="int64"),
            "turn": pd.Series(columns[2], index, dtype="int64"),
            "parent": pd.Series(columns[3], index, dtype=object),
        }
    )


def _calls(
    calls: pd.DataFrame, prompts: Mapping[str, Prompt], replies: Mapping[str, Sequence[Block]]
) -> list[Call]:
    columns = ("call_id", "started_ms", "total_ms", "error_kind", "conversation", "agent")
    columns += ("model", "stop_reason")
    known = []
    for call_id, start, total, error, name, agent, model, stop in zip(
        *(values(calls, column) for column in columns), strict=True
    ):
        prompt = prompts.get(call_id)
        blocks = prompt.blocks[prompt.parts["tools"]] if prompt else ()
        tools = frozenset(block.tool for block in blocks)
        known.append(
            Call(
                call_id,
                start or 0.0,
                (start or 0.0) + (total or 0.0),
                error is not None,
                name,
                agent,
                (model, tools),
                uses_tools(stop, replies.get(call_id, ())),
            )
        )
    return known


def uses_tools(stop_reason: str | None, reply: Sequence[Block]) -> bool:
    """Whether an answer ended with tool calls for its application."""
    if stop_reason is None:
        return any(block.kind == "tool_use" for block in reply)
    return stop_reason == "tool_use"


class _Links:
    """Finds for each call the one that it continues, in the order of their starts."""

    def __init__(
        self, prompts: Mapping[str, Prompt], replies: Mapping[str, Sequence[Block]]
    ) -> None:
        self.prompts, self.replies = prompts, replies
        self.chains: list[Chain] = []
        self.asked: dict[int, list[Call]] = defaultdict(list)
        """By where in the tree their question ends."""
        self.answers: dict[str, list[Call]] = defaultdict(list)
        """By what comes back of their answer and nobody else's: ids of tool calls, long texts."""
        self.unseen: dict[tuple[str, str | None], Call] = {}
        """The last call without a prompt of each name and agent."""

    def add(self, call: Call, path: Path) -> None:
        blocks = self.prompts[call.call_id].blocks if path else ()
        blocks = blocks[len(blocks) - len(path) :]
        size = _question(blocks)
        parent, again = self._parent(call, path, blocks, size)
        call.parent = parent
        if parent is None:
            call.chain = Chain([call], call.name, call.agent)
            self.chains.append(call.chain)
        else:
            call.chain = parent.chain
            call.chain.calls.append(call)
            call.chain.name = call.chain.name or call.name
            call.turn = parent.turn + (not again)
            if again:
                parent.is_repeated = True
            elif parent.answered_ms is None:
                parent.answered_ms = call.started_ms
        if size:
            self.asked[path[size - 1]].append(call)
            for sign in _signs(self.replies.get(call.call_id, ())):
                self.answers[sign].append(call)
        elif call.name is not None:
            self.unseen[call.name, call.agent] = call

    def _parent(
        self, call: Call, path: Path, blocks: Sequence[Block], size: int
    ) -> tuple[Call | None, bool]:
        """The call before it, and whether it only asks the same again."""
        if not size:
            return (self.unseen.get((call.name, call.agent)) if call.name else None), False
        continued = self._continued(call, path, blocks, size)
        if continued and continued.answered_ms is None:
            return continued, False
        for earlier in reversed(self.asked.get(path[size - 1], ())[-LOOKED_AT:]):
            lost = earlier.failed and not earlier.is_repeated
            lost = lost and earlier.ended_ms <= call.started_ms
            if _alike(earlier, call) and (lost or earlier.turn > 1):
                return earlier, True
        return continued, False

    def _continued(self, call: Call, path: Path, blocks: Sequence[Block], size: int) -> Call | None:
        best, fit = None, 0
        for place in range(min(size, len(path) - 1), 0, -1):
            if blocks[place].role != "assistant":  # only an answer goes on from a question
                continue
            known = [
                one
                for one in self.asked.get(path[place - 1], ())[-LOOKED_AT:]
                if one.ended_ms <= call.started_ms and _alike(one, call)
            ]
            if not known:
                continue
            back = {block.hash for block in blocks[place:]}
            back |= {block.use_id for block in blocks[place:] if block.use_id}
            fit, _, best = max(
                ((self._fits(one, back), one.answered_ms is None, one) for one in reversed(known)),
                key=lambda choice: choice[:2],
            )
            if place < size or fit == FITS:
                break
            best = None  # a beginning put into the model's mouth
        if fit == FITS:
            return best
        for sign in _signs(_last_answer(blocks)):
            if known := [one for one in self.answers.get(sign, ()) if _alike(one, call)]:
                return next((one for one in known if one.answered_ms is None), known[-1])
        return best

    def _fits(self, call: Call, back: set[str]) -> int:
        """FITS where its answer comes back, 1 where that is not known, 0 where it is another."""
        reply = self.replies.get(call.call_id)
        if not reply:
            return 0 if call.failed else 1
        same = any(block.hash in back or block.use_id in back for block in reply)
        return FITS if same else 0


def _question(blocks: Sequence[Block]) -> int:
    """How many blocks end with the last one that is not the model's: what an application puts into
    its mouth comes back as a part of the answer."""
    size = len(blocks)
    while size and blocks[size - 1].role == "assistant":
        size -= 1
    return size


def _last_answer(blocks: Sequence[Block]) -> list[Block]:
    answer: list[Block] = []
    for block in reversed(blocks):
        if block.role == "assistant":
            answer.append(block)
        elif answer:
            break
    return answer


def _signs(reply: Sequence[Block]) -> list[str]:
    """Ids of tool calls before texts."""
    uses = [block.use_id for block in reply if block.use_id]
    return uses + [block.hash for block in reply if block.characters >= LONG_REPLY]


def _alike(earlier: Call, call: Call) -> bool:
    chain = earlier.chain
    named = chain.name is None or call.name is None or chain.name == call.name
    return named and chain.agent == call.agent
