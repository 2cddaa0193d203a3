"""A text that a regular expression matches, made without a model: what a schema's `pattern` asks of
a scripted reply."""

from __future__ import annotations

import random
import re
from re import _constants as op
from re import _parser as parser
from typing import Any

LONGEST = 4096
MOST_STEPS = 20_000
PRINTABLE = [chr(code) for code in range(33, 127)]


class TooHard(ValueError):
    """Look-around, back-references, anchors in the middle, or more text than a reply should
    have."""


def example(pattern: Any, rng: random.Random) -> str | None:
    """A match with as few repeats as allowed, but one where it may; None where it is too hard."""
    try:
        maker = Maker(rng)
        maker.add_all(parser.parse(pattern))
        return "".join(maker.text)
    except (re.error, TypeError, ValueError, OverflowError, RecursionError):
        return None


class Maker:
    def __init__(self, rng: random.Random):
        self.rng, self.text, self.steps, self.ended = rng, [], 0, False

    def add_all(self, items: Any) -> None:
        for kind, value in items:
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise TooHard
            self.add_part(kind, value)

    def add_part(self, kind: Any, value: Any) -> None:
        match kind:
            case op.LITERAL:
                self.add(chr(value))
            case op.NOT_LITERAL:
                self.add("a" if value != ord("a") else "b")
            case op.ANY:
                self.add(self.rng.choice("abcdefghij"))
            case op.IN:
                self.add(self.member(value))
            case op.MAX_REPEAT | op.MIN_REPEAT | op.POSSESSIVE_REPEAT:
                least, most, inner = value
                for _ in range(max(least, min(1, most))):
                    self.add_all(inner)
            case op.SUBPATTERN:
                self.add_all(value[-1])
            case op.BRANCH:
                self.add_all(value[1][0])
            case op.ATOMIC_GROUP:
                self.add_all(value)
            case op.AT if value in (op.AT_END, op.AT_END_STRING):
                self.ended = True
            case op.AT if value in (op.AT_BEGINNING, op.AT_BEGINNING_STRING) and not self.text:
                pass
            case _:
                raise TooHard

    def add(self, character: str) -> None:
        if self.ended or len(self.text) >= LONGEST or "\ud800" <= character <= "\udfff":
            raise TooHard
        self.text.append(character)

    def member(self, items: list[tuple[Any, Any]]) -> str:
        """A printable character of a set like [a-z_]; where it has none, its first."""
        first, value = items[0]
        negated = first is op.NEGATE
        printable = [c for c in PRINTABLE if any(holds(*item, c) for item in items) != negated]
        if printable:
            return self.rng.choice(printable)
        if negated or first is op.CATEGORY:
            return " "
        return chr(value[0] if first is op.RANGE else value)


CATEGORIES = {
    op.CATEGORY_DIGIT: str.isdigit,
    op.CATEGORY_NOT_DIGIT: lambda c: not c.isdigit(),
    op.CATEGORY_SPACE: str.isspace,
    op.CATEGORY_NOT_SPACE: lambda c: not c.isspace(),
    op.CATEGORY_WORD: lambda c: c.isalnum() or c == "_",
    op.CATEGORY_NOT_WORD: lambda c: not (c.isalnum() or c == "_"),
}


def holds(kind: Any, value: Any, character: str) -> bool:
    if kind is op.LITERAL:
        return ord(character) == value
    if kind is op.RANGE:
        return value[0] <= ord(character) <= value[1]
    return kind is op.CATEGORY and value in CATEGORIES and CATEGORIES[value](character)
