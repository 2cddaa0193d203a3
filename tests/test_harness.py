import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from lab import pricing, resume, techniques
from lab.clock import now_ns, sleep_s
from lab.endpoints.registry import Endpoint
from lab.harness import bench as benches
from lab.harness import bodies
from lab.harness import plan as planning
from lab.harness.runner import BenchmarkRunner, Joined, clocks, estimate
from lab.instrumentation.usage_columns import usage_columns
from lab.model import Arm, LabError, Request
from lab.rows import CallRow
from lab.settings import config_of
from lab.techniques import streaming
from tests.measured import only_measured


class Kept:
    """A sink in memory."""

    def __init__(self):
        self.runs, self.sessions, self.kept, self.trials, self.ends = [], [], [], [], []

    def write_run(self, row):
        self.runs.append(row)

    def write_session(self, row):
        self.sessions.append(row)

    def keep(self, trial):
        self.kept.append(trial)

    def write_trials(self, rows):
        self.trials += rows

    def finish_run(self, run_id, status):
        self.ends.append(status)

    @property
    def measured(self):
        return [f for f in self.trials if f.trial.phase == "measured"]


@pytest.fixture
def endpoint(simulated):
    models = {"small": "simulated-small", "large": "simulated-large"}
    return Endpoint(
        "simulated", "simulated", simulated.base_url, simulated.api_key, models, "small"
    )


def runner(endpoint, sink, tried=None, monkeypatch=None, **options):
    told = []
    if tried is not None:
        monkeypatch.setattr(techniques, "find", lambda name: tried)
    options = {"technique": "streaming", "warmup": 0, "runs": 1, "seed": 1} | options
    stop, joined = options.pop("stop", None), options.pop("joined", None)
    made = BenchmarkRunner(
        config_of(**options), sink, told.append, stop, endpoint=endpoint, joined=joined
    )
    made.told = told
    return made


def a_technique(trial, **changes):
    return replace(streaming.TECHNIQUE, trial=trial, **changes)


# The plan


def test_every_block_has_every_arm_once_in_an_order_that_the_seed_decides():
    plan = planning.experiment(config_of(technique="streaming"), "simulated")
    blocks = list(plan.blocks(7, 1, 40))
    assert all(sorted(v.arm.name for v in block.order) == ["streamed", "whole"] for block in blocks)
    assert 8 <= Counter(block.order[0].arm.name for block in blocks)["whole"] <= 32
    assert (
        [b.order for b in blocks]
        == [b.order for b in plan.blocks(7, 1, 40)]
        != [b.order for b in plan.blocks(8, 1, 40)]
    )


def test_more_blocks_continue_as_if_they_had_been_asked_for_at_first():
    plan = planning.experiment(config_of(technique="streaming"), "simulated")
    assert list(plan.blocks(7, 1, 9)) == [*plan.blocks(7, 1, 4), *plan.blocks(7, 5, 9)]


def test_every_task_comes_once_before_any_comes_twice():
    plan = planning.experiment(config_of(technique="streaming"), "simulated")
    n = len(plan.tasks)
    assert len({block.task.task_id for block in plan.blocks(3, 1, n)}) == n


def test_warm_ups_ask_what_no_measured_trial_asks():
    plan = planning.experiment(config_of(technique="streaming"), "simulated")
    asked = {block.task.prompt for block in plan.blocks(3, 1, len(plan.tasks))}
    assert all(
        block.phase == "warmup" and block.number < 1 and block.task.prompt not in asked
        for block in plan.warmups(3, 3)
    )


def test_quick_is_six_short_blocks_of_two_arms():
    config = config_of(technique="streaming", quick=True)
    plan = planning.experiment(config, "simulated")
    assert (config.blocks, len(plan.variants), plan.variants[0].knobs.answer_tokens) == (6, 2, 48)


@pytest.mark.parametrize(
    "wrong",
    [
        {"technique": "streming"},
        {"arms": ["whole", "shouted"]},
        {"knobs": {"answer_tokens": 1}},
        {"scenario": "nothing"},
        {"arms": ["whole"]},
    ],
)
def test_a_mistake_in_the_config_is_one_sentence(wrong):
    with pytest.raises(LabError):
        planning.experiment(config_of(**{"technique": "streaming", **wrong}), "simulated")


def test_zero_runs_are_refused_by_name():
    with pytest.raises(LabError, match="runs"):
        config_of(technique="streaming", runs=0)


# The nonce


def test_a_nonce_is_unlike_for_every_trial_and_alike_in_length():
    made = {
        bodies.nonce_for("run", block, arm, attempt)
        for block in range(20)
        for arm in ("a", "b")
        for attempt in (1, 2)
    }
    assert len(made) == 80 and {len(n) for n in made} == {len("[trial 0123456789012345] ")}


def test_the_nonce_begins_tools_and_system_whatever_their_form():
    tools = [{"name": "x", "description": "d"}, {"name": "y", "description": "e"}]
    body = bodies.with_nonce({"tools": tools, "system": "S", "messages": []}, "[n] ")
    assert (
        [t["description"] for t in body["tools"]] == ["[n] d", "e"]
        and body["system"] == "[n] S"
        and tools[0]["description"] == "d"
    )
    assert bodies.with_nonce({"system": [{"type": "text", "text": "S"}]}, "[n] ")["system"] == [
        {"type": "text", "text": "[n] S"}
    ]
    assert bodies.with_nonce({}, "[n] ")["system"] == "[n]"


def test_a_body_that_marks_its_own_cache_is_recorded_and_not_judged():
    assert bodies.marks_cache(
        {"system": [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}]}
    )
    assert not bodies.marks_cache({"system": "S"})
    row = CallRow(
        "c",
        "t",
        "r",
        "s",
        "p",
        "answer",
        1,
        "e",
        "m",
        input_tokens=9,
        cache_read_tokens=300,
        intended_cache="any",
    )
    assert benches.cache_mismatch(row) is None
    row.intended_cache = "none"
    assert benches.cache_mismatch(row) == "cache state read where none was meant"


# Trials


async def test_the_wait_counts_from_the_start(simulated, endpoint):
    for _ in range(2):
        simulated.plays(headers=40, text=[90, 590], done=600)
    sink = Kept()
    await runner(endpoint, sink).run()
    trials = {f.trial.arm: f for f in sink.trials}
    streamed, (call,) = trials["streamed"].trial, trials["streamed"].calls
    to_text_ms = (call.first_text_ns - streamed.started_ns) / 1e6
    assert clocks(trials["streamed"])["wait_ms"] == pytest.approx(to_text_ms) and to_text_ms >= 90
    assert call.first_text_ns < call.ended_ns and clocks(trials["whole"])["wait_ms"] >= 600
    assert sink.ends == ["finished"]


async def test_a_judges_reply_is_the_quality(simulated, endpoint, tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(
        '{"prompt": "A haiku?", "check": {"kind": "judge", "criteria": "three lines"}}\n'
    )
    simulated.plays(
        {"text": [5]},
        {"text": [1], "texts": ['{"score": 7}']},
        {"text": [5]},
        {"text": [1], "texts": ['{"score": 4}']},
    )
    sink = Kept()
    await runner(endpoint, sink, scenario=str(tasks)).run()
    assert [f.trial.quality for f in sink.trials] == [0.7, 0.4]
    for f in sink.trials:
        answered, judged = f.calls
        assert (answered.role, judged.role) == (
            "answer",
            "check",
        ) and judged.started_ns >= f.trial.ended_ns
        roots = [span for span in f.spans if span.parent_id is None]
        assert [span.kind for span in roots] == ["trial"] and roots[0].ended_ns == f.trial.ended_ns


async def test_a_call_has_one_span_and_the_root_covers_it(simulated, endpoint):
    sink = Kept()
    await runner(endpoint, sink).run()
    for f in sink.trials:
        roots = [s for s in f.spans if s.parent_id is None]
        calls = [s for s in f.spans if s.kind == "call"]
        assert len(roots) == 1 and roots[0].kind == "trial" and len(calls) == len(f.calls) == 1
        assert calls[0].span_id == f.calls[0].span_id and calls[0].parent_id == roots[0].span_id
        assert roots[0].started_ns <= calls[0].started_ns <= calls[0].ended_ns <= roots[0].ended_ns


async def test_a_retry_is_a_row_of_its_own_and_the_clock_runs_on(simulated, endpoint):
    simulated.plays(
        {"fault": {"kind": "http", "status": 429, "type": "rate_limit_error", "retry_after": 0.2}},
        {"text": [5]},
        {"text": [5]},
    )
    sink = Kept()
    await runner(endpoint, sink).run()
    first = sink.trials[0]
    assert [(c.attempt, c.error_kind) for c in first.calls] == [(1, "rate_limit_error"), (2, None)]
    assert first.trial.outcome == "ok" and first.trial.ended_ns - first.trial.started_ns > 200e6


async def test_a_spend_cap_is_not_tried_again(simulated, endpoint):
    simulated.plays(
        {"fault": {"kind": "http", "status": 429, "type": "rate_limit_error"}}, {"text": [5]}
    )
    sink = Kept()
    await runner(endpoint, sink).run()
    assert len(sink.trials[0].calls) == 1 and sink.trials[0].trial.outcome == "failed"
    assert (
        sink.trials[0].trial.error_kind == "rate_limit_error"
        and sink.trials[1].trial.outcome == "ok"
    )


async def test_a_wrong_key_ends_the_run_after_three_failures_and_keeps_the_rows(
    simulated, endpoint, monkeypatch
):
    made = runner(endpoint, sink := Kept(), runs=9)
    real = made._trial

    async def with_wrong_key(*values):
        made.session.client_of(endpoint).api_key = "wrong"
        return await real(*values)

    monkeypatch.setattr(made, "_trial", with_wrong_key)
    await made.run()
    assert made.status == "failed" and "authentication_error" in made.text
    assert [f.trial.error_kind for f in sink.trials] == ["authentication_error"] * 3


async def test_a_trial_past_its_deadline_fails_with_that_word(simulated, endpoint):
    simulated.plays({"text": [5, 5000], "done": 5000}, {"text": [5]})
    sink = Kept()
    await runner(endpoint, sink, deadline_s=0.5).run()
    late = sink.trials[0]
    assert (late.trial.outcome, late.trial.error_kind) == ("failed", "deadline")
    assert late.calls[0].error_kind in ("cancelled", "timeout")


async def test_a_time_out_of_the_users_own_is_not_the_deadline(simulated, endpoint, monkeypatch):
    async def trial(bench, arm, knobs, task):
        only_measured(bench)
        raise TimeoutError("my queue was empty")

    sink = Kept()
    await runner(endpoint, sink, a_technique(trial), monkeypatch).run()
    assert (sink.trials[0].trial.error_kind, sink.trials[0].trial.error_text) == (
        "exception",
        "TimeoutError: my queue was empty",
    )


async def test_stop_cancels_the_answer_on_its_way(simulated, endpoint):
    simulated.plays({"text": [5, 60000], "done": 60000})
    asked = asyncio.Event()
    sink = Kept()
    made = runner(endpoint, sink, runs=5, stop=asked.is_set)
    task = asyncio.create_task(made.run())
    while not any(truth["events"] for truth in await asyncio.to_thread(simulated.truth)):
        await sleep_s(0.01)
    asked.set()
    began = now_ns()
    await task
    assert now_ns() - began < 20e9
    assert made.status == "interrupted" and sink.ends == ["interrupted"]
    assert (
        sink.trials[-1].trial.outcome == "cancelled"
        and sink.trials[-1].calls[0].error_kind == "cancelled"
    )
    assert made.told[-1]["kind"] == "ended"


async def test_the_users_own_calls_become_rows(simulated, endpoint, monkeypatch):
    async def trial(bench, arm, knobs, task):
        message = await bench.client.messages.create(
            model="simulated-small", max_tokens=8, messages=[{"role": "user", "content": "Hi"}]
        )
        async with bench.client.messages.stream(
            model="simulated-small", max_tokens=8, messages=[{"role": "user", "content": "Hi"}]
        ) as stream:
            await stream.get_final_text()
        return message.content[0].text

    sink = Kept()
    await runner(endpoint, sink, a_technique(trial), monkeypatch).run()
    for f in sink.trials:
        assert [(c.role, c.model, c.error_kind) for c in f.calls] == [
            ("answer", "simulated-small", None)
        ] * 2
        assert f.calls[0].first_text_ns is None and f.calls[1].first_text_ns is not None
        assert f.trial.outcome == "ok" and all(c.output_tokens for c in f.calls)


async def test_an_exception_in_a_trial_is_a_row(simulated, endpoint, monkeypatch):
    async def trial(bench, arm, knobs, task):
        only_measured(bench)
        raise KeyError("oops")

    made = runner(endpoint, sink := Kept(), a_technique(trial), monkeypatch)
    await made.run()
    assert {f.trial.error_kind for f in sink.trials} == {"exception"} and "oops" in sink.trials[
        0
    ].trial.error_text


async def test_a_trial_in_the_wrong_cache_state_is_a_mismatch(simulated, endpoint, monkeypatch):
    prefix = [{"type": "text", "text": "stone " * 2000, "cache_control": {"type": "ephemeral"}}]

    async def prepare(bench, arm, knobs, task):
        if arm == "streamed":
            await bench.call(
                Request(task.body_for(8, system=prefix), intended_cache="write"), role="prime"
            )

    async def trial(bench, arm, knobs, task):
        return (
            await bench.call(Request(task.body_for(8, system=prefix), intended_cache="read"))
        ).text

    sink = Kept()
    await runner(endpoint, sink, a_technique(trial, prepare=prepare), monkeypatch).run()
    assert {f.trial.arm: f.trial.outcome for f in sink.trials} == {
        "whole": "mismatch",
        "streamed": "ok",
    }
    primed = next(f for f in sink.trials if f.trial.arm == "streamed")
    assert [c.role for c in primed.calls] == ["prime", "answer"] and primed.calls[
        0
    ].ended_ns <= primed.trial.started_ns


async def test_parallel_calls_have_a_span_each_under_the_same_parent(
    simulated, endpoint, monkeypatch
):
    async def trial(bench, arm, knobs, task):
        async with bench.span("join", "both"), asyncio.TaskGroup() as group:
            for n in range(2):
                group.create_task(
                    bench.call(Request(task.body_for(8)), role="worker", name=f"w{n}")
                )
        bench.route("small")
        return "done"

    sink = Kept()
    await runner(endpoint, sink, a_technique(trial), monkeypatch).run()
    spans = {s.name: s for s in sink.trials[0].spans}
    assert spans["w0"].parent_id == spans["w1"].parent_id == spans["both"].span_id
    assert spans["small"].kind == "route" and spans["small"].started_ns == spans["small"].ended_ns


async def test_a_joined_run_does_only_the_blocks_that_lack(simulated, endpoint):
    sink = Kept()
    await runner(endpoint, sink, runs=3, seed=5).run()
    joined = Joined(sink.runs[0], frozenset({1, 3}), {1: 1, 2: 1, 3: 1}, 0.0)
    again = Kept()
    await runner(endpoint, again, runs=3, seed=5, joined=joined).run()
    assert [(f.trial.block, f.trial.attempt) for f in again.trials] == [(2, 2), (2, 2)]
    before = [f.trial.arm for f in sink.trials if f.trial.block == 2]
    assert [f.trial.arm for f in again.trials] == before and again.runs[0].run_id == sink.runs[
        0
    ].run_id


async def test_a_target_precision_ends_the_run_early(simulated, endpoint):
    sink = Kept()
    await runner(endpoint, sink, target_half_width_ms=5000, min_runs=6, max_runs=30).run()
    assert len({f.trial.block for f in sink.measured}) == 6


async def test_side_by_side_mixes_arms_in_shared_blocks(simulated, endpoint):
    sink = Kept()
    await runner(
        endpoint,
        sink,
        technique="side-by-side",
        arms=["streaming.whole", "streaming.streamed"],
        runs=2,
    ).run()
    assert len(sink.trials) == 4 and sink.runs[0].technique == "side-by-side"
    assert len({f.trial.task_id for f in sink.trials if f.trial.block == 1}) == 1


# Before the run


def test_an_estimate_counts_what_the_trials_ask(endpoint):
    found = estimate(
        config_of(technique="streaming", runs=4, warmup=1, knobs={"answer_tokens": 100}), endpoint
    )
    assert (found.calls, found.output_tokens, found.usd, found.refusals) == (10, 1000, None, ())


def test_a_trial_of_the_users_own_code_is_not_run_to_be_counted(endpoint, monkeypatch):
    called = []

    async def trial(bench, arm, knobs, task):
        await bench.client.messages.create(model="m", max_tokens=1, messages=[])
        called.append(arm)

    monkeypatch.setattr(techniques, "find", lambda name: a_technique(trial))
    found = estimate(config_of(technique="streaming"), endpoint)
    assert found.refusals == () and "cannot be known" in found.text and called == []


def test_a_run_above_its_budget_is_refused():
    live = Endpoint(
        "anthropic",
        "live",
        "https://api.anthropic.com",
        "key",
        {"small": "claude-haiku-5-5", "large": "claude-sonnet-5-5"},
    )
    found = estimate(config_of(technique="streaming", runs=5000), live)
    assert "budget of $0.50" in found.refusals[0]
    assert estimate(config_of(technique="streaming", runs=5), live).refusals == ()


def test_a_model_without_a_price_is_held_by_the_budget_too_and_says_so():
    live = Endpoint(
        "gate",
        "live",
        "https://gate.example",
        "key",
        {"small": "claude-next-9", "large": "claude-next-9"},
    )
    few = estimate(config_of(technique="streaming", runs=2, warmup=0), live)
    assert few.refusals == () and "No price is known for claude-next-9" in few.text
    assert (
        "budget of $0.50" in estimate(config_of(technique="streaming", runs=500), live).refusals[0]
    )


def test_blocks_that_are_done_are_not_estimated_again(endpoint):
    config = config_of(technique="streaming", runs=20, warmup=0)
    assert [estimate(config, endpoint, done=range(1, 1 + done)).calls for done in (0, 15, 20)] == [
        40,
        10,
        0,
    ]


def test_a_split_with_one_ttl_leaves_the_rest_to_the_other():
    for split, expected in (
        ({"ephemeral_1h_input_tokens": 1000}, (0, 1000)),
        ({}, (1000, None)),
        ({"ephemeral_5m_input_tokens": 400, "ephemeral_1h_input_tokens": 600}, (400, 600)),
    ):
        usage = {"cache_creation_input_tokens": 1000, "cache_creation": split}
        columns = usage_columns(usage)
        assert (columns["cache_write_5m_tokens"], columns["cache_write_1h_tokens"]) == expected


async def test_a_trial_with_one_unpriced_call_has_no_cost(simulated, endpoint, monkeypatch):
    async def trial(bench, arm, knobs, task):
        for model in ("simulated-small", "simulated-large"):
            await bench.call(Request(task.body_for(8), model=model, stream=False))

    monkeypatch.setattr(
        pricing, "cost_usd", lambda model, usage, day: 0.5 if model == "simulated-small" else None
    )
    sink = Kept()
    await runner(endpoint, sink, a_technique(trial), monkeypatch).run()
    assert [c.cost_usd for c in sink.trials[0].calls] == [0.5, None] and sink.trials[
        0
    ].trial.cost_usd is None


async def test_the_budget_is_a_hard_stop(simulated, endpoint):
    made = runner(endpoint, sink := Kept(), runs=4, max_usd=0.0)
    made.budget.spent_usd = 0.01
    await made.run()
    assert made.status == "interrupted" and "budget" in made.text and sink.trials == []


def test_arms_of_a_subset_keep_the_users_baseline():
    plan = planning.experiment(
        config_of(technique="streaming", arms=["streamed", "whole"]), "local"
    )
    assert [v.arm for v in plan.variants] == [
        replace(a) for a in reversed(streaming.TECHNIQUE.arms)
    ] and isinstance(plan.baseline.arm, Arm)


def test_an_imported_run_brings_neither_a_budget_nor_a_file_to_read():
    run = {
        "settings": {
            "config": {
                "technique": "streaming",
                "max_usd": 900.0,
                "db": "/else",
                "endpoint": "http://x",
            }
        },
        "endpoint": "local",
    }
    mine = resume.repeated(run)
    assert (mine["max_usd"], mine["endpoint"], mine["db"]) == (900.0, "local", None)
    assert resume.repeated({**run, "imported_from": float("nan")})["max_usd"] == 900.0
    assert "max_usd" not in resume.repeated({**run, "imported_from": "theirs.duckdb"})
    run["settings"]["config"]["scenario"] = "/etc/passwd"
    with pytest.raises(LabError, match="file that it names"):
        resume.repeated({**run, "imported_from": "theirs.duckdb"})


async def test_a_timeout_of_the_sdk_in_the_users_own_code_is_called_one(
    simulated, endpoint, monkeypatch
):
    simulated.plays({"headers": 5000, "text": [5000], "done": 5000})

    async def trial(bench, arm, knobs, task):
        asked = {
            "model": "simulated-small",
            "max_tokens": 8,
            "messages": [{"role": "user", "content": "Hi"}],
        }
        await bench.client.with_options(timeout=0.2).messages.create(**asked)

    sink = Kept()
    await runner(endpoint, sink, a_technique(trial), monkeypatch).run()
    assert sink.trials[0].trial.error_kind == "timeout"


def test_the_nonce_goes_into_no_tool_of_the_servers_own():
    """Which takes no description: the API refuses it."""
    search = {"type": "tool_search_tool_bm25", "name": "tool_search_tool_bm25"}
    own = {"name": "tides", "description": "high water"}
    body = bodies.with_nonce({"tools": [search, own]}, "[trial 1] ")
    assert body["tools"] == [search, {**own, "description": "[trial 1] high water"}]
    assert bodies.with_nonce({"tools": [search]}, "[trial 1] ")["tools"] == [search]
