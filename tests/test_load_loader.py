"""The process that makes a load, led as a run leads it: which request goes out when, what comes
back, and how it ends."""

import asyncio
import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from itertools import pairwise

import httpx2
import psutil
import pytest

from bench.raw_server import Connection, RawServer, message
from bench.recorder_ground import ProxyTap
from lab import machine, paths
from lab.clock import now_ns, pause_s, sleep_s, working_ns
from lab.endpoints.client import open_client
from lab.endpoints.registry import Endpoint
from lab.load import bias, handed_on, known, known_answers
from lab.load import loader as process
from lab.load.agenda import Agenda
from lab.load.call_frame import CallFrame
from lab.load.loading import LevelEnd, Loader, Prepared
from lab.load.prepared import prepare
from lab.load.profile import Level, Step
from lab.load.wire import Address, Template
from lab.model import LabError

KEY = "sk-ant-a-key-of-nobody"
ONE = (Step(0),)


def endpoint(url: str) -> Endpoint:
    return Endpoint("raw", "live", url, KEY, {"small": "m"}, "small")


@pytest.fixture
async def loader():
    loader = Loader()
    await loader.start()
    yield loader
    await loader.close()


async def prepared(server: RawServer, requests: int = 1, **options) -> Prepared:
    bodies = [
        {"model": "m", "system": f"{place}.", "messages": [], "stream": True}
        for place in range(requests)
    ]
    return await prepare(endpoint(server.url), bodies, salt="run", **options)


async def played(loader: Loader, level: Level, **options) -> tuple[list[CallFrame], LevelEnd]:
    frames = [frame async for frame in loader.level(level, **options)]
    *calls, end = frames
    return calls, end


def good(connection: Connection) -> None:
    connection.good()


# What goes out


async def test_a_request_is_the_sdks_to_the_byte_but_for_its_nonce(loader, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-gateway: yes")
    with RawServer(good) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        there = endpoint(f"{server.url}/prefix")
        body = {"model": "m", "max_tokens": 9, "messages": [], "stream": True}
        made = await prepare(
            there, [body], ["beta-1"], salt="run", timeout_s=120, headers={"x-lab-lease": "one"}
        )
        await loader.prepare(made)
        await played(loader, Level(1, "closed", 1, (ONE,)))
        async with open_client(there, 120, {"x-lab-lease": "one"}) as client:
            await client.post(
                "/v1/messages",
                cast_to=httpx2.Response,
                body=body,
                options={"headers": {"anthropic-beta": "beta-1"}},
                stream=True,
            )
        ours, sdks = server.asked
    assert ours.path == sdks.path == "/prefix/v1/messages"
    named = {"x-gateway": "yes", "anthropic-beta": "beta-1", "x-lab-lease": "one"}
    assert named.items() <= ours.headers.items() and KEY in str(ours.headers)
    sizes = ("content-length", "x-stainless-read-timeout")
    for name in ours.headers.keys() | sdks.headers.keys() - set(sizes):
        if name not in sizes:
            assert ours.headers[name] == sdks.headers[name], name
    nonce = rb'"system":"\[trial \d{16}\]",?'
    assert len(re.findall(nonce, ours.body)) == 1
    assert re.sub(nonce, b"", ours.body).replace(b",}", b"}") == sdks.body


async def test_each_play_has_a_nonce_of_its_own_and_its_requests_share_it(loader):
    plays = ((Step(0), Step(1)),) * 3
    with RawServer(good) as server:
        await loader.prepare(await prepared(server, 2))
        first, _ = await played(loader, Level(1, "closed", 1, plays))
        await played(loader, Level(2, "closed", 1, plays))
        nonces = [asked.nonce for asked in server.asked]
    assert nonces[0::2] == nonces[1::2] and len(set(nonces)) == 6
    assert [frame.template for frame in first] == [0, 1] * 3
    assert [(frame.play, frame.step, frame.request) for frame in first] == [
        (0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3), (2, 0, 4), (2, 1, 5),
    ]  # fmt: skip


async def test_a_load_goes_through_a_proxy_to_an_https_server(loader, monkeypatch):
    with ProxyTap(1, b"HTTP/1.1 403 No\r\n\r\n") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{KEY}@127.0.0.1:{proxy.port}")
        made = await prepare(endpoint("https://api.example"), [{}], salt="run")
        await loader.prepare(made)
        (call,), _ = await played(loader, Level(1, "closed", 1, (ONE,)))
    refused = f"the proxy 127.0.0.1:{proxy.port} lets nothing through to api.example:443"
    assert call.failure == ("connect", f"ConnectError: {refused} (status 403)")
    assert proxy.heads[0].startswith("CONNECT api.example:443 HTTP/1.1\r\n")
    assert KEY not in repr(made)


@pytest.mark.parametrize(
    ("name", "proxy", "url"),
    [
        ("HTTPS_PROXY", "https://proxy.example:3128", "https://api.example"),
        ("HTTP_PROXY", "http://proxy.example:3128", "http://api.example"),
    ],
)
async def test_a_proxy_that_a_load_cannot_go_through_is_named(monkeypatch, name, proxy, url):
    monkeypatch.setenv(name, proxy)
    with pytest.raises(LabError, match=r"the proxy .* before http.*api\.example: .* NO_PROXY"):
        await prepare(endpoint(url), [{}], salt="run")


async def test_a_key_is_in_no_argument_and_in_no_word_of_what_is_prepared(loader):
    with RawServer(good) as server:
        made = await prepared(server)
        await loader.prepare(made)
        calls, _ = await played(loader, Level(1, "closed", 1, (ONE,)))
        assert server.asked[0].key == KEY
    there = psutil.Process(loader.process.pid)
    assert KEY not in " ".join(there.cmdline()) and KEY not in str(there.environ())
    assert KEY not in repr(made) and KEY.encode() not in calls[0].packed()


# What comes back


async def test_no_token_of_any_stream_is_lost_and_their_order_is_the_servers():
    server, loader = known.start(known.Pace(30, 10, 40, 5)), Loader()
    try:
        url = known.base_url(server)
        await loader.start()
        calls, end = await bias.play(loader, url, 32, 3, 40, 0.05)
        truth = bias.measured(known.truth(url))
    finally:
        await loader.close()
        server.kill()
        server.communicate()
    assert len(calls) == len(truth) == 96 and end.not_begun == 0 and end.reason == ""
    assert bias.errors(calls, truth, 5).lost == 0
    for call in calls:
        name = re.search(rb"msg_\d+", call.body)[0].decode()
        arrived = [at for at, data in call.chunks for _ in range(data.count(b"text_delta"))]
        assert len(arrived) == 40
        assert all(w < a for w, a in zip(truth[name]["written_ns"], arrived, strict=True))
        assert call.sent_ns < truth[name]["written_ns"][0]
    assert end.client["connections"] == 0  # they were opened before
    assert 0 < end.client["cpu_share"] < 1 and 10 < end.client["rss_mb"] < 120
    lag = [end.client[f"loop_lag_{name}_ms"] for name in ("p50", "p95", "p99", "max")]
    assert lag == sorted(lag) and lag[0] > 0


async def test_the_loaders_own_error_is_measured():
    told = await bias.bias(4)
    assert (told["streams"], told["n"], told["lost"]) == (4, 8, 0)
    assert 0 < told["ttft_ms"]["p50"] <= told["ttft_ms"]["p95"] <= told["ttft_ms"]["p99"]
    assert told["gap_mean_ms"] > 0


def test_the_loaders_error_is_what_is_left_of_a_time_without_the_servers_part():
    """Called at 0 ms, sent at 1; read at 2, written at 102, 112 and 122, of which two arrived."""
    name = known_answers.sse({"type": "message_start", "message": {"id": "msg_1"}})
    parts = [name, *known_answers.DELTAS[:2]]
    events = [part.split(b"\r\n")[1] for part in parts]
    at_ns = [ms * 1_000_000 for ms in (0, 1, 50, 103, 114, 120)]
    began, sent, *arrived, ended = at_ns
    call = CallFrame(1, 0, 0, 0, 0, 1, began, began, *(None,) * 3, sent, 50, ended, True, 200)
    for at, event in zip(arrived, events, strict=True):
        call.body += event
        call.at_ns.append(at)
        call.ends.append(len(call.body))
    written = [ms * 1_000_000 for ms in (102, 112, 122)]
    truth = {"msg_1": {"read_ns": 2_000_000, "due_ns": 101_000_000, "written_ns": written}}
    sums = bias.errors([call], truth, 10)
    assert (sums.ttft.values, sums.ttft_sent.values) == ([3.0], [2.0])
    assert (sums.gap.values, sums.late.values, sums.lost) == ([1.0], [1.0, 1.0, 1.0], 1)


# Which request goes out when


async def test_a_closed_level_keeps_so_many_under_way_and_no_more(loader):
    under_way, most, lock = [0], [0], threading.Lock()

    def answer(connection: Connection) -> None:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        threading.Event().wait(0.02)
        with lock:
            under_way[0] -= 1
        connection.json(message())

    with RawServer(answer) as server:
        await loader.prepare(await prepared(server))
        calls, end = await played(loader, Level(1, "closed", 4, (ONE,) * 20))
    assert len(calls) == 20 and most[0] == 4
    assert (end.client["connections"], end.number) == (4, 1)
    streams_first = sorted(calls, key=lambda call: call.request)[:4]
    ended = {call.ended_ns for call in calls}
    for call in calls:
        assert call.scheduled_ns <= call.started_ns
        # A stream's next request was due when its last one had ended.
        assert call in streams_first or call.scheduled_ns in ended


async def test_streams_begin_spread_over_their_time_or_at_their_instants(loader):
    """A stream that is free again takes the next request, also where others have not begun."""

    all_asked = {4: threading.Event(), 7: threading.Event()}

    def answer(connection: Connection) -> None:
        number = len(server.asked)
        last = 4 if number <= 4 else 7
        if number == last:
            all_asked[last].set()
        all_asked[last].wait(20)
        connection.json(message())

    with RawServer(answer) as server:
        await loader.prepare(await prepared(server))
        even, end = await played(loader, Level(1, "closed", 4, (ONE,) * 4, over_s=0.2))
        ramp, ramp_end = await played(
            loader, Level(2, "closed", 3, (ONE,) * 3, at_s=(0.0, 0.01, 0.1))
        )
    due_s = [(call.scheduled_ns - end.started_ns) / 1e9 for call in even]
    assert sorted(due_s) == pytest.approx([0, 0.05, 0.1, 0.15])
    due_s = [(call.scheduled_ns - ramp_end.started_ns) / 1e9 for call in ramp]
    assert sorted(due_s) == pytest.approx([0, 0.01, 0.1])


async def test_a_request_that_has_to_wait_for_the_ceiling_keeps_the_instant_it_was_due(loader):
    """Its wait counts: no omission that the server coordinates."""

    def answer(connection: Connection) -> None:
        threading.Event().wait(0.05)
        connection.json(message())

    at_s = tuple(place / 100 for place in range(6))
    with RawServer(answer) as server:
        await loader.prepare(await prepared(server))
        level = Level(1, "open", 100, (ONE,) * 6, at_s=at_s)
        calls, end = await played(loader, level, most_in_flight=1)
    due_s = [(call.scheduled_ns - end.started_ns) / 1e9 for call in calls]
    assert due_s == pytest.approx(list(at_s))
    for before, call in pairwise(calls):
        assert call.started_ns >= before.ended_ns
    # The sixth was due after 50 ms, and five had to be answered first, 50 ms each.
    assert calls[-1].started_ns - calls[-1].scheduled_ns > 200e6 - 50e6


async def test_without_a_ceiling_an_open_level_does_not_wait_for_answers(loader):
    let_go = threading.Event()

    def answer(connection: Connection) -> None:
        if len(server.asked) == 10:
            let_go.set()
        let_go.wait(5)
        connection.json(message())

    with RawServer(answer) as server:
        await loader.prepare(await prepared(server))
        level = Level(1, "open", 1000, (ONE,) * 10, at_s=tuple(i / 1000 for i in range(10)))
        calls, _ = await played(loader, level)
    assert len(calls) == 10 and {call.failure for call in calls} == {None}
    assert max(call.started_ns for call in calls) < min(call.ended_ns for call in calls)


async def test_a_pause_begins_with_the_end_of_the_answer_before(loader):
    with RawServer(good) as server:
        await loader.prepare(await prepared(server))
        (first, second), _ = await played(
            loader, Level(1, "closed", 1, ((Step(0), Step(0, 0.05)),))
        )
    assert second.scheduled_ns - first.ended_ns == 50_000_000
    assert second.started_ns >= second.scheduled_ns


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_retry_after_holds_up_every_stream(loader, status):
    def answer(connection: Connection) -> None:
        if connection.asked is server.asked[0]:
            connection.json({"error": {"type": "overloaded_error"}}, status, retry_after="0.2")
        else:
            connection.json(message())

    level = Level(1, "closed", 2, (ONE,) * 6, at_s=(0.0, 0.1))
    with RawServer(answer) as server:
        made = await prepared(server)
        await loader.prepare(made)
        calls, end = await played(loader, level)
    assert sorted(call.status for call in calls) == [200] * 5 + [status]
    (refused,) = [call for call in calls if call.status == status]
    # On a busy machine the other stream may have asked before this one was refused.
    held_up = [call.started_ns for call in calls if call.started_ns > refused.ended_ns]
    assert len(held_up) >= 4 and min(held_up) >= refused.ended_ns + 200_000_000
    assert end.client["retry_after_waits"] == 1
    assert end.client["retry_after_s"] == pytest.approx(0.2)


async def test_retry_after_holds_up_nobody_who_does_not_honour_it(loader):
    def answer(connection: Connection) -> None:
        connection.json({"error": {"type": "rate_limit_error"}}, 429, retry_after="60")

    with RawServer(answer) as server:
        await loader.prepare(replace(await prepared(server), honours_waits=False))
        async with asyncio.timeout(20):
            calls, end = await played(loader, Level(1, "closed", 1, (ONE,) * 3))
    assert [call.status for call in calls] == [429] * 3
    assert (end.client["retry_after_waits"], end.client["retry_after_s"]) == (0, 0)


async def test_a_server_that_asks_for_an_hour_ends_the_level(loader):
    def answer(connection: Connection) -> None:
        connection.json({"error": {"type": "rate_limit_error"}}, 429, retry_after="3600")

    with RawServer(answer) as server:
        await loader.prepare(await prepared(server))
        calls, end = await played(loader, Level(1, "closed", 1, (ONE,) * 5))
    assert len(calls) == 1 and end.not_begun == 4
    assert end.reason == "the server asked to wait 3,600 s (retry-after)"


async def test_what_is_due_sooner_is_not_kept_waiting_by_what_is_due_later():
    agenda, rung, sooner = Agenda(), [], asyncio.Event()
    agenda.at(now_ns() + 60_000_000_000, rung.append, "later")
    agenda.at(now_ns() + 20_000_000, rung.append, "second")
    agenda.at(now_ns() + 10_000_000, rung.append, "first")
    agenda.at(now_ns() + 30_000_000, sooner.set)
    async with asyncio.timeout(20):
        await sooner.wait()
    assert rung == ["first", "second"]
    agenda.clear()


# When it is read


async def test_what_is_handed_on_is_the_same_wherever_the_pipe_splits_it():
    sent = [(process.CALL, b"a call"), (process.WORDS, b"{}"), (process.CALL, b"")]
    wire = b"".join(process.HEAD.pack(kind, len(data)) + data for kind, data in sent)
    for place in range(len(wire) + 1):
        frames = handed_on.Frames()
        frames.data_received(wire[:place])
        frames.data_received(wire[place:])
        assert (frames.calls, frames.bytes) == (2, 8)
        assert [await frames.next() for _ in sent] == sent
        frames.connection_lost(None)
        assert await frames.next() is None and (frames.calls, frames.bytes) == (0, 0)


def work_ms(ms: int) -> None:
    """Keep a core for so long."""
    until_ns = working_ns() + ms * 1_000_000
    while working_ns() < until_ns:
        pass


@pytest.mark.parametrize(
    ("cores", "at_once", "most_bytes", "status", "read_meanwhile"),
    [
        (1, False, 64_000_000, 200, 2),
        (1, False, 0, 200, 9),
        (2, False, 64_000_000, 500, 9),
        (2, True, 64_000_000, 200, 9),
        (3, False, 64_000_000, 200, 9),
    ],
)
async def test_on_few_cores_calls_are_read_when_their_level_has_ended(
    monkeypatch, cores, at_once, most_bytes, status, read_meanwhile
):
    """Nine have ended, and the tenth is let go once so many of them were read, 5 ms of work each;
    whoever reads beside the loader rests 399 times as long."""
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(handed_on, "MOST_UNREAD_BYTES", most_bytes)
    let_go = threading.Event()

    def answer(connection: Connection) -> None:
        if len(server.asked) == 10:
            let_go.wait(20)
        connection.json(message(), status)

    loader, read_ns, unread = Loader(at_once), [], []
    await loader.start()
    with RawServer(answer) as server:
        await loader.prepare(await prepared(server))
        async for call in loader.level(Level(1, "closed", 1, (ONE,) * 10)):
            if isinstance(call, CallFrame):
                read_ns.append(now_ns())
                unread.append(loader.unread)
                work_ms(5)
            if len(read_ns) == read_meanwhile:
                let_go.set()
    await loader.close()
    assert len(read_ns) == 10 and call.not_begun == 0 and unread[-1] == 0
    if read_meanwhile == 2:
        # But for less than a tenth of a second, for which nobody rests.
        assert read_ns[1] - read_ns[0] > 399 * 5_000_000 - 100_000_000
        assert unread[1] > 0
        # The other eight follow without a rest.
        assert read_ns[-1] - read_ns[1] < 8 * 399 * 5_000_000


async def test_a_stall_while_a_call_is_read_is_no_work_to_rest_from(monkeypatch):
    """What reads is kept from its core for 300 ms, with the first call in hand: after a rest 399
    times as long, the second would be read in two minutes."""
    monkeypatch.setattr(machine, "cores", lambda: 1)
    second_was_read, in_time = threading.Event(), []

    def answer(connection: Connection) -> None:
        if len(server.asked) == 3:
            in_time.append(second_was_read.wait(20))
        connection.json(message())

    loader, read = Loader(), 0
    await loader.start()
    with RawServer(answer) as server:
        await loader.prepare(await prepared(server))
        async for _ in loader.level(Level(1, "closed", 1, (ONE,) * 3)):
            read += 1
            if read == 1:
                pause_s(0.3)
            elif read == 2:
                second_was_read.set()
    await loader.close()
    assert in_time == [True]


# How it ends


@pytest.mark.parametrize("let_end", [True, False])
async def test_a_level_is_cut_and_what_is_under_way_ends_or_is_cancelled(loader, let_end):
    go_on = threading.Event()

    def answer(connection: Connection) -> None:
        go_on.wait(5)
        connection.json(message())

    with RawServer(answer) as server:
        await loader.prepare(await prepared(server))

        async def cutting() -> None:
            while len(server.asked) < 3:
                await sleep_s(0.005)
            await loader.cut("enough", let_end)
            go_on.set() if let_end else None

        cut = asyncio.ensure_future(cutting())
        calls, end = await played(loader, Level(1, "closed", 3, (ONE,) * 10))
        await cut
        go_on.set()
        again, _ = await played(loader, Level(2, "closed", 1, (ONE,)))
    words = {None} if let_end else {("cancelled", "stopped by the lab or by the caller")}
    assert {call.failure for call in calls} == words and len(calls) == 3
    assert (end.reason, end.not_begun) == ("enough", 7)
    assert again[0].status == 200


async def test_what_was_due_when_a_level_is_cut_is_not_asked_any_more(loader):
    """Three were due at once, of which one could be under way."""
    let_go = threading.Event()

    def answer(connection: Connection) -> None:
        let_go.wait(5)
        connection.json(message())

    with RawServer(answer) as server:
        await loader.prepare(await prepared(server))
        level = Level(1, "open", 1000, (ONE,) * 4, at_s=(0.0, 0.0, 0.0, 60.0))

        async def cutting() -> None:
            while not server.asked:
                await sleep_s(0.005)
            await loader.cut("enough", let_end=True)
            let_go.set()

        cut = asyncio.ensure_future(cutting())
        async with asyncio.timeout(20):
            calls, end = await played(loader, level, most_in_flight=1)
        await cut
    assert [call.status for call in calls] == [200]
    assert (end.not_begun, end.reason) == (3, "enough")


async def test_calls_that_nobody_takes_end_their_level_and_garbage_is_collected_after_it(
    monkeypatch,
):
    """Answers of 100 kB, of which one more than 1 MB waits."""
    monkeypatch.setattr(process, "MOST_WAITING_BYTES", 1_000_000)
    loop, desk, frames, (out, into) = (
        *(asyncio.get_running_loop(), process.Desk(), handed_on.Frames()),
        os.pipe(),
    )
    desk.out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(into, "wb"))
    with RawServer(lambda connection: connection.json(b"x" * 100_000)) as server:
        there = asdict(Address("127.0.0.1", server.port))
        head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
        desk.do_prepare(there, [{"head": head, "body": "", "nonce_at": ()}], "run")
        desk.do_level(
            number=1, mode="closed", target=1, plays=[[[0, 0.0]]] * 100, at_s=None, over_s=0.0,
            most=None, honours_waits=True,
        )  # fmt: skip
        assert not gc.isenabled()
        while desk.playing:
            await sleep_s(0.005)
        assert gc.isenabled()
    reading, _ = await loop.connect_read_pipe(lambda: frames, os.fdopen(out, "rb"))
    kinds, words = [], {}
    while "ended" not in words:
        kind, data = await frames.next()
        kinds.append(kind)
        words = json.loads(data) if kind == process.WORDS else {}
    end, calls = words["ended"], kinds.count(process.CALL)
    assert end["reason"] == "calls ended faster than they could be stored"
    assert 10 <= calls <= 13 and calls + end["not_begun"] == 100
    desk.wire.close()
    desk.out.abort()
    reading.close()


async def test_a_stopped_loader_tells_what_it_has_and_ends(loader):
    def answer(connection: Connection) -> None:
        connection.silence(5)

    with RawServer(answer) as server:
        await loader.prepare(await prepared(server))

        async def stopping() -> None:
            while len(server.asked) < 2:
                await sleep_s(0.005)
            await loader.stop()

        stop = asyncio.ensure_future(stopping())
        calls, end = await played(loader, Level(1, "closed", 2, (ONE,) * 4))
        await stop
    assert [call.failure[0] for call in calls] == ["cancelled"] * 2
    assert (end.reason, end.not_begun) == ("stopped", 2)
    assert await loader.process.wait() == 0


async def test_a_loader_that_dies_is_named_and_what_it_handed_on_is_kept(loader):
    def answer(connection: Connection) -> None:
        if len(server.asked) > 3:
            connection.silence(5)
        else:
            connection.json(message())

    kept = []
    with RawServer(answer) as server:
        await loader.prepare(await prepared(server))
        with pytest.raises(LabError, match=r"ended by itself .*-9.* are kept"):
            async for frame in loader.level(Level(1, "closed", 1, (ONE,) * 9)):
                kept.append(frame)
                if len(kept) == 3:
                    loader.process.kill()
    assert [frame.status for frame in kept] == [200] * 3


PARENT = """
import asyncio, sys
from lab.load.loading import Loader

async def lead():
    loader = Loader()
    await loader.start()
    print(loader.process.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(lead())
"""


def test_a_loader_dies_with_whoever_leads_it():
    command = [sys.executable, "-c", PARENT]
    leader = subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.PIPE, text=True)
    loader = psutil.Process(int(leader.stdout.readline()))
    os.kill(leader.pid, signal.SIGKILL)
    leader.communicate()
    psutil.wait_procs([loader], timeout=10)
    assert not loader.is_running() or loader.status() == psutil.STATUS_ZOMBIE


async def test_ctrl_c_is_for_whoever_leads(loader):
    with RawServer(good) as server:
        os.kill(loader.process.pid, signal.SIGINT)
        await loader.prepare(await prepared(server))
        calls, _ = await played(loader, Level(1, "closed", 1, (ONE,)))
    assert calls[0].status == 200


async def test_a_level_without_a_request_is_over_at_once(loader):
    await loader.prepare(Prepared(Address("127.0.0.1", 9), (Template(b"", b""),), "run"))
    calls, end = await played(loader, Level(1, "closed", 4, ()))
    assert calls == [] and (end.not_begun, end.reason) == (0, "")


async def test_the_loader_has_the_clock_of_whoever_leads_it():
    before = now_ns()
    loader = Loader()
    await loader.start()
    assert before < loader.ready["now_ns"] < now_ns()
    assert loader.ready["loop"] == "uvloop"
    await loader.close()


def test_the_loader_imports_little():
    """It starts in a tenth of a second, and has few bytes of its own."""
    code = "import sys, lab.load.loader; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True)
    modules = set(run.stdout.decode().split())
    assert not modules & {"pydantic", "anthropic", "numpy", "duckdb", "pyarrow", "httpx2", "rich"}
