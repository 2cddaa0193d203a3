"""Asked twice: the first to begin is kept, the other is cancelled, and both are rows that cost."""

import asyncio
import gc
import itertools

import pandas as pd
import pytest

from lab.endpoints import registry
from lab.harness import plan
from lab.harness.budget import BudgetReached
from lab.harness.rehearsal import LIKELY, MOODS, rehearse
from lab.scenarios import definitions
from lab.settings import config_of
from lab.techniques.hedging import TECHNIQUE, findings
from lab.techniques.hedging.technique import race
from tests.measured import FAST, measure

LATE = {"headers": 60_000, "text": [60_000], "done": 60_000}
SOON = {"headers": 20, "text": [20], "done": 20}
REFUSED = {"headers": 10, "fault": {"kind": "http", "status": 500, "type": "api_error"}}
PRICE = """[[prices]]
model = "simulated-small"
from = 2020-01-01
input = 1
output = 0
write_5m = 0
write_1h = 0
read = 0
"""
BROKEN = {"headers": 10, "text": [10, 800, 900], "fault": {"kind": "cut", "after": 2}}


def seed_with_first(arm: str, arms: list[str]) -> int:
    """A run's seed whose first block begins with this arm: scripted plays go to who comes first."""
    for seed in itertools.count():
        config = config_of(technique="hedging", arms=arms, endpoint="simulated")
        (block,) = plan.experiment(config, "simulated").blocks(seed, 1, 1)
        if block.order[0].arm.name == arm:
            return seed


async def first_trial(simulated, arm: str, *plays, **knobs) -> tuple[pd.Series, pd.DataFrame]:
    """The trial of an arm that is answered by these plays, and its calls in their order."""
    simulated.knobs(**FAST)
    simulated.plays(*plays)
    arms = ["once", arm]
    found = await measure(
        simulated, "hedging", runs=1, arms=arms, seed=seed_with_first(arm, arms), knobs=knobs
    )
    (trial,) = (row for _, row in found.arm(arm).iterrows())
    calls = found.calls[found.calls["trial_id"] == trial["trial_id"]]
    return trial, calls.sort_values("started_ms").reset_index(drop=True)


async def test_the_twin_that_begins_first_is_the_answer_and_the_late_one_is_cancelled(
    simulated, db
):
    """The first request would begin after a minute; the twin is sent at 50 and begins 20 later."""
    trial, calls = await first_trial(simulated, "hedged", LATE, SOON, delay_ms=50)
    assert calls["error_kind"].fillna("").tolist() == ["cancelled", ""]
    assert calls["started_ms"][1] >= 50
    assert trial["outcome"] == "ok" and trial["answer_call_id"] == calls["call_id"][1]
    assert 70 <= trial["wait_ms"] < 60_000 and trial["total_ms"] < 60_000


async def test_a_first_token_within_the_delay_asks_nobody_twice(simulated, db):
    trial, calls = await first_trial(simulated, "hedged", SOON, delay_ms=60_000)
    assert len(calls) == 1 and trial["wait_ms"] < 60_000


async def test_the_delay_is_counted_to_the_first_token_and_not_to_the_headers(simulated, db):
    """Headers at 10 ms and the first text after a minute: the twin is sent all the same."""
    talks = {"headers": 10, "text": [60_000], "done": 60_000}
    trial, calls = await first_trial(simulated, "hedged", talks, SOON, delay_ms=50)
    assert calls["error_kind"].fillna("").tolist() == ["cancelled", ""]
    assert calls["message_start_at_ms"][0] < calls["ended_at_ms"][0]
    assert calls["first_text_at_ms"].isna()[0] and trial["wait_ms"] < 60_000


async def test_tied_requests_go_out_together_and_one_is_cancelled(simulated, db):
    trial, calls = await first_trial(simulated, "tied", LATE, SOON)
    assert sorted(calls["error_kind"].fillna("")) == ["", "cancelled"]
    assert calls["started_ms"].max() < trial["wait_ms"] < 60_000


async def test_a_call_that_fails_leaves_the_race_to_its_twin(simulated, db):
    trial, calls = await first_trial(simulated, "tied", REFUSED, SOON)
    assert sorted(calls["error_kind"].fillna("")) == ["", "api_error"]
    assert trial["outcome"] == "ok"


async def test_a_trial_fails_where_both_fail_and_where_the_kept_one_breaks_off(simulated, db):
    trial, calls = await first_trial(simulated, "tied", REFUSED, REFUSED)
    assert len(calls) == 2 and trial["outcome"] == "failed"
    trial, calls = await first_trial(simulated, "tied", BROKEN, LATE)
    assert trial["outcome"] == "failed" and "cancelled" in set(calls["error_kind"])


async def test_a_race_whose_calls_may_not_be_made_leaves_no_error_that_nobody_saw():
    """As where the budget is reached before both of a tied pair."""

    async def refused(request, token, **named):
        raise BudgetReached

    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, told: complaints.append(told))
    with pytest.raises(BudgetReached):
        await race(None, refused, None, 0)
    gc.collect()
    assert complaints == []


async def test_a_cancelled_call_without_a_count_costs_its_twins_prompt(
    simulated, db, tmp_path, monkeypatch
):
    """At $1 a million tokens in and nothing out, two prompts cost twice what one does."""
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICE, encoding="utf-8")
    monkeypatch.setenv("LAB_PRICES", str(prices))
    trial, calls = await first_trial(simulated, "tied", SOON, LATE)
    late = calls[calls["error_kind"] == "cancelled"].iloc[0]
    kept = calls[calls["error_kind"].isna()].iloc[0]
    assert pd.isna(late["prompt_tokens"]) and kept["prompt_tokens"] > 0
    assert late["cost_usd"] == kept["cost_usd"] == kept["prompt_tokens"] / 1e6
    assert trial["cost_usd"] == 2 * kept["cost_usd"]
    told = findings.price(calls).iloc[0]
    assert (told["requests"], told["cancelled"], told["untold"]) == (2, 1, 1)


async def test_a_judge_is_no_request_of_an_arm_and_none_of_its_cost(simulated, db):
    simulated.knobs(**FAST)
    task = {"task_id": "t", "prompt": "Why?", "check": {"kind": "judge", "criteria": "short"}}
    found = await measure(simulated, "hedging", runs=1, arms=["once", "tied"], tasks=[task])
    calls = found.calls[found.calls["arm"] == "once"].assign(cost_usd=1.0)
    assert sorted(calls["role"]) == ["answer", "check"]
    told = findings.price(calls).iloc[0]
    assert (told["requests"], told["cost_usd"]) == (1, 1.0)


async def test_the_rehearsal_counts_both_where_one_may_be_enough():
    """What is likely is one call; what is the most are two."""
    task = definitions.load("question-answering", "simulated")[0]
    for arm, likely in (("once", 1), ("hedged", 1), ("tied", 2)):
        for mood, most in ((LIKELY, likely), (MOODS[1], 1 if arm == "once" else 2)):
            asked = await rehearse(
                TECHNIQUE, arm, TECHNIQUE.knobs(), task, registry.find("simulated"), mood
            )
            assert len(asked) == most, (arm, mood)


def test_the_lever_asks_late_requests_again():
    (lever,) = TECHNIQUE.levers
    assert lever.levels[0] == "once" and lever.play is not None
