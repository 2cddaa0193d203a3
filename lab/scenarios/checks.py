"""How an answer is checked: what the words of a task's `check` mean, and the score that each gives,
from 0 to 1."""

from __future__ import annotations

import json
import math
import re
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
        marked = re.split(r"answer\s*(?:is|:)", answer, flags=re.IGNORECASE)
        value = (
            _numbers(marked[-1])[:1]
            if len(marked) > 1 and _numbers(marked[-1])
            else _numbers(answer)[-1:]
        )
        return float(
            bool(value) and math.isclose(value[0], self.value, rel_tol=1e-9, abs_tol=self.tolerance)
        )


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
        right = [
            name
            for name, wanted in self.fields.items()
            if name in value and _same(value[name], wanted)
        ]
        return len(right) / len(self.fields)


class Facts(Frozen):
    """The share of facts that the answer states, each in any of its accepted wordings."""

    kind: Literal["facts"] = "facts"
    facts: tuple[tuple[str, ...], ...] = Field(min_length=1)

    @field_validator("facts", mode="before")
    @classmethod
    def wordings(cls, facts: Any) -> Any:
        return (
            [[fact] if isinstance(fact, str) else fact for fact in facts]
            if isinstance(facts, list | tuple)
            else facts
        )

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


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!\"'`*")


def _numbers(text: str) -> list[float]:
    value = re.findall(r"(?<![\w.])[-−–]?\d[\d,]*(?:\.\d+)?", text)
    return [float(number.replace(",", "").replace("−", "-").replace("–", "-")) for number in value]


def _states(answer: str, wording: str) -> bool:
    return (
        re.search(
            rf"(?<!\w){re.escape(wording.casefold())}(?!\w)", " ".join(answer.casefold().split())
        )
        is not None
    )


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return isinstance(value, str) and _plain(value) == _plain(wanted)
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        number = (
            isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
        )
        return number and math.isclose(value, wanted, rel_tol=1e-6)
    return value == wanted


def first_object(text: str) -> dict[str, Any]:
    decoder = json.JSONDecoder()
    for start in (match.start() for match in re.finditer(r"\{", text)):
        try:
            value, _ = decoder.raw_decode(text, start)
        except (
            ValueError,
            RecursionError,
        ):  # also a number of more digits than Python reads, or a thousand levels
            continue
        if isinstance(value, dict):
            return value
    return {}
