"""`python -m lab.worker CONFIG.json`: measure one run in a process of its own.

The CLI calls the same measure() in its own process. What measures is imported late: that takes a
second or more, in which a Stop must be heard already.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import machine, processes, run_loop, scrub
from lab.model import LADDER, LOAD, LabError, Technique, new_id
from lab.paths import COMMAND
from lab.run_loop import PATIENCE_S, STOPPED_S, Measured, Telling

if TYPE_CHECKING:
    from lab.harness.runner import BenchmarkRunner
    from lab.settings import BenchmarkConfig
    from lab.store.store import Store

STOP_POLL_S = 0.1
CODES = {"finished": 0, "interrupted": 130}


def measure(
    config: BenchmarkConfig,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    run_id: str | None = None,
    technique: Technique | None = None,
) -> Measured:
    """Measure a run to its end, here and now; LabError at once while another run is measured.

    Ctrl-C and SIGTERM interrupt it cleanly. Progress goes to the run's file, where any dashboard
    finds it, and to `on_progress`. `technique` is one that no list has.
    """
    from lab import recorded_tasks, resume
    from lab.store.store import Store

    begun_elsewhere = run_id is not None
    run_id = config.join_run or run_id or new_id()
    with processes.measuring(run_id, config.technique):
        # A worker's was made afresh before it started, and may have been asked to stop since.
        if not begun_elsewhere:
            processes.start_afresh(run_id)
        store = Store(config.db, PATIENCE_S)
        store.close_orphans(run_id)
        joined, spreads = None, {name: getattr(config, name) for name in ("workers", "scheduler")}
        if config.join_run:
            config, joined = resume.join(store, config)
            config = config.model_copy(update=spreads)
        config = recorded_tasks.resolved(config, store)
        processes.remember(run_id, config)

        telling = Telling(run_id, on_progress)

        def tell(entry: dict[str, Any]) -> None:
            # The last row is written by now: what tracing does can no longer touch a number.
            is_last = entry["kind"] == "ended" and "trial" in telling.kinds
            if is_last and (note := _sent(store, run_id, telling.stop)):
                telling({"kind": "note", "text": note})
            telling(entry)

        try:
            runner = _kind(config)(
                config, store, tell, run_id=run_id, joined=joined, technique=technique
            )
            return _run(runner, telling)
        except LabError as error:
            if "ended" not in telling.kinds:
                tell({"kind": "ended", "status": "failed", "text": str(error)})
            raise
        finally:
            store.close()


def _kind(config: BenchmarkConfig) -> type[BenchmarkRunner]:
    """What makes the run: Dask takes a second to be imported, and few runs need it."""
    if config.is_spread:
        from lab.block_spread import SpreadRunner

        return SpreadRunner
    from lab.harness.runner import BenchmarkRunner

    return BenchmarkRunner


def _sent(store: Store, run_id: str, stop: Callable[[], bool]) -> str | None:
    """Traces go where a variable says; a run that was stopped waits for no receiver."""
    from lab.instrumentation import traces

    answers: list[str | None] = []
    sending = threading.Thread(
        target=lambda: answers.append(traces.send_if_configured(store, run_id)), daemon=True
    )
    sending.start()
    while sending.is_alive() and not stop():
        sending.join(STOPPED_S / 5)
    sending.join(STOPPED_S)
    if answers:
        return answers[0]
    return f"traces: not sent, the receiver is slow. Later: {COMMAND} trace {run_id}"


def _run(runner: BenchmarkRunner, telling: Telling) -> Measured:
    async def main() -> Measured:
        runner.stop = telling.stop
        await runner.run()
        return Measured(telling.run_id, runner.status, runner.text)

    return run_loop.to_its_end(main, telling.ending)


def _leave_if_stopped(run_id: str, ready: threading.Event) -> None:
    """Until the run itself listens: nothing has been asked or told, so the process may just end."""
    while not ready.wait(STOP_POLL_S):
        if processes.stop_asked(run_id):
            with contextlib.suppress(OSError):
                processes.add_progress(
                    run_id,
                    {"kind": "ended", "status": "interrupted", "text": "Stopped by request."},
                )
            os._exit(CODES["interrupted"])


def _technique(words: dict[str, Any], run_id: str) -> Callable[[], Measured]:
    for name in ("lab.harness.runner", "lab.store.store"):
        import_module(name)
    from lab.settings import config_of

    return partial(measure, config_of(**words), run_id=run_id)


def _load(words: dict[str, Any], run_id: str) -> Callable[[], Measured]:
    from lab.load import preparing

    preparing.begin()
    from lab import load_run
    from lab.load.load_settings import load_config_of

    return partial(load_run.measure, load_config_of(**words), run_id=run_id)


def _ladder(words: dict[str, Any], run_id: str) -> Callable[[], Measured]:
    from lab import ladder_run
    from lab.ladder.ladder_settings import ladder_config_of

    return partial(ladder_run.measure, ladder_config_of(**words), run_id=run_id)


def main(arguments: list[str]) -> int:
    machine.start_quickly()
    path = Path(arguments[0])
    order = json.loads(path.read_text())
    path.unlink()
    run_id, ready = order["run_id"], threading.Event()
    threading.Thread(target=_leave_if_stopped, args=(run_id, ready), daemon=True).start()
    try:
        starts = {LOAD: _load, LADDER: _ladder}
        start = starts.get(order["config"].get("technique"), _technique)
        measured = start(order["config"], run_id)
        ready.set()
        done = measured()
    except LabError as error:
        text = scrub.text(str(error), scrub.MESSAGE)
        if not any(entry["kind"] == "ended" for entry in processes.read_progress(run_id)[0]):
            processes.add_progress(run_id, {"kind": "ended", "status": "failed", "text": text})
        print(text, file=sys.stderr)
        return 1
    code = CODES.get(done.status, 1)
    if run_loop.LEFT:
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
