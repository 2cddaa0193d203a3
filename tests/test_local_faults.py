"""Faults arrive as the API's own failures do: status codes before the stream, events and broken
connections within it."""

import anthropic
import httpx2
import pytest

ASK = {
    "model": "simulated-small",
    "max_tokens": 20,
    "messages": [{"role": "user", "content": "Say something."}],
}


@pytest.fixture
def client(simulated):
    with anthropic.Anthropic(
        base_url=simulated.base_url, api_key=simulated.api_key, max_retries=0, timeout=20
    ) as client:
        yield client


def fault(simulated, kind: str, **more) -> None:
    simulated.plays(
        text=[5, 10, 15], texts=["a ", "b ", "c "], done=20, fault={"kind": kind, **more}
    )


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
def test_http_errors_have_the_apis_classes(simulated, client, status, error, kind):
    fault(simulated, "http", status=status)
    with pytest.raises(error) as failed:
        client.messages.create(**ASK)
    assert failed.value.status_code == status and failed.value.body["error"]["type"] == kind
    assert "retry-after" not in failed.value.response.headers
    assert client.messages.create(**ASK).stop_reason  # the fault was one play long


def test_a_rate_limit_can_say_when_to_come_back(simulated, client):
    fault(simulated, "http", status=429, retry_after=1.5)
    with pytest.raises(anthropic.RateLimitError) as failed:
        client.messages.create(**ASK, stream=True)
    assert failed.value.response.headers["retry-after"] == "1.5"


def test_an_error_event_comes_after_the_pieces_before_it(simulated, client):
    fault(simulated, "error", after=2)
    seen = []
    with pytest.raises(anthropic.APIStatusError) as failed, client.messages.stream(**ASK) as stream:
        seen.extend(stream.text_stream)
    assert seen == [] or seen == ["a ", "b "]
    assert (
        failed.value.status_code == 200 and failed.value.body["error"]["type"] == "overloaded_error"
    )


@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_connection_is_a_protocol_error(simulated, stream):
    fault(simulated, "cut", after=1)
    headers = {"x-api-key": simulated.api_key, "anthropic-version": "2026-10-21"}
    with pytest.raises(httpx2.RemoteProtocolError):
        httpx2.post(
            f"{simulated.base_url}/v1/messages", json={**ASK, "stream": stream}, headers=headers
        )


def test_a_stall_lasts_until_the_client_gives_up(simulated):
    fault(simulated, "stall", after=1)
    arrived = []
    headers = {"x-api-key": simulated.api_key, "anthropic-version": "2026-10-21"}
    address = f"{simulated.base_url}/v1/messages"
    with (
        pytest.raises(httpx2.ReadTimeout),
        httpx2.stream(
            "POST", address, json={**ASK, "stream": True}, headers=headers, timeout=1.5
        ) as reply,
    ):
        for line in reply.iter_lines():
            arrived += [line[7:]] if line.startswith("event: ") else []
    assert arrived[-1] == "content_block_delta" and arrived.count("content_block_delta") == 1
    assert len(simulated.truth()[-1]["events"]) == len(arrived)


def test_a_missing_message_stop_ends_the_stream_quietly(simulated, client):
    fault(simulated, "no_stop")
    with client.messages.create(**ASK, stream=True) as stream:
        kinds = [event.type for event in stream]
    assert kinds[-1] == "message_delta" and "message_stop" not in kinds


def test_a_fault_knob_meets_every_request_until_it_is_turned_off(simulated, client):
    simulated.knobs(fault={"kind": "http", "status": 529})
    for _ in range(2):
        with pytest.raises(anthropic.APIStatusError):
            client.messages.create(**ASK)
    simulated.knobs(fault=None)
    assert client.messages.create(**ASK).stop_reason


def test_a_play_with_an_unknown_field_is_refused_by_name(simulated):
    with pytest.raises(Exception, match=r"plays\.0\.txt"):
        simulated.plays(txt=[1])
