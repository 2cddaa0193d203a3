"""What a run keeps of words that are the user's own: unless they choose otherwise, their shape and
not one of the words.

The same goes for answers to them, and for what an error quotes of either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab import settings
from lab.harness.plan import SIDE_BY_SIDE
from lab.model import Knobs, Technique
from lab.scenarios.definitions import Task

if TYPE_CHECKING:
    from lab.harness.plan import Experiment
    from lab.rows import FinishedTrial
    from lab.settings import BenchmarkConfig

MARK = "own_text"
"""Names in a run's settings what tells whether the same words are given again."""
QUOTED = 12
"""So many characters in a row of somebody's words are a quotation of them."""
WORDS = ("role", "type", "ttl", "model", "endpoint", "effort", "service_tier")
"""Fields of a body whose values are the API's words, or name what the rows name too."""
PARTS = ("messages", "content", "system", "tools", "cache_control", "source", "thinking")
PARTS += ("tool_choice", "output_config")
"""Fields that are shown part by part; whatever else a body has is counted as one."""
WORD_CHARACTERS = 80


def keeps(config: BenchmarkConfig, plan: Experiment) -> bool:
    """Whether this run stores what was asked and answered: as the user chose, else only where all
    of it is the lab's own."""
    if config.keep_text is not None:
        return config.keep_text
    own_tasks = any(task.origin == "user" for task in plan.tasks)
    return not own_tasks and not any(
        not variant.technique.page or _own_knobs(variant.technique, variant.knobs)
        for variant in plan.variants
    )


def _own_knobs(technique: Technique, knobs: Knobs) -> dict[str, Any]:
    """The knobs that hold words of the user's: the bodies of one's own, and in a technique of the
    user's own whatever can be any text."""
    usual, known = technique.knobs().model_dump(mode="json"), settings.of(technique.knobs)
    return {
        name: value
        for name, value in knobs.model_dump(mode="json").items()
        if value != usual[name]
        and (
            _bodies_shape(value) != value
            if name == technique.files
            else not technique.page and _takes_text(known[name])
        )
    }


def _bodies_shape(text: str) -> str:
    """Of a JSON list of bodies; itself where there is no word in them, as where only the model or a
    limit differs."""
    bodies = json.loads(text)
    shapes = [arm_shape(body) for body in bodies]
    return text if shapes == bodies else json.dumps(shapes)


def _takes_text(setting: settings.Setting) -> bool:
    return not setting.choices and setting.kind not in (bool, int, float)


def _own(tasks: Sequence[Task] | None, knobs: Mapping[str, tuple[Technique, Knobs]]) -> str:
    """All words of the user's own that settings would hold, in one writing whatever the order of
    their fields."""
    named: dict[str, Any] = {}
    for slug, (technique, chosen) in knobs.items():
        words = _own_knobs(technique, chosen)
        if technique.files in words:
            words[technique.files] = json.loads(words[technique.files])
        named |= {slug: words} if words else {}
    asked = [task.model_dump(mode="json") for task in tasks or ()]
    return json.dumps([asked, named], sort_keys=True) if asked or named else ""


def mark(
    run_id: str, tasks: Sequence[Task] | None, knobs: Mapping[str, tuple[Technique, Knobs]]
) -> str:
    """Eight digits that tell other words from the same; too few to find out which they were. Empty
    where there are none."""
    words = _own(tasks, knobs)
    return hashlib.sha256(f"{run_id}:{words}".encode()).hexdigest()[:8] if words else ""


def without(
    stored: dict[str, Any], run_id: str, config: BenchmarkConfig, plan: Experiment
) -> dict[str, Any]:
    """A run's settings with the shape of the user's words in their place, and their mark."""
    knobs = {v.technique.slug: (v.technique, v.knobs) for v in plan.variants}
    told = mark(run_id, config.own_tasks, knobs)
    shapes = {slug: _shapes(*pair) for slug, pair in knobs.items()}
    chosen = dict(stored["config"])
    if config.own_tasks:
        chosen["tasks"] = [task_shape(task) for task in config.own_tasks]

    def shown(values: Mapping[str, Any]) -> dict[str, Any]:
        if config.technique == SIDE_BY_SIDE:
            return {slug: _replaced(part, shapes.get(slug, {})) for slug, part in values.items()}
        return _replaced(values, *shapes.values())

    if "knobs" in chosen:
        chosen["knobs"] = shown(chosen["knobs"])
    return {
        **stored,
        "config": chosen,
        "knobs": shown(stored["knobs"]),
        **({MARK: told} if told else {}),
    }


def _shapes(technique: Technique, knobs: Knobs) -> dict[str, Any]:
    """Each knob that can hold words of the user's: its shape; None for one to be left out, which
    stands in the technique's own code."""
    changed, known = _own_knobs(technique, knobs), settings.of(technique.knobs)
    shapes = {
        name: _bodies_shape(value) if name == technique.files else shape(value)
        for name, value in changed.items()
    }
    if not technique.page:
        unchanged = [name for name in known if _takes_text(known[name]) and name not in changed]
        shapes |= dict.fromkeys(unchanged)
    return shapes


def _replaced(values: Mapping[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: shapes.get(name, value) for name, value in values.items()}
    return {name: value for name, value in shown.items() if name not in shapes or value is not None}


def counted(text: str) -> str:
    return f"({len(text):,} characters, not kept)" if text else ""


def shape(value: Any, name: str = "") -> Any:
    """A value of a Messages body without its words: fields, roles, types, numbers and lengths."""
    if isinstance(value, str):
        is_word = name in WORDS and len(value) <= WORD_CHARACTERS and " " not in value
        return value if is_word else counted(value)
    if isinstance(value, list):
        return [shape(part, name) for part in value]
    if isinstance(value, dict):
        shown = {}
        for place, (key, part) in enumerate(value.items(), 1):
            if key in (*WORDS, *PARTS, "text", "name"):
                shown[key] = shape(part, key)
            elif isinstance(part, bool | int | float | None) and name in ("", *PARTS):
                shown[key] = part
            else:
                shown[f"field {place}"] = counted(json.dumps(part, ensure_ascii=False))
        return shown
    return value


def arm_shape(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body of an arm, whose name stays: every row has it."""
    return {"name": body["name"], **shape({k: v for k, v in body.items() if k != "name"})}


def task_shape(task: Task) -> dict[str, Any]:
    """A task that can still be read as one; nothing of what checks its answer."""
    return {
        "task_id": task.task_id,
        "category": task.category,
        "prompt": counted(task.prompt),
        "system": counted(task.system),
        "documents": [counted(text) for text in task.documents],
        "tools": list(task.tools),
        "body": shape(task.body) if task.body else None,
        "before": [shape(body) for body in task.before],
        "origin": task.origin,
        "document_tokens": task.document_tokens,
    }


def hide(finished: FinishedTrial, asked: Sequence[Any]) -> None:
    """Take out of a trial's errors, in place, what they quote of `asked` (bodies, tasks, answers):
    a server and a user's own code may repeat a whole prompt."""
    rows = [row for row in (finished.trial, *finished.calls) if row.error_text]
    words = "\n".join(_texts(asked)) if rows else ""
    for row in rows:
        row.error_text = unquoted(row.error_text, words)


def unquoted(text: str, words: str) -> str:
    """The text with a mark in place of each run of twelve characters or more that `words` has."""
    parts, at, last = [], 0, 0
    while at + QUOTED <= len(text):
        if text[at : at + QUOTED] not in words:
            at += 1
            continue
        end = at + QUOTED
        while end < len(text) and text[end - QUOTED + 1 : end + 1] in words:
            end += 1
        parts += [text[last:at], "(not kept)"]
        at = last = end
    return "".join([*parts, text[last:]])


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        if not value.isascii() or '"' in value or "\n" in value:
            yield json.dumps(value)
            yield repr(value)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield str(name)
            yield from _texts(part)
    elif isinstance(value, Sequence):
        for part in value:
            yield from _texts(part)
