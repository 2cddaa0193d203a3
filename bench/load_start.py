"""How long from the command to the first request? `main.py load` against a server that says when it
had read each.

    python bench/load_start.py [--runs 5]

Milliseconds from the start of the process to the first request that the server has read (of the
warm-up), with a database that is there already and with none yet; the median of the runs is checked
against the target. Each load is interrupted as soon as it has begun. Needs a machine that does
nothing else.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab import paths
from lab.clock import now_ns, pause_s
from lab.load import known

MOST_MS = 1500.0
POLL_S, PATIENCE_S = 0.05, 60
LOAD = ("--model", "M", "--concurrency", "64", "--requests", "448", "--max-tokens", "64", "--json")


def once(folder: Path, db: Path) -> float:
    """Of one load: ms from its start to its first request."""
    server = known.start()
    url = known.base_url(server)
    files = {"LAB_RUNTIME": str(folder / "runtime"), "LAB_SETTINGS": str(folder / "settings")}
    command = [sys.executable, "main.py", "load", "--endpoint", url, *LOAD, "--db", str(db)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    try:
        started_ns = now_ns()
        load = subprocess.Popen(
            command, cwd=paths.ROOT, env={**os.environ, **files, "LAB_IGNORE_KEYS": "1"}, **pipes
        )
        while not (answers := known.truth(url)) and load.poll() is None:
            if now_ns() - started_ns > PATIENCE_S * 1e9:
                break
            pause_s(POLL_S)
        load.send_signal(signal.SIGINT)
        _, said = load.communicate(timeout=PATIENCE_S)
    finally:
        server.kill()
        server.communicate()
    if not answers:
        raise SystemExit(f"The load sent nothing: {said.decode()[-500:]}")
    return (min(answer["read_ns"] for answer in answers.values()) - started_ns) / 1e6


def main() -> int:
    flags = argparse.ArgumentParser(description="From a load's command to its first request.")
    flags.add_argument("--runs", type=int, default=5)
    options = flags.parse_args()
    medians = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "runtime").mkdir(mode=0o700)
        once(folder, folder / "there.duckdb")  # makes it, and what Python compiles
        for which in ("there already", "none yet"):
            took_ms = []
            for number in range(options.runs):
                file = "there" if which == "there already" else f"new-{number}"
                took_ms.append(once(folder, folder / f"{file}.duckdb"))
            medians.append(statistics.median(took_ms))
            each = ", ".join(f"{value:,.0f}" for value in took_ms)
            print(f"database {which:<14} median {medians[-1]:>6,.0f} ms  ({each})", flush=True)
    late = max(medians) > MOST_MS
    print(f"At most {MOST_MS:,.0f} ms was {'not ' if late else ''}kept.")
    return late


if __name__ == "__main__":
    sys.exit(main())
