"""A ladder on the simulated server: its stages, rows and sentence; Stop, budget and refusals."""

import dataclasses
import functools
import itertools
import json
from math import exp, log
from statistics import median

import pytest
from markupsafe import escape

from lab import (
    cli,
    ladder_code,
    ladder_order,
    ladder_results,
    ladder_run,
    processes,
    results,
    resume,
)
from lab.harness.reporters import figure_files, html, json_object
from lab.harness.reporters.markdown import markdown
from lab.ladder.ladder_settings import ladder_config_of
from lab.model import LabError
from lab.rows import FinishedTrial, TrialRow
from lab.settings import config_of
from lab.store import queries
from lab.store.store import Store
from lab.units import in_markdown
from tests.test_pages import opened, well

TASKS = [
    {"task_id": "a", "prompt": "Why is the sky blue?", "check": {"kind": "regex", "pattern": "."}}
]
QUICK = {"tasks": TASKS, "answer_tokens": 40, "warmup": 0, "minutes": 10, "seed": 1}
SLOW_LARGE = {"simulated-large": {"gap_ms": 12.0}, "simulated-small": {"gap_ms": 1.0}}


@pytest.fixture(autouse=True)
def few_blocks(monkeypatch):
    """On a busy machine a trial takes seconds: 24 are screened at most, twelve blocks confirm."""
    monkeypatch.setitem(ladder_run.CONFIRMING, "p50", (12, 12))
    shorter = functools.partial(ladder_run.Search, most_screened=24, most_rounds=8)
    monkeypatch.setattr(ladder_run, "Search", shorter)


@pytest.fixture
def told_by_trials(monkeypatch):
    """A ladder's minutes by its trials, half a second each, however busy the machine is."""
    ended, played = [], ladder_run.LadderRunner._trial

    async def counted(runner, *about):
        ended.append(await played(runner, *about))
        return ended[-1]

    monkeypatch.setattr(ladder_run.LadderRunner, "_trial", counted)
    monkeypatch.setattr(ladder_run, "now_ns", lambda: len(ended) * 500_000_000)


@pytest.fixture
def ladder(simulated, db, monkeypatch):
    """A ladder on the test's own server: how it ended, and its progress."""
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)

    def climbed(heard=lambda entry: None, **values):
        entries = []

        def listen(entry):
            entries.append(entry)
            heard(entry)

        config = ladder_config_of(**{"endpoint": simulated.base_url, **QUICK, **values})
        return ladder_run.measure(config, listen), entries

    return climbed


def of(kind, entries):
    return [entry for entry in entries if entry["kind"] == kind]


def counted(phase):
    rows = Store().frame(
        "SELECT arm, count(*) AS n FROM trials WHERE phase = ? GROUP BY arm", [phase]
    )
    return dict(zip(rows["arm"], map(int, rows["n"]), strict=True))


def test_what_helps_is_found_confirmed_and_told(simulated, ladder):
    """40 tokens of 12 ms each are 480 ms; streamed, the first comes after some 10."""
    simulated.knobs(answer_tokens=40, models=SLOW_LARGE)
    done, entries = ladder(levers=["streamed"])
    assert done.status == "finished"
    stages = [entry["stage"] for entry in of("stage", entries)]
    assert (stages[0], stages[-1]) == ("screening", "confirmation")
    measured = counted("measured")
    assert set(measured) == {"today", "winner"} and len(set(measured.values())) == 1
    assert set(counted("screened")) == {"today", "streamed"}

    result = ladder_results.read(done.run_id)
    assert result.winner == {"streamed": "streamed"} and result.refusal == ""
    assert result.quoted.n == measured["winner"] >= 12
    assert result.quoted.low < result.quoted.change < result.quoted.high < 0
    # The middle of all means of two log ratios (Hodges & Lehmann).
    ratios = (result.pairs["value_winner"] / result.pairs["value_today"]).tolist()
    means = [log(a * b) / 2 for a, b in itertools.combinations_with_replacement(ratios, 2)]
    assert result.quoted.change == pytest.approx(exp(median(means)) - 1)
    assert result.quoted.change < -0.3  # what a busy machine adds leaves of 97 %
    assert result.sentence.startswith("Streamed: −")
    n = result.quoted.n
    assert result.sentence.endswith(f"perceived wait, p50, quality equal in {n} of {n} blocks.")
    assert [rung.words for rung in result.rungs] == ["streamed"]
    assert {row.arm: row.is_winner for row in result.candidates.itertuples()} == {
        "today": False,
        "streamed": True,
    }
    # The same blocks are what verdict, race and history are made of.
    run = results.read(done.run_id)
    assert run.headlines[0].n == result.quoted.n
    # And all that is told of a run says the ladder's own sentence.
    assert run.verdicts[0].headline == result.sentence
    assert run.in_short.endswith(result.sentence.removesuffix("."))
    assert in_markdown(result.sentence) in markdown(run)
    [rungs] = [fig for name, fig in figure_files.run_figures(run).items() if "ladder" in name]
    assert "1 of 1 lever is in the stack" in rungs.to_json()
    assert not run.names_no_stack and run.finding().title.startswith("winner")

    # Of the same blocks with a bar that no answer could keep, none of it claims anything.
    kept = result.run["settings"]["ladder"] | {"bar": -1.0}
    barred = {**result.run, "settings": result.run["settings"] | {"ladder": kept}}
    verdict = ladder_results.verdict(Store(), barred, run.verdicts, "simulated")
    assert "is not shown" in verdict.headline and verdict.title in verdict.headline
    assert (verdict.tone, verdict.reason) == ("unsure", ladder_results.NO_STACK)
    refused = dataclasses.replace(run, verdicts=[verdict])
    assert refused.finding().title == "Perceived wait of each trial"
    assert refused.finding().reason == ladder_results.NO_STACK

    # Stopped among its blocks, it is quoted from the fewest on that were planned.
    first = sorted(result.pairs["block"])[11]
    for last, is_quoted in ((first, True), (first - 1, False)):
        cut = {"run": {**result.run, "status": "interrupted"}}
        cut["trials"] = result.trials[result.trials["block"] <= last]
        assert (dataclasses.replace(result, **cut).refusal == "") == is_quoted

    with pytest.raises(LabError, match="pasted and are not kept"):
        ladder_code.winner(result)
    with pytest.raises(LabError, match="is a ladder"):
        resume.join(Store(), config_of(technique="ladder", join_run=done.run_id))


def test_where_nothing_helps_it_refuses_and_confirms_nothing(simulated, ladder, told_by_trials):
    """One token at once: to stream it changes nothing."""
    simulated.knobs(answer_tokens=1, queue_ms=20)
    done, _ = ladder(levers=["streamed"], minutes=0.3, answer_tokens=8)
    assert counted("measured") == {}
    result = ladder_results.read(done.run_id)
    assert result.refusal.startswith("No stack of 1 lever was shown to be faster than today's")
    assert result.sentence == result.refusal and result.quoted is None
    run = results.read(done.run_id)
    assert run.in_short == result.sentence.removesuffix(".") and run.names_no_stack
    assert in_markdown(result.sentence) in markdown(run)
    assert json_object.as_object(run)["verdict"]["headline"] == result.sentence
    assert escape(result.sentence) in html.page(run)
    well(opened("pages/23_Ladder.py", run=done.run_id))
    well(opened("pages/21_History.py", run=done.run_id))
    well(opened("app.py"))


def test_a_warm_up_that_might_pass_the_budget_is_left_out(ladder, monkeypatch):
    """Half of $1.50 is the search's; a trial might cost all of a dollar."""
    monkeypatch.setattr(ladder_run.LadderRunner, "_worst_usd", lambda *about: 1.0)
    ladder(levers=["streamed"], warmup=3, max_usd=1.5)
    assert counted("warmup") == {} and counted("screened") == {}


def test_a_stop_ends_it_within_its_rows(simulated, ladder):
    def heard(entry):
        if entry["kind"] == "stage" and entry["block"] == 2:
            processes.stop(processes.running().run_id)

    done, _ = ladder(heard, levers=["streamed", "model"])
    assert (done.status, done.text) == ("interrupted", "Stopped by request.")
    assert counted("screened") and counted("measured") == {}
    result = ladder_results.read(done.run_id)
    assert "did not come to an end: it was stopped" in result.sentence
    rows = counted("screened")
    told = f"{sum(rows.values())} trials of {len(rows)} stacks were measured. More minutes"
    assert result.search_words.startswith(told)


def refuses(model):
    """What the simulated server's knobs say where one of its models answers nothing."""
    fault = {"kind": "http", "status": 400, "type": "invalid_request_error", "message": "Not now."}
    return {**SLOW_LARGE, model: {"fault": fault, "fault_rate": 1.0}}


@pytest.mark.parametrize("levers", [["streamed"], ["streamed", "answer"]])
def test_requests_that_the_endpoint_refuses_end_it_with_the_last_reason(ladder, levers):
    body = {"max_tokens": 40, "messages": [{"role": "user", "content": "Hi"}], "temperature": 5}
    done, _ = ladder(levers=levers, tasks=[{"task_id": "a", "body": body}])
    assert (done.status, done.text.partition(" (")[0]) == ("failed", "8 trials in a row were lost")
    assert "temperature" in done.text and sum(counted("screened").values()) == 8
    result = ladder_results.read(done.run_id)
    assert "8 trials in a row were lost (temperature" in result.sentence
    assert "More minutes" not in result.search_words


def test_a_lever_that_is_refused_is_no_endpoint_at_fault(ladder):
    """Eight trials in a row by chance of the order, of a block of sixteen stacks."""
    order = ladder_order.resolve(ladder_config_of(endpoint="simulated", levers=["streamed"]))
    runner = ladder_run.LadderRunner(order, None)

    def lose(arm, count):
        for _ in range(count):
            trial = TrialRow("t", "r", "s", "ladder", arm, 1, 0, 1, "screened", "a", None, 0, 1)
            trial.outcome, trial.error_text = "failed", "no fast mode"
            runner._count_lost(FinishedTrial(trial, [], []), 16)

    lose("fast mode", 15)
    assert runner.status == "running"
    lose("today", 1)
    assert (runner.status, runner.ended_with) == (
        "failed",
        "16 trials in a row were lost (no fast mode)",
    )


def test_where_today_is_lost_it_says_so(simulated, ladder):
    simulated.knobs(answer_tokens=4, models=refuses("simulated-large"))
    done, _ = ladder(levers=["model"])
    text = "one of today's own trials ended well (Not now.)."
    assert (done.status, done.text) == ("failed", f"N{text}")
    assert ladder_results.read(done.run_id).sentence.endswith(f"n{text}")
    assert counted("screened")["today"] == 4 and counted("measured") == {}


@pytest.mark.parametrize("lost", [["simulated-small"], list(SLOW_LARGE)])
def test_a_winner_that_is_lost_is_not_confirmed_to_the_last_block(simulated, ladder, lost):
    """Whether today is lost too or not. What the search settled is kept before the next stage
    begins."""
    kept = []

    def heard(entry):
        if entry["kind"] == "stage" and entry["block"] == 1:
            kept.append([one["stage"] for one in stored_stages()])
            if entry["stage"] == "confirmation":
                faults = {name: refuses(name)[name] for name in lost}
                simulated.knobs(answer_tokens=40, models=SLOW_LARGE | faults)

    simulated.knobs(answer_tokens=40, models=SLOW_LARGE)
    done, entries = ladder(heard, levers=["model"])
    arm = "winner" if counted("measured")["winner"] == 4 else "today"
    assert arm == "winner" or len(lost) == 2
    text = f"4 trials of {arm} in a row were lost (Not now.)."
    assert (done.status, done.text) == ("failed", text)
    assert counted("measured")[arm] == 4
    stages = list(dict.fromkeys(entry["stage"] for entry in of("stage", entries)))
    assert kept == [stages[:number] for number in range(len(stages))]
    told = f"unconfirmed: 4 trials of {arm} in a row were lost"
    assert told in ladder_results.read(done.run_id).sentence


def stored_stages():
    return queries.run(Store(), processes.running().run_id)["settings"]["ladder"]["stages"]


def test_it_ends_before_its_minutes_are_up(simulated, ladder, told_by_trials):
    """Levers that change nothing, in noise, are never settled: the budget ends the search, and the
    run."""
    alike = {"gap_ms": 0.0, "prefill_ms_per_token": 0.0}
    models = dict.fromkeys(SLOW_LARGE, alike)
    simulated.knobs(answer_tokens=1, queue_ms=30, jitter=0.5, models=models)
    done, entries = ladder(levers=["streamed", "model"], minutes=0.3, answer_tokens=8)
    assert done.status == "finished" or done.text == "The 0.3 minutes are up."
    left = {entry["stage"]: entry["left_s"] for entry in of("stage", entries)}
    assert left["screening"] > 0.5 * 18 and left["elimination"] > 0.3 * 18
    assert min(left.values()) > 0
    reasons = [entry["reason"] for entry in of("decision", entries)]
    assert "the minutes of the screening are spent" in reasons


def test_the_command_names_the_stack_and_writes_its_code(
    simulated, db, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    simulated.knobs(answer_tokens=40, models=SLOW_LARGE)
    tasks, code = tmp_path / "tasks.jsonl", tmp_path / "winner.py"
    tasks.write_text(json.dumps(TASKS[0]))
    words = ["ladder", "--endpoint", simulated.base_url, "--scenario", str(tasks)]
    words += ["--minutes", "10"]
    words += ["--levers", "streamed", "--answer-tokens", "40", "--warmup", "0", "--code", str(code)]
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["ladder"]
    assert told["winner"] == {"streamed": "streamed"} and told["refusal"] is None
    assert told["quoted"]["high"] < 0 and told["quoted"]["n"] == 12
    assert told["doubts"] == list(results.read(told["run_id"]).verdicts[0].doubts)
    compile(code.read_text(), "winner.py", "exec")
    assert "Why is the sky blue?" in code.read_text()
    page = opened("pages/23_Ladder.py", run=told["run_id"])
    assert "ladder-again" in {button.key for button in page.button}
    # One of an earlier version kept no name of an endpoint that was not named.
    result = ladder_results.read(told["run_id"])
    kept = {n: v for n, v in result.record["config"].items() if n not in ("endpoint", "models")}
    unnamed = dataclasses.replace(result, record=result.record | {"config": kept})
    assert '"model": "simulated-large"' in ladder_code.winner(unnamed)
    # Nor does it depend on what minutes carry by a later version's reckoning.
    brief = kept | {"minutes": 0.1, "endpoint": simulated.base_url}
    short = dataclasses.replace(result, record=result.record | {"config": brief})
    assert "Why is the sky blue?" in ladder_code.winner(short)

    assert cli.main([*words, "--today", "streamed"]) == 2
    assert "LEVER=LEVEL" in capsys.readouterr().err


def test_the_page_says_what_the_ladder_says_and_which_lever_stays_out(simulated, ladder):
    simulated.knobs(answer_tokens=40, models=SLOW_LARGE)
    done, _ = ladder(levers=["streamed"])
    result = ladder_results.read(done.run_id)
    page = opened("pages/23_Ladder.py", run=done.run_id)
    well(page)
    words = " ".join(markdown.value for markdown in page.markdown)
    assert result.winner_words in words.replace("\\", "")
    for view in ("Waterfall", "Pairs", "Rows", "Use it in your app", "In a terminal"):
        well(opened("pages/23_Ladder.py", run=done.run_id, view=view))
    assert "ladder-again" not in {button.key for button in page.button}  # its tasks were pasted
    assert ladder_results.named(done.run_id).sentence == result.sentence
    assert result.sentence in ladder_results.markdown(result)
    frontier = ladder_results.frontier(result)
    assert list(frontier["arm"]) == ["today", "streamed"]  # today first, in slate
