"""Is a silent fallback always left out, and said? `python -m bench.served_is_not_asked [--trials
200] [--rate 0.4]`.

Runs of `ab` on the simulated server, over real sockets, whose second arm asks for fast mode or for
the large model. A share of its requests is served at standard speed, or by the small model, and a
field of the answer says so. What was served is read from the server's own record, by request.
Until so many trials fell back for each of the two: how many of them were left out, how many others,
and of the runs with one how many said it in the verdict and in the JSON, with reason and count.
Ends with 1 where one did not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import NamedTuple

from bench.ground import Ground

SMALL, LARGE = "simulated-small", "simulated-large"
BLOCKS = 12
FAST = {
    "network_ms": 0,
    "queue_ms": 0,
    "gap_ms": 0.5,
    "prefill_ms_per_token": 0,
    "jitter": 0,
    "tail": 0,
    "answer_tokens": 4,
}


class Plant(NamedTuple):
    bodies: list[dict]
    knobs: dict
    reason: str
    factor: str
    wanted: str


PLANTS = {
    "speed": Plant(
        [{"name": "standard"}, {"name": "other", "speed": "fast"}],
        {"serve_speed": "standard"},
        "asked fast, served standard",
        "speed",
        "fast",
    ),
    "model": Plant(
        [{"name": "small", "model": SMALL}, {"name": "other", "model": LARGE}],
        {"models": {LARGE: {"serve_model": SMALL}}},
        f"asked {LARGE}, served {SMALL}",
        "model",
        LARGE,
    ),
}


class Seen(NamedTuple):
    """Of one run, the second arm's trials."""

    trials: int
    fell: int
    left_out: int
    wrongly: int
    """Left out though served as asked."""
    in_verdict: bool
    in_json: bool


def run(control, plant: Plant, rate: float, seed: int) -> Seen:
    from lab import results, worker
    from lab.harness.reporters.json_object import as_object
    from lab.settings import config_of
    from lab.store import queries
    from lab.store.store import Store

    control.reset()
    control.knobs(**FAST, **plant.knobs, serve_rate=rate, seed=seed)
    config = config_of(
        technique="ab",
        endpoint=control.base_url,
        runs=BLOCKS,
        warmup=0,
        seed=seed,
        knobs={"bodies": json.dumps(plant.bodies), "answer_tokens": 8},
    )
    result = results.read(worker.measure(config).run_id)
    served = {one["request_id"]: one["served"][plant.factor] for one in control.truth()}
    calls = queries.calls(Store(), result.run_id)
    calls = calls[calls["arm"] == "other"]
    fell = {call.trial_id for call in calls.itertuples() if served[call.request_id] != plant.wanted}
    others = set(calls["trial_id"]) - fell
    outcomes = result.outcomes.set_index("trial_id")["outcome"]
    left_out = {trial for trial, outcome in outcomes.items() if outcome == "mismatch"}
    verdict = result.verdicts[0]
    told = " ".join((verdict.headline, *verdict.doubts))
    counted = as_object(result)["arms"][1]["mismatches"]
    n = len(fell)
    return Seen(
        trials=len(fell | others),
        fell=n,
        left_out=len(fell & left_out),
        wrongly=len(left_out - fell),
        in_verdict=n > 0 and plant.reason in told and (f"{n} of " in told or f"all {n} " in told),
        in_json=n > 0 and counted == {plant.reason: n},
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200, help="that fell back, of each kind")
    parser.add_argument("--rate", type=float, default=0.4, help="share of requests that fall back")
    arguments = parser.parse_args()
    ground = Ground()
    os.environ.update(
        {name: value for name, value in ground.environment.items() if name.startswith("LAB_")},
        LAB_IGNORE_KEYS="1",
    )
    from lab import endpoint_kinds, processes
    from lab.endpoints import consent
    from lab.local.control import Control

    card = processes.local_server(endpoint_kinds.SIMULATED)
    control = Control(card.base_url, card.api_key)
    os.environ["LAB_LOCAL_KEY"] = card.api_key
    consent.allow(card.base_url, key=False)
    right = True
    for name, plant in PLANTS.items():
        seen: list[Seen] = []
        while sum(one.fell for one in seen) < arguments.trials:
            seen.append(run(control, plant, arguments.rate, len(seen)))
        runs = [one for one in seen if one.fell]
        trials, fell, left_out, wrongly, in_verdict, in_json = map(sum, zip(*seen, strict=True))
        print(
            f"{name}: {left_out} of {fell} trials that fell back were left out, {wrongly} of"
            f" {trials - fell} others; of {len(runs)} runs {in_verdict} said it in the verdict,"
            f" {in_json} in the JSON"
        )
        is_right = (left_out, wrongly) == (fell, 0) and in_verdict == in_json == len(runs)
        right = right and is_right
    ground.close()
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
