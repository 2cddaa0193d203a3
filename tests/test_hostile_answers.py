"""Whole answers with anything in any place: each is a row that the database takes and that every
view can count.

A few hundred at `make test`; HOSTILE_EXAMPLES says how many in a longer run, which then looks at
new ones each time.
"""

import copy
import itertools
import json
import math
import os
from collections import Counter
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.clock import now_ns, utc_now
from lab.endpoints.registry import Endpoint
from lab.harness.bench import TrialBench
from lab.harness.session import Session
from lab.instrumentation import stamps
from lab.model import Reply, Request, new_id
from lab.rows import RunRow, SessionRow, TrialRow
from lab.store.store import Store

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "400"))
EVERY = 1 if "HOSTILE_EXAMPLES" in os.environ else 5
"""Of all pairs of a place and a value, which are tried; a number that shares no factor with theirs
meets each of both."""
BATCH = 500
HALF = "\ud83d"

USAGE = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 7,
    "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 9,
    "output_tokens_details": {"thinking_tokens": 2},
    "service_tier": "standard",
    "speed": "standard",
    "inference_geo": "us",
}
LAB = {"queue_ms": 1.5, "prefill_ms": 2.5, "decode_ms": 3.5, "cached_tokens": 7}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"x": 1}}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "Tea. Now."},
        TOOL,
    ],
    "stop_reason": "end_turn",
    "usage": USAGE,
    "diagnostics": {"cache_miss_reason": {"type": "no_match"}},
    "lab": LAB,
}
EVENTS = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": ""},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "Hm."},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "signature_delta", "signature": "s"},
    },
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Tea. "}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Now."}},
    {"type": "content_block_start", "index": 2, "content_block": {**TOOL, "input": {}}},
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": '{"x": '},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": "1}"},
    },
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE, "lab": LAB},
    {"type": "message_stop"},
]
ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}}


class Raw(str):
    """JSON that json.dumps would not write."""


ODD = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    2**31 - 1,
    2**31,
    2**40,
    2**63,
    2**70,
    -(2**40),
    1e308,
    "",
    "5",
    "x" * 5_000,
    HALF,
    "a\0b",
    "\x1b[31m\u202e",
    [],
    [1],
    {},
    {"type": []},
    {"type": None, "input_tokens": HALF},
    *map(
        Raw,
        (
            "NaN",
            "Infinity",
            "-Infinity",
            "1e999",
            "9" * 5_000,
            "[" * 900 + "]" * 900,
            "[" * 5_000 + "]" * 5_000,
        ),
    ),
    *map(
        Raw, ('{"a":' * 1_200 + "1" + "}" * 1_200, "{broken", '"\\ud83d"', '"\\ud83d\\ude00"', "")
    ),
]
VALUES = st.one_of(
    st.sampled_from(ODD),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.recursive(
        st.none() | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
)


def places(value, path=()):
    """Every place in a document, from the whole to each part of a part."""
    yield path
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in parts:
        yield from places(part, (*path, key))


def with_at(value, path, new):
    if not path:
        return new
    value = copy.copy(value)
    value[path[0]] = with_at(value[path[0]], path[1:], new)
    return value


def without(value, path):
    value = copy.copy(value)
    if len(path) == 1:
        del value[path[0]]
    else:
        value[path[0]] = without(value[path[0]], path[1:])
    return value


def written(value) -> bytes:
    """As JSON, each Raw as it stands."""
    raws = []

    def marked(part):
        if isinstance(part, Raw):
            raws.append(part)
            return f"<raw {len(raws) - 1}>"
        if isinstance(part, dict):
            return {key: marked(item) for key, item in part.items()}
        return [marked(item) for item in part] if isinstance(part, list) else part

    text = json.dumps(marked(value))
    for place, raw in enumerate(raws):
        text = text.replace(f'"<raw {place}>"', raw)
    return text.encode()


@st.composite
def documents(draw, whole):
    """The document with up to four of its places changed, dropped or added to."""
    for _ in range(draw(st.integers(0, 4))):
        options = [path for path in places(whole) if path]
        if not options:
            break
        path = draw(st.sampled_from(options))
        change = draw(st.sampled_from(["put", "put", "put", "drop", "more"]))
        whole = without(whole, path) if change == "drop" else with_at(whole, path, draw(VALUES))
        if change == "more" and isinstance(whole, dict):
            whole = {
                **whole,
                draw(st.sampled_from(["extra", "lab", "usage", "error"])): draw(VALUES),
            }
    return whole


@st.composite
def streams(draw):
    events = list(EVENTS)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(events) - 1))
        match draw(
            st.sampled_from(["change", "change", "change", "drop", "twice", "swap", "error"])
        ):
            case "change":
                events[at] = draw(documents(events[at]))
            case "drop":
                del events[at]
            case "twice":
                events.insert(at, events[at])
            case "swap":
                events[0], events[at] = events[at], events[0]
            case "error":
                events.insert(at, draw(documents(ERROR)))
        if not events:
            break
    named = draw(st.booleans())
    end = draw(st.sampled_from(["\n", "\r\n", "\r"])).encode()
    lines = []
    for event in events:
        kind = event.get("type") if isinstance(event, dict) else None
        name = (
            b"event: " + kind.encode("utf-8", "replace") + end
            if named and isinstance(kind, str)
            else b""
        )
        lines.append(name + b"data: " + written(event) + end + end)
    return b"".join(lines)


@st.composite
def exchanges(draw):
    kind, data = draw(
        st.one_of(
            streams().map(lambda data: ("text/event-stream", data)),
            documents(MESSAGE).map(lambda whole: ("application/json", written(whole))),
            documents(ERROR).map(lambda whole: ("application/json", written(whole))),
        )
    )
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        at = draw(st.integers(0, len(data)))
        junk = draw(
            st.binary(max_size=4)
            | st.sampled_from(
                [b"\n\n", b"\r", b"\xff\xfe", b"\xed\xa0\x80", b"\0", b"\xef\xbb\xbf"]
            )
        )
        data = data[:at] + junk + data[at + draw(st.integers(0, 3)) :]
    status = draw(
        st.sampled_from([200, 200, 200, 200, 200, 200, 201, 101, 204, 302, 400, 429, 500, 529, 999])
    )
    failure = draw(
        st.sampled_from(
            [None, None, None, TimeoutError(), stamps.TooLarge("x" * 9_000), OSError(HALF)]
        )
    )
    step = draw(st.sampled_from([1_000_000, 100, 7]))
    return an_exchange(
        kind, data, status, draw(st.sampled_from(["req_1", "r" * 9_000, "\x85\xff"])), step, failure
    )


def an_exchange(kind, data, status=200, request_id="req_1", step=1_000_000, failure=None):
    exchange = stamps.Exchange(b'{"model": "m"}', now_ns())
    exchange.status, exchange.headers = status, {"content-type": kind, "request-id": request_id}
    for at in range(0, len(data), step):
        exchange.take(now_ns(), data[at : at + step])
    exchange.close(now_ns(), failure)
    return exchange


def fits(row) -> None:
    """Without the store's help: each value as its column holds it."""
    for column in fields(row):
        value = getattr(row, column.name)
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, dict):
            json.dumps(value, allow_nan=False)
        elif value is not None:
            assert math.isfinite(value) and (
                isinstance(value, float)
                or abs(value) < 2 ** (31 if "tokens" in column.name else 63)
            )


class Kept:
    """One database for all examples: each is stored with others of its batch, in one
    transaction."""

    def __init__(self, path):
        self.store = Store(path)
        models = {"small": "claude-sonnet-5", "large": "claude-sonnet-5"}
        self.session = Session(
            new_id(), Endpoint("raw", "live", "http://127.0.0.1:9", "key", models, "small"), True, 5
        )
        run = RunRow(
            self.session.run_id,
            "streaming",
            "raw",
            "live",
            models,
            {},
            1,
            "running",
            True,
            utc_now(),
        )
        self.store.write_run(run)
        self.store.write_session(
            SessionRow(self.session.id, run.run_id, "w", "h", utc_now(), "0", None, {}, {})
        )
        self.waiting, self.trials, self.kinds = [], 0, Counter()

    def take(self, exchange):
        row = TrialRow(
            new_id(),
            self.session.run_id,
            self.session.id,
            "streaming",
            "a",
            self.trials,
            0,
            1,
            "measured",
            None,
            utc_now(),
            now_ns(),
        )
        bench = TrialBench(self.session, row, "[trial 0000000000000000] ")
        bench.observe(exchange)
        bench.calls[0].intent.request = Request({}, intended_cache="any")
        reading = bench.calls[0].reading
        reply = Reply(
            "c",
            tuple(reading.content),
            reading.stop_reason,
            reading.usage,
            reading.error_kind,
            reading.error_text,
        )
        assert isinstance(reply.text, str) and all(
            isinstance(use.input, dict) for use in reply.tool_uses
        )
        json.dumps(reply.content, allow_nan=False).encode()
        finished = bench.finished()
        (call,) = finished.calls
        for part in (call, *finished.events):
            fits(part)
        assert (
            call.error_kind or reading.stop_reason is None or isinstance(reading.stop_reason, str)
        )
        assert len(call.error_kind or "") <= 200 and len(call.error_text or "") <= 500
        row.started_ns -= self.session.origin_ns
        row.ended_ns = call.ended_ns
        self.kinds[call.error_kind] += 1
        self.trials += 1
        self.waiting.append(finished)
        if len(self.waiting) == BATCH:
            self.flush()

    def flush(self):
        assert self.store.write_trials(self.waiting)
        self.waiting.clear()
        for name in ("trial_metrics", "call_metrics"):
            rows = self.store.frame(f"SELECT * FROM {name}").astype(object)
            assert name == "trial_metrics" or len(rows) == self.trials
            json.dumps(
                rows.where(rows.notna(), None).to_dict("records"), allow_nan=False, default=str
            )
        stored = self.store.frame("SELECT count(*) AS n, count(input_tokens) AS counted FROM calls")
        assert stored["n"][0] == self.trials


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return Kept(tmp_path_factory.mktemp("hostile") / "lab.duckdb")


@settings(
    max_examples=EXAMPLES,
    derandomize="HOSTILE_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(exchange=exchanges())
def test_whatever_an_answer_says_it_is_a_row(kept, exchange):
    kept.take(exchange)


def test_each_odd_value_in_each_place_of_an_answer_is_a_row(kept):
    where = [(None, path) for path in places(MESSAGE)] + [
        (at, path) for at, event in enumerate(EVENTS) for path in places(event)
    ]
    pairs = itertools.product(ODD, where)
    for value, (at, path) in itertools.islice(pairs, 0, None, EVERY):
        if at is None:
            kept.take(an_exchange("application/json", written(with_at(MESSAGE, path, value))))
        else:
            changed = [*EVENTS[:at], with_at(EVENTS[at], path, value), *EVENTS[at + 1 :]]
            kept.take(
                an_exchange(
                    "text/event-stream",
                    b"".join(b"data: " + written(part) + b"\n\n" for part in changed),
                )
            )


def test_all_of_them_are_in_the_database_and_some_were_good_answers(kept):
    kept.flush()
    assert kept.trials >= EXAMPLES / 2
    assert {None, "malformed", "too_large", "redirect"} <= kept.kinds.keys()
