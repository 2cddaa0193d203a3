"""The requests an arm makes, and Python that makes them outside the lab."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lab import techniques
from lab.endpoints.registry import Endpoint
from lab.harness.plan import TIERS
from lab.harness.rehearsal import LIKELY, Asked, finished, rehearse
from lab.model import Knobs, Technique
from lab.scenarios.definitions import Task

SHARED = Path(__file__).parent / "code"
PLAIN = "plain.jinja"
WIDTH = 88
PIECE = r"[^\n]{1,80}(?:\s|$)|[^\n]{1,80}|\n"
"""Of a long text: as much as a line of code holds, up to a space or to its end."""
ANSWER = "(an answer)"
"""What stands in a later request for what the model would have said."""


def requests(
    technique: Technique, arm: str, knobs: Knobs, task: Task, endpoint: Endpoint
) -> list[Asked]:
    """The requests of one trial of an arm, primes first, found by rehearsing the trial itself. A
    tier for which the endpoint has no model takes another's."""
    models = {**dict.fromkeys(TIERS, next(iter(endpoint.models.values()))), **endpoint.models}
    endpoint = replace(endpoint, models=models)
    mood = LIKELY._replace(text=ANSWER)
    return finished(rehearse(technique, arm, knobs, task, endpoint, mood))


def python(technique: Technique, arm: str, knobs: Knobs, asked: list[Asked], **more: Any) -> str:
    """A script that does what the arm does, with the bodies it sends; it needs nothing but the
    anthropic package.

    The technique's template, its own or a shared one, writes it, with `arm`, `knobs`, `asked`,
    `longest`, the longest text of the first body, and what `more` names. Values become literals by
    the filter of that name, so that text of the user's own can never become code; texts that it is
    given names for stand under those.
    """
    template, folders = technique.code or PLAIN, [SHARED]
    if not (SHARED / template).is_file():
        folders.insert(0, techniques.folder_of(technique))
    templates = Environment(
        loader=FileSystemLoader(folders),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"literal": _literal, "repr": repr}
    return templates.get_template(template).render(
        arm=arm,
        knobs=knobs,
        asked=asked,
        longest=max(_texts(asked[0].body), key=len, default=""),
        **more,
    )


def _literal(value: Any, names: Mapping[str, str] | None = None, indent: int = 0) -> str:
    """As a formatter would write it: on one line where it fits, else a line for each part."""
    short = _on_one_line(value, names or {})
    if indent + len(short) <= WIDTH:
        return short
    pad = " " * (indent + 4)
    if isinstance(value, dict):
        inner = [
            f"{pad}{_text(key)}: {_literal(part, names, indent + 4)},\n"
            for key, part in value.items()
        ]
        return f"{{\n{''.join(inner)}{pad[4:]}}}"
    if isinstance(value, list | tuple) and value:
        inner = [f"{pad}{_literal(part, names, indent + 4)},\n" for part in value]
        return f"[\n{''.join(inner)}{pad[4:]}]"
    if isinstance(value, str) and value not in (names or {}):
        lines = re.findall(PIECE, value, re.DOTALL)
        return f"(\n{''.join(f'{pad}{_text(line)}' + chr(10) for line in lines)}{pad[4:]})"
    return short


def _on_one_line(value: Any, names: Mapping[str, str]) -> str:
    if isinstance(value, dict):
        parts = [f"{_text(key)}: {_on_one_line(part, names)}" for key, part in value.items()]
        return f"{{{', '.join(parts)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_on_one_line(part, names) for part in value)}]"
    if isinstance(value, str):
        return names.get(value) or _text(value)
    return repr(value)


def _text(value: Any) -> str:
    """In double quotes; what JSON escapes, Python reads alike."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
