"""The official SDK cannot tell the local server from the API: events, ids, usage, errors, tools,
models."""

import json
import os
import signal
import socket
import subprocess
import sys

import anthropic
import httpx2
import pytest

from lab.scenarios import tools

MODEL = "simulated-small"
ASK = {
    "model": MODEL,
    "max_tokens": 40,
    "messages": [{"role": "user", "content": "Say something."}],
}
HEADERS = {"anthropic-version": "2026-10-21", "content-type": "application/json"}
WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": ["Oslo"]},
            "unit": {"const": "C"},
            "days": {"type": "integer", "default": 3},
        },
        "required": ["city"],
    },
}
TIME = {
    "name": "time",
    "input_schema": {
        "type": "object",
        "properties": {"zone": {"type": "string"}},
        "required": ["zone"],
    },
}


@pytest.fixture
def client(simulated):
    with anthropic.Anthropic(
        base_url=simulated.base_url, api_key=simulated.api_key, max_retries=0, timeout=20
    ) as client:
        yield client


def raw(simulated, body, **headers):
    return httpx2.post(
        f"{simulated.base_url}/v1/messages",
        json=body,
        headers={"x-api-key": simulated.api_key, **HEADERS, **headers},
    )


def test_a_whole_message_has_all_that_the_api_sends(client):
    message = client.messages.create(**ASK)
    assert (
        message.id.startswith("msg_01") and message.model == MODEL and message.role == "assistant"
    )
    assert [block.type for block in message.content] == ["text"]
    assert (message.usage.input_tokens, message.usage.output_tokens) == (
        4,
        40,
    )  # 14 characters are 4 tokens of 4
    assert message.usage.cache_creation.ephemeral_5m_input_tokens == 0
    assert message.stop_reason == "max_tokens"
    assert set(message.lab) == {"queue_ms", "prefill_ms", "decode_ms", "cached_tokens"}


def test_streamed_events_come_in_the_apis_order(simulated, client):
    simulated.plays(headers=5, text=[10, 15], texts=["Hi ", "there"], done=20)
    with client.messages.create(**ASK, stream=True) as stream:
        events = list(stream)
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[-2].usage.output_tokens == 2 and events[-2].delta.stop_reason == "end_turn"
    assert events[-2].lab["cached_tokens"] == 0


async def test_the_async_sdk_assembles_the_same_text(simulated):
    async with anthropic.AsyncAnthropic(
        base_url=simulated.base_url, api_key=simulated.api_key, max_retries=0
    ) as client:
        whole = await client.messages.create(**ASK)
        async with client.messages.stream(**ASK) as stream:
            pieces = [text async for text in stream.text_stream]
            final = await stream.get_final_message()
    assert "".join(pieces) == final.content[0].text == whole.content[0].text
    assert len(pieces) == final.usage.output_tokens == 40


def test_a_ping_follows_the_first_block_start(simulated):
    simulated.plays(text=[1])
    lines = raw(simulated, {**ASK, "stream": True}).text.splitlines()
    assert [line[7:] for line in lines if line.startswith("event: ")][:3] == [
        "message_start",
        "content_block_start",
        "ping",
    ]
    assert all(json.loads(line[6:])["type"] for line in lines if line.startswith("data: "))


def test_auto_uses_each_tool_offered_where_all_are_asked_for_and_then_answers_in_text(client):
    first = client.messages.create(**ASK, tools=[WEATHER, TIME], extra_headers=tools.EVERY_TOOL)
    assert [block.name for block in first.content] == [
        "weather",
        "time",
    ] and first.stop_reason == "tool_use"
    assert first.content[0].input == {"city": "Oslo", "unit": "C", "days": 3}
    assert len({block.id for block in first.content}) == 2
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "12"} for block in first.content
    ]
    turns = [
        *ASK["messages"],
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": results},
    ]
    second = client.messages.create(**{**ASK, "messages": turns}, tools=[WEATHER, TIME])
    assert [block.type for block in second.content] == ["text"]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"type": "tool", "name": "time"}, ["time"]),
        ({"type": "any"}, ["time"]),
        ({"type": "auto"}, ["time"]),
        ({"type": "none"}, []),
    ],
)
def test_tool_choice_decides_which_tools(client, choice, names):
    message = client.messages.create(**ASK, tools=[TIME, WEATHER], tool_choice=choice)
    assert [block.name for block in message.content if block.type == "tool_use"] == names


def test_streamed_tool_input_arrives_as_json_pieces(client):
    with client.messages.stream(**ASK, tools=[WEATHER]) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        final = stream.get_final_message()
    assert (
        json.loads("".join(pieces))
        == final.content[0].input
        == {
            "city": "Oslo",
            "unit": "C",
            "days": 3,
        }
    )


def test_structured_output_fits_its_schema(client):
    form = {
        "type": "object",
        "properties": {"tier": {"type": "string", "enum": ["small", "large"]}},
        "required": ["tier"],
    }
    message = client.messages.create(
        **ASK, output_config={"format": {"type": "json_schema", "schema": form}}
    )
    assert json.loads(message.content[0].text)["tier"] in ("small", "large")


def test_a_stop_sequence_ends_the_text_before_itself(simulated, client):
    simulated.knobs(text="echo")
    ask = {**ASK, "messages": [{"role": "user", "content": "one two STOP three"}]}
    message = client.messages.create(**ask, stop_sequences=["STOP"])
    assert (message.content[0].text, message.stop_reason, message.stop_sequence) == (
        "one two ",
        "stop_sequence",
        "STOP",
    )


def test_hidden_thinking_shows_only_its_signature(client):
    with client.messages.stream(
        **{**ASK, "max_tokens": 60}, thinking={"type": "adaptive"}
    ) as stream:
        deltas = [event.delta.type for event in stream if event.type == "content_block_delta"]
        final = stream.get_final_message()
    assert deltas[0] == "signature_delta" and "thinking_delta" not in deltas
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert (
        final.usage.output_tokens_details.thinking_tokens == 30 and final.usage.output_tokens == 60
    )


def test_tokens_are_counted_as_they_are_billed(client):
    ask = {"model": MODEL, "system": "s" * 400, "messages": [{"role": "user", "content": "u" * 40}]}
    assert client.messages.count_tokens(**ask).input_tokens == 110
    assert client.messages.create(**ask, max_tokens=1).usage.input_tokens == 110


def test_models_are_listed_and_found(client):
    assert [model.id for model in client.models.list()] == ["simulated-small", "simulated-large"]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(anthropic.NotFoundError, match="model: gpt"):
        client.messages.create(**{**ASK, "model": "gpt"})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": []}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages.0.content.0",
        ),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "prefill",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}
                ]
            },
            "messages.0: unexpected `tool_use_id`",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"temperature": 1.5}, "temperature"),
        ({"speed": "faster"}, "speed"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"output_config": {"effort": "least"}}, "output_config.effort"),
        ({"mcp_servers": []}, "mcp_servers"),
        ({"max_tokens": 0, "stream": True}, "max_tokens: 0 cannot be combined with stream"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(simulated, change, field):
    reply = raw(simulated, {**ASK, **change})
    error = reply.json()
    assert reply.status_code == 400 and error["error"]["type"] == "invalid_request_error"
    assert field in error["error"]["message"]
    assert error["request_id"] == reply.headers["request-id"]


def test_the_key_is_needed_by_either_header(simulated):
    assert (
        raw(simulated, ASK, **{"x-api-key": "wrong"}).json()["error"]["type"]
        == "authentication_error"
    )
    bearer = httpx2.post(
        f"{simulated.base_url}/v1/messages",
        json=ASK,
        headers={"authorization": f"Bearer {simulated.api_key}", **HEADERS},
    )
    assert bearer.status_code == 200
    assert httpx2.get(f"{simulated.base_url}/truth").status_code == 401
    assert httpx2.get(f"{simulated.base_url}/health").json()["kind"] == "simulated"


def test_one_connection_serves_streams_and_whole_replies(simulated):
    opened = []
    with httpx2.Client(headers={"x-api-key": simulated.api_key, **HEADERS}) as client:
        for stream in (True, False, True):
            extensions = {
                "trace": lambda name, info: (
                    opened.append(name) if name == "connection.connect_tcp.complete" else None
                )
            }
            client.post(
                f"{simulated.base_url}/v1/messages",
                json={**ASK, "stream": stream},
                extensions=extensions,
            )
    assert len(opened) == 1


def test_truth_tells_when_each_event_was_written(simulated, client):
    simulated.plays(headers=20, text=[30, 50], done=60)
    with client.messages.stream(**ASK) as stream:
        stream.until_done()
        request_id = stream.response.headers["request-id"]
    (truth,) = simulated.truth(request_id)
    at = [
        (event["kind"], (event["at_ns"] - truth["received_ns"]) / 1e6) for event in truth["events"]
    ]
    assert [kind for kind, _ in at if kind == "text_delta"] == ["text_delta"] * 2
    for (_, ms), promised in zip(
        [item for item in at if item[0] == "text_delta"], (30, 50), strict=True
    ):
        assert promised <= ms < promised + 30_000


def test_latencies_are_seeded_and_models_differ(simulated, client):
    def decode(model):
        return client.messages.create(**{**ASK, "model": model}).lab["decode_ms"]

    first = [decode(MODEL), decode(MODEL)]
    simulated.reset()
    assert [decode(MODEL), decode(MODEL)] == first and first[0] != first[1]
    assert decode("simulated-large") > 2 * first[0]


def test_a_wrong_knob_is_refused_and_changes_nothing(simulated):
    with pytest.raises(Exception, match="gap"):
        simulated.knobs(gap="slow")
    simulated.knobs(gap_ms=2.0, models={"simulated-large": {"gap_ms": 9.0}})
    knobs = simulated.ask("GET", "/knobs")["models"]
    assert [knobs[name]["gap_ms"] for name in ("simulated-small", "simulated-large")] == [2.0, 9.0]


def test_a_lease_keeps_others_out_until_it_ends(simulated, client):
    lease = simulated.ask(
        "POST", "/lease", json={"holder": "a run", "pid": os.getpid(), "seconds": 30}
    )["lease"]
    with pytest.raises(anthropic.APIStatusError, match="a run") as refused:
        client.messages.create(**ASK)
    assert refused.value.status_code == 529
    assert client.messages.create(**ASK, extra_headers={"x-lab-lease": lease}).stop_reason
    with pytest.raises(Exception, match="holds the lease"):
        simulated.ask(
            "POST", "/lease", json={"holder": "another", "pid": os.getpid(), "seconds": 30}
        )
    assert simulated.ask("POST", "/lease", json={"lease": lease})["lease"] == lease
    simulated.ask("DELETE", "/lease", json={"lease": lease})
    assert client.messages.create(**ASK).stop_reason


def test_a_dead_holders_lease_is_void(simulated, client):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    simulated.ask("POST", "/lease", json={"holder": "gone", "pid": ended.pid, "seconds": 30})
    assert client.messages.create(**ASK).stop_reason


def test_a_busy_port_is_one_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "lab.local", "--simulated", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and f"Port {port}" in done.stderr


def test_it_announces_itself_privately_and_ends_cleanly(tmp_path):
    card = tmp_path / "server.json"
    command = [sys.executable, "-m", "lab.local", "--simulated", "--announce", str(card)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        ready = json.loads(process.stdout.readline())
        announced = json.loads(card.read_text())
        assert announced["pid"] == process.pid and announced["api_key"] == ready["api_key"]
        assert card.stat().st_mode & 0o777 == 0o600
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not card.exists()


def test_it_ends_when_nobody_asks(tmp_path):
    command = [sys.executable, "-m", "lab.local", "--simulated", "--idle-s", "0.3"]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=30).returncode == 0
