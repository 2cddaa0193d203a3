"""Cache states are made, reported and checked."""

from datetime import date

import pandas as pd
import pytest

from lab import pricing, results, techniques
from lab.store import queries
from lab.techniques.caching import findings
from tests.measured import FAST, measure


async def test_each_arm_meets_the_cache_state_it_is_named_after(simulated, db):
    simulated.knobs(**FAST, prefill_ms_per_token=0.05)
    found = await measure(simulated, "caching", runs=1)
    seen = found.trials.groupby("arm")["observed_cache"].agg(set).to_dict()
    assert seen == {
        "uncached": {"none"},
        "first use": {"write"},
        "cached": {"read"},
        "pre-warmed": {"read"},
    }
    assert set(found.trials["outcome"]) == {"ok"}
    assert found.trials["cached_share"].max() <= 1
    primes = found.calls[found.calls["role"] == "prime"]
    assert primes.groupby("arm").size().to_dict() == {"cached": 1, "pre-warmed": 1}
    assert (primes["started_ms"] < 0).all()


@pytest.mark.parametrize("part", ["system", "tools", "conversation"])
async def test_every_part_of_a_prompt_can_be_the_cached_one(simulated, db, part):
    simulated.knobs(**FAST, prefill_ms_per_token=0.01)
    found = await measure(simulated, "caching", runs=1, knobs={"part": part, "turns": 2})
    assert set(found.trials["outcome"]) == {"ok"}
    answers = found.calls[(found.calls["role"] == "answer") & (found.calls["arm"] == "cached")]
    assert list(answers["observed_cache"]) == ["read", "read"]


async def test_a_breakpoint_on_the_question_is_never_found_by_a_new_question(simulated, db):
    simulated.knobs(**FAST, prefill_ms_per_token=0.01)
    found = await measure(simulated, "caching", runs=1, knobs={"breakpoint": "question"})
    assert set(found.arm("cached")["observed_cache"]) == {"write"}


async def test_the_same_seed_again_finds_nothing_cached(simulated, db):
    simulated.knobs(**FAST, prefill_ms_per_token=0.01)
    for _ in range(2):
        found = await measure(simulated, "caching", runs=1, seed=7)
        assert set(found.arm("first use")["observed_cache"]) == {"write"}
        assert set(found.arm("uncached")["cache_read_tokens"]) == {0}


async def test_first_use_costs_more_than_no_cache_and_a_hit_a_fraction_of_it(simulated, db):
    """Sonnet 5's ratios on the tokens that the server reported: a write 1.25 times, a read 0.1
    times the input price."""
    simulated.knobs(**FAST, prefill_ms_per_token=0.01)
    found = await measure(simulated, "caching", runs=1)

    def cost(call):
        usage = {
            "input_tokens": call.input_tokens,
            "cache_read_input_tokens": call.cache_read_tokens,
        }
        return pricing.cost_usd(
            "claude-sonnet-5",
            {**usage, "cache_creation_input_tokens": call.cache_write_tokens},
            date(2026, 11, 24),
        )

    found.calls["cost_usd"] = [cost(call) for call in found.calls.itertuples()]
    states = findings.cache_states(found.calls).set_index("arm")
    assert states.loc["first use", "cost_usd"] == pytest.approx(
        1.25 * states.loc["uncached", "cost_usd"], rel=0.05
    )
    assert states.loc["cached", "cost_usd"] == pytest.approx(
        0.1 * states.loc["uncached", "cost_usd"], rel=0.2
    )
    assert states["as_intended"].min() == 1 and states["hit_share"].max() <= 1


async def test_the_report_of_a_run_has_the_figures_that_its_technique_adds(simulated, db):
    simulated.knobs(**FAST, prefill_ms_per_token=0.01)

    async def figures(technique):
        run = await measure(simulated, technique, runs=1)

        def ask(query, *arguments, **named):
            return getattr(queries, query)(run.store, *arguments, **named)

        judged = results.read(run.run_id, run.store).finding
        return techniques.figures_of(ask("run", run.run_id), ask, judged)

    assert len(await figures("caching")) == 2 and await figures("aa") == []
    assert techniques.figures_of({"technique": "side-by-side"}, None, None) == []


def test_a_partial_read_is_the_read_that_a_longer_conversation_means():
    shared = {
        "role": "answer",
        "arm": "cached",
        "error_kind": None,
        "ttft_ms": 90.0,
        "cost_usd": None,
        "prompt_tokens": 100,
    }
    calls = pd.DataFrame(
        [
            {
                **shared,
                "call_id": 1,
                "intended_cache": "read",
                "observed_cache": "partial",
                "cache_read_tokens": 80,
                "cache_write_tokens": 20,
            },
            {
                **shared,
                "call_id": 2,
                "intended_cache": "read",
                "observed_cache": "none",
                "cache_read_tokens": 0,
                "cache_write_tokens": 0,
            },
        ]
    )
    assert findings.cache_states(calls).set_index("observed_cache")["as_intended"].to_dict() == {
        "partial": 1.0,
        "none": 0.0,
    }
