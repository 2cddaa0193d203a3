"""JSON schemas of tools and structured replies: kept short for a small model, or filled in without one."""

from __future__ import annotations

import math
import random
from typing import Any

LONGEST_TEXT = 24
MOST_ITEMS = 3
LARGEST_NUMBER = 999
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "harbor", "inlet", "juniper")


class Unsupported(ValueError):
    """A schema keyword that cannot be honoured; the message names it."""


def resolve(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """Follow `$ref` within the schema and take the first of anyOf or oneOf; a default decides as a const does."""
    if not isinstance(schema, dict):
        return {}
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target.get(part) if isinstance(target, dict) else None
        if target is None:
            raise Unsupported(f"$ref: {schema['$ref']} is not in the schema")
        return resolve(target, root)
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            merged = {**schema, **resolve(schema[choice][0], root)}
            merged.pop(choice, None)
            return merged
    return {"const": schema["default"]} if "default" in schema and "const" not in schema else schema


def kind_of(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    return kind or ("object" if "properties" in schema else "string")


def wanted(schema: dict[str, Any]) -> dict[str, Any]:
    """The properties to fill: the required ones and those with a set value; all of them where none is required."""
    properties = schema.get("properties") or {}
    required = schema.get("required") or list(properties)
    return {name: value for name, value in properties.items() if name in required or "const" in value or "default" in value}


def short(schema: Any, root: dict[str, Any] | None = None, longest: int = LONGEST_TEXT) -> dict[str, Any]:
    """A stricter schema that a model finishes within few tokens: bounded text, lists and numbers, nothing optional."""
    root = root if root is not None else schema
    schema = resolve(schema, root)
    if "const" in schema:
        return {"const": schema["const"]}
    if "enum" in schema:
        return {"enum": schema["enum"]}
    kind = kind_of(schema)
    if kind == "object":
        properties = {name: short(value, root, longest) for name, value in wanted(schema).items()}
        return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    if kind == "array":
        least = schema.get("minItems", 1)
        most = min(schema.get("maxItems", MOST_ITEMS), max(least, MOST_ITEMS))
        return {"type": "array", "items": short(schema.get("items", {}), root, longest), "minItems": min(least, most), "maxItems": most}
    if kind in ("integer", "number"):
        low, high = bounds(schema)
        return {"type": "integer", "minimum": low, "maximum": high}
    if kind == "string":
        if "pattern" in schema or "format" in schema:
            return {"type": "string", **{key: schema[key] for key in ("pattern", "format") if key in schema}}
        least = schema.get("minLength", 1)
        return {"type": "string", "minLength": least, "maxLength": min(schema.get("maxLength", longest), max(least, longest))}
    return {"type": kind}


def bounds(schema: dict[str, Any]) -> tuple[int, int]:
    """Whole numbers that the schema allows; integers are numbers too."""
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1 if "exclusiveMinimum" in schema else None)
    high = schema.get("maximum", schema.get("exclusiveMaximum", 1) - 1 if "exclusiveMaximum" in schema else None)
    low = math.ceil(low) if low is not None else min(0, math.floor(high)) if high is not None else 0
    high = math.floor(high) if high is not None else max(LARGEST_NUMBER, low)
    return low, high


def sample(schema: Any, rng: random.Random, root: dict[str, Any] | None = None) -> Any:
    """A value that fits the schema, the same for the same generator state."""
    root = root if root is not None else schema
    schema = resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = kind_of(schema)
    if kind == "object":
        return {name: sample(value, rng, root) for name, value in wanted(schema).items()}
    if kind == "array":
        least = schema.get("minItems", 1)
        return [sample(schema.get("items", {}), rng, root) for _ in range(min(least, schema.get("maxItems", least)))]
    if kind in ("integer", "number"):
        return rng.randint(*bounds(schema))
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "null":
        return None
    for keyword in ("pattern", "format"):
        if keyword in schema:
            raise Unsupported(f"{keyword}: not supported by the simulated engine")
    text = rng.choice(WORDS)
    return (text * (schema.get("minLength", 1) // len(text) + 1))[
        : min(schema.get("maxLength", LONGEST_TEXT), max(len(text), schema.get("minLength", 1)))
    ]
