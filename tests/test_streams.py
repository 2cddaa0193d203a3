"""Streams as servers in the wild send them, each with the reading that is right; every split of the
bytes reads the same."""

import json
import time
from itertools import pairwise
from pathlib import Path

import anthropic
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.raw_server import Connection, RawServer
from lab import clock, scrub
from lab.endpoints.client import open_client
from lab.endpoints.registry import Endpoint
from lab.instrumentation import parsing, stamps

CASES = [
    case
    for case in json.loads((Path(__file__).parent / "cases" / "streams.json").read_text())
    if "steps" in case
]
NOISE_MS = 150
"""How late a busy machine may read what was sent; the wrong readings are later than that."""


async def reading_of(steps, kind="text/event-stream", sent=None):
    """What the lab reads from a real socket on which the pieces are sent at these milliseconds
    after the headers; `sent` is told when each really was, on the lab's clock."""

    def answer(connection: Connection) -> None:
        connection.head(200, kind, connection="close")
        begun = time.monotonic()
        for at_ms, text in steps:
            time.sleep(max(0, begun + at_ms / 1e3 - time.monotonic()))
            if sent is not None:
                sent[at_ms] = clock.now_ns()
            connection.send(text.encode())

    return await exchange_with(answer)


async def exchange_with(answer):
    """One call as the lab's own are, without any parsing under way, and its reading."""
    seen = []
    with RawServer(answer) as server:
        client = open_client(Endpoint("wild", "live", server.url, "key"), 10)
        token = stamps.OBSERVER.set(seen.append)
        try:
            response = await client.post(
                "/v1/messages",
                cast_to=httpx2.Response,
                body={},
                stream=True,
                stream_cls=anthropic.AsyncStream,
            )
            async for _ in response.aiter_raw():
                pass
        except (anthropic.APIError, httpx2.TransportError):
            pass
        finally:
            stamps.OBSERVER.reset(token)
            await client.close()
    return seen[0], parsing.read(seen[0])


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
async def test_each_case_reads_as_it_should(case):
    sent = {}
    _, reading = await reading_of(case["steps"], sent=sent)
    assert reading.error_kind is None and reading.error_text is None

    def since_sent_ms(at_ns, value):
        # A line end may be split over two pieces, 1 ms apart; the event is whole with the first.
        return (at_ns - min(ns for at_ms, ns in sent.items() if at_ms >= value - 2)) / 1e6

    for what, value in case["expect"].items():
        if what == "ttft_ms":
            assert 0 <= since_sent_ms(reading.first_token_ns, value) < NOISE_MS
        elif what == "first_text_at_ms":
            assert 0 <= since_sent_ms(reading.first_text_ns, value) < NOISE_MS
        elif what == "text":
            assert reading.text == value
        elif what == "content[0].input":
            assert reading.content[0]["input"] == value
        elif what == "content[1].type":
            assert reading.content[1] == {"type": value, "tool_use_id": "srvtoolu_1", "content": []}
        elif what == "cache_read_tokens":
            assert reading.usage["cache_read_input_tokens"] == value
            assert reading.usage_notes == [
                "input_tokens fell from 21 to 0",
                f"cache_read_input_tokens fell from {value} to 0",
            ]
        elif what in ("input_tokens", "output_tokens"):
            assert reading.usage[what] == value
        else:
            assert what in (
                "error_kind",
                "content[1] has no text",
            ), f"{what} is checked by no line here"


def events_of(*parts: dict) -> list[dict]:
    return [
        {
            "type": "message_start",
            "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 3}},
        },
        *parts,
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 9},
        },
        {"type": "message_stop"},
    ]


def start(block: dict, index: int = 0) -> dict:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(kind: str, index: int = 0, **fields) -> dict:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def answered(
    *events: dict, kind: str = "text/event-stream", body: bytes | None = None
) -> parsing.Reading:
    """The reading of an answer whose event k arrived at k milliseconds."""
    exchange = stamps.Exchange(b"{}", 0)
    exchange.status, exchange.headers = 200, {"content-type": kind}
    exchange.chunks = [
        (k * 1_000_000, f"data: {json.dumps(event)}\n\n".encode())
        for k, event in enumerate(events, 1)
    ]
    if body is not None:
        exchange.chunks = [(1_000_000, body)]
    exchange.close(len(events) * 1_000_000)
    return parsing.read(exchange)


TEXT = json.dumps(
    events_of(
        start({"type": "text", "text": ""}), delta("text_delta", text="Ebb, flood — 潮.\nTwo\r\n.")
    )
)


@settings(max_examples=60, deadline=None)
@given(end=st.sampled_from(["\n", "\r\n", "\r"]), cuts=st.lists(st.integers(0, 900), max_size=12))
def test_every_split_of_every_line_end_gives_the_same_events(end, cuts):
    events = json.loads(TEXT)
    lines = "".join(
        f"event: {event['type']}{end}data: {json.dumps(event, ensure_ascii=False)}{end}{end}"
        for event in events
    )
    data = lines.encode()
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    chunks = [(n, data[a:b]) for n, (a, b) in enumerate(pairwise(places))]
    assert [value for _, _, value in parsing.events(chunks)] == events


def test_every_single_cut_and_one_byte_at_a_time_give_the_same_events():
    """Data on lines of their own, so that a line's end taken for two would break an event in
    two."""
    events = json.loads(TEXT)
    for end in ("\n", "\r\n", "\r"):
        lines = (json.dumps(event, indent=1).replace("\n", f"{end}data: ") for event in events)
        data = "".join(f"data: {line}{end}{end}" for line in lines).encode()
        for cut in range(1, len(data)):
            assert [
                value for *_, value in parsing.events([(1, data[:cut]), (2, data[cut:])])
            ] == events
        assert [
            value for *_, value in parsing.events([(1, data[i : i + 1]) for i in range(len(data))])
        ] == events


@settings(max_examples=100, deadline=None)
@given(
    st.permutations(
        [
            start({"type": "text", "text": ""}),
            delta("text_delta", text="One. "),
            delta("thinking_delta", 1, thinking="Hm."),
            start({"type": "tool_use", "id": "toolu_1", "name": "tide", "input": {}}, 2),
            delta("input_json_delta", 2, partial_json="{}"),
            delta("news_delta", 3, news="New."),
            {"type": "content_block_stop", "index": 0},
            {"type": "ping"},
        ]
    )
)
def test_whatever_order_events_come_in_nothing_is_lost_and_clocks_are_in_order(events):
    reading = answered(*events_of(*events))
    assert reading.text == "One. " and reading.usage == {"input_tokens": 3, "output_tokens": 9}
    assert (
        reading.first_sign_ns
        <= reading.first_token_ns
        <= reading.first_text_ns
        <= reading.last_token_ns
    )
    assert reading.error_kind in (
        None,
        "malformed",
    )  # a tool's input before its name is no tool use


@pytest.mark.parametrize(
    ("events", "first_token_ms"),
    [
        ([start({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})], 2),
        ([start({"type": "mcp_tool_use", "id": "m", "name": "notes", "input": {}})], 2),
        ([start({"type": "novel", "text": "Once"})], 2),
        ([start({"type": "novel"}), delta("novel_delta", words="Once")], 3),
        ([start({"type": "compaction"}), delta("compaction_delta", content="In short")], 3),
        (
            [
                start({"type": "web_search_tool_result", "content": "found"}),
                delta("text_delta", 1, text="So"),
            ],
            3,
        ),
        (
            [
                start({"type": "redacted_thinking", "data": "xyz"}),
                delta("text_delta", 1, text="So"),
            ],
            3,
        ),
        (
            [
                start({"type": "thinking", "thinking": ""}),
                delta("signature_delta", signature="xyz"),
                delta("text_delta", 1, text="So"),
            ],
            4,
        ),
        (
            [
                start({"type": "thinking", "thinking": ""}),
                delta("thinking_delta", thinking="", estimated_tokens=50),
            ],
            None,
        ),
        ([start({"type": "thinking", "thinking": ""}), delta("seal_delta", signature="xyz")], None),
    ],
)
def test_the_first_token_is_the_first_generated_piece_of_any_block(events, first_token_ms):
    reading = answered(*events_of(*events))
    assert reading.first_sign_ns == 2_000_000, "the block itself is a sign of life"
    assert reading.first_token_ns == (first_token_ms and first_token_ms * 1_000_000)


def test_blocks_go_back_unharmed_into_a_next_turn():
    citation = {"type": "char_location", "cited_text": "tide"}
    reading = answered(
        *events_of(
            start({"type": "thinking", "thinking": "", "signature": ""}),
            delta("thinking_delta", thinking="Hm."),
            delta("signature_delta", signature="sig"),
            start({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, 1),
            delta("input_json_delta", 1, partial_json='{"query": '),
            delta("input_json_delta", 1, partial_json='"tide"}'),
            start(
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "s",
                    "content": [{"type": "web_search_result"}],
                },
                2,
            ),
            start({"type": "text", "text": "Hi", "citations": None}, 3),
            delta("citations_delta", 3, citation=citation),
            delta("text_delta", 3, text="gh"),
            start({"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}}, 4),
            start({"type": "compaction", "content": None}, 5),
            delta("compaction_delta", 5, content="In short", encrypted_content="…"),
        )
    )
    assert reading.content == [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "tide"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "s",
            "content": [{"type": "web_search_result"}],
        },
        {"type": "text", "text": "High", "citations": [citation]},
        {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
        {"type": "compaction", "content": "In short", "encrypted_content": "…"},
    ]


WHOLE = {
    "id": "msg_1",
    "model": "m",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3},
}


@pytest.mark.parametrize(
    "kind", ["TEXT/Event-Stream; charset=utf-8", "application/json", "text/plain", ""]
)
@pytest.mark.parametrize("before", [b"", b": hello\n\n", b"\xef\xbb\xbf", b"\n", b"retry: 100\n"])
def test_a_stream_under_whatever_type_is_read_as_one(kind, before):
    events = events_of(delta("text_delta", text="Hi"))
    data = before + b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )
    reading = answered(kind=kind, body=data)
    assert (reading.text, reading.error_kind) == ("Hi", None)


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON", "text/event-stream", "text/plain"]
)
def test_a_whole_answer_under_whatever_type_is_read_as_one(kind):
    reading = answered(kind=kind, body=b" \r\n" + json.dumps(WHOLE).encode())
    assert (reading.text, reading.error_kind, reading.first_token_ns) == ("Hi", None, None)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_a_stream_that_is_compressed_though_identity_was_asked_is_read_or_named(coding):
    import gzip
    import zlib

    events = events_of(delta("text_delta", text="Hi"))
    data = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}.get(coding, bytes)(data)

    def answer(connection: Connection) -> None:
        connection.stream(packed, content_encoding=coding)

    _, reading = await exchange_with(answer)
    if coding in ("gzip", "deflate"):
        assert (reading.text, reading.error_kind) == ("Hi", None)
    else:
        assert reading.error_kind == "malformed" and coding in reading.error_text


@pytest.mark.parametrize(
    ("diagnostics", "state", "reason", "missed"),
    [
        (None, "unchanged", None, None),
        ({"cache_miss_reason": None}, "pending", None, None),
        (
            {"cache_miss_reason": {"type": "system_changed", "cache_missed_input_tokens": 1800}},
            "changed",
            "system_changed",
            1800,
        ),
        (
            {"cache_miss_reason": {"type": "previous_message_not_found"}},
            "unknown",
            "previous_message_not_found",
            None,
        ),
    ],
)
def test_a_diagnosis_has_four_states_and_none_where_the_answer_has_no_word_of_it(
    diagnostics, state, reason, missed
):
    events = events_of(delta("text_delta", text="Hi"))
    assert answered(*events).diagnosis is None
    events[0]["message"]["diagnostics"] = diagnostics
    reading = answered(*events)
    assert (reading.diagnosis, reading.cache_miss_reason, reading.missed_cache_tokens) == (
        state,
        reason,
        missed,
    )


def test_a_key_in_a_header_that_is_kept_is_blanked(monkeypatch):
    from lab.rows import CallRow

    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "sk-ant-api03-planted-in-a-header")
    row = CallRow(
        *[""] * 9,
        rate_limits={"ratelimit-x": "sk-ant-api03-planted-in-a-header"},
        iterations=[{"model": "sk-ant-api03-planted-in-a-header"}],
    )
    scrub._fields(row, scrub.CALL, scrub._secrets())
    assert "planted" not in str(row.rate_limits) + str(row.iterations)


PIECE = st.text(st.sampled_from('aZ é潮"\\{}:,\n\t\x01😀'), max_size=6)


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(PIECE | st.sampled_from(["index", "text_delta", "0"]), max_size=8),
    pads=st.lists(st.integers(0, 3), min_size=8, max_size=8),
    is_ascii=st.booleans(),
    order=st.sampled_from([("type", "text"), ("text", "type")]),
)
def test_a_delta_like_an_earlier_one_reads_as_if_it_were_parsed(texts, pads, is_ascii, order):
    blocks = []
    for place, (text, pad) in enumerate(zip(texts, pads, strict=False)):
        words = {"type": "text_delta", "text": text}
        event = delta("text_delta", place // 4) | {"delta": {name: words[name] for name in order}}
        data = json.dumps(event, ensure_ascii=is_ascii)
        blocks.append(f"event: content_block_delta\ndata: {data[:-1]}{' ' * pad}}}\n\n".encode())
    found = [value for *_, value in parsing.events([*enumerate(blocks)])]
    assert found == [json.loads(block.partition(b"data: ")[2]) for block in blocks]


def test_a_delta_that_only_seems_to_be_like_an_earlier_one_is_parsed(monkeypatch):
    plain = b'data: {"type": "content_block_delta", "index": 0, "delta": %b}\n\n'
    same, odd = (
        b'{"type": "text_delta", "text": "a"}',
        b'{"type": "text_delta", "text": "b", "x": 1}',
    )
    parsed = []
    parse = parsing._event
    monkeypatch.setattr(parsing, "_event", lambda block: parsed.append(block) or parse(block))
    chunks = [(1, plain % data) for data in (same, same, odd, same)]
    texts = [value["delta"]["text"] for *_, value in parsing.events(chunks)]
    assert texts == ["a", "a", "b", "a"] and len(parsed) == 2
    with pytest.raises(ValueError, match="Invalid control character"):
        list(parsing.events([(1, plain % same), (2, plain % same.replace(b"a", b"\x01"))]))
