"""Is p95 after asking twice what recorded waits foretold? `python bench/hedging_plan.py`

The simulated server makes SLOW of its requests late, and twins share their luck as far as is
planted. For each seed requests are recorded, and the planner proposes a delay from their times to
first token. Then single, hedged and tied requests are asked in one random order, by the technique's
own race on real sockets: the single ones foretell where p95 of the hedged will lie. The correlation
is told to the planner, as a user would assume it; the tied ones measure it besides.

Ends with 1 where the measured p95 lies outside the foretold interval more often than a 95 %
interval may (fewer than 17 of 20 seeds happen by chance in 2 % of benches), or where fewer than 72
waits are not refused. At a correlation of 1 asking twice must buy nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import httpx2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lab.clock import now_ns, utc_now  # noqa: E402
from lab.metrics import needed  # noqa: E402
from lab.model import LabError, Reply, Request  # noqa: E402
from lab.stats import Interval, quantile  # noqa: E402
from lab.techniques.hedging import planner  # noqa: E402
from lab.techniques.hedging.technique import race  # noqa: E402

SLOW, N, AT_ONCE = 0.12, 100, 16
KNOBS = {
    **{"network_ms": 0, "queue_ms": 150, "jitter": 0.25, "prefill_ms_per_token": 0, "tail": 0},
    **{"gap_ms": 1, "answer_tokens": 2, "slow_share": SLOW, "slow_ms": 1200},
}
MOST_TWICE = 0.16
"""Above the share that is late, so that the delay lies where requests usually begin."""
FEWEST = 17 / 20


class Direct:
    """What the race calls through: httpx2 on real sockets, and the first token of each call."""

    def __init__(self, client: httpx2.AsyncClient, nonce: str) -> None:
        self.client, self.nonce = client, nonce
        self.first_ns: list[int] = []

    async def within(self, event: asyncio.Event, ms: float) -> bool:
        try:
            async with asyncio.timeout(ms / 1e3):
                await event.wait()
        except TimeoutError:
            pass
        return event.is_set()

    def replaced(self, reply: Reply) -> None: ...

    async def call(self, request: Request, token: asyncio.Event, name: str = "") -> Reply:
        body = {**request.body, "system": self.nonce, "model": "simulated-small", "stream": True}
        async with self.client.stream("POST", "/v1/messages", json=body) as answer:
            answer.raise_for_status()
            async for chunk in answer.aiter_raw():
                if not token.is_set() and b"content_block_delta" in chunk:
                    self.first_ns.append(now_ns())
                    token.set()
        return Reply(call_id=name)


class Seen(NamedTuple):
    seed: int
    plan: planner.Plan
    measured: Interval
    once: Interval
    twins: float
    """Share of requests asked twice."""
    luck: Interval | None
    """The correlation as tied requests show it."""

    @property
    def holds(self) -> bool:
        low, high = self.plan.in_a_run
        return low <= self.measured.estimate <= high


class Trial(NamedTuple):
    delay_ms: float | None
    """None: asked once; 0: tied."""
    wait_ms: float


async def asked(
    client: httpx2.AsyncClient, nonce: str, delays: Sequence[float | None]
) -> list[Trial]:
    """N trials with each of the delays, in one random order: what this machine does to a wait it
    does to all of them alike."""
    body = {"max_tokens": 4, "messages": [{"role": "user", "content": "Which tide is it?"}]}
    gate, order = asyncio.Semaphore(AT_ONCE), [*delays] * N
    random.Random(nonce).shuffle(order)

    async def trial(number: int, delay_ms: float | None) -> Trial:
        async with gate:
            direct, began_ns = Direct(client, f"{nonce}-{number}"), now_ns()
            if delay_ms is None:
                await direct.call(Request(body), asyncio.Event())
            else:
                await race(direct, direct.call, Request(body), delay_ms)
            return Trial(delay_ms, (min(direct.first_ns) - began_ns) / 1e6)

    return await asyncio.gather(*(trial(number, delay) for number, delay in enumerate(order)))


def waits(trials: list[Trial], delay_ms: float | None) -> np.ndarray:
    return np.array([trial.wait_ms for trial in trials if trial.delay_ms == delay_ms])


async def one(client: httpx2.AsyncClient, seed: int, correlation: float) -> Seen:
    """A delay from requests that were recorded; then single, hedged and tied ones in one order, of
    which the single ones foretell the hedged."""
    stamp = f"{utc_now():%H%M%S}-{seed}-{correlation}"
    recorded = waits(await asked(client, f"recorded-{stamp}", [None]), None)
    delay = planner.plan(recorded, correlation, MOST_TWICE).delay_ms
    trials = await asked(client, f"measured-{stamp}", [None, delay, 0])
    once, hedged = waits(trials, None), waits(trials, delay)
    luck = planner.correlation_of_tied(once, waits(trials, 0), 2 * delay)
    return Seen(
        seed,
        planner.plan(once, correlation, delay_ms=delay, blocks=N),
        quantile(hedged, planner.QUANTILE),
        quantile(once, planner.QUANTILE),
        float(np.mean(hedged > delay)),
        None if luck is None else planner.summary(luck, N),
    )


async def measured(card: dict, seeds: int, correlation: float) -> list[Seen]:
    headers = {"x-api-key": card["api_key"], "anthropic-version": "2023-06-01"}
    seen = []
    async with httpx2.AsyncClient(
        base_url=card["base_url"], headers=headers, timeout=30, trust_env=False
    ) as client:
        for seed in range(seeds):
            knobs = KNOBS | {"seed": seed, "twin_correlation": correlation}
            (await client.put("/knobs", json=knobs)).raise_for_status()
            seen.append(await one(client, seed, correlation))
            print(line(seen[-1]), flush=True)
    return seen


def line(seen: Seen) -> str:
    plan, (low, high) = seen.plan, seen.plan.in_a_run
    luck = "" if seen.luck is None else f"  tied: share {seen.luck.low:.2f} … {seen.luck.high:.2f}"
    return (
        f"seed {seen.seed:>2}  delay {plan.delay_ms:>4.0f} ms  p95 once {seen.once.estimate:>4.0f}"
        f"  foretold {plan.after.estimate:>4.0f} [{low:.0f}, {high:.0f}]  measured"
        f" {seen.measured.estimate:>4.0f}  {'in ' if seen.holds else 'OUT'}  asked twice"
        f" {seen.twins:.0%}{luck}"
    )


def refuses() -> bool:
    """Whether one wait fewer than p95 needs is refused, and as many are not."""
    few = np.arange(1.0, needed(planner.QUANTILE))
    try:
        planner.plan(few)
    except LabError as error:
        print(f"{few.size} waits: {error}")
        return planner.plan(np.append(few, 100.0)).n == few.size + 1
    return False


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("--seeds", type=int, default=20)
    seeds = flags.parse_args().seeds
    server = subprocess.Popen(
        [sys.executable, "-m", "lab.local", "--simulated", "--no-spin"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    good = refuses()
    try:
        card = json.loads(server.stdout.readline())
        for correlation in (0.0, 0.5):
            print(f"\nplanted: {SLOW:.0%} late, twins share {correlation:.0%} of their luck")
            seen = asyncio.run(measured(card, seeds, correlation))
            held = sum(each.holds for each in seen)
            print(f"measured p95 within the foretold interval: {held} of {seeds} seeds")
            good &= held >= FEWEST * seeds
        print("\nplanted: twins share all of their luck: the trap")
        for each in asyncio.run(measured(card, 3, 1.0)):
            good &= each.measured.high >= each.once.low  # p95 is what it was
    finally:
        server.terminate()
        server.wait(10)
    print("holds" if good else "DOES NOT HOLD")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
