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
LONGEST_GIVEN = 2048  # what a schema may ask for in characters or items
MOST_PARTS = 2000
MOST_ITEMS = 3
LARGEST_NUMBER = 999
OPTIONAL_DEPTH = 4  # a schema that contains itself ends here
DEEPEST = 40
WORDS = (
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "harbor",
    "inlet",
    "juniper",
)
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
    """Stands in for chance where a value should always be the same: of several it takes the first,
    or the last, of numbers the least."""

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

    def filled(part: Any, depth: int) -> Any:
        within(depth, next(parts))
        part = resolve(part, schema)
        if "const" in part:
            return part["const"]
        if "enum" in part:
            return rng.choice(members(part))
        kind = kind_of(part)
        if kind == "object":
            return {name: filled(value, depth + 1) for name, value in wanted(part, depth).items()}
        if kind == "array":
            return [
                filled(part.get("items", {}), depth + 1) for _ in range(least_items(part, depth))
            ]
        if kind in ("integer", "number"):
            return fitting(part, kind, rng)
        if kind == "boolean":
            return rng.random() < 0.5
        if kind == "null":
            return None
        known(kind)
        text = special(part, rng, strict)
        if text is None:
            word, least = rng.choice(WORDS), limited("minLength", part.get("minLength", 1))
            text = (word * (least // len(word) + 1))[
                : min(part.get("maxLength", LONGEST_TEXT), max(len(word), least))
            ]
        return text

    return filled(schema, 0)


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
            most = min(
                part.get("maxItems", MOST_ITEMS),
                max(least, MOST_ITEMS if depth <= OPTIONAL_DEPTH else 0),
            )
            items = {"items": shorter(part.get("items", {}), depth + 1)} if most else {}
            return {"type": "array", **items, "minItems": min(least, most), "maxItems": most}
        if kind in ("integer", "number"):
            number = fitting(part, kind, FIRST)
            if isinstance(number, float) or "multipleOf" in part:
                return {"const": number}
            low, high = bounds(part)
            return {
                "type": "integer",
                "minimum": low,
                "maximum": min(high, max(low, 0) + LARGEST_NUMBER),
            }
        if kind == "string":
            text = special(part, FIRST, strict)
            if text is not None:
                named = "pattern" if "pattern" in part else "format"
                return {
                    "type": "string",
                    named: part[named],
                    **({"maxLength": max(len(text), longest)} if named == "pattern" else {}),
                }
            least = limited("minLength", part.get("minLength", 1))
            return {
                "type": "string",
                "minLength": least,
                "maxLength": min(part.get("maxLength", longest), max(least, longest)),
            }
        return {"type": known(kind)}

    return shorter(schema, 0)


def resolve(schema: Any, root: Any) -> dict[str, Any]:
    """Follow `$ref` within the schema, join allOf, and take the first of anyOf or oneOf; a default
    decides as a const does."""
    for _ in range(DEEPEST):
        if schema is False:
            raise Unsupported("false: no value fits")
        if not isinstance(schema, dict):
            return {}
        if "$ref" in schema:
            schema = referred(schema["$ref"], root)
        elif parts := schema.get("allOf"):
            schema = joined(
                [
                    {key: value for key, value in schema.items() if key != "allOf"},
                    *(resolve(part, root) for part in parts),
                ]
            )
        elif choice := next((name for name in ("anyOf", "oneOf") if schema.get(name)), None):
            rest = {key: value for key, value in schema.items() if key != choice}
            schema = {
                **rest,
                **resolve(
                    next((part for part in schema[choice] if part is not False), False), root
                ),
            }
        else:
            return (
                {"const": schema["default"]}
                if "default" in schema and "const" not in schema
                else schema
            )
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
        whole |= {
            **schema,
            **({"properties": properties} if properties else {}),
            **({"required": required} if required else {}),
        }
    return whole


def kind_of(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    return kind or (
        "object" if "properties" in schema else "array" if "items" in schema else "string"
    )


def wanted(schema: dict[str, Any], depth: int) -> dict[str, Any]:
    """The properties to fill: the required ones and those with a set value; all of them where none
    is required."""
    properties = schema.get("properties") or {}
    required = schema.get("required") or ([] if depth > OPTIONAL_DEPTH else list(properties))
    fixed = [
        name
        for name, value in properties.items()
        if isinstance(value, dict) and not value.keys().isdisjoint(("const", "default"))
    ]
    return {
        name: value
        for name, value in properties.items()
        if value is not False and (name in required or name in fixed)
    }


def least_items(schema: dict[str, Any], depth: int) -> int:
    return limited(
        "minItems",
        schema.get("minItems", min(schema.get("maxItems", 1), 1) if depth <= OPTIONAL_DEPTH else 0),
    )


def limited(keyword: str, value: Any) -> int:
    if not 0 <= value <= LONGEST_GIVEN:
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


def known(kind: Any) -> str:
    if kind not in ("object", "array", "integer", "number", "string", "boolean", "null"):
        raise Unsupported(f"type: {kind} is not a type of JSON")
    return kind


def special(schema: dict[str, Any], rng: random.Random, strict: bool) -> str | None:
    """A text for `pattern` or `format`; None where there is neither, or where a tool that is not
    strict asks for what cannot be made."""
    if "pattern" in schema:
        text = pattern.example(schema["pattern"], rng)
    elif "format" in schema:
        text = FORMATS.get(schema["format"])
    else:
        return None
    if text is None and strict:
        raise Unsupported(f"{'pattern' if 'pattern' in schema else 'format'}: not supported here")
    return text


def fitting(schema: dict[str, Any], kind: str, rng: random.Random) -> int | float:
    """A number between the schema's bounds: a whole one where there is one."""
    low, high = bounds(schema)
    step = schema.get("multipleOf")
    if step is not None:
        if step <= 0:
            raise Unsupported("multipleOf: should be above 0")
        number = math.ceil(low / step) * step
        if number <= high:
            return int(number) if number == int(number) else number
    elif low <= high:
        return rng.randint(low, high)
    edges = [
        schema[name]
        for name in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
        if name in schema
    ]
    if kind == "number" and step is None and len(edges) == 2 and edges[0] < edges[1]:
        return (edges[0] + edges[1]) / 2
    raise Unsupported("minimum: no number fits")


def bounds(schema: dict[str, Any]) -> tuple[int, int]:
    """Whole numbers that the schema allows; integers are numbers too. The first is above the second
    where there is none."""
    low = math.ceil(schema["minimum"]) if "minimum" in schema else None
    if "exclusiveMinimum" in schema:
        above = math.floor(schema["exclusiveMinimum"]) + 1
        low = above if low is None else max(low, above)
    high = math.floor(schema["maximum"]) if "maximum" in schema else None
    if "exclusiveMaximum" in schema:
        below = math.ceil(schema["exclusiveMaximum"]) - 1
        high = below if high is None else min(high, below)
    if low is None:
        low = 0 if high is None else min(0, high)
    return low, max(LARGEST_NUMBER, low) if high is None else high
