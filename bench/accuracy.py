"""How true is a TTFT of the lab? The harness against the simulated server's own emission times,
each process on a core of its own.

    python bench/accuracy.py [--calls 200] [--streams 1 16]

Two errors, in milliseconds. `from sent`: first token minus bytes sent, against what the server took
from having read the request to having written its first token. `from call` adds all that the client
did before the bytes left. The parts of the first are `request way`, from the client's last write to
the server's having read it, and `token way`, from the server's write to the client's stamp.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab.clock import now_ns, sleep_s
from lab.endpoints.registry import Endpoint
from lab.harness.bench import TrialBench
from lab.harness.session import Session
from lab.instrumentation.stamps import OBSERVER
from lab.instrumentation.timing import LatencyCollector
from lab.local.control import Control
from lab.model import Request, new_id
from lab.rows import TrialRow

BODY = {
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Tell me about the harbour in a few plain words."}],
}
TARGETS = {"from sent": 1.0, "from call": 3.0}


async def measure(
    endpoint: Endpoint, control: Control, streams: int, calls: int
) -> dict[str, LatencyCollector]:
    session = Session(new_id(), endpoint, keep_text=False, timeout_s=30)
    await session.open({"small": endpoint.models["small"]})
    rng = random.Random(1)
    benches: list[TrialBench] = []

    async def stream() -> None:
        await sleep_s(rng.random() * 0.2)  # users do not press their keys together
        for _ in range(calls // streams):
            row = TrialRow(
                new_id(),
                session.run_id,
                session.id,
                "accuracy",
                "streamed",
                1,
                0,
                1,
                "measured",
                None,
                None,
                now_ns(),
            )
            bench = TrialBench(session, row, "[trial 0000000000000000] ")
            OBSERVER.set(bench.observe)
            await bench.call(Request(BODY))
            benches.append(bench)
            await sleep_s(rng.random() * 0.02)

    async with asyncio.TaskGroup() as warm:
        for _ in range(streams):
            warm.create_task(
                session.client_of(endpoint).messages.create(model=endpoint.models["small"], **BODY)
            )
    gc.collect()
    gc.disable()
    async with asyncio.TaskGroup() as group:
        for _ in range(streams):
            group.create_task(stream())
    gc.enable()
    truths = {truth["request_id"]: truth for truth in control.truth()}
    errors = {name: LatencyCollector() for name in (*TARGETS, "request way", "token way")}
    for bench in benches:
        (call,) = bench.calls
        truth = truths[call.exchange.headers["request-id"]]
        written_ns = next(event["at_ns"] for event in truth["events"] if "delta" in event["kind"])
        took_ns = written_ns - truth["received_ns"]
        errors["from sent"].add(
            ((call.reading.first_text_ns - call.exchange.sent_ns) - took_ns) / 1e6
        )
        errors["request way"].add((truth["received_ns"] - call.exchange.sent_ns) / 1e6)
        errors["token way"].add((call.reading.first_text_ns - written_ns) / 1e6)
        errors["from call"].add(
            ((call.reading.first_text_ns - call.intent.started_ns) - took_ns) / 1e6
        )
    await session.close()
    return errors


def pin(cores: set[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def main() -> int:
    flags = argparse.ArgumentParser(
        description="TTFT of the harness against the simulated server's truth."
    )
    flags.add_argument("--calls", type=int, default=320, help="calls at each number of streams")
    flags.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    options = flags.parse_args()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    apart = len(cores) > 1
    command = [sys.executable, "-m", "lab.local", "--simulated", "--port", "0"]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: pin({cores[-1]})
    )
    try:
        card = json.loads(server.stdout.readline())
        pin({cores[0]})
        endpoint = Endpoint(
            "simulated", "simulated", card["base_url"], card["api_key"], card["models"], "small"
        )
        control = Control(card["base_url"], card["api_key"])
        control.knobs(answer_tokens=20, gap_ms=5)
        import uvloop

        print(f"Milliseconds; server on core {cores[-1]}, client on core {cores[0]}.")
        print(f"{'streams':>8} {'clock':>12} {'n':>5} {'p50':>7} {'p95':>7} {'p99':>7}  target p95")
        held = True
        for streams in options.streams:
            errors = uvloop.run(measure(endpoint, control, streams, options.calls))
            for name, found in errors.items():
                p50, p95, p99 = found.percentiles(50, 95, 99).values()
                target = TARGETS.get(name)
                judged = (
                    ""
                    if target is None
                    else f"{target:.1f} {'held' if p95 <= target else 'missed'}"
                )
                held &= target is None or p95 <= target
                print(
                    f"{streams:>8} {name:>12} {len(found):>5} {p50:>7.3f} {p95:>7.3f} {p99:>7.3f} "
                    f" {judged}"
                )
        if not apart:
            print("One core only: server and client disturbed each other.")
        return 0 if held else 1
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    sys.exit(main())
