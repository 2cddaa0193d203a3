"""The lab's own server for the bench, whose cache can be emptied from outside by a file, and whose
embedded model lets effort, thinking and speed pass: it does not heed them, its cache's key does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lab import machine
from lab.local import __main__ as served
from lab.local.ledger import Ledger

EMPTY = "DEMO_AGENT_EMPTY"
"""The variable with the file's path."""


class Emptied(Ledger):
    def plan(self, prompt, ends, started_ns):
        file = Path(os.environ[EMPTY])
        if file.exists():
            self.clear()
            file.unlink()
        return super().plan(prompt, ends, started_ns)


def engine_for(flags):
    # Threads that wait for each other take ten times as long where others use the cores too, and
    # no time is measured here.
    machine.physical_cores = lambda: 1
    engine = made(flags)
    engine.ledger.__class__ = Emptied
    engine.abilities = engine.abilities._replace(thinking=True, effort=True, fast=True)
    return engine


made, served.engine_for = served.engine_for, engine_for

if __name__ == "__main__":
    sys.exit(served.main())
