"""A key and a sentence, planted wherever an application may have them: without --keep-text neither
is in a byte that the lab writes or a word that it shows; with it the key still is in none."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anthropic
import pytest
from anthropic import Anthropic
from streamlit.testing.v1 import AppTest

import lab
from lab import cli, importers, paths, recorder
from lab.endpoints import consent
from lab.observing import feed
from lab.store import queries
from lab.store.store import Store

KEY = "sk-ant-api03-Planted7Gq2Xw9Vb4Nk8Lp5Rt1Ys3"
SENTENCE = "The heron sleeps under the third bridge"
WAYS = ("observe", "recorder", "imports")
IMPORTED = ("har", "claude-tap", "transcript", "spans")
BODY = {
    "model": "claude-haiku-5-5",
    "max_tokens": 9,
    "system": [{"type": "text", "text": f"{SENTENCE}. {KEY}"}],
    "tools": [
        {
            "name": "look",
            "description": SENTENCE,
            "input_schema": {"type": "object", "description": SENTENCE, "title": KEY},
        }
    ],
    "metadata": {"user_id": SENTENCE},
    "messages": [
        {"role": "user", "content": SENTENCE},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"a": SENTENCE}}],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "content": [{"type": "text", "text": f"{SENTENCE} {KEY}"}],
                }
            ],
        },
    ],
}
REFUSED = {**BODY, "model": "refuse this"}


class Echo(BaseHTTPRequestHandler):
    """Says all that it was told, in an answer or in the words of an error."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = f"{SENTENCE} {self.headers['x-api-key']} {json.dumps(asked)}"
        if asked["model"] == "refuse this":
            error = {"type": "invalid_request_error", "message": f"messages.0: {said}"}
            self.answer(400, {"type": "error", "error": error})
            return
        packed = base64.b64encode(KEY.encode()).decode()
        self.answer(
            200,
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude-haiku-5-5",
                "content": [
                    {"type": "text", "text": said},
                    {"type": "tool_use", "id": "t2", "name": "look", "input": {"b": packed}},
                ],
                "stop_reason": "tool_use",
                "usage": {"input_tokens": 10, "output_tokens": 3},
            },
        )

    def answer(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("request-id", f"req_{KEY}")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: object) -> None: ...


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def own(tmp_path, db, monkeypatch) -> Path:
    """A folder for all that the lab writes."""
    (tmp_path / "r").mkdir(mode=0o700)
    monkeypatch.setenv("LAB_RUNTIME", str(tmp_path / "r"))
    monkeypatch.setenv("LAB_SETTINGS", str(tmp_path / "s"))
    return tmp_path


def asked(client: Anthropic) -> None:
    client.messages.create(**BODY)
    with pytest.raises(anthropic.BadRequestError, match=SENTENCE):
        client.messages.create(**REFUSED)


def brought_in(way: str, url: str, own: Path, keep_text: bool, monkeypatch) -> None:
    if way == "observe":
        monkeypatch.setattr(feed, "_feeds", {})
        asked(lab.observe(Anthropic(base_url=url, api_key=KEY, max_retries=0), keep_text=keep_text))
        feed.close_all()
    elif way == "recorder":
        consent.allow(url, key=False)
        card = recorder.start(url, keep_text=keep_text)
        try:
            asked(Anthropic(base_url=card.url, api_key=KEY, max_retries=0))
        finally:
            recorder.stop()
    else:
        for source in IMPORTED[:3] if keep_text else IMPORTED:  # spans have no text to keep
            file = own.parent / f"{own.name}-{source}"  # the user's own, not the lab's
            file.write_text(theirs(source))
            importers.bring_in(file, Store(), keep_text=keep_text)


def theirs(way: str) -> str:
    """One call as another program has recorded it."""
    if way == "transcript":
        return transcript()
    if way == "spans":
        return spans()
    said = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [{"type": "text", "text": f"{SENTENCE} {KEY}"}],
        "usage": {"input_tokens": 10, "output_tokens": 3},
    }
    headers = {"x-api-key": KEY, "content-type": "application/json"}
    if way == "claude-tap":
        asked = {"method": "POST", "path": "/v1/messages", "headers": headers, "body": BODY}
        answered = {"status": 200, "headers": {}, "body": said}
        line = {"timestamp": "2026-10-20T11:00:00Z", "request_id": "r1", "turn": 1}
        line |= {"duration_ms": 900, "request": asked, "response": answered}
        return json.dumps(line) + "\n"
    listed = [{"name": name, "value": value} for name, value in headers.items()]
    entry = {
        "startedDateTime": "2026-10-20T11:00:00Z",
        "time": 900,
        "request": {
            "method": "POST",
            "url": "https://api.anthropic.com/v1/messages",
            "headers": listed,
            "postData": {"mimeType": "application/json", "text": json.dumps(BODY)},
        },
        "response": {
            "status": 200,
            "headers": [],
            "content": {"mimeType": "application/json", "text": json.dumps(said)},
        },
        "timings": {"send": 1, "wait": 800, "receive": 99},
    }
    return json.dumps({"log": {"version": "1.2", "entries": [entry]}})


def transcript() -> str:
    """Claude Code's: a question, a tool's call, its result and the answer."""
    usage = {"input_tokens": 10, "output_tokens": 3}
    answered = {"type": "message", "role": "assistant", "model": "claude-haiku-5-5", "usage": usage}
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": SENTENCE, "b": KEY}}
    thought = {"type": "thinking", "thinking": f"{SENTENCE} {KEY}", "signature": KEY}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": f"{SENTENCE} {KEY}"}
    said = {"type": "text", "text": f"{SENTENCE} {KEY}"}
    lines = [
        ("user", {"role": "user", "content": f"{SENTENCE} {KEY}"}),
        ("assistant", {**answered, "id": "msg_1", "content": [thought], "stop_reason": None}),
        ("assistant", {**answered, "id": "msg_1", "content": [use], "stop_reason": "tool_use"}),
        ("user", {"role": "user", "content": [result]}),
        ("assistant", {**answered, "id": "msg_2", "content": [said], "stop_reason": "end_turn"}),
    ]
    common = {"sessionId": SENTENCE, "cwd": f"/{SENTENCE}", "gitBranch": KEY, "slug": SENTENCE}
    made = [{"type": "summary", "summary": f"{SENTENCE} {KEY}", "leafUuid": "u5"}]
    for place, (kind, message) in enumerate(lines, 1):
        ids = {"uuid": f"u{place}", "parentUuid": f"u{place - 1}" if place > 1 else None}
        line = {"type": kind, "message": message, "isSidechain": False, **ids, **common}
        line |= {"timestamp": f"2026-10-20T11:00:0{place}Z", "requestId": f"req_{KEY}"}
        made.append(line | {"toolUseResult": {"stdout": f"{SENTENCE} {KEY}"}})
    return "".join(json.dumps(line) + "\n" for line in made)


def spans() -> str:
    """The SDK's, with all that the conventions let it say."""
    told = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-haiku-5-5",
        "gen_ai.response.id": f"msg_{KEY}",
        "gen_ai.conversation.id": f"{SENTENCE} {KEY}",
        "gen_ai.tool.name": "look",
        "http.request.header.x-api-key": KEY,
    }
    words = ("input.messages", "output.messages", "system_instructions", "tool.call.arguments")
    told |= {f"gen_ai.{word}": f"{SENTENCE} {KEY}" for word in (*words, "tool.description")}
    said = lambda **told: [{"key": k, "value": {"stringValue": v}} for k, v in told.items()]
    span = {
        "traceId": "t1",
        "spanId": "s1",
        "name": f"{SENTENCE} {KEY}",
        "startTimeUnixNano": "1792486800000000000",
        "endTimeUnixNano": "1792486801000000000",
        "status": {"code": 2, "message": f"{SENTENCE} {KEY}"},
        "attributes": said(**told),
        "events": [{"name": "exception", "attributes": said(message=f"{SENTENCE} {KEY}")}],
    }
    tool = {**span, "spanId": "s2", "parentSpanId": "s1"}
    tool["attributes"] = said(**{**told, "gen_ai.operation.name": "execute_tool"})
    scopes = [{"scope": {"name": "com.anthropic.sdk.python"}, "spans": [span, tool]}]
    resource = {"attributes": said(**{"service.name": f"{SENTENCE} {KEY}"})}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]})


def written(own: Path) -> bytes:
    """Every byte that the lab has written: database, spool, cards, progress, logs, settings."""
    return b"".join(file.read_bytes() for file in sorted(own.rglob("*")) if file.is_file())


def shown(capsys) -> str:
    """What commands and pages say of it."""
    runs = list(queries.recordings(Store())["run_id"])
    for run_id in runs:
        cli.main(["show", run_id, "--calls"])
        cli.main(["show", run_id, "--calls", "--json"])
    cli.main(["runs"])
    said = capsys.readouterr()
    words = [said.out, said.err]
    pages = [("0_Your_app", run_id) for run_id in runs]
    for page, run_id in (*pages, ("21_History", runs[0]), ("22_Explorer", runs[0])):
        app = AppTest.from_file(str(paths.ROOT / "app.py"), default_timeout=90)
        app.query_params["run"] = run_id
        app.switch_page(f"pages/{page}.py").run()
        assert not app.exception
        words += [str(element) for element in app.main]
    return "\n".join(words)


@pytest.mark.parametrize("way", WAYS)
def test_without_text_neither_is_anywhere(way, echo, own, capsys, monkeypatch):
    brought_in(way, echo, own, False, monkeypatch)
    rows = queries.recordings(Store())
    assert sorted(rows["calls"]) == ([1, 1, 1, 2] if way == "imports" else [2])
    assert Store().path.stat().st_mode & 0o077 == 0
    words = shown(capsys)
    data = written(own) + words.encode()
    assert "look" in data.decode("utf-8", "replace")  # the name of a tool is structure
    for secret in (SENTENCE, KEY, base64.b64encode(KEY.encode()).decode()[:-4]):
        assert secret.encode() not in data


@pytest.mark.parametrize("way", WAYS)
def test_with_text_the_sentence_is_there_and_the_key_is_not(way, echo, own, capsys, monkeypatch):
    brought_in(way, echo, own, True, monkeypatch)
    store = Store()
    bodies = store.frame("SELECT body, answer FROM recorded_calls").to_csv()
    assert SENTENCE in bodies and "[key]" in bodies
    data = written(own)
    for secret in (KEY, base64.b64encode(KEY.encode()).decode()[:-4]):
        assert secret.encode() not in data
    for run_id in queries.recordings(store)["run_id"]:
        cli.main(["forget", run_id, "--yes"])
    assert SENTENCE.encode() not in written(own)
