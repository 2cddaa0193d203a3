"""A body as it was read, JSON text as one, and a mistake with its place in the text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from lab.model import LabError
from lab.scenarios import definitions

EXCERPT = 72
JSON_WORDS = {
    "Expecting ',' delimiter": "a comma or a closing bracket is missing here",
    "Expecting ':' delimiter": "a colon is missing here",
    "Expecting value": "a value is missing here",
    "Expecting property name enclosed in double quotes": (
        "a field's name in double quotes is missing here"
    ),
    "Illegal trailing comma before end of object": "this comma has nothing after it",
    "Illegal trailing comma before end of array": "this comma has nothing after it",
    "Unterminated string starting at": "the text that begins here has no closing quote",
    "Invalid control character at": r"a line break in a text is written \n",
    "Invalid \\escape": "this backslash escapes nothing",
    "Invalid \\uXXXX escape": r"\u needs four hexadecimal digits",
    "Extra data": "the JSON has ended before this",
}


class Misplaced(LabError):
    """A mistake with its place in the text: `line` and `column` count from 1, `excerpt` is that
    line with a caret under the place."""

    def __init__(self, words: str, text: str, at: int) -> None:
        at = min(max(at, 0), len(text))
        begin = text.rfind("\n", 0, at) + 1
        self.line, self.column = text.count("\n", 0, at) + 1, at - begin + 1
        shown = text[begin:].partition("\n")[0].rstrip("\r").replace("\t", " ")
        first = max(0, self.column - 1 - EXCERPT * 2 // 3)
        lead = "…" if first else ""
        rest = "…" if len(shown) > first + EXCERPT else ""
        caret = " " * (len(lead) + self.column - 1 - first) + "^"
        self.excerpt = f"{lead}{shown[first : first + EXCERPT]}{rest}\n{caret}"
        super().__init__(f"line {self.line}, column {self.column}: {words}.")


@dataclass(frozen=True)
class Pasted:
    body: dict[str, Any]
    form: Literal["json", "curl", "python"]
    left_out: tuple[str, ...] = ()
    """What the text had and the body has not, in words; never a value."""


def json_object(json_text: str, text: str, places: Any) -> dict[str, Any]:
    """The JSON object; `places[n]` is where its character n stands in `text`."""
    try:
        value = json.loads(json_text)
    except json.JSONDecodeError as error:
        words = JSON_WORDS.get(error.msg, error.msg)
        raise Misplaced(words, text, places[min(error.pos, len(json_text))]) from None
    except RecursionError:
        raise LabError(f"This JSON is {definitions.TOO_DEEP}.") from None
    try:
        definitions.read_json(json_text)
    except ValueError as error:
        raise LabError(f"This is {error}.") from None
    if not isinstance(value, dict):
        raise Misplaced("a body is one JSON object, in braces", text, places[0])
    return value
