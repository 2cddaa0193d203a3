import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from lab import clock, endpoint_kinds, machine, paths, processes
from lab.endpoints import own_server
from lab.model import LabError, new_id
from lab.settings import config_of
from lab.store.store import Store


@pytest.fixture(scope="module")
def server():
    """One simulated server that processes.py started itself."""
    card = processes.local_server(endpoint_kinds.SIMULATED)
    yield card
    os.kill(card.pid, signal.SIGTERM)


def wait_for(condition, seconds=60):
    deadline = clock.now_ns() + seconds * 1e9
    while not condition():
        assert clock.now_ns() < deadline, "it did not happen in time"
        clock.pause_s(0.02)


def entries(run_id, kind):
    return [entry for entry in processes.read_progress(run_id)[0] if entry["kind"] == kind]


def test_the_second_who_needs_a_server_finds_the_first_ones(server):
    assert processes.local_server(endpoint_kinds.SIMULATED) == server
    assert own_server.card_at(server.base_url).api_key == server.api_key
    assert oct((paths.runtime() / "simulated.json").stat().st_mode)[
        -3:
    ] == "600" and server.api_key not in repr(server)


def test_a_process_is_named_by_pid_and_birth():
    mine = machine.born(os.getpid())
    told = subprocess.run(
        [sys.executable, "-c", f"from lab import machine; print(machine.born({os.getpid()}))"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert mine and mine == told.stdout.strip()
    assert machine.born(2**22 - 1) is None and machine.born(2**70) is None


def test_a_process_of_a_dead_holders_number_does_not_measure():
    """The next holder locks before it has written its card: the dead one's is still there."""
    path = paths.runtime() / "measure.lock"
    with processes.measuring(new_id(), "caching"):
        card = json.loads(path.read_text())
        assert processes.running().pid == os.getpid()
        path.write_text(json.dumps({**card, "born": "another instant"}))
        assert processes.running() is None


def test_a_servers_card_is_not_that_of_a_process_with_its_old_number(server):
    path = paths.runtime() / "simulated.json"
    card = path.read_text()
    try:
        path.write_text(json.dumps({**json.loads(card), "born": "another instant"}))
        assert own_server.card_at(server.base_url) is None
    finally:
        path.write_text(card)
    assert own_server.card_at(server.base_url).api_key == server.api_key


def test_a_lease_ends_with_its_holder_though_another_process_gets_its_number():
    from lab.local.server import Server
    from lab.local.simulated import Simulated

    server = Server(Simulated(spin=False), "key")
    lease = {"lease": "a", "pid": os.getpid(), "until_ns": clock.now_ns() + 10**12}
    server.lease = {**lease, "born": machine.born(os.getpid())}
    assert server.held()
    server.lease = {**lease, "born": "another instant"}
    assert server.held() is None


def test_one_measures_at_a_time_and_the_other_is_told_who(monkeypatch):
    """At once: it waits only for who has no name."""
    monkeypatch.setattr(processes, "NAMELESS_S", 600.0)
    assert processes.running() is None
    with processes.measuring(new_id(), "caching"):
        assert processes.running().technique == "caching"
        with (
            pytest.raises(LabError, match="caching is being measured"),
            processes.measuring(new_id(), "streaming"),
        ):
            pass
        with pytest.raises(LabError, match="caching is being measured"):
            processes.start_run(config_of(technique="streaming"))
    assert processes.running() is None


def test_who_only_looks_keeps_nobody_from_measuring():
    """To look takes the lock too; here for a second, as on a machine that has no time for it."""
    with contextlib.ExitStack() as looking:
        looking.enter_context(processes.locked(paths.runtime() / "measure.lock", shared=True))
        threading.Timer(1.0, looking.close).start()
        with processes.measuring(new_id(), "caching"):
            assert processes.running().technique == "caching"


def test_progress_is_read_from_where_one_was_and_half_a_line_waits():
    run_id = new_id()
    processes.add_progress(run_id, {"kind": "note", "text": "a"})
    first, offset = processes.read_progress(run_id)
    with processes.progress_path(run_id).open("a") as file:
        file.write('{"kind": "no')
    assert [e["text"] for e in first] == ["a"] and processes.read_progress(run_id, offset) == (
        [],
        offset,
    )


def test_a_run_id_cannot_name_a_file_elsewhere():
    with pytest.raises(LabError):
        processes.stop("../../etc/passwd")


def test_a_run_measures_in_its_own_process_and_stops_when_asked(server, db):
    run_id = processes.start_run(
        config_of(technique="streaming", endpoint="simulated", runs=200, warmup=0, seed=1)
    )
    wait_for(lambda: len(entries(run_id, "trial")) >= 3)
    asked = clock.now_ns()
    processes.stop(run_id)
    wait_for(lambda: processes.running() is None)
    assert clock.now_ns() - asked < 20e9
    assert entries(run_id, "ended")[0]["status"] == "interrupted"
    rows = Store(db).frame("SELECT outcome FROM trials ORDER BY started_ns")["outcome"].tolist()
    assert len(rows) == len(entries(run_id, "trial")) and rows[-1] in ("cancelled", "ok")
    assert Store(db).frame("SELECT status FROM runs")["status"].tolist() == ["interrupted"]
    assert server.api_key not in json.dumps(processes.read_progress(run_id)[0])


def test_an_interrupted_run_is_resumed_with_the_same_order(server, db):
    from lab.local.control import Control
    from lab.worker import measure

    config = config_of(technique="streaming", endpoint="simulated", runs=4, warmup=0, seed=3)
    full = measure(config).run_id
    knobs = Control(server.base_url, server.api_key).knobs
    knobs(gap_ms=20)  # the run lasts until it is interrupted, on a busy machine too
    run_id = processes.start_run(config)
    wait_for(lambda: len(entries(run_id, "trial")) >= 2)
    pid = processes.running().pid
    os.kill(pid, signal.SIGTERM)
    # Once it has ended it is no process any more, and its lease is nobody's.
    wait_for(lambda: processes.running() is None and machine.born(pid) is None)
    assert entries(run_id, "ended")[0]["status"] == "interrupted"
    knobs(gap_ms=4)
    done = measure(config_of(technique="streaming", join_run=run_id))
    assert done.status == "finished"
    order = (
        "SELECT block, arm FROM trials WHERE run_id = ?::UUID AND outcome = 'ok'"
        " ORDER BY session_id, started_ns"
    )
    resumed = Store(db).frame(order, [run_id])
    pairs = Store(db).frame(
        "SELECT DISTINCT block FROM pair_differences WHERE run_id = ?::UUID ORDER BY block",
        [run_id],
    )
    assert pairs["block"].tolist() == [1, 2, 3, 4]
    whole = Store(db).frame(order, [full])
    assert [tuple(r) for r in resumed.values[-6:].tolist()] == [
        tuple(r) for r in whole.values[-6:].tolist()
    ]


def test_more_blocks_join_a_finished_run(server, db):
    from lab.worker import measure

    run_id = measure(
        config_of(technique="streaming", endpoint="simulated", runs=2, warmup=0, seed=3)
    ).run_id
    measure(config_of(technique="streaming", join_run=run_id, runs=3))
    found = Store(db).frame(
        "SELECT count(DISTINCT block) AS blocks, count(DISTINCT session_id) AS sessions,"
        " count(DISTINCT run_id) AS runs FROM trials"
    )
    assert found.values.tolist() == [[5, 2, 1]]
