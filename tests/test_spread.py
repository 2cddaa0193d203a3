"""Several workers make one load: real Dask workers, in processes of their own, and the simulated
server."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from itertools import chain

import psutil
import pytest
from distributed import Client

from lab import clock, load_run, part, resume, spread, worker
from lab.load.load_settings import load_config_of
from lab.load.parts import parts, share
from lab.load.profile import Level, Step
from lab.model import LabError
from lab.settings import config_of
from lab.store.store import Store

OF_CALLS = "FROM trials JOIN calls USING (trial_id) WHERE phase = 'load'"


@pytest.fixture
def load(simulated, db, monkeypatch):
    """A load on two workers: how it ended, and all entries of its progress; `heard` is asked with
    each of them and may act on it."""
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)

    def loaded(heard=lambda entry: None, **values):
        entries = []

        def listen(entry):
            entries.append(entry)
            heard(entry)

        usual = {"endpoint": simulated.base_url, "bias": False, "warmup": 1, "workers": 2}
        return load_run.measure(load_config_of(**{**usual, **values}), listen), entries

    return loaded


def rows(sql: str) -> list:
    with Store().reading() as connection:
        return list(map(list, connection.execute(sql).fetchall()))


def notes(entries: list) -> list:
    """What was said, but for how busy this machine is."""
    said = [entry["text"] for entry in entries if entry["kind"] == "note"]
    return [text for text in said if not text.startswith("This machine is busy")]


@pytest.fixture
def blocks(simulated, db, monkeypatch):
    """A run of streaming on two workers, as `load` has a load."""
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)

    def measured(heard=lambda entry: None, **values):
        entries = []

        def listen(entry):
            entries.append(entry)
            heard(entry)

        usual = {"technique": "streaming", "endpoint": simulated.base_url, "workers": 2}
        return worker.measure(config_of(**{**usual, **values}), listen), entries

    return measured


PLAYS = tuple((Step(number),) for number in range(12))


def test_streams_are_dealt_in_turn_and_each_play_is_made_once():
    level = Level(1, "closed", 5, PLAYS, over_s=1.0)
    first, second = parts(level, 2)
    assert (first.target, second.target) == (3, 2)
    assert sorted(first.plays + second.plays) == sorted(PLAYS)
    assert sorted(first.at_s + second.at_s) == [0.0, 0.2, 0.4, 0.6, 0.8]


def test_the_parts_of_an_open_loop_are_its_schedule():
    at_s = tuple(number / 4 for number in range(12))
    level = Level(1, "open", 4.0, PLAYS, at_s=at_s)
    dealt = parts(level, 3)
    assert sum(part.target for part in dealt) == pytest.approx(4)
    together = chain.from_iterable(zip(part.at_s, part.plays, strict=True) for part in dealt)
    assert sorted(together) == list(zip(at_s, PLAYS, strict=True))


def test_no_part_is_empty_and_the_ceiling_is_that_of_all_together():
    assert len(parts(Level(1, "closed", 2, PLAYS), 4)) == 2
    at_s = tuple(map(float, range(12)))
    dealt = parts(Level(1, "open", 1.0, PLAYS, at_s=at_s), 4, 3)
    assert len(dealt) == 3
    assert [share(7, place, 3) for place in range(3)] == [3, 2, 2]


def test_two_workers_make_each_request_once_and_each_is_a_session(load):
    done, entries = load(concurrency=[4], requests=24)
    assert (done.status, done.text, notes(entries)) == ("finished", "24 requests", [])
    assert rows(f"SELECT count(*), count(DISTINCT call_id) {OF_CALLS}") == [[24, 24]]
    assert rows(f"SELECT count(*) {OF_CALLS} GROUP BY trials.session_id") == [[12], [12]]
    levels = "SELECT target, planned, not_begun, reason FROM load_levels"
    assert rows(levels) == [[2.0, 12, 0, None]] * 2
    where = "SELECT DISTINCT instrument->>'dask_worker' FROM sessions"
    assert len(rows(where)) == 2
    ((events, calls),) = rows(
        "SELECT (SELECT count(*) FROM events), (SELECT count(DISTINCT call_id) FROM events)"
    )
    assert calls == 24 + 2 and events > calls  # with a warm-up on each worker


def test_both_ask_at_the_instants_of_one_schedule(load):
    load(rate=[40], arrivals="constant", requests=20)
    begun = "(SELECT started_ns FROM load_levels AS l WHERE l.session_id = trials.session_id)"
    due = rows(f"SELECT (scheduled_ns - {begun}) // 1000000 {OF_CALLS} ORDER BY 1")
    assert due == [[25 * number] for number in range(20)]


def test_a_worker_that_has_no_part_in_a_level_is_asked_all_the_same(load, monkeypatch):
    """What nobody asks for a minute ends by itself."""

    async def asked(cluster, worker):
        heard.add(worker.address)
        return await take(cluster, worker)

    def listen(entry):
        if entry["kind"] == "level":
            heard.clear()
        elif entry["kind"] == "level_ended":
            workers.append(len(heard))

    heard, workers, take = set(), [], spread.Cluster.take
    monkeypatch.setattr(spread.Cluster, "take", asked)
    load(listen, concurrency=[1], requests=8)
    assert workers == [2]


def test_a_lost_worker_loses_its_unfinished_calls_and_the_run_says_so(load, simulated):
    simulated.knobs(gap_ms=20, jitter=0, tail=0)
    killed = []

    def kill(entry):
        if entry["kind"] == "load" and entry["done"] > 20 and not killed:
            (worker,) = rows("SELECT worker FROM sessions ORDER BY session_id LIMIT 1")[0]
            loader = psutil.Process(int(worker.rpartition(":")[2]))
            killed.append(loader.ppid())
            os.kill(loader.ppid(), signal.SIGKILL)
            simulated.knobs(gap_ms=5)

    done, entries = load(kill, concurrency=[8], requests=400, max_tokens=16)
    assert done.status == "finished" and len(killed) == 1
    whole, lost = rows(
        "SELECT planned, not_begun, reason, session_id FROM load_levels ORDER BY not_begun"
    )
    assert whole[:3] == [200, 0, None]
    assert lost[0] == 200 and 0 < lost[1] < 200
    assert f"process {killed[0]}) was lost" in lost[2]
    kept = rows(f"SELECT count(*) {OF_CALLS} AND trials.session_id = '{lost[3]}'")
    assert kept == [[200 - lost[1]]]
    (note,) = notes(entries)
    assert f"{lost[1]} requests of its part of 8 streams missing" in note


def test_a_level_after_a_loss_is_made_by_those_that_are_left(load, simulated):
    simulated.knobs(gap_ms=20, jitter=0, tail=0)
    killed = []

    def kill(entry):
        if entry["kind"] == "load" and entry["done"] > 4 and not killed:
            (worker,) = rows("SELECT worker FROM sessions ORDER BY session_id LIMIT 1")[0]
            killed.append(psutil.Process(int(worker.rpartition(":")[2])).ppid())
            os.kill(killed[0], signal.SIGKILL)
            simulated.knobs(gap_ms=5)

    done, _ = load(kill, concurrency=[4, 6], requests=120, max_tokens=16)
    assert done.status == "finished"
    second = rows("SELECT target, planned, not_begun FROM load_levels WHERE level = 2")
    assert second == [[6.0, 120, 0]]


def test_a_worker_with_another_version_measures_nothing(load, simulated, monkeypatch):
    monkeypatch.setattr(spread, "VERSION", "9.9.9")
    with pytest.raises(LabError, match=r"has version \d.* of the lab, and this is 9\.9\.9"):
        load(concurrency=[2], requests=4)
    assert rows("SELECT count(*) FROM calls") == [[0]]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("tcp://192.0.2.7:8786", "neither encrypted"),
        ("http://127.0.0.1:8786", "is no Dask scheduler"),
        ("tcp://127.0.0.1", "is no Dask scheduler"),
    ],
)
def test_a_scheduler_that_anyone_may_reach_is_refused(address, why):
    with pytest.raises(LabError, match=why):
        spread.check(address, "live")


def test_a_network_of_ones_own_is_trusted_by_name(monkeypatch):
    monkeypatch.setenv(spread.TRUSTED, "tcp://192.0.2.7:8786")
    spread.check("tcp://192.0.2.7:8786", "live")
    with pytest.raises(LabError, match="neither encrypted"):
        spread.check("tcp://192.0.2.8:8786", "live")


LOOPBACK = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")


class Listening:
    """A scheduler behind a wire on which every byte is kept; its two workers reach it by that wire,
    and so does whoever measures."""

    def __init__(self, folder) -> None:
        self.heard = bytearray()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        card = folder / "scheduler.json"
        self.processes = [
            self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", card)
        ]
        while not (card.exists() and card.read_text().endswith("}")):
            assert self.processes[0].poll() is None
        self.port = int(json.loads(card.read_text())["address"].rpartition(":")[2])
        serving = asyncio.start_server(self._join, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(serving, self.loop).result()
        self.address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self.workers = [self._worker(folder / str(number)) for number in range(2)]

    def _worker(self, folder) -> subprocess.Popen:
        flags = ("--nthreads", "1", "--no-nanny", "--local-directory", folder)
        return self._start("worker", self.address, *flags)

    def _start(self, what: str, *flags: object) -> subprocess.Popen:
        keyless = {name: value for name, value in os.environ.items() if "KEY" not in name}
        environment = {**keyless, **self.own, "LAB_IGNORE_KEYS": "1"}
        command = [sys.executable, "-m", "dask", what, *LOOPBACK, *map(str, flags)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    own: dict = {}  # noqa: RUF012 - what the workers' environment has of its own

    async def _join(self, reader, writer) -> None:
        there = await asyncio.open_connection("127.0.0.1", self.port)
        ways = (reader, there[1]), (there[0], writer)
        await asyncio.gather(*(self._copy(*way) for way in ways), return_exceptions=True)

    async def _copy(self, source, sink) -> None:
        while data := await source.read(65536):
            self.heard += data
            sink.write(data)
        sink.close()

    def close(self) -> None:
        for process in (*self.workers, *self.processes):
            process.kill()
            process.wait()


@pytest.fixture
def listening(tmp_path, simulated, monkeypatch):
    """Its workers have the simulated server's key in their own environment, and no other."""
    monkeypatch.setattr(Listening, "own", {"LAB_LOCAL_KEY": simulated.api_key})
    listening = Listening(tmp_path)
    yield listening
    listening.close()


def test_what_a_scheduler_hears_has_the_requests_and_no_key(load, listening, simulated):
    done, _ = load(scheduler=listening.address, concurrency=[2], requests=6)
    assert (done.status, done.text) == ("finished", "6 requests")
    assert b"max_tokens" in listening.heard
    assert simulated.api_key.encode() not in listening.heard


def test_a_worker_without_a_key_is_named_before_anything_is_asked(load, listening, monkeypatch):
    monkeypatch.delenv("LAB_IGNORE_KEYS")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-the-coordinator-alone")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    values = {"endpoint": "anthropic", "scheduler": listening.address, "concurrency": [2]}
    with pytest.raises(LabError, match=r"worker tcp://\S+ on .* cannot measure: No ANTHROPIC_API"):
        load(**values)
    assert rows("SELECT count(*) FROM calls") == [[0]]
    assert b"sk-ant-of-the-coordinator" not in listening.heard


def test_each_block_is_whole_on_one_worker_and_none_is_measured_twice(blocks):
    done, entries = blocks(runs=6, warmup=1)
    assert (done.status, notes(entries)) == ("finished", [])
    of_block = "FROM trials WHERE phase = 'measured' GROUP BY block ORDER BY block"
    arms = next(len(entry["arms"]) for entry in entries if entry["kind"] == "started")
    told = rows(f"SELECT block, count(*), count(DISTINCT session_id) {of_block}")
    assert told == [[number, arms, 1] for number in range(1, 7)]
    sessions = "SELECT count(DISTINCT block) FROM trials WHERE phase = 'measured'"
    assert rows(f"{sessions} GROUP BY session_id") == [[3], [3]]
    last = [entry for entry in entries if entry["kind"] == "trial"][-1]
    assert last["done"] == last["total"] == arms * (6 + 2)


def test_the_blocks_of_a_lost_worker_are_left_for_resume(blocks, simulated, db):
    """Of its four blocks at most one was measured when it is lost."""
    simulated.knobs(gap_ms=40)
    killed = []

    def kill(entry):
        if entry["kind"] == "trial" and entry["phase"] == "measured" and not killed:
            (name,) = rows("SELECT worker FROM sessions ORDER BY session_id LIMIT 1")[0]
            killed.append(int(name.rpartition(":")[2]))
            os.kill(killed[0], signal.SIGKILL)
            simulated.knobs(gap_ms=1)

    done, _ = blocks(kill, runs=8, warmup=0)
    assert done.status == "interrupted" and f"process {killed[0]}) was lost" in done.text
    stored = resume.progress(Store(), done.run_id)
    assert len(stored.missing) >= 3 and len(stored.complete) >= 4
    again = worker.measure(resume.rest(Store(), done.run_id))
    assert again.status == "finished"
    assert resume.progress(Store(), done.run_id).missing == set()


def test_a_worker_of_a_scheduler_is_free_once_its_blocks_are_measured(blocks, listening):
    """By itself it would wait a minute for whoever asks."""
    done, _ = blocks(scheduler=listening.address, workers=1, runs=2, warmup=0)
    assert done.status == "finished"
    ended_ns, name = clock.now_ns(), f"{done.run_id}:0"
    with Client(listening.address, set_as_default=False) as client:
        while any(there is not None for there in client.run(part.take, name).values()):
            assert clock.now_ns() - ended_ns < 0.5 * part.ALONE_S * 1e9
            clock.pause_s(0.1)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"endpoint": "local"}, "embedded model"),
        ({"target_half_width_ms": 5.0}, "--until-precision"),
        ({"scheduler": "tls://192.0.2.7:8786"}, "on this machine alone"),
    ],
)
def test_blocks_that_cannot_be_shared_are_refused(blocks, values, why):
    with pytest.raises(LabError, match=why):
        blocks(**values)
