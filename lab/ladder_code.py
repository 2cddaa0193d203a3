"""The winner of a ladder as Python that makes its requests outside the lab."""

from __future__ import annotations

from collections.abc import Mapping

from lab import code_samples, ladder_order, techniques
from lab.ladder import stack
from lab.ladder.stack import WINNER
from lab.ladder_order import LadderOrder
from lab.ladder_results import LadderResult
from lab.model import LabError
from lab.store.store import Store


def winner(result: LadderResult, store: Store | None = None) -> str:
    """A script for the first task; LabError where there is no winner, or where tasks of the user's
    own were not kept."""
    if result.winner is None:
        raise LabError(f"{result.run_id} has no winner.")
    order = ladder_order.unbudgeted(ladder_order.again(result.run, result.record), store)
    return of_stack(order, dict(result.winner))


def of_stack(order: LadderOrder, levels: Mapping[str, str]) -> str:
    """A script that asks the first task as the stack does. What of it the script does not do, its
    first lines say."""
    knobs = order.base.model_copy(update={"levels": dict(levels)})
    task = order.plan.tasks[0]
    asked = code_samples.requests(order.technique, WINNER, knobs, task, order.endpoint)
    pulled, pages = stack.pulled(levels), {each.name: slug for slug, each in stack.all_levers()}
    parts = {
        lever.part: techniques.find(pages[lever.name]).knobs() for lever, _ in pulled if lever.part
    }
    shown = stack.composed(task, knobs, pulled).stream
    more = {"parts": {"late": None, **parts}, "shown": shown, "most_turns": stack.MOST_TURNS}
    code = code_samples.python(order.technique, WINNER, knobs, asked, **more)
    return "".join(f"# Not in this code: {words}.\n" for words in _left_out(levels)) + code


def _left_out(levels: Mapping[str, str]) -> list[str]:
    """Levers that change how a request is asked, in a way that the template does not know."""
    pages = {lever.name: slug for slug, lever in stack.all_levers()}
    return [
        f"{lever.words.get(level, level)}; the code of the technique {pages[lever.name]} shows it"
        for lever, level in stack.pulled(levels)
        if (lever.play or lever.run_tools) and not lever.part
    ]
