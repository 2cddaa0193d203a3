"""The piece of a prompt that is another one in each call, taken to where it breaks no cache."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from lab.model import LabError
from lab.recording.request_parts import bare, marks

MOST_MOVED = 20_000
"""Characters; where more differs, it is no piece of a prompt but another prompt."""
SENTENCES = re.compile(r".+?(?:[.!?]+\s+|\n+|$)", re.DOTALL)


def _units(block: Mapping[str, Any]) -> list[str]:
    return SENTENCES.findall(block.get("text") or "")


def _changing(first: list[str], second: list[str]) -> tuple[set[int], set[int]]:
    """Which of each are not in the other, in their order."""
    kept = difflib.SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
    same_first = {at for one, _, size in kept for at in range(one, one + size)}
    same_second = {at for _, other, size in kept for at in range(other, other + size)}
    return set(range(len(first))) - same_first, set(range(len(second))) - same_second


def _is_text(block: Mapping[str, Any]) -> bool:
    return block.get("type", "text") == "text" and isinstance(block.get("text"), str)


def _moved(blocks: list[dict[str, Any]], place: int, units: set[int], taken: list[str]) -> None:
    """Take these sentences out of a block, or all of it; its breakpoint goes to the one before."""
    block, texts = blocks[place], _units(blocks[place])
    taken.append("".join(texts[at] for at in sorted(units)).strip())
    rest = "".join(text for at, text in enumerate(texts) if at not in units)
    if rest.strip():
        block["text"] = rest
        return
    blocks[place] = {}
    control = block.get("cache_control")
    earlier = next((other for other in reversed(blocks[:place]) if other), None)
    if control and earlier is not None:
        earlier.setdefault("cache_control", control)


def _part_ways(
    first: list[dict[str, Any]], second: list[dict[str, Any]], taken: tuple[list[str], list[str]]
) -> bool:
    """Take out of two lists of blocks what they do not share; False where that is no text."""
    bares = [[str(bare(block)) for block in blocks] for blocks in (first, second)]
    matcher = difflib.SequenceMatcher(None, *bares, autojunk=False)
    for kind, start, end, other, other_end in matcher.get_opcodes():
        if kind == "equal":
            continue
        pair = (first[start:end], second[other:other_end])
        if not all(_is_text(block) for blocks in pair for block in blocks):
            return False
        alike = len(pair[0]) == len(pair[1])
        for step in range(max(map(len, pair))):
            texts = [_units(blocks[step]) if step < len(blocks) else [] for blocks in pair]
            gone = _changing(*texts) if alike else tuple(set(range(len(t))) for t in texts)
            for blocks, at, units, words in zip(
                (first, second), (start, other), gone, taken, strict=True
            ):
                if units:
                    _moved(blocks, at + step, units, words)
    for blocks in (first, second):
        blocks[:] = [block for block in blocks if block]
    return True


def move(before: dict[str, Any], call: dict[str, Any]) -> str:
    """Out of the system prompt, or of the messages that both have, to the end of the last user
    turn: behind whatever is marked."""
    marked = [bool(marks(body)) for body in (before, call)]
    taken: tuple[list[str], list[str]] = ([], [])
    where = "the system prompt"
    sound = _part_ways(*(body.setdefault("system", []) for body in (before, call)), taken)
    if sound and not any(taken):
        where = "the earlier messages"
        sound = _part_messages(before, call, taken)
    if not sound:
        raise LabError("What differs between the two calls is no text, so it cannot be moved.")
    if not any(taken):
        raise LabError("Nothing in the system prompt or the messages differs from the call before.")
    count = max(sum(map(len, words)) for words in taken)
    if count > MOST_MOVED:
        raise LabError(f"{count:,} characters differ from the call before: too much to move.")
    for body, words, had_mark in zip((before, call), taken, marked, strict=True):
        _put_last(body, "\n".join(filter(None, words)))
        if had_mark and not marks(body):
            if not body.get("tools"):
                raise LabError("There is nothing but the changing piece before the breakpoint.")
            body["tools"][-1]["cache_control"] = {"type": "ephemeral"}
    return f"{count:,} changing characters moved out of {where} to the end of the last user turn."


def _part_messages(
    before: dict[str, Any], call: dict[str, Any], taken: tuple[list[str], list[str]]
) -> bool:
    for first, second in zip(before["messages"], call["messages"], strict=False):
        bares = [[bare(block) for block in message["content"]] for message in (first, second)]
        if first["role"] != second["role"] or (first["role"] != "user" and bares[0] != bares[1]):
            return False
        if not _part_ways(first["content"], second["content"], taken):
            return False
    return True


def _put_last(body: dict[str, Any], text: str) -> None:
    if not body["system"]:
        del body["system"]
    turns = [message for message in body["messages"] if message["role"] == "user"]
    if not turns or not all(message["content"] for message in body["messages"]):
        raise LabError("One of the messages has nothing in it but the changing piece.")
    content = turns[-1]["content"]
    # The automatic breakpoint would be behind the piece, which is another one the next time.
    if text and (control := body.pop("cache_control", None)):
        content[-1].setdefault("cache_control", control)
    if text:
        content.append({"type": "text", "text": text})
