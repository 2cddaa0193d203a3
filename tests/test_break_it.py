"""Each cause breaks the cache by itself: the timed request is the same, and only what came before
it differs."""

import io
import json

import pandas as pd
import pytest
from rich.console import Console

from lab import results, techniques
from lab.harness.reporters.console import ConsoleReporter
from lab.recording import request_parts
from lab.recording.facts import CAUSES
from lab.scenarios import definitions
from lab.store import queries
from lab.techniques.caching import TECHNIQUE, breaks, broken
from lab.techniques.caching.technique import whole
from tests.measured import FAST, measure

KNOBS = TECHNIQUE.knobs(break_it=True, prefix_tokens=400)
TASK = definitions.load("rag", "simulated")[0]


OWN = definitions.parse_lines(
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": "Hi. " + "The harbour is open. " * 100},
                {"role": "assistant", "content": "Yes?"},
                {"role": "user", "content": "Why?"},
            ],
            "max_tokens": 9,
            "system": "Be brief.",
        }
    )
)[0]


def unmarked(body) -> str:
    """The body without any cache_control, to the letter."""
    copied = json.loads(json.dumps(body))
    for part in request_parts.parts(copied):
        part.block.pop("cache_control", None)
    return json.dumps(copied)


@pytest.mark.parametrize("task", [TASK, OWN], ids=["built-in", "own body"])
@pytest.mark.parametrize("each", breaks.BREAKS, ids=lambda each: each.cause)
def test_only_what_came_before_differs(each, task):
    asked = whole(KNOBS, task)
    before, timed = breaks.earlier(asked, each.arm.name), breaks.timed(asked, each.arm.name)
    assert unmarked(timed) == unmarked(asked)
    assert each.cause in CAUSES and each.mends
    changes = (before != asked, timed != asked, each.other_model)
    assert any(changes)
    assert asked == whole(KNOBS, task), "the body that all arms share was changed in place"


def test_each_cause_is_tried_once_and_those_that_no_arm_can_play_are_known():
    played = [each.cause for each in breaks.BREAKS]
    assert len(set(played)) == len(played)
    left = {"breakpoint_moved", "breakpoint_beyond", "expired", "being_written"}
    assert set(CAUSES) - set(played) == left | {"first_use", "not_known"}


async def test_every_cause_breaks_the_cache_on_a_server_that_keeps_the_rules(simulated, db):
    """400 tokens at 1 ms: unbroken it waits for a few of them, broken for all."""
    simulated.knobs(**FAST, prefill_ms_per_token=1, read_ms_per_token=0, schema_compile_ms=0)
    given = {"break_it": True, "prefix_tokens": 400, "answer_tokens": 4}
    found = await measure(simulated, TECHNIQUE.slug, runs=1, knobs=given)
    assert set(found.trials["outcome"]) == {"ok"}
    states = found.trials.set_index("arm")["observed_cache"]
    assert states["unbroken"] == "read"
    assert states["no breakpoint"] == states["below the minimum"] == "none"
    others = states.drop(["unbroken", "no breakpoint", "below the minimum"])
    assert set(others) == {"write"}
    assert set(states.index) == {arm.name for arm in breaks.ARMS}
    ttft = found.trials.set_index("arm")["ttft_ms"]
    assert (ttft.drop("unbroken") - ttft["unbroken"] > 250).all()

    def ask(query, *arguments, **named):
        return getattr(queries, query)(found.store, *arguments, **named)

    (view,) = [view for view in TECHNIQUE.views if getattr(view, "name", "") == "Break it"]
    data = techniques.RunData(TECHNIQUE, ask("run", found.run_id), ask, None, "claude-sonnet-5-5")
    table, *notes = techniques.draw(data, view)
    rows = table.rows.set_index("cause")
    assert len(rows) == len(breaks.ARMS)
    written = rows[rows["state"] == "written anew"]
    # A write is 1.25 times the input's price, a read 0.1 times: more than ten times as dear.
    assert (written["usd"] > 5 * rows.loc["unbroken", "usd"]).all()
    assert "was not waited for" in notes[-1].text

    told = io.StringIO()
    console = Console(file=told, width=200)
    ConsoleReporter(console).report(results.read(found.run_id, found.store))
    assert "what mends it" in told.getvalue() and "Sort the tools" in told.getvalue()


async def test_a_whole_body_of_the_user_is_broken_too(simulated, db):
    """Its own earlier turns are what is shared: nothing of the lab's documents is added."""
    simulated.knobs(**FAST, prefill_ms_per_token=0.1)
    found = await measure(
        simulated, "caching", runs=1, knobs={"break_it": True}, tasks=[OWN.model_dump()]
    )
    states = found.trials.set_index("arm")["observed_cache"]
    assert states["unbroken"] == "read" and states["tools turned"] == "write"
    assert states["another tool choice"] == states["another effort"] == "write"
    assert found.trials["prompt_tokens"].max() < 1200


async def test_below_the_minimum_stays_below_it_however_long_the_users_own_tools_are(simulated, db):
    """1,200 characters are 300 tokens: a breakpoint behind them would be read."""
    tool = {"name": "mine", "description": "Opens it. " * 120, "input_schema": {"type": "object"}}
    body = OWN.body | {"tools": [tool]}
    simulated.knobs(**FAST, prefill_ms_per_token=0.1)
    found = await measure(
        simulated,
        "caching",
        runs=1,
        arms=["unbroken", "below the minimum", "tools turned", "a tool added"],
        knobs={"break_it": True},
        tasks=[OWN.model_copy(update={"body": body}).model_dump()],
    )
    states = found.trials.set_index("arm")["observed_cache"].to_dict()
    assert states == {
        "unbroken": "read",
        "below the minimum": "none",
        "tools turned": "write",
        "a tool added": "write",
    }


async def test_what_an_endpoint_cannot_do_is_left_out_and_said(simulated, db):
    able = {"caching", "tools", "streaming", "structured"}
    names = [arm.name for arm in TECHNIQUE.arms_for(KNOBS, able)]
    assert "another effort" not in names and "another model" not in names
    run = {"run_id": "x", "endpoint": "mine", "settings": {"arms": [{"arm": n} for n in names]}}
    (note,) = broken._not_tried(techniques.RunData(TECHNIQUE, run, None, None))
    assert note.text.startswith("Not tried, since mine lacks it: another model (needs two models)")

    # What nobody asked for is not what the endpoint lacks.
    run["settings"] |= {"quick": True, "arms": [{"arm": name} for name in names[:2]]}
    (note,) = broken._not_tried(techniques.RunData(TECHNIQUE, run, None, None))
    assert note.text.startswith("Left out of a quick run: tools turned; ")


def test_the_seconds_of_a_cause_have_an_interval_from_six_blocks_on():
    answers = pd.DataFrame(
        {"arm": ["unbroken", "tools turned"] * 6, "observed_cache": ["read", "write"] * 6}
    ).assign(ttft_ms=[100.0, 400.0] * 6, usd=[0.001, 0.01] * 6)
    pairs = pd.DataFrame({"arm": "tools turned", "difference": [300.0] * 5 + [310.0]})
    found = broken.rows(answers, pairs, ["unbroken", "tools turned"]).set_index("state")
    assert found.loc["written anew", "later"].startswith("+300 ms [")
    assert found.loc["written anew", "more_usd"] == pytest.approx(0.009)
    assert found.loc["written anew", "mends"] == "Sort the tools"
    few = broken.rows(answers, pairs.head(2), ["tools turned"])
    assert few["later"].iat[0].endswith("(2 blocks: no interval)")


STARTED = {"started_utc": pd.Timestamp("2026-11-24"), "models": {"small": "nobody-knows"}}


@pytest.mark.parametrize(
    ("counts", "usd"),
    [
        ({"input_tokens": 1_000_000}, 2.0),
        ({"cache_write_5m_tokens": 1_000_000}, 2.5),
        ({"cache_write_1h_tokens": 1_000_000}, 4.0),
        ({"cache_read_tokens": 1_000_000, "inference_geo": "us"}, 0.11),
        ({"output_tokens": 1_000_000}, 10.0),
        ({"input_tokens": None}, None),
    ],
)
def test_a_call_without_a_price_costs_what_the_stand_in_s_whole_call_would(counts, usd):
    """Sonnet 5.5: $2 a million in, written for $2.50 or for an hour $4, read for $0.10, $10 out."""
    call = dict.fromkeys(broken.CALLS) | {"input_tokens": 0} | counts
    run = STARTED | {"settings": {"knobs": KNOBS.model_dump()}}
    data = techniques.RunData(TECHNIQUE, run, None, None, "claude-sonnet-5-5")
    costs, told = broken._costs(data, pd.DataFrame([call]))
    assert costs.tolist() == [pytest.approx(usd)] if usd else costs.isna().all()
    assert told.startswith("These calls have no price. At the price of claude-sonnet-5-5: ")


def test_a_call_with_a_price_costs_what_is_stored_of_it():
    calls = pd.DataFrame([dict.fromkeys(broken.CALLS) | {"cost_usd": 0.5, "input_tokens": 9}])
    costs, told = broken._costs(techniques.RunData(TECHNIQUE, STARTED, None, None), calls)
    assert costs.tolist() == [0.5] and told.startswith("At the price of its model: ")
