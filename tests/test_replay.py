"""Recorded calls, asked again: as recorded and with a fix, and the prediction beside what was
found."""

import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console
from streamlit.testing.v1 import AppTest

from lab import recorded_tasks, recordings, results, resume, techniques, units, worker
from lab.endpoints import registry
from lab.harness import plan
from lab.harness.bench import TrialBench
from lab.harness.reporters.console import ConsoleReporter
from lab.harness.reporters.markdown import markdown
from lab.model import LabError, Request
from lab.recording.facts import Estimate, Worth
from lab.scenarios.definitions import Task
from lab.settings import config_of
from lab.store import queries
from lab.store.store import Store
from lab.techniques import replay
from pages.parts import prove
from tests import app_recordings
from tests.app_recordings import MARK, STABLE, body, text
from tests.measured import FAST

REPLAY = techniques.of_recordings()


def replayed(run_id: str, calls: str = "", **settings):
    scenario = f"recording:{run_id}" + (f":{calls}" if calls else "")
    return config_of(**{"technique": REPLAY.slug, "scenario": scenario} | settings)


@pytest.fixture
def clocked(db) -> str:
    """A recording in which a time in the system prompt breaks the cache of its second call."""
    return app_recordings.record(Store(), app_recordings.with_a_clock())


@pytest.fixture
def served(simulated, monkeypatch):
    """A server that reads 1,000 tokens a second, and the cache at once."""
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    simulated.knobs(**FAST, prefill_ms_per_token=0.5)
    return simulated.base_url


def test_a_clock_in_the_system_prompt_is_mended_and_stands_beside_its_prediction(clocked, served):
    recording = recordings.read(Store(), clocked)
    (miss,) = [miss for miss in recording.misses if miss.cause == "system_differs"]
    predicted = Estimate(0.4, 0.3, 0.5)
    config = recorded_tasks.proof(recording, "move_changing", [miss.call_id], predicted)
    done = worker.measure(config.model_copy(update={"endpoint": served, "runs": 6, "warmup": 0}))
    result = results.read(done.run_id)
    assert result.comparison().verdict == "faster"
    assert result.verdicts[0].headline.startswith("Fixed is faster")
    assert result.prediction.startswith("Predicted 0.40 s [0.30, 0.50] sooner a call, measured 0.")
    assert 200 < -result.effect < 600

    calls = result.calls[result.calls["role"] == "answer"]
    read = calls.groupby("arm")["cache_read_tokens"].median()
    assert read["as recorded"] == 0 and read["fixed"] > 500
    assert set(result.trials["outcome"]) == {"ok"}
    assert (result.calls["role"] == "prime").sum() == 12

    kept = json.dumps(result.run["settings"])
    assert STABLE[:30] not in kept and "tide" not in kept
    assert miss.call_id in result.run["settings"]["config"]["scenario"]
    assert result.run["settings"]["scenario"] == f"recording:{clocked}"
    assert queries.runs_of_recording(Store(), clocked, REPLAY.slug) == [done.run_id]
    assert f"- {units.in_markdown(result.prediction)}" in markdown(result)
    more = resume.more(result.run, 2).model_copy(update={"endpoint": served})
    assert [task.task_id for task in recorded_tasks.resolved(more).tasks] == ["call-2"]
    told = recorded_tasks.told(config_of(**result.run["settings"]["config"]))
    assert told.startswith("Call 2: 15 changing characters moved out of the system prompt")

    console = Console(file=io.StringIO(), width=200)
    ConsoleReporter(console).report(result)
    assert result.prediction in console.file.getvalue()


def test_without_a_name_the_fix_and_its_calls_are_those_that_are_proposed(clocked):
    config = recorded_tasks.resolved(replayed(clocked))
    ids = list(recordings.read(Store(), clocked).calls["call_id"])
    assert config.knobs["fix"] == "move_changing"
    assert config.scenario == f"recording:{clocked}:{ids[1]}@{ids[0]}"
    assert (config.endpoint, config.models) == ("simulated", {"any": "simulated-small"})
    (task,) = config.tasks
    assert task.task_id == "call-2" and len(task.before) == 1
    assert task.body["max_tokens"] == 9, "as long as the recorded answer"


def test_a_stored_replay_is_resolved_to_the_same_calls_again(clocked):
    first = recorded_tasks.resolved(replayed(clocked))
    again = recorded_tasks.resolved(first.model_copy(update={"tasks": None}))
    assert again == first and recorded_tasks.resolved(again) is again


def test_calls_are_named_by_number_or_id_and_may_name_the_one_before(clocked):
    ids = list(recordings.read(Store(), clocked).calls["call_id"])
    for words in ("2@1", f"{ids[1]}@{ids[0]}", "2"):
        config = recorded_tasks.resolved(replayed(clocked, words, knobs={"fix": "move_changing"}))
        assert config.scenario.endswith(f"{ids[1]}@{ids[0]}")
    with pytest.raises(LabError, match="no such call"):
        recorded_tasks.resolved(replayed(clocked, "7"))


def test_a_fix_that_does_not_apply_is_refused_in_its_own_words(clocked):
    with pytest.raises(LabError, match="no tools to sort"):
        recorded_tasks.resolved(replayed(clocked, knobs={"fix": "sort_tools"}))
    with pytest.raises(LabError, match="streams already"):
        recorded_tasks.resolved(replayed(clocked, "2", knobs={"fix": "stream"}))


def test_a_recording_that_kept_no_text_cannot_be_replayed(db):
    run_id = app_recordings.record(Store(), app_recordings.with_a_clock(), keep_text=False)
    with pytest.raises(LabError, match=r"kept no text.*--keep-text"):
        recorded_tasks.resolved(replayed(run_id))


def test_the_last_recording_is_the_newest_that_can_be_replayed(db):
    store, calls = Store(), app_recordings.with_a_clock()
    app_recordings.record(store, calls, keep_text=False)
    with pytest.raises(LabError, match=r"No recording kept text.*--keep-text"):
        recorded_tasks.resolved(replayed("last"))
    app_recordings.record(store, [])
    with pytest.raises(LabError, match="None of the recordings can be replayed: no call ended"):
        recorded_tasks.resolved(replayed("last"))
    kept = app_recordings.record(store, calls)
    app_recordings.record(store, [])
    app_recordings.record(store, calls, keep_text=False)
    assert kept in recorded_tasks.resolved(replayed("last")).scenario


def test_a_replay_without_a_recording_says_which_name_it_needs(db):
    with pytest.raises(LabError, match="Name the recording"):
        recorded_tasks.resolved(config_of(technique=REPLAY.slug))
    with pytest.raises(LabError, match="no recording yet"):
        recorded_tasks.resolved(replayed("last"))


def test_every_technique_can_ask_the_apps_own_calls(clocked):
    for technique in techniques.all_techniques():
        if technique.of_recordings:
            continue
        config = recorded_tasks.resolved(replayed(clocked, technique=technique.slug))
        tasks = plan.experiment(config, "simulated").tasks
        assert [task.task_id for task in tasks] == ["call-1", "call-2"]
        assert all(task.body and not task.before for task in tasks)


def test_a_run_of_an_apps_calls_keeps_their_ids_and_none_of_their_words(clocked):
    config = recorded_tasks.resolved(replayed(clocked, technique="streaming"))
    for keep in (None, True):
        asked = config.model_copy(update={"keep_text": keep})
        stored = plan.stored_settings(asked, plan.experiment(asked, "simulated"))
        assert "tasks" not in stored["config"] and "tide" not in json.dumps(stored)
        assert stored["config"]["scenario"].startswith(f"recording:{clocked}:")


def test_a_model_that_the_endpoint_does_not_have_is_the_runs_own(db):
    calls = [call | {"model": "claude-sonnet-5-5"} for call in app_recordings.with_a_clock()]
    config = recorded_tasks.resolved(replayed(app_recordings.record(Store(), calls)))
    assert "model" not in config.tasks[0].body and config.models == {}


def test_what_a_betas_header_brought_is_asked_again_with_it(db):
    calls = app_recordings.with_a_clock()
    run_id = app_recordings.record(Store(), calls, betas="context-management-2025-06-27")
    (task,) = recorded_tasks.resolved(replayed(run_id)).tasks
    assert task.betas == "context-management-2025-06-27"


@pytest.mark.parametrize(
    ("of_the_arm", "sent"),
    [({}, "a-1,b-2"), ({"anthropic-beta": "fast-3,b-2"}, "a-1,b-2,fast-3")],
    ids=["none", "its own"],
)
def test_the_beta_of_an_arm_stands_beside_those_of_its_task(of_the_arm, sent):
    session = SimpleNamespace(endpoint=registry.find("simulated"))
    bench = TrialBench(session, None, "", betas="a-1, b-2")
    assert bench._headers(Request({}, headers=of_the_arm)) == {"anthropic-beta": sent}


def sides(fix: str, before, call):
    task = Task(body=call, before=(before,) if before else ())
    return [replay.sides(arm.name, REPLAY.knobs(fix=fix), task) for arm in REPLAY.arms]


def test_after_too_long_a_pause_nothing_is_left_to_read_but_with_the_fix():
    before, call = body([text(STABLE, **MARK)], "One?"), body([text(STABLE, **MARK)], "Two?")
    (recorded, _), (fixed, _) = sides("ttl_1h", before, call)
    assert recorded is None
    assert fixed["system"][0]["cache_control"]["ttl"] == "1h"


def test_a_worths_seconds_are_those_of_all_its_calls_and_a_proofs_of_one(clocked):
    recording = recordings.read(Store(), clocked)
    calls = list(recording.calls["call_id"])
    worth = Worth("Stream", calls, Estimate(4, 2, 6), None, "", True, "stream")
    config = prove._config(recording, worth.fix, calls, worth.seconds, worth.is_upper_bound)
    assert (config.predicted.value, config.predicted.low, config.predicted.high) == (2, 1, 3)
    assert config.predicted.is_upper_bound and config.knobs == {"fix": "stream"}


def opened(page: str) -> AppTest:
    app = AppTest.from_file("../app.py", default_timeout=120).switch_page(page)
    app.query_params["endpoint"] = "simulated"
    return app.run()


def test_the_page_says_what_a_replay_needs_and_offers_it_once_it_is_there(db):
    app = opened(f"pages/{REPLAY.page}")
    assert not app.exception and not app.error and "keeps its text" in app.info[0].value
    app_recordings.record(Store(), app_recordings.with_a_clock())
    app = opened(f"pages/{REPLAY.page}")
    assert not app.exception and not app.error
    assert not app.button("run-button").disabled


def button_of(cause: str) -> None:
    from lab import recordings
    from lab.recording import fixes
    from lab.store import queries
    from lab.store.store import Store
    from pages.parts import prove

    run_id = queries.recordings(Store())["run_id"].iloc[0]
    recording = recordings.read(Store(), run_id)
    miss = next(miss for miss in recording.misses if miss.cause == cause)
    prove.button(recording, fixes.for_miss(miss), [miss.call_id], miss.seconds, "miss")


def pressed(cause: str) -> AppTest:
    app = AppTest.from_function(button_of, args=(cause,), default_timeout=60)
    app.session_state["asked"] = set()
    return app.run()


def test_a_button_that_cannot_prove_says_why(db):
    app_recordings.record(Store(), app_recordings.with_a_clock(), keep_text=False)
    (button,) = pressed("system_differs").button
    assert button.disabled and "kept no text" in button.help
    (button,) = pressed("first_use").button
    assert button.disabled and "in your app itself" in button.help


def test_what_costs_money_says_its_price_before_it_starts(db, monkeypatch):
    calls = [call | {"model": "claude-sonnet-5-5"} for call in app_recordings.with_a_clock()]
    app_recordings.record(Store(), calls, endpoint="anthropic", kind="live")
    app = pressed("system_differs")
    assert "No ANTHROPIC_API_KEY".replace("_", "\\_") in app.button[0].click().run().error[0].value
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-none")
    monkeypatch.delenv("LAB_IGNORE_KEYS")
    app = pressed("system_differs")
    app.button[0].click().run()
    assert not app.exception and not app.error
    assert "at most" in app.markdown[-1].value and app.button("prove-start")
    assert "ordered" not in app.session_state
