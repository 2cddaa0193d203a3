"""The techniques: each module here that has a TECHNIQUE is one. Adding a file is all that a new one takes."""

from __future__ import annotations

import difflib
from functools import cache
from importlib import import_module
from pathlib import Path

from lab.model import LabError, Technique

FIRST = ("streaming", "caching", "parallelism", "model_routing", "agent_topology")
"""The order in which lists show them; what is not named here follows by name."""


@cache
def _all() -> dict[str, Technique]:
    names = sorted(
        file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_")
    )
    names.sort(key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    found = [getattr(import_module(f"{__name__}.{name}"), "TECHNIQUE", None) for name in names]
    return {technique.slug: technique for technique in found if technique is not None}


@cache
def _names() -> dict[str, str]:
    """Every accepted spelling to its slug: slugs, aliases, module names, with dashes or underscores."""
    names = {}
    for slug, technique in _all().items():
        module = technique.trial.__module__.rpartition(".")[2]
        for name in (slug, *technique.aliases, module):
            names[name.lower().replace("_", "-")] = slug
    return names


def slugs() -> tuple[str, ...]:
    return tuple(_all())


def all_techniques() -> tuple[Technique, ...]:
    return tuple(_all().values())


def slug_of(name: str) -> str | None:
    """The slug behind any spelling of a technique's name; None if there is none."""
    return _names().get(name.strip().lower().replace("_", "-").replace(" ", "-"))


def find(name: str) -> Technique:
    """A technique by slug, alias or module name; LabError with the nearest name if there is none."""
    slug = slug_of(name)
    if slug is None:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), _names(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise LabError(f"No technique {name!r}.{hint} There are: {', '.join(_all())}.")
    return _all()[slug]
