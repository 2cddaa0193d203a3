"""Work done at once takes as long as its slowest piece, and what it shares is found only when it is
there."""

import pytest

from lab import cli
from lab.critical_path import critical_path
from lab.store import queries
from lab.store.store import Store
from lab.techniques.parallelism import TECHNIQUE, findings
from tests.measured import FAST, measure


async def test_four_tools_of_300_ms_take_one_tool_at_once_and_four_in_a_row(simulated, db):
    simulated.knobs(**FAST, prefill_ms_per_token=0.01)
    found = await measure(simulated, "parallelism", runs=1, knobs={"n": 4, "service_ms": 300})
    for trial_id in found.arm("parallel tools")["trial_id"]:
        spans = found.spans(trial_id)
        tools = findings.fan_out(spans)
        assert tools["n"] == 4 and tools["took_ms"] < 2 * tools["slowest_ms"]
        total = float(found.trials.set_index("trial_id").loc[trial_id, "total_ms"])
        assert total <= 1.5 * critical_path(spans).query("kind != 'own'")["ms"].sum()
    for trial_id in found.arm("sequential tools")["trial_id"]:
        assert findings.fan_out(found.spans(trial_id))["took_ms"] >= 4 * 300
    medians = found.trials.groupby("arm")["total_ms"].median()
    assert medians["sequential tools"] / medians["parallel tools"] > 2


async def test_a_cap_of_two_runs_four_tools_in_two_waves(simulated, db):
    simulated.knobs(**FAST, prefill_ms_per_token=0.01)
    found = await measure(
        simulated, "parallelism", runs=1, knobs={"service_ms": 100, "concurrency": 2}
    )
    (trial_id,) = found.arm("parallel tools")["trial_id"]
    assert 200 <= findings.fan_out(found.spans(trial_id))["took_ms"] < 400


async def test_a_reply_with_fewer_tools_than_asked_is_shown_and_left_out(simulated, db):
    simulated.knobs(**FAST)
    short = {
        "tools": [{"name": "weather", "input": {"place": "Lowmoor"}}],
        "stop_reason": "tool_use",
    }
    simulated.plays(short, {"text": [5], "done": 10}, short, {"text": [5], "done": 10})
    found = await measure(simulated, "parallelism", runs=1, knobs={"service_ms": 10})
    assert set(found.trials["outcome"]) == {"mismatch"}


async def test_of_four_requests_over_one_prefix_only_those_after_the_first_token_find_it(
    simulated, db
):
    simulated.knobs(**FAST, prefill_ms_per_token=0.05)
    found = await measure(
        simulated, "parallelism", runs=1, knobs={"suite": "requests", "shared_prefix": True, "n": 4}
    )
    states = found.calls.groupby("arm")["observed_cache"].agg(sorted).to_dict()
    assert states["together"] == ["write"] * 4
    assert states["after the first token"] == ["read"] * 3 + ["write"]
    assert states["one by one"] == ["read"] * 3 + ["write"]
    assert set(found.trials["outcome"]) == {"ok"}


async def test_both_tiers_are_measured_where_both_are_asked_for(simulated, db):
    simulated.knobs(**FAST)
    found = await measure(
        simulated, "parallelism", runs=1, knobs={"suite": "requests", "tier": "both", "n": 2}
    )
    used = found.calls.groupby("arm")["model"].agg(set).to_dict()
    assert used["together"] == {"simulated-large"} and used["together, small"] == {
        "simulated-small"
    }
    assert set(findings.per_request(found.calls)["n"]) == {2}


@pytest.mark.parametrize(
    ("knobs", "tiers"),
    [
        ({"suite": "tools"}, ()),
        ({"suite": "tools", "tier": "both"}, ()),
        ({"suite": "requests"}, ("large",)),
        ({"suite": "requests", "tier": "small"}, ("small",)),
        ({"suite": "requests", "tier": "both"}, ("small", "large")),
    ],
)
def test_no_model_is_needed_that_no_request_goes_to(knobs, tiers):
    assert TECHNIQUE.tiers_for(TECHNIQUE.knobs(**knobs)) == tiers


@pytest.mark.parametrize("suite", ["tools", "requests"])
def test_one_model_is_enough_where_one_is_asked(simulated, db, monkeypatch, suite):
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    simulated.knobs(**FAST, prefill_ms_per_token=0.01)
    where = ("--endpoint", simulated.base_url, "--model", "simulated-small")
    size = ("--suite", suite, "--runs", "1", "--warmup", "0", "--n", "2", "--service-ms", "1")
    assert cli.main([TECHNIQUE.slug, *where, *size]) == 0
    store = Store()
    run_id = queries.last_run_id(store)
    assert set(queries.calls(store, run_id)["model"]) == {"simulated-small"}
    assert list(queries.run(store, run_id)["models"].values()) == ["simulated-small"]
