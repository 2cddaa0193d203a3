"""A watch over real sockets: kept, killed, gone on with; beside other measurements."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from measured import FAST

from lab import paths, processes, run_loop, watch
from lab.clock import now_ns, pause_s
from lab.store.store import Store
from lab.watch import standing, watch_order, watched, watching
from lab.watch.watch_settings import watch_config_of

PATIENCE_S = 300.0
"""Where much else goes on, a process alone takes a minute to start."""


@pytest.fixture
def served(simulated, db, tmp_path, monkeypatch):
    """A watch's own folders, and the simulated server as its endpoint."""
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("LAB_RUNTIME", str(runtime))
    simulated.knobs(**FAST | {"queue_ms": 5, "jitter": 0.05})
    return simulated


def command(served, *flags: str) -> list[str]:
    own = ["--endpoint", served.base_url, "--every", "0.02", "--pairs", "1"]
    return [sys.executable, str(paths.ROOT / "main.py"), "watch", *own, *flags]


def begun(served, *flags: str) -> subprocess.Popen:
    return subprocess.Popen(command(served, *flags), stdout=subprocess.PIPE, text=True)


def until(holds: Callable[[], bool]) -> None:
    end_ns = now_ns() + PATIENCE_S * 1e9
    while not holds():
        assert now_ns() < end_ns, "it took too long"
        pause_s(0.1)


def probes() -> int:
    """Of the process that keeps a watch now, as it tells them."""
    told = [entry for card in watch.cards() for entry in processes.read_progress(card.run_id)[0]]
    return sum(entry["kind"] == "probe" for entry in told)


def test_a_killed_watch_goes_on_and_has_lost_nothing(served):
    first = begun(served)
    until(lambda: probes() >= 3)
    (card,) = watch.cards()
    os.kill(card.pid, signal.SIGKILL)
    told = [line for line in first.communicate()[0].splitlines() if "probe" in line]
    assert watch.cards() == []
    before = watched.read(Store(), card.run_id)
    # What was told on the terminal is stored.
    numbers = {int(line.partition("probe ")[2].partition(":")[0]) for line in told[1:]}
    assert numbers <= set(before.probes.index)

    second = begun(served)
    until(lambda: probes() >= 2)
    (again,) = watch.cards()
    assert again.run_id == card.run_id
    second.send_signal(signal.SIGINT)
    assert second.wait(PATIENCE_S) == 130
    after = watched.read(Store(), card.run_id)
    assert set(before.probes.index) < set(after.probes.index)
    assert len(after.run["sessions"]) == 2
    assert after.run["status"] == "interrupted"


def test_a_probe_waits_its_turn_and_is_a_gap_where_it_does_not_come(served):
    with processes.measuring("0" * 32, "another"):
        done = subprocess.run(
            command(served, "--once"), capture_output=True, text=True, timeout=PATIENCE_S
        )
    assert done.returncode == 1
    words = "did not take place: another run was being measured."
    assert words in done.stdout and done.stderr.splitlines()[-1].endswith(words)
    found = watched.read(Store(), "last")
    assert len(found.probes) == 0
    assert [gap.text for gap in found.gaps] == ["another run was being measured"]
    assert processes.running() is None


def test_once_takes_one_probe_and_a_second_one_follows_it(served):
    for n in (1, 2):
        done = subprocess.run(
            command(served, "--once"), capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stderr
        found = watched.read(Store(), "last")
        assert len(found.probes) == n
    trials = found.trials
    assert set(trials["arm"]) == {"control", "yours"}
    assert sorted(trials["outcome"]) == ["ok"] * 4


def test_a_bound_in_dollars_stops_no_watch_that_costs_nothing(served):
    done = subprocess.run(
        command(served, "--once", "--usd-a-day", "0"),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0 and "nothing to pay" in done.stdout
    assert watched.read(Store(), "last").trials["outcome"].tolist() == ["ok", "ok"]


def test_a_day_whose_dollars_end_with_the_connection_has_a_gap_that_says_so(served):
    """As where another process of the user's has spent them meanwhile."""
    order = watch_order.new(watch_config_of(endpoint=served.base_url, pairs=1))
    order = replace(order, endpoint=replace(order.endpoint, kind="live"))

    def spend(entry):
        if entry["kind"] == "probing":
            run.budget.spent_usd = 0.5

    telling, store = run_loop.Telling(order.run_id, spend), Store()
    run = watching.WatchRun(order, store, telling, 0.01, once=True)
    asyncio.run(run.run())
    said = "the probe might pass the day's $0.50 ($0.50 spent); --usd-a-day names more"
    assert run.text == f"Probe 1 did not take place: {said}."
    assert [gap.text for gap in watched.read(store, order.run_id).gaps] == [said]


def test_once_without_an_answer_fails_and_says_why(served):
    file = paths.runtime().parent / "own.json"
    file.write_text('{"messages": [{"role": "user", "content": "Hi"}], "temperature": 7}')
    done = subprocess.run(
        command(served, "--once", "--body", str(file)),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert ", yours –, 1 not answered as asked: temperature: " in done.stdout
    assert "your request was not answered as asked: temperature: " in done.stderr
    assert standing.trouble(watched.read(Store(), "last")).startswith(
        "In the latest probe 1 of 2 requests was not answered as asked:"
    )


def test_answers_of_another_model_are_lost_requests(served):
    small, large = "simulated-small", "simulated-large"
    served.knobs(models={small: {"serve_model": large}, large: {"serve_model": small}})
    done = subprocess.run(
        command(served, "--once"), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 1
    assert ", 2 not answered as asked: asked " in done.stdout
    assert "neither request was answered as asked: asked " in done.stderr


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


def fill(place: Path) -> Path:
    """A file that takes all the room there is."""
    file = place / "full"
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as out:
        while out.write(bytes(4096)) == 4096:
            pass
    return file


def test_a_full_disk_is_a_gap_and_the_watch_goes_on_once_there_is_room(served, disk, monkeypatch):
    monkeypatch.setenv("LAB_DB", str(disk / "lab.duckdb"))
    going = begun(served)
    until(lambda: probes() >= 2)
    (card,) = watch.cards()
    full = fill(disk)
    until(lambda: any("the disk is full" in text for text in gaps_of(card.run_id)))
    before = probes()
    full.unlink()
    until(lambda: probes() >= before + 2)
    going.send_signal(signal.SIGINT)
    assert going.wait(PATIENCE_S) == 130
    found = watched.read(Store(disk / "lab.duckdb"), card.run_id)
    assert "the disk is full" in {gap.text for gap in found.gaps}


def gaps_of(run_id: str) -> list[str]:
    entries = processes.read_progress(run_id)[0]
    return [entry["text"] for entry in entries if entry["kind"] == "gap"]


def test_a_watch_that_begins_on_a_full_disk_is_to_be_begun_again(served, disk, monkeypatch):
    monkeypatch.setenv("LAB_RUNTIME", str(disk))
    fill(disk)
    done = subprocess.run(
        command(served, "--name", "my orders"), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 2
    assert "No space left on device. Make room there; then begin it again" in done.stderr
    assert "--name" not in done.stderr and "Traceback" not in done.stderr


def test_a_watch_that_goes_on_on_a_full_disk_says_its_name(db):
    order = watch_order.new(watch_config_of(endpoint="simulated", name="my orders"))
    full = OSError(errno.ENOSPC, "No space left on device")
    assert order.no_room(paths.runtime(), full).endswith(
        "then begin it again with the same settings."
    )
    on_disk = replace(order, is_new=False).no_room(paths.runtime(), full)
    assert on_disk.endswith("watch --name 'my orders'")


def test_a_planted_step_of_yours_is_found_and_said(served, tmp_path):
    told = tmp_path / "told.json"
    script = tmp_path / "told.sh"
    script.write_text(f"#!/bin/sh\ncat > {told}\n")
    script.chmod(0o700)
    going = begun(served, "--scenario", "rag", "--on-change", str(script))
    until(lambda: probes() >= 14)
    served.knobs(slower=3.0, slower_from_tokens=500)
    until(lambda: told.exists() and told.stat().st_size > 0)
    going.send_signal(signal.SIGINT)
    assert going.wait(PATIENCE_S) == 130
    finding = json.loads(told.read_text())
    assert (finding["whose"], finding["kind"]) == ("yours", "level")
    assert finding["yours"]["low"] > 0  # three times as slow, of a wait that the machine adds to
    (change,) = watched.read(Store(), "last").changes
    assert "the control stood" in change.words


def test_of_a_request_of_ones_own_the_rows_keep_the_shape_alone(served, db, tmp_path):
    body = {"max_tokens": 4, "messages": [{"role": "user", "content": "What does Zwiebelfisch?"}]}
    file = tmp_path / "own.json"
    file.write_text(json.dumps(body))
    flags = ("--once", "--body", str(file), "--name", "own")
    done = subprocess.run(
        command(served, *flags), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    found = watched.read(Store(), "own")
    assert found.trials["outcome"].tolist() == ["ok", "ok"]
    files = [db, *(path for path in db.with_suffix(".duckdb.spool").rglob("*") if path.is_file())]
    assert not [path.name for path in files if b"Zwiebelfisch" in path.read_bytes()]
    kept = watch_order.file_of(found.run_id)
    assert "Zwiebelfisch" in kept.read_text() and kept.stat().st_mode & 0o777 == 0o600
    Store().forget(found.run_id)
    assert not kept.exists()
