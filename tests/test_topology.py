"""The span trees of three topologies: nested, closed, and adding up to the trial's wall time."""

import pandas as pd
import pytest

from lab.critical_path import critical_path
from lab.techniques.agent_topology import findings
from lab.techniques.parallelism.findings import fan_out
from tests.measured import FAST, measure


@pytest.fixture
async def found(simulated, db):
    simulated.knobs(**FAST, prefill_ms_per_token=0.01)
    return await measure(simulated, "topology", runs=1, knobs={"service_ms": 150})


async def test_spans_nest_none_leaks_and_the_critical_path_adds_up(found):
    for trial in found.trials.to_dict("records"):
        spans = found.spans(trial["trial_id"]).set_index("span_id", drop=False)
        root = spans[spans["parent_id"].isna()]
        assert len(root) == 1 and spans["ended_ns"].notna().all()
        for span in spans[spans["parent_id"].notna()].to_dict("records"):
            parent = spans.loc[span["parent_id"]]
            assert (
                parent["started_ns"] <= span["started_ns"] <= span["ended_ns"] <= parent["ended_ns"]
            )
        assert critical_path(spans)["ms"].sum() == pytest.approx(trial["total_ms"], abs=0.01)


async def test_each_topology_has_its_own_shape_and_the_same_tools(found):
    shape = {
        arm: list(found.calls[found.calls["arm"] == arm].groupby("role").size().items())
        for arm in set(found.trials["arm"])
    }
    assert dict(shape["flat"]) == {"tool_turn": 1, "answer": 1}
    assert dict(shape["hierarchical"]) == {"plan": 1, "worker": 4, "answer": 1}
    assert dict(shape["pipeline"]) == {"worker": 4, "answer": 1}
    for arm in shape:
        for trial_id in found.arm(arm)["trial_id"]:
            assert (found.spans(trial_id)["kind"] == "tool").sum() == 4


async def test_workers_run_at_the_same_time_only_under_a_supervisor(found):
    def overlap(arm):
        (first, *_) = found.arm(arm)["trial_id"]
        tools = fan_out(found.spans(first))
        return tools["took_ms"] / tools["slowest_ms"]

    assert overlap("hierarchical") < 2 < overlap("pipeline")


async def test_the_coordination_tax_is_counted(found):
    table = findings.coordination(found.trials, found.calls).set_index("arm")
    assert table["calls"].to_dict() == {"flat": 2, "hierarchical": 6, "pipeline": 5}
    assert table["output_tokens"].gt(0).all()


async def test_tokens_that_no_answer_counts_are_unknown_and_not_none(found):
    untold = found.calls.assign(output_tokens=pd.NA)
    table = findings.coordination(found.trials, untold)
    assert table["output_tokens"].isna().all() and table["prompt_tokens"].gt(0).all()


async def test_an_agent_that_never_stops_using_tools_is_stopped_by_the_step_limit(simulated, db):
    simulated.knobs(**FAST)
    again = {
        "tools": [{"name": "weather", "input": {"place": "Lowmoor"}}],
        "stop_reason": "tool_use",
    }
    simulated.plays(*[again] * 3)
    found = await measure(
        simulated,
        "topology",
        runs=1,
        arms=["flat", "pipeline"],
        seed=1,
        knobs={"steps": 3, "service_ms": 1},
    )
    assert found.calls.groupby("trial_id").size().max() <= 6
