"""Is what the way to a server costs found, and what it holds back named? `python -m bench.the_path
[--blocks 60] [--runs 20] [--streams 1000] [--seed 15]`.

Three parts, each by the technique `connection` on the simulated server, through a gateway
(bench/gateway.py) on a port and in a process of its own:

  a TLS handshake that takes 40 ms longer: a new connection costs what the gateway itself has
  measured, a kept or a pre-opened one nothing
  planted buffers of 4, 8 and 16 KiB: each is named with its size in the run's notes; and from how
  much text on
  unbuffered streams, of all speeds and lengths, with jitter, heavy tails and packets that come
  together: none is suspected

Ends with 1 where one of these did not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench import gateway
from bench.ground import Ground

HANDSHAKE_MS = 40
NEAR_MS = 2.0
"""What an estimate may miss beside its interval: a timer's lateness."""
SIZES_KIB = (4, 8, 16)
LENGTHS = (6, 12, 24, 48, 96, 144, 200, 300, 400)
"""Tokens of an answer, each some 122 bytes on the wire."""
BLOCKS = 25


class Outcome(NamedTuple):
    """One run's outcome."""

    notes: list[str]
    arrivals: Any
    waits: Any


def run(endpoint: str, blocks: int, tokens: int, through: str = "") -> Outcome:
    """One run of the technique in this process; `through` is the gateway's address."""
    from lab import results
    from lab.endpoints import consent
    from lab.harness.runner import BenchmarkRunner
    from lab.settings import config_of
    from lab.store import queries
    from lab.store.store import Store

    for url in filter(None, (endpoint, through)):
        consent.allow(url, key=False)
    knobs = {"gateway": through, "pause_s": 0, "answer_tokens": tokens}
    models = {"small": "simulated-small", "large": "simulated-large"}
    config = config_of(
        technique="connection",
        endpoint=endpoint,
        models=models,
        runs=blocks,
        warmup=0,
        knobs=knobs,
        max_usd=50.0,
    )
    store = Store()
    asyncio.run(BenchmarkRunner(config, store).run())
    run_id = queries.last_run_id(store)
    trials = queries.trials(store, run_id)
    waits = trials[trials["counts"]].pivot_table(index="block", columns="arm", values="wait_ms")
    arrivals = queries.text_arrivals(store, run_id)
    return Outcome(results.read(run_id, store).notes, arrivals, waits)


def handshakes(url: str, key: str, blocks: int) -> int:
    """Returns how many of the three differences were missed. Held against a gateway that plants
    nothing, so that what TLS itself takes on this machine is no part of it."""
    from lab.stats import shift

    folder = Path(tempfile.mkdtemp(prefix="lab-path-"))
    pem = gateway.certificate(folder)
    os.environ["SSL_CERT_FILE"] = str(pem)
    waits, took = {}, {}
    for planted_ms in (0, HANDSHAKE_MS):
        with gateway.beside(url, handshake_ms=planted_ms, certificate=pem) as (secured, opening_ms):
            os.environ["LAB_API_KEYS"] = json.dumps({secured: key})
            waits[planted_ms] = run(secured, blocks, tokens=8).waits.dropna()
        took[planted_ms] = median(opening_ms)
    truth = took[HANDSHAKE_MS] - took[0]
    print(f"\na handshake of {HANDSHAKE_MS} ms more; by the gateway's own clock {truth:.1f} ms")
    wrong = 0
    pairs = (("new", "kept", truth), ("new", "pre-opened", truth), ("pre-opened", "kept", 0.0))
    for one, other, planted in pairs:
        without, planted_there = (each[one] - each[other] for each in waits.values())
        found = shift(without, planted_there)
        is_right = found.low - NEAR_MS <= planted <= found.high + NEAR_MS
        wrong += not is_right
        print(
            f"{one} - {other}: {found.estimate:+.1f} ms [{found.low:+.1f}, {found.high:+.1f}] more"
            f" than without, planted {planted:.1f}, n = {found.n}:"
            f" {'right' if is_right else 'WRONG'}",
            flush=True,
        )
    return wrong


def knobs(rng: random.Random, tokens: int, gap_ms: float, **more: Any) -> dict[str, Any]:
    own = {"queue_ms": 40, "gap_ms": gap_ms, "answer_tokens": tokens, "prefill_ms_per_token": 0.02}
    return own | {"seed": rng.randrange(10**6)} | more


def buffers(control: Any, rng: random.Random, runs: int) -> int:
    """Returns how many runs were not named, or not rightly."""
    print(f"\n{'buffer':<10} {'runs':>5} {'named with its size':>20} {'without':>8} {'not':>5}")
    missed = 0
    for kib in SIZES_KIB:
        outcomes: Counter[str] = Counter()
        with gateway.beside(control.base_url, buffer=kib * 1024) as (through, _):
            for _ in range(runs):
                tokens = rng.choice([n for n in LENGTHS if n * 122 > 1.2 * kib * 1024])
                control.reset()
                control.knobs(**knobs(rng, tokens, rng.choice((1, 2, 4))))
                outcomes[named(run(control.base_url, 3, tokens, through), kib, through)] += 1
        missed += runs - outcomes["size"]
        print(
            f"{kib:>2} KiB     {runs:>5} {outcomes['size']:>20} {outcomes['held']:>8}"
            f" {outcomes['no'] + outcomes['wrong']:>5}",
            flush=True,
        )
    return missed


def named(outcome: Outcome, kib: int, through: str) -> str:
    notes = [note for note in outcome.notes if "held back the stream" in note]
    if len(notes) > 1 or (notes and not notes[0].startswith(through)):
        return "wrong"
    if not notes:
        return "no"
    if "in pieces of about" in notes[0]:
        return "size" if f"about {kib} KiB" in notes[0] else "wrong"
    return "held"


def lengths(control: Any, rng: random.Random) -> None:
    """From how much text on a buffer is seen, and its size."""
    print("\nwhat a run of 3 blocks says, by the length of its answers")
    print(f"{'tokens':>7}" + "".join(f"{f'{kib} KiB':>10}" for kib in SIZES_KIB))
    words = {"size": "its size", "held": "held back", "no": "-", "wrong": "WRONG"}
    rows: dict[int, list[str]] = {tokens: [] for tokens in LENGTHS}
    for kib in SIZES_KIB:
        with gateway.beside(control.base_url, buffer=kib * 1024) as (through, _):
            for tokens in LENGTHS:
                control.reset()
                control.knobs(**knobs(rng, tokens, 2))
                told = named(run(control.base_url, 3, tokens, through), kib, through)
                rows[tokens].append(words[told])
    for tokens, told in rows.items():
        print(f"{tokens:>7}" + "".join(f"{word:>10}" for word in told), flush=True)


def unbuffered(control: Any, rng: random.Random, streams: int) -> int:
    """Returns how many runs had an alarm."""
    from lab.stats import bursts

    print(
        f"\nunbuffered\n{'packets':<24} {'streams':>8} {'suspected':>10} {'too short':>10} alarms"
    )
    alarms = 0
    ways = {"as they come": {}, "together for 3 ms": {"flush_ms": 3}, "for 8 ms": {"flush_ms": 8}}
    for words, options in ways.items():
        count: Counter[str] = Counter()
        with gateway.beside(control.base_url, **options) as (through, _):
            for kind in kinds(rng, -(-streams // len(ways) // (2 * BLOCKS))):
                control.reset()
                control.knobs(**kind)
                outcome = run(control.base_url, BLOCKS, kind["answer_tokens"], through)
                each = bursts.of_calls(outcome.arrivals)
                count["streams"] += len(each)
                count["held"] += sum(bool(stream.held) for stream in each)
                count["short"] += sum(stream.held is None for stream in each)
                if held := [note for note in outcome.notes if "held back the stream" in note]:
                    count["alarms"] += 1
                    print(f"alarm: {kind}: {held[0]}", file=sys.stderr)
        alarms += count["alarms"]
        print(
            f"{words:<24} {count['streams']:>8} {count['held']:>10} {count['short']:>10}"
            f" {count['alarms']:>6}",
            flush=True,
        )
    return alarms


def kinds(rng: random.Random, n: int) -> Iterator[dict[str, Any]]:
    """Unbuffered streams of n kinds: slow ones are short, or the bench would take an hour."""
    for _ in range(n):
        gap_ms = rng.choice((0.3, 0.5, 1, 2, 4, 8, 16))
        tokens = rng.choice((3, 8, 12, 32, 80, 160) if gap_ms < 4 else (3, 8, 16, 32))
        jitter, tail = rng.choice((0.15, 0.6, 1.0)), rng.choice((0.02, 0.2))
        yield knobs(rng, tokens, gap_ms, jitter=jitter, tail=tail)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=60, help="of the handshake's run; 0: none")
    parser.add_argument("--runs", type=int, default=20, help="for each size of buffer; 0: none")
    parser.add_argument("--streams", type=int, default=1000, help="unbuffered; 0: none")
    parser.add_argument("--seed", type=int, default=15, help="of lengths, speeds and words")
    arguments = parser.parse_args()
    ground = Ground()
    os.environ.update(
        {name: value for name, value in ground.environment.items() if name.startswith("LAB_")}
    )
    os.environ.pop("LAB_IGNORE_KEYS", None)
    from lab import endpoint_kinds, processes
    from lab.local.control import Control

    rng = random.Random(arguments.seed)
    wrong = 0
    try:
        card = processes.local_server(endpoint_kinds.SIMULATED)
        os.environ["LAB_LOCAL_KEY"] = card.api_key
        control = Control(card.base_url, card.api_key)
        if arguments.blocks:
            control.knobs(**knobs(rng, 8, 1))
            wrong += handshakes(card.base_url, card.api_key, arguments.blocks)
        if arguments.runs:
            wrong += buffers(control, rng, arguments.runs)
            lengths(control, rng)
        if arguments.streams:
            wrong += unbuffered(control, rng, arguments.streams)
    finally:
        ground.close()
    print(f"\n{wrong} wrong" if wrong else "\nall right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
