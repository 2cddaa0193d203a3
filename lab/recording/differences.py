"""Where two texts differ, told from the hashes of their pieces: how far in, how long, and what the
changing part looks like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from lab import units
from lab.recording.shape import Piece

LOOKS = {"t": "time", "i": "id", "n": "number"}
REORDERING = "reordering"
COMPARED = 2_000
"""Pieces up to which several changes are told apart; longer texts differ from the first change to
the last."""


@dataclass(frozen=True)
class Difference:
    offset: int
    """Characters before the first change: to the beginning of the piece that it is in."""
    length: int
    """Characters of the later text that are other ones; where none are, those that were left
    out."""
    places: int
    look: str
    """time, id, number, reordering, or "" for anything else."""
    is_removal: bool = False

    def __str__(self) -> str:
        if self.look == REORDERING:
            what = f"the same {characters(self.length)} in another order"
        elif self.is_removal:
            what = f"{characters(self.length)} were left out"
        else:
            what = characters(self.length) + (
                f" that look like {ARTICLES[self.look]} {self.look}" if self.look else ""
            )
            what += f", in {self.places} places" if self.places > 1 else ""
        return f"character {self.offset:,}: {what}"


ARTICLES = {"time": "a", "id": "an", "number": "a"}


def characters(count: int) -> str:
    return units.counted(count, "character")


def between(first: Sequence[Piece], second: Sequence[Piece]) -> Difference | None:
    """None where they are alike, or where one has no pieces."""
    if not first or not second or first == second:
        return None
    start = 0
    while start < min(len(first), len(second)) and first[start] == second[start]:
        start += 1
    end = 0
    while end < min(len(first), len(second)) - start and first[-1 - end] == second[-1 - end]:
        end += 1
    old, new = first[start : len(first) - end], second[start : len(second) - end]
    offset = length(second[:start])
    if is_reordering(old, new):
        return Difference(offset, length(new), 1, REORDERING)
    gone, come, places = _changes(old, new)
    changed = come or gone
    return Difference(offset, length(changed), places, _look(gone, come), is_removal=not come)


def length(pieces: Sequence[Piece]) -> int:
    return sum(piece.characters for piece in pieces)


def alike(first: Sequence[Piece], second: Sequence[Piece]) -> float:
    """The share of the first's characters that stand in the second too, wherever: 0 to 1."""
    both = Counter(first) & Counter(second)
    return sum(piece.characters * count for piece, count in both.items()) / max(1, length(first))


def is_reordering(old: Sequence[Piece], new: Sequence[Piece]) -> bool:
    """The same pieces in another order. A piece ends with its comma or bracket, so of a list that
    was reordered the last one may be another: of the same length, and the rest is the same."""
    if length(old) != length(new) or len(old) < 2 or len(old) != len(new):
        return False
    left, right = Counter(old) - Counter(new), Counter(new) - Counter(old)
    sizes = [sorted(piece.characters for piece in part.elements()) for part in (left, right)]
    few = sum(left.values()) <= max(2, len(old) // 4)
    return sizes[0] == sizes[1] and few and (not left or alike(old, new) >= 0.5)


def _changes(old: Sequence[Piece], new: Sequence[Piece]) -> tuple[list[Piece], list[Piece], int]:
    """Pieces gone, pieces come, and at how many places."""
    if max(len(old), len(new)) > COMPARED:
        return list(old), list(new), 1
    codes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    changes = [code for code in codes if code[0] != "equal"]
    gone = [piece for _, a, b, _, _ in changes for piece in old[a:b]]
    come = [piece for _, _, _, a, b in changes for piece in new[a:b]]
    return gone, come, len(changes)


def _look(gone: Sequence[Piece], come: Sequence[Piece]) -> str:
    """That of all the pieces that changed; a time or an id may have numbers beside it."""
    looks = {piece.look for piece in (*gone, *come)}
    if "" in looks:
        return ""
    strong = looks - {"n"} or looks
    return LOOKS[strong.pop()] if len(strong) == 1 else ""
