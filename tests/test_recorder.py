"""The recorder: every byte handed on as it came, both ways, and a row of what each call took."""

import asyncio
import base64
import gzip
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
from types import SimpleNamespace

import anthropic
import brotli
import psutil
import pytest
import zstandard

from bench.broken import KINDS
from bench.raw_server import RawServer, events, message, sse
from bench.recorder_ground import ProxyTap, Tap, ask, until, wire
from lab import clock, recorder, recordings, scrub
from lab.clock import now_ns, working_ns
from lab.model import LabError
from lab.recorder import framing, upstream, writer
from lab.recorder.framing import END, HEAD, Framing
from lab.recorder.observed_call import packed
from lab.recorder.serving import WRITERS, Order, Serving
from lab.recorder.upstream import Upstream
from lab.recording import sender
from lab.store import queries
from lab.store.store import Store

BODY_SENT = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
    "messages": [{"role": "user", "content": "Hello."}],
}
KEY = "sk-ant-planted-Zq7Xw2Vb9Nk4Lp8Rt3Ys6"
CODINGS = {
    "gzip": (gzip.compress, gzip.decompress),
    "zstd": (zstandard.compress, zstandard.decompress),
    "br": (brotli.compress, brotli.decompress),
}
SENTENCE = "The vault opens at midnight by the old mill."


def posted(port: int, body: bytes, path: str = "/v1/messages", **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


# What goes through


def test_a_message_is_followed_wherever_it_is_cut():
    said = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=1\r\n world\r\n"
        b"0\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"
    )
    rng = random.Random(1)
    for _ in range(100):
        follower, raw, met, at = Framing(is_answer=True), b"", b"", 0
        while at < len(said):
            size = rng.randint(1, 20)
            for part in follower.parts(said[at : at + size]):
                raw += part.raw
                met += {HEAD: b"<", END: b">"}.get(part.kind, part.body)
                if part.kind == HEAD:
                    follower.expect(framing.lines(part.raw).length)
            at += size
        assert raw == said
        assert met == b"<hello world><abc>"


def test_many_small_messages_take_no_longer_each_than_a_few():
    one = b"HTTP/1.1 100 Continue\r\n\r\n"
    started_ns, follower, heads = working_ns(), Framing(is_answer=True), 0
    for part in follower.parts(one * 40_000):
        heads += part.kind == HEAD
    assert heads == 40_000
    assert working_ns() - started_ns < 2e9  # seven seconds where the rest is copied each time


def test_only_the_host_of_a_request_is_another_one():
    with RawServer(lambda c: c.good()) as server, Tap(server.port) as tap, wire(tap.url) as through:
        sent = posted(through.port, b'{"stream": true}', anthropic_beta="a,b", Odd="  spaced ")
        ask(through.port, sent)
        was, other = f"127.0.0.1:{through.port}".encode(), f"127.0.0.1:{tap.port}".encode()
        assert bytes(tap.crossings[0].asked) == sent.replace(was, other)


def test_a_path_of_the_upstreams_own_comes_first():
    with RawServer(lambda c: c.good()) as server, wire(f"{server.url}/claude") as through:
        ask(through.port, posted(through.port, b"{}"))
        ask(through.port, posted(through.port, b"{}", "/v1/messages/count_tokens?beta=true"))
    assert [asked.path for asked in server.asked] == [
        "/claude/v1/messages",
        "/claude/v1/messages/count_tokens?beta=true",
    ]


def test_any_method_and_framing_goes_through():
    asked = (
        b"HEAD /v1/files/file_1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"DELETE /v1/files/file_1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"PATCH /odd HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nok",
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        b"2\r\n{}\r\n0\r\n\r\n",
        b"\x16\x03\x01 no HTTP at all\r\n\r\n",
    )
    for request in asked:
        with RawServer(lambda c: c.json({}, 404)) as server, Tap(server.port) as tap:
            with wire(tap.url) as through:
                ask(through.port, request, within_s=0.3)
            arrived = bytes(tap.crossings[0].asked)
            assert arrived == request.replace(b"host: x", f"host: {tap.url[7:]}".encode())


ODD = [
    name
    for name, kind in KINDS.items()
    if kind.path == "/v1/messages" and not (kind.heavy or kind.slow or kind.greets)
    if "gzip" not in name  # the time of day is in it
]


def test_the_client_meets_what_it_would_have_met():
    kinds = random.Random(5).sample(ODD, k=60)

    def answer(connection) -> None:
        name, n = connection.asked.headers["x-kind"].rsplit(";", 1)
        KINDS[bytes.fromhex(name).decode()].answer(connection, int(n))

    with RawServer(lambda c: c.json(b"", 404)) as elsewhere, RawServer(answer) as server:
        server.elsewhere = elsewhere.url
        with wire(server.url) as through:
            for name in kinds:
                for n, stream in ((0, True), (1, False)):
                    if KINDS[name].shape not in ("any", "stream" if stream else "whole"):
                        continue
                    body = json.dumps(BODY_SENT | {"stream": stream}).encode()
                    kind = f"{name.encode().hex()};{n}"
                    met = [
                        ask(port, posted(port, body, x_kind=kind))
                        for port in (server.port, through.port)
                    ]
                    assert met[0] == met[1], name


def test_a_cancel_reaches_the_server_while_it_still_writes():
    heard, said = threading.Event(), []

    def answer(connection) -> None:
        connection.head(200, "text/event-stream", transfer_encoding="chunked")
        connection.chunk(b"event: ping\ndata: {}\n\n")
        said.append(connection.sock.recv(100))  # the end of what the client has to say
        heard.set()

    with RawServer(answer) as server, wire(server.url) as through:
        with socket.create_connection(("127.0.0.1", through.port)) as sock:
            sock.sendall(posted(through.port, json.dumps(BODY_SENT).encode()))
            sock.recv(1000)
        assert heard.wait(5)
        assert said == [b""]
        assert until(lambda: len(through.calls) == 1)
        assert through.calls[0].ending == "cancelled"


def test_nobody_upstream_is_a_reset_and_no_invented_answer():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with wire(f"http://127.0.0.1:{port}") as through:
        assert ask(through.port, posted(through.port, b"{}")).data == b""
        ending = [call.ending for call in through.calls]
    assert ending in (["connect"], [])  # the reset may come before the request was read


def test_what_the_client_does_not_read_waits_at_the_server():
    sent = []

    def answer(connection) -> None:
        connection.head(200, "text/event-stream")
        connection.sock.settimeout(0.3)
        try:
            for _ in range(200):
                connection.send(b"x" * 1_000_000)
                sent.append(1)
        except TimeoutError:
            pass

    with (
        RawServer(answer) as server,
        wire(server.url) as through,
        socket.create_connection(("127.0.0.1", through.port)) as sock,
    ):
        sock.sendall(posted(through.port, b"{}"))
        until(lambda: not server.sockets)
    assert len(sent) < 50  # of 200 MB


def test_many_clients_at_once_keep_their_own_answers():
    def answer(connection) -> None:
        connection.stream([bytes([byte]) * 3 for byte in connection.asked.body * 5])

    with RawServer(answer) as server, wire(server.url) as through:
        met = {}

        def client(name: str) -> None:
            met[name] = ask(through.port, posted(through.port, name.encode())).data

        threads = [threading.Thread(target=client, args=(f"client {n}",)) for n in range(30)]
        [thread.start() for thread in threads]
        [thread.join(10) for thread in threads]
        for name, data in met.items():
            assert data == ask(server.port, posted(server.port, name.encode())).data
        assert len(met) == 30


@pytest.mark.parametrize(
    "framed",
    [
        b"Content-Length: " + b"0" * 20 + b"%d",
        b"X: a\r\n Content-Length: 0\r\nContent-Length: %d",
        b"Transfer-Encoding: identity\r\nContent-Length: %d",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip,\r\n chunked",
        b"Transfer-Encoding: xchunked",
    ],
)
def test_a_body_that_looks_like_a_request_is_left_alone(framed):
    body = b"POST / HTTP/1.1\r\nHost: inside\r\n\r\n"
    if framed.endswith(b"chunked"):
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    framed = framed % len(body) if b"%d" in framed else framed
    with RawServer(lambda c: c.json({}, 404)) as server, Tap(server.port) as tap:
        with wire(tap.url) as through:
            head = b"POST /v1/messages HTTP/1.1\r\n" + framed + b"\r\n\r\n"
            ask(through.port, head + body, within_s=0.3)
        assert bytes(tap.crossings[0].asked) == head + body


def headed(*lines: str, target: str = "/v1/messages", method: str = "POST") -> bytes:
    return "\r\n".join(
        [f"{method} {target} HTTP/1.1", *lines, "content-length: 2", "", "{}"]
    ).encode()


@pytest.mark.parametrize(
    "request_",
    [
        headed("host: evil.example:8787"),  # a name that was made to point here
        headed("host: 127.0.0.1.evil.example"),
        headed("host: localhost", "origin: https://evil.example"),
        headed("host: 127.0.0.1", "origin: null"),
        headed("host: 127.0.0.1", "origin: http://localhost.evil.example", method="OPTIONS"),
        headed("host: 127.0.0.1", "origin: http://["),
        headed("host: other.example", target="http://other.example/v1/messages"),
        headed("host: localhost", target="http://localhost/v1/messages"),
        headed("host: other.example:443", target="other.example:443", method="CONNECT"),
    ],
)
def test_no_page_of_the_web_and_no_client_of_a_proxy_is_served(request_):
    with RawServer(lambda c: c.good()) as server, wire(server.url) as through:
        met = ask(through.port, request_ * 2)
        assert met.data.startswith(b"HTTP/1.1 403 ") and met.ending == "closed"
        assert json.loads(met.data.partition(b"\r\n\r\n")[2])["error"]["type"] == "permission_error"
        assert (server.asked, through.calls) == ([], [])
        assert until(lambda: not through.proxy.links)


@pytest.mark.parametrize(
    "lines",
    [
        ("host: localhost:1",),
        ("host: [::1]:1",),
        ("host: host.docker.internal:1",),
        ("host: recorder",),
        ("x: no host at all",),
        ("host: 127.0.0.1", "origin: http://localhost:3000"),
        ("host: 127.0.0.1", "origin: http://127.0.0.1:3000"),
        ("host: 127.0.0.1", "origin: vscode-webview://0a1b"),
    ],
)
def test_programs_of_this_machine_are_served_by_whatever_name(lines):
    with RawServer(lambda c: c.good()) as server, wire(server.url) as through:
        request = headed(*lines, "connection: close")
        assert ask(through.port, request).data.startswith(b"HTTP/1.1 200 ")


def test_a_recorder_does_not_ask_itself(db, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://{host}:{port}")
        with pytest.raises(LabError, match="this recorder itself"):
            recorder.start(port=port)
    assert recorder.cards() == []


def test_calls_that_a_writer_took_with_it_are_counted():
    told: list[dict] = []
    serving = Serving(Order(Upstream("raw", "live", "http://127.0.0.1:1"), ""), told.append)
    serving._stopping, serving.writers = True, WRITERS - 1
    serving.unheard += [b"", b"", b""]
    serving._hear({"kind": "call"})
    serving._hear({"kind": "lost", "calls": 1, "text": "a call could not be read (KeyError)"})
    serving._hear({"kind": "gone"})
    assert (serving.calls, serving.lost, serving.ended.is_set()) == (1, 2, True)
    assert told[-1] == {"kind": "lost", "calls": 1, "text": "what writes them ended"}


def test_another_writer_is_given_what_the_dead_one_did_not_write(monkeypatch):
    serving = Serving(Order(Upstream("raw", "live", "http://127.0.0.1:1"), ""), lambda words: None)
    serving.calls, serving.copied = 5, 8
    serving.unheard += [b"6..", b"7..", b"", b"9."]
    written: list[bytes] = []

    async def start_writer() -> int:
        serving.pipe = SimpleNamespace(write=written.append)
        return 6  # calls on disk: it came not to tell of the last

    monkeypatch.setattr(serving, "_start_writer", start_writer)
    asyncio.run(serving._restart())
    assert (serving.calls, serving.lost, written) == (6, 1, [b"7..9."])
    assert (list(serving.unheard), serving.copied) == ([b"", b""], 0)  # not a third time


def test_why_the_upstream_is_not_reached_is_told_once():
    told: list[dict] = []
    serving = Serving(Order(Upstream("raw", "live", "http://127.0.0.1:1"), ""), told.append)
    for _ in range(3):
        serving.proxy.on_unreached("no connection upstream: Dark")
    assert [words["text"] for words in told if words["kind"] == "note"] == [
        "http://127.0.0.1:1 is not reached: no connection upstream: Dark."
    ]


# What is kept of it


@pytest.fixture
def writing(db, monkeypatch, tmp_path):
    """A writer in this process, which hears of calls as they crossed a wire."""
    monkeypatch.setenv("LAB_SETTINGS", str(tmp_path / "settings"))
    monkeypatch.setattr(scrub, "PASSED", set())
    told: list[dict] = []
    monkeypatch.setattr(writer, "tell", lambda kind, **words: told.append({"kind": kind, **words}))

    class Writing:
        def __init__(self, **order) -> None:
            order = {"keep_text": False, "name": None, "run_id": None, "calls": 0} | order
            order = {"db": str(db), "endpoint": "raw", "kind": "live"} | order
            self.writer, self.told = writer.Writer(order), told

        def record(self, answer, *requests: bytes) -> recordings.Recording:
            self.take(answer, *requests)
            return self.read()

        def take(self, answer, *requests: bytes) -> None:
            observed: list[bytes] = []
            with RawServer(answer) as server, wire(server.url) as through:
                through.proxy.on_call = lambda call: observed.append(packed(call))
                for request in requests:
                    ask(through.port, request)
                    count = requests.index(request) + 1
                    until(lambda count=count: len(observed) >= count, 1)
            for data in observed:
                _, *call = writer.marshal.loads(data[8:])
                self.writer.take(tuple(call))

        def read(self) -> recordings.Recording:
            self.writer.write()
            return recordings.read(Store(db), self.writer.session.run_id)

    return Writing


def test_a_call_becomes_a_row_with_both_sides(writing):
    body = json.dumps(BODY_SENT | {"stream": True}).encode()
    recording = writing().record(lambda c: c.good(), posted(1, body), posted(1, b"{}", "/other"))
    (call,) = recording.calls.to_dict("records")
    assert (call["input_tokens"], call["output_tokens"], call["outcome"]) == (12, 7, "ok")
    assert call["ttft_ms"] > 0
    assert call["message_id"] == "msg_1"
    assert not call["connection_reused"]
    assert call["arrived_ns"] <= call["asked_ns"] <= call["told_ns"] <= call["closed_ns"]
    assert call["added_request_ns"] >= 0
    assert call["added_reply_ns"] > 0
    prompt = recording.prompts[call["call_id"]]
    assert [block.section for block in prompt.blocks] == ["system", "messages"]
    assert [mark.place for mark in prompt.marks] == [0]


def test_what_fails_is_a_row_too(writing):
    def answer(connection) -> None:
        match json.loads(connection.asked.body)["model"]:
            case "refused":
                connection.json({"error": {"type": "overloaded_error", "message": "No."}}, 529)
            case "cut":
                connection.head(200, "text/event-stream", transfer_encoding="chunked")
                connection.chunk(sse(events()[:3]))
            case "reset":
                connection.reset()
            case "odd":
                connection.send(b"220 mail.example ESMTP\r\n")

    asked = [
        posted(1, json.dumps(BODY_SENT | {"model": model, "stream": True}).encode())
        for model in ("refused", "cut", "reset", "odd")
    ]
    calls = writing().record(answer, *asked).calls
    assert list(calls["error_kind"]) == [
        "overloaded_error",
        "disconnected",
        "disconnected",
        "malformed",
    ]
    assert calls["first_text_at_ms"].notna().tolist() == [False, True, False, False]


@pytest.mark.parametrize("coding", CODINGS)
def test_compressed_bodies_are_read_all_the_same(writing, coding):
    pack, unpack = CODINGS[coding]
    body = json.dumps(BODY_SENT).encode()

    def answer(connection) -> None:
        assert unpack(connection.asked.body) == body
        connection.json(pack(json.dumps(message()).encode()), content_encoding=coding)

    recording = writing().record(answer, posted(1, pack(body), content_encoding=coding))
    (call,) = recording.calls.to_dict("records")
    assert call["input_tokens"] == 12
    assert not isinstance(call["note"], str)
    assert len(recording.prompts[call["call_id"]].blocks) == 2


def test_an_answer_in_an_unknown_coding_says_so(writing):
    (call,) = (
        writing()
        .record(
            lambda c: c.json(b"\1\2\3", content_encoding="snappy"),
            posted(1, json.dumps(BODY_SENT).encode()),
        )
        .calls.to_dict("records")
    )
    assert "compressed with snappy" in call["note"]
    assert call["outcome"] == "ok"
    assert call["input_tokens"] != call["input_tokens"]  # not known


def test_conversations_are_told_by_what_clients_send():
    session = "0b8e7c1a-1111-2222-3333-444455556666"
    named = sender.conversation
    assert named({"x-claude-code-session-id": session}, None) == session
    user = f"user_abc_account__session_{session}"
    assert named({}, {"metadata": {"user_id": user}}) == session
    as_json = json.dumps({"device_id": "d", "session_id": session})
    assert named({}, {"metadata": {"user_id": as_json}}) == session
    # A user has many conversations: her id alone names none.
    assert named({}, {"metadata": {"user_id": "user-17"}}) is None


@pytest.mark.parametrize("keep_text", [False, True])
def test_no_key_is_kept_and_no_word_without_leave(writing, db, capfd, keep_text):
    def answer(connection) -> None:
        connection.json(message(content=[{"type": "text", "text": f"{SENTENCE} {KEY}"}]))

    body = BODY_SENT | {"system": f"{SENTENCE} {KEY}", "metadata": {"user_id": SENTENCE}}
    writes = writing(keep_text=keep_text)
    writes.record(answer, posted(1, json.dumps(body).encode(), x_api_key=KEY))
    kept = (
        b"".join(file.read_bytes() for file in db.parent.rglob("*") if file.is_file())
        + "".join(
            Store(db).frame(f"SELECT * FROM {table}").to_csv()
            for table in ("runs", "trials", "calls", "events", "recorded_calls", "recorded_blocks")
        ).encode()
    )
    kept += json.dumps(writes.told).encode()
    assert KEY.encode() not in kept
    assert KEY[8:28].encode() not in kept
    assert (SENTENCE.encode() in kept) == keep_text


def test_a_disk_that_refuses_loses_nothing_while_it_fits_in_memory(writing, monkeypatch):
    writes = writing()

    def full(*trials) -> None:
        place = "the database" if isinstance(trials[0], list) else "its spool"
        raise writer.LabError(f"No space left for {place}.")

    request = posted(1, json.dumps(BODY_SENT).encode())
    with monkeypatch.context() as disk:
        disk.setattr(writes.writer.store, "keep", full)
        disk.setattr(writes.writer.store, "write_trials", full)
        for _ in range(3):
            writes.writer.fresh = [None]  # what was kept while there was room
            writes.record(lambda c: c.good(), request)
    # A call is told of once it is on disk; a trouble once, whatever is told between.
    assert [words["kind"] for words in writes.told] == ["note", "note"]
    assert len(writes.read().calls) == 3
    assert [words["kind"] for words in writes.told[2:]] == ["call"] * 3


def test_calls_that_wait_are_on_disk_at_once_or_where_there_is_no_room_one_by_one(
    writing, monkeypatch
):
    writes, sizes = writing(), []
    keep = writes.writer.store.keep

    def almost_full(*trials) -> None:
        sizes.append(len(trials))
        if sizes[-1] == 2:
            raise writer.LabError("No space left.")
        keep(*trials)

    monkeypatch.setattr(writes.writer.store, "keep", almost_full)
    request = posted(1, json.dumps(BODY_SENT).encode())
    for answered in (3, 2):
        for _ in range(answered):
            writes.take(lambda c: c.good(), request)
        writes.writer.take(({}, b"", b"", b"", b""))  # not to be read
    assert sizes == [3, 2, 1, 1] and len(writes.read().calls) == 5
    kinds = [words["kind"] for words in writes.told]
    assert kinds == [*["call"] * 3, "lost", *["call"] * 2, "lost"]


def test_what_no_memory_holds_is_counted(writing, monkeypatch):
    monkeypatch.setattr(writer, "WAITING_TRIALS", 2)
    writes = writing()

    def full(*trials) -> None:
        raise writer.LabError("No space left.")

    monkeypatch.setattr(writes.writer.store, "keep", full)
    for _ in range(5):
        writes.record(lambda c: c.good(), posted(1, json.dumps(BODY_SENT).encode()))
    writes.writer.close("finished")
    assert sum(words["calls"] for words in writes.told if words["kind"] == "lost") == 5
    assert not any(words["kind"] == "call" for words in writes.told)


# The process


@pytest.fixture(scope="module")
def recorded(simulated_server):
    card = recorder.start(simulated_server.base_url, name="a test's")
    yield card
    recorder.stop(card.run_id)


def calls_of(run_id: str, count: int) -> recordings.Recording:
    until(lambda: len(queries.recorded_calls(Store(), run_id)) >= count, 20)
    return recordings.read(Store(), run_id)


def test_the_sdk_goes_through_and_its_rows_come(recorded, simulated):
    assert recorder.current() == recorded
    client = anthropic.Anthropic(base_url=recorded.url, api_key=simulated.api_key, max_retries=0)
    asked = {"model": "simulated-small", "max_tokens": 5, "messages": BODY_SENT["messages"]}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    assert client.messages.count_tokens(model=asked["model"], messages=asked["messages"])
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**asked | {"model": "none"})
    calls = calls_of(recorded.run_id, 3).calls
    assert list(calls["message_id"][:2]) == [whole.id, streamed.id]
    assert list(calls["output_tokens"][:2]) == [5, 5]
    assert list(calls["outcome"]) == ["ok", "ok", "failed"]
    assert list(calls["connection_reused"]) == [False, True, True]
    run = queries.run(Store(), recorded.run_id)
    assert (run["status"], run["endpoint_kind"], run["name"]) == (
        "running",
        "simulated",
        "a test's",
    )


def test_a_killed_recorder_leaves_what_it_has_as_interrupted(simulated):
    card = recorder.start(simulated.base_url)
    client = anthropic.Anthropic(base_url=card.url, api_key=simulated.api_key, max_retries=0)
    client.messages.create(model="simulated-small", max_tokens=5, messages=BODY_SENT["messages"])
    until(lambda: any(words["kind"] == "call" for words in recorder.told(card.run_id)[0]), 20)
    os.kill(card.pid, signal.SIGKILL)
    status = lambda: queries.run(Store(), card.run_id)["status"]
    assert until(lambda: status() == "interrupted", 20)
    assert len(queries.recorded_calls(Store(), card.run_id)) == 1
    assert card not in recorder.cards()


def test_the_default_upstream_is_the_sdks(monkeypatch):
    assert upstream.find().base_url == "https://api.anthropic.com"
    assert upstream.find().authority == b"api.anthropic.com"
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://gateway.example/claude/")
    there = upstream.find()
    assert (there.authority, there.path, there.port) == (b"gateway.example", b"/claude", 443)


def test_lines_to_paste_name_the_port_and_no_key_of_the_users():
    card = recorder.card_of("r", 1234, Upstream("anthropic", "live", "https://a.example"), False)
    lines = recorder.paste_lines(card)
    assert set(lines) == {"Shell", "Python", "TypeScript", "Claude Code"}
    assert all("http://127.0.0.1:1234" in line and "KEY" not in line for line in lines.values())


def test_what_a_thread_worked_leaves_out_its_waiting():
    began_ns = clock.working_ns()
    clock.pause_s(0.2)
    assert clock.working_ns() - began_ns < 100e6


def test_what_the_recorder_added_leaves_out_connecting_and_half_a_connection_is_answered(
    monkeypatch,
):
    open_at_once = upstream.Connector.open

    async def open_late(self, made, phases):
        await asyncio.sleep(0.5)
        return await open_at_once(self, made, phases)

    monkeypatch.setattr(upstream.Connector, "open", open_late)
    with RawServer(lambda c: c.good()) as server, wire(server.url) as through:
        met = []
        for port in (server.port, through.port):
            with socket.create_connection(("127.0.0.1", port), 5) as sock:
                sock.sendall(posted(port, json.dumps(BODY_SENT).encode()))
                sock.shutdown(socket.SHUT_WR)  # long before there is a connection upstream
                met.append(b"".join(iter(lambda: sock.recv(1 << 16), b"")))
        assert met[0] == met[1] != b""
        (call,) = through.calls
    assert call.sent_ns - call.asked_ns > 400e6
    assert 0 < call.added_request_ns < 200e6
    assert call.ending is None


def test_a_large_body_is_sent_when_a_slow_reader_has_taken_it():
    resumed_ns = []

    def greet(connection) -> bool:
        left = 20_000_000
        # Some systems would take the whole body into a buffer before anyone has read it.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        while left > 0:
            left -= len(connection.sock.recv(1 << 20))
            if left < 10_000_000 and not resumed_ns:
                threading.Event().wait(0.2)
                resumed_ns.append(now_ns())
        connection.json(message())
        return True

    with RawServer(lambda c: None, greet) as server, wire(server.url) as through:
        ask(through.port, posted(through.port, b"x" * 20_000_000))
        (call,) = through.calls
    assert resumed_ns[0] < call.sent_ns <= call.headers_ns
    assert call.asked_ns <= call.sent_ns


def test_an_https_upstream_is_reached_with_the_systems_certificates(tmp_path, monkeypatch):
    key, authority = tmp_path / "key.pem", tmp_path / "cert.pem"
    names = "subjectAltName=DNS:localhost,DNS:api.example"
    subject = ["-subj", "/CN=localhost", "-addext", names]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made = ["openssl", "req", "-x509", *curve, *subject, "-keyout", key, "-out", authority]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    body = json.dumps(BODY_SENT | {"stream": True}).encode()
    with RawServer(lambda c: c.good(), tls=context) as server:
        url = f"https://localhost:{server.port}"
        with wire(url) as through:
            assert ask(through.port, posted(through.port, body)).data == b""  # nobody vouches
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        with wire(url) as through:
            met = ask(through.port, posted(through.port, body))
            assert until(lambda: through.calls)
        (call,) = through.calls
        assert met.data.endswith(b"0\r\n\r\n") and met.ending == "closed"
        assert call.dns_ns <= call.connected_ns <= call.tls_ns <= call.sent_ns
        assert server.asked[-1].headers["host"] == f"localhost:{server.port}"
        # An upstream that only a proxy reaches: its name is looked up there, and nowhere here.
        with ProxyTap(server.port) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:{KEY}%21@127.0.0.1:{proxy.port}")
            with wire("https://api.example") as through:
                same = ask(through.port, posted(through.port, body))
                assert until(lambda: through.calls)
        (call,) = through.calls
    assert same == met
    assert call.connected_ns <= call.tls_ns <= call.sent_ns
    assert server.asked[-1].headers["host"] == "api.example"
    login = base64.b64encode(f"me:{KEY}!".encode()).decode()
    assert proxy.heads == [
        "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\nProxy-Authorization: Basic"
        f" {login}\r\n\r\n"
    ]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b"HTTP/1.1 407 No\r\n\r\n", "status 407: put its name and password into HTTPS_PROXY"),
        (b"HTTP/1.1 403 No\r\n\r\n", "status 403"),
        (b"220 mail.example ESMTP\r\n\r\n", "no HTTP"),
        (b"", "it hung up"),
    ],
)
def test_a_proxy_that_refuses_is_named_without_its_password(monkeypatch, reply, why):
    with ProxyTap(1, reply) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{KEY}@127.0.0.1:{proxy.port}")
        with wire("https://api.example") as through:
            # A refusal may come before the request was read: then nobody knows of a call.
            request = posted(through.port, b"{}")
            assert until(lambda: ask(through.port, request).data == b"" and through.calls)
    assert {(call.ending, call.note) for call in through.calls} == {
        (
            "connect",
            f"no connection upstream: the proxy 127.0.0.1:{proxy.port} lets nothing through to"
            f" api.example:443 ({why})",
        )
    }
    monkeypatch.setenv("NO_PROXY", ".example")
    assert upstream.tunnel(Upstream("raw", "live", "https://api.example")) is None


@pytest.mark.parametrize(
    ("name", "proxy", "is_told"),
    [
        ("ALL_PROXY", "socks5h://127.0.0.1:9", True),
        ("HTTPS_PROXY", "https://127.0.0.1:9", True),
        ("HTTPS_PROXY", f"http://me:{KEY}/2@127.0.0.1:9", True),
        ("HTTPS_PROXY", "HTTP://127.0.0.1:9", False),
    ],
)
def test_a_proxy_that_is_not_used_is_told_of(monkeypatch, name, proxy, is_told):
    monkeypatch.setenv(name, proxy)
    told: list[dict] = []
    for url in ("https://api.example", "https://127.0.0.2", "https://a.localhost"):
        order = Order(Upstream("raw", "live", url), "")
        Serving(order, told.append)._tell_of_a_proxy()
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # never before a loopback address
        assert url == "https://api.example" or not upstream.tunnel(order.upstream)
    assert [words["text"] for words in told] == is_told * [
        "The proxy of the environment is not used: requests go to https://api.example directly. The"
        " recorder uses proxies like http://HOST:PORT, for https:// addresses."
    ]


def test_a_command_keeps_what_it_had_of_no_proxy_under_both_names(monkeypatch):
    monkeypatch.setenv("no_proxy", "corp.example")
    monkeypatch.delenv("NO_PROXY", raising=False)
    card = recorder.Card("r", 1, 1, None, "raw", "live", "http://127.0.0.1:2", False, "")
    environment = recorder.command_environment(card)
    assert {environment["no_proxy"], environment["NO_PROXY"]} == {
        "corp.example,127.0.0.1,localhost"
    }


def test_a_database_that_another_program_holds_keeps_nobody_waiting(simulated, db):
    """And a writer that dies is followed by another one."""
    Store(db).write_trials([])
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    holder.stdout.readline()
    card = recorder.start(simulated.base_url)
    client = anthropic.Anthropic(base_url=card.url, api_key=simulated.api_key, max_retries=0)
    asked = {"model": "simulated-small", "max_tokens": 5, "messages": BODY_SENT["messages"]}
    said = lambda: [words["kind"] for words in recorder.told(card.run_id)[0]]
    client.messages.create(**asked)
    assert until(lambda: said().count("call") == 1, 20)
    (pid,) = (child.pid for child in psutil.Process(card.pid).children())
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: "note" in said(), 20)
    client.messages.create(**asked)
    holder.communicate(b"\n")
    assert until(lambda: said().count("call") == 2, 20)
    recorder.stop(card.run_id)
    assert len(queries.recorded_calls(Store(db), card.run_id)) == 2 and "lost" not in said()
    assert queries.run(Store(db), card.run_id)["status"] == "finished"
