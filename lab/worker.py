"""`python -m lab.worker CONFIG.json`: measure one run in a process of its own.

The CLI calls the same measure() in its own process. What measures is imported late: that takes a
second or more, in which a Stop must be heard already.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lab import machine, processes, scrub
from lab.model import LabError, Status, Technique, new_id
from lab.paths import COMMAND

if TYPE_CHECKING:
    from lab.harness.runner import BenchmarkRunner
    from lab.settings import BenchmarkConfig
    from lab.store.store import Store

PATIENCE_S = 0.5
STOPPED_S = 0.5
STOP_POLL_S = 0.1
LEFT: list[asyncio.Task] = []
"""Tasks of the user's own that would not end, kept from the collector: it would end them where
nothing of theirs is in place."""
CODES = {"finished": 0, "interrupted": 130}


class Measured(NamedTuple):
    run_id: str
    status: Status
    text: str


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
    from lab.harness.runner import BenchmarkRunner
    from lab.store.store import Store

    begun_elsewhere = run_id is not None
    run_id = config.join_run or run_id or new_id()
    with processes.measuring(run_id, config.technique):
        # A worker's was made afresh before it started, and may have been asked to stop since.
        if not begun_elsewhere:
            processes.start_afresh(run_id)
        # Rows that cannot be written now are safe beside the database: nothing is won by waiting,
        # and Stop would wait too.
        store = Store(config.db, PATIENCE_S)
        store.close_orphans(run_id)
        joined = None
        if config.join_run:
            config, joined = resume.join(store, config)
        config = recorded_tasks.resolved(config, store)
        processes.remember(run_id, config)

        kinds: set[str] = set()
        ending, deaf = threading.Event(), threading.Event()

        def stop() -> bool:
            return ending.is_set() or processes.stop_asked(run_id)

        def tell(entry: dict[str, Any]) -> None:
            kinds.add(entry["kind"])
            # The last row is written by now: what tracing does can no longer touch a number.
            note = entry["kind"] == "ended" and "trial" in kinds and _sent(store, run_id, stop)
            if note:
                tell({"kind": "note", "text": note})
            if entry.get("text"):
                entry = {**entry, "text": scrub.text(entry["text"], scrub.MESSAGE)}
            # A full runtime folder: the dots are missing, the rows are not.
            with contextlib.suppress(OSError):
                processes.add_progress(run_id, entry)
            if on_progress is None or deaf.is_set():
                return
            try:
                on_progress(entry)
            except OSError:
                # The terminal or the pipe is gone: the run ends as at Ctrl-C, with its rows.
                deaf.set()
                ending.set()

        try:
            runner = BenchmarkRunner(
                config, store, tell, run_id=run_id, joined=joined, technique=technique
            )
            return _run(runner, run_id, ending, stop)
        except LabError as error:
            if "ended" not in kinds:
                tell({"kind": "ended", "status": "failed", "text": str(error)})
            raise
        finally:
            store.close()


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


def _run(
    runner: BenchmarkRunner, run_id: str, ending: threading.Event, stop: Callable[[], bool]
) -> Measured:
    async def main() -> Measured:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # Not in the main thread: then who started it also ends it.
            with contextlib.suppress(RuntimeError, ValueError):
                if signal.getsignal(name) is not signal.SIG_IGN:  # as nohup leaves it
                    loop.add_signal_handler(name, ending.set)
        runner.stop = stop
        await runner.run()
        return Measured(run_id, runner.status, runner.text)

    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    loop = new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        # Not asyncio.run, which would wait for code of the user's that does not let go.
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=STOPPED_S))
            LEFT.extend(task for task in left if not task.done())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


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


def main(arguments: list[str]) -> int:
    machine.start_quickly()
    path = Path(arguments[0])
    order = json.loads(path.read_text())
    path.unlink()
    run_id, ready = order["run_id"], threading.Event()
    threading.Thread(target=_leave_if_stopped, args=(run_id, ready), daemon=True).start()
    try:
        for name in ("lab.harness.runner", "lab.store.store"):
            import_module(name)
        from lab.settings import config_of

        config = config_of(**order["config"])
        ready.set()
        done = measure(config, run_id=run_id)
    except LabError as error:
        text = scrub.text(str(error), scrub.MESSAGE)
        if not any(entry["kind"] == "ended" for entry in processes.read_progress(run_id)[0]):
            processes.add_progress(run_id, {"kind": "ended", "status": "failed", "text": text})
        print(text, file=sys.stderr)
        return 1
    code = CODES.get(done.status, 1)
    if LEFT:
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
