"""JSON schemas of tools and structured replies: filled in without a model, as the simulated server
and a rehearsal do, or kept short for a small one.

What a keyword asks is honoured where the API promises it (`strict` tools, structured replies) or
refused there by name; the input of any other tool is the model's own, so a pattern that nobody can
fill is passed over.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lab import pattern

Made = TypeVar("Made")
Value = TypeVar("Value")

LONGEST_TEXT = 24
LARGEST_LIMIT = 2048  # what a schema may ask for in characters or items
MOST_PARTS = 2000
MOST_ITEMS = 3
LARGEST_NUMBER = 999
OPTIONAL_DEPTH = 4  # a schema that contains itself ends here
DEEPEST = 40
WORDS = "amber birch cedar delta ember fjord grove harbor inlet juniper".split()  # noqa: SIM905
FORMATS = {
    "date-time": "2026-11-25T09:00:00Z",
    "date": "2026-11-25",
    "time": "09:00:00Z",
    "duration": "PT1H",
    "email": "keeper@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/log",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "0191f0aa-7f1b-7c3e-9d2a-0123456789ab",
}


class Unsupported(ValueError):
    """A schema keyword that cannot be honoured; the message names it."""


class Plain(random.Random):
    """In place of chance: of several the first, or the last; of numbers the least."""

    def __init__(self, place: int = 0) -> None:
        super().__init__(0)
        self.place = place

    def choice(self, values: Sequence[Value]) -> Value:
        return values[self.place]

    def randint(self, low: int, high: int) -> int:
        return low

    def random(self) -> float:
        return -self.place


FIRST = Plain()


def checked(work: Callable[..., Made], schema: Any, strict: bool) -> Made:
    """What `work` makes of a schema that came from outside, or Unsupported."""
    try:
        return work(schema, strict)
    except Unsupported:
        raise
    except (
        TypeError,
        ValueError,
        AttributeError,
        LookupError,
        ArithmeticError,
        RecursionError,
    ) as e:
        raise Unsupported(f"JSON schema is invalid ({e})") from None


def sample(schema: Any, strict: bool = False, rng: random.Random = FIRST) -> Any:
    """A value that fits the schema, the same for the same generator state."""
    parts = itertools.count()

    def filled(part: dict[str, Any]) -> Any:
        within(0, next(parts))
        match part:
            case {"const": value}:
                return value
            case {"enum": values}:
                return rng.choice(values)
            case {"properties": properties}:
                return {name: filled(value) for name, value in properties.items()}
            case {"type": "array", "minItems": count}:
                return [filled(part["items"]) for _ in range(count)]
            case {"minimum": low, "maximum": high}:
                return rng.randint(low, high)
            case {"type": "boolean"}:
                return rng.random() < 0.5
            case {"pattern": expression}:
                return pattern.example(expression, rng)
            case {"format": name}:
                return FORMATS[name]
            case {"minLength": least, "maxLength": most}:
                word = rng.choice(WORDS)
                return (word * (least // len(word) + 1))[: min(most, max(len(word), least))]
        return None

    return filled(short(schema, strict))


def short(schema: Any, strict: bool = False, longest: int = LONGEST_TEXT) -> dict[str, Any]:
    """A stricter schema that a model finishes within few tokens: bounded text, lists and numbers,
    nothing optional."""
    parts = itertools.count()

    def shorter(part: Any, depth: int) -> dict[str, Any]:
        within(depth, next(parts))
        part = resolve(part, schema)
        if "const" in part:
            return {"const": part["const"]}
        if "enum" in part:
            return {"enum": members(part)}
        kind = kind_of(part)
        if kind == "object":
            properties = {
                name: shorter(value, depth + 1) for name, value in wanted(part, depth).items()
            }
            return {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            }
        if kind == "array":
            least = least_items(part, depth)
            usual = MOST_ITEMS if depth <= OPTIONAL_DEPTH else 0
            most = min(part.get("maxItems", MOST_ITEMS), max(least, usual))
            items = {"items": shorter(part.get("items", {}), depth + 1)} if most else {}
            return {"type": "array", **items, "minItems": min(least, most), "maxItems": most}
        if kind in ("integer", "number"):
            number = least_number(part, kind)
            if isinstance(number, float) or "multipleOf" in part:
                return {"const": number}
            low, high = bounds(part)
            most = min(high, max(low, 0) + LARGEST_NUMBER)
            return {"type": "integer", "minimum": low, "maximum": most}
        if kind == "string":
            return {"type": "string", **text_limits(part, strict, longest)}
        if kind not in ("boolean", "null"):
            raise Unsupported(f"type: {kind} is not a type of JSON")
        return {"type": kind}

    return shorter(schema, 0)


def resolve(schema: Any, root: Any) -> dict[str, Any]:
    """Follow `$ref`, join allOf, take the first of anyOf or oneOf; a default decides as a const
    does."""
    for _ in range(DEEPEST):
        if schema is False:
            raise Unsupported("false: no value fits")
        if not isinstance(schema, dict):
            return {}
        if "$ref" in schema:
            schema = referred(schema["$ref"], root)
        elif parts := schema.get("allOf"):
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            schema = joined([rest, *(resolve(part, root) for part in parts)])
        elif choice := next((name for name in ("anyOf", "oneOf") if schema.get(name)), None):
            rest = {key: value for key, value in schema.items() if key != choice}
            first = next((part for part in schema[choice] if part is not False), False)
            schema = rest | resolve(first, root)
        elif "default" in schema and "const" not in schema:
            return {"const": schema["default"]}
        else:
            return schema
    raise Unsupported("$ref: endless")


def referred(name: Any, root: Any) -> Any:
    target = root
    for part in str(name).removeprefix("#").strip("/").split("/") if name != "#" else []:
        part = part.replace("~1", "/").replace("~0", "~")
        target = target.get(part) if isinstance(target, dict) else None
    if target is None:
        raise Unsupported(f"$ref: {name} is not in the schema")
    return target


def joined(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for schema in schemas:
        properties = {**whole.get("properties", {}), **schema.get("properties", {})}
        required = [*whole.get("required", []), *schema.get("required", [])]
        whole |= schema
        if properties:
            whole["properties"] = properties
        if required:
            whole["required"] = required
    return whole


def kind_of(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if kind:
        return kind
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def wanted(schema: dict[str, Any], depth: int) -> dict[str, Any]:
    """The properties to fill: the required ones, or else all, and those with a set value."""
    properties = schema.get("properties") or {}
    required = schema.get("required") or ([] if depth > OPTIONAL_DEPTH else list(properties))

    def fixed(value: Any) -> bool:
        return isinstance(value, dict) and ("const" in value or "default" in value)

    return {
        name: value
        for name, value in properties.items()
        if value is not False and (name in required or fixed(value))
    }


def least_items(schema: dict[str, Any], depth: int) -> int:
    usual = min(schema.get("maxItems", 1), 1) if depth <= OPTIONAL_DEPTH else 0
    return limited("minItems", schema.get("minItems", usual))


def limited(keyword: str, value: Any) -> int:
    if not 0 <= value <= LARGEST_LIMIT:
        raise Unsupported(f"{keyword}: {value} is more than this server writes")
    return int(value)


def members(schema: dict[str, Any]) -> list[Any]:
    if not isinstance(schema["enum"], list) or not schema["enum"]:
        raise Unsupported("enum: should be a list that is not empty")
    return schema["enum"]


def within(depth: int, part: int) -> None:
    """A schema may refer to itself, and a small one may ask for very many values."""
    if depth > DEEPEST or part >= MOST_PARTS:
        raise Unsupported("nested too deeply, or without an end")


def text_limits(schema: dict[str, Any], strict: bool, longest: int) -> dict[str, Any]:
    """`pattern` or `format`, unless a tool that is not strict asks for what cannot be made; else
    lengths in characters."""
    keyword = next((name for name in ("pattern", "format") if name in schema), None)
    if keyword == "pattern":
        text = pattern.example(schema["pattern"], FIRST)
        if text is not None:
            return {"pattern": schema["pattern"], "maxLength": max(len(text), longest)}
    elif keyword and schema["format"] in FORMATS:
        return {"format": schema["format"]}
    if keyword and strict:
        raise Unsupported(f"{keyword}: not supported here")
    least = limited("minLength", schema.get("minLength", 1))
    usual = max(least, longest)
    most = min(schema.get("maxLength", usual), usual)
    return {"minLength": least, "maxLength": most}


def least_number(schema: dict[str, Any], kind: str) -> int | float:
    """The least that the schema's bounds allow: a whole number where there is one."""
    low, high = bounds(schema)
    step = schema.get("multipleOf")
    if step is not None:
        if step <= 0:
            raise Unsupported("multipleOf: should be above 0")
        number = math.ceil(low / step) * step
        if number <= high:
            return int(number) if number == int(number) else number
    elif low <= high:
        return low
    edges = [
        schema[name]
        for name in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
        if name in schema
    ]
    if kind == "number" and step is None and len(edges) == 2 and edges[0] < edges[1]:
        return (edges[0] + edges[1]) / 2
    raise Unsupported("minimum: no number fits")


def bounds(schema: dict[str, Any]) -> tuple[int, int]:
    """Whole numbers that the schema allows; the first is above the second where there is none."""
    lows, highs = [], []
    if "minimum" in schema:
        lows.append(math.ceil(schema["minimum"]))
    if "exclusiveMinimum" in schema:
        lows.append(math.floor(schema["exclusiveMinimum"]) + 1)
    if "maximum" in schema:
        highs.append(math.floor(schema["maximum"]))
    if "exclusiveMaximum" in schema:
        highs.append(math.ceil(schema["exclusiveMaximum"]) - 1)
    low = max(lows, default=min([0, *highs]))
    return low, min(highs, default=max(LARGEST_NUMBER, low))
