"""Served is not asked: what the endpoint put in the place of a model, speed, tier, effort or thread
is left out, counted and said."""

import html
import json

import pytest
from streamlit.testing.v1 import AppTest

from lab import paths, results
from lab.harness import served
from lab.harness.reporters.html import HTMLReporter
from lab.harness.reporters.json_object import as_object
from lab.instrumentation.parsing import Reading
from lab.rows import CallRow
from lab.stats import unconfirmed
from lab.store import queries
from lab.techniques import your_requests
from tests.measured import FAST, measure
from tests.test_metrics import a_call, a_trial, begun, store  # noqa: F401

SMALL, LARGE = "simulated-small", "simulated-large"
SPEEDS = [{"name": "standard"}, {"name": "fast", "speed": "fast"}]
MODELS = [{"name": "small", "model": SMALL}, {"name": "large", "model": LARGE}]


def a_row(asked: dict, **changes) -> CallRow:
    row = CallRow("c", "t", "r", "s", "p", "answer", 1, "live", asked.get("model", "?"))
    row.asked, row.message_id = asked, "msg_1"
    for name, value in changes.items():
        setattr(row, name, value)
    return row


async def asked_otherwise(control, bodies: list[dict], runs: int = 20, **knobs):
    control.knobs(**FAST, **knobs)
    return await measure(
        control, "ab", runs=runs, seed=1, knobs={"bodies": json.dumps(bodies), "answer_tokens": 8}
    )


@pytest.mark.parametrize(
    ("bodies", "knobs", "reason"),
    [
        (SPEEDS, {"serve_speed": "standard"}, "asked fast, served standard"),
        (MODELS, {"models": {LARGE: {"serve_model": SMALL}}}, f"asked {LARGE}, served {SMALL}"),
    ],
    ids=["speed", "model"],
)
async def test_a_silent_fallback_is_left_out_and_said_with_its_count(
    simulated, db, bodies, knobs, reason, tmp_path
):
    measured = await asked_otherwise(simulated, bodies, serve_rate=0.25, seed=4, **knobs)
    arm = bodies[1]["name"]
    calls = measured.calls[measured.calls["arm"] == arm]
    truth = {one["request_id"]: one["served"] for one in simulated.truth()}
    wanted = {"speed": "fast"} if arm == "fast" else {"model": LARGE}
    fell = {
        call.trial_id
        for call in calls.itertuples()
        if truth[call.request_id].items() & wanted.items() == set()
    }
    left_out = measured.arm(arm).query("outcome == 'mismatch'")
    n = len(fell)
    assert 2 <= n <= 10 and set(left_out["trial_id"]) == fell
    assert left_out["lost"].all() and set(left_out["error_text"]) == {reason}

    result = results.read(measured.run_id)
    told = f"{n} of 20 trials of {arm} were left out: {reason}"
    assert told in result.verdicts[0].doubts
    (_, counted) = as_object(result)["arms"]
    assert counted["mismatches"] == {reason: n} and (counted["n"], counted["lost"]) == (20 - n, n)
    assert counted["failures"] == {"served_otherwise": n}
    assert "were served otherwise than asked" in result.verdicts[0].headline
    report = HTMLReporter(tmp_path).report(result).read_text(encoding="utf-8")
    assert told in html.unescape(report)


async def test_the_page_says_what_was_left_out_and_why(simulated, db):
    measured = await asked_otherwise(
        simulated, SPEEDS, runs=12, serve_speed="standard", serve_rate=0.25, seed=4
    )
    n = int((measured.arm("fast")["outcome"] == "mismatch").sum())
    app = AppTest.from_file(str(paths.ROOT / "app.py"), default_timeout=60)
    app.query_params["run"] = measured.run_id
    app.switch_page(f"pages/{your_requests.TECHNIQUE.page}").run()
    assert not app.exception and n > 1
    shown = html.unescape(" ".join(str(element.value) for element in (*app.markdown, *app.html)))
    assert f"{n} of 12 trials of fast were left out: asked fast, served standard" in shown


async def test_what_always_falls_back_ends_the_run_after_three_with_the_cause(simulated, db):
    measured = await asked_otherwise(simulated, SPEEDS, serve_speed="standard")
    assert len(measured.arm("fast")) == 3
    run = results.read(measured.run_id)
    assert run.run["status"] == "failed"
    told = run.verdicts[0].headline
    assert "all 3 trials of fast were left out: asked fast, served standard" in told


async def test_what_is_served_as_it_was_asked_is_not_suspected(simulated, db):
    measured = await asked_otherwise(simulated, [*SPEEDS, MODELS[1]], runs=6)
    assert set(measured.trials["outcome"]) == {"ok"}
    assert measured.calls.query("arm == 'fast'")["speed"].eq("fast").all()
    asked = measured.calls.query("arm == 'fast'")["asked"].map(json.loads)
    assert asked.tolist() == [{"model": SMALL, "speed": "fast"}] * 6


HAIKU, OPUS = "claude-haiku-5-5", "claude-opus-5-5"


@pytest.mark.parametrize(
    ("asked", "answered", "is_other"),
    [
        (HAIKU, f"{HAIKU}-20261007", False),  # the dated name that an alias stands for
        (HAIKU, f"us.anthropic.{HAIKU}-v1:0", False),
        (f"anthropic/{HAIKU}", HAIKU, False),
        ("claude-sonnet-4-0", "claude-sonnet-4-20250514", False),
        ("claude-haiku", HAIKU, False),  # a name that no list has: it may stand for any of them
        ("our-best", OPUS, False),  # a gateway's own name for it
        (OPUS, "deployment-3", False),
        ("anthropic/claude-sonnet-4.5", "claude-sonnet-4-5-20250929", False),
        ("anthropic/claude-sonnet-4.5", "anthropic/claude-4.5-sonnet-20250929", False),
        (f"anthropic/{OPUS}:thinking", OPUS, False),
        (f"{OPUS}[1m]", OPUS, False),
        ("claude-fable-5", "claude-fable-5-2", True),  # a version is a model of its own
        ("claude-opus-4", "claude-opus-4-8", True),
        ("claude-sonnet-4-5", "claude-sonnet-5-4", True),
        (OPUS, HAIKU, True),
        (f"anthropic/{OPUS}", f"us.anthropic.{HAIKU}-v1:0", True),
        (OPUS, None, False),
    ],
)
def test_a_model_is_another_where_both_names_are_known_for_two(asked, answered, is_other):
    reasons = served.otherwise(a_row({"model": asked}, served_model=answered), Reading())
    assert reasons == ([f"asked {asked}, served {answered}"] if is_other else [])


def test_a_model_that_stands_in_for_an_alias_and_says_so_is_none_served_otherwise():
    row = a_row({"model": OPUS}, served_model=LARGE)
    assert served.otherwise(row, Reading(lab={"asked_model": OPUS})) == []
    assert served.otherwise(row, Reading(lab={"prefill_ms": 1})) == [
        f"asked {OPUS}, served {LARGE}"
    ]


def test_tiers_effort_and_thinking_are_held_to_what_can_be_known():
    def told(asked: dict, lab: dict | None = None, **changes) -> list[str]:
        return served.otherwise(a_row(asked, **changes), Reading(lab=lab or {}))

    assert told({"service_tier": "auto"}, service_tier="priority") == []
    assert told({"service_tier": "standard_only"}, service_tier="standard") == []
    assert told({"service_tier": "standard_only"}, service_tier="priority") == [
        "asked service tier standard_only, served priority"
    ]
    assert told({"effort": "low"}) == told({"effort": "low"}, {"effort": "low"}) == []
    assert told({"effort": "low"}, {"effort": "high"}) == ["asked effort low, served high"]
    assert told({"thinking": "disabled"}, thinking_tokens=0) == []
    assert told({"thinking": "disabled"}, thinking_tokens=9) == [
        "asked not to think, and it thought"
    ]
    assert told({"thinking": "adaptive"}, thinking_tokens=0) == []
    assert told({"speed": "fast"}, speed="standard", error_kind="timeout") == []


def test_a_thread_that_was_not_continued_shows_in_its_prompt():
    """100 tokens are asked, the next turn adds 20; a gateway that drops `thread` counts 20."""

    def turn(threads: served.Threads, kind: str, message_id: str, before: str, tokens: int):
        body = {"thread": {"type": kind, "previous_message_id": before}}
        row = a_row(served.asked(body), message_id=message_id)
        return row, threads.take(row, body, tokens)

    threads = served.Threads()
    first, _ = turn(threads, "create", "msg_1", "", 100)
    second, kept = turn(threads, "continue", "msg_2", "msg_1", 150)
    third, dropped = turn(threads, "continue", "msg_3", "msg_2", 20)
    assert [row.thread_id for row in (first, second, third)] == ["msg_1"] * 3
    assert kept is None
    assert dropped == "asked to continue a thread, and answered without what it held"
    assert turn(threads, "continue", None, "msg_3", 200)[1].endswith(
        "no id of the answer came back"
    )
    assert turn(threads, "continue", "msg_9", "msg_7", 20)[1] is None, "nobody knows what it held"


def test_what_no_answer_says_is_not_confirmed_and_no_mismatch(store):  # noqa: F811
    calls = []
    for asked, speed in (({"effort": "low", "speed": "fast"}, None), ({"speed": "fast"}, "fast")):
        call = a_call(10)
        call.asked = {"model": "simulated", **asked}
        call.served_model, call.speed = "simulated", speed
        calls.append(call)
    calls.append(a_call(20))
    calls[-1].asked = {"model": "our-best", "service_tier": "auto", "thinking": "between_tools"}
    calls[-1].served_model = OPUS
    store.write_trials([a_trial("streamed", *calls)])
    reports = queries.served_reports(store, calls[0].run_id)
    assert unconfirmed.sentence(reports, own_server=False) == (
        f"Not confirmed by the endpoint: model our-best (answered as {OPUS}), effort low. Its"
        " answers do not say it, so that nothing would show if another had been served."
    )
    assert unconfirmed.sentence(reports, own_server=True) is None


def test_what_a_body_wrote_in_no_known_shape_was_not_asked():
    assert served.asked({"model": 7, "thread": "x", "output_config": None}) == {}
