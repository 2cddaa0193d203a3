"""Do two workers make the load of one, as truly? And what is left of a run that loses one of them?

    python bench/two_workers.py [--streams 32] [--runs 3]

A server whose emission times are known is asked by one loader with all streams and by two Dask
workers with half of them each, in turn. Milliseconds, medians of the runs: `bias` is a call's first
token less what the server took from having read the request to writing that token. Then one of two
workers is killed in the middle, and the run is held to what its server has seen.

Ends with 1 where a request is missing or made twice, where two workers are less true than one by
more than 0.5 ms at p95, or where the run with the lost worker does not name what is missing. Needs
the extra `distributed`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab import load_run
from lab.endpoints import consent
from lab.load import known
from lab.load.load_settings import load_config_of
from lab.store.store import Store

ROUNDS, TOKENS = 6, 64
MORE_MS = 0.5
KILLED_AFTER = 2
"""Rounds."""
CALLS = """
    SELECT calls.message_id, calls.first_token_ns - calls.started_ns AS ttft_ns, calls.error_kind
    FROM calls JOIN trials USING (run_id, trial_id)
    WHERE calls.run_id = ?::UUID AND trials.phase = 'load'
"""
LEVELS = "SELECT planned, not_begun FROM load_levels WHERE run_id = ?::UUID"


class Run(NamedTuple):
    asked: int
    """Requests that the server has seen, but for the warm-up's."""
    rows: int
    bias_ms: np.ndarray


def measured(url: str, db: str, streams: int, workers: int, heard=None) -> tuple[str, str]:
    """A run's id, and how it ended."""
    config = load_config_of(
        endpoint=url,
        models={"any": "known"},
        concurrency=[streams],
        requests=streams * ROUNDS,
        max_tokens=TOKENS,
        workers=workers,
        warmup=1,
        bias=False,
        db=db,
    )
    done = load_run.measure(config, heard)
    return done.run_id, done.status


def run(url: str, db: str, streams: int, workers: int) -> Run:
    forget(url)
    run_id, _ = measured(url, db, streams, workers)
    truth = known.truth(url)
    calls = Store(db).frame(CALLS, [run_id])
    took_ns = [truth[name]["written_ns"][0] - truth[name]["read_ns"] for name in calls.message_id]
    bias_ms = (calls["ttft_ns"].to_numpy(float) - took_ns) / 1e6
    return Run(len(truth) - workers, calls["message_id"].nunique(), bias_ms)


def forget(url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{url}/known", method="DELETE")).close()


def compared(url: str, db: str, streams: int, runs: int) -> bool:
    results: dict[int, list[Run]] = {1: [], 2: []}
    for _ in range(runs):
        for workers, known_runs in results.items():
            known_runs.append(run(url, db, streams, workers))
    print(f"{'workers':>8}{'asked':>8}{'rows':>8}{'p50':>8}{'p95':>8}{'p99':>8}")
    p95s, is_whole = [], True
    for workers, known_runs in results.items():
        at = [np.quantile(one.bias_ms, (0.5, 0.95, 0.99)) for one in known_runs]
        ends = np.median(at, axis=0)
        asked, rows = ({one[place] for one in known_runs} for place in (0, 1))
        is_whole &= asked == rows == {streams * ROUNDS}
        p95s.append(ends[1])
        counts = "".join(f"{'/'.join(map(str, sorted(each))):>8}" for each in (asked, rows))
        print(f"{workers:>8}{counts}" + "".join(f"{end:8.3f}" for end in ends), flush=True)
    return is_whole and p95s[1] <= p95s[0] + MORE_MS


def lost(url: str, db: str, streams: int) -> bool:
    """A worker is killed once a third of the load is done."""
    killed: list[int] = []
    notes: list[str] = []

    def kill(entry: dict) -> None:
        if entry["kind"] == "note":
            notes.append(entry["text"])
        if entry["kind"] == "load" and entry["done"] > KILLED_AFTER * streams and not killed:
            sessions = Store(db).frame("SELECT worker FROM sessions ORDER BY session_id DESC")
            loader = psutil.Process(int(sessions["worker"][0].rpartition(":")[2]))
            killed.append(loader.ppid())
            os.kill(killed[0], signal.SIGKILL)

    forget(url)
    run_id, status = measured(url, db, streams, 2, kill)
    levels = Store(db).frame(LEVELS, [run_id])
    rows = len(Store(db).frame(CALLS, [run_id]))
    asked, planned = len(known.truth(url)) - 2, int(levels["planned"].sum())
    missing = int(levels["not_begun"].sum())
    print(f"\none of two killed: {status}; {rows} rows of {planned}, {missing} missing")
    print(f"the server has seen {asked}: {asked - rows} of the missing ones were under way")
    print("\n".join(notes))
    is_named = any(f"{missing:,} requests" in note for note in notes)
    return status == "finished" and rows + missing == planned and is_named


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"LAB_SETTINGS": folder, "LAB_RUNTIME": folder, "LAB_IGNORE_KEYS": "1"}
        server = known.start()
        try:
            url = known.base_url(server)
            consent.allow(url, key=False)
            db = str(Path(folder) / "lab.duckdb")
            is_right = compared(url, db, options.streams, options.runs)
            return 0 if lost(url, db, options.streams) and is_right else 1
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
