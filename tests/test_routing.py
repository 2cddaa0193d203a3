"""Who answers is recorded, what deciding takes is counted, and the answer key is never asked but by
the oracle."""

import pandas as pd

from lab.scenarios import definitions
from lab.techniques.model_routing import findings
from tests.measured import FAST, measure

LABELS = {task.task_id: task.difficulty for task in definitions.load("reasoning")}


async def routed(found):
    spans = pd.concat([found.spans(trial_id) for trial_id in found.trials["trial_id"]])
    return findings.routes(spans, found.trials)


async def test_each_arm_asks_the_models_it_is_named_after(simulated, db):
    simulated.knobs(**FAST)
    found = await measure(simulated, "routing", runs=2, seed=3)
    models = found.calls[found.calls["role"] == "answer"].groupby("arm")["model"].agg(set).to_dict()
    assert models["large only"] == {"simulated-large"} and models["small only"] == {
        "simulated-small"
    }
    chosen = await routed(found)
    assert len(chosen) == 10
    table = findings.confusion(chosen, LABELS)
    assert table[table["arm"] == "oracle"]["agrees"].all()
    shares = findings.routing_shares(chosen).groupby("arm")["share"].sum()
    assert (abs(shares - 1) < 1e-9).all()


async def test_the_classifier_reads_its_cached_instructions_and_its_time_is_the_overhead(
    simulated, db
):
    simulated.knobs(**FAST, prefill_ms_per_token=0.05)
    found = await measure(simulated, "routing", runs=2, arms=["large only", "routed"])
    classified = found.calls[found.calls["role"] == "classify"]
    assert set(classified["observed_cache"]) == {"read"}
    assert findings.routing_overhead_ms(found.calls) > 0
    assert set(found.trials["outcome"]) == {"ok"}


async def test_where_the_small_model_is_chosen_routed_is_sooner_than_large_and_overhead(
    simulated, db
):
    """Large: 10 pieces, 30 ms apart; small: 1 ms apart. The classifier's word is drawn by the task,
    so some are easy."""
    simulated.knobs(**{**FAST, "answer_tokens": 10}, models={"simulated-large": {"gap_ms": 30}})
    found = await measure(
        simulated,
        "routing",
        runs=5,
        seed=1,
        arms=["large only", "routed"],
        knobs={"classifier": "uncached"},
    )
    chosen = await routed(found)
    small = chosen[(chosen["arm"] == "routed") & (chosen["chosen"] == "small")]["trial_id"]
    assert len(small) > 0
    totals = found.trials.pivot(index="block", columns="arm", values="total_ms")
    overhead = findings.routing_overhead_ms(found.calls)
    blocks = found.trials.set_index("trial_id").loc[small, "block"]
    assert (totals.loc[blocks, "routed"] < totals.loc[blocks, "large only"] + overhead).all()


async def test_a_cut_draft_escalates_and_a_whole_one_does_not(simulated, db):
    simulated.knobs(**{**FAST, "answer_tokens": 30})
    whole = await measure(
        simulated, "routing", runs=1, arms=["large only", "cascade"], knobs={"answer_tokens": 40}
    )
    cut = await measure(
        simulated, "routing", runs=1, arms=["large only", "cascade"], knobs={"answer_tokens": 20}
    )
    of_cascade = [
        list(found.calls[found.calls["arm"] == "cascade"]["role"]) for found in (whole, cut)
    ]
    assert of_cascade == [["worker"], ["worker", "answer"]]


async def test_a_self_check_is_the_cascade_s_own_call_and_part_of_what_it_took(simulated, db):
    """Unlike a judge's, which role `check` is for: it was in nobody's tokens and cost."""
    simulated.knobs(**{**FAST, "answer_tokens": 30})
    found = await measure(
        simulated,
        "routing",
        runs=1,
        arms=["large only", "cascade"],
        knobs={"answer_tokens": 40, "check": "self"},
    )
    calls = found.calls[found.calls["arm"] == "cascade"]
    (trial,) = found.arm("cascade").to_dict("records")
    assert list(calls["role"])[:2] == ["worker", "worker"]
    assert trial["calls"] == len(calls) >= 2
    assert trial["output_tokens"] == calls["output_tokens"].sum()


async def test_a_broken_classifier_fails_its_trial_and_no_other(simulated, db):
    simulated.knobs(**FAST, models={"simulated-small": {"fault": {"kind": "http", "status": 400}}})
    found = await measure(
        simulated,
        "routing",
        runs=1,
        arms=["large only", "routed"],
        knobs={"classifier": "uncached"},
    )
    assert found.trials.set_index("arm")["outcome"].to_dict() == {
        "large only": "ok",
        "routed": "failed",
    }
