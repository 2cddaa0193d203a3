"""The winner of a ladder as Python that makes its requests outside the lab."""

from __future__ import annotations

from lab import code_samples, ladder_order
from lab.ladder.ladder_settings import ladder_config_of
from lab.ladder.stack import WINNER
from lab.ladder_results import LadderResult
from lab.model import LabError
from lab.store.store import Store


def winner(result: LadderResult, store: Store | None = None) -> str:
    """A script for the first task; LabError where there is no winner, or where tasks of the user's
    own were not kept."""
    if result.winner is None:
        raise LabError(f"{result.run_id} has no winner.")
    config = ladder_config_of(**result.record["config"])
    if not config.scenario and (result.run["settings"].get("config") or {}).get("tasks"):
        raise LabError("The tasks were pasted and are not kept here: give them as a file.")
    order = ladder_order.resolve(config, store)
    knobs = order.base.model_copy(update={"levels": dict(result.winner)})
    task = order.plan.tasks[0]
    asked = code_samples.requests(order.technique, WINNER, knobs, task, order.endpoint)
    return code_samples.python(order.technique, WINNER, knobs, asked)
