"""lab.observe: a client of the user's own keeps all it has, and its calls are a recording."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading

import anthropic
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic

import lab
from lab import observing, recordings
from lab.endpoints import client as lab_client
from lab.endpoints import registry
from lab.model import LabError
from lab.observing import feed
from lab.store import queries
from lab.store.store import Store

MODEL = "simulated-small"
ASK = {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": "How deep?"}]}


@pytest.fixture(autouse=True)
def feeds(monkeypatch):
    """Recordings of this test's own, ended with it."""
    own: dict = {}
    monkeypatch.setattr(feed, "_feeds", own)
    yield own
    feed.close_all()


@pytest.fixture
def options(simulated, db) -> dict:
    return {"base_url": simulated.base_url, "api_key": simulated.api_key, "max_retries": 0}


def calls(run: int = 0):
    """The calls of the newest recording, once all is stored."""
    for each in feed._feeds.values():
        each.flush(30)
    store = Store()
    return recordings.read(store, queries.recordings(store)["run_id"][run]).calls


def test_every_way_of_asking_is_a_row_with_its_clocks(options, simulated):
    client = lab.observe(Anthropic(**options), name="my agent")
    simulated.plays(headers=20, text=[60, 90], done=120)
    client.messages.create(**ASK)
    with client.messages.stream(**ASK) as stream:
        stream.get_final_message()
    list(client.messages.create(**ASK, stream=True))
    client.beta.messages.create(**ASK, betas=["context-management-2025-06-27"])
    client.with_options(timeout=9).messages.create(**ASK)
    client.messages.count_tokens(model=MODEL, messages=ASK["messages"])

    async def others() -> None:
        async with lab.observe(AsyncAnthropic(**options), name="my agent") as other:
            await asyncio.gather(*(other.messages.create(**ASK) for _ in range(2)))
            async with other.messages.stream(**ASK) as stream:
                await stream.get_final_text()

    asyncio.run(others())
    rows = calls()
    assert len(rows) == 8 and (rows["outcome"] == "ok").all()
    assert set(rows["source"]) == {"client"} and set(rows["http_status"]) == {200}
    assert rows["connection_reused"].tolist().count(False) >= 2
    streamed = rows[rows["ttft_ms"].notna()]
    assert len(streamed) == 3 and (streamed["ttft_ms"] >= streamed["headers_at_ms"]).all()
    assert (rows["headers_at_ms"] >= rows["sent_at_ms"]).all() and rows["input_tokens"].gt(0).all()
    run = queries.run(Store(), rows["run_id"][0])
    assert (run["name"], run["endpoint_kind"], run["status"]) == (
        "my agent",
        "simulated",
        "running",
    )
    feed.close_all()
    assert queries.run(Store(), rows["run_id"][0])["status"] == "finished"


def test_all_that_was_set_on_the_client_is_kept(options):
    seen = []
    http = anthropic.DefaultHttpxClient(
        event_hooks={"request": [lambda request: seen.append(request)]},
        mounts={"http://nowhere.example": httpx2.HTTPTransport()},
        cookies={"a": "1"},
        timeout=7,
    )
    theirs = Anthropic(
        **options | {"max_retries": 3},
        http_client=http,
        default_headers={"x-mine": "yes"},
        default_query={"q": "1"},
    )
    client = lab.observe(theirs)
    client.messages.create(**ASK)
    assert (seen[0].headers["x-mine"], seen[0].headers["cookie"], seen[0].url.params["q"]) == (
        "yes",
        "a=1",
        "1",
    )
    assert client.max_retries == 3 and str(client.base_url) == str(theirs.base_url)
    assert client._client.timeout == httpx2.Timeout(7)
    # On the same connections: the client's own pool has the one that was opened.
    assert len(http._transport._pool.connections) == 1
    theirs.messages.create(**ASK)
    assert len(calls()) == 1  # the original is not observed


def test_the_original_may_be_forgotten_and_the_copy_too(options):
    client = lab.observe(Anthropic(**options))
    gc.collect()
    client.messages.create(**ASK)
    theirs = Anthropic(**options)
    lab.observe(theirs).messages.create(**ASK)
    gc.collect()
    theirs.messages.create(**ASK)
    assert len(theirs._client._transport._pool.connections) == 1
    assert len(calls()) == 2


def test_errors_cuts_and_cancels_are_rows_and_reach_the_application(options, simulated):
    client = lab.observe(Anthropic(**options))
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**ASK | {"model": "no such model"})
    with client.messages.stream(**ASK | {"max_tokens": 500}) as stream:
        next(iter(stream))
    simulated.plays(headers=5, text=[10, 20, 30], fault={"kind": "cut"})
    with pytest.raises(httpx2.RemoteProtocolError), client.messages.stream(**ASK) as stream:
        stream.get_final_message()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(anthropic.APIConnectionError):
        lab.observe(Anthropic(**options | {"base_url": nobody}), name="nobody").messages.create(
            **ASK
        )

    async def cancelled() -> None:
        simulated.plays(headers=2_000)
        other = lab.observe(AsyncAnthropic(**options))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await other.messages.create(**ASK)

    asyncio.run(cancelled())
    kinds = {run: set(calls(run)["error_kind"]) for run in range(2)}
    assert {"not_found_error", "cancelled", "disconnected"} in kinds.values() and {
        "connect"
    } in kinds.values()


def test_a_retry_of_the_sdk_is_a_row_of_its_own(options, simulated):
    simulated.plays(headers=5, fault={"kind": "http", "status": 529})
    client = lab.observe(Anthropic(**options | {"max_retries": 2}))
    client.messages.create(**ASK)
    assert calls()["http_status"].tolist() == [529, 200]


def test_threads_share_one_recording(options):
    client = lab.observe(Anthropic(**options))
    others = [lab.observe(Anthropic(**options)) for _ in range(3)]
    threads = [
        threading.Thread(target=lambda one=one: [one.messages.create(**ASK) for _ in range(5)])
        for one in (client, *others)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls()) == 20 and len(queries.recordings(Store())) == 1


def test_what_cannot_be_observed_is_refused_in_a_sentence(options, simulated):
    client = lab.observe(Anthropic(**options))
    with pytest.raises(LabError, match="observed already"):
        lab.observe(client)
    with pytest.raises(LabError, match="str cannot be observed"):
        lab.observe("a client")
    measured = lab_client.open_client(registry.find(simulated.base_url))
    with pytest.raises(LabError, match="belongs to a run that the lab measures"):
        lab.observe(measured)


def test_a_database_that_nobody_can_write_never_reaches_the_application(
    options, tmp_path, caplog, feeds
):
    folder = tmp_path / "a file"
    folder.touch()
    client = lab.observe(Anthropic(**options), db=folder / "lab.duckdb")
    for _ in range(3):
        assert client.messages.create(**ASK).usage.output_tokens
    with caplog.at_level(logging.INFO, "lab.observing"):
        feed.close_all()
    assert "3 calls of your application were not recorded" in caplog.text


def test_what_comes_too_fast_is_counted(options, monkeypatch, caplog):
    monkeypatch.setattr(feed, "WAITING_BYTES", 100)
    client = lab.observe(Anthropic(**options))
    client.messages.create(**ASK)
    with caplog.at_level(logging.WARNING, "lab.observing"):
        feed.close_all()
    assert "1 call of your application was not recorded: they came faster" in caplog.text


def test_an_error_of_ours_is_not_the_applications(options, monkeypatch):
    monkeypatch.setattr("lab.observing.transports.worth_telling", lambda headers: 1 / 0)
    monkeypatch.setattr(observing.transports.Look, "trace", None)
    client = lab.observe(Anthropic(**options))
    assert client.messages.create(**ASK).usage.output_tokens


APPLICATION = """
    import json, os, sys
    import lab
    from anthropic import Anthropic

    def ask(client):
        client.messages.create(**json.loads(sys.argv[3]))

    client = lab.observe(Anthropic(base_url=sys.argv[1], api_key=sys.argv[2]), name="forks")
    ask(client)
    if not (child := os.fork()):
        ask(client)
        ask(client)
        sys.exit()
    os.waitpid(child, 0)
    ask(client)
    if "killed" in sys.argv:
        client.close()
        os.kill(os.getpid(), 9)
"""


def application(options: dict, *more: str) -> str:
    """What it says, once it has ended."""
    words = (options["base_url"], options["api_key"], json.dumps(ASK), *more)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(APPLICATION), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        cwd=os.getcwd(),
    )
    return done.stdout + done.stderr


def test_all_is_stored_as_the_process_ends_and_a_fork_records_for_itself(options):
    assert application(options) == ""
    rows = queries.recordings(Store())
    assert sorted(rows["calls"]) == [2, 2] and set(rows["status"]) == {"finished"}


def test_a_process_that_is_killed_leaves_its_calls_and_was_interrupted(options):
    application(options, "killed")
    store = Store()
    for _ in range(200):
        rows = queries.recordings(store)
        if "running" not in set(rows["status"]):
            break
        threading.Event().wait(0.05)
    assert sorted(rows["calls"]) == [2, 2]
    assert set(rows["status"]) == {"finished", "interrupted"}
