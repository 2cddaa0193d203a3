"""How an answer is checked: what the words of a task's `check` mean, and the score that each gives,
from 0 to 1."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Exact(Frozen):
    """The whole answer, but for case, spaces, quotes and the closing dot."""

    kind: Literal["exact"] = "exact"
    answers: tuple[str, ...] = Field(min_length=1)

    def score(self, answer: str) -> float:
        return float(_plain(answer) in {_plain(accepted) for accepted in self.answers})


class Number(Frozen):
    """The number after the last "Answer:", or the last number where nothing is marked as the
    answer."""

    kind: Literal["number"] = "number"
    value: float
    tolerance: float = Field(0.0, ge=0)

    def score(self, answer: str) -> float:
        _, *marked = re.split(r"answer\s*(?:is|:)", answer, flags=re.IGNORECASE)
        numbers = (_numbers(marked[-1])[:1] if marked else []) or _numbers(answer)[-1:]
        near = {"rel_tol": 1e-9, "abs_tol": self.tolerance}
        return float(any(math.isclose(number, self.value, **near) for number in numbers))


class Regex(Frozen):
    """A pattern found anywhere in the answer, whatever the case."""

    kind: Literal["regex"] = "regex"
    pattern: str

    @field_validator("pattern")
    @classmethod
    def compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    def score(self, answer: str) -> float:
        return float(re.search(self.pattern, answer[:20_000], re.IGNORECASE) is not None)


class JsonFields(Frozen):
    """The share of the wanted fields that the answer's first JSON object has, with these values."""

    kind: Literal["json"] = "json"
    fields: dict[str, Any] = Field(min_length=1)

    def score(self, answer: str) -> float:
        value = first_object(answer)
        right = [name in value and _same(value[name], self.fields[name]) for name in self.fields]
        return sum(right) / len(right)


class Facts(Frozen):
    """The share of facts that the answer states, each in any of its accepted wordings."""

    kind: Literal["facts"] = "facts"
    facts: tuple[tuple[str, ...], ...] = Field(min_length=1)

    @field_validator("facts", mode="before")
    @classmethod
    def wordings(cls, facts: Any) -> Any:
        if not isinstance(facts, list | tuple):
            return facts
        return [[fact] if isinstance(fact, str) else fact for fact in facts]

    def score(self, answer: str) -> float:
        stated = [any(_states(answer, wording) for wording in fact) for fact in self.facts]
        return sum(stated) / len(stated)


class Judge(Frozen):
    """A model's opinion of the answer, from 0 to 10; asked only where a task says so, after the
    trial's clock has stopped."""

    kind: Literal["judge"] = "judge"
    criteria: str

    def score(self, answer: str) -> None:
        return None


Check = Annotated[Exact | Number | Regex | JsonFields | Facts | Judge, Field(discriminator="kind")]


LARGEST = 1e300
AS_PYTHON_WRITES = str.maketrans("−–", "--", ",")


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!\"'`*")


def _numbers(text: str) -> list[float]:
    numbers = re.findall(r"(?<![\w.])[-−–]?\d[\d,]*(?:\.\d+)?", text)
    return [float(number.translate(AS_PYTHON_WRITES)) for number in numbers]


def _states(answer: str, wording: str) -> bool:
    text = " ".join(answer.casefold().split())
    return re.search(rf"(?<!\w){re.escape(wording.casefold())}(?!\w)", text) is not None


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return isinstance(value, str) and _plain(value) == _plain(wanted)
    if _is_number(wanted):
        return (
            _is_number(value) and abs(value) < LARGEST and math.isclose(value, wanted, rel_tol=1e-6)
        )
    return value == wanted


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def first_object(text: str) -> dict[str, Any]:
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", text):
        # Also a number of more digits than Python reads, or a thousand levels.
        with suppress(ValueError, RecursionError):
            return decoder.raw_decode(text, match.start())[0]
    return {}
