"""`python -m lab.watch`: a watch that a page has started. Its order comes on stdin; one line of
JSON goes to stdout once it is kept. A stop file or SIGTERM ends it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

from lab import machine, processes, run_loop, scrub
from lab.model import LabError
from lab.watch import watch_order, watching


def main() -> int:
    machine.start_quickly()
    words = json.load(sys.stdin)
    run_id = words["run_id"]

    def hear(entry: dict[str, Any]) -> None:
        if entry["kind"] in ("started", "ended"):
            answer({"kind": entry["kind"]})

    try:
        order = watch_order.named(run_id, words.get("db"))
        if order is None:
            raise LabError("What this watch was to ask is gone. Begin it again.")
        measured, _ = watching.keep(order, hear)
    except LabError as error:
        text = scrub.text(str(error), scrub.MESSAGE)
        with contextlib.suppress(OSError):
            entry = {"kind": "ended", "status": "failed", "text": text}
            processes.add_progress(run_id, entry)
        print(text, file=sys.stderr)
        answer({"kind": "ended"})
        return 1
    if run_loop.LEFT:
        os._exit(0)
    return 0 if measured.status != "failed" else 1


def answer(words: dict[str, Any]) -> None:
    """Whoever started it waits for the first line; no pipe of another process may end this one."""
    with contextlib.suppress(OSError, ValueError):
        print(json.dumps(words), flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
