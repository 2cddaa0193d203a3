"""The demo agent through the recorder, for people who have no application at hand: `record` with
the embedded model and a mistake that breaks the cache, in a process that ends by itself."""

from __future__ import annotations

import os
import subprocess
import sys

from lab import clock, endpoint_kinds, paths, recorder
from lab.local import model_files
from lab.model import LabError

AGENT = "bench/demo_agent/agent.py"
NAME = "Demo agent"
MISTAKE = "time"
WORK = ("--questions", "4", "--break", MISTAKE)
START_S = 60.0
"""In which its model's server and its recorder are up."""


def arguments() -> list[str]:
    """What follows the command `record`."""
    kind = endpoint_kinds.LOCAL if model_files.source() else endpoint_kinds.SIMULATED
    agent = [sys.executable, str(paths.shipped(AGENT)), *WORK]
    return ["record", "--upstream", kind, "--keep-text", "--name", NAME, "--", *agent]


def start() -> recorder.Card:
    """Raises LabError where it does not begin to record."""
    known = {card.run_id for card in recorder.cards()}
    log = recorder.folder() / "demo.log"
    # As paths.module: an installed lab never takes modules of the folder that one stands in.
    python = [sys.executable, *(["-P"] if paths.INSTALLED else [])]
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        process = subprocess.Popen(
            [*python, "-c", "from lab.cli import main; main()", *arguments()],
            cwd=paths.home(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    until_ns = clock.now_ns() + int(START_S * 1e9)
    while process.poll() is None and clock.now_ns() < until_ns:
        for card in recorder.cards():
            if card.run_id not in known:
                return card
        clock.pause_s(0.05)
    raise LabError(f"The demo agent did not start; its log is {log}.")
