"""What is rehearsed is what is sent: estimates and code samples show the requests of the run."""

import json
import re
from dataclasses import replace
from inspect import signature
from types import SimpleNamespace

import pytest

from bench.raw_server import RawServer
from lab import endpoint_kinds, techniques
from lab.clock import now_ns
from lab.endpoints import consent, registry
from lab.endpoints.registry import Endpoint
from lab.harness import plan as planning
from lab.harness import rehearsal, runner
from lab.harness.bench import TrialBench
from lab.harness.estimate import MOST_REHEARSED, estimate
from lab.harness.rehearsal import Mood, Rehearsal, rehearse
from lab.harness.runner import BenchmarkRunner
from lab.model import Bench, LabError, Reply, Request
from lab.scenarios.definitions import Task
from lab.settings import config_of
from lab.techniques import streaming
from tests.measured import FAST
from tests.test_harness import Kept, a_technique

NONCE = re.compile(rb"\[trial \d{16}\] ?")
IN_A_NAME = re.compile(rb"\d{16}")
"""The nonce where a trial names something by it; a rehearsal's is empty, and so called 0."""
MODELS = {"small": "simulated-small", "large": "simulated-large"}
QUICK = {"service_ms": 0, "answer_tokens": 16, "report_tokens": 16, "prefix_tokens": 200}
KNOBS = [(technique, {}) for technique in techniques.all_techniques()] + [
    (techniques.find("parallelism"), {"suite": "requests", "shared_prefix": True, "tier": "both"}),
    (techniques.find("routing"), {"check": "self", "classifier": "uncached"}),
    (techniques.find("caching"), {"turns": 3, "part": "tools"}),
]
JUDGED = {"kind": "judge", "criteria": "short"}


def quick(technique, knobs):
    fields = technique.knobs.model_fields
    return {name: value for name, value in {**QUICK, **knobs}.items() if name in fields}


def sent(call) -> dict:
    """The body of a measured call, less its nonce and `stream`."""
    body = json.loads(IN_A_NAME.sub(b"0", NONCE.sub(b"", call.exchange.request_body)))
    body.pop("stream", None)
    if "system" not in body:
        return body  # of a thread, which holds it
    if body["system"] in ("", [{"type": "text", "text": ""}]):
        del body["system"]
    elif isinstance(body["system"], list):
        body["system"] = [block for block in body["system"] if block["text"]]
    return body


def key(body) -> str:
    return json.dumps(body, sort_keys=True)


@pytest.mark.parametrize(
    ("technique", "knobs"),
    KNOBS,
    ids=[".".join([technique.slug, *map(str, knobs.values())]) for technique, knobs in KNOBS],
)
async def test_each_body_is_rehearsed_as_the_bench_sends_it(
    simulated, monkeypatch, technique, knobs
):
    """A rehearsal that gets the answers of the run asks what the run asked, to the last field."""
    simulated.knobs(**FAST)
    monkeypatch.setitem(registry.THINKING_OFF, "simulated-small", {"type": "disabled"})
    able = registry.CAPABILITIES | endpoint_kinds.kind("simulated").can
    place = simulated.base_url, simulated.api_key
    endpoint = Endpoint("live", "live", *place, MODELS, "small", capabilities=able)
    benches, replies = [], {}

    class Recorded(runner.TrialBench):
        def __init__(self, *values):
            super().__init__(*values)
            benches.append(self)

        async def call(self, *values, **named):
            reply = await super().call(*values, **named)
            assert reply.ok, reply.error_text
            replies[reply.call_id] = reply
            return reply

    monkeypatch.setattr(runner, "TrialBench", Recorded)
    config = config_of(
        technique=technique.slug,
        knobs=quick(technique, knobs),
        runs=1,
        warmup=0,
        seed=1,
        max_usd=1e6,
    )
    await BenchmarkRunner(config, Kept(), endpoint=endpoint).run()
    able = planning.abilities(endpoint)
    (block,) = planning.experiment(config, "live", able=able).blocks(1, 1, 1)
    for bench, variant in zip(benches, block.order, strict=True):
        # One that the trial itself cancelled has an equal one that answered.
        kept = [call for call in bench.calls if call.id in replies]
        bodies = {key(sent(call)): replies[call.id] for call in kept}

        async def answered(self, request, *values, bodies=bodies, **named):
            place = len(self.asked)
            await Rehearsal.call(self, request, *values, **named)
            body = self.asked[place].body
            assert key(body) in bodies, f"never sent: {body}"
            return bodies[key(body)]

        monkeypatch.setattr(rehearsal, "Rehearsal", type("R", (Rehearsal,), {"call": answered}))
        asked = await rehearse(
            variant.technique, variant.arm.name, variant.knobs, block.task, endpoint, judged=True
        )
        assert sorted(key(request.body) for request in asked) == sorted(
            key(sent(call)) for call in bench.calls
        )
        order = sorted(asked, key=lambda request: key(request.body))
        calls = sorted(bench.calls, key=lambda call: key(sent(call)))
        assert [(request.role, request.name, request.stream) for request in order] == [
            (call.intent.role, call.intent.name, call.intent.request.stream) for call in calls
        ]
        if technique.category == "question-answering":
            assert all(
                ("thinking" in request.body) != technique.own_text
                for request in asked
                if request.model == "simulated-small"
            )


async def test_a_trial_is_rehearsed_with_the_answers_that_its_bodies_allow():
    endpoint = registry.find("simulated")
    tool = {"name": "a", "input_schema": {"type": "object", "properties": {"n": {"enum": [1, 2]}}}}
    body = {"max_tokens": 3, "messages": [{"role": "user", "content": "x"}], "tools": [tool, tool]}
    used = [{"type": "tool_use", "id": "t", "name": "a", "input": {}}]
    result = [{"type": "tool_result", "tool_use_id": "t", "content": "1"}]
    later = [
        *body["messages"],
        {"role": "assistant", "content": used},
        {"role": "user", "content": result},
    ]

    async def reply(mood=rehearsal.LIKELY, **changes) -> Reply:
        return await Rehearsal(endpoint, mood).call(Request({**body, **changes}))

    insisting = Mood(insists=True, place=-1)
    assert [use.input for use in (await reply()).tool_uses] == [{"n": 1}, {"n": 1}]
    assert [use.input for use in (await reply(insisting)).tool_uses] == [{"n": 2}, {"n": 2}]
    single = {"type": "auto", "disable_parallel_tool_use": True}
    assert len((await reply(tool_choice=single)).tool_uses) == 1
    assert (await reply(insisting, tool_choice={"type": "none"})).text == "word word word "
    assert (await reply(messages=later)).tool_uses == ()
    assert len((await reply(insisting, messages=later)).tool_uses) == 2
    schema = {"type": "array", "items": {"anyOf": [{"const": "x"}, {}]}, "minItems": 2}
    shape = {"format": {"type": "json_schema", "schema": schema}}
    assert (await reply(tools=[], output_config=shape)).text == '["x", "x"]'


@pytest.mark.parametrize(("bench", "more"), [(TrialBench, (None, "")), (Rehearsal, ())])
def test_both_benches_have_what_a_technique_may_call(bench, more):
    names = [name for name in vars(Bench) if not name.startswith("_")]
    assert {"call", "tool", "span", "route", "mismatch", "client"} < set(names)
    made = bench(
        SimpleNamespace(models={}, capabilities=(), endpoint=registry.find("local")), *more
    )
    for name in names:
        declared = getattr(Bench, name)
        if callable(declared):
            parameters = signature(getattr(bench, name)).parameters
            assert list(parameters) == list(signature(declared).parameters)
        else:
            assert name == "client" or hasattr(made, name)


# A technique with a bug


@pytest.fixture
def broken(monkeypatch):
    """Streaming with a bug, on a live endpoint whose budget is one cent."""

    async def trial(bench, arm, knobs, task):
        reply = await bench.call(Request(task.body_for(8)))
        return {}[reply.stop_reason]

    monkeypatch.setattr(techniques, "find", lambda name: a_technique(trial))
    return trial


async def test_a_bug_in_a_technique_is_told_with_its_line_and_the_budget_stays_on(broken):
    line = broken.__code__.co_firstlineno + 2
    endpoint = Endpoint("live", "live", "http://127.0.0.1:1", "k", MODELS, "small")
    config = config_of(technique="streaming", max_usd=0.01)
    (refusal,) = estimate(config, endpoint).refusals
    assert refusal == (
        "streaming's trial failed while its requests were worked out: "
        f"KeyError 'end_turn' (test_rehearsal.py:{line})."
    )
    with pytest.raises(LabError, match="KeyError 'end_turn'"):
        await BenchmarkRunner(config, Kept(), endpoint=endpoint).run()


# At most


def tasks(count, **last):
    plain = [Task(task_id=f"t{number}", prompt="A tide? " * 20) for number in range(count - 1)]
    return [*plain, Task(task_id="last", **{"prompt": "A tide? " * 20, **last})]


@pytest.mark.parametrize("count", [4, 3 * MOST_REHEARSED])
@pytest.mark.parametrize("seed", [None, 1])
def test_at_most_is_no_less_than_any_task_can_cost(count, seed):
    """Without the long task each trial asks for 8 tokens; it may take 80."""
    body = {"max_tokens": 80, "messages": [{"role": "user", "content": "A tide? " * 200}]}
    long = tasks(count, prompt="", body=body)
    for kind, usd in (("simulated", None), ("live", 0)):
        endpoint = Endpoint(kind, kind, "http://127.0.0.1:1", "k", MODELS, "small")
        expected = estimate(
            config_of(
                technique="aa",
                tasks=long,
                runs=count,
                warmup=0,
                seed=seed,
                knobs={"answer_tokens": 8},
                max_usd=1e6,
            ),
            endpoint,
        )
        assert expected.output_tokens == 2 * ((count - 1) * 8 + 80)
        assert (expected.usd is None) == (usd is None) and expected.refusals == ()


def test_at_most_has_the_judges_calls_with_the_longest_answer_to_judge():
    endpoint = Endpoint("live", "live", "http://127.0.0.1:1", "k", MODELS, "small")

    def expected(check, answer_tokens):
        knobs = {"answer_tokens": answer_tokens}
        asked = [*tasks(3), Task(task_id="last", prompt="A tide?", check=check)]
        config = config_of(technique="aa", tasks=asked, runs=4, warmup=0, knobs=knobs, max_usd=1e6)
        return estimate(config, endpoint)

    plain, judged = expected(None, 8), expected(JUDGED, 8)
    assert judged.calls == plain.calls + 2  # each arm's answer to the one task
    assert judged.output_tokens == plain.output_tokens + 2 * 64
    assert judged.usd > plain.usd
    # A judge reads what was answered: 1,000 tokens more are 1,000 more in its prompt, at the least.
    longer = expected(JUDGED, 1008).input_tokens - judged.input_tokens
    assert longer > 2 * 1000


# Before the first trial


async def test_what_a_request_names_is_found_before_the_first_trial(db):
    """A slow endpoint that only one arm names must not be looked for inside that arm's trial."""
    slow_s = 2

    def answer(connection):
        if connection.asked.method == "GET":
            connection.silence(slow_s)
        else:
            connection.good()

    with RawServer(lambda connection: connection.good()) as own, RawServer(answer) as other:
        for server in (own, other):
            consent.allow(server.url, key=False)
        bodies = json.dumps([{"name": "a"}, {"name": "b", "endpoint": other.url}])
        config = config_of(
            technique="ab",
            endpoint=own.url,
            models={"any": "m"},
            runs=2,
            warmup=0,
            seed=1,
            max_usd=1000,
            knobs={"bodies": bodies},
        )
        tried = BenchmarkRunner(config, sink := Kept())
        looked = []
        original = registry.find
        registry.find = lambda *values: (looked.append(now_ns()), original(*values))[1]
        try:
            await tried.run()
        finally:
            registry.find = original
        methods = [request.method for request in other.asked]
    began_ns = min(trial.trial.started_ns for trial in sink.trials) + tried.session.origin_ns
    assert tried.status == "finished" and max(looked, default=0) < began_ns
    assert "GET" not in methods[methods.index("POST") :]
    assert all(
        trial.calls[0].started_ns - trial.trial.started_ns < slow_s * 1e9 for trial in sink.trials
    )


def test_a_kind_tells_whether_models_are_told_not_to_think():
    endpoint = Endpoint("x", "live", "http://127.0.0.1:1", "k", MODELS, "small")
    own = Task(task_id="t", prompt="Hi")
    mine = replace(streaming.TECHNIQUE, own_text=True)
    lab_s = own.model_copy(update={"origin": "built-in"})
    brief = rehearsal.is_brief
    assert brief(streaming.TECHNIQUE, lab_s, endpoint)
    assert not brief(streaming.TECHNIQUE, own, endpoint)
    assert not brief(mine, lab_s, endpoint)
    for name, kind in endpoint_kinds.KINDS.items():
        assert brief(streaming.TECHNIQUE, lab_s, replace(endpoint, kind=name)) == kind.priced
