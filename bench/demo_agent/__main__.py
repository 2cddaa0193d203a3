"""Plants every cause of a miss in the demo agent, in random order between calls with none, records
it in a process of its own, and prints what was named: `python -m bench.demo_agent`. Ctrl-C or
SIGTERM ends it after the plant under way, and what was run until then is told; a second one ends it
at once."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

from bench.demo_agent.planted import SHIFT_S
from bench.demo_agent.served import EMPTY
from lab import clock, recordings
from lab.recording.facts import CAUSES, NO_FAULT, Miss
from lab.store.store import Store

ROOT = Path(__file__).parents[2]
PLANTED = [cause for cause in CAUSES if cause != NO_FAULT]


def recorded(folder: Path, kind: str, plan: list[str], seed: int) -> int:
    """Fills lab.duckdb, and truth.jsonl with what was planted in each call; the agent's exit code:
    0 where the whole plan was run."""
    flags = (
        ["--simulated", "--knobs", '{"queue_ms": 80, "thinking_tokens": 2}']
        if kind == "simulated"
        else []
    )
    environment = os.environ | {
        EMPTY: str(folder / "empty"),
        "LAB_DB": str(folder / "lab.duckdb"),
        "LAB_RUNTIME": str(folder / "run"),
        "LAB_SETTINGS": str(folder / "settings"),
        "LAB_IGNORE_KEYS": "1",
    }
    (folder / "run").mkdir(mode=0o700)
    (folder / "plan.json").write_text(
        json.dumps({"seed": seed, "causes": plan, "short": kind == "local"})
    )
    with subprocess.Popen(
        [sys.executable, "-m", "bench.demo_agent.served", *flags],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        start_new_session=True,  # Ctrl-C is this process's; it ends the others in their order
    ) as server:
        try:
            card = json.loads(server.stdout.readline())
            key = {"ANTHROPIC_API_KEY": card["api_key"]}
            agent = [sys.executable, "-m", "bench.demo_agent.planted", str(folder / "plan.json")]
            record = [sys.executable, "main.py", "record", "--upstream", card["base_url"]]
            with (
                (folder / "truth.jsonl").open("w") as truth,
                subprocess.Popen(
                    [*record, "--", *agent],
                    stdout=truth,
                    cwd=ROOT,
                    env=environment | key,
                    start_new_session=True,
                ) as recorder,
            ):
                try:
                    return recorder.wait()
                except KeyboardInterrupt:
                    recorder.terminate()  # passed on to the agent, which ends after its plant
                    return recorder.wait()
        finally:
            server.terminate()


def truths_of(folder: Path) -> dict[str, dict]:
    """By request id."""
    lines = (folder / "truth.jsonl").read_text().splitlines()
    truths = [json.loads(line) for line in lines if line.startswith("{")]
    return {truth["request_id"]: truth for truth in truths}


def shifted(recording: recordings.Recording, truths: dict[str, dict]) -> recordings.Recording:
    """Pauses that nobody waited for are put into the recording's clock, the wall's too."""
    calls, pause_s, shifts = recording.calls, 0.0, []
    for request_id in calls["request_id"]:
        pause_s += truths.get(request_id, {}).get("shift_s", 0)
        shifts.append(pause_s)
    calls["started_ms"] += [1000 * shift for shift in shifts]
    return recording


def table(recording: recordings.Recording, truths: dict[str, dict]) -> tuple[list[tuple], list]:
    """By cause: planted, named right, named wrong, not named; and the calls told wrongly."""
    named: dict[str, Miss] = {
        miss.call_id: miss for miss in recording.misses if miss.cause != NO_FAULT
    }
    rows, wrong = Counter(), []
    for call in recording.calls.itertuples():
        truth = truths.get(call.request_id)
        if truth is None:
            continue
        cause, miss = truth["cause"], named.get(call.call_id)
        told = miss.cause if miss else None
        rows[cause, "planted"] += 1
        result = (
            "right" if told == cause else "not named" if told in (None, "not_known") else "wrong"
        )
        rows[cause, result] += 1
        if told != cause:
            wrong.append((cause, told, miss and miss.evidence))
    results = ("planted", "right", "wrong", "not named")
    causes = [*PLANTED, None]
    return [(cause, *(rows[cause, result] for result in results)) for cause in causes], wrong


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--each", type=int, default=20, help="how often each cause is planted")
    flags.add_argument("--clean", type=int, default=200, help="calls with none")
    flags.add_argument("--kind", choices=("local", "simulated"), default="local")
    flags.add_argument("--seed", type=int, default=13)
    flags.add_argument("--keep", type=Path, help="a new folder to keep the recording in")
    given = flags.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = PLANTED * given.each + ["none"] * (given.clean // 10)
    random.Random(given.seed).shuffle(plan)
    begun_ns = clock.now_ns()
    with tempfile.TemporaryDirectory(prefix="demo-") as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        try:
            code = recorded(folder, given.kind, plan, given.seed)
        except KeyboardInterrupt:
            print("Ended at once: nothing is told.")
            return 1
        took_s = (clock.now_ns() - begun_ns) / 1e9
        truths = truths_of(folder)
        if not truths:
            print("Ended before its first call: there is nothing to tell.")
            return 1
        with closing(Store(folder / "lab.duckdb")) as store:
            (run_id,) = store.frame("SELECT run_id FROM runs")["run_id"]
            recording = shifted(recordings.read(store, str(run_id)), truths)
        begun_ns = clock.now_ns()
        rows, wrong = table(recording, truths)
        judged_s = (clock.now_ns() - begun_ns) / 1e9
    print(f"{'cause':<20} {'planted':>8} {'right':>6} {'wrong':>6} {'not named':>10}")
    for cause, planted, right, bad, silent in rows:
        if cause is None:
            print(f"{'(none planted)':<20} {planted:>8} {right:>6} {planted - right:>6} {'':>10}")
        else:
            print(f"{cause:<20} {planted:>8} {right:>6} {bad:>6} {silent:>10}")
    for cause, told, evidence in wrong[:40]:
        print(f"  planted {cause}, told {told}: {evidence}")
    print(
        f"{len(recording.calls):,} calls of the {given.kind} server in {took_s:.0f} s, judged in"
        f" {judged_s:.1f} s. Expired: the cache was emptied and {SHIFT_S} s put into the"
        " recording's clock; not_known: emptied, and nothing else."
    )
    if code:
        print("Ended early: what is above was run, the rest of the plan was not.")
    return 1 if wrong or code else 0


if __name__ == "__main__":
    sys.exit(main())
