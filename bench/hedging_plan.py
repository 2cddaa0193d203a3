"""Is p95 after asking twice what recorded waits foretold? `python bench/hedging_plan.py`

The simulated server makes SLOW of its requests late, and twins share their luck as far as is
planted. For each seed single requests are recorded, the planner proposes a delay from their times
to first token and says where p95 of a run will lie; then as many are asked with that delay, by the
technique's own race on real sockets. The correlation is told to the planner, as a user would assume
it; tied requests measure it besides.

Ends with 1 where the measured p95 lies outside the foretold interval more often than a 95 %
interval may (fewer than 17 of 20 seeds happen by chance in 2 % of benches), or where fewer than 72
waits are not refused. At a correlation of 1 asking twice must buy nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
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
TIED_SEEDS = 5
"""Of so many tied requests are asked too."""


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


async def asked(
    client: httpx2.AsyncClient, nonce: str, delay_ms: float | None
) -> list[tuple[float, int]]:
    """Of N trials the wait in ms, and whether it was asked twice; without a delay single requests,
    with 0 tied ones."""
    body = {"max_tokens": 4, "messages": [{"role": "user", "content": "Which tide is it?"}]}
    gate = asyncio.Semaphore(AT_ONCE)

    async def trial(number: int) -> tuple[float, int]:
        async with gate:
            direct, began = Direct(client, f"{nonce}-{number}"), now_ns()
            if delay_ms is None:
                await direct.call(Request(body), asyncio.Event())
            else:
                await race(direct, direct.call, Request(body), delay_ms)
            twin = delay_ms is not None and (min(direct.first_ns) - began) / 1e6 > delay_ms
            return (min(direct.first_ns) - began) / 1e6, int(twin)

    return await asyncio.gather(*(trial(number) for number in range(N)))


def waits(trials: list[tuple[float, int]]) -> np.ndarray:
    return np.array([wait for wait, _ in trials])


async def one(client: httpx2.AsyncClient, seed: int, correlation: float) -> Seen:
    """Recorded, planned, then measured."""
    stamp = f"{utc_now():%H%M%S}-{seed}-{correlation}"
    recorded = waits(await asked(client, f"once-{stamp}", None))
    plan = planner.plan(recorded, correlation, MOST_TWICE, blocks=N)
    hedged = await asked(client, f"hedged-{stamp}", plan.delay_ms)
    luck = None
    if seed < TIED_SEEDS:
        tied = waits(await asked(client, f"tied-{stamp}", 0))
        luck = planner.correlation_of_tied(recorded, tied, 2 * plan.delay_ms)
    return Seen(
        seed,
        plan,
        quantile(waits(hedged), planner.QUANTILE),
        quantile(recorded, planner.QUANTILE),
        float(np.mean([twin for _, twin in hedged])),
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
