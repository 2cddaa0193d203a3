"""How true are the times of a load? The loader against a server whose emission times are known,
each on a core of its own, beside what the loader costs.

    python bench/load_accuracy.py [--streams 16 64 128 256 512] [--runs 3]

Milliseconds, medians of the runs. `from call` is a call's first token less what the server took
from having read the request to writing that token; `from sent` leaves out what came before the
request had left. `gap` is the error of each gap between two tokens, `server` how late the server
itself wrote. CPU is seconds per 1,000 tokens: of the loading process while it loads, and `all` of
it from its start, and of the coordinator that reads every call into rows meanwhile, on the same
core.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab.clock import utc_now
from lab.load import bias, known
from lab.load.loading import Loader
from lab.load.reading import Reader
from lab.model import new_id

ROUNDS, TOKENS, SPREAD_S = 6, 64, 0.2
P95_MS, P95_MOST_MS = 0.5, 1.0
GAP_MS = {64: 0.05, 512: 0.15}
CPU_S, RSS_MB = {64: 0.025}, {512: 120.0}
COLUMNS = (
    "call p50", "p95", "p99", "sent p50", "p95", "p99", "gap mean", "p95", "server p95", "lost",
    "CPU", "all", "RSS MB",
)  # fmt: skip


async def measure(streams: int, cores: list[int]) -> list[float]:
    """One run, as COLUMNS."""
    server, loader = known.start(core=cores[-1] if len(cores) > 1 else None), Loader()
    try:
        url = known.base_url(server)
        worked_s = time.process_time()
        await loader.start()
        pin(loader.process.pid, cores[0])
        reader = Reader(
            new_id(), new_id(), "known", "simulated", [{"model": "known"}] * 2,
            origin_ns=loader.ready["now_ns"], origin_utc=utc_now(),
        )  # fmt: skip
        calls, end = await bias.play(loader, url, streams, ROUNDS, TOKENS, SPREAD_S, reader.read)
        times = psutil.Process(loader.process.pid).cpu_times()
        reader.take()
        all_s = time.process_time() - worked_s + times.user + times.system
        truth = bias.measured(known.truth(url))
    finally:
        await loader.close()
        server.kill()
        server.wait()
    errors = bias.errors(calls, truth, known.Pace().gap_ms)
    quantiles = [*errors.ttft.percentiles(50, 95, 99).values()]
    quantiles += errors.ttft_sent.percentiles(50, 95, 99).values()
    thousands = len(calls) * TOKENS / 1000
    cpu_s = end.client["cpu_share"] * (end.ended_ns - end.started_ns) / 1e9
    return [
        *quantiles,
        statistics.fmean(errors.gap.values),
        errors.gap.percentile(95),
        errors.late.percentile(95),
        errors.lost,
        cpu_s / thousands,
        all_s / thousands,
        end.client["rss_mb"],
    ]


def pin(process: int, core: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process, {core})


def missed(streams: int, row: list[float]) -> list[str]:
    """Each target that this row does not keep."""
    kept = {
        "p95 from the call": (row[1], P95_MS if streams <= 256 else P95_MOST_MS),
        "mean error of a gap": (row[6], GAP_MS.get(streams)),
        "events lost": (row[9], 0),
        "CPU": (row[10], CPU_S.get(streams)),
        "CPU of all": (row[11], CPU_S.get(streams)),
        "RSS": (row[12], RSS_MB.get(streams)),
    }
    return [
        f"{streams} streams: {name} is {value:.3f}, not {most} at most"
        for name, (value, most) in kept.items()
        if most is not None and value > most
    ]


def main() -> int:
    flags = argparse.ArgumentParser(description="The loader's times against a server's own.")
    flags.add_argument("--streams", type=int, nargs="+", default=[16, 64, 128, 256, 512])
    flags.add_argument("--runs", type=int, default=3)
    options = flags.parse_args()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    pin(0, cores[0])
    with suppress(AttributeError, OSError):
        # As in a run: whoever reads gives way to the loader at once; the loader itself does not.
        policy = os.SCHED_IDLE | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(0))
    print(
        f"Server on core {cores[-1]}, loader and reader on core {cores[0]}; medians of"
        f" {options.runs}, n = {ROUNDS} x streams, {TOKENS} tokens 10 ms apart."
    )
    print(f"{'streams':>7} " + " ".join(f"{name:>10}" for name in COLUMNS))
    wrong = []
    for streams in options.streams:
        runs = [asyncio.run(measure(streams, cores)) for _ in range(options.runs)]
        row = [statistics.median(values) for values in zip(*runs, strict=True)]
        print(f"{streams:>7} " + " ".join(f"{value:>10.3f}" for value in row), flush=True)
        wrong += missed(streams, row)
    print("\n".join(wrong) or "Every target was kept.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
