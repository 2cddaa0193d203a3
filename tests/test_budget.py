"""No run spends beyond its cap, whichever way the money goes; and what has measured nothing is told
as that."""

import asyncio
import contextlib
import json
import random
from dataclasses import asdict, replace
from datetime import date

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import budgets
from bench.raw_server import RawServer, message
from lab import pricing, results, resume, worker
from lab.cli import main as cli
from lab.endpoints import consent
from lab.endpoints.registry import Endpoint
from lab.harness import budget
from lab.harness.budget import billable, stored_usd, unbounded
from lab.harness.estimate import estimate
from lab.harness.runner import BenchmarkRunner
from lab.instrumentation.parsing import Reading
from lab.model import Arm, LabError, Request
from lab.scenarios.definitions import Task
from lab.settings import config_of
from lab.store.store import Store
from lab.techniques import streaming
from tests.measured import only_measured

MODEL, NO_PRICE = "cheap", "nobody-knows"
ASKED = {"max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]}


def test_sums_below_a_cent_are_said_as_they_are():
    small = budget.Budget(0.0042, 0.0041)
    assert small.left.startswith("$0.0041 of $0.0042 spent.")
    assert small.text.startswith("The budget of $0.0042 is reached")


@pytest.fixture(autouse=True)
def prices():
    """A million tokens cost $100 in and $400 out on `cheap`, ten times as much on `dear`, which is
    the dearest listed model."""
    with budgets.ground():
        yield


def charging(usage, **changes):
    """A server whose every answer has this usage; without one, None."""
    whole = message(**{"model": MODEL, "usage": usage, **changes})
    if not usage:
        del whole["usage"]
    return RawServer(lambda connection: connection.json(whole))


def asked(server):
    return [request for request in server.asked if request.method == "POST"]


DOLLAR = {
    "input_tokens": 0,
    "output_tokens": 0,
    "iterations": [{"type": "compaction", "input_tokens": 10_000, "output_tokens": 0}],
}
"""10,000 tokens at $100 a million, of which the top of the usage says nothing."""


def live(url, model=MODEL):
    return Endpoint("live", "live", url, "k", {"small": model, "large": model}, "small")


def a_runner(server, trial, model=MODEL, **options):
    technique = replace(streaming.TECHNIQUE, trial=trial, arms=(Arm("whole"), Arm("streamed")))
    config = config_of(**{"technique": "streaming", "warmup": 0, "runs": 1, "seed": 1, **options})
    return BenchmarkRunner(
        config, budgets.Kept(), endpoint=live(server.url, model), technique=technique
    )


async def five_calls(bench, arm, knobs, task):
    for _ in range(5):
        await bench.call(Request(ASKED, stream=False))


async def five_of_its_own(bench, arm, knobs, task):
    for _ in range(5):
        with contextlib.suppress(
            Exception
        ):  # as an agent may: whatever it makes of a failure, no call goes out
            await bench.client.messages.create(model=MODEL, **ASKED)


# The cap


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_random_plans_pass_no_cap_by_more_than_the_calls_in_flight(seed):
    spent = budgets.tried(budgets.Plan.drawn(random.Random(seed)))
    assert not spent.passed, spent


@pytest.mark.parametrize("trial", [five_calls, five_of_its_own])
async def test_within_a_trial_no_call_starts_beyond_the_cap(trial):
    with charging(DOLLAR) as server:
        made = a_runner(server, trial, max_usd=2)
        await made.run()
    (kept,) = made.sink.trials
    assert (len(asked(server)), made.budget.spent_usd) == (2, pytest.approx(2))
    assert (made.status, kept.trial.outcome, kept.trial.error_kind) == (
        "interrupted",
        "cancelled",
        "budget",
    )
    assert "$2.0000 of $2.00 spent" in made.text


async def test_calls_that_a_trial_gives_up_count_before_its_next_one_starts():
    async def impatient(bench, arm, knobs, task):
        only_measured(bench)
        for _ in range(5):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    bench.call(Request(ASKED | {"max_tokens": 2500}, stream=False)), 0.1
                )

    with RawServer(lambda connection: connection.silence(5)) as server:
        made = a_runner(server, impatient, max_usd=2)
        await made.run()
    assert len(asked(server)) == 2, "each may have cost a dollar for its answer alone"
    assert (made.status, made.sink.trials[0].trial.error_kind) == ("interrupted", "budget")


async def test_an_answer_that_tells_no_usage_counts_at_its_longest():
    with charging(None) as server:
        made = a_runner(server, five_calls, max_usd=5)
        await made.run()
    calls = [call for kept in made.sink.trials for call in kept.calls]
    assert len(calls) == 10 and {call.cost_usd for call in calls} == {None}
    assert all(call.counted_usd >= 10 * 400e-6 for call in calls)
    assert made.budget.spent_usd == pytest.approx(sum(call.counted_usd for call in calls))


def test_a_call_that_is_cut_off_counts_its_prompt_and_its_longest_answer():
    begun = Reading(usage={"input_tokens": 100, "output_tokens": 1}, error_kind="cancelled")
    assert billable(begun, ASKED, 200, sent=True) == {"input_tokens": 100, "output_tokens": 10}
    nothing = billable(Reading(error_kind="timeout"), ASKED, None, sent=True)
    assert nothing["input_tokens"] >= 40 and nothing["output_tokens"] == 10
    assert billable(Reading(error_kind="connect"), ASKED, None, sent=False) == {}
    assert billable(Reading(error_kind="overloaded_error"), ASKED, 529, sent=True) == {}
    parts = [
        {"type": "compaction", "input_tokens": 500},
        {"type": "message", "input_tokens": 100, "output_tokens": 1},
    ]
    several = billable(
        replace(begun, usage=begun.usage | {"iterations": parts}), ASKED, 200, sent=True
    )
    assert pricing.cost_usd(MODEL, several, date.today()) == pytest.approx(
        (500 + 100) * 100e-6 + 10 * 400e-6
    )
    whole = Reading(usage={"input_tokens": 100, "output_tokens": 3}, stop_reason="end_turn")
    assert billable(whole, ASKED, 200, sent=True)["output_tokens"] == 3


def test_a_fast_call_in_the_us_that_is_cut_off_counts_what_at_most_foretold():
    body = ASKED | {"speed": "fast", "inference_geo": "us"}
    cut = billable(Reading(error_kind="cancelled"), body, 200, sent=True)
    plain = billable(Reading(error_kind="cancelled"), ASKED, 200, sent=True)
    counted, standard = (
        budget.counted_usd("live", "claude-opus-5-5", usage) for usage in (cut, plain)
    )
    assert counted == pytest.approx(2 * 1.1 * standard)
    assert counted == pytest.approx(budget.at_most_usd("live", "claude-opus-5-5", body))
    told = {"input_tokens": 1, "output_tokens": 1, "speed": "standard", "inference_geo": "global"}
    whole = Reading(usage=told, stop_reason="end_turn")
    assert billable(whole, body, 200, sent=True) == told, "it names its own"


async def test_a_judge_that_cannot_be_paid_is_not_asked():
    task = Task(task_id="t", prompt="Hi", check={"kind": "judge", "criteria": "short"})

    async def one_call(bench, arm, knobs, task):
        return (await bench.call(Request(ASKED, stream=False))).text

    with charging(DOLLAR) as server:
        made = a_runner(server, one_call, max_usd=1, tasks=[task])
        await made.run()
    assert (len(asked(server)), made.sink.trials[0].trial.outcome, made.status) == (
        1,
        "ok",
        "interrupted",
    )


# Further sessions


def measured(server, model, **options):
    """A run by the worker, in the test's own database."""
    consent.allow(server.url, key=False)
    return worker.measure(
        config_of(technique="streaming", endpoint=server.url, models={"any": model}, **options)
    )


def test_more_blocks_go_on_from_what_was_counted_judges_and_unknown_prices_included(db):
    task = Task(task_id="t", prompt="Hi", check={"kind": "judge", "criteria": "short"})
    usage = {"input_tokens": 100, "output_tokens": 0}  # $0.10 at the dearest listed price
    with charging(
        usage, model=NO_PRICE, content=[{"type": "text", "text": '{"score": 10}'}]
    ) as server:
        run_id, status, _ = measured(
            server,
            NO_PRICE,
            tasks=[task],
            runs=2,
            warmup=1,
            seed=1,
            max_usd=50,
            knobs={"answer_tokens": 16},
        )
        assert (
            status == "finished" and len(asked(server)) == 10
        )  # three blocks of two trials; the two that count are judged
        config, joined = resume.join(
            Store(), config_of(technique="streaming", join_run=run_id, runs=2)
        )
        assert (config.max_usd, joined.spent_usd) == (50, pytest.approx(10 * 0.10))
        _, again = resume.join(
            Store(), config_of(technique="streaming", join_run=run_id, runs=2, max_usd=3)
        )
        assert again.spent_usd == 0  # a sum that is given anew holds from here on
        config = config_of(technique="streaming", join_run=run_id, runs=2)
        worker.measure(config)
        _, joined = resume.join(Store(), config)
    assert joined.spent_usd == pytest.approx(0.10 * len(asked(server))) and len(asked(server)) == 20


def test_rows_from_before_the_count_was_kept_are_counted_by_their_tokens():
    empty = dict.fromkeys(budget.COUNTED)
    priced = empty | {"model": MODEL, "cost_usd": 0.25, "input_tokens": 1}
    unpriced = empty | {"model": NO_PRICE, "input_tokens": 1000, "output_tokens": 0}
    parts = [
        {"type": "compaction", "input_tokens": 500},
        {"type": "message", "input_tokens": 500, "output_tokens": 0},
    ]
    several = empty | {
        "model": NO_PRICE,
        "input_tokens": 500,
        "output_tokens": 0,
        "iterations": parts,
    }
    strange = empty | {"model": MODEL, "cost_usd": -1000.0}
    assert stored_usd(
        "live", [priced, unpriced, several, strange, empty | {"model": MODEL}]
    ) == pytest.approx(0.25 + 1 + 1)
    assert stored_usd("local", [unpriced]) == 0


@pytest.mark.parametrize(
    "kept", ["7", "[7, null]", '[{"type": ["x"], "model": 7, "input_tokens": "abc"}]']
)
def test_a_run_goes_on_whatever_its_database_holds_of_iterations(db, kept):
    with charging(DOLLAR) as server:
        run_id, _, _ = measured(server, MODEL, runs=1, warmup=0, max_usd=50)
        with duckdb.connect(str(db)) as connection:
            connection.execute(
                f"UPDATE calls SET counted_usd = NULL, cost_usd = NULL, iterations = '{kept}'"
            )
        _, joined = resume.join(Store(), config_of(technique="streaming", join_run=run_id, runs=2))
    assert joined.spent_usd == 0


def test_what_a_live_call_counted_is_what_its_row_says():
    with charging(DOLLAR) as server:
        made = a_runner(server, five_calls, max_usd=3)
        asyncio.run(made.run())
    assert (
        stored_usd("live", [asdict(call) for kept in made.sink.trials for call in kept.calls])
        == made.budget.spent_usd
    )


# Before the run


def bound(tasks, technique="ab", **options):
    made = config_of(
        technique=technique, runs=len(tasks), warmup=0, tasks=tasks, max_usd=1e6, **options
    )
    return estimate(made, live("http://127.0.0.1:1"))


def test_at_most_knows_the_dearest_task_wherever_it_stands():
    plain = Task(task_id="plain", prompt="Hi")
    long = Task(
        task_id="long",
        prompt="Hi",
        body={"max_tokens": 100_000, "messages": [{"role": "user", "content": "Hi"}]},
    )
    for seed in (None, 3):
        usd = bound(
            [*(plain.model_copy(update={"task_id": f"p{n}"}) for n in range(8)), long], seed=seed
        ).usd
        assert 80 < usd < 82  # two arms of 100,000 tokens at $400 a million


def test_at_most_goes_the_longest_way_through_a_trial():
    steps = {"steps": 12, "service_ms": 0}
    few, many = (
        estimate(
            config_of(
                technique="topology", runs=1, warmup=0, knobs={**steps, "steps": n}, max_usd=1e6
            ),
            live("http://127.0.0.1:1"),
        )
        for n in (3, 12)
    )
    assert few.calls == many.calls and many.usd > 3 * few.usd and few.usd > few.likely_usd
    task = Task(task_id="t", prompt="Hi", check={"kind": "judge", "criteria": "short"})
    assert bound([task]).calls == 2 * bound([task.model_copy(update={"check": None})]).calls


def test_what_nobody_can_bound_is_named():
    tools = [
        {"type": "web_search_20260301", "name": "web_search"},
        {"type": "bash_20250124", "name": "bash"},
    ]
    edits = {"edits": [{"type": "compact_20260112"}]}
    assert unbounded({"tools": tools, "context_management": edits}) == ["web_search", "compaction"]
    sides = json.dumps([{"name": "a"}, {"name": "b", "context_management": edits}])
    assert (
        "plus what compaction may add"
        in bound([Task(task_id="t", prompt="Hi")], knobs={"bodies": sides}).text
    )


# What measured nothing


def test_an_endpoint_that_ignores_caching_ends_the_run_with_that_cause_and_no_call_for_more_blocks(
    db, capsys
):
    with RawServer(lambda connection: connection.good()) as server:
        consent.allow(server.url, key=False)
        code = cli(
            [
                "caching",
                "--endpoint",
                server.url,
                "--model",
                MODEL,
                "--runs",
                "9",
                "--warmup",
                "0",
                "--max-usd",
                "1000",
            ]
        )
        requests = len(asked(server))
    told = capsys.readouterr()
    cause = "the endpoint reported no cache use (0 tokens written, 0 read)"
    assert code == 1 and cause in told.err and cause in told.out.replace("\n", " ")
    assert requests <= 3 * 6
    headlines = [words.headline for words in results.read("last").verdicts]
    assert headlines and all(
        "more blocks would not help" in headline and "about" not in headline
        for headline in headlines
    )


async def never(bench, arm, knobs, task):
    return "nothing asked"


async def forgets(bench, arm, knobs, task):
    bench.client.messages.create(model=MODEL, **ASKED)


async def answers_unawaited(bench, arm, knobs, task):
    return bench.client.messages.create(model=MODEL, **ASKED)


@pytest.mark.parametrize(
    ("trial", "kind", "word"),
    [
        (never, "no_call", "made no call through the lab's client"),
        (forgets, "not_awaited", "AsyncMessages.create"),
        (answers_unawaited, "not_awaited", "AsyncMessages.create"),
    ],
)
async def test_a_trial_that_waited_for_no_call_has_failed(trial, kind, word):
    with charging(DOLLAR) as server:
        made = a_runner(server, trial, runs=2)
        await made.run()
    assert {(kept.trial.outcome, kept.trial.error_kind) for kept in made.sink.trials} == {
        ("failed", kind)
    }
    assert made.status == "failed" and word in made.text and asked(server) == []


async def test_one_forgotten_await_beside_a_call_is_a_note():
    async def both(bench, arm, knobs, task):
        bench.client.messages.create(model=MODEL, **ASKED)
        await bench.call(Request(ASKED, stream=False))

    with charging({"input_tokens": 1, "output_tokens": 1}) as server:
        made, told = a_runner(server, both, max_usd=1000), []
        made.tell = told.append
        await made.run()
    assert made.status == "finished"
    notes = [
        entry["text"]
        for entry in told
        if entry["kind"] == "note" and "never awaited" in entry["text"]
    ]
    assert len(notes) == 2 and all(
        "AsyncMessages.create" in note for note in notes
    )  # one for each arm


def test_a_cap_is_no_promise_where_an_agent_s_calls_cannot_be_seen(db, simulated, monkeypatch):
    from lab import Lab

    async def asks(client, task):
        return (await client.messages.create(model="simulated-small", **ASKED)).content[0].text

    async def unseen(client, task):
        return "asked elsewhere"

    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    with pytest.raises(LabError, match="no budget can be promised"):
        Lab(simulated.base_url, progress=False).compare(
            {"seen": asks, "unseen": unseen}, ["Hi"], 6, warmup=0, max_usd=1
        )
