"""`python -m lab.recorder`: a recorder that a page has started. Its order comes on stdin, one line
of JSON goes to stdout once it listens; SIGTERM ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import Any

from lab import processes, recorder, scrub
from lab.model import LabError
from lab.recorder.serving import Order, Serving, lift_limits, run
from lab.recorder.upstream import Upstream


async def serve() -> int:
    words = json.load(sys.stdin)
    order = Order(**{**words, "upstream": Upstream(**words["upstream"])})

    def tell(entry: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a full runtime folder: the rows are kept all the same
            processes.add_progress(serving.run_id, entry)

    serving = Serving(order, tell)
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, serving.interrupt)
    try:
        await serving.open()
    except LabError as error:
        answer({"text": scrub.text(str(error), scrub.MESSAGE)})
        return 1
    lift_limits()
    card = recorder.card_of(serving.run_id, serving.port, order.upstream, order.keep_text)
    with recorder.announced(card):
        answer({"run_id": serving.run_id})
        await serving.asked_to_end.wait()
        await serving.close()
    return 0


def answer(words: dict[str, Any]) -> None:
    """Whoever started it waits for this one line."""
    with contextlib.suppress(OSError):
        print(json.dumps(words), flush=True)
        # No pipe of another process may end this one.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(run(serve))
