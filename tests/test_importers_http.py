"""HAR, claude-tap and OpenTelemetry: whole requests or bare spans of the same calls, each read for
what it says and no more."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lab import importers, new_recording, recordings
from lab.importers import har, json_files
from lab.store import queries
from lab.store.store import Store
from tests.recorded_runs import record

KEY = "sk-ant-api03-planted-key-of-the-user"
SENTENCE = "the planted secret sentence"
BODY = {
    "model": "claude-opus-5-5",
    "max_tokens": 100,
    "stream": True,
    "system": [{"type": "text", "text": SENTENCE, "cache_control": {"type": "ephemeral"}}],
    "messages": [{"role": "user", "content": "Hello"}],
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1_000, "cache_read_input_tokens": 10_000, "output_tokens": 500},
}
USD = 0.004 + 0.002 + 0.010
EVENTS = [
    {"type": "message_start", "message": {**MESSAGE, "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 500},
    },
    {"type": "message_stop"},
]
STREAM = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EVENTS)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Path:
    """An empty database, made once."""
    path = tmp_path_factory.mktemp("fresh") / "lab.duckdb"
    record(Store(path), blocks=1)
    Store(path).delete_run(queries.runs(Store(path))["run_id"][0])
    return path


@pytest.fixture
def store(db, fresh) -> Store:
    shutil.copy(fresh, db)
    return Store(db)


def entry(**changed: Any) -> dict[str, Any]:
    """5 ms waiting for a socket, 10 dns, 50 connect with 30 of TLS, 1 send, 400 wait, 600 more."""
    return {
        "startedDateTime": "2026-10-20T11:00:00.000+02:00",
        "time": 1066,
        "request": {
            "method": "POST",
            "url": "https://api.anthropic.com/v1/messages?beta=true",
            "headers": [
                {"name": "x-api-key", "value": KEY},
                {"name": "X-Claude-Code-Session-Id", "value": "s1"},
            ],
            "postData": {"mimeType": "application/json", "text": json.dumps(BODY)},
        },
        "response": {
            "status": 200,
            "headers": [{"name": "request-id", "value": "req_1"}],
            "content": {"mimeType": "text/event-stream", "text": STREAM},
        },
        "timings": {
            "blocked": 5,
            "dns": 10,
            "connect": 50,
            "ssl": 30,
            "send": 1,
            "wait": 400,
            "receive": 600,
        },
    } | changed


def har_file(folder: Path, *entries: dict[str, Any]) -> Path:
    file = folder / "app.har"
    log = {"version": "1.2", "creator": {"name": "mitmproxy"}, "entries": list(entries)}
    file.write_text(json.dumps({"log": log}))
    return file


def only(store: Store) -> recordings.Recording:
    (run_id,) = queries.recordings(store)["run_id"]
    return recordings.read(store, run_id)


def row(store: Store) -> dict[str, Any]:
    (call,) = store.frame("SELECT * FROM calls").to_dict("records")
    return call


def since(call: dict[str, Any], *names: str) -> list[float | None]:
    """Instants of a call in ms from its start."""
    start = call["started_ns"]
    return [None if call[name] != call[name] else (call[name] - start) / 1e6 for name in names]


def test_the_phases_of_a_har_are_instants_and_its_first_byte_is_no_token(store, tmp_path):
    summary = importers.bring_in(har_file(tmp_path, entry()), store)
    assert (summary.added, summary.usd) == (1, pytest.approx(USD))
    call = row(store)
    assert since(call, "dns_ns", "connected_ns", "tls_ns", "sent_ns") == [15, 35, 65, 66]
    assert since(call, "first_byte_ns", "first_token_ns", "ended_ns") == [466, None, 1_066]
    assert not call["connection_reused"]
    assert (call["request_id"], call["endpoint"]) == ("req_1", "api.anthropic.com")


def test_a_har_has_the_whole_request_and_so_can_its_misses_be_told(store, tmp_path):
    importers.bring_in(har_file(tmp_path, entry()), store)
    recording = only(store)
    (prompt,) = recording.prompts.values()
    assert [(block.section, block.kind) for block in prompt.blocks] == [
        ("system", "text"),
        ("messages", "text"),
    ]
    assert prompt.settings["whole"] is True and prompt.marks == ((0, "5m"),)
    assert recording.pieces(prompt.blocks[0].hash)


def test_neither_a_key_nor_a_sentence_of_a_har_is_in_the_database(store, tmp_path, db):
    importers.bring_in(har_file(tmp_path, entry()), store)
    store.close()
    data = db.read_bytes()
    assert KEY.encode() not in data and SENTENCE.encode() not in data


@pytest.mark.parametrize("text", [STREAM, json.dumps(MESSAGE)], ids=["a stream", "whole"])
@pytest.mark.parametrize("packed", [True, False], ids=["base64", "plain"])
def test_an_answer_in_a_har_is_read_however_it_is_written(text, packed, store, tmp_path):
    content = {"text": base64.b64encode(text.encode()).decode(), "encoding": "base64"}
    response = {"status": 200, "content": content if packed else {"text": text}}
    importers.bring_in(har_file(tmp_path, entry(response=response)), store)
    call = row(store)
    assert (call["message_id"], call["output_tokens"], call["stop_reason"]) == (
        "msg_1",
        500,
        "end_turn",
    )


def test_a_browser_that_kept_the_time_of_each_event_gives_a_first_token_time(store, tmp_path):
    began = 1_792_486_800.0  # 2026-10-20T09:00:00Z
    messages = [
        {"time": began + 0.5 + place / 10, "eventName": event["type"], "data": json.dumps(event)}
        for place, event in enumerate(EVENTS)
    ]
    importers.bring_in(har_file(tmp_path, entry(_eventSourceMessages=messages, time=1_100)), store)
    assert since(row(store), "message_start_ns", "first_token_ns") == pytest.approx(
        [500, 700], abs=0.01
    )


def test_times_of_another_clock_are_no_times(store, tmp_path):
    messages = [{"time": 3.5, "eventName": "message_start", "data": json.dumps(EVENTS[0])}]
    importers.bring_in(har_file(tmp_path, entry(_eventSourceMessages=messages)), store)
    assert since(row(store), "message_start_ns") == [None]


def test_an_entry_that_is_no_call_or_no_entry_is_counted(store, tmp_path):
    request = entry()["request"]
    other = {**request, "url": "https://api.anthropic.com/v1/messages/count_tokens"}
    broken = {**request, "postData": {"text": "{"}}
    file = har_file(
        tmp_path,
        entry(),
        entry(request=other),
        entry(request=broken),
        entry(request=[]),
        entry(startedDateTime=5),
        entry(timings="fast", time="soon", response={"status": 0, "_error": "net::ERR_ABORTED"}),
    )
    summary = importers.bring_in(file, store)
    assert summary.added == 2
    assert dict(summary.left_out) == {
        "requests to other paths": 1,
        "entries of another shape": 3,
    }
    assert sorted(store.frame("SELECT error_kind FROM calls")["error_kind"].dropna()) == [
        "cancelled"
    ]


def test_a_har_cut_short_or_too_large_gives_what_came_before(store, tmp_path, monkeypatch):
    whole = har_file(tmp_path, entry(), entry(startedDateTime="2026-10-20T12:00:00Z")).read_text()
    cut = tmp_path / "cut.har"
    cut.write_text(whole[:-100])
    summary = importers.bring_in(cut, store)
    assert (summary.added, list(summary.left_out)) == (
        1,
        ["entries that the end of the file cuts off"],
    )
    monkeypatch.setenv("LAB_MAX_BODY_MB", "1")
    json_files.limits.body_bytes.cache_clear()
    bomb = entry(response={"status": 200, "content": {"text": "a" * 4_000_000}})
    summary = importers.bring_in(har_file(tmp_path, entry(), bomb, entry()), store)
    json_files.limits.body_bytes.cache_clear()
    assert summary.known + summary.elsewhere.total() == 1
    assert list(summary.left_out) == ["entries longer than 1 MB, and what follows"]


def test_a_har_is_read_an_entry_at_a_time(tmp_path):
    file = har_file(tmp_path, *(entry() for _ in range(2_000)))
    source = json_files.Source([file], new_recording.hasher())
    calls = har.read(source)
    next(calls)
    assert source.read_bytes < file.stat().st_size / 3
    assert sum(1 for _ in calls) == 1_999
    assert source.read_bytes == file.stat().st_size


# claude-tap


def tap_line(**changed: Any) -> dict[str, Any]:
    return {
        "timestamp": "2026-10-20T09:00:03+00:00",
        "request_id": "req_abcdef123456",
        "turn": 1,
        "duration_ms": 2_000,
        "request": {
            "method": "POST",
            "path": "/v1/messages?beta=true",
            "headers": {"x-api-key": "sk-ant-api03...", "anthropic-beta": "a,b"},
            "body": {**BODY, "metadata": {"user_id": "user_1_account__session_0123456789ab"}},
        },
        "response": {"status": 200, "headers": {}, "body": MESSAGE},
        "upstream_base_url": "https://api.anthropic.com",
    } | changed


def tap_file(folder: Path, *lines: dict[str, Any]) -> Path:
    file = folder / "trace.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_a_line_of_claude_tap_is_written_at_the_end_of_its_call(store, tmp_path):
    summary = importers.bring_in(tap_file(tmp_path, tap_line(ttft_ms=300)), store)
    assert (summary.added, summary.usd) == (1, pytest.approx(USD))
    call = row(store)
    assert since(call, "ended_ns", "first_byte_ns", "first_token_ns") == [2_000, 300, None]
    (started,) = only(store).calls["started_utc"]
    assert started.isoformat() == "2026-10-20T09:00:01+00:00"
    assert only(store).calls["conversation"].notna().all()


def test_claude_tap_twice_adds_nothing_and_its_stream_is_read_where_it_has_one(store, tmp_path):
    events = [{"event": event["type"], "data": event} for event in EVENTS]
    streamed = {"status": 200, "headers": {}, "body": None, "sse_events": events}
    refused = {"status": 529, "headers": {}, "body": {"error": {"type": "overloaded_error"}}}
    file = tap_file(
        tmp_path,
        tap_line(response=streamed),
        tap_line(request_id="req_2", response=refused),
        tap_line(request_id="req_3", duration_ms="long"),
    )
    assert importers.bring_in(file, store).added == 2
    assert importers.bring_in(file, store).known == 2
    calls = only(store).calls
    assert sorted(calls["error_kind"].dropna()) == ["overloaded_error"]
    assert calls["output_tokens"].dropna().tolist() == [500]


# OpenTelemetry


def attributes(**values: Any) -> list[dict[str, Any]]:
    return [
        {
            "key": name.replace("__", "."),
            "value": {"intValue": str(value)}
            if isinstance(value, int)
            else {"doubleValue": value}
            if isinstance(value, float)
            else {"stringValue": value},
        }
        for name, value in values.items()
    ]


def span(id: str, at_ms: int, took_ms: int, parent: str = "", **said: Any) -> dict[str, Any]:
    start = 1_792_486_800_000 + at_ms
    return {
        "traceId": "t1",
        "spanId": id,
        "parentSpanId": parent,
        "name": "anthropic.messages.create",
        "kind": 3,
        "startTimeUnixNano": f"{start}000000",
        "endTimeUnixNano": f"{start + took_ms}000000",
        "status": {"code": 1},
        "attributes": attributes(**said),
    }


def chat(id: str, at_ms: int, took_ms: int, parent: str = "", **said: Any) -> dict[str, Any]:
    return span(
        id,
        at_ms,
        took_ms,
        parent,
        gen_ai__operation__name="chat",
        gen_ai__provider__name="anthropic",
        gen_ai__request__model="claude-opus-5-5",
        gen_ai__usage__input_tokens=11_000,
        gen_ai__usage__cache_read__input_tokens=10_000,
        gen_ai__usage__output_tokens=500,
        **said,
    )


def request(scope: str, *spans: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": attributes(service__name="app")}
    groups = [{"scope": {"name": scope}, "spans": list(spans)}]
    return {"resourceSpans": [{"resource": resource, "scopeSpans": groups}]}


def otlp_file(folder: Path, *requests: dict[str, Any]) -> Path:
    file = folder / "spans.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in requests))
    return file


SDK, PLATFORM = "com.anthropic.sdk.python", "com.anthropic.claude-platform"


def test_a_span_of_the_sdk_is_a_call_and_the_platforms_joins_it(store, tmp_path):
    first = {"gen_ai__response__time_to_first_chunk": 0.75, "gen_ai__conversation__id": "c1"}
    tool = span("b", 2_100, 400, gen_ai__operation__name="execute_tool", gen_ai__tool__name="read")
    file = otlp_file(
        tmp_path,
        request(PLATFORM, chat("s", 999_000, 1_800, parent="a")),  # on a clock of its own
        request(SDK, chat("a", 0, 2_000, **first), tool, chat("c", 2_600, 1_000)),
    )
    summary = importers.bring_in(file, store)
    assert (summary.added, summary.usd) == (2, pytest.approx(2 * USD))
    recording = only(store)
    calls = recording.calls
    assert calls["total_ms"].tolist() == [2_000, 1_000]
    assert calls["ttft_ms"].tolist()[0] == 750 and calls["ttft_ms"].isna().tolist()[1]
    assert calls["input_tokens"].tolist() == [1_000, 1_000]
    stored = store.frame("SELECT server_ms FROM calls ORDER BY started_ns")["server_ms"].tolist()
    assert json.loads(stored[0]) == {"total": 1_800.0}
    (ran,) = recording.tools.to_dict("records")
    assert (ran["name"], ran["ended_ms"] - ran["started_ms"]) == ("read", 400)
    assert ran["call_id"] == calls["call_id"].iloc[0]


def test_after_hidden_thinking_the_first_chunk_is_no_token(store, tmp_path):
    said = {
        "gen_ai__response__time_to_first_chunk": 0.5,
        "gen_ai__usage__reasoning__output_tokens": 200,
    }
    importers.bring_in(otlp_file(tmp_path, request(SDK, chat("a", 0, 2_000, **said))), store)
    assert since(row(store), "first_sign_ns", "first_token_ns") == [500, None]


def test_the_platforms_spans_alone_are_calls_on_its_own_clock(store, tmp_path):
    importers.bring_in(otlp_file(tmp_path, request(PLATFORM, chat("s", 0, 900))), store)
    (note,) = only(store).calls["note"]
    assert "platform" in note


def test_calls_under_one_span_of_an_agent_are_as_many_as_they_were(store, tmp_path):
    file = otlp_file(
        tmp_path, request(PLATFORM, chat("s", 0, 900, "agent"), chat("t", 1_000, 900, "agent"))
    )
    assert importers.bring_in(file, store).tokens["output"] == 1_000


def test_spans_around_one_another_are_one_call(store, tmp_path):
    """A framework's around the SDK's, with one of HTTP between the SDK's and the platform's; then
    a framework's that names no answer."""
    answer = {"gen_ai__response__id": "msg_1"}
    file = otlp_file(
        tmp_path,
        request("framework", chat("f", 0, 1_000, **answer), chat("g", 2_000, 1_000)),
        request(SDK, chat("a", 10, 900, "step", **answer), chat("b", 2_010, 900, "g")),
        request(PLATFORM, chat("s", 50, 800, "http", **answer)),
    )
    summary = importers.bring_in(file, store)
    assert (summary.added, summary.tokens["output"], summary.left_out.total()) == (2, 1_000, 2)
    assert only(store).calls["total_ms"].tolist() == [900, 900]


def test_what_stands_twice_in_a_file_is_one_call(store, tmp_path):
    har_file(tmp_path, entry(), entry())
    tap_file(tmp_path, tap_line(), tap_line())
    otlp_file(tmp_path, request(SDK, chat("a", 0, 10)), request(SDK, chat("a", 0, 10)))
    summary = importers.bring_in(tmp_path, store)
    assert (summary.added, summary.known, summary.tokens["output"]) == (3, 3, 1_500)


def test_a_span_of_something_else_is_counted(store, tmp_path):
    other = chat("a", 0, 10) | {
        "attributes": attributes(gen_ai__operation__name="chat", gen_ai__system="openai")
    }
    file = otlp_file(
        tmp_path,
        request(SDK, chat("b", 0, 10), other, span("c", 0, 5), {"spanId": 5}, []),
        {"resourceSpans": [{"resource": 5}, 7]},
    )
    summary = importers.bring_in(file, store)
    assert (summary.added, dict(summary.left_out)) == (
        1,
        {
            "calls of other providers": 1,
            "spans of something else": 1,
            "spans of another shape": 2,
            "groups of spans of another shape": 1,
        },
    )


def test_a_stream_that_the_application_closed_is_a_cancelled_call(store, tmp_path):
    closed = chat("a", 0, 10) | {"status": {}}
    refused = chat("b", 20, 10, error__type="rate_limit_error") | {"status": {"code": 2}}
    importers.bring_in(otlp_file(tmp_path, request(SDK, closed, refused)), store)
    assert only(store).calls["outcome"].tolist() == ["cancelled", "failed"]
    assert only(store).calls["error_kind"].tolist() == ["cancelled", "rate_limit_error"]


def test_a_folder_of_several_kinds_is_a_recording_of_each(store, tmp_path):
    har_file(tmp_path, entry())
    tap_file(tmp_path, tap_line())
    otlp_file(tmp_path, request(SDK, chat("a", 0, 10)))
    (tmp_path / "package.json").write_text("{}")
    summary = importers.bring_in(tmp_path, store)
    assert (summary.added, len(summary.runs)) == (3, 3)
    assert dict(summary.left_out) == {"files of another kind": 1}
