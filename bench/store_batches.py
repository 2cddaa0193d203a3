"""python -m bench.store_batches: ten million events of a load, read and written as a run does it.

    python -m bench.store_batches [--events 10000000] [--db FILE]

Frames as the loader hands them on are read (lab/load/reading.py), taken as Arrow batches, kept on
disk and taken into DuckDB. One run has 50,000 requests in five levels, the others 1,000 each.
Prints rows a second, CPU, memory and size, and the milliseconds of each summary of the largest run:
the median of five, opening the file included. Exit 1 where the writing takes more than two minutes,
or a summary more than half a second.
"""

from __future__ import annotations

import argparse
import array
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.store_at_scale import timed
from lab import clock
from lab.load.call_frame import CallFrame
from lab.load.reading import Reader
from lab.model import LOAD, new_id
from lab.rows import LoadLevelRow, RunRow, SessionRow
from lab.store import load_queries, queries
from lab.store.store import Store

TOKENS, EVENTS = 64, 69
LARGEST, USUAL = 50_000, 1_000
STREAMS = (16, 64, 128, 256, 512)
KEPT, MOST_KEPT = 750, 64_000_000
"""Calls in a batch, about five seconds' at 128 streams; bytes that wait for the database."""
MS = 1_000_000
WITHIN_S, SUMMARY_MS = 120, 500


def answer(number: int) -> tuple[bytes, array.array]:
    """The bytes of an answer, and where each of its events ends."""
    usage = {"input_tokens": 40, "cache_read_input_tokens": 0, "output_tokens": 1}
    message = {"id": f"msg_{number:020}", "role": "assistant", "model": "m", "usage": usage}
    delta = {"type": "content_block_delta", "index": 0}
    told = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({**delta, "delta": {"type": "text_delta", "text": f"word{n} "}} for n in range(TOKENS)),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": TOKENS},
        },
        {"type": "message_stop"},
    ]
    written = [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in told]
    return b"".join(written), array.array("I", np.cumsum(list(map(len, written))).tolist())


def frames(calls: int, dice: random.Random) -> Iterator[CallFrame]:
    """First tokens after 200 to 210 ms, gaps of 10 ms with some noise; one in 200 fails."""
    answers = [answer(number) for number in range(50)]
    noise = np.random.default_rng(7).normal(0, 0.1 * MS, (50, EVENTS)).astype(np.int64)
    usual = np.array([0, 0, *range(TOKENS), *[TOKENS] * 3], np.int64) * 10 * MS
    headers = {"content-type": "text/event-stream", "request-id": ""}
    of_level = calls // len(STREAMS)
    for number in range(calls):
        level, request = divmod(number, of_level)
        started = number * 6 * MS
        first = started + dice.randrange(200 * MS, 210 * MS)
        call = CallFrame(
            min(level, len(STREAMS) - 1) + 1, request, request, 0, 0, 1, started,
            started + 100_000, None, None, None, started + 150_000, first - MS, first + 660 * MS,
            True, 200, {**headers, "request-id": f"req_{number}"},
        )  # fmt: skip
        if number % 200 == 7:
            call.status, call.headers = 529, {"content-type": "application/json"}
            call.body = b'{"type":"error","error":{"type":"overloaded_error","message":"Busy."}}'
            call.at_ns.append(first)
            call.ends.append(len(call.body))
        else:
            call.body, call.ends = answers[number % 50]
            at = first + usual + noise[number % 50]
            call.at_ns = array.array("q", np.sort(at).tobytes())
        yield call


def write(store: Store, calls: int, dice: random.Random) -> str:
    """One run of so many calls; its id."""
    run_id, session_id, began = new_id(), new_id(), clock.utc_now()
    settings = {"config": {"concurrency": list(STREAMS), "slo": ["p95 ttft_ms < 800"]}}
    run = RunRow(
        run_id, LOAD, "local", "simulated", {"any": "m"}, settings, 7, "finished", False, began
    )
    store.write_run(run)
    store.write_session(SessionRow(session_id, run_id, "w", "h", began, "0", None, {}, {}))
    reader = Reader(
        *(run_id, session_id, "local", "simulated", [{"model": "m", "max_tokens": TOKENS}]),
        origin_ns=0,
        origin_utc=began,
    )
    for number, streams in enumerate(STREAMS):
        span = calls // len(STREAMS) * 6 * MS
        level = LoadLevelRow(
            *(run_id, session_id, number + 1, f"{streams} streams", "closed", float(streams)),
            *(number * span, (number + 1) * span, calls // len(STREAMS), 0, None, {}),
        )
        store.write_level(level)
    for frame in frames(calls, dice):
        reader.read(frame, f"{STREAMS[frame.level - 1]} streams")
        if len(reader) >= KEPT:
            store.keep_batch(reader.take())
            if store.kept_bytes > MOST_KEPT:
                store.write_batch()
    store.write_batch(reader.take())
    return run_id


def rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def fill(store: Store, events: int) -> tuple[str, float]:
    """The largest run's id, and the seconds that all of it took."""
    dice, calls = random.Random(7), events // EVENTS
    began, worked, before = time.perf_counter(), time.process_time(), rss_mb()
    largest = write(store, min(LARGEST, calls), dice)
    print(f"{'memory after the largest run':32}{rss_mb() - before:9.0f} MB more than before")
    for _ in range(max(0, calls - LARGEST) // USUAL):
        write(store, USUAL, dice)
    took, cpu = time.perf_counter() - began, time.process_time() - worked
    rows = queries.row_counts(store)
    size = store.path.stat().st_size / 1e6
    print(f"{'rows':32}{rows['events']:,} events, {rows['calls']:,} calls")
    print(f"{'all of it':32}{took:9.1f} s, {rows['events'] / took:,.0f} events a second")
    print(f"{'CPU':32}{cpu / rows['events'] * 1e6:9.2f} µs an event")
    print(f"{'memory at the end':32}{rss_mb() - before:9.0f} MB more than before")
    print(f"{'size':32}{size:9.0f} MB, {size * 1e6 / rows['events']:.1f} bytes an event")
    return largest, took


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--events", type=int, default=10_000_000)
    options.add_argument("--db", help="where to put the rows; without it a temporary database")
    asked = options.parse_args()
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(asked.db or Path(folder) / "lab.duckdb")
        largest, took = fill(store, asked.events)
        missed += ["all of it"] * (took > WITHIN_S)
        for name, ask in {
            "levels": lambda: load_queries.levels(store, largest),
            "calls": lambda: load_queries.calls(store, largest),
            "gaps": lambda: load_queries.gaps(store, largest),
            "runs": lambda: queries.runs(store),
        }.items():
            ms = timed(ask)
            missed += [name] * (ms > SUMMARY_MS)
            print(f"{name:32}{ms:9.0f} ms")
    print(f"Missed: {', '.join(missed)}." if missed else "Nothing missed.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
