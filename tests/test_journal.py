"""What was told is kept: through kill −9, a full disk, and a database that another program holds."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import duckdb
import pytest

from lab import paths
from lab.model import LabError
from lab.store import journal, queries
from lab.store.store import Store
from tests.test_store import a_trial, filled, held_by_a_foreign_program

KEEP = """
    import resource, sys
    sys.path[:0] = ["tests", "."]
    from tests.test_store import a_trial
    from lab.model import LabError
    from lab.store.store import Store
    store, run_id, session_id = Store(sys.argv[1]), *sys.argv[2:4]
    if len(sys.argv) > 4:  # a disk with room for so many bytes a file
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
    for block in range(200 if len(sys.argv) > 4 else 3000):
        trial = a_trial(run_id, session_id, block)
        try:
            store.keep(trial)
            print(trial.trial.trial_id, flush=True)
            if block % 20 == 19:
                store.write_trials([])
        except LabError as error:
            print(error, flush=True)
            break
"""


def keeper(db, run_id, *more) -> subprocess.Popen:
    session_id = queries.run(Store(db), run_id)["sessions"][0]["session_id"]
    command = [sys.executable, "-c", textwrap.dedent(KEEP), str(db), run_id, session_id, *map(str, more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=paths.ROOT)


def kept(db, run_id) -> set[str]:
    return set(queries.trials(Store(db), run_id)["trial_id"])


def test_every_trial_that_was_told_survives_kill_9(db):
    _, run_id = filled(db, 0)
    told: set[str] = set()
    for lines in (7, 33):
        process = keeper(db, run_id)
        told |= {process.stdout.readline().strip() for _ in range(lines)}
        process.kill()
        told |= {line.strip() for line in process.stdout if len(line) == 37}
        process.wait()
        process.stdout.close()
    assert len(told) >= 40 and told <= kept(db, run_id)


def test_every_trial_that_was_told_survives_a_database_that_cannot_grow(db):
    _, run_id = filled(db, 0)
    told = keeper(db, run_id, 80_000).communicate()[0].splitlines()
    assert len(told) == 200 and set(told) == kept(db, run_id)
    assert not journal.files(Store(db)._spool)


def test_a_trial_that_the_disk_refuses_is_not_told(db):
    store, run_id = filled(db, 0)
    session_id = queries.run(store, run_id)["sessions"][0]["session_id"]
    store._spool.write_text("a file where the folder would be")
    with pytest.raises(LabError, match="Cannot write"):
        store.keep(a_trial(run_id, session_id, 1))
    store._spool.unlink()
    store.keep(a_trial(run_id, session_id, 2))
    store.close()
    assert queries.trials(Store(db), run_id)["block"].tolist() == [2]


def test_readers_see_what_waits_while_another_program_holds_the_database(db):
    store, run_id = filled(db)
    session_id = queries.run(store, run_id)["sessions"][0]["session_id"]
    program = held_by_a_foreign_program(db)
    try:
        writer = Store(db, patience_s=0.2)
        writer.keep(a_trial(run_id, session_id, 5))
        assert not writer.write_trials([])
        assert not writer.finish_run(run_id, "finished")
        writer.close()
        assert sorted(queries.trials(Store(db), run_id)["block"]) == [0, 0, 1, 1, 5]
        assert queries.run(Store(db), run_id)["status"] == "finished"
        before = Store(db).version()
    finally:
        program.communicate("\n")
    assert sorted(queries.trials(Store(db), run_id)["block"]) == [0, 0, 1, 1, 5]
    assert Store(db).version() != before and not journal.files(Store(db)._spool)


def test_a_journal_in_use_is_left_to_its_owner(db):
    store, run_id = filled(db, 0)
    session_id = queries.run(store, run_id)["sessions"][0]["session_id"]
    owner = Store(db)
    owner.keep(a_trial(run_id, session_id, 1))
    store.set_note(run_id, "another writes meanwhile")
    assert len(journal.files(store._spool)) == 1 and queries.trials(store, run_id).empty
    assert owner.write_trials([])
    assert queries.trials(store, run_id)["block"].tolist() == [1]
    owner.close()
    assert not journal.files(store._spool)


def test_a_commit_that_fails_deletes_no_row(db, monkeypatch):
    """A failure that says nothing about the rows: the database's log cannot be written."""
    store, run_id = filled(db, 0)
    session_id = queries.run(store, run_id)["sessions"][0]["session_id"]

    def full(*_, **__):
        raise duckdb.IOException("IO Error: Could not write file: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lab.store.store._applied", full)
        assert store.write_trials([a_trial(run_id, session_id, 1)]) is False
    assert queries.trials(store, run_id)["block"].tolist() == [1]


@pytest.mark.parametrize("garbage", [b"garbage", b"\xff" * 40, b"-", b"1e400"])
def test_garbage_in_the_lock_file_costs_nothing(db, garbage):
    store, run_id = filled(db)
    lock = db.with_name(db.name + ".lock")
    lock.write_bytes(garbage)
    assert store.version() >= 0
    assert store.set_note(run_id, "x") and queries.run(store, run_id)["note"] == "x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_of_its_own_keeps_what_was_told(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        _, run_id = filled(disk / "lab.duckdb", 0)
        *told, last = keeper(disk / "lab.duckdb", run_id).communicate()[0].splitlines()
        assert "No space left" in last and len(told) > 10
        assert set(told) <= kept(disk / "lab.duckdb", run_id)  # also while it is full
        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        assert set(told) <= kept(disk / "lab.duckdb", run_id)
        assert not journal.files(Store(disk / "lab.duckdb")._spool)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
