"""Do the intervals cover what they promise, and does nothing stay nothing? `python -m
bench.validity` (two cores: under five minutes).

Invented latencies of known truth go through lab.stats as a run's would. Noise is lognormal with
spikes that have a Pareto tail (no variance to speak of at α = 2.5), tasks differ, and the machine
drifts by a quarter during the run.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from lab import stats
from lab.stats.intervals import signed_rank_cut

RUNS, BLOCKS, TAIL_BLOCKS = 1000, 20, 72
FAILING_RUNS, FAILING_BLOCKS = 200, (12, 20, 40)
LEVEL = 0.95
EFFECTS = (-0.05, -0.20, -0.60)
MANY = 400_000
SEED = 20_261


class Run(NamedTuple):
    """(runs, blocks) of milliseconds, and the task of each block."""

    base: np.ndarray
    new: np.ndarray
    tasks: np.ndarray


def noise(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    spikes = np.where(random.random(shape) < 0.08, 1 + random.pareto(2.5, shape), 1.0)
    return random.lognormal(0, 0.2, shape) * spikes


def drift(at: np.ndarray) -> np.ndarray:
    """A quarter slower at the end, with a wave on the way; `at` runs from 0 to 1 over the run."""
    return 1 + 0.25 * at + 0.05 * np.sin(2 * np.pi * at)


def runs(
    random: np.random.Generator,
    count: int,
    blocks: int,
    effect: float,
    tasks: int = 24,
    interleaved: bool = True,
) -> Run:
    """Blocks of two trials in random order; sequential: all of the baseline first, then all of the
    arm."""
    index = np.arange(blocks) % tasks
    scale = 1000 * random.lognormal(0, 0.1, (count, tasks))[:, index]
    if interleaved:
        first = random.integers(0, 2, (count, blocks))
        at_base, at_new = (
            (2 * np.arange(blocks) + place) / (2 * blocks) for place in (first, 1 - first)
        )
    else:
        at_base, at_new = (
            np.arange(blocks) / (2 * blocks),
            (np.arange(blocks) + blocks) / (2 * blocks),
        )
    shape = (count, blocks)
    return Run(
        scale * drift(at_base) * noise(random, shape),
        (1 + effect) * scale * drift(at_new) * noise(random, shape),
        index,
    )


def hodges_lehmann(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """stats.hodges_lehmann for all runs at once."""
    rows, columns = np.triu_indices(differences.shape[1])
    averages = np.sort((differences[:, rows] + differences[:, columns]) / 2, axis=-1)
    cut = signed_rank_cut(differences.shape[1], LEVEL)
    return averages[:, cut], averages[:, -1 - cut]


def pseudo_median(values: np.ndarray, random: np.random.Generator) -> float:
    """The median of the average of two independent draws, which is what Hodges–Lehmann
    estimates."""
    return float(np.median((random.permutation(values) + random.permutation(values)) / 2))


def share(hits: int, of: int = RUNS) -> str:
    low, high = scipy_stats.binomtest(hits, of).proportion_ci(0.95, method="exact")
    return f"{hits / of:6.1%} [{low:.1%}, {high:.1%}]"


def false_winners(random: np.random.Generator, interleaved: bool, blocks: int) -> tuple[int, int]:
    """(faster, slower) among A/A runs."""
    found = runs(random, RUNS, blocks, 0.0, interleaved=interleaved)
    low, high = hodges_lehmann(found.new - found.base)
    return int((high < 0).sum()), int((low > 0).sum())


def median_coverage(random: np.random.Generator, effect: float) -> tuple[int, int]:
    """Runs whose interval holds the pseudo-median difference, and those whose interval of the ratio
    holds the planted ratio."""
    many = runs(random, MANY // BLOCKS, BLOCKS, effect)
    truth = pseudo_median((many.new - many.base).ravel(), random)
    found = runs(random, RUNS, BLOCKS, effect)
    low, high = hodges_lehmann(found.new - found.base)
    log_low, log_high = hodges_lehmann(np.log(found.new / found.base))
    planted = np.log1p(effect)
    return int(((low <= truth) & (truth <= high)).sum()), int(
        ((log_low <= planted) & (planted <= log_high)).sum()
    )


def plain_bootstrap(
    random: np.random.Generator, base: np.ndarray, new: np.ndarray, q: float
) -> tuple[float, float]:
    """The textbook way, for comparison: resample blocks, take percentiles of the difference."""
    drawn = random.integers(0, base.size, (400, base.size))
    low, high = np.quantile(
        np.quantile(new[drawn], q, axis=1) - np.quantile(base[drawn], q, axis=1), [0.025, 0.975]
    )
    return float(low), float(high)


def tail_coverage(random: np.random.Generator, effect: float, q: float = 0.95) -> tuple[int, int]:
    """Runs whose p95 interval holds the truth: the lab's, and the plain bootstrap's."""
    many = runs(random, MANY // TAIL_BLOCKS * 2, TAIL_BLOCKS, effect)
    truth = float(np.quantile(many.new, q) - np.quantile(many.base, q))
    found = runs(random, RUNS, TAIL_BLOCKS, effect)
    hits = plain = 0
    for number, (base, new) in enumerate(zip(found.base, found.new, strict=True)):
        one = stats.paired_quantile(base, new, q, LEVEL, found.tasks, seed=number)
        hits += one.low <= truth <= one.high
        low, high = plain_bootstrap(random, base, new, q)
        plain += low <= truth <= high
    return hits, plain


class Tail(NamedTuple):
    """What of an arm's requests is late, and by how much (in usual waits)."""

    words: str
    late: float
    by: float
    smooth: float = 0.25
    """The σ of the usual wait, and of the delay."""


TAILS = (
    (Tail("no tail", 0.0, 0.0), Tail("the same", 0.0, 0.0)),
    (Tail("12 % late by 8 waits", 0.12, 8), Tail("the same", 0.12, 8)),
    (Tail("12 % late by 8 waits", 0.12, 8), Tail("12 % late by 1.5", 0.12, 1.5)),
    (Tail("12 % late by 8 waits", 0.12, 8), Tail("1.4 % late by 8", 0.014, 8)),
    (Tail("6 % late by 8 waits", 0.06, 8), Tail("3 % late by 8", 0.03, 8)),
)
TAIL_RUNS, TAIL_SIZES, ALIKE = 1000, (72, 150, 300), 0.5


def tailed(
    random: np.random.Generator, count: int, base: Tail, new: Tail
) -> tuple[np.ndarray, np.ndarray]:
    """Waits of both arms, ms. A block's luck is shared: half of the variance of the usual wait is
    the block's, and a block that is late in one arm is so in half of the cases in the other."""
    shared, luck = random.normal(size=count), random.random(count)

    def arm(tail: Tail) -> np.ndarray:
        z = np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * random.normal(size=count)
        own = np.where(random.random(count) < ALIKE, luck, random.random(count))
        late = tail.by * random.lognormal(0, tail.smooth, count) * (own < tail.late)
        return 1000 * (np.exp(tail.smooth * z) + late)

    return arm(base), arm(new)


def print_tails(random: np.random.Generator, q: float = 0.95) -> None:
    """Share of runs whose interval of the p95's difference holds the planted one."""
    print(f"\n{TAIL_RUNS:,} runs each: p95 of two arms whose blocks are alike by half")
    print(f"{'baseline':24}{'arm':22}" + "".join(f"{n:>24}" for n in TAIL_SIZES))
    for base, new in TAILS:
        before, after = tailed(random, 4_000_000, base, new)
        truth = float(np.quantile(after, q) - np.quantile(before, q))
        cells = []
        for n in TAIL_SIZES:
            hits = 0
            for number in range(TAIL_RUNS):
                seen = stats.paired_quantile(*tailed(random, n, base, new), q, LEVEL, seed=number)
                hits += seen.low <= truth <= seen.high
            cells.append(f"{share(hits, TAIL_RUNS):>24}")
        print(f"{base.words:24}{new.words:22}{''.join(cells)}", flush=True)


class Failing(NamedTuple):
    """What an arm does to its trials: its effect, and which of its trials get no answer."""

    words: str
    effect: float
    slowest: float = 0.0
    """The share of the arm's trials, those that would have taken longest, that fail."""
    at_random: float = 0.0
    baseline_slowest: float = 0.0
    baseline_at_random: float = 0.0


FAILING = (
    Failing("equal, none fails", 0.0),
    Failing("equal, the arm's slow half fails", 0.0, slowest=0.5),
    Failing("equal, the arm's slow quarter fails", 0.0, slowest=0.25),
    Failing("equal, the slow quarter of both fails", 0.0, slowest=0.25, baseline_slowest=0.25),
    Failing("equal, 20 % of both at random", 0.0, at_random=0.2, baseline_at_random=0.2),
    Failing("equal, the baseline's slow half fails", 0.0, baseline_slowest=0.5),
    Failing("−50 %, 10 % of the arm at random", -0.5, at_random=0.1),
    Failing("−50 %, 10 % of both at random", -0.5, at_random=0.1, baseline_at_random=0.1),
    Failing("−50 %, none fails", -0.5),
    Failing("−10 %, none fails", -0.1),
)
WORDS = {
    "faster": "faster",
    "faster_when_it_answers": "when it answers",
    "fails_more": "fails more",
    "slower": "slower",
    "no_difference": "no difference",
    "not_enough_data": "not enough",
}


def lost(random: np.random.Generator, took: np.ndarray, slowest: float, share: float) -> np.ndarray:
    """Which trials of each run fail: the slowest of the run, and others by chance."""
    ranks = took.argsort(axis=1).argsort(axis=1)
    return (ranks >= round((1 - slowest) * took.shape[1])) | (random.random(took.shape) < share)


def judged(run: Run, number: int, arm_lost: np.ndarray, base_lost: np.ndarray) -> str:
    """The verdict of one run, as compare_run gives it."""
    base, new = run.base[number], run.new[number]
    names = {"technique": "t", "arm": "new"}
    good = np.flatnonzero(~(arm_lost | base_lost))
    pairs = pd.DataFrame(
        {"block": good, "value": new[good], "baseline_value": base[good], "trial_id": good}
    ).assign(**names, baseline_technique="t", baseline="base", metric="total_ms", session_id="s")
    pairs = pairs.assign(
        baseline_trial_id=-1 - pairs["trial_id"],
        difference=pairs["value"] - pairs["baseline_value"],
        task_id=run.tasks[good],
    )
    bad = arm_lost | base_lost
    losses = pd.DataFrame({"lost": arm_lost[bad], "baseline_lost": base_lost[bad]})
    return stats.compare_run(
        pairs,
        None,
        {"metric": "total_ms", **names},
        settings={"baseline": {"technique": "t", "arm": "base"}},
        losses=losses.assign(**names, outcome="failed"),
    )[0].verdict


def failing_arms(random: np.random.Generator, case: Failing, blocks: int) -> Counter[str]:
    """Verdicts of runs in which trials fail."""
    many = runs(random, FAILING_RUNS, blocks, case.effect)
    arm = lost(random, many.new, case.slowest, case.at_random)
    base = lost(random, many.base, case.baseline_slowest, case.baseline_at_random)
    return Counter(judged(many, run, arm[run], base[run]) for run in range(FAILING_RUNS))


def print_failing(random: np.random.Generator) -> None:
    print(f"\n{FAILING_RUNS} runs each: share of each verdict where trials fail")
    print(f"{'':40}{'blocks':>7}" + "".join(f"{word:>17}" for word in WORDS.values()))
    for case in FAILING:
        for blocks in FAILING_BLOCKS:
            seen = failing_arms(random, case, blocks)
            shares = "".join(f"{seen[word] / FAILING_RUNS:>17.1%}" for word in WORDS)
            print(f"{case.words:40}{blocks:>7}{shares}", flush=True)


def main() -> None:
    began = time.monotonic()
    random = np.random.default_rng(SEED)
    print(f"{RUNS:,} runs each; share of runs with its exact binomial 95 % interval\n")
    for name, interleaved in (
        ("interleaved in random order", True),
        ("sequential, one arm after the other", False),
    ):
        for blocks in (BLOCKS, 3 * BLOCKS):
            faster, slower = false_winners(random, interleaved, blocks)
            print(
                f'A/A, {blocks} blocks, {name}: false "faster" {share(faster)}, any winner'
                f" {share(faster + slower)}"
            )
    print(
        "\neffect  median difference       ratio of medians        p95 difference (72)     same,"
        " plain bootstrap"
    )
    for effect in EFFECTS:
        difference, ratio = median_coverage(random, effect)
        tail, plain = tail_coverage(random, effect)
        print(
            f"{effect:+6.0%}  {share(difference)}  {share(ratio)}  {share(tail)}  {share(plain)}",
            flush=True,
        )
    print_failing(np.random.default_rng(SEED))
    print_tails(np.random.default_rng(SEED))
    print(f"\ntook {time.monotonic() - began:.0f} s (seed {SEED})")


if __name__ == "__main__":
    main()
