"""A month of a watch in seconds: what is found, how soon, whose it is said to be, and how often
nothing is told for something.

    python bench/watch_month.py [--months 20] [--steps 12] [--every 15] [--divisive 3] [--seed 1]

Waits are drawn from the simulated server's own latency model (lab/local/simulated.py: lognormal
jitter, a heavy tail), without sleeping: the control of a watch and a request of 2,000 tokens, three
pairs a probe, a probe every 15 minutes. The hours of a day make both slower and faster by up to
15 %, two outages a month answer nothing, and where it says so the service swings by itself (an
autoregression of 0.7 from probe to probe, 3 %). Each probe goes through lab.watch.looking, as a
live one does.

A flat month has no change in it: whatever is told there is a false alarm. In the others one step of
5, 10 or 20 % is planted on day 10 to 13, in all requests or in yours alone; and one of 20 % in the
control alone, or as many ms in both, as a slower network adds them.

Ends with 1 where false alarms are more often than ALARMS_A_MONTH allows, where a step of 10 or 20 %
is missed, or where one change in twenty is said to be somebody else's.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from scipy.stats import poisson

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lab.local.engine import Grew, Job  # noqa: E402
from lab.local.messages_api import Body  # noqa: E402
from lab.local.simulated import Simulated  # noqa: E402
from lab.stats.change_points import change_points  # noqa: E402
from lab.stats.level_shifts import ALARMS_A_MONTH  # noqa: E402
from lab.watch.changes import Change  # noqa: E402
from lab.watch.looking import Looking  # noqa: E402
from lab.watch.probe import ARMS, ASKED, CONTROL, YOURS  # noqa: E402

KNOBS = {
    "network_ms": 40,
    "queue_ms": 250,
    "prefill_ms_per_token": 0.15,
    "gap_ms": 12,
    "jitter": 0.25,
    "tail": 0.02,
    "tail_factor": 5,
}
BEGAN = datetime(2026, 11, 2, tzinfo=UTC)
DAYS, PAIRS, POOL = 30, 3, 6_000
DAY, OUTAGES, OUTAGE_H = 0.15, 2, 2.0
SWING, KEEPS = 0.03, 0.7
STEPS = (0.05, 0.10, 0.20)
STEPPED = {"service": ARMS, "yours": (YOURS,), "control": (CONTROL,), "added": ()}
"""By what is planted, the requests that take so many per cent longer; `added` is that many per cent
of the control, in ms, for both."""
IN = {"service": "all", "yours": "yours", "control": "the control", "added": "both, in ms"}
WRONGLY = 0.05


class Month(NamedTuple):
    """A change that was planted: `at` its probe, None where there is none."""

    found: list[Change]
    at: datetime | None


def waits(tokens: int) -> np.ndarray:
    """First visible text in ms, as the server would have streamed it: POOL draws."""
    engine = Simulated(spin=False)
    engine.turn(KNOBS)
    body = {**ASKED, "model": "simulated-small", "system": "word " * (4 * tokens // 5)}
    asked = Body.model_validate(body if tokens else {**ASKED, "model": "simulated-small"})
    counted = asyncio.run(engine.count(asked))
    plan = engine.ledger.plan(asked, counted.ends, 0)
    job = Job(asked, counted, plan, 0, str(tokens).encode())
    scripts = (engine.modelled(job, 0) for _ in range(POOL))
    firsts = [next(at for at, piece in script if isinstance(piece, Grew)) for script in scripts]
    return np.array(firsts) / 1e6


class Made(NamedTuple):
    values: dict[str, np.ndarray]
    down: np.ndarray
    at: int | None


def made(
    pools: dict[str, np.ndarray],
    seed: int,
    every: timedelta,
    step: float = 0.0,
    whose: str = "service",
    day: float = DAY,
    swing: float = 0.0,
) -> Made:
    """A month's medians by arm, when nothing was answered, and the first probe after the step."""
    rng = np.random.default_rng(seed)
    count = int(timedelta(days=DAYS) / every)
    hours = np.arange(count) * every.total_seconds() / 3600
    phase = rng.uniform(0, 2 * np.pi)
    level = day * np.sin(2 * np.pi * hours / 24 + phase)
    level += day / 3 * np.sin(4 * np.pi * hours / 24 + 2 * phase)
    level += swings(rng, count, swing)
    at = int(rng.uniform(10, 13) * 24 / hours[1]) if step else None
    steps = {arm: np.zeros(count) for arm in ARMS}
    added = np.zeros(count)
    if at is not None:
        for arm in STEPPED[whose]:
            steps[arm][at:] = np.log1p(step)
        added[at:] = step * median(pools[CONTROL]) if whose == "added" else 0.0
    down = np.zeros(count, bool)
    for begin in rng.uniform(0, DAYS * 24, OUTAGES if day else 0):
        down |= (hours >= begin) & (hours < begin + OUTAGE_H)
    values = {
        arm: np.median(rng.choice(pools[arm], (count, PAIRS)), axis=1) * np.exp(level + steps[arm])
        + added
        for arm in ARMS
    }
    return Made(values, down, at)


def month(pools: dict[str, np.ndarray], seed: int, every: timedelta, **shape) -> Month:
    values, down, at = made(pools, seed, every, **shape)
    looking, found = Looking("anthropic", every), []
    for place in range(len(down)):
        medians = {arm: None if down[place] else float(values[arm][place]) for arm in ARMS}
        failed = {arm: int(down[place]) * PAIRS for arm in ARMS}
        found += looking.add(BEGAN + place * every, medians, failed)
    levels = [change for change in found if not change.is_silence]
    return Month(levels, None if at is None else BEGAN + at * every)


def divisive(pools, months: int, seed: int, every: timedelta, **shape) -> float:
    """Changes a flat month that E-divisive tells of the control, looked at once at its end, hour
    by hour: what a test of independent points makes of a daily wave."""
    told = 0
    for n in range(months):
        values, down, _ = made(pools, seed + n, every, **shape)
        hour = np.arange(len(down)) * every.total_seconds() // 3600
        control = values[CONTROL][~down]
        hourly = [np.median(control[hour[~down] == each]) for each in np.unique(hour[~down])]
        told += len(change_points(hourly))
    return told / months


def swings(rng: np.random.Generator, count: int, height: float) -> np.ndarray:
    pushes, level = rng.normal(size=count) * height * (1 - KEEPS**2) ** 0.5, np.zeros(count)
    for place in range(1, count):
        level[place] = KEEPS * level[place - 1] + pushes[place]
    return level


def flat(pools, months: int, seed: int, every: timedelta, **shape) -> tuple[int, float]:
    """(false alarms, the most a month that their number allows at 95 %)."""
    alarms = sum(len(month(pools, seed + n, every, **shape).found) for n in range(months))
    most = next(rate for rate in np.arange(0, 50, 0.01) if poisson.cdf(alarms, rate) <= 0.05)
    return alarms, float(most) / months


def planted(pools, months: int, seed: int, every: timedelta, step: float, whose: str) -> bool:
    delays, told, inside, others, missed = [], Counter(), 0, 0, 0
    for n in range(months):
        played = month(pools, seed + 1_000 + n, every, step=step, whose=whose)
        after = [change for change in played.found if change.seen_utc >= played.at]
        others += len(played.found) - len(after[:1])
        if not after:
            missed += 1
            continue
        change = after[0]
        delays.append((change.seen_utc - played.at) / every)
        told[change.whose] += 1
        size = change.yours if YOURS in STEPPED[whose] else change.control
        inside += size.low <= step <= size.high
    found = len(delays)
    late = f"{median(delays):.0f} probes ({hours_of(median(delays), every)})" if delays else "–"
    latest = f"{max(delays):.0f} ({hours_of(max(delays), every)})" if delays else "–"
    print(
        f"  {step:+.0%} in {IN[whose]:<11} found {found}/{months},"
        f" after {late} at the median, {latest} at most; said to be"
        f" {dict(told)}; size within its interval {inside}/{found}; other alarms {others}",
        flush=True,
    )
    wrong = found - told["service" if whose == "added" else whose]
    return wrong <= max(WRONGLY * months, 1) and (missed == 0 or step == min(STEPS))


def hours_of(probes: float, every: timedelta) -> str:
    return f"{probes * every.total_seconds() / 3600:.1f} h"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--months", type=int, default=20, help="flat months of each kind")
    parser.add_argument("--steps", type=int, default=12, help="months with a step, of each size")
    parser.add_argument("--every", type=float, default=15, help="minutes between probes")
    parser.add_argument("--divisive", type=int, default=0, help="flat months for E-divisive too")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    every = timedelta(minutes=chosen.every)
    pools = {CONTROL: waits(0), YOURS: waits(2_000)}
    for arm, pool in pools.items():
        spread = float(np.std(np.log(np.median(pool[: POOL // 3 * 3].reshape(-1, 3), axis=1))))
        print(f"{arm}: {median(pool):.0f} ms, a probe's median varies by {spread:.0%}")
    looks = int(timedelta(days=DAYS) / every)
    print(f"Flat months, {looks:,} probes each; {ALARMS_A_MONTH:g} alarms a month are put up with:")
    kinds = {
        "steady": {"day": 0.0},
        "hours of the day, outages": {},
        "the same with swings of 3 %": {"swing": SWING},
    }
    holds = True
    for name, shape in kinds.items():
        alarms, most = flat(pools, chosen.months, chosen.seed, every, **shape)
        print(
            f"  {name}: {alarms} false alarms in {chosen.months} months"
            f" ({alarms / chosen.months:.2f} a month, below {most:.2f} at 95 %)",
            flush=True,
        )
        if chosen.divisive:
            told = divisive(pools, chosen.divisive, chosen.seed, every, **shape)
            print(f"    E-divisive, once at the month's end, hour by hour: {told:.1f} a month")
        allowed = poisson.ppf(0.99, ALARMS_A_MONTH * chosen.months)
        holds &= alarms <= allowed or "swing" in shape
    print("A step on day 10 to 13:")
    for step in STEPS:
        for whose in STEPPED if step == max(STEPS) else ("service", "yours"):
            holds &= planted(pools, chosen.steps, chosen.seed, every, step, whose)
    print("holds" if holds else "DOES NOT HOLD")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
