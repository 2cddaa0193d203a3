"""The path: what a connection and a gateway cost, each call by the connection that was meant."""

import asyncio
import json
import re
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest

from bench.gateway import Gateway, certificate
from lab import results, techniques
from lab.endpoints import consent
from lab.endpoints.client import open_client
from lab.endpoints.registry import Endpoint
from lab.harness.bench import TrialBench, connection_mismatch
from lab.instrumentation.stamps import OBSERVER, StampedTransport
from lab.model import LabError
from lab.rows import CallRow
from lab.stats import bursts
from lab.techniques.connection import findings
from lab.view_parts import Note
from tests.measured import FAST, measure

HANDSHAKE_MS = 40
BLOCKS = 6


@pytest.fixture
def far(simulated, tmp_path, monkeypatch):
    """The simulated server behind TLS whose handshake takes 40 ms: a live endpoint, to the lab."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate of this test, and is not installed")
    import ssl

    pem = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    monkeypatch.delenv("LAB_IGNORE_KEYS")
    monkeypatch.setenv("LAB_SECRETS", str(tmp_path / "none.toml"))
    gateway = Gateway(simulated.base_url, handshake_ms=HANDSHAKE_MS, tls=context).open()
    monkeypatch.setenv("LAB_API_KEYS", json.dumps({gateway.base_url: simulated.api_key}))
    simulated.knobs(**FAST, prefill_ms_per_token=0)
    yield gateway
    gateway.close()


@pytest.fixture
def gateway(simulated):
    """Makes gateways before the simulated server, which end with the test."""
    made = []

    def make(**planted) -> Gateway:
        made.append(Gateway(simulated.base_url, **planted).open())
        consent.allow(made[-1].base_url, key=False)
        return made[-1]

    yield make
    for one in made:
        one.close()


async def through_tls(far, simulated, **settings):
    where, simulated.base_url = simulated.base_url, far.base_url
    try:
        models = {"small": "simulated-small", "large": "simulated-large"}
        return await measure(simulated, "connection", models=models, max_usd=9, **settings)
    finally:
        simulated.base_url = where


async def test_a_new_connection_costs_its_handshake_and_a_kept_or_opened_one_does_not(
    far, simulated, db
):
    run = await through_tls(far, simulated, runs=BLOCKS, knobs={"pause_s": 0})
    assert run.trials["outcome"].tolist() == ["ok"] * 3 * BLOCKS
    answers = run.calls[run.calls["role"] == "answer"].set_index("arm")
    assert answers["connection_reused"].groupby("arm").agg(["min", "max"]).to_dict("index") == {
        "kept": {"min": True, "max": True},
        "new": {"min": False, "max": False},
        "pre-opened": {"min": True, "max": True},
    }
    opened = findings.opened(run.calls)
    assert opened.n == BLOCKS and opened.tls >= HANDSHAKE_MS
    assert run.arm("new")["wait_ms"].min() >= HANDSHAKE_MS
    phases = findings.parts(run.calls).pivot_table(index="arm", columns="part", values="amount")
    assert phases.loc["new", "tls_ms"] >= HANDSHAKE_MS
    assert phases.loc[["kept", "pre-opened"], "tls_ms"].tolist() == [0, 0]


async def test_a_connection_that_was_to_be_kept_and_was_not_is_a_mismatch(gateway, simulated, db):
    """The gateway closes what has rested for 0.2 s; the pause is 1 s."""
    impatient = gateway(idle_s=0.2)
    simulated.knobs(**FAST)
    where, simulated.base_url = simulated.base_url, impatient.base_url
    try:
        run = await measure(simulated, "connection", runs=1, knobs={"pause_s": 1})
    finally:
        simulated.base_url = where
    became = run.trials.set_index("arm")["outcome"].to_dict()
    assert became == {"new": "ok", "kept": "mismatch", "pre-opened": "ok"}
    reason = run.arm("kept")["error_text"].iloc[0]
    assert "a new connection was made" in reason and "pause less" in reason


async def test_through_a_gateway_the_same_server_answers_and_its_buffer_is_named(
    gateway, simulated, db
):
    """120 pieces of 123 bytes are 14.4 KiB: four buffers of 4 KiB."""
    simulated.knobs(**{**FAST, "gap_ms": 3, "answer_tokens": 120}, prefill_ms_per_token=0)
    buffering = gateway(buffer=4096)
    knobs = {"pause_s": 0, "gateway": buffering.base_url, "answer_tokens": 120}
    run = await measure(simulated, "connection", runs=BLOCKS, knobs=knobs)
    assert run.trials["outcome"].tolist() == ["ok"] * 2 * BLOCKS
    assert set(run.calls["endpoint"]) == {simulated.base_url, buffering.base_url}
    result = results.read(run.run_id)
    held = [note for note in result.notes if "held back" in note]
    assert len(held) == 1 and held[0].startswith(buffering.base_url)
    assert "in pieces of about 4 KiB" in held[0]
    # What the user waits for is no fault of the measurement.
    assert results.NO_STREAM not in result.comparisons[0].reasons
    notes = [part.text for part in parts_of(result) if isinstance(part, Note)]
    assert f"Through your gateway, {buffering.base_url}: " in notes[-1]
    assert "] wait, and it holds" in notes[-1]
    # On a busy machine not every answer tells by its arrivals how it was written.
    held = r"holds back the stream in pieces of about 4 KiB \([3-6] of [3-6] answers\)"
    assert re.search(held, notes[-1])
    direct = r"The direct way passes the stream on (as it is written|in [3-5] of \d answers)"
    assert re.search(direct, notes[-1])


def parts_of(result):
    technique = techniques.find("connection")
    from lab.store import queries
    from lab.store.store import Store
    from lab.view_parts import RunData

    store = Store()

    def ask(query, *arguments, **named):
        return getattr(queries, query)(store, *arguments, **named)

    data = RunData(technique, queries.run(store, result.run_id), ask, result.finding)
    return techniques.draw(data, technique.views[0])


def test_a_gateway_is_asked_for_the_model_of_the_run():
    technique = techniques.find("connection")
    knobs = technique.knobs(gateway="https://gateway.example", gateway_model="claude/haiku")
    assert [arm.name for arm in technique.arms_for(knobs)] == ["direct", "gateway"]
    assert technique.headline_arm_for(knobs) == "gateway"
    assert technique.headline_arm_for(technique.knobs()) == "kept"


@pytest.mark.parametrize(
    ("meant", "reused", "words"),
    [
        ("any", False, None),
        ("new", False, None),
        ("new", True, "open already"),
        ("kept", True, None),
        ("kept", False, "kept from an earlier call"),
        ("opened", False, "opened ahead"),
        ("opened", None, None),
    ],
)
def test_a_call_by_another_connection_than_was_meant_is_told(meant, reused, words):
    row = CallRow(*"ctrsg", "answer", 1, "e", "m", connection_reused=reused)
    reason = connection_mismatch(row, meant)
    assert reason is None if words is None else words in reason


async def test_a_client_goes_by_the_connection_that_is_meant(simulated):
    """Of connections that rest: new passes by all, opened takes none that was used."""
    simulated.knobs(**FAST)
    endpoint = Endpoint("x", "simulated", simulated.base_url, simulated.api_key)
    client = open_client(endpoint)
    direct, seen = client.transport.direct, []

    async def asked(meant: str) -> bool:
        def observe(exchange):
            exchange.connection = meant
            seen.append(exchange)

        token = OBSERVER.set(observe)
        message = {"role": "user", "content": "Hi"}
        body = {"model": "simulated-small", "max_tokens": 1, "messages": [message]}
        await client.messages.create(**body)
        OBSERVER.reset(token)
        return seen[-1].reused

    def resting() -> list[int]:
        return [one.requests for kept in direct.idle.values() for one in kept]

    try:
        assert await asked("opened") is False
        assert await asked("kept") is True and resting() == [2]
        assert await asked("new") is False and resting() == [2]
        await client.open_ahead()
        assert resting() == [0]
        assert await asked("kept") is False and sorted(resting()) == [0, 1]
        assert await asked("opened") is True and sorted(resting()) == [1, 1]
        assert seen[-1].connected_ns is None
    finally:
        await client.close()


async def test_nothing_is_opened_ahead_through_a_proxy():
    transport = StampedTransport("http://127.0.0.1:9")
    with pytest.raises(LabError, match="leave that arm out"):
        await transport.open_ahead("https://api.example", 1)
    await transport.aclose()


def test_what_one_way_does_with_a_stream_is_a_predicate():
    def stream(*instants_ms: float) -> bursts.Stream:
        return bursts.stream([(int(at * 1e6), 5) for at in instants_ms], sent_ns=0)

    flowing = stream(*range(100, 140))
    at_once = stream(*[900] * 48)
    assert bursts.told([flowing] * 20) == "passes the stream on as it is written (20 answers)"
    assert bursts.told([at_once] * 3) == (
        "holds back the stream until its end (3 of 3 answers; what holds it takes 5.8 KiB or more,"
        " and answers longer than 8 KiB would tell how much)"
    )
    assert bursts.told([flowing] * 3 + [at_once]).startswith("passes the stream on in 3 of 4 answ")
    assert "the longest had 5 pieces of text, and 8 are needed" in bursts.told([stream(*range(5))])


def test_what_is_added_is_paired_by_block():
    waits = [("direct", 1, 100.0), ("gateway", 1, 112.0), ("direct", 2, 50.0), ("gateway", 2, 62.0)]
    trials = pd.DataFrame(waits, columns=["arm", "block", "wait_ms"]).assign(session_id="s")
    assert findings.added(trials, "direct", "gateway").estimate == 12
    assert findings.added(trials, "direct", "nowhere").n == 0


def test_a_pause_counts_in_what_a_run_is_said_to_take(simulated, monkeypatch):
    from lab.harness.estimate import estimate
    from lab.settings import config_of

    def seconds(pause_s: float) -> float:
        knobs = {"pause_s": pause_s}
        return estimate(
            config_of(technique="connection", endpoint="simulated", runs=10, warmup=0, knobs=knobs)
        ).seconds

    assert seconds(10) - seconds(0) == pytest.approx(10 * 10 * 3)


async def test_a_pause_that_is_meant_is_no_lateness():
    bench = SimpleNamespace()
    async with asyncio.timeout(60) as bench.limit:
        ended_s = bench.limit.when()
        await TrialBench.pause(bench, 0.01)
        assert bench.limit.when() - ended_s == pytest.approx(0.01)


def test_the_gateway_of_the_bench_keeps_a_connection(simulated):
    """So that what is measured is the lab's, and no reconnect of the gateway's."""
    gateway = Gateway(simulated.base_url).open()
    import httpx2

    try:
        with httpx2.Client() as client:
            for _ in range(3):
                assert client.get(f"{gateway.base_url}/health").status_code == 200
        assert len(gateway.opening_ms) == 1
    finally:
        gateway.close()
    asyncio.set_event_loop(None)
