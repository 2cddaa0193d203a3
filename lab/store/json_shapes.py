"""The JSON of a stored run in the shape that everything which reads it relies on, whatever the file
says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from lab.limits import is_count
from lab.metrics import METRICS
from lab.scrub import SETTING, visible

NO_ARM = {"technique": "", "arm": ""}
NOTHING = {
    "config": {},
    "arms": [],
    "baseline": NO_ARM,
    "headline": {"metric": "wait_ms", **NO_ARM},
    "knobs": {},
    "runs": 0,
}
"""What stands in for a part of `settings` that cannot be read."""
OTHERS = ("scenario", "warmup", "quick", "lab_version", "own_text", "ceiling")
LARGEST = 2**53
WORD = 200
BLOCK = [str, int, str, str, str, int, str]
"""The types of a block's parts: section, turn, role, kind, name, characters, hash."""
BLOCKS = 100_000
"""Of one prompt."""
TTLS = ("5m", "1h")


def parsed(text: Any) -> Any:
    """A JSON value, its texts visible, without NaN, infinities and numbers that no other reader of
    JSON has; None for what is no JSON."""
    try:
        return _plain(json.loads(text)) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None


def settings(value: Any) -> dict[str, Any]:
    """`runs.settings`: each part as it is where it has its shape, else as in NOTHING."""
    value = value if isinstance(value, dict) else {}
    read = {
        name: value[name] if SOUND[name](value.get(name)) else NOTHING[name] for name in NOTHING
    }
    read |= {name: value[name] for name in OTHERS if isinstance(value.get(name), (str, int, float))}
    for name in ("ladder", "watch"):
        if isinstance(value.get(name), dict):
            read[name] = _flat(value[name], 5)
    if isinstance(value.get("recording"), dict):
        read["recording"] = recording(value["recording"])
    return read


def load(value: Mapping[str, Any]) -> dict[str, Any]:
    """`runs.settings` of a load, whose `config` is an object: words, numbers, and lists and objects
    of them."""
    others = {
        name: value[name] for name in OTHERS if isinstance(value.get(name), (str, int, float))
    }
    return {name: _flat(part, 2) for name, part in ({"config": value["config"]} | others).items()}


def _flat(value: Any, depth: int) -> Any:
    """Lists and objects no deeper than that, each of a hundred parts; None stands for the rest."""
    if isinstance(value, str):
        return value[:SETTING]
    if isinstance(value, dict) and depth:
        parts = list(value.items())[:100]
        return {name[:WORD]: _flat(part, depth - 1) for name, part in parts}
    if isinstance(value, list) and depth:
        return [_flat(part, depth - 1) for part in value[:100]]
    return value if isinstance(value, int | float) else None


def is_sound(value: Any) -> bool:
    """Whether `runs.settings` are those of a run that can be judged, shown and repeated."""
    return (
        isinstance(value, dict)
        and all(SOUND[name](value.get(name)) for name in NOTHING)
        and len(value["arms"]) > 0
    )


def models(value: Any) -> dict[str, str]:
    """`runs.models`: tier to model."""
    return (
        {tier: name for tier, name in value.items() if isinstance(name, str)}
        if isinstance(value, dict)
        else {}
    )


def iterations(value: Any) -> list[dict[str, Any]]:
    """`calls.iterations`: what is known of each sampling, words as words and counts as counts;
    empty where it is no list."""
    entries = (
        [entry for entry in value[:1000] if isinstance(entry, dict)]
        if isinstance(value, list)
        else []
    )
    return [_iteration(entry) for entry in entries]


def _iteration(entry: dict[str, Any]) -> dict[str, Any]:
    sampling: dict[str, Any] = {
        name: entry[name][:200] for name in ("type", "model") if isinstance(entry.get(name), str)
    }
    sampling |= {
        name: part for name, part in entry.items() if name.endswith("_tokens") and is_count(part)
    }
    if entry.get("declined") is True:
        sampling["declined"] = True
    if isinstance(split := entry.get("cache_creation"), dict):
        sampling["cache_creation"] = _iteration(split)
    return sampling


def asked(value: Any) -> dict[str, str]:
    """`calls.asked`: a word for each factor."""
    pairs = list(value.items())[:20] if isinstance(value, dict) else []
    return {name[:WORD]: word[:WORD] for name, word in pairs if isinstance(word, str)}


def recording(value: Any) -> dict[str, Any]:
    """`runs.settings.recording` and `recorded_calls.settings`: words and numbers by their names."""
    value = value if isinstance(value, dict) else {}
    pairs = list(value.items())[:100]
    words: dict[str, Any] = {
        name[:WORD]: part[:SETTING] for name, part in pairs if isinstance(part, str)
    }
    words |= {
        name[:WORD]: [word[:SETTING] for word in part[:20] if isinstance(word, str)]
        for name, part in pairs
        if isinstance(part, list)
    }
    return words | {name[:WORD]: part for name, part in pairs if isinstance(part, int | float)}


def blocks(value: Any) -> list[list[Any]]:
    """`recorded_calls.blocks` and `reply`: what is a lab.recording.shape.Block. One that is none is
    an empty one in its place: what comes after it keeps its own."""
    return [_block(part) for part in value[:BLOCKS]] if isinstance(value, list) else []


def _block(value: Any) -> list[Any]:
    is_block = isinstance(value, list) and list(map(type, value)) == BLOCK
    value = value if is_block else ["messages", 0, "", "", "", 0, ""]
    return [part[:WORD] if isinstance(part, str) else max(part, 0) for part in value]


def marks(value: Any) -> list[list[Any]]:
    """`recorded_calls.marks`: behind which block, and for how long."""
    pairs = value[:BLOCKS] if isinstance(value, list) else []
    return [
        [pair[0], pair[1]]
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2 and is_count(pair[0]) and pair[1] in TTLS
    ]


def facts(value: Any) -> dict[str, Any]:
    """`sessions.machine` or `sessions.instrument`; the instrument's own error is a number or not
    there."""
    value = value if isinstance(value, dict) else {}
    error = value.get("own_error_p95_ms")
    return (
        value
        if error is None or _is_number(error)
        else {name: fact for name, fact in value.items() if name != "own_error_p95_ms"}
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {visible(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value if math.isfinite(value) and abs(value) <= LARGEST else None
    return visible(value) if isinstance(value, str) else value


def _is_arm(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("technique"), str)
        and isinstance(value.get("arm"), str)
    )


def _is_list_of_arms(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_arm, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_config(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_number(value.get("deadline_s", 1))
        and isinstance(value.get("scenario") or "", str)
    )


def _is_headline(value: Any) -> bool:
    if not _is_arm(value) or value.get("metric") not in METRICS:
        return False
    quantile = value.get("quantile", 0.5)
    return _is_number(quantile) and 0 < quantile < 1


SOUND = {
    "config": _is_config,
    "arms": _is_list_of_arms,
    "baseline": _is_arm,
    "headline": _is_headline,
    "knobs": lambda value: isinstance(value, dict),
    "runs": is_count,
}
