import asyncio
import contextlib
import json

import anthropic
import httpx2
import pytest

from lab.clock import sleep_s
from lab.endpoints.client import open_client
from lab.endpoints.registry import Endpoint
from lab.instrumentation import parsing, stamps


def endpoint(simulated) -> Endpoint:
    return Endpoint(
        "simulated",
        "simulated",
        simulated.base_url,
        simulated.api_key,
        {"small": "simulated-small"},
        "small",
    )


BODY = {
    "model": "simulated-small",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Go."}],
}


async def ask(client, observed, stream=True, **changes):
    token = stamps.OBSERVER.set(observed.append)
    try:
        if not stream:
            return await client.messages.create(**BODY, **changes)
        answer = await client.messages.create(**BODY, **changes, stream=True)
        return [event async for event in answer]
    finally:
        stamps.OBSERVER.reset(token)


@pytest.fixture
async def client(simulated):
    client = open_client(endpoint(simulated), 5)
    yield client
    await client.close()


async def test_stamps_are_in_the_order_of_the_wire_and_the_second_call_reuses_the_connection(
    client, simulated
):
    seen = []
    for _ in range(2):
        simulated.plays(headers=10, text=[20, 40, 60], texts=["One. ", "Two. ", "Three"], done=70)
        await ask(client, seen)
    for exchange in seen:
        read = parsing.read(exchange)
        order = [
            exchange.started_ns,
            exchange.sent_ns,
            exchange.headers_ns,
            read.message_start_ns,
            read.first_text_ns,
            read.last_text_ns,
            exchange.ended_ns,
        ]
        assert order == sorted(order) and read.error_kind is None and read.text == "One. Two. Three"
    assert [exchange.reused for exchange in seen] == [False, True]
    assert seen[0].started_ns <= seen[0].dns_ns <= seen[0].connected_ns <= seen[0].sent_ns
    assert seen[1].dns_ns is None and seen[1].connected_ns is None


async def test_arrivals_follow_the_servers_true_emissions(client, simulated):
    seen = []
    simulated.plays(headers=10, text=[30, 60, 90], done=100)
    await ask(client, seen)
    read = parsing.read(seen[0])
    (truth,) = simulated.truth(seen[0].headers["request-id"])
    true_ns = [
        event["at_ns"]
        for event in truth["events"]
        if "delta" in event["kind"] and event["kind"] != "message_delta"
    ]
    felt_ns = [arrival.at_ns for arrival in read.arrivals if arrival.kind == "text_delta"]
    assert len(felt_ns) == 3 and len(true_ns) == 3
    # A reader on the same machine may see the bytes just before the writer has noted that it wrote
    # them.
    assert all(-2e6 < felt - true < 30e9 for felt, true in zip(felt_ns, true_ns, strict=True))


async def test_a_whole_answer_has_no_token_clocks(client, simulated):
    seen = []
    simulated.plays(headers=10, text=[20], texts=["Whole."], done=30)
    await ask(client, seen, stream=False)
    read = parsing.read(seen[0])
    assert (read.text, read.first_text_ns, read.message_start_ns) == ("Whole.", None, None)
    assert [a.kind for a in read.arrivals] == ["message"]


async def test_nobody_is_observed_who_did_not_ask(client, simulated):
    simulated.plays(text=[1])
    await client.messages.create(**BODY)
    assert stamps.OBSERVER.get() is None


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"kind": "http", "status": 529}, "overloaded_error"),
        ({"kind": "http", "status": 429, "type": "rate_limit_error"}, "rate_limit_error"),
        ({"kind": "http", "status": 500, "type": "api_error"}, "api_error"),
        ({"kind": "error", "after": 1}, "overloaded_error"),
        ({"kind": "cut", "after": 1}, "disconnected"),
        ({"kind": "no_stop", "after": 1}, "truncated"),
    ],
)
async def test_each_fault_has_its_word(client, simulated, fault, word):
    seen = []
    simulated.plays(headers=5, text=[10, 20], done=30, fault=fault)
    with contextlib.suppress(anthropic.APIError, httpx2.TransportError):
        await ask(client, seen)
    assert parsing.read(seen[0]).error_kind == word


async def test_a_silence_longer_than_allowed_is_a_timeout(simulated):
    client = open_client(endpoint(simulated), 1.0)
    seen = []
    simulated.plays(
        headers=5, text=[10, 20], done=30, fault={"kind": "stall", "after": 1, "ms": 5000}
    )
    with pytest.raises((anthropic.APIError, httpx2.TransportError)):
        await ask(client, seen)
    await client.close()
    read = parsing.read(seen[0])
    assert read.error_kind == "timeout" and read.first_text_ns is not None


async def test_nobody_listening_is_a_connect_error():
    client = open_client(Endpoint("gone", "live", "http://127.0.0.1:9", "key"), 2)
    seen = []
    with pytest.raises(anthropic.APIConnectionError):
        await ask(client, seen)
    await client.close()
    assert parsing.read(seen[0]).error_kind == "connect" and seen[0].sent_ns is None


async def test_a_cancelled_call_says_so(client, simulated):
    seen = []
    simulated.plays(headers=5, text=[10, 3000], done=3000)
    task = asyncio.create_task(ask(client, seen))
    while not (seen and seen[0].chunks):
        await sleep_s(0.01)
    task.cancel()
    await asyncio.wait({task})
    assert parsing.read(seen[0]).error_kind == "cancelled"


START = {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 3}}}


@pytest.mark.parametrize(
    "event",
    [
        {"type": "message_start", "message": {"usage": 5}},
        {"type": "message_start", "message": {"usage": {"cache_creation": 5}}},
        {"type": "message_start", "message": {"id": 5}},
        {"type": "content_block_delta", "delta": "x"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 5}},
        {"type": "content_block_delta", "index": [0], "delta": {"type": "text_delta", "text": "x"}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": None},
        },
        {"type": "message_delta", "delta": {"stop_reason": 7}},
    ],
)
def test_an_answer_of_another_shape_is_malformed_and_keeps_its_arrivals(event):
    reading = parsing.read(exchange_of(START, event, {"type": "message_stop"}))
    assert reading.error_kind == "malformed" and reading.content == []
    assert reading.usage == {"input_tokens": 3}, "what was counted must be paid"
    assert reading.arrivals[0].kind == "message_start"


def test_half_an_emoji_in_a_delta_is_a_question_mark():
    halves = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": half}}
        for half in ("\ud83d", "\ude00!")
    ]
    assert parsing.read(exchange_of(START, *halves, {"type": "message_stop"})).text == "??!"


def test_an_error_that_is_only_a_word_is_kept():
    reading = parsing.read(exchange_of(START, {"type": "error", "error": "overloaded"}))
    assert (reading.error_kind, reading.error_text) == ("error", "overloaded")


def exchange_of(*events: dict, at_once: bool = False) -> stamps.Exchange:
    """An answered exchange; event k arrived at k milliseconds."""
    exchange = stamps.Exchange(b"{}", 0)
    exchange.status, exchange.headers = 200, {"content-type": "text/event-stream"}
    exchange.chunks = [
        (k * 1_000_000, f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode())
        for k, e in enumerate(events, 1)
    ]
    exchange.close(len(events) * 1_000_000)
    return exchange


def delta(kind: str, index: int = 0, **value) -> dict:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **value}}


STOP = (
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
)


def test_hidden_thinking_starts_a_clock_but_is_no_token():
    block = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": ""},
    }
    read = parsing.read(
        exchange_of(
            block,
            delta("signature_delta", signature="x"),
            delta("text_delta", 1, text="Yes."),
            *STOP,
        )
    )
    assert (read.thinking_started_ns, read.first_thinking_ns, read.first_text_ns) == (
        1_000_000,
        None,
        3_000_000,
    )
    assert read.usage == {"output_tokens": 9}


def test_the_first_sentence_ends_at_its_mark_and_not_at_a_list_number():
    read = parsing.read(
        exchange_of(
            *(
                delta("text_delta", text=t)
                for t in ("1", ". Tea ", "is h", "ot", ". And", " more.")
            ),
            *STOP,
        )
    )
    assert read.first_sentence_ns == 5_000_000


def test_an_answer_without_a_mark_is_a_sentence_as_a_whole():
    read = parsing.read(
        exchange_of(delta("text_delta", text="no"), delta("text_delta", text=" mark"), *STOP)
    )
    assert read.first_sentence_ns == 2_000_000


@pytest.mark.parametrize(
    "passed",
    [
        b"event: news\ndata: {broken\n\n",
        b"event: ping\ndata: pong\n\n",
        b": comment\n\n",
        b"data: [DONE]\n\n",
        b"data:\n\n",
    ],
)
def test_events_of_other_names_comments_and_the_end_mark_of_another_api_are_passed_over(passed):
    exchange = exchange_of({"type": "new_thing", "x": 1}, delta("text_delta", text="Hi"), *STOP)
    exchange.chunks.insert(1, (1, passed))
    read = parsing.read(exchange)
    assert read.text == "Hi" and read.error_kind is None and read.arrivals[0].kind == "new_thing"


@pytest.mark.parametrize("broken", [b"data: {broken\n\n", b"event: message_stop\ndata: 5\n\n"])
def test_an_event_of_the_api_whose_data_is_no_json_is_not_passed_over_in_silence(broken):
    exchange = exchange_of(delta("text_delta", text="Hi"), *STOP)
    exchange.chunks.insert(1, (1, broken))
    assert parsing.read(exchange).error_kind == "malformed"


def test_an_event_that_spans_chunks_happened_when_its_last_byte_came():
    exchange = exchange_of(delta("text_delta", text="split"), *STOP)
    _, whole = exchange.chunks[0]
    exchange.chunks[:1] = [(100, whole[:20]), (200, whole[20:-1]), (300, whole[-1:])]
    assert parsing.read(exchange).first_text_ns == 300


def test_a_tool_is_asked_with_integers_of_any_length():
    block = {"type": "tool_use", "id": "t", "name": "look", "input": {"id": 2**64 - 1}}
    read = parsing.read(
        exchange_of({"type": "content_block_start", "index": 0, "content_block": block}, *STOP)
    )
    assert (read.error_kind, read.content) == (None, [block])


def test_tool_input_comes_together_from_its_pieces():
    block = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "tool_use", "id": "t", "name": "look", "input": {}},
    }
    read = parsing.read(
        exchange_of(
            block,
            delta("input_json_delta", partial_json='{"a"'),
            delta("input_json_delta", partial_json=": 1}"),
            *STOP,
        )
    )
    assert (
        read.content[0]["input"] == {"a": 1}
        and read.first_tool_ns == 1_000_000
        and read.last_token_ns == 3_000_000
    )
