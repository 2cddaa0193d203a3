"""A watch as it is stored and told: series, changes, silences, gaps; its command at a change."""

from __future__ import annotations

import asyncio
import copy
import json
import sys
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from stored_watches import BEGAN, stored

from lab import processes, results, resume, watch
from lab.cli import main
from lab.clock import now_ns, utc_now
from lab.model import LabError
from lab.store import queries
from lab.store.store import Store
from lab.watch import hook, watch_order, watched
from lab.watch.changes import Change, Size
from lab.watch.looking import Looking
from lab.watch.watch_settings import watch_config_of

EVERY = timedelta(minutes=15)


def pairs(n: int, at: int | None = None, control: float = 1.0, yours: float = 1.0, seed: int = 1):
    """(control, yours) in ms, around 400 and 1,200; from `at` on so many times as long."""
    rng = np.random.default_rng(seed)
    low, high = 400 * rng.lognormal(0, 0.1, n), 1200 * rng.lognormal(0, 0.1, n)
    if at is not None:
        low[at:] *= control
        high[at:] *= yours
    return list(zip(low.tolist(), high.tolist(), strict=True))


def ago(probes: int) -> datetime:
    """When a watch began whose last one of so many probes is just over."""
    return utc_now() - probes * EVERY


def change(**changes) -> Change:
    sizes = {"control": Size(0.01, -0.01, 0.03), "yours": Size(0.18, 0.15, 0.21)}
    about = {"kind": "level", "whose": "yours", "at_utc": BEGAN, "seen_utc": BEGAN, "probes": 9}
    return Change(**{**about, "endpoint": "anthropic", **sizes, **changes})


def test_a_change_is_said_by_whose_it_is():
    words = change().words
    assert words.startswith("Your request got slower at 2 Nov 2026, 00:00 UTC: +18 % [+15, +21]")
    assert words.endswith("the control stood (+1.0 % [−1.0, +3.0])")
    service = change(whose="service", control=Size(0.12, 0.1, 0.14), yours=Size(0.12, 0.1, 0.14))
    assert service.words.startswith(
        "Claude got slower at 2 Nov 2026, 00:00 UTC: your request +12 %"
    )
    faster = change(yours=Size(-0.2, -0.25, -0.15))
    assert faster.words.startswith("Your request got faster") and "−20 % [−25, −15]" in faster.words


def test_a_stored_watch_has_its_series_its_change_and_its_gap(db):
    values = pairs(200, at=100, yours=1.3)
    values[20:24] = ["another run was being measured"] * 4
    found = watched.read(Store(), stored(Store(), values))
    assert len(found.probes) == 196 and len(found.series.at_utc) == 196
    (one,) = found.changes
    assert one.whose == "yours" and abs((one.at_utc - BEGAN) / EVERY - 100) <= 4
    assert one.yours.low < 0.3 < one.yours.high and one.control.is_none
    (gap,) = found.gaps
    assert gap.text == "another run was being measured"
    assert (gap.from_utc, gap.to_utc) == (BEGAN + 20 * EVERY, BEGAN + 24 * EVERY)


def test_the_time_between_two_processes_is_a_gap_too(db):
    store, values = Store(), pairs(10)
    run_id = stored(store, values)
    with store._turn() as connection:  # as if five probes of the middle had never been due
        connection.execute("DELETE FROM trials WHERE block BETWEEN 4 AND 8")
    (gap,) = watched.read(store, run_id).gaps
    assert gap.text == "the watch was not running"
    assert (gap.from_utc, gap.to_utc) == (BEGAN + 3 * EVERY, BEGAN + 8 * EVERY)


def test_three_probes_without_an_answer_are_told_and_the_first_answer_again():
    looking, told = Looking("anthropic", EVERY), []
    answers = [(400, 1200)] * 3 + [(400, None)] * 4 + [(400, 1200)] + [(None, None)] * 3
    for place, (control, yours) in enumerate(answers):
        medians = {"control": control, "yours": yours}
        failed = {arm: int(value is None) for arm, value in medians.items()}
        told += [(place, each.kind, each.whose) for each in looking.add(
            BEGAN + place * EVERY, medians, failed)]  # fmt: skip
    assert told == [(5, "silent", "yours"), (7, "answers", "yours"), (10, "silent", "service")]


def test_a_silence_that_nobody_was_told_of_is_told_after_a_restart_and_its_end_alone_is_not():
    """Four probes of yours without an answer are stored; whether that was told is stored apart."""
    stopped = Looking("anthropic", EVERY)
    for place in range(4):
        stopped.add(BEGAN + place * EVERY, {"control": 400, "yours": None}, {"yours": 1}, True)
    mended, untold = copy.deepcopy(stopped), copy.deepcopy(stopped)
    silent = change(kind="silent", whose="yours")
    at, lost, good = BEGAN + 4 * EVERY, {"yours": None}, {"yours": 1200.0}
    stopped.goes_on_from([silent])
    assert [each.kind for each in stopped.add(at, lost, {"yours": 1})] == []
    assert [each.kind for each in stopped.add(at + EVERY, good, {})] == ["answers"]
    untold.goes_on_from([])
    assert [each.kind for each in untold.add(at, lost, {"yours": 1})] == ["silent"]
    mended.goes_on_from([silent, change(kind="answers", whose="yours")])
    assert mended.add(at, good, {}) == []


def test_one_that_stops_as_the_other_is_answered_again_is_told_apart():
    looking = Looking("anthropic", EVERY)
    answers = [(None, 1200)] * 4 + [(400, None)] * 3
    answers[2:4] = [(None, None)] * 2
    told = []
    for place, (control, yours) in enumerate(answers):
        medians = {"control": control, "yours": yours}
        failed = {arm: int(value is None) for arm, value in medians.items()}
        found = looking.add(BEGAN + place * EVERY, medians, failed)
        told += [(place, each.kind, each.whose, each.words[:11]) for each in found]
    assert told == [
        (2, "silent", "control", "The control"),
        (4, "silent", "yours", "Your reques"),
        (4, "answers", "control", "The control"),
    ]


def test_a_watch_is_in_no_list_of_runs_and_is_never_judged(db):
    store = Store()
    run_id = stored(store, pairs(20))
    assert queries.runs(store).empty
    assert queries.last_run_id(store) is None
    compared = "SELECT count(*) AS n FROM pair_differences"
    assert store.frame(compared)["n"].item() == 0
    with pytest.raises(LabError, match="is a watch"):
        results.read(run_id)
    with pytest.raises(LabError, match="is a watch"):
        resume.progress(store, run_id)


def test_what_a_foreign_file_says_of_changes_breaks_nothing(db):
    store = Store()
    run_id = stored(store, pairs(20))
    run = queries.run(store, run_id)
    run["settings"]["watch"]["findings"] = [{"kind": 7}, 3, None, {"kind": "level"}]
    with store._turn() as connection:
        connection.execute("UPDATE runs SET settings = ?", [json.dumps(run["settings"])])
    assert watched.read(store, run_id).changes == []


# Orders


def test_probes_are_due_on_a_grid_from_the_beginning(db):
    order = watch_order.new(watch_config_of(endpoint="simulated", every_min=10))
    began = order.started_utc
    assert order.slot(began) == 1
    assert order.slot(began + timedelta(minutes=25)) == 3
    assert order.due_utc(3) == began + timedelta(minutes=20)
    assert order.looks_a_month == 30 * 24 * 6


def test_the_next_probe_is_never_further_away_than_one_interval(db):
    order = watch_order.new(watch_config_of(endpoint="simulated", every_min=10))
    began, minute = order.started_utc, timedelta(minutes=1)
    assert order.next_slot(0, began) == 1
    assert order.next_slot(1, began + minute) == 2
    assert order.next_slot(2, began + 55 * minute) == 6  # at once: four were missed
    # A clock that was set back by a day, or to before the watch began.
    for at in (began + 5 * minute, began - 1435 * minute):
        due = order.due_utc(order.next_slot(145, at))
        assert due - at == 5 * minute


def test_a_watch_is_kept_by_one_process_from_its_first_moment(db, tmp_path, monkeypatch):
    (tmp_path / "runtime").mkdir(mode=0o700)
    monkeypatch.setenv("LAB_RUNTIME", str(tmp_path / "runtime"))
    order = watch_order.new(watch_config_of(endpoint="simulated"))
    with (
        watch.announced(order),
        pytest.raises(LabError, match="kept already"),
        watch.announced(order),
    ):
        pass
    with watch.announced(order):
        pass


def test_a_watch_goes_on_with_its_own_endpoint_alone(db):
    order = watch_order.new(watch_config_of(endpoint="simulated", name="orders"))
    stored(Store(), pairs(5), name="orders")
    replace(order, run_id=watched.read(Store(), "orders").run_id).keep()
    named = {"name": "orders", "endpoint": "simulated"}
    assert watch_order.resolve(watch_config_of(**named), named).control == order.control
    named["endpoint"] = "local"
    with pytest.raises(LabError, match="begun with another --endpoint"):
        watch_order.resolve(watch_config_of(**named), named)
    named = {"name": "orders", "every_min": 60.0}
    with pytest.raises(LabError, match="begun with another --every"):
        watch_order.resolve(watch_config_of(**named), named)


def test_what_the_server_may_add_to_a_bill_is_said_beside_the_days_bound(db, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-0000000000000000")
    monkeypatch.delenv("LAB_IGNORE_KEYS")
    body = {"max_tokens": 9, "messages": [{"role": "user", "content": "News?"}]}
    body["tools"] = [{"type": "web_search_20250305", "name": "web_search"}]
    task = {"task_id": "own", "body": body}
    values = {"endpoint": "anthropic", "model": "claude-opus-4-5", "tasks": [task]}
    text = watch_order.new(watch_config_of(**values, usd_a_day=50.0)).cost().text
    assert text.endswith("never more than $50.00 a day plus what web_search may add")


def test_a_probe_that_can_never_be_paid_is_refused_at_the_start(db, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-0000000000000000")
    monkeypatch.delenv("LAB_IGNORE_KEYS")
    values = {"endpoint": "anthropic", "model": "claude-opus-4-5", "answer_tokens": 1000}
    with pytest.raises(LabError, match=r"a day|budget"):
        watch_order.new(watch_config_of(**values, usd_a_day=0.0001)).cost()
    cost = watch_order.new(watch_config_of(**values, usd_a_day=5.0)).cost()
    assert 0 < cost.most_usd < 5 and "never more than $5.00 a day" in cost.text


def test_the_request_is_kept_in_a_private_file_until_the_watch_is_forgotten(db, tmp_path):
    order = watch_order.new(watch_config_of(endpoint="simulated"))
    order.keep()
    file = watch_order.file_of(order.run_id)
    assert file.stat().st_mode & 0o777 == 0o600
    again = watch_order.named(order.run_id)
    assert (again.control, again.config.tasks) == (order.control, order.config.tasks)
    processes.forget(order.run_id)
    assert not file.exists()


# The command at a change


def test_the_command_gets_the_finding_and_no_key(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-0000000000000000")
    script, out = tmp_path / "told.py", tmp_path / "out.json"
    script.write_text(
        "import json, os, sys\n"
        "told = [json.load(sys.stdin), sys.argv[1:], dict(os.environ)]\n"
        f"json.dump(told, open({str(out)!r}, 'w'))\n"
    )
    assert asyncio.run(hook.run(f"{sys.executable} {script}", change())) is None
    finding, arguments, environment = json.loads(out.read_text())
    assert finding["whose"] == "yours" and finding["yours"]["value"] == 0.18
    assert arguments == [change().words] and environment[hook.WORDS] == change().words
    assert not [value for value in environment.values() if value.startswith("sk-ant-test")]


@pytest.mark.parametrize(
    ("command", "seconds", "said"),
    [
        ("/no/such/program", 20, "did not start"),
        ("false", 20, "ended with code 1"),
        ("sh -c 'sleep 60'", 0.2, "was ended after 0.2 s"),
    ],
)
def test_a_command_that_goes_wrong_is_a_sentence(command, seconds, said):
    began_ns = now_ns()
    assert said in asyncio.run(hook.run(command, change(), seconds))
    assert (now_ns() - began_ns) / 1e9 < 20


def test_a_command_that_no_shell_could_read_is_refused(db, capsys):
    assert main(["watch", "--endpoint", "simulated", "--on-change", "say 'so"]) == 2
    assert "--on-change cannot be read" in capsys.readouterr().err


# The command line


def test_check_tells_each_change_once(db, capsys):
    run_id = stored(Store(), pairs(200, at=100, yours=1.3), name="orders", began=ago(200))
    order = watch_order.new(watch_config_of(endpoint="simulated", name="orders"))
    replace(order, run_id=run_id).keep()
    assert main(["watch", "check", "--name", "orders"]) == 3
    assert "Your request got slower" in capsys.readouterr().out
    assert main(["watch", "check", "--name", "orders"]) == 0
    assert "No new change" in capsys.readouterr().out


def test_check_tells_what_is_new_also_where_the_oldest_findings_are_gone(db, capsys):
    """Of 140 findings 139 were told; the latest 100 are kept."""
    store = Store()
    run_id = stored(store, pairs(20), name="orders", began=ago(20))
    run = queries.run(store, run_id)
    silent = replace(change(), kind="silent", control=None, yours=None).stored()
    run["settings"]["watch"] |= {"findings": [silent] * 100, "dropped": 40}
    with store._turn() as connection:
        connection.execute("UPDATE runs SET settings = ?", [json.dumps(run["settings"])])
    order = watch_order.new(watch_config_of(endpoint="simulated", name="orders"))
    replace(order, run_id=run_id, checked=139).keep()
    assert main(["watch", "check", "--name", "orders", "--json"]) == 3
    assert len(json.loads(capsys.readouterr().out)["new"]) == 1
    assert main(["watch", "check", "--name", "orders"]) == 0


def test_the_dollars_of_a_day_end_with_it(db):
    """96 probes a day, each of two calls at a cent."""
    store = Store()
    run_id = stored(store, pairs(97), endpoint="anthropic")
    with store._turn() as connection:
        connection.execute("UPDATE calls SET counted_usd = 0.01")
    spent = [
        watched.spent_usd(store, run_id, "anthropic", BEGAN + timedelta(hours=hours))
        for hours in (23.9, 24.1)
    ]
    assert spent == pytest.approx([97 * 0.02, 0.02])


def test_check_says_when_there_is_too_little(db, capsys):
    stored(Store(), pairs(5))
    assert main(["watch", "check"]) == 4
    assert "5 of 12" in capsys.readouterr().err
    assert main(["watch", "check", "--json"]) == 4
    few, dead = json.loads(capsys.readouterr().out)["doubts"]
    assert "5 of 12" in few and dead.endswith("nothing watches.")


def test_status_as_json_is_one_object(db, capsys):
    stored(Store(), pairs(200, at=100, control=1.3, yours=1.3))
    assert main(["watch", "status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["probes"], told["left_out"]) == (200, "")
    assert [each["whose"] for each in told["changes"]] == ["service"]
