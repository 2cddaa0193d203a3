"""What became of a trial that has ended, and why.

Nothing measured is nothing won: one that waited for no call has failed, however fast it was.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from lab.harness.bench import TrialBench
from lab.instrumentation import parsing
from lab.model import NOT_TIMED, LabError
from lab.rows import TrialRow


def settle(
    bench: TrialBench,
    work: asyncio.Task[Any],
    unawaited: Sequence[str],
    deadline_s: float,
    note: Callable[[str], None],
) -> Any:
    """Write the outcome of `work`, the trial, into its row; its answer where it has one.

    `unawaited` names the coroutines that it threw away; `note` tells of them where they did no
    harm.
    """
    row = bench.trial
    if bench.out_of_budget:
        if not work.cancelled():
            work.exception()  # looked at, or asyncio would complain of it
        row.outcome, row.error_kind = "cancelled", "budget"
        row.error_text = bench.session.budget.text
        return None
    try:
        answer = work.result()
    except TimeoutError as error:
        # Its time does not say whose it was, since a timer may fire early.
        if bench.limit.expired():
            return _fail(row, "deadline", f"not done within {deadline_s:g} s")
        return _fail(row, "exception", f"TimeoutError: {error}".removesuffix(": "))
    except LabError:
        raise
    except Exception as error:
        # A technique's bug or the user's own code: a row, and a note that says where.
        return _fail(row, *parsing.failure_words(error))
    if bench.failed:
        _fail(row, *bench.failed)
    own = [
        call.reading
        for call in bench.calls
        if call.intent.own and call.reading.error_kind not in (None, "cancelled")
    ]
    if own and answer is None and row.outcome == "ok":
        _fail(row, own[-1].error_kind, own[-1].error_text)
    if inspect.isawaitable(answer):
        name = getattr(answer, "__qualname__", type(answer).__name__)
        if inspect.iscoroutine(answer):
            answer.close()
        text = f"{row.arm} answered with {name}, which nobody has awaited: write `return await …`."
        return _fail(row, "not_awaited", text)
    forgotten = ""
    if unawaited:
        names = ", ".join(dict.fromkeys(unawaited))
        forgotten = f"{names} was called in {row.arm} and never awaited: an `await` is missing."
        note(forgotten)
    if row.outcome == "ok":
        _fail_unless_measured(bench, forgotten)
    return answer


def _fail_unless_measured(bench: TrialBench, forgotten: str) -> None:
    row = bench.trial
    readings = [call.reading for call in bench.calls if call.intent.role not in NOT_TIMED]
    # One that the caller stopped reading has been measured up to there.
    if any(reading.error_kind is None or reading.message_start_ns for reading in readings):
        return
    if forgotten:
        _fail(row, "not_awaited", forgotten)
    elif not readings:
        text = f"{row.arm} made no call through the lab's client, so nothing was measured: "
        _fail(row, "no_call", text + "use the client that it is given.")
    elif all(reading.error_kind == "cancelled" for reading in readings):
        text = f"{row.arm} ended before any of its calls was answered: `await` what it starts."
        _fail(row, "not_awaited", text)
    else:
        _fail(row, readings[-1].error_kind, readings[-1].error_text)


def _fail(row: TrialRow, kind: str | None, text: str | None) -> None:
    row.outcome, row.error_kind, row.error_text = "failed", kind, text
