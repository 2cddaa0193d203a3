"""What was told is kept: through kill −9, a full disk, and a database that another program
holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading

import duckdb
import pytest

from lab import paths
from lab.model import LabError, new_id
from lab.store import journal, queries
from lab.store.store import Store
from tests.stored_trials import a_trial, filled, held_by_a_foreign_program

KEEP = """
    import resource, sys
    sys.path[:0] = ["."]
    from tests.stored_trials import a_trial
    from lab.model import LabError, new_id
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
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(KEEP),
        str(db),
        run_id,
        session_id,
        *map(str, more),
    ]
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
        patch.setattr("lab.store.journalled_changes.applied", full)
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
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    ).returncode:
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


def test_whoever_only_looks_keeps_no_row_from_being_taken_in(db):
    """A page that asks for the version all the time, beside writers that leave their rows and
    go."""
    store, run_id = filled(db, 0)
    session_id = queries.run(store, run_id)["sessions"][0]["session_id"]
    looking, ended = Store(db), threading.Event()
    thread = threading.Thread(target=lambda: [looking.version() for _ in iter(ended.is_set, True)])
    thread.start()
    try:
        for block in range(40):
            writer = Store(db)
            writer.keep(a_trial(run_id, session_id, block))
            writer._journal.close()
            assert store.set_note(run_id, "taken in") and not journal.files(store._spool)
    finally:
        ended.set()
        thread.join()
    assert len(queries.trials(store, run_id)) == 40


def test_rows_that_neither_the_database_nor_the_spool_took_are_said_and_written_later(db):
    store, run_id = filled(db, 0)
    session_id = queries.run(store, run_id)["sessions"][0]["session_id"]
    program = held_by_a_foreign_program(db)
    writer = Store(db, 0.2)
    try:
        writer._spool.write_text("a file where the folder would be")
        with pytest.raises(LabError, match="can be written"):
            writer.rename(run_id, "named while nothing could be written")
        writer._spool.unlink()
        writer.keep(a_trial(run_id, session_id, 1))
        assert not writer.write_trials([])
    finally:
        program.communicate("\n")
    assert queries.run(store, run_id)["name"] == "named while nothing could be written"
    assert queries.trials(store, run_id)["block"].tolist() == [1]


def test_a_spool_that_somebody_removes_costs_no_row(db):
    store, run_id = filled(db, 0)
    session_id = queries.run(store, run_id)["sessions"][0]["session_id"]
    program = held_by_a_foreign_program(db)
    writer = Store(db, 0.2)
    try:
        writer.keep(a_trial(run_id, session_id, 1))
        shutil.rmtree(writer._spool)
        writer.keep(a_trial(run_id, session_id, 2))
        assert not writer.write_trials([])
    finally:
        program.communicate("\n")
    assert sorted(queries.trials(store, run_id)["block"]) == [1, 2]


STRANGE = [
    '{"rows": []}',
    '{"rows": null}',
    '{"rows": "abc"}',
    '{"rows": {"runs": [1]}}',
    '{"rows": {"calls": 3}}',
    '"x"',
    "7",
    "{}",
]


def test_strange_lines_in_the_spool_break_no_page_and_no_write(db):
    store, run_id = filled(db)
    store._spool.mkdir()
    strange = [*STRANGE, '{"rows": {"runs": [{"settings": ' + "[" * 900 + "]" * 900 + "}]}}"]
    (store._spool / "1.jsonl").write_text("\n".join(strange) + "\n")
    assert len(queries.trials(store, run_id)) == 4
    assert store.set_note(run_id, "kept")
    assert len((store._spool / "1.refused").read_text().splitlines()) >= len(STRANGE) - 1


@pytest.mark.parametrize("content", [b"this is not a database" * 400])
def test_what_waits_does_not_hide_that_the_database_is_broken(db, content):
    store, run_id = filled(db)
    db.write_bytes(content)
    store._spool.mkdir()
    (store._spool / "1.jsonl").write_text(f'{{"update": "{run_id}", "name": "x"}}\n')
    with pytest.raises(LabError, match="Cannot read"):
        queries.runs(Store(db))


def test_what_has_no_spool_to_fall_back_on_is_patient(db):
    store, run_id = filled(db)
    program = held_by_a_foreign_program(db)
    try:
        assert not Store(db, 0.2).set_note(run_id, "held")
        threading.Timer(1, lambda: program.communicate("\n")).start()
        store.delete_run(run_id)
    finally:
        program.wait(20)
    assert queries.runs(store).empty


def test_much_that_waits_keeps_no_run_waiting(db, monkeypatch):
    store, run_id = filled(db, 0)
    session_id = queries.run(store, run_id)["sessions"][0]["session_id"]
    monkeypatch.setattr("lab.store.store.TAKEN_IN_BYTES_PER_S", 10)
    program = held_by_a_foreign_program(db)
    hurried = Store(db, 0.2)
    hurried.keep(a_trial(run_id, session_id, 1))
    assert not hurried.write_trials([])
    program.communicate("\n")
    assert not hurried.finish_run(run_id, "finished")  # behind what waits, in its order
    assert queries.run(Store(db), run_id)["status"] == "finished" and not journal.files(
        store._spool
    )


CREATE = """
    import resource, sys
    sys.path[:0] = ["."]
    from tests.stored_trials import a_run
    from lab.store.store import Store
    store, limit = Store(sys.argv[1]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    print(store.write_run(a_run(sys.argv[2])))
"""


@pytest.mark.parametrize("room", [4_000, 20_000])
def test_a_disk_that_is_full_while_the_database_is_made_leaves_none_that_is_broken(db, room):
    run_id = new_id()
    command = [sys.executable, "-c", textwrap.dedent(CREATE), str(db), run_id, str(room)]
    told = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    assert told.stdout == "False\n", told.stderr
    assert not db.exists()
    assert queries.runs(Store(db))["run_id"].tolist() == [run_id] and db.exists()
