"""The requests an arm makes, and Python that makes them outside the lab."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from pprint import pformat
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


def python(technique: Technique, arm: str, knobs: Knobs, asked: list[Asked]) -> str:
    """A script that does what the arm does, with the bodies it sends; it needs nothing but the
    anthropic package.

    The technique's template writes it, with `arm`, `knobs`, `asked` and `large`, the large model,
    which a rehearsed router need not have chosen. Values become literals by the filter of that
    name, so that text of the user's own can never become code.
    """
    folders = [techniques.folder_of(technique), SHARED] if technique.code else [SHARED]
    templates = Environment(
        loader=FileSystemLoader(folders),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"literal": _literal, "repr": repr}
    large = asked[0].endpoint.model_for("large")
    return templates.get_template(technique.code or PLAIN).render(
        arm=arm, knobs=knobs, asked=asked, large=large
    )


def _literal(value: Any) -> str:
    return pformat(value, width=100, sort_dicts=False)
