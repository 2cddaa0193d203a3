"""A load from its settings to its rows, on the simulated server: levels, budget, Stop, and a loader
that dies."""

import os
import re
import signal
from dataclasses import replace
from itertools import pairwise

import pytest

from lab import (
    clock,
    endpoint_kinds,
    load_estimate,
    load_order,
    load_run,
    load_stages,
    machine,
    processes,
)
from lab.endpoints.registry import Endpoint
from lab.load.load_settings import load_config_of
from lab.load.profile import Step
from lab.load_keeping import Keeping
from lab.model import LabError
from lab.store.store import Store

OF_CALLS = "FROM trials JOIN calls USING (trial_id)"


@pytest.fixture
def load(simulated, db, monkeypatch):
    """A load of the test's own server: how it ended, and all entries of its progress; `heard` is
    asked with each of them and may act on it."""
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)

    def loaded(heard=lambda entry: None, **values):
        entries = []

        def listen(entry):
            entries.append(entry)
            heard(entry)

        config = load_config_of(
            **{"endpoint": simulated.base_url, "bias": False, "warmup": 1, **values}
        )
        return load_run.measure(config, listen), entries

    return loaded


def rows(sql: str) -> list:
    with Store().reading() as connection:
        return list(map(list, connection.execute(sql).fetchall()))


def of(kind: str, entries: list) -> list:
    return [entry for entry in entries if entry["kind"] == kind]


def test_each_request_is_a_row_and_the_warm_up_counts_in_no_level(load):
    done, _ = load(concurrency=[2], requests=12)
    assert (done.status, done.text) == ("finished", "12 requests")
    counted = rows("SELECT phase, arm, block, count(*) FROM trials GROUP BY ALL ORDER BY block")
    assert counted == [["warmup", "warm-up", 0, 1], ["load", "2 streams", 1, 12]]
    asked = rows("SELECT position FROM trials WHERE phase = 'load' ORDER BY position")
    assert asked == [[number] for number in range(12)]
    late = "scheduled_ns > calls.started_ns OR calls.started_ns > sent_ns OR sent_ns > headers_ns"
    assert rows(f"SELECT count(*) {OF_CALLS} WHERE {late}") == [[0]]
    assert rows("SELECT level, label, planned, not_begun, reason FROM load_levels") == [
        [1, "2 streams", 12, 0, None]
    ]
    assert rows("SELECT technique, status FROM runs") == [["load", "finished"]]


def test_a_sweep_measures_its_levels_one_after_the_other(load):
    done, entries = load(concurrency=[3, 1], requests=6)
    assert done.status == "finished"
    kinds = [entry["kind"] for entry in entries if entry["kind"] != "load"]
    assert kinds == ["started", "level", "level_ended", "level", "level_ended", "ended"]
    told = [(entry["level"], entry["of"], entry["done"]) for entry in of("level_ended", entries)]
    assert told == [(1, 2, 6), (2, 2, 6)]
    first, second = rows("SELECT min(started_ns), max(ended_ns) FROM load_levels GROUP BY level")
    assert sorted([first, second])[0][1] <= sorted([first, second])[1][0]


def test_an_open_loop_asks_at_its_instants(load):
    load(rate=[50], arrivals="constant", requests=10)
    due = [at for (at,) in rows(f"SELECT scheduled_ns {OF_CALLS} WHERE block = 1 ORDER BY 1")]
    assert [later - at for at, later in pairwise(due)] == [20_000_000] * 9


def test_a_level_by_seconds_planned_what_it_made(load, simulated):
    simulated.knobs(gap_ms=1, jitter=0, tail=0)
    done, entries = load(concurrency=[2], seconds=2, max_tokens=8)
    (ended,) = of("level_ended", entries)
    assert done.status == "finished" and ended["reason"] == "" and ended["done"] >= 2
    assert rows("SELECT planned, not_begun, reason FROM load_levels") == [[ended["done"], 0, None]]


def test_a_level_by_seconds_that_is_stopped_planned_what_it_made(load, simulated):
    def stop(entry):
        if entry["kind"] == "started":
            run.append(entry["run_id"])
        elif entry["kind"] == "load" and entry["elapsed_s"] > 2:
            processes.stop(run[0])

    run = []
    simulated.knobs(gap_ms=1, jitter=0, tail=0)
    done, _ = load(stop, concurrency=[2], seconds=60, max_tokens=8)
    ((made,),) = rows("SELECT count(*) FROM trials WHERE block = 1")
    levels = "SELECT planned, not_begun, reason FROM load_levels"
    assert done.status == "interrupted" and rows(levels) == [[made, 0, "stopped"]]


@pytest.mark.parametrize(("requests", "reason"), [(None, "all of its 6 requests were"), (6, "")])
def test_a_level_by_seconds_that_ran_out_of_requests_says_so(load, monkeypatch, requests, reason):
    """Unless the user wanted no more of them."""
    monkeypatch.setattr("lab.load.schedule.MOST_BY_SECONDS", 6)
    _, entries = load(concurrency=[2], seconds=60, requests=requests, max_tokens=4)
    (ended,) = of("level_ended", entries)
    assert ended["done"] == 6 and ended["reason"].startswith(reason)
    assert bool(ended["reason"]) == bool(reason)


def test_progress_is_told_four_times_a_second_and_not_once_a_call(load, simulated):
    simulated.knobs(gap_ms=1, jitter=0, tail=0)
    _, entries = load(concurrency=[8], requests=400, max_tokens=4)
    (ended,) = of("level_ended", entries)
    assert ended["done"] == 400
    assert len(of("load", entries)) <= 5 * ended["elapsed_s"] + 2
    last = entries[-2]
    assert last["ttft_p50_ms"] <= last["ttft_p95_ms"] and last["errors"] == {}


def test_a_load_that_is_stopped_keeps_the_calls_that_have_ended(load):
    asked = []

    def stop(entry):
        if entry["kind"] == "load" and entry["done"] and not asked:
            asked.append(clock.now_ns())
            processes.stop(run[0])
        elif entry["kind"] == "started":
            run.append(entry["run_id"])

    run = []
    done, entries = load(stop, concurrency=[2], requests=5000)
    assert (clock.now_ns() - asked[0]) / 1e9 < 60
    assert (done.status, done.text) == ("interrupted", "Stopped by request.")
    (ended,) = of("level_ended", entries)
    assert rows(f"SELECT count(*) {OF_CALLS} WHERE block = 1 AND calls.error_kind IS NULL") == [
        [ended["done"]]
    ]
    ((planned, not_begun, reason),) = rows("SELECT planned, not_begun, reason FROM load_levels")
    # Two may have been under way: they are rows too, cancelled.
    made = planned - not_begun
    assert planned == 5000 and ended["done"] <= made <= ended["done"] + 2 and reason == "stopped"


def test_a_stop_waits_for_what_is_being_written(load, monkeypatch):
    """A database that takes a second, twice as long as a Stop waits for a level to end."""
    write_batch = Store.write_batch

    def slowly(store, batch=None):
        clock.pause_s(1.0)
        return write_batch(store, batch)

    def stop(entry):
        if entry["kind"] == "load" and entry["done"]:
            processes.stop(run[0])
        elif entry["kind"] == "started":
            run.append(entry["run_id"])

    run = []
    monkeypatch.setattr(Store, "write_batch", slowly)
    done, entries = load(stop, concurrency=[2], requests=5000, warmup=0)
    assert done.status == "interrupted"
    (ended,) = of("level_ended", entries)
    answered = "block = 1 AND calls.error_kind IS NULL"
    assert rows(f"SELECT count(*) {OF_CALLS} WHERE {answered}") == [[ended["done"]]]
    assert rows("SELECT reason FROM load_levels") == [["stopped"]]


@pytest.fixture
def slow_reading(monkeypatch):
    """On few cores, where to read a call takes 50 ms of work: 20 s pass until the next is read.
    The calls that were read, each with the instant from which it was."""
    frames = []

    def read(keeping, frame, label):
        begun_ns, until_ns = clock.now_ns(), clock.working_ns() + 50_000_000
        while clock.working_ns() < until_ns:
            pass
        frames.append((begun_ns, frame))
        return keeping.reader.read(frame, label)

    monkeypatch.setattr(machine, "cores", lambda: 1)
    monkeypatch.setattr(Keeping, "read", read)
    return frames


def test_calls_that_wait_to_be_read_are_counted_and_are_rows_when_their_level_has_ended(
    load, simulated, slow_reading
):
    def hear(entry):
        if entry["kind"] == "load":
            unread.append(entry["done"] - len(slow_reading))

    unread = []
    simulated.knobs(gap_ms=1, jitter=0, tail=0)
    done, entries = load(hear, concurrency=[4], requests=30, max_tokens=4, warmup=0)
    (ended,) = of("level_ended", entries)
    assert done.status == "finished" and ended["done"] == 30
    assert max(unread) > 5 and max(entry["done"] for entry in of("load", entries)) <= 30
    assert rows(f"SELECT count(*) {OF_CALLS} WHERE block = 1") == [[30]]
    # All but the first were read when the last had ended, and took none of its time.
    second_read_ns, _ = slow_reading[1]
    assert second_read_ns > max(frame.ended_ns for _, frame in slow_reading)
    assert rows("SELECT not_begun, reason FROM load_levels") == [[0, None]]


def stopped(load, requests):
    """How a load of so many requests ended that was stopped once more than sixty were answered, and
    what it told."""

    def stop(entry):
        if entry["kind"] == "started":
            run.append(entry["run_id"])
        elif entry["kind"] == "load" and entry["done"] > 60 and not asked:
            asked.append(entry["done"])
            processes.stop(run[0])

    run, asked = [], []
    done, entries = load(stop, concurrency=[8], requests=requests, max_tokens=4)
    assert done.status == "interrupted" and asked
    return asked[0], entries


def test_what_had_ended_when_a_load_was_stopped_is_read_first(load, simulated, slow_reading):
    simulated.knobs(gap_ms=20, jitter=0, tail=0)
    answered, entries = stopped(load, 5000)
    ((kept,),) = rows("SELECT count(*) FROM trials WHERE block = 1")
    ((given_up,),) = rows(f"SELECT count(*) {OF_CALLS} WHERE calls.error_kind = 'cancelled'")
    assert rows("SELECT reason, not_begun FROM load_levels") == [["stopped", 5000 - kept]]
    assert of("level_ended", entries)[0]["done"] == kept - given_up >= answered
    (told,) = [entry["text"] for entry in of("note", entries) if "read first" in entry["text"]]
    words = r"No more requests are made; \d+ calls that had ended are read first\."
    assert re.fullmatch(words, told)


def test_a_stop_that_waits_no_longer_says_how_many_calls_it_left_unread(
    load, simulated, slow_reading, monkeypatch
):
    monkeypatch.setattr(load_stages, "READ_ON_S", 0.0)
    simulated.knobs(gap_ms=1, jitter=0, tail=0)
    _, entries = stopped(load, 5000)
    ((not_begun, reason),) = rows("SELECT not_begun, reason FROM load_levels")
    ((kept,),) = rows("SELECT count(*) FROM trials WHERE block = 1")
    words = re.fullmatch(r"stopped; (\d+) calls that had ended were not read any more", reason)
    assert 0 < kept < 60 < kept + int(words[1]) <= 5000 - not_begun
    assert of("level_ended", entries)[0]["reason"] == reason


def test_a_loader_that_is_killed_leaves_its_calls_and_a_sentence(load):
    def kill(entry):
        if entry["kind"] == "load" and entry["done"] >= 4 and not killed:
            ((worker,),) = rows("SELECT worker FROM sessions")
            killed.append(int(worker.partition(":")[2]))
            os.kill(killed[0], signal.SIGKILL)

    killed = []
    done, entries = load(kill, concurrency=[2], requests=5000)
    assert done.status == "interrupted"
    assert done.text.startswith("The loading process ended by itself")
    (ended,) = of("level_ended", entries)
    assert ended["done"] >= 4
    assert rows("SELECT count(*) FROM trials WHERE block = 1") == [[ended["done"]]]
    assert rows("SELECT status FROM runs") == [["interrupted"]]
    ((not_begun, reason),) = rows("SELECT not_begun, reason FROM load_levels")
    assert not_begun == 5000 - ended["done"] and reason == done.text


@pytest.mark.parametrize("how", ["as it is", "slow_reading"])
def test_a_budget_is_passed_by_no_more_than_what_is_under_way(
    load, simulated, tmp_path, monkeypatch, request, how
):
    """$1 an output token, 10 tokens an answer: each call costs $10. On few cores too each is
    read at once."""
    if how == "slow_reading":
        request.getfixturevalue(how)
    prices = tmp_path / "prices.toml"
    rates = "input = 0\noutput = 1e6\nwrite_5m = 0\nwrite_1h = 0\nread = 0"
    prices.write_text(f'[[prices]]\nmodel = "simulated-small"\nfrom = 2020-01-01\n{rates}\n')
    monkeypatch.setenv("LAB_PRICES", str(prices))
    simulated.knobs(answer_tokens=60, gap_ms=100)
    done, _ = load(concurrency=[2], requests=100, max_tokens=10, warmup=0, max_usd=75)
    assert done.status == "interrupted" and "of $75.00 spent" in done.text
    assert done.text.startswith("The calls under way might pass the budget.")
    ((calls, spent),) = rows("SELECT count(*), sum(counted_usd) FROM calls")
    # From $55 on two that are under way might pass it: no further one begins, but for those that
    # had begun when this was heard.
    assert spent == 10 * calls and 55 <= spent <= 125
    ((reason,),) = rows("SELECT reason FROM load_levels")
    assert reason == "the budget is spent"


def test_a_server_that_answers_nothing_is_not_asked_on_and_on(load, simulated):
    simulated.knobs(fault={"kind": "http", "status": 500, "message": "broken"})
    done, _ = load(concurrency=[2], requests=5000, warmup=0)
    assert done.status == "failed" and done.text.startswith("None of the first ")
    ((calls,),) = rows("SELECT count(*) FROM calls")
    assert 20 <= calls < 5000
    assert rows("SELECT status FROM runs") == [["failed"]]


def test_a_search_finds_where_the_queue_begins(load, simulated):
    """Two are answered at once, 100 ms each: of three, half wait 50 ms or longer."""
    simulated.knobs(
        slots=2, network_ms=0, queue_ms=0, gap_ms=10, jitter=0, tail=0, answer_tokens=10
    )
    done, entries = load(search="concurrency", slo=["p75 ttft_ms < 45"], most=8, max_tokens=10)
    assert done.status == "finished"
    tried = [entry["target"] for entry in of("level", entries)]
    assert tried[:3] == [2, 4, 3] and set(tried) <= {1, 2, 3, 4}
    assert tried[-1] in tried[:-1]  # what was found is measured once more


def test_a_key_is_in_no_file_and_no_command_line(load, simulated, tmp_path):
    def look(entry):
        if entry["kind"] == "load":
            for process in os.listdir("/proc"):
                if process.isdigit() and process != str(os.getpid()):
                    seen.append(read(f"/proc/{process}/cmdline"))

    def read(path):
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError:
            return b""

    seen = []
    load(look, concurrency=[2], requests=60)
    runtime = os.environ["LAB_RUNTIME"]
    files = [os.path.join(at, name) for at, _, names in os.walk(runtime) for name in names]
    files += [str(path) for path in tmp_path.rglob("*") if path.is_file()]
    key = simulated.api_key.encode()
    assert len(key) > 8 and seen and not any(key in text for text in seen)
    assert [file for file in files if key in read(file)] == []


def test_a_worker_takes_a_loads_order_like_any_other(simulated, db, monkeypatch):
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    config = load_config_of(
        endpoint=simulated.base_url, concurrency=[2], requests=8, bias=False, warmup=0
    )
    run_id = processes.start_run(config)
    while processes.running():
        clock.pause_s(0.05)
    (ended,) = of("ended", processes.read_progress(run_id)[0])
    assert ended["status"] == "finished"
    assert rows("SELECT run_id::VARCHAR, count(*) FROM trials GROUP BY ALL") == [[run_id, 8]]


def order(
    url: str, kind: str = endpoint_kinds.LIVE, key: str = "k" * 20, **values
) -> load_order.LoadOrder:
    models = {"large": "claude-haiku-5-5"}
    body = {"model": "claude-haiku-5-5", "max_tokens": 64, "messages": []}
    return load_order.LoadOrder(
        config=load_config_of(**values),
        endpoint=Endpoint("an endpoint", kind, url, key, models),
        bodies=(body,),
        betas=("",),
        task_ids=("a",),
        plays=((Step(0),),),
        seed=1,
        warmups=0,
    )


def test_a_server_elsewhere_is_asked_by_no_more_than_eight_unless_the_user_says_more():
    url = "https://api.example"
    assert order(url).targets == (8,)
    with pytest.raises(LabError, match=r"64 streams at once are more than the 8 .* --most 64"):
        order(url, concurrency=[64]).check()
    order(url, concurrency=[64], most=64).check()
    order("http://127.0.0.1:8080", concurrency=[600]).check()
    assert order("http://127.0.0.1:8080", most=4).targets == (4,)
    assert order(url, rate=[100]).ceiling == 8


def test_a_search_begins_far_below_its_ceiling_and_on_a_queue_at_one():
    def first(url, **values):
        return order(url, search="concurrency", slo=["p95 ttft_ms < 60"], **values).first

    assert [first("http://127.0.0.1:8080", most=most) for most in (512, 8, 3)] == [8, 2, 1]
    assert first("https://api.example") == 2
    assert first("http://127.0.0.1:8080", kind=endpoint_kinds.LOCAL) == 1


def test_an_estimate_of_a_search_counts_all_the_levels_that_there_may_be():
    """2, 4 and 8 streams, then 6 and 7, and 7 once more: six levels of 96 requests."""
    asked = order("https://api.example", search="concurrency", slo=["p95 ttft_ms < 60"])
    assert load_estimate.of_order(asked).requests == 6 * 96


def test_an_estimate_counts_each_workers_warm_up():
    asked = replace(order("https://api.example", requests=100, warmup=3, workers=2), warmups=1)
    assert load_estimate.of_order(replace(asked, bodies=asked.bodies * 2)).requests == 100 + 2 * 3


def test_what_may_cost_money_is_asked_first_and_has_a_budget():
    asked = load_estimate.of_order(order("https://api.example", requests=100))
    assert asked.question.startswith("This sends 100 requests, up to 8 at once, to https://api.exa")
    assert asked.usd > asked.likely_usd > 0
    here = order("http://127.0.0.1:8080", key="placeholder")
    assert (here.budget_usd, load_estimate.of_order(here).question) == (None, "")
    assert order("http://127.0.0.1:8080").budget_usd == 0.5
    dear = load_estimate.of_order(order("https://api.example", requests=1_000_000))
    assert "more than the budget of $0.50" in dear.refusals[0]
