"""`python -m lab.worker CONFIG.json`: measure one run in a process of its own. The CLI calls the same measure() in its own process.

What measures is imported late: that takes a second or more, in which a Stop must be heard already.
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
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lab import endpoint_kinds, processes, scrub
from lab.model import LabError, Status, Technique, new_id
from lab.rows import RunRow

if TYPE_CHECKING:
    from lab.harness.plan import BenchmarkConfig
    from lab.harness.runner import BenchmarkRunner, Joined
    from lab.store.store import Store

PATIENCE_S = 0.5
STOPPED_S = 0.5
STOP_POLL_S = 0.1
LEFT: list[asyncio.Task] = []
"""Tasks of the user's own that would not end, kept from the collector: it would end them where nothing of theirs is in place."""


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
    """Measure a run to its end, here and now; LabError at once while another run is measured. Ctrl-C and SIGTERM interrupt it cleanly.

    Progress goes to the run's file, where any dashboard finds it, and to `on_progress`. `technique` is one that no list has.
    """
    from lab.harness.runner import BenchmarkRunner
    from lab.store.store import Store

    given, run_id = run_id, config.join_run or run_id or new_id()
    with processes.measuring(run_id, config.technique):
        if (
            given is None
        ):  # a worker's was made afresh before it started, and may have been asked to stop since
            processes.start_afresh(run_id)
        # Rows that cannot be written now are safe beside the database: nothing is won by waiting, and Stop would wait too.
        store = Store(config.db, PATIENCE_S, PATIENCE_S)
        store.close_orphans(run_id)
        joined = None
        if config.join_run:
            config, joined = join(store, config)

        said: set[str] = set()
        ending = threading.Event()

        def stop() -> bool:
            return ending.is_set() or processes.stop_asked(run_id)

        def tell(entry: dict[str, Any]) -> None:
            said.add(entry["kind"])
            # The last row is written by now, so what tracing does can no longer touch a number.
            if (
                entry["kind"] == "ended"
                and "trial" in said
                and (sent := _sent(store, run_id, stop))
            ):
                tell({"kind": "note", "text": sent})
            if entry.get("text"):
                entry = {**entry, "text": scrub.text(entry["text"], scrub.MESSAGE)}
            with contextlib.suppress(
                OSError
            ):  # a full runtime folder: the dots are missing, the rows are not
                processes.add_progress(run_id, entry)
            try:
                if on_progress and "deaf" not in said:
                    on_progress(entry)
            except (
                OSError
            ):  # the terminal or the pipe is gone: the run ends as at Ctrl-C, with its rows
                said.add("deaf")
                ending.set()

        try:
            runner = BenchmarkRunner(
                config, store, tell, run_id=run_id, joined=joined, technique=technique
            )
            return _run(runner, run_id, ending, stop)
        except LabError as error:
            if "ended" not in said:
                tell({"kind": "ended", "status": "failed", "text": str(error)})
            raise
        finally:
            store.close()


def _sent(store: Store, run_id: str, stop: Callable[[], bool]) -> str | None:
    """Traces go where a variable says; a run that was stopped does not wait for a receiver that does not answer."""
    from lab.instrumentation import traces

    answers: list[str | None] = []
    sending = threading.Thread(
        target=lambda: answers.append(traces.send_if_configured(store, run_id)), daemon=True
    )
    sending.start()
    while sending.is_alive() and not stop():
        sending.join(STOPPED_S / 5)
    sending.join(STOPPED_S)
    return (
        answers[0]
        if answers
        else f"traces: not sent, the receiver is slow. Later: python main.py trace {run_id}"
    )


def _run(
    runner: BenchmarkRunner, run_id: str, ending: threading.Event, stop: Callable[[], bool]
) -> Measured:
    async def main() -> Measured:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with contextlib.suppress(
                RuntimeError, ValueError
            ):  # not the main thread: then who started it also ends it
                if signal.getsignal(name) is not signal.SIG_IGN:  # as nohup leaves it
                    loop.add_signal_handler(name, ending.set)
        runner.stop = stop
        await runner.run()
        return Measured(run_id, runner.status, runner.text)

    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop
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


def join(store: Store, config: BenchmarkConfig) -> tuple[BenchmarkConfig, Joined]:
    """The stored run's own settings, with `config.runs` more blocks where it is complete, else its missing blocks; and what it has done."""
    from lab.harness.budget import COUNTED, stored_usd
    from lab.harness.plan import config_of, repeated
    from lab.harness.runner import Joined
    from lab.store import json_shapes
    from lab.store.store import as_uuid

    run_id = as_uuid(config.join_run)
    rows = store.frame("SELECT * FROM runs WHERE run_id = ?::UUID", [run_id]).to_dict("records")
    if not rows:
        raise LabError(f"There is no run {config.join_run} to continue.")
    found = rows[0]
    settings = json_shapes.parsed(found["settings"])
    if (
        not json_shapes.is_sound(settings)
        or found["endpoint_kind"] not in endpoint_kinds.KINDS
        or found["started_utc"] != found["started_utc"]
    ):
        raise LabError(
            f"Run {run_id} cannot go on: what is stored of its settings or its endpoint cannot be read. Start a new run."
        )
    started = found["started_utc"]
    started = (
        started.to_pydatetime()
        if hasattr(started, "to_pydatetime")
        else datetime.fromisoformat(str(started))
    )
    run = RunRow(
        run_id, found["technique"], found["endpoint"], found["endpoint_kind"], json_shapes.models(json_shapes.parsed(found["models"])), settings,
        int(found["seed"]), "running", bool(found["keep_text"]), started,
    )  # fmt: skip
    trials = store.frame(
        "SELECT block, session_id, attempt, outcome, cost_usd, technique, arm FROM trials WHERE run_id = ?::UUID AND phase = 'measured'",
        [run_id],
    )
    arms = len(settings["arms"])
    whole = trials[trials["outcome"] != "cancelled"].groupby(["session_id", "block"]).size()
    complete = frozenset(int(block) for (_, block), n in whole.items() if n >= arms)
    begun = {int(block): int(n) for block, n in trials.groupby("block")["attempt"].max().items()}
    sessions = int(
        store.frame("SELECT count(*) AS n FROM sessions WHERE run_id = ?::UUID", [run_id])["n"][0]
    )
    calls = store.frame(f"SELECT {', '.join(COUNTED)} FROM calls WHERE run_id = ?::UUID", [run_id])
    # A run that ended on its precision is complete, however many blocks it was allowed.
    precise = (
        found["status"] == "finished" and settings["config"].get("target_half_width_ms") is not None
    )
    asked = max(complete, default=0) if precise else int(settings.get("runs", 0))
    missing = set(range(1, asked + 1)) - complete
    stored = {**repeated({**found, "settings": settings}), "join_run": run_id, "db": config.db}
    if not missing:
        stored |= {"runs": asked + config.runs, "quick": False, "target_half_width_ms": None}
        stored |= {"arms": _names(settings, found["technique"]), "knobs": settings["knobs"]}
        if config.target_half_width_ms is not None:
            stored |= {
                "target_half_width_ms": config.target_half_width_ms,
                "max_runs": asked + config.runs,
            }
    if config.max_usd is not None:
        stored["max_usd"] = config.max_usd
    # A sum that is given anew is the most from here on; else all sessions together keep to the run's.
    rows = calls.astype(object).where(calls.notna(), None).to_dict("records")
    rows = [
        row | {"iterations": json_shapes.iterations(json_shapes.parsed(row["iterations"]))}
        for row in rows
    ]
    spent = stored_usd(run.endpoint_kind, rows) if config.max_usd is None else 0.0
    return config_of(**stored), Joined(
        run, complete, begun, spent, sessions, _differences(store, run_id, settings["headline"])
    )


def _differences(store: Store, run_id: str, headline: dict[str, str]) -> tuple[float, ...]:
    rows = store.frame(
        "SELECT difference FROM pair_differences WHERE run_id = ?::UUID AND metric = ? AND technique = ? AND arm = ?",
        [run_id, headline["metric"], headline["technique"], headline["arm"]],
    )
    return tuple(rows["difference"].dropna().astype(float))


def _names(settings: dict[str, Any], technique: str) -> list[str]:
    arms = settings["arms"]
    return (
        [f"{arm['technique']}.{arm['arm']}" for arm in arms]
        if technique == "side-by-side"
        else [arm["arm"] for arm in arms]
    )


def _leave_if_stopped(run_id: str, ready: threading.Event) -> None:
    """Until the run itself listens: nothing has been asked or told yet, so the process may end at once."""
    while not ready.wait(STOP_POLL_S):
        if processes.stop_asked(run_id):
            with contextlib.suppress(OSError):
                processes.add_progress(
                    run_id,
                    {"kind": "ended", "status": "interrupted", "text": "Stopped by request."},
                )
            os._exit(CODES["interrupted"])


CODES = {"finished": 0, "interrupted": 130}


def main(arguments: list[str]) -> int:
    path = Path(arguments[0])
    given = json.loads(path.read_text())
    path.unlink()
    run_id, ready = given["run_id"], threading.Event()
    threading.Thread(target=_leave_if_stopped, args=(run_id, ready), daemon=True).start()
    try:
        for name in ("lab.harness.runner", "lab.store.store"):
            import_module(name)
        from lab.harness.plan import config_of

        config = config_of(**given["config"])
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
