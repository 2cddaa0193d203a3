"""Does a planted slope come back? `python -m bench.conversation_slope [--seeds 4] [--blocks 10]
[--noise 0.05] [--local]` (two cores: some six minutes; with --local the embedded model instead,
some five).

The simulated server takes so many milliseconds for each token that it reads, and a tenth of that
for one from its cache; the technique `conversation` is run over sockets as anybody would run it.
Printed are each arm's slope beside the planted one, how far the mean of all runs is from it, and
how many of their intervals hold it. Ends with 1 where a mean is off by more than 5 % of
the slope of what is read afresh, or where the cached slope of the embedded model is 15 % of the
uncached one or more.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys

from bench.ground import Ground

PLANTED_MS = (0.08, 0.2)
"""For a token that is read afresh: slopes of 80 and 200 ms per 1,000 tokens."""
OF_A_READ = 0.1
OFF, SMALL = 0.05, 0.15
ARMS = {"nothing cached": 1.0, "automatic": OF_A_READ, "thread": OF_A_READ}
STILL = {"network_ms": 1, "queue_ms": 2, "gap_ms": 1, "tail": 0, "answer_tokens": 4}


def slopes(endpoint: str, blocks: int, seed: int, knobs: dict | None = None):
    """One run; each arm's Slope by its name."""
    from lab.harness.runner import BenchmarkRunner
    from lab.settings import config_of
    from lab.store import queries
    from lab.store.store import Store
    from lab.techniques.conversation import findings

    store = Store()
    config = config_of(
        technique="conversation",
        endpoint=endpoint,
        runs=blocks,
        seed=seed,
        warmup=1,
        arms=list(ARMS),
        knobs=knobs or {},
    )
    asyncio.run(BenchmarkRunner(config, store).run())
    run_id = queries.last_run_id(store)
    trials, calls = queries.trials(store, run_id), queries.calls(store, run_id)
    turns = findings.turns(calls, trials[trials["counts"] & (trials["phase"] == "measured")])
    return {slope.arm: slope for slope in findings.slopes(turns, "nothing cached")}


def planted(control, base_url: str, seeds: int, blocks: int, noise: float) -> bool:
    right = True
    for per_token_ms in PLANTED_MS:
        control.knobs(
            **STILL,
            jitter=noise,
            prefill_ms_per_token=per_token_ms,
            read_ms_per_token=OF_A_READ * per_token_ms,
        )
        runs = [slopes(base_url, blocks, seed) for seed in range(1, seeds + 1)]
        for arm, share in ARMS.items():
            truth = 1000 * per_token_ms * share
            told = [run[arm].slope for run in runs]
            mean = statistics.mean(slope.estimate for slope in told)
            held = sum(slope.low <= truth <= slope.high for slope in told)
            print(
                f"{arm:15} planted {truth:6.1f} ms per 1,000 tokens: {mean:6.1f}"
                f" ({mean / truth - 1:+.1%}), in {held} of {len(told)} intervals; runs"
                f" {', '.join(f'{slope.estimate:.1f}' for slope in told)}",
                flush=True,
            )
            # A read is so quick that the clock's own noise is some of it: what is saved is known.
            off = abs(mean - truth) / (truth if share == 1 else 1000 * per_token_ms)
            right = right and off <= OFF
    return right


def embedded(blocks: int) -> bool:
    from lab.techniques.conversation.figures import PER, bare

    run = slopes("local", blocks, 1)
    base = run["nothing cached"].slope.estimate
    for slope in run.values():
        part = slope.slope.estimate / base
        words = f"{bare(slope.slope)} {PER}, n = {slope.slope.n}"
        print(f"{slope.arm:15} {words}: {part:.1%} of nothing cached")
    return all(run[arm].slope.estimate < SMALL * base for arm in ARMS if arm != "nothing cached")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4, help="runs of each planted slope")
    parser.add_argument("--blocks", type=int, default=10, help="conversations an arm and run")
    parser.add_argument("--noise", type=float, default=0.05, help="sigma of the server's times")
    parser.add_argument("--local", action="store_true", help="the embedded model instead")
    arguments = parser.parse_args()
    ground = Ground()
    os.environ.update(
        {name: value for name, value in ground.environment.items() if name.startswith("LAB_")},
        LAB_IGNORE_KEYS="1",
    )
    from lab import endpoint_kinds, processes
    from lab.endpoints import consent
    from lab.local.control import Control

    try:
        if arguments.local:
            return 0 if embedded(arguments.blocks) else 1
        card = processes.local_server(endpoint_kinds.SIMULATED)
        os.environ["LAB_LOCAL_KEY"] = card.api_key
        consent.allow(card.base_url, key=False)
        control = Control(card.base_url, card.api_key)
        right = planted(control, card.base_url, arguments.seeds, arguments.blocks, arguments.noise)
        return 0 if right else 1
    finally:
        ground.close()


if __name__ == "__main__":
    sys.exit(main())
