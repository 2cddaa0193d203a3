"""What breaks a prefix between two calls, in the order in which the API reads a prompt: model,
tools, speed, system, the settings of messages, messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from lab.recording import cache_rules, differences
from lab.recording.asked import Call
from lab.recording.shape import SECTIONS, Block, Piece

Pieces = Callable[[str], list[Piece]]
ALIKE = 0.5
"""From this share of a block's characters on, a changed block is the same one changed; below it is
another block in its place."""
WORDS = {"tools": "Tool", "system": "System block", "messages": "Message"}


@dataclass(frozen=True)
class Change:
    """One thing that is another than in the call before."""

    cause: str
    evidence: str
    """A sentence without its full stop."""
    short: str
    """What to say of it beside an earlier one: "its effort"."""
    section: str = ""
    place: int | None = None
    difference: differences.Difference | None = None


def changes(before: Call, place: int, call: Call, pieces: Pieces, words: str) -> list[Change]:
    """All that differs up to a block of the earlier call, in the API's order. `words` names that
    call: "the call before"."""
    reached = before.prompt.blocks[place].section
    found = []
    if call.model != before.model:
        evidence = f"{words.capitalize()} was answered by {before.model}, this one by {call.model}"
        found.append(Change("model", evidence, "the model"))
    for section in SECTIONS:
        if section == "system" and reached != "tools" and call.speed != before.speed:
            evidence = f"The speed was {before.speed} in {words} and is {call.speed} here"
            found.append(Change("speed", evidence, "the speed"))
        if section == "messages" and reached == section:
            found += _settings(before, call, words)
        if change := _blocks(before, place, call, section, pieces, words):
            found.append(change)
        if section == reached:
            break
    return found


def _settings(before: Call, call: Call, words: str) -> list[Change]:
    found = []
    for name, was in before.settings.items():
        now = call.settings[name]
        if was == now or (name == "thinking" and cache_rules.may_be_one(was, now)):
            continue
        if name == "output_format":
            states = [(value and "set") or "not set" for value in (was, now)]
            tells = states if states[0] != states[1] else ["one", "another"]
            evidence = f"The output format was {tells[0]} in {words} and is {tells[1]} here"
        else:
            evidence = f"{name} was {_said(was)} in {words} and is {_said(now)} here"
        found.append(Change(name, evidence, name.replace("_format", " format")))
    return found


def _said(value: Any) -> str:
    return (" ".join(value) if isinstance(value, list) else str(value)) or "not set"


def _blocks(
    before: Call, place: int, call: Call, section: str, pieces: Pieces, words: str
) -> Change | None:
    """The first difference of one section: of all of it, or up to the block that is compared."""
    was, now = before.blocks(section), call.blocks(section)
    compared = len(now)
    if before.prompt.blocks[place].section == section:
        compared = place - before.prompt.parts[section].start + 1
        was = was[:compared]
    hashes = [[(b.role, b.hash) for b in blocks] for blocks in (was, now[:compared])]
    if hashes[0] == hashes[1]:
        return None
    pairs = enumerate(zip(*hashes, strict=False))
    at = next((at for at, (a, b) in pairs if a != b), min(map(len, hashes)))
    where = call.prompt.parts[section].start + at
    if section == "tools" and Counter(hashes[0]) == Counter(hashes[1]):
        moved = f" ({now[at].tool})" if now[at].tool else ""
        evidence = (
            f"The same {len(was)} tools stand in another order than in {words}, from tool"
            f" {at + 1}{moved} on"
        )
        return Change("tool_order", evidence, "the order of the tools", section, where)
    name, evidence, difference = _first(was, now, at, section, pieces, words)
    cause = {"tools": "tool_differs", "system": "system_differs", "messages": "message_differs"}
    return Change(cause[section], evidence, name.lower(), section, where, difference)


def _first(
    was: Sequence[Block], now: Sequence[Block], at: int, section: str, pieces: Pieces, words: str
) -> tuple[str, str, differences.Difference | None]:
    """What differs first, the sentence on it, and where in the block it is."""
    old, new = (blocks[at] if at < len(blocks) else None for blocks in (was, now))
    name = f"{WORDS[section]} {(new or old).turn + 1}"
    if new is None or (old and _goes_on(was[at + 1 :], now[at:])):
        name = f"{WORDS[section]} {old.turn + 1}"
        return name, f"{name}{_what(was, at)} of {words} is no longer there", None
    if old is None or _goes_on(now[at + 1 :], was[at:]):
        size = differences.characters(new.characters)
        return name, f"{name}{_what(now, at)} is new: {size} that {words} did not have there", None
    parts = pieces(old.hash), pieces(new.hash)
    difference = differences.between(*parts)
    if difference is None:
        return name, f"{name}{_what(now, at)} differs from {words}", None
    is_other = differences.alike(*parts) < ALIKE and difference.look != differences.REORDERING
    verb = f"is another one than in {words}, from" if is_other else f"differs from {words} at"
    return name, f"{name}{_what(now, at)} {verb} {difference}", difference


def _what(blocks: Sequence[Block], at: int) -> str:
    """In brackets: a tool's name; of a message which block, where it has several, and its kind."""
    block = blocks[at]
    if block.section == "system":
        return ""
    if block.section == "tools":
        return f" ({block.tool})" if block.tool else ""
    message = [other for other in blocks if other.turn == block.turn]
    which = [f"block {message.index(block) + 1}"] if len(message) > 1 else []
    kind = [] if block.kind == "text" else [block.kind.replace("_", " ")]
    return f" ({', '.join(which + kind)})" if which or kind else ""


def _other(first: Block, second: Block) -> bool:
    return (first.role, first.hash) != (second.role, second.hash)


def _goes_on(rest: Sequence[Block], other: Sequence[Block]) -> bool:
    """Whether the one goes on where the other stands: one block was put in or left out."""
    return bool(rest) and bool(other) and not _other(rest[0], other[0])


def again(before: Call, place: int, call: Call, pieces: Pieces) -> float:
    """How much of what stood from the first difference up to a block of the earlier call is in the
    later one too: a share of its characters. A prompt with less of it is another prompt."""
    shared = 0
    for a, b in zip(before.path, call.path, strict=False):
        if a != b:
            break
        shared += 1
    was, now = before.prompt.blocks[shared : place + 1], call.prompt.blocks[shared:]
    total = sum(block.characters for block in was)
    if not total:
        return 1.0
    matched = SequenceMatcher(
        None, [b.hash for b in was], [b.hash for b in now], autojunk=False
    ).get_matching_blocks()
    kept = set()
    for match in matched:
        kept.update(range(match.a, match.a + match.size))
    if was[0].section == "tools":
        hashes = {block.hash for block in now if block.section == "tools"}
        kept |= {at for at, b in enumerate(was) if b.section == "tools" and b.hash in hashes}
    count = sum(was[at].characters for at in kept)
    stands = dict(zip(_places(now), now, strict=True))
    for at, (place, block) in enumerate(zip(_places(was), was, strict=True)):
        if at not in kept and (other := stands.get(place)):
            share = differences.alike(pieces(block.hash), pieces(other.hash))
            count += share * block.characters if share >= ALIKE else 0
    return count / total


def _places(blocks: Sequence[Block]) -> Iterator[tuple[str, int, int]]:
    """Of each block its section, its turn, and which of that turn it is."""
    turns: Counter[tuple[str, int]] = Counter()
    for block in blocks:
        turn = block.section, block.turn
        yield *turn, turns[turn]
        turns[turn] += 1
